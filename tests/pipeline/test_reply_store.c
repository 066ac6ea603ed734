/* SPDX-License-Identifier: BSD-3-Clause
 * Retries: answered from the store for one unit, refused when the text differs, computed again when the
 * reply is gone; and the store itself against a list that a child could check.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "rig_wide.h"

static void keep_everything(struct rig *r)
{
	r->worker->keeping.over_ns = 0;
}

static void t_all(struct rig *r, struct rig_client *c, struct wire_request q)
{
	for (uint32_t k = 0; k < q.segment_count; k++)
		t_send(r, c, q, k);
}

static void the_first_segment_alone_fetches_the_whole_reply_again(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	struct wire_request q = t_wide(7, 16);
	uint64_t before;

	rig_session(r, &c, 0x1001, 0, false);
	t_all(r, &c, q);
	t_result(r, &c, 7, q.rows);
	for (int i = 0; i < 3; i++) {
		before = t_units(r);
		t_send(r, &c, q, 0);
		t_result(r, &c, 7, q.rows);
		assert_int_equal(t_units(r) - before, 1);
	}
	assert_int_equal(rig_count(r, STATS_BATCHES), 5); /* 1,144 rows in runs of 256, once */
	assert_int_equal(rig_count(r, STATS_REPEATED), 3);
	assert_int_equal(rig_count(r, STATS_REPLY_RESULT), 4);
}

static void a_whole_retry_brings_one_reply_and_costs_a_unit_a_segment(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	struct wire_request q = t_wide(7, 4);
	uint64_t before;

	rig_session(r, &c, 0x1001, 0, false);
	t_all(r, &c, q);
	t_result(r, &c, 7, q.rows);
	before = t_units(r);
	for (uint32_t k = 4; k-- > 0;)
		t_put(r, &c, q, k);
	worker_poll(r->worker);
	t_result(r, &c, 7, q.rows);
	assert_int_equal(t_units(r) - before, 4);
	assert_int_equal(rig_count(r, STATS_DROP_SEGMENT), 3);
	assert_int_equal(r->worker->segments.open.n, 0);
}

static void the_same_id_with_another_text_is_refused(void **state)
{
	struct rig *r = *state;
	struct rig_client c, d;
	struct wire_request q = t_wide(7, 4);

	rig_session(r, &c, 0x1001, 0, false);
	rig_session(r, &d, 0x1002, 0, false);
	t_all(r, &c, q);
	t_result(r, &c, 7, q.rows);
	for (uint32_t k = 0; k < 4; k++) {
		t_rows[k * SEGMENT_ROWS + 5][1] += 1;
		t_send(r, &c, q, k);
		t_status(r, &c, WIRE_BAD_REQUEST, WIRE_REASON_OTHER_TEXT);
		t_rows[k * SEGMENT_ROWS + 5][1] -= 1;
	}
	q.deadline_us = 9;
	t_send(r, &c, q, 0);
	t_status(r, &c, WIRE_BAD_REQUEST, WIRE_REASON_OTHER_TEXT);
	keep_everything(r); /* else a request of one datagram is not looked for */
	t_send(r, &c, t_wide(7, 1), 0);
	t_status(r, &c, WIRE_BAD_REQUEST, WIRE_REASON_OTHER_TEXT);
	t_all(r, &d, t_wide(7, 3)); /* another session's 7 is another request */
	t_result(r, &d, 7, t_rows_of(3));
	assert_int_equal(rig_count(r, STATS_REPEATED), 0);
}

static void dear_models_replies_are_kept_and_cheap_ones_are_not(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	struct wire_request q = t_wide(1, 1);
	uint64_t before, both = 2 * (uint64_t)q.rows * WIDE_COST;

	rig_session(r, &c, 0x1001, 0, false);
	for (int i = 0; i < 2; i++) { /* cheaper than a second: computed and charged again */
		t_send(r, &c, q, 0);
		t_result(r, &c, 1, q.rows);
	}
	assert_int_equal(t_units(r), both);
	keep_everything(r);
	for (q.request_id = 2; q.request_id < 20; q.request_id++)
		t_send(r, &c, q, 0);
	while (port_mem_get(r->port, (uint8_t[RIG_FRAME]){0}))
		;
	q.request_id = 19;
	before = t_units(r);
	t_send(r, &c, q, 0);
	t_result(r, &c, 19, q.rows);
	assert_int_equal(t_units(r) - before, 1);
	t_rows[0][0] += 1;
	t_send(r, &c, q, 0);
	t_status(r, &c, WIRE_BAD_REQUEST, WIRE_REASON_OTHER_TEXT);
	assert_int_equal(rig_count(r, STATS_REPEATED), 1);
}

static void two_of_the_same_in_one_burst_are_both_answered(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	struct wire_request q = t_wide(1, 1);
	uint8_t a[RIG_FRAME];

	rig_session(r, &c, 0x1001, 0, false);
	keep_everything(r);
	t_put(r, &c, q, 0);
	t_put(r, &c, q, 0);
	worker_poll(r->worker);
	assert_true(port_mem_get(r->port, a) > 0);
	t_result(r, &c, 1, q.rows);
	assert_int_equal(r->worker->keeping.store.entries[0].blocks, r->worker->keeping.store.n_used);
}

static void a_retry_over_the_plan_is_put_off_like_anything_else(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	struct wire_request q = t_wide(7, 2);

	rig_session(r, &c, 0x1001, 0, false);
	t_all(r, &c, q);
	t_result(r, &c, 7, q.rows);
	r->limits[0].interval_ticks = 0;
	t_send(r, &c, q, 0);
	assert_int_equal(rig_count(r, STATS_REPEATED), 0);
	assert_int_equal(rig_count(r, STATS_DROP_SHOUTING), 1);
	r->limits[0].interval_ticks = 1;
	t_send(r, &c, q, 0);
	t_result(r, &c, 7, q.rows);
}

static void a_kept_reply_outlives_its_model_version_but_not_its_dataplane(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	struct wire_request q = t_wide(7, 2);
	struct wire_reply head;
	static float out[WIDE_ROWS * RIG_OUT];

	rig_session(r, &c, 0x1001, 0, false);
	t_all(r, &c, q);
	t_result(r, &c, 7, q.rows);
	rig_model(r, 1, 3, rig_artifact("wide", 2, 3.0f, WIDE_COST, WIDE_ROWS));
	t_send(r, &c, q, 0);
	assert_true(t_take(r, &c, &head, out));
	assert_int_equal(head.detail, 1); /* what the first version said */
	rig_balance(r);
	rig_crash(r);
	rig_model(r, 1, 3, rig_artifact("wide", 2, 3.0f, WIDE_COST, WIDE_ROWS));
	t_send(r, &c, q, 0);
	t_silence(r);
	t_send(r, &c, q, 1);
	assert_true(t_take(r, &c, &head, out));
	assert_int_equal(head.detail, 2); /* computed, and charged, again */
}

static void a_full_store_forgets_the_oldest_and_counts_what_was_early(void **state)
{
	struct rig *r = *state;
	struct rig_client c[40];
	const struct reply_store *s = &r->worker->keeping.store;
	uint32_t each = s->n / STORE_SHARES; /* one block a reply */
	uint64_t before, i = 0;

	for (uint32_t k = 0; k < 40; k++)
		rig_session(r, &c[k], 0x1001 + k, 0, false);
	keep_everything(r);
	for (; s->n_used < s->n; i++) {
		r->port->now_ns += NS_PER_MS;
		t_send(r, &c[i / each], (struct wire_request){.request_id = i + 1, .segment_count = 1,
			.model_id = wire_model_id("wide"), .dtype = WIRE_F32, .rows = 1}, 0);
		port_mem_get(r->port, (uint8_t[RIG_FRAME]){0});
	}
	assert_int_equal(rig_count(r, STATS_STORE_EVICTED), 0);
	assert_int_equal(r->stats->store_used_bytes, s->n * (uint64_t)STORE_BLOCK_BYTES);
	t_send(r, &c[20], t_wide(1000000, 1), 0); /* four blocks: four of the oldest go */
	t_result(r, &c[20], 1000000, t_rows_of(1));
	assert_int_equal(rig_count(r, STATS_STORE_EVICTED), 4);
	assert_int_equal(rig_count(r, STATS_STORE_EARLY), 0); /* 1.4 s old */
	before = t_units(r);
	for (uint64_t id = 1; id <= 5; id++) {
		t_send(r, &c[0], (struct wire_request){.request_id = id, .segment_count = 1,
			.model_id = wire_model_id("wide"), .dtype = WIRE_F32, .rows = 1}, 0);
		t_result(r, &c[0], id, 1);
	}
	/* Each of the four, computed again, has the next oldest evicted: so is the fifth. */
	assert_int_equal(t_units(r) - before, 5 * WIDE_COST);
}

static void who_holds_his_share_evicts_himself(void **state)
{
	struct rig *r = *state;
	struct rig_client hog, small;
	const struct reply_store *s = &r->worker->keeping.store;
	struct wire_request q = {.request_id = 1, .segment_count = 1, .model_id = wire_model_id("wide"),
		.dtype = WIRE_F32, .rows = 1};

	rig_session(r, &hog, 0x1001, 0, false);
	rig_session(r, &small, 0x1002, 0, false);
	keep_everything(r);
	t_send(r, &small, q, 0);
	t_result(r, &small, 1, 1);
	for (uint32_t i = 0; i < 3 * s->n; i++, q.request_id++) {
		t_send(r, &hog, q, 0);
		port_mem_get(r->port, (uint8_t[RIG_FRAME]){0});
	}
	assert_true(rig_count(r, STATS_STORE_EVICTED) > 2 * s->n);
	assert_int_equal(rig_count(r, STATS_STORE_EARLY), rig_count(r, STATS_STORE_EVICTED));
	q.request_id = 1;
	t_send(r, &small, q, 0);
	t_result(r, &small, 1, 1);
	assert_int_equal(rig_count(r, STATS_REPEATED), 1);
}

/* ---- the store against a plain list ---- */

enum { REFERENCE = 5000, SESSIONS = 12, IDS = 300 };

struct known {
	uint64_t session_id, request_id, since_ns;
	uint32_t seed;
};

static void fill(uint8_t *rows, uint32_t n, uint32_t seed)
{
	for (uint32_t i = 0; i < n; i++)
		rows[i] = (uint8_t)(seed * 31 + i * 7 + (i >> 8));
}

static void check_known(const struct reply_store *s, const struct known *k)
{
	const struct store_entry *e = reply_store_find(s, k->session_id, k->request_id);
	uint8_t want[WIRE_MAX_SEGMENTS * WIRE_SEGMENT_ROW_BYTES], got[sizeof(want)];

	if (!e || e->since_ns != k->since_ns)
		return; /* evicted, or put again since */
	fill(want, e->row_bytes, k->seed);
	reply_store_rows(s, e, got);
	assert_memory_equal(got, want, e->row_bytes);
	for (uint32_t i = 0; i < e->segments; i++)
		assert_true(reply_store_matches(s, e, i, e->segments, k->seed + i * 1000ull));
	assert_false(reply_store_matches(s, e, 0, e->segments, k->seed + 1ull));
	assert_false(reply_store_matches(s, e, 0, e->segments + 1u, k->seed));
	assert_false(reply_store_matches(s, e, e->segments, e->segments, k->seed));
}

/* Blocks in use, and the longest walk by age, agree. */
static void check_sums(const struct reply_store *s)
{
	uint32_t blocks = 0, entries = 0, unused = 0;

	for (uint32_t i = s->oldest; i; i = s->entries[i - 1].younger, entries++) {
		const struct store_entry *e = &s->entries[i - 1];
		uint32_t chain = 0;

		for (uint32_t b = e->block; b; b = s->next_block[b - 1])
			chain++;
		assert_int_equal(chain, e->blocks);
		blocks += chain;
	}
	for (uint32_t b = s->unused_block; b; b = s->next_block[b - 1])
		unused++;
	assert_int_equal(blocks, s->n_used);
	assert_int_equal(blocks + unused, s->n);
	for (uint32_t i = s->unused_entry; i; i = s->entries[i - 1].next)
		entries++;
	assert_int_equal(entries, s->n);
}

static void whatever_is_put_comes_back_or_is_gone(void **state)
{
	static struct known known[REFERENCE];
	struct reply_store s;
	uint8_t rows[WIRE_MAX_SEGMENTS * WIRE_SEGMENT_ROW_BYTES];
	uint64_t hashes[WIRE_MAX_SEGMENTS], now = NS_PER_S;

	(void)state;
	srand(11);
	assert_int_equal(reply_store_init(&s, STORE_MIN_KB - 1), -EINVAL);
	assert_int_equal(reply_store_init(&s, STORE_MIN_KB), 0);
	for (uint32_t i = 0; i < REFERENCE; i++) {
		struct known *k = &known[i];
		struct stored_reply reply = {.segments = (uint8_t)(1 + rand() % WIRE_MAX_SEGMENTS),
			.row_bytes = (uint16_t)(rand() % (int)(rand() % 4 ? 300 : sizeof(rows) + 1))};

		now += (uint64_t)rand() % (20 * NS_PER_MS);
		if (rand() % 50 == 0)
			now += NS_PER_S;
		*k = (struct known){1 + (uint64_t)rand() % SESSIONS, (uint64_t)rand() % IDS, now, i};
		reply.session_id = k->session_id;
		reply.request_id = k->request_id;
		for (uint32_t h = 0; h < reply.segments; h++)
			hashes[h] = i + h * 1000ull;
		fill(rows, reply.row_bytes, i);
		reply_store_expire(&s, now);
		reply_store_put(&s, &reply, hashes, rows, now);
		assert_non_null(reply_store_find(&s, k->session_id, k->request_id));
		for (uint32_t back = 0; back < 20 && back <= i; back++)
			check_known(&s, &known[i - back * (i / 20)]);
		check_known(&s, k);
		if (i % 16 == 0)
			check_sums(&s);
	}
	assert_true(s.evicted > 0);
	reply_store_expire(&s, now + STORE_KEEP_S * NS_PER_S);
	assert_int_equal(s.n_used, 0);
	check_sums(&s);
	reply_store_uninit(&s);
}

static void the_hash_sees_every_byte_and_the_length(void **state)
{
	struct rig *r = *state;
	const struct text_hash *h = &r->worker->keeping.hash;
	struct wire_request q = t_wide(1, 1);
	uint8_t rows[200] = {0};
	uint64_t plain = text_hash(h, &q, rows, 100);

	assert_true(text_hash(h, &q, rows, 101) != plain); /* zeros more */
	assert_true(text_hash(h, &q, rows, 0) != plain);
	for (uint32_t i = 0; i < 100; i++) {
		rows[i] ^= 1;
		assert_true(text_hash(h, &q, rows, 100) != plain);
		rows[i] ^= 1;
	}
	for (uint32_t i = 0; i < sizeof(q); i++) {
		((uint8_t *)&q)[i] ^= 0x80;
		assert_true(text_hash(h, &q, rows, 100) != plain);
		((uint8_t *)&q)[i] ^= 0x80;
	}
	assert_true(text_hash(h, &q, rows, 100) == plain);
}

#define T(f) cmocka_unit_test_setup_teardown(f, t_set_up, rig_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(the_first_segment_alone_fetches_the_whole_reply_again),
		T(a_whole_retry_brings_one_reply_and_costs_a_unit_a_segment),
		T(the_same_id_with_another_text_is_refused),
		T(dear_models_replies_are_kept_and_cheap_ones_are_not),
		T(two_of_the_same_in_one_burst_are_both_answered),
		T(a_retry_over_the_plan_is_put_off_like_anything_else),
		T(a_kept_reply_outlives_its_model_version_but_not_its_dataplane),
		T(a_full_store_forgets_the_oldest_and_counts_what_was_early),
		T(who_holds_his_share_evicts_himself),
		cmocka_unit_test(whatever_is_put_comes_back_or_is_gone),
		T(the_hash_sees_every_byte_and_the_length),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
