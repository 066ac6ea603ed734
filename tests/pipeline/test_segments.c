/* SPDX-License-Identifier: BSD-3-Clause
 * Requests and replies of several datagrams through the whole worker: what is answered, what is held,
 * what is charged, to the unit.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "rig_wide.h"

/* ---- in any order ---- */

/* Visit every order of order[at..n). */
static void permute(uint8_t order[], uint32_t at, uint32_t n, void (*visit)(void *, const uint8_t *),
	void *ctx)
{
	if (at == n)
		visit(ctx, order);
	for (uint32_t i = at; i < n; i++) {
		uint8_t t = order[at];

		order[at] = order[i], order[i] = t;
		permute(order, at + 1, n, visit, ctx);
		t = order[at], order[at] = order[i], order[i] = t;
	}
}

struct visit {
	struct rig *r;
	struct rig_client c;
	uint32_t n;
	uint64_t id;
};

static void in_this_order(void *ctx, const uint8_t *order)
{
	struct visit *v = ctx;
	struct wire_request q = t_wide(v->id, v->n);
	uint64_t before = t_units(v->r), held = rig_count(v->r, STATS_HELD);

	for (uint32_t k = 0; k < v->n; k++) {
		if (v->id % 2 == 0 && k) /* every other one in bursts of its own */
			worker_poll(v->r->worker);
		t_put(v->r, &v->c, q, order[k]);
	}
	worker_poll(v->r->worker);
	t_result(v->r, &v->c, v->id, q.rows);
	assert_int_equal(t_units(v->r) - before, v->n + q.rows * WIDE_COST);
	assert_int_equal(rig_count(v->r, STATS_HELD) - held, v->n - 1);
	v->id++;
}

static void every_order_of_up_to_four_segments_is_answered_once(void **state)
{
	struct visit v = {.r = *state, .id = 1};
	uint8_t order[] = {0, 1, 2, 3};

	rig_session(v.r, &v.c, 0x1001, 0, false);
	for (v.n = 2; v.n <= 4; v.n++)
		permute(order, 0, v.n, in_this_order, &v);
	assert_int_equal(rig_count(v.r, STATS_REPLY_RESULT), 2 + 6 + 24);
	assert_int_equal(rig_count(v.r, STATS_SEGMENTS_EXPIRED), 0);
}

static void sixteen_segments_each_way_over_ipv4_and_ipv6(void **state)
{
	struct rig *r = *state;
	struct rig_client c;

	for (int v6 = 0; v6 < 2; v6++) {
		struct wire_request q = t_wide(1, WIRE_MAX_SEGMENTS);

		rig_session(r, &c, 0x1001 + (uint32_t)v6, 0, v6);
		for (uint32_t k = WIRE_MAX_SEGMENTS; k-- > 0;)
			t_put(r, &c, q, k);
		worker_poll(r->worker);
		t_result(r, &c, 1, WIDE_ROWS);
	}
	assert_int_equal(rig_count(r, STATS_TX), 2 * 12);
	assert_int_equal(rig_count(r, STATS_COMPLETED), 2);
}

static void duplicates_change_nothing(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	struct wire_request q = t_wide(1, 3);
	uint64_t before;

	rig_session(r, &c, 0x1001, 0, false);
	for (uint32_t k = 0; k < 3; k++) {
		before = t_units(r);
		for (int twice = 0; twice < 2; twice++) {
			t_send(r, &c, q, k);
			if (twice || k < 2)
				t_silence(r);
			else
				t_result(r, &c, 1, q.rows);
		}
		assert_int_equal(t_units(r) - before, 2 + (k == 2 ? q.rows * WIDE_COST : 0));
	}
	assert_int_equal(rig_count(r, STATS_DROP_SEGMENT), 3);
	assert_int_equal(rig_count(r, STATS_HELD), 2);
	r->port->now_ns += STORE_KEEP_S * NS_PER_S; /* forgotten: it may begin again */
	t_send(r, &c, q, 0);
	assert_int_equal(rig_count(r, STATS_HELD), 3);
}

/* ---- losses ---- */

static void a_lost_segment_sent_again_completes_the_request(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	uint64_t id = 1;

	rig_session(r, &c, 0x1001, 0, false);
	for (uint32_t n = 2; n <= 4; n++) {
		for (uint32_t lost = 0; lost < n; lost++, id++) {
			struct wire_request q = t_wide(id, n);
			uint64_t before = t_units(r);

			for (uint32_t k = 0; k < n; k++)
				if (k != lost)
					t_send(r, &c, q, k);
			t_silence(r);
			r->port->now_ns += 50 * NS_PER_MS; /* the client's retry: all of it again */
			for (uint32_t k = 0; k < n; k++)
				t_send(r, &c, q, k);
			t_result(r, &c, id, q.rows);
			assert_int_equal(t_units(r) - before, n - 1 + n + q.rows * WIDE_COST);
		}
	}
}

static void what_is_never_completed_is_forgotten_after_a_while_and_counted(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	struct wire_request q = t_wide(1, 2);

	rig_session(r, &c, 0x1001, 0, false);
	t_send(r, &c, q, 0);
	r->port->now_ns += SEGMENTS_OPEN_MS * NS_PER_MS - 1;
	t_send(r, &c, q, 0); /* being sent again does not keep it alive */
	r->port->now_ns += 1;
	t_send(r, &c, q, 1);
	t_silence(r);
	assert_int_equal(rig_count(r, STATS_SEGMENTS_EXPIRED), 1);
	t_send(r, &c, q, 0);
	t_result(r, &c, 1, q.rows);
	assert_int_equal(t_units(r), 4 + q.rows * WIDE_COST);
}

/* Straight at the assemblies: a thousand sessions, a million requests of which only one segment comes. */
static void a_million_requests_that_are_never_finished_hold_no_more_than_the_pool(void **state)
{
	struct rig *r = *state;
	struct segments *s = &r->worker->segments;
	struct segments_whole whole;
	uint64_t now = r->port->now_ns;

	for (uint64_t i = 0; i < 1000000; i++) {
		struct segment_of of = {1 + i * 7919 % 1000, (uint16_t)(i & 1)};
		struct wire_request q = t_wide(i, 2 + (uint32_t)i % 15);

		now += i % 4 ? 0 : NS_PER_MS;
		segments_expire(s, now);
		assert_int_equal(segments_take(s, segments_find(s, of, i), of, &q, (uint8_t *)t_rows,
			WIRE_SEGMENT_ROW_BYTES, now, &whole), SEGMENT_HELD);
	}
	assert_true(s->open.n <= RIG_WIDE_BUFFERS);
	assert_int_equal(s->open.n + s->expired + s->evicted, 1000000);
	segments_expire(s, now + SEGMENTS_OPEN_MS * NS_PER_MS);
	assert_int_equal(r->worker->wide.n_unused, RIG_WIDE_BUFFERS);
}

static void the_fifth_open_request_of_a_session_costs_its_oldest(void **state)
{
	struct rig *r = *state;
	struct rig_client c, d;

	rig_session(r, &c, 0x1001, 0, false);
	rig_session(r, &d, 0x1002, 1, false);
	t_send(r, &d, t_wide(9, 2), 0);
	for (uint64_t id = 1; id <= 5; id++) {
		r->port->now_ns++;
		t_send(r, &c, t_wide(id, 2), 0);
	}
	assert_int_equal(rig_count(r, STATS_SEGMENTS_EVICTED), 1);
	for (uint64_t id = 2; id <= 5; id++) {
		t_send(r, &c, t_wide(id, 2), 1);
		t_result(r, &c, id, t_rows_of(2));
	}
	t_send(r, &c, t_wide(1, 2), 1);
	t_silence(r);
	t_send(r, &d, t_wide(9, 2), 1); /* the neighbour's, older than all, is untouched */
	t_result(r, &d, 9, t_rows_of(2));
}

static void when_all_buffers_are_taken_the_oldest_request_of_all_gives_way(void **state)
{
	struct rig *r = *state;
	struct rig_client c[5];

	for (uint32_t i = 0; i < 5; i++)
		rig_session(r, &c[i], 0x1001 + i, i, false);
	for (uint64_t id = 0; id < RIG_WIDE_BUFFERS; id++) { /* four of four sessions */
		r->port->now_ns++;
		t_send(r, &c[id / 4], t_wide(id, 2), 0);
	}
	assert_int_equal(rig_count(r, STATS_SEGMENTS_EVICTED), 0);
	t_send(r, &c[4], t_wide(99, 2), 0);
	assert_int_equal(rig_count(r, STATS_SEGMENTS_EVICTED), 1);
	t_send(r, &c[4], t_wide(99, 2), 1); /* evicts another to build its reply in */
	t_result(r, &c[4], 99, t_rows_of(2));
	assert_int_equal(rig_count(r, STATS_SEGMENTS_EVICTED), 2);
	for (uint64_t id = 2; id < RIG_WIDE_BUFFERS; id++) {
		t_send(r, &c[id / 4], t_wide(id, 2), 1);
		t_result(r, &c[id / 4], id, t_rows_of(2));
	}
}

/* ---- contradictions ---- */

static void contradictions_are_answered_once_and_drop_the_request(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	struct wire_request q;
	uint64_t id = 1;

	rig_session(r, &c, 0x1001, 0, false);
	for (int what = 0; what < 4; what++, id++) {
		uint64_t before = t_units(r);

		t_send(r, &c, t_wide(id, 3), 0);
		q = t_wide(id, 3);
		if (what == 0)
			q = t_wide(id, 2);
		else if (what == 1)
			q.rows--;
		else if (what == 2)
			q.deadline_us = 1000;
		else
			q.dtype = WIRE_I32;
		t_send(r, &c, q, 1);
		t_status(r, &c, WIRE_BAD_REQUEST, what == 3 ? WIRE_REASON_DTYPE : WIRE_REASON_SEGMENTS);
		for (uint32_t k = 0; k < 3; k++)
			t_send(r, &c, t_wide(id, 3), k);
		t_silence(r);
		assert_int_equal(t_units(r) - before, 5);
	}
	assert_int_equal(rig_count(r, STATS_BATCHES), 0);
	assert_int_equal(r->worker->segments.open.n, 0);
}

static void the_same_segment_with_other_rows_is_another_plaintext(void **state)
{
	struct rig *r = *state;
	struct rig_client c;

	rig_session(r, &c, 0x1001, 0, false);
	t_send(r, &c, t_wide(1, 2), 1);
	t_rows[SEGMENT_ROWS + 2][0] += 1;
	t_send(r, &c, t_wide(1, 2), 1);
	t_status(r, &c, WIRE_BAD_REQUEST, WIRE_REASON_OTHER_TEXT);
	t_send(r, &c, t_wide(1, 2), 0);
	t_silence(r);
	assert_int_equal(t_units(r), 3);
}

static void impossible_segments_are_answered_and_nothing_is_kept(void **state)
{
	static const struct {
		uint8_t index, count;
		uint16_t rows, bytes;
		uint16_t reason;
	} cases[] = {
		{0, 17, 1144, 1144, WIRE_REASON_SEGMENTS},
		{0, 255, 1144, 1144, WIRE_REASON_SEGMENTS},
		{2, 2, 100, 456, WIRE_REASON_SEGMENTS},
		{255, 2, 100, 456, WIRE_REASON_SEGMENTS},
		{0, 2, 71, 1136, WIRE_REASON_SEGMENTS},    /* would fit one */
		{0, 3, 142, 1144, WIRE_REASON_SEGMENTS},   /* would fit two */
		{0, 16, 1145, 1144, WIRE_REASON_ROWS},
		{0, 2, 100, 1143, WIRE_REASON_SIZE},       /* not full */
		{1, 2, 100, 455, WIRE_REASON_SIZE},
		{1, 2, 100, 457, WIRE_REASON_SIZE},
		{1, 2, 100, 0, WIRE_REASON_SIZE},
		{0, 1, 100, 1144, WIRE_REASON_SIZE},       /* more rows than one segment holds */
	};
	struct rig *r = *state;
	struct rig_client c;
	uint8_t f[RIG_FRAME];

	rig_session(r, &c, 0x1001, 0, false);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct wire_request q = t_wide(i + 1, 2);

		q.segment_index = cases[i].index;
		q.segment_count = cases[i].count;
		q.rows = cases[i].rows;
		assert_true(port_mem_put(r->port, f, rig_request(&c, f, &q, t_rows, cases[i].bytes)));
		worker_poll(r->worker);
		t_status(r, &c, WIRE_BAD_REQUEST, cases[i].reason);
	}
	assert_int_equal(r->worker->segments.open.n, 0);
	assert_int_equal(t_units(r), sizeof(cases) / sizeof(cases[0]));
}

static void segments_of_other_sessions_and_lanes_do_not_mix(void **state)
{
	struct rig *r = *state;
	struct rig_client c, d;

	rig_session(r, &c, 0x1001, 0, false);
	rig_session(r, &d, 0x1002, 0, false);
	t_send(r, &c, t_wide(1, 2), 0);
	t_send(r, &d, t_wide(1, 2), 1);
	t_silence(r);
	c.lane = 1;
	t_send(r, &c, t_wide(1, 2), 1); /* another lane: another request */
	t_silence(r);
	assert_int_equal(r->worker->segments.open.n, 3);
	c.lane = 0;
	c.replies = 0;
	t_send(r, &c, t_wide(1, 2), 1);
	t_result(r, &c, 1, t_rows_of(2));
	t_send(r, &d, t_wide(1, 2), 0);
	t_result(r, &d, 1, t_rows_of(2));
}

/* ---- charges ---- */

static void plan(struct rig *r, uint64_t burst)
{
	r->limits[0].interval_ticks = NS_PER_S << LIMITS_TICK_SHIFT; /* one unit a second */
	r->limits[0].burst_ticks = r->limits[0].interval_ticks * burst;
}

static void a_completion_the_plan_has_no_room_for_computes_nothing(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	struct wire_request q = t_wide(1, 3);

	rig_session(r, &c, 0x1001, 0, false);
	plan(r, 3 + q.rows * WIDE_COST - 1);
	for (uint32_t k = 0; k < 3; k++)
		t_send(r, &c, q, k);
	t_status(r, &c, WIRE_RATE_LIMITED, 0);
	assert_int_equal(rig_count(r, STATS_BATCHES), 0);
	assert_int_equal(t_units(r), 3);
	assert_int_equal(r->worker->segments.open.n, 0);
	t_send(r, &c, q, 2); /* late: charged, not answered again */
	t_silence(r);
	assert_int_equal(t_units(r), 4);
	r->port->now_ns += (uint64_t)q.rows * WIDE_COST * NS_PER_S; /* the plan is whole again: now it passes */
	c.epoch++; /* so much later a client steps */
	q.request_id = 2;
	plan(r, 3 + q.rows * WIDE_COST);
	for (uint32_t k = 0; k < 3; k++)
		t_send(r, &c, q, k);
	t_result(r, &c, 2, q.rows);
}

static void no_segment_is_held_without_being_charged(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	struct wire_request q = t_wide(1, 16);
	uint64_t refused;

	rig_session(r, &c, 0x1001, 0, false);
	plan(r, 2);
	for (uint32_t k = 0; k < 16; k++)
		t_send(r, &c, q, k);
	refused = rig_count(r, STATS_REPLY_RATE_LIMITED);
	assert_int_equal(refused, 1); /* once for the request, not once a segment */
	t_status(r, &c, WIRE_RATE_LIMITED, 0);
	assert_int_equal(rig_count(r, STATS_HELD), 2);
	assert_int_equal(t_units(r), 2);
	assert_int_equal(r->worker->segments.open.n, 0);
	for (uint64_t id = 2; id < 2000; id++)
		t_send(r, &c, t_wide(id, 16), 0);
	assert_int_equal(rig_count(r, STATS_HELD), 2);
	assert_int_equal(rig_count(r, STATS_REPLY_RATE_LIMITED), LIMITS_REFUSED_BURST);
	while (port_mem_get(r->port, (uint8_t[RIG_FRAME]){0}))
		;
}

static void a_model_that_is_not_there_is_refused_at_the_first_segment(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	struct wire_request q = t_wide(1, 2);

	rig_session(r, &c, 0x1001, 0, false);
	q.model_id++;
	for (uint32_t k = 0; k < 2; k++)
		t_send(r, &c, q, k);
	t_status(r, &c, WIRE_UNKNOWN_MODEL, 0);
	assert_int_equal(rig_count(r, STATS_DROP_SEGMENT), 1);
}

static void what_only_the_whole_request_shows_is_refused_at_its_end(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	struct wire_request q = t_wide(1, 2);

	rig_session(r, &c, 0x1001, 0, false);
	t_rows[SEGMENT_ROWS][2] = NAN; /* half of its bytes are in either segment */
	for (uint32_t k = 0; k < 2; k++)
		t_send(r, &c, q, k);
	t_status(r, &c, WIRE_BAD_REQUEST, WIRE_REASON_NOT_FINITE);
	t_rows[SEGMENT_ROWS][2] = 0;
	q = t_wide(2, 2), q.deadline_us = 500;
	t_send(r, &c, q, 0);
	r->port->now_ns += 500 * NS_PER_US;
	t_send(r, &c, q, 1);
	t_status(r, &c, WIRE_DEADLINE_EXCEEDED, 0);
	assert_int_equal(t_units(r), 4);
}

/* ---- replies ---- */

static void a_reply_without_enough_buffers_is_lost_whole_and_counted(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	struct wire_request q = t_wide(1, 16);
	uint8_t f[RIG_FRAME], a[RIG_FRAME];
	uint32_t filler = PORT_MEM_FRAMES - 16 - 5; /* answers the wire does not take away */

	rig_session(r, &c, 0x1001, 0, false);
	for (uint32_t i = 0; i < filler; i++) {
		assert_true(port_mem_put(r->port, f, rig_rows(&c, f, "alpha", t_rows[0], 1)));
		worker_poll(r->worker);
	}
	for (uint32_t k = 0; k < 16; k++)
		t_put(r, &c, q, k);
	worker_poll(r->worker);
	assert_int_equal(rig_count(r, STATS_DROP_REPLY_TX), 1);
	rig_balance(r);
	while (port_mem_get(r->port, a))
		;
	r->port->tx_room = 11; /* and one of which the last segment does not leave */
	q.request_id = 2;
	for (uint32_t k = 0; k < 16; k++)
		t_put(r, &c, q, k);
	worker_poll(r->worker);
	assert_int_equal(rig_count(r, STATS_DROP_REPLY_TX), 2);
	assert_int_equal(rig_count(r, STATS_REPLY_RESULT), filler);
	while (port_mem_get(r->port, a))
		;
	rig_balance(r);
}

static void a_small_request_may_have_a_large_reply_and_the_other_way_round(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	struct wire_request q = t_wide(1, 1);

	rig_session(r, &c, 0x1001, 0, false);
	q.rows = 71; /* 1,136 bytes in, 852 out */
	t_send(r, &c, q, 0);
	t_result(r, &c, 1, 71);
	q = t_wide(2, 2), q.rows = 95; /* 1,520 in, 1,140 out */
	for (uint32_t k = 0; k < 2; k++)
		t_send(r, &c, q, k);
	t_result(r, &c, 2, 95);
	assert_int_equal(rig_count(r, STATS_TX), 2);
}

#define T(f) cmocka_unit_test_setup_teardown(f, t_set_up, rig_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(every_order_of_up_to_four_segments_is_answered_once),
		T(sixteen_segments_each_way_over_ipv4_and_ipv6),
		T(duplicates_change_nothing),
		T(a_lost_segment_sent_again_completes_the_request),
		T(what_is_never_completed_is_forgotten_after_a_while_and_counted),
		T(a_million_requests_that_are_never_finished_hold_no_more_than_the_pool),
		T(the_fifth_open_request_of_a_session_costs_its_oldest),
		T(when_all_buffers_are_taken_the_oldest_request_of_all_gives_way),
		T(contradictions_are_answered_once_and_drop_the_request),
		T(the_same_segment_with_other_rows_is_another_plaintext),
		T(impossible_segments_are_answered_and_nothing_is_kept),
		T(segments_of_other_sessions_and_lanes_do_not_mix),
		T(a_completion_the_plan_has_no_room_for_computes_nothing),
		T(no_segment_is_held_without_being_charged),
		T(a_model_that_is_not_there_is_refused_at_the_first_segment),
		T(what_only_the_whole_request_shows_is_refused_at_its_end),
		T(a_reply_without_enough_buffers_is_lost_whole_and_counted),
		T(a_small_request_may_have_a_large_reply_and_the_other_way_round),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
