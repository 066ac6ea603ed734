/* SPDX-License-Identifier: BSD-3-Clause
 * The poll loop as a client sees it: what goes in as a frame, what comes out, and what was counted.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "rig.h"

static const float sample[RIG_IN] = {1.0f, -2.0f, 0.5f, 3.0f};

static void expect_result(struct rig_client *c, const uint8_t *frame, size_t n, float scale)
{
	struct rig_reply got;
	float want[RIG_OUT], *rows = (float *)got.rows;

	assert_true(n > 0);
	assert_true(rig_open(c, frame, n, &got));
	assert_int_equal(got.reply.status, WIRE_RESULT);
	assert_int_equal(got.row_bytes, sizeof(want) * got.reply.rows);
	rig_expect(sample, scale, want);
	for (int j = 0; j < RIG_OUT; j++)
		assert_true(fabsf(rows[j] - want[j]) < 1e-4f);
}

static void expect_status(struct rig_client *c, const uint8_t *frame, size_t n,
	enum wire_status status, uint16_t detail)
{
	struct rig_reply got;

	assert_true(n > 0);
	assert_true(rig_open(c, frame, n, &got));
	assert_int_equal(got.reply.status, status);
	assert_int_equal(got.reply.detail, detail);
	assert_int_equal(got.reply.rows, 0);
	assert_int_equal(got.row_bytes, 0);
}

static void a_request_over_ipv4_and_over_ipv6_gets_its_result(void **state)
{
	struct rig *r = *state;
	struct rig_client c4, c6;
	uint8_t f[RIG_FRAME], a[RIG_FRAME];
	size_t n;

	rig_session(r, &c4, 0x1001, 0, false);
	rig_session(r, &c6, 0x1002, 1, true);
	for (int i = 0; i < 100; i++) {
		n = rig_rows(&c4, f, "alpha", sample, 1);
		expect_result(&c4, a, rig_exchange(r, f, n, a), 1.0f);
		n = rig_rows(&c6, f, "alpha", sample, 1);
		expect_result(&c6, a, rig_exchange(r, f, n, a), 1.0f);
	}
	assert_int_equal(rig_count(r, STATS_REPLY_RESULT), 200);
	assert_int_equal(r->limits[0].units_admitted, 100);
}

static struct wire_request question(const char *name)
{
	return (struct wire_request){.request_id = 42, .model_id = wire_model_id(name),
		.dtype = WIRE_F32, .segment_count = 1, .rows = 1};
}

static void ask(struct rig *r, struct rig_client *c, const struct wire_request *q, size_t row_bytes,
	enum wire_status status, uint16_t detail)
{
	static const float zeros[300];
	uint8_t f[RIG_FRAME], a[RIG_FRAME];
	size_t n = rig_request(c, f, q, row_bytes == sizeof(sample) ? sample : zeros, row_bytes);

	expect_status(c, a, rig_exchange(r, f, n, a), status, detail);
	rig_balance(r);
}

static void every_broken_request_is_answered_with_its_reason(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	struct wire_request q;
	static const float not_finite[RIG_IN] = {1, NAN, 3, 4};
	uint8_t f[RIG_FRAME], a[RIG_FRAME];
	size_t n;

	rig_session(r, &c, 0x1001, 0, false);
	q = question("alpha"), q.reserved = 1;
	ask(r, &c, &q, 16, WIRE_BAD_REQUEST, WIRE_REASON_RESERVED);
	q = question("alpha"), q.reserved2 = 1;
	ask(r, &c, &q, 16, WIRE_BAD_REQUEST, WIRE_REASON_RESERVED);
	q = question("alpha"), q.dtype = WIRE_I64;
	ask(r, &c, &q, 16, WIRE_BAD_REQUEST, WIRE_REASON_DTYPE);
	q = question("alpha"), q.rows = 0;
	ask(r, &c, &q, 0, WIRE_BAD_REQUEST, WIRE_REASON_ROWS);
	q = question("alpha"), q.rows = 65;
	ask(r, &c, &q, 65 * 16, WIRE_BAD_REQUEST, WIRE_REASON_ROWS);
	q = question("alpha"), q.rows = 2;
	ask(r, &c, &q, 16, WIRE_BAD_REQUEST, WIRE_REASON_SIZE);
	q = question("alpha");
	ask(r, &c, &q, 17, WIRE_BAD_REQUEST, WIRE_REASON_SIZE);
	q = question("alpha"), q.segment_count = 2;
	ask(r, &c, &q, 16, WIRE_BAD_REQUEST, WIRE_REASON_SEGMENTS);
	q = question("alpha"), q.segment_count = 0;
	ask(r, &c, &q, 16, WIRE_BAD_REQUEST, WIRE_REASON_SEGMENTS);
	q = question("nobody");
	ask(r, &c, &q, 16, WIRE_UNKNOWN_MODEL, 0);
	n = rig_rows(&c, f, "alpha", not_finite, 1);
	expect_status(&c, a, rig_exchange(r, f, n, a), WIRE_BAD_REQUEST, WIRE_REASON_NOT_FINITE);
	assert_int_equal(r->limits[0].units_admitted, 11); /* one unit each */
}

static void any_authentic_plaintext_gets_exactly_one_typed_answer(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	struct rig_reply got;
	uint8_t f[RIG_FRAME], a[RIG_FRAME], text[WIRE_REQUEST_BYTES + 1200];

	srand(7);
	rig_session(r, &c, 0x1001, 0, false);
	for (int i = 0; i < 20000; i++) {
		struct wire_request q = question("alpha");
		size_t n = (size_t)rand() % 64 * 4;

		q.request_id = (uint64_t)i << 8; /* a broken one of several segments is answered once */
		for (size_t k = 0; k < sizeof(text); k++)
			text[k] = (uint8_t)rand();
		for (int k = rand() % 3; k > 0;
			k--) /* a good request with a few bytes of it broken */
			((uint8_t *)&q)[rand() % WIRE_REQUEST_BYTES] = (uint8_t)rand();
		if (i % 10 == 0)
			memcpy(&q, text, sizeof(q));
		r->port->now_ns += NS_PER_MS;
		n = rig_request(&c, f, &q, text, n);
		n = rig_exchange(r, f, n, a);
		assert_true(n && rig_open(&c, a, n, &got));
		assert_true(got.reply.status < WIRE_STATUS_END);
		assert_int_equal(got.reply.request_id, q.request_id);
		assert_int_equal(got.reply.model_id, q.model_id);
		assert_int_equal(
			got.row_bytes, got.reply.status ? 0 : got.reply.rows * RIG_OUT * 4);
		rig_balance(r);
	}
	assert_true(rig_count(r, STATS_REPLY_BAD_REQUEST) > 10000);
	assert_true(rig_count(r, STATS_REPLY_UNKNOWN_MODEL) > 1000);
}

static void a_subscriber_without_permission_learns_nothing_about_the_model(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	struct wire_request q = question("alpha");

	rig_session(r, &c, 0x1001, 0, false);
	r->limits[0].model_mask = 2;
	ask(r, &c, &q, 16, WIRE_UNKNOWN_MODEL, 0);
}

static void a_blocked_subscriber_and_an_unlicensed_box_say_so(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	struct wire_request q = question("alpha");

	rig_session(r, &c, 0x1001, 0, false);
	r->limits[0].flags = LIMIT_ACTIVE | LIMIT_BLOCKED;
	ask(r, &c, &q, 16, WIRE_QUOTA_EXHAUSTED, 0);
	r->limits[0].flags = LIMIT_ACTIVE | LIMIT_QUOTA_EXHAUSTED;
	ask(r, &c, &q, 16, WIRE_QUOTA_EXHAUSTED, 0);
	r->limits[0].flags = LIMIT_ACTIVE;
	r->shared.licensed_until_ns = r->port->now_ns;
	ask(r, &c, &q, 16, WIRE_NOT_LICENSED, 0);
	r->shared.licensed_until_ns = 0;
	ask(r, &c, &q, 16, WIRE_NOT_LICENSED, 0);
}

static void without_limits_requests_are_put_off(void **state)
{
	struct rig *r = *state;
	struct limits_view *limits = r->shared.limits;
	struct rig_client c;
	struct wire_request q = question("alpha");

	rig_session(r, &c, 0x1001, 0, false);
	r->shared.limits = NULL;
	ask(r, &c, &q, 16, WIRE_OVERLOADED, 0);
	r->shared.limits = limits;
}

static void a_deadline_that_passed_before_the_model_ran_is_reported(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	struct wire_request q = question("alpha");
	uint8_t f[RIG_FRAME], a[RIG_FRAME];
	size_t n;

	rig_session(r, &c, 0x1001, 0, false);
	q.deadline_us = 50;
	r->port->step_ns = 50 * NS_PER_US; /* the next reading is 50 us after the burst's */
	ask(r, &c, &q, 16, WIRE_DEADLINE_EXCEEDED, 0);
	r->port->step_ns = 49 * NS_PER_US;
	n = rig_request(&c, f, &q, sample, sizeof(sample));
	expect_result(&c, a, rig_exchange(r, f, n, a), 1.0f);
}

static void the_plan_is_admitted_to_the_unit_and_the_rest_is_told_when_to_return(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	struct rig_reply got;
	uint8_t f[RIG_FRAME], a[RIG_FRAME];
	uint64_t results = 0, limited = 0, silent = 0;

	rig_session(r, &c, 0x1001, 3, false);
	r->limits[3].interval_ticks = (NS_PER_S << LIMITS_TICK_SHIFT) / 1000; /* 1,000 units/s */
	r->limits[3].burst_ticks = r->limits[3].interval_ticks * 10;
	for (int i = 0; i < 20000; i++) { /* 10,000 requests/s for 2 s: ten times the plan */
		size_t n = rig_rows(&c, f, "alpha", sample, 1);

		r->port->now_ns += 100 * NS_PER_US;
		n = rig_exchange(r, f, n, a);
		if (!n) {
			silent++;
			continue;
		}
		assert_true(rig_open(&c, a, n, &got));
		results += got.reply.status == WIRE_RESULT;
		limited += got.reply.status == WIRE_RATE_LIMITED;
		if (got.reply.status == WIRE_RATE_LIMITED)
			assert_in_range(got.reply.retry_after_us, 1, 1001);
	}
	assert_in_range(results, 2009, 2011); /* burst + rate x 2 s */
	assert_in_range(limited, 230, 234);   /* 100/s and a burst of 32 */
	assert_int_equal(silent, rig_count(r, STATS_DROP_SHOUTING));
	assert_int_equal(r->limits[3].units_admitted, results);
}

static void an_impossible_limiter_state_is_reset_and_reported(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	uint8_t f[RIG_FRAME], a[RIG_FRAME];
	size_t n;

	rig_session(r, &c, 0x1001, 2, false);
	r->limits[2].tat_ticks = UINT64_MAX / 2;
	n = rig_rows(&c, f, "alpha", sample, 1);
	expect_result(&c, a, rig_exchange(r, f, n, a), 1.0f);
	assert_int_equal(rig_count(r, STATS_LIMIT_CORRUPT), 1);
	assert_int_equal(r->worker->corrupt_subscriber, 3);
}

/* ---- packets nobody answers ---- */

static void expect_silence(struct rig *r, const uint8_t *f, size_t n)
{
	uint8_t a[RIG_FRAME];
	uint64_t tx = rig_count(r, STATS_TX);

	assert_int_equal(rig_exchange(r, f, n, a), 0);
	assert_int_equal(rig_count(r, STATS_TX), tx);
	rig_balance(r);
}

static void every_truncation_is_dropped_by_name(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	uint8_t f[RIG_FRAME], a[RIG_FRAME];

	for (int v6 = 0; v6 < 2; v6++) {
		size_t n;

		rig_session(r, &c, 0x1001 + (uint32_t)v6, 0, v6);
		n = rig_rows(&c, f, "alpha", sample, 1);
		for (size_t cut = 0; cut < n; cut++)
			expect_silence(r, f, cut);
		expect_result(&c, a, rig_exchange(r, f, n, a), 1.0f); /* nothing was used up */
	}
}

static void every_single_bit_flip_is_dropped_by_name(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	uint8_t f[RIG_FRAME], g[RIG_FRAME], a[RIG_FRAME];

	for (int v6 = 0; v6 < 2; v6++) {
		size_t n, flips = 0;

		rig_session(r, &c, 0x1001 + (uint32_t)v6, 0, v6);
		n = rig_rows(&c, f, "alpha", sample, 1);
		for (size_t bit = 6 * 8; bit < n * 8; bit++) {
			size_t byte = bit / 8;

			memcpy(g, f, n);
			g[byte] ^= (uint8_t)(1 << bit % 8);
			/* Nothing protects the sender's MAC, nor IPv6's class, flow label and hop
			 * limit: a flip there is another genuine packet. */
			if ((byte >= 6 && byte < 12 && bit != 48) ||
				(v6 && ((bit >= 14 * 8 && bit < 14 * 8 + 4) || byte == 15 ||
					byte == 16 || byte == 17 || byte == 21)))
				continue;
			expect_silence(r, g, n);
			flips++;
		}
		assert_true(flips > 700);
		expect_result(&c, a, rig_exchange(r, f, n, a), 1.0f);
	}
}

static void a_replay_is_answered_once(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	uint8_t f[RIG_FRAME], a[RIG_FRAME];
	size_t n;

	rig_session(r, &c, 0x1001, 0, false);
	n = rig_rows(&c, f, "alpha", sample, 1);
	for (int i = 0; i < 3; i++) /* also twice within one burst */
		assert_true(port_mem_put(r->port, f, n));
	worker_poll(r->worker);
	n = port_mem_get(r->port, a);
	expect_result(&c, a, n, 1.0f);
	assert_int_equal(port_mem_get(r->port, a), 0);
	assert_int_equal(rig_count(r, STATS_DROP_REPLAY), 2);
}

static void counters_far_ahead_too_old_and_at_the_end(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	uint8_t f[RIG_FRAME], a[RIG_FRAME];
	size_t n;

	rig_session(r, &c, 0x1001, 0, false);
	n = rig_rows_at(&c, f, "alpha", sample, 1, 1ull << 40);
	expect_result(&c, a, rig_exchange(r, f, n, a), 1.0f);
	n = rig_rows_at(&c, f, "alpha", sample, 1, (1ull << 40) - SESSION_WINDOW + 1);
	expect_result(&c, a, rig_exchange(r, f, n, a), 1.0f);
	n = rig_rows_at(&c, f, "alpha", sample, 1, (1ull << 40) - SESSION_WINDOW);
	expect_silence(r, f, n);
	n = rig_rows_at(&c, f, "alpha", sample, 1, UINT64_MAX);
	expect_silence(r, f, n);
	assert_int_equal(rig_count(r, STATS_DROP_REPLAY), 2);
}

/* What a NIC makes of a jumbo frame: a chain of segments, of which the first alone proves nothing. */
static uint32_t rx_in_segments(struct port_queue *q, struct burst *b, uint32_t max)
{
	struct port_mem *p = q->port;
	uint32_t n = p->queue.ops->rx(q, b, max);

	for (uint32_t i = 0; i < n; i++)
		b->data[i] = NULL;
	return n;
}

static void a_frame_in_several_segments_is_dropped_by_name(void **state)
{
	struct rig *r = *state;
	struct port_ops ops = *r->port->queue.ops;
	struct port_queue queue = r->port->queue;
	struct rig_client c;
	uint8_t f[RIG_FRAME], a[RIG_FRAME];
	size_t n;

	rig_session(r, &c, 0x1001, 0, false);
	n = rig_rows(&c, f, "alpha", sample, 1);
	ops.rx = rx_in_segments;
	queue.ops = &ops;
	r->worker->queue = &queue;
	expect_silence(r, f, n);
	assert_int_equal(rig_count(r, STATS_DROP_OVERSIZE), 1);
	r->worker->queue = &r->port->queue;
	expect_result(&c, a, rig_exchange(r, f, n, a), 1.0f); /* the same packet whole */
}

static void strangers_get_nothing(void **state)
{
	struct rig *r = *state;
	struct rig_client c, d;
	uint8_t f[RIG_FRAME];
	size_t n;

	rig_session(r, &c, 0x1001, 0, false);
	d = c, d.key_id = 0x2001; /* same slot, other id */
	expect_silence(r, f, rig_rows(&d, f, "alpha", sample, 1));
	d = c, d.key_id = 0x1002; /* empty slot */
	expect_silence(r, f, rig_rows(&d, f, "alpha", sample, 1));
	assert_int_equal(rig_count(r, STATS_DROP_UNKNOWN_KEY), 2);
	d = c, d.source.bytes[15] = 9;
	expect_silence(r, f, rig_rows(&d, f, "alpha", sample, 1));
	assert_int_equal(rig_count(r, STATS_DROP_SOURCE), 1);
	d = c, d.epoch = 2; /* test_ratchet.c has the others */
	expect_silence(r, f, rig_rows(&d, f, "alpha", sample, 1));
	assert_int_equal(rig_count(r, STATS_DROP_EPOCH), 1);
	d = c, d.lane = RIG_LANES;
	expect_silence(r, f, rig_rows(&d, f, "alpha", sample, 1));
	assert_int_equal(rig_count(r, STATS_DROP_VERSION), 1);
	d = c, d.secret[0] ^= 1;
	expect_silence(r, f, rig_rows(&d, f, "alpha", sample, 1));
	assert_int_equal(rig_count(r, STATS_DROP_AUTH), 1);
	n = rig_rows(&c, f, "alpha", sample, 1);
	r->port->now_ns += 3600 * NS_PER_S;
	expect_silence(r, f, n);
	assert_int_equal(rig_count(r, STATS_DROP_EXPIRED), 1);
}

static void forgeries_stop_being_opened_and_the_victim_is_still_served(void **state)
{
	struct rig *r = *state;
	struct rig_client c, forger;
	uint8_t f[RIG_FRAME], a[RIG_FRAME];
	size_t n;

	rig_session(r, &c, 0x1001, 0, false);
	n = rig_rows(&c, f, "alpha", sample, 1);
	expect_result(&c, a, rig_exchange(r, f, n, a), 1.0f);
	forger = c, forger.secret[5] ^= 1;
	for (uint64_t i = 0; i < 1000; i++)
		expect_silence(r, f, rig_rows_at(&forger, f, "alpha", sample, 1, (1ull << 30) + i));
	assert_int_equal(rig_count(r, STATS_DROP_AUTH), SESSION_FAILED_BURST);
	assert_int_equal(rig_count(r, STATS_DROP_FAILED_BUDGET), 1000 - SESSION_FAILED_BURST);
	n = rig_rows(&c, f, "alpha", sample, 1); /* near the window: still opened */
	expect_result(&c, a, rig_exchange(r, f, n, a), 1.0f);
	r->port->now_ns += NS_PER_S; /* the budget refills */
	n = rig_rows_at(&c, f, "alpha", sample, 1, 1ull << 30);
	expect_result(&c, a, rig_exchange(r, f, n, a), 1.0f);
	assert_int_equal(r->limits[0].units_admitted, 3); /* forgeries cost the victim nothing */
}

/* ---- batches, models, crashes ---- */

static void a_burst_of_two_models_and_many_rows_is_grouped_and_answered_in_full(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	struct rig_reply got;
	float rows[20][RIG_IN], want[RIG_OUT], *y = (float *)got.rows;
	uint8_t f[RIG_FRAME], a[RIG_FRAME];
	size_t n;

	rig_model(r, 5, 2, rig_artifact("beta", 3, 2.0f, 1, 64));
	rig_session(r, &c, 0x1001, 0, false);
	for (int i = 0; i < 20; i++)
		for (int k = 0; k < RIG_IN; k++)
			rows[i][k] = (float)(i * 10 + k);
	for (uint16_t i = 1; i <= 20; i++) { /* 210 rows of both models: pieces of 64 */
		n = rig_rows(&c, f, i % 2 ? "alpha" : "beta", rows[0], i);
		assert_true(port_mem_put(r->port, f, n));
	}
	worker_poll(r->worker);
	for (uint16_t i = 1; i <= 20; i++) {
		n = port_mem_get(r->port, a);
		assert_true(n && rig_open(&c, a, n, &got));
		assert_int_equal(got.reply.status, WIRE_RESULT);
		assert_int_equal(got.reply.rows, i);
		assert_int_equal(got.reply.detail, i % 2 ? 1 : 3);
		for (int row = 0; row < i; row++) {
			rig_expect(rows[row], i % 2 ? 1.0f : 2.0f, want);
			for (int j = 0; j < RIG_OUT; j++)
				assert_true(fabsf(y[row * RIG_OUT + j] - want[j]) < 0.01f);
		}
	}
	assert_int_equal(rig_count(r, STATS_BATCHES), 4);
	assert_int_equal(rig_count(r, STATS_ROWS), 210);
	assert_int_equal(r->stats->models[5].requests, 10);
}

static void expensive_rows_cost_what_the_model_says(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	float rows[3][RIG_IN] = {{0}};
	uint8_t f[RIG_FRAME], a[RIG_FRAME];

	rig_model(r, 1, 2, rig_artifact("dear", 1, 2.0f, 100, 64));
	rig_session(r, &c, 0x1001, 0, false);
	assert_true(rig_exchange(r, f, rig_rows(&c, f, "dear", rows[0], 3), a) > 0);
	assert_int_equal(r->limits[0].units_admitted, 300);
}

static void a_swap_loses_no_request_and_rollback_brings_the_old_answers_back(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	struct error err = {0};
	uint8_t f[RIG_FRAME], a[RIG_FRAME];
	float scale = 1.0f;

	rig_session(r, &c, 0x1001, 0, false);
	for (int i = 0; i < 60; i++) {
		if (i == 20) {
			rig_model(r, 0, 2, rig_artifact("alpha", 2, 3.0f, 1, 64));
			scale = 3.0f;
		}
		if (i == 40) {
			assert_int_equal(model_table_rollback(&r->models, 0, &err), 0);
			scale = 1.0f;
		}
		expect_result(
			&c, a, rig_exchange(r, f, rig_rows(&c, f, "alpha", sample, 1), a), scale);
	}
	assert_int_equal(rig_count(r, STATS_REPLY_RESULT), 60);
	assert_int_equal(rig_count(r, STATS_MODEL_SWAPS), 2);
	model_table_reap(&r->models);
	assert_int_equal(r->released, 2); /* the worker has polled since: freed */
	assert_int_equal(model_table_rollback(&r->models, 0, &err), -ENOENT);
}

static void a_model_is_not_freed_while_a_burst_may_still_use_it(void **state)
{
	struct rig *r = *state;
	struct error err = {0};

	quiesce_tick(r->worker->quiesce); /* a burst begins ... */
	assert_int_equal(model_table_unload(&r->models, 0, &err), 0);
	model_table_reap(&r->models);
	assert_int_equal(r->released, 0);
	quiesce_tick(r->worker->quiesce); /* ... and the next one */
	model_table_reap(&r->models);
	assert_int_equal(r->released, 1);
}

static int open_descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

/* A worker that hangs holds every model retired since; when there is no more room, a change is refused
 * and leaves nothing behind, and it works once the worker goes on. */
static void a_change_refused_for_want_of_room_leaks_nothing_and_works_later(void **state)
{
	struct rig *r = *state;
	struct error err = {0};
	uint64_t number = 1;
	int rc = 0, before = 0;

	quiesce_tick(r->worker->quiesce);
	while (!rc && number < 2 * MODEL_RETIRED) {
		struct link_artifact art = {.model_index = 0, .number = ++number};
		int fd = rig_artifact("alpha", (uint32_t)number, 1.0f, 1, 64);

		assert_int_equal(model_table_offer(&r->models, fd, &art, &err), 0);
		before = open_descriptors();
		rc = model_table_stage(&r->models, 0, number, &err);
		if (!rc)
			rc = model_table_activate(&r->models, 0, &err);
	}
	assert_int_equal(rc, -EBUSY);
	assert_int_equal(open_descriptors(), before);
	quiesce_tick(r->worker->quiesce);
	model_table_reap(&r->models);
	assert_int_equal(model_table_stage(&r->models, 0, number, &err), 0);
	assert_int_equal(model_table_activate(&r->models, 0, &err), 0);
	assert_int_equal(r->models.entries[0].current->artifact.number, number);
}

static void a_refused_artifact_leaves_the_running_model_alone(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	struct link_artifact art = {.model_index = 0, .number = 9};
	struct error err = {0};
	uint8_t f[RIG_FRAME], a[RIG_FRAME], junk[40000] = {0};

	rig_session(r, &c, 0x1001, 0, false);
	assert_int_equal(model_table_offer(&r->models,
				 fd_sealed_copy("junk", junk, sizeof(junk), NULL), &art, &err),
		0);
	assert_true(model_table_stage(&r->models, 0, 9, &err) < 0);
	assert_non_null(strstr(err.text, "magic"));
	art.number = 10;
	assert_int_equal(model_table_offer(&r->models,
				 fd_region_new("open", 40000, false, NULL, NULL), &art, &err),
		0);
	assert_int_equal(model_table_stage(&r->models, 0, 10, &err), -EPERM);
	assert_int_equal(model_table_stage(&r->models, 0, 11, &err), -ENOENT);
	assert_int_equal(model_table_stage(&r->models, 64, 11, &err), -ERANGE);
	assert_int_equal(model_table_activate(&r->models, 0, &err), -ENOENT);
	expect_result(&c, a, rig_exchange(r, f, rig_rows(&c, f, "alpha", sample, 1), a), 1.0f);
}

static void after_a_crash_no_counter_is_accepted_twice_and_no_nonce_used_twice(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	static uint8_t frames[50][RIG_FRAME];
	uint8_t f[RIG_FRAME], a[RIG_FRAME];
	size_t n[50];

	rig_session(r, &c, 0x1001, 0, false);
	for (int life = 0; life < 3; life++) {
		for (int i = 0; i < 50; i++) {
			n[i] = rig_rows(&c, frames[i], "alpha", sample, 1);
			expect_result(&c, a, rig_exchange(r, frames[i], n[i], a), 1.0f);
		}
		rig_balance(r);
		rig_crash(r);
		rig_model(r, 0, 1, rig_artifact("alpha", 1, 1.0f, 1, 64));
		for (int i = 0; i < 50; i++)
			expect_silence(r, frames[i], n[i]);
		assert_int_equal(rig_count(r, STATS_DROP_REPLAY), 50);
		assert_int_equal(r->table->generation, life + 2);
	}
	/* rig_open() has compared every reply counter with all earlier ones */
	expect_result(&c, a, rig_exchange(r, f, rig_rows(&c, f, "alpha", sample, 1), a), 1.0f);
}

static void a_second_dataplane_is_refused_the_table(void **state)
{
	struct rig *r = *state;
	struct sessions *second = NULL;
	struct error err = {0};

	assert_int_equal(
		sessions_attach(&second, r->sessions_fd, &r->shared.aead, RIG_BEGIN_NS, &err), -EBUSY);
	assert_null(second);
}

static void a_removed_session_is_forgotten_and_its_slot_can_be_used_again(void **state)
{
	struct rig *r = *state;
	struct rig_client c, d;
	struct session_slot *slot;
	uint8_t f[RIG_FRAME], a[RIG_FRAME], zero[sizeof(slot->keys)] = {0};

	rig_session(r, &c, 0x1001, 0, false);
	expect_result(&c, a, rig_exchange(r, f, rig_rows(&c, f, "alpha", sample, 1), a), 1.0f);
	slot = (struct session_slot *)((uint8_t *)r->table + r->table->slots_offset) + c.slot;
	assert_int_equal(sessions_remove_begin(r->shared.sessions, c.slot, 1), -ESRCH);
	assert_int_equal(sessions_remove_begin(r->shared.sessions, c.slot, 0x1001 * 10ull), 0);
	expect_silence(r, f, rig_rows(&c, f, "alpha", sample, 1));
	sessions_remove_finish(r->shared.sessions, c.slot);
	assert_int_equal(slot->state, SESSION_FREE);
	assert_memory_equal(slot->keys, zero, sizeof(zero));
	assert_int_equal(sessions_remove_begin(r->shared.sessions, c.slot, 0x1001 * 10ull), -ESRCH);
	rig_session(r, &d, 0x3001, 0, false); /* same slot */
	expect_result(&d, a, rig_exchange(r, f, rig_rows(&d, f, "alpha", sample, 1), a), 1.0f);
}

static void a_crash_in_the_middle_of_a_removal_is_finished_by_the_next_dataplane(void **state)
{
	struct rig *r = *state;
	struct rig_client c, d;
	const struct session_slot *slot;
	const struct session_lane *lane;
	uint8_t f[RIG_FRAME], a[RIG_FRAME], zero[sizeof(*lane)] = {0};

	rig_session(r, &c, 0x1001, 0, false);
	for (int i = 0; i < 10; i++)
		expect_result(&c, a, rig_exchange(r, f, rig_rows(&c, f, "alpha", sample, 1), a), 1.0f);
	slot = (struct session_slot *)((uint8_t *)r->table + r->table->slots_offset) + c.slot;
	lane = (struct session_lane *)((uint8_t *)r->table + r->table->lanes_offset) +
		(size_t)c.slot * RIG_LANES;
	assert_int_equal(sessions_remove_begin(r->shared.sessions, c.slot, 0x1001 * 10ull), 0);
	rig_balance(r);
	rig_crash(r); /* before sessions_remove_finish() */
	rig_model(r, 0, 1, rig_artifact("alpha", 1, 1.0f, 1, 64));
	assert_int_equal(slot->state, SESSION_FREE);
	assert_memory_equal(slot->keys, zero, sizeof(slot->keys));
	assert_memory_equal(slot->secrets, zero, sizeof(slot->secrets));
	assert_memory_equal(lane, zero, sizeof(*lane));
	expect_silence(r, f, rig_rows(&c, f, "alpha", sample, 1));
	rig_session(r, &d, 0x3001, 0, false); /* same slot, counters from 0 */
	expect_result(&d, a, rig_exchange(r, f, rig_rows(&d, f, "alpha", sample, 1), a), 1.0f);
	expect_silence(r, f, rig_rows(&c, f, "alpha", sample, 1));
}

static void a_full_transmit_queue_costs_replies_that_are_counted(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	uint8_t f[RIG_FRAME], a[RIG_FRAME];

	rig_session(r, &c, 0x1001, 0, false);
	r->port->tx_room = 3;
	for (int i = 0; i < 10; i++)
		assert_true(port_mem_put(r->port, f, rig_rows(&c, f, "alpha", sample, 1)));
	worker_poll(r->worker);
	for (int i = 0; i < 3; i++)
		expect_result(&c, a, port_mem_get(r->port, a), 1.0f);
	assert_int_equal(port_mem_get(r->port, a), 0);
	assert_int_equal(rig_count(r, STATS_DROP_REPLY_TX), 7);
	rig_balance(r);
}

static void an_idle_worker_shows_that_it_is_alive(void **state)
{
	struct rig *r = *state;

	r->port->now_ns += NS_PER_S;
	for (int i = 0; i < 64; i++)
		worker_poll(r->worker);
	assert_int_equal(r->stats->heartbeat_ns, r->port->now_ns);
	assert_int_equal(rig_count(r, STATS_POLLS_EMPTY), 64);
}

static void a_port_without_buffers_is_noticed_and_recovers(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	uint8_t f[RIG_FRAME], a[RIG_FRAME];
	size_t n;

	rig_session(r, &c, 0x1001, 0, false);
	for (int i = 0; i < PORT_MEM_FRAMES; i++) { /* answers that the wire does not take away */
		n = rig_rows(&c, f, "alpha", sample, 1);
		assert_true(port_mem_put(r->port, f, n));
		worker_poll(r->worker);
	}
	n = rig_rows(&c, f, "alpha", sample, 1);
	assert_false(port_mem_put(r->port, f, n));
	for (int i = 0; i < 64; i++)
		worker_poll(r->worker);
	assert_int_equal(rig_count(r, STATS_MBUF_EMPTY), 1);
	while (port_mem_get(r->port, a))
		;
	expect_result(&c, a, rig_exchange(r, f, n, a), 1.0f);
	for (int i = 0; i < 64; i++)
		worker_poll(r->worker);
	assert_int_equal(rig_count(r, STATS_MBUF_EMPTY), 1);
}

#define T(f) cmocka_unit_test_setup_teardown(f, rig_set_up, rig_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_request_over_ipv4_and_over_ipv6_gets_its_result),
		T(every_broken_request_is_answered_with_its_reason),
		T(any_authentic_plaintext_gets_exactly_one_typed_answer),
		T(a_subscriber_without_permission_learns_nothing_about_the_model),
		T(a_blocked_subscriber_and_an_unlicensed_box_say_so),
		T(without_limits_requests_are_put_off),
		T(a_deadline_that_passed_before_the_model_ran_is_reported),
		T(the_plan_is_admitted_to_the_unit_and_the_rest_is_told_when_to_return),
		T(an_impossible_limiter_state_is_reset_and_reported),
		T(every_truncation_is_dropped_by_name),
		T(every_single_bit_flip_is_dropped_by_name),
		T(a_replay_is_answered_once),
		T(counters_far_ahead_too_old_and_at_the_end),
		T(a_frame_in_several_segments_is_dropped_by_name),
		T(strangers_get_nothing),
		T(forgeries_stop_being_opened_and_the_victim_is_still_served),
		T(a_burst_of_two_models_and_many_rows_is_grouped_and_answered_in_full),
		T(expensive_rows_cost_what_the_model_says),
		T(a_swap_loses_no_request_and_rollback_brings_the_old_answers_back),
		T(a_model_is_not_freed_while_a_burst_may_still_use_it),
		T(a_change_refused_for_want_of_room_leaks_nothing_and_works_later),
		T(a_refused_artifact_leaves_the_running_model_alone),
		T(after_a_crash_no_counter_is_accepted_twice_and_no_nonce_used_twice),
		T(a_second_dataplane_is_refused_the_table),
		T(a_removed_session_is_forgotten_and_its_slot_can_be_used_again),
		T(a_crash_in_the_middle_of_a_removal_is_finished_by_the_next_dataplane),
		T(a_full_transmit_queue_costs_replies_that_are_counted),
		T(a_port_without_buffers_is_noticed_and_recovers),
		T(an_idle_worker_shows_that_it_is_alive),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
