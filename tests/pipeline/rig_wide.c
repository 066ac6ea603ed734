/* SPDX-License-Identifier: BSD-3-Clause
 * Large requests in a test: see rig_wide.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "rig_wide.h"

float t_rows[WIDE_ROWS][RIG_IN];

uint16_t t_rows_of(uint32_t n)
{
	return (uint16_t)(n == WIRE_MAX_SEGMENTS ? WIDE_ROWS : n * SEGMENT_ROWS);
}

int t_set_up(void **state)
{
	int rc = rig_set_up(state);

	rig_model(*state, 1, 2, rig_artifact("wide", 1, 1.0f, WIDE_COST, WIDE_ROWS));
	for (int i = 0; i < WIDE_ROWS; i++)
		for (int k = 0; k < RIG_IN; k++)
			t_rows[i][k] = (float)((i * 7 + k * 3) % 101) - 50;
	return rc;
}

struct wire_request t_wide(uint64_t id, uint32_t segments)
{
	return (struct wire_request){.request_id = id, .model_id = wire_model_id("wide"),
		.dtype = WIRE_F32, .segment_count = (uint8_t)segments, .rows = t_rows_of(segments)};
}

/* Frame of segment `k`. */
static size_t segment(struct rig_client *c, uint8_t *f, struct wire_request q, uint32_t k)
{
	uint32_t bytes = q.rows * (uint32_t)ROW_IN, at = k * WIRE_SEGMENT_ROW_BYTES;

	q.segment_index = (uint8_t)k;
	return rig_request(c, f, &q, (uint8_t *)t_rows + at,
		bytes - at < WIRE_SEGMENT_ROW_BYTES ? bytes - at : WIRE_SEGMENT_ROW_BYTES);
}

void t_put(struct rig *r, struct rig_client *c, struct wire_request q, uint32_t k)
{
	uint8_t f[RIG_FRAME];

	assert_true(port_mem_put(r->port, f, segment(c, f, q, k)));
}

bool t_take(struct rig *r, struct rig_client *c, struct wire_reply *head, float *out)
{
	uint8_t a[RIG_FRAME];
	struct rig_reply got;
	uint32_t n_bytes = 0, k = 0;
	size_t n;

	while ((n = port_mem_get(r->port, a))) {
		assert_true(rig_open(c, a, n, &got));
		assert_int_equal(got.reply.segment_index, k);
		if (k)
			assert_memory_equal(&got.reply, head, offsetof(struct wire_reply, segment_index));
		*head = got.reply;
		if (k + 1u < got.reply.segment_count)
			assert_int_equal(got.row_bytes, WIRE_SEGMENT_ROW_BYTES);
		memcpy((uint8_t *)out + n_bytes, got.rows, got.row_bytes);
		n_bytes += got.row_bytes;
		k++;
	}
	if (!k)
		return false;
	assert_int_equal(k, head->segment_count);
	assert_int_equal(n_bytes, head->rows * ROW_OUT);
	return true;
}

void t_result(struct rig *r, struct rig_client *c, uint64_t id, uint16_t n_rows)
{
	static float out[WIDE_ROWS][RIG_OUT];
	float want[RIG_OUT];
	struct wire_reply head;

	assert_true(t_take(r, c, &head, out[0]));
	assert_int_equal(head.status, WIRE_RESULT);
	assert_int_equal(head.request_id, id);
	assert_int_equal(head.rows, n_rows);
	for (int i = 0; i < n_rows; i++) {
		rig_expect(t_rows[i], 1.0f, want);
		for (int j = 0; j < RIG_OUT; j++)
			assert_true(fabsf(out[i][j] - want[j]) < 0.01f);
	}
	rig_balance(r);
}

void t_status(struct rig *r, struct rig_client *c, enum wire_status status, uint16_t detail)
{
	static float out[WIDE_ROWS * RIG_OUT];
	struct wire_reply head;

	assert_true(t_take(r, c, &head, out));
	assert_int_equal(head.status, status);
	assert_int_equal(head.detail, detail);
	rig_balance(r);
}

void t_silence(struct rig *r)
{
	uint8_t a[RIG_FRAME];

	assert_int_equal(port_mem_get(r->port, a), 0);
	rig_balance(r);
}

void t_send(struct rig *r, struct rig_client *c, struct wire_request q, uint32_t k)
{
	t_put(r, c, q, k);
	worker_poll(r->worker);
}

uint64_t t_units(const struct rig *r)
{
	return r->limits[0].units_admitted;
}
