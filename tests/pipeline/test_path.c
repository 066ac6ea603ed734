/* SPDX-License-Identifier: BSD-3-Clause
 * Path challenge: a session whose data address is not proven yet is served small answers only, and
 * proves it by echoing what it was sent there.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/clock.h"
#include "rig_wide.h"

enum { SMALL_ROWS = 4, CHALLENGE = 0x1122334455667788 };

static struct session_slot *slot_of(const struct rig *r, const struct rig_client *c)
{
	return (struct session_slot *)((uint8_t *)r->table + r->table->slots_offset) + c->slot;
}

/* As control does it for a data address that is not the TLS peer's. */
static void provisional(struct rig *r, struct rig_client *c)
{
	struct error err = {0};

	rig_table_session(r->table, r->port->now_ns, c, 0x1001, 0, false);
	slot_of(r, c)->flags = SESSION_PROVISIONAL;
	slot_of(r, c)->challenge = CHALLENGE;
	if (sessions_add(r->shared.sessions, c->slot, r->port->now_ns, &err))
		fail_msg("%s", err.text);
}

/* One question; the answer must be the challenge. Returns its detail. */
static uint16_t ask(struct rig *r, struct rig_client *c, uint64_t echo)
{
	struct wire_request q = {.request_id = 5, .model_id = WIRE_PATH_MODEL, .dtype = WIRE_U8,
		.segment_count = 1, .rows = 1};
	uint8_t f[RIG_FRAME], a[RIG_FRAME];
	uint64_t challenge = CHALLENGE;
	struct rig_reply got;
	size_t n = rig_exchange(r, f, rig_request(c, f, &q, &echo, sizeof(echo)), a);

	assert_true(n > 0);
	assert_true(rig_open(c, a, n, &got));
	assert_int_equal(got.reply.status, WIRE_RESULT);
	assert_int_equal(got.reply.request_id, 5);
	assert_int_equal(got.reply.dtype, WIRE_U8);
	assert_int_equal(got.row_bytes, WIRE_PATH_BYTES);
	assert_memory_equal(got.rows, &challenge, sizeof(challenge));
	return got.reply.detail;
}

/* Two segments in, the second of 64 bytes; 864 bytes of result. */
static void send_large(struct rig *r, struct rig_client *c, uint64_t id)
{
	struct wire_request q = t_wide(id, 2);

	q.rows = 72;
	for (uint32_t k = 0; k < 2; k++)
		t_send(r, c, q, k);
}

static void small_answers_pass_and_large_ones_wait_for_the_proof(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	struct wire_request q = t_wide(1, 1);
	uint64_t units;

	provisional(r, &c);
	q.rows = SMALL_ROWS;
	t_send(r, &c, q, 0);
	t_result(r, &c, 1, SMALL_ROWS);
	send_large(r, &c, 2);
	t_status(r, &c, WIRE_BAD_REQUEST, WIRE_REASON_UNPROVEN);
	units = t_units(r);
	assert_int_equal(ask(r, &c, 0), 0);
	assert_int_equal(ask(r, &c, CHALLENGE ^ 1), 0);
	assert_int_equal(t_units(r), units + 2);
	send_large(r, &c, 3);
	t_status(r, &c, WIRE_BAD_REQUEST, WIRE_REASON_UNPROVEN);
	assert_int_equal(ask(r, &c, CHALLENGE), 1);
	send_large(r, &c, 4);
	t_result(r, &c, 4, 72);
	assert_int_equal(ask(r, &c, CHALLENGE), 1); /* a retry of a lost answer */
}

static void a_proof_survives_the_dataplane_and_so_does_its_absence(void **state)
{
	struct rig *r = *state;
	struct rig_client c;

	provisional(r, &c);
	rig_crash(r);
	assert_int_equal(sessions_cell(r->shared.sessions, c.key_id)->unproven, 1);
	assert_int_equal(ask(r, &c, CHALLENGE), 1);
	assert_int_equal(slot_of(r, &c)->flags & SESSION_PROVISIONAL, 0);
	c.replies = 0;
	rig_crash(r);
	assert_int_equal(sessions_cell(r->shared.sessions, c.key_id)->unproven, 0);
}

static void a_malformed_question_is_refused_and_proves_nothing(void **state)
{
	static const struct wire_request good = {.request_id = 5, .model_id = WIRE_PATH_MODEL,
		.dtype = WIRE_U8, .segment_count = 1, .rows = 1};
	struct rig *r = *state;
	struct rig_client c;
	uint64_t echo[2] = {CHALLENGE, 0};
	uint8_t f[RIG_FRAME];

	provisional(r, &c);
	for (int bad = 0; bad < 6; bad++) {
		struct wire_request q = good;
		size_t bytes = sizeof(echo[0]);

		switch (bad) {
		case 0: q.dtype = WIRE_F32; break;
		case 1: q.rows = 2; break;
		case 2: q.reserved = 1; break;
		case 3: q.segment_index = 1; break;
		case 4: bytes = 4; break;
		default: bytes = 16; break;
		}
		assert_true(port_mem_put(r->port, f, rig_request(&c, f, &q, echo, bytes)));
		worker_poll(r->worker);
		t_status(r, &c, WIRE_BAD_REQUEST, WIRE_REASON_SIZE);
	}
	assert_int_equal(sessions_cell(r->shared.sessions, c.key_id)->unproven, 1);
}

#define T(f) cmocka_unit_test_setup_teardown(f, t_set_up, rig_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(small_answers_pass_and_large_ones_wait_for_the_proof),
		T(a_proof_survives_the_dataplane_and_so_does_its_absence),
		T(a_malformed_question_is_refused_and_proves_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
