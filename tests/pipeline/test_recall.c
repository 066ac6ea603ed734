/* SPDX-License-Identifier: BSD-3-Clause
 * The response cache in the whole worker: what is answered from it is what would have been computed, is
 * charged and counted the same, goes to nobody else, is never a former version's, and does not queue.
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

static const struct mailbox_cache privately = {.memory_kb = 64}, shared = {.memory_kb = 64, .shared = true};

static void cache_on(struct rig *r, uint32_t index, struct mailbox_cache c)
{
	struct error err = {0};

	if (model_table_cache(&r->models, index, &c, &err))
		fail_msg("%s", err.text);
}

static struct stats_cache cache_stats(struct rig *r, uint32_t index)
{
	static struct stats_cache all[DP_MAX_MODELS];

	model_table_caches(&r->models, all);
	return all[index];
}

static void row_of(float row[RIG_IN], uint32_t i)
{
	for (uint32_t k = 0; k < RIG_IN; k++)
		row[k] = (float)((i * 7 + k * 3) % 97) / 16.0f;
}

/* One row; the answer must be `scale`'s. */
static void ask(struct rig *r, struct rig_client *c, const char *name, uint32_t i, float scale)
{
	uint8_t f[RIG_FRAME], a[RIG_FRAME];
	float row[RIG_IN], want[RIG_OUT];
	struct rig_reply got;

	row_of(row, i);
	rig_expect(row, scale, want);
	assert_true(rig_open(c, a, rig_exchange(r, f, rig_rows(c, f, name, row, 1), a), &got));
	assert_int_equal(got.reply.status, WIRE_RESULT);
	assert_int_equal(got.row_bytes, sizeof(want));
	assert_memory_equal(got.rows, want, sizeof(want));
	rig_balance(r);
}

static uint64_t computed(const struct rig *r)
{
	return rig_count(r, STATS_BATCHES);
}

static void what_is_asked_again_is_answered_bit_for_bit_charged_and_counted_but_not_computed(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	uint64_t units;

	rig_session(r, &c, 0x1001, 0, false);
	cache_on(r, 0, privately);
	ask(r, &c, "alpha", 1, 1.0f);
	assert_int_equal(computed(r), 1);
	units = t_units(r);
	assert_true(units > 0);
	for (uint64_t i = 2; i < 10; i++) {
		ask(r, &c, "alpha", 1, 1.0f);
		assert_int_equal(computed(r), 1);
		assert_int_equal(t_units(r), i * units);
		assert_int_equal(rig_count(r, STATS_ROWS), i);
		assert_int_equal(r->stats->models[0].requests, i);
		assert_int_equal(r->stats->models[0].rows, i);
		assert_int_equal(rig_count(r, STATS_REPLY_RESULT), i);
	}
	assert_int_equal(cache_stats(r, 0).hits, 8);
	assert_int_equal(cache_stats(r, 0).misses, 1);
	ask(r, &c, "alpha", 2, 1.0f);
	assert_int_equal(computed(r), 2);
}

static void a_model_without_a_cache_computes_every_time(void **state)
{
	struct rig *r = *state;
	struct rig_client c;

	rig_session(r, &c, 0x1001, 0, false);
	cache_on(r, 1, shared); /* another one's */
	for (uint64_t i = 1; i < 4; i++) {
		ask(r, &c, "alpha", 1, 1.0f);
		assert_int_equal(computed(r), i);
	}
	assert_int_equal(cache_stats(r, 0).bytes, 0);
}

static void nobody_hears_what_another_asked_unless_it_is_shared(void **state)
{
	struct rig *r = *state;
	struct rig_client a, a2, b;

	rig_session(r, &a, 0x1001, 0, false);
	rig_session(r, &a2, 0x1002, 0, false);
	rig_session(r, &b, 0x1003, 1, false);
	cache_on(r, 0, privately);
	ask(r, &a, "alpha", 1, 1.0f);
	ask(r, &a2, "alpha", 1, 1.0f); /* the same subscriber's other session */
	assert_int_equal(computed(r), 1);
	ask(r, &b, "alpha", 1, 1.0f);
	assert_int_equal(computed(r), 2);
	r->limits[1].generation += 2; /* the slot's next holder */
	ask(r, &b, "alpha", 1, 1.0f);
	assert_int_equal(computed(r), 3);
	cache_on(r, 0, shared);
	ask(r, &a, "alpha", 1, 1.0f); /* begins empty */
	assert_int_equal(computed(r), 4);
	ask(r, &b, "alpha", 1, 1.0f);
	assert_int_equal(computed(r), 4);
	cache_on(r, 0, privately);
	ask(r, &b, "alpha", 1, 1.0f);
	assert_int_equal(computed(r), 5);
}

static void a_swap_never_serves_a_former_versions_answer_and_a_rollback_has_its_own(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	struct error err = {0};

	rig_session(r, &c, 0x1001, 0, false);
	cache_on(r, 0, shared);
	for (uint32_t v = 2; v < 12; v++) {
		for (uint32_t i = 0; i < 20; i++)
			ask(r, &c, "alpha", i % 10, v == 2 ? 1.0f : (float)v);
		rig_model(r, 0, v, rig_artifact("alpha", v, (float)(v + 1), 1, 64));
	}
	assert_int_equal(cache_stats(r, 0).hits, 100);
	ask(r, &c, "alpha", 1, 12.0f);
	assert_int_equal(model_table_rollback(&r->models, 0, &err), 0);
	assert_int_equal(computed(r), 101);
	ask(r, &c, "alpha", 1, 11.0f);
	assert_int_equal(computed(r), 101); /* version 11 still knows */
	worker_poll(r->worker);
	model_table_reap(&r->models);
	assert_int_equal(cache_stats(r, 0).hits, 101); /* those of versions long gone too */
	assert_int_equal(cache_stats(r, 0).misses, 101);
	assert_int_equal(cache_stats(r, 0).bytes, 64 * 1024);
}

static void an_answer_older_than_its_ttl_is_computed_again(void **state)
{
	struct rig *r = *state;
	struct rig_client c;

	rig_session(r, &c, 0x1001, 0, false);
	cache_on(r, 0, (struct mailbox_cache){.memory_kb = 64, .ttl_ms = 50});
	ask(r, &c, "alpha", 1, 1.0f);
	r->port->now_ns += 49 * NS_PER_MS;
	ask(r, &c, "alpha", 1, 1.0f);
	assert_int_equal(computed(r), 1);
	r->port->now_ns += NS_PER_MS;
	ask(r, &c, "alpha", 1, 1.0f);
	assert_int_equal(computed(r), 2);
	assert_int_equal(cache_stats(r, 0).expired, 1);
}

static void of_many_rows_only_the_new_ones_are_computed(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	uint8_t f[RIG_FRAME], a[RIG_FRAME];
	float rows[32][RIG_IN], want[RIG_OUT];
	struct rig_reply got;

	rig_session(r, &c, 0x1001, 0, false);
	cache_on(r, 0, privately);
	for (uint32_t i = 0; i < 32; i += 2)
		ask(r, &c, "alpha", i, 1.0f);
	for (uint32_t round = 0; round < 2; round++) {
		for (uint32_t i = 0; i < 32; i++)
			row_of(rows[i], 31 - i);
		assert_true(rig_open(&c, a, rig_exchange(r, f, rig_rows(&c, f, "alpha", rows[0], 32), a), &got));
		assert_int_equal(got.reply.rows, 32);
		for (uint32_t i = 0; i < 32; i++) {
			rig_expect(rows[i], 1.0f, want);
			assert_memory_equal(got.rows + i * sizeof(want), want, sizeof(want));
		}
		assert_int_equal(r->stats->batch_rows[4], 1); /* one run, of 16 rows */
	}
	assert_int_equal(cache_stats(r, 0).hits, 16 + 32);
	assert_int_equal(cache_stats(r, 0).misses, 16 + 16);
	assert_int_equal(computed(r), 17);
}

static void requests_of_several_datagrams_are_remembered_row_by_row(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	struct wire_request q = t_wide(7, 4);
	uint64_t batches, units;

	rig_session(r, &c, 0x1001, 0, false);
	r->worker->keeping.store.n = 0; /* no reply store: a retry would come from there */
	cache_on(r, 1, (struct mailbox_cache){.memory_kb = 256});
	for (uint32_t k = 0; k < q.segment_count; k++)
		t_send(r, &c, q, k);
	t_result(r, &c, 7, q.rows);
	batches = computed(r);
	units = t_units(r);
	q.request_id = 8;
	for (uint32_t k = q.segment_count; k-- > 0;)
		t_send(r, &c, q, k);
	t_result(r, &c, 8, q.rows);
	assert_int_equal(computed(r), batches);
	assert_int_equal(t_units(r), 2 * units);
	q = t_wide(9, 1); /* the same rows alone */
	t_send(r, &c, q, 0);
	t_result(r, &c, 9, q.rows);
	assert_int_equal(computed(r), batches);
}

static void a_full_plan_a_bad_row_and_a_forbidden_model_are_refused_though_the_answer_is_there(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	uint8_t f[RIG_FRAME], a[RIG_FRAME];
	struct rig_reply got;
	float row[RIG_IN];

	rig_session(r, &c, 0x1001, 0, false);
	cache_on(r, 0, shared);
	ask(r, &c, "alpha", 1, 1.0f);
	row_of(row, 1);
	r->limits[0].model_mask = 2;
	assert_true(rig_open(&c, a, rig_exchange(r, f, rig_rows(&c, f, "alpha", row, 1), a), &got));
	assert_int_equal(got.reply.status, WIRE_UNKNOWN_MODEL);
	r->limits[0].model_mask = ~0ull;
	r->limits[0].interval_ticks = 0;
	assert_true(rig_open(&c, a, rig_exchange(r, f, rig_rows(&c, f, "alpha", row, 1), a), &got) == false ||
		    got.reply.status == WIRE_RATE_LIMITED);
	assert_int_equal(cache_stats(r, 0).hits, 0);
}

/* A retry within the reply store's time is free as ever, also of a request the cache answered. */
static void a_retry_is_answered_from_the_reply_store_first(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	struct wire_request q = t_wide(1, 1);
	uint64_t units;

	rig_session(r, &c, 0x1001, 0, false);
	r->worker->keeping.over_ns = 0;
	cache_on(r, 1, privately);
	t_send(r, &c, q, 0);
	t_result(r, &c, 1, q.rows);
	q.request_id = 2;
	t_send(r, &c, q, 0); /* from the cache */
	t_result(r, &c, 2, q.rows);
	assert_int_equal(computed(r), 1);
	units = t_units(r);
	t_send(r, &c, q, 0);
	t_result(r, &c, 2, q.rows);
	assert_int_equal(t_units(r) - units, 1);
	assert_int_equal(rig_count(r, STATS_REPEATED), 1);
}

/* ---- HTTPS ---- */

static void a_request_over_https_finds_what_a_datagram_asked(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	struct wire_request q = {.request_id = 5, .model_id = wire_model_id("alpha"), .dtype = WIRE_F32,
		.segment_count = 1, .rows = 1};
	struct gateway_region *g = aligned_alloc(64, sizeof(*g));
	struct gateway_slot *s = &g->slots[0];
	float row[RIG_IN], want[RIG_OUT];

	memset(g, 0, sizeof(*g));
	r->shared.gateway = g;
	rig_session(r, &c, 0x1001, 0, false);
	cache_on(r, 0, privately);
	ask(r, &c, "alpha", 1, 1.0f);
	row_of(row, 1);
	rig_expect(row, 1.0f, want);
	for (uint32_t subscriber = 0; subscriber < 2; subscriber++) {
		s->subscriber = subscriber;
		memcpy(s->request, &q, sizeof(q));
		memcpy(s->request + sizeof(q), row, sizeof(row));
		s->request_bytes = sizeof(q) + sizeof(row);
		s->state = GATEWAY_SUBMITTED;
		g->header.submitted++;
		worker_poll(r->worker);
		assert_int_equal(s->state, GATEWAY_ANSWERED);
		assert_memory_equal(s->reply + WIRE_REPLY_BYTES, want, sizeof(want));
		assert_int_equal(computed(r), 1 + subscriber); /* the other one's is computed */
	}
	r->shared.gateway = NULL;
	free(g);
}

/* ---- waiting ---- */

enum { ROW_NS = 10000, SLOW_ROW_NS = 200000, WAITING = 8, QUEUE_US = 1000 };

static void set_cost(struct rig *r, const char *name, uint32_t ns_per_row)
{
	const struct live_model *m = model_set_find(r->models.published, wire_model_id(name));

	cost_flat(&m->uses[0].cost, m->run_rows, ns_per_row);
}

static int waiting_set_up(void **state)
{
	int rc = rig_set_up(state);
	struct rig *r = *state;

	assert_int_equal(worker_backlog(r->worker, QUEUE_US, WAITING), 0);
	r->models.options.n_jobs = 1;
	rig_model(r, 0, 2, rig_artifact("alpha", 2, 1.0f, 1, 64));
	rig_model(r, 1, 3, rig_artifact("slow", 1, 2.0f, 5, 64));
	set_cost(r, "alpha", ROW_NS);
	set_cost(r, "slow", SLOW_ROW_NS);
	r->worker->learn_shift = 32;
	r->worker->backlog.step_tsc = 0;
	return rc;
}

static void put(struct rig *r, struct rig_client *c, const char *name, uint32_t i, uint32_t deadline_us)
{
	struct wire_request q = {.request_id = 1000 + c->counter, .model_id = wire_model_id(name),
		.dtype = WIRE_F32, .segment_count = 1, .rows = 1, .deadline_us = deadline_us};
	uint8_t f[RIG_FRAME];
	float row[RIG_IN];

	row_of(row, i);
	assert_true(port_mem_put(r->port, f, rig_request(c, f, &q, row, sizeof(row))));
}

/* Poll until nothing waits; results must be to row `i` by `scale`. Counts them by status. */
static void finish(struct rig *r, struct rig_client *c, uint32_t i, float scale, uint32_t by[WIRE_STATUS_END])
{
	uint8_t f[RIG_FRAME];
	float row[RIG_IN], want[RIG_OUT];
	struct rig_reply got;
	size_t n;

	row_of(row, i);
	rig_expect(row, scale, want);
	memset(by, 0, WIRE_STATUS_END * sizeof(by[0]));
	for (int k = 0; k < 10000 && (k == 0 || r->worker->backlog.engaged); k++)
		worker_poll(r->worker);
	assert_false(r->worker->backlog.engaged);
	while ((n = port_mem_get(r->port, f))) {
		assert_true(rig_open(c, f, n, &got));
		by[got.reply.status]++;
		if (got.reply.status == WIRE_RESULT)
			assert_memory_equal(got.rows, want, sizeof(want));
	}
	rig_balance(r);
}

static void a_long_run_is_remembered_and_its_answer_comes_at_once(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	uint32_t by[WIRE_STATUS_END];
	uint64_t units;

	rig_session(r, &c, 0x1001, 0, false);
	cache_on(r, 1, privately);
	put(r, &c, "slow", 1, 0);
	worker_poll(r->worker);
	assert_true(r->worker->backlog.engaged);
	finish(r, &c, 1, 2.0f, by);
	assert_int_equal(by[WIRE_RESULT], 1);
	assert_int_equal(rig_count(r, STATS_LONG_RUNS), 1);
	units = t_units(r);
	put(r, &c, "slow", 1, 50); /* computing it would take 200 us */
	worker_poll(r->worker);
	assert_false(r->worker->backlog.engaged);
	finish(r, &c, 1, 2.0f, by);
	assert_int_equal(by[WIRE_RESULT], 1);
	assert_int_equal(t_units(r), 2 * units);
	assert_int_equal(rig_count(r, STATS_QUEUED), 1);
	put(r, &c, "slow", 2, 50);
	finish(r, &c, 2, 2.0f, by);
	assert_int_equal(by[WIRE_DEADLINE_EXCEEDED], 1);
}

static void the_same_question_many_times_at_once_is_computed_once_or_twice(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	uint32_t by[WIRE_STATUS_END];

	rig_session(r, &c, 0x1001, 0, false);
	cache_on(r, 1, privately);
	for (int i = 0; i < 5; i++) {
		put(r, &c, "slow", 1, 0);
		worker_poll(r->worker); /* the first has become a job before the others come */
	}
	finish(r, &c, 1, 2.0f, by);
	assert_int_equal(by[WIRE_RESULT], 5);
	assert_true(rig_count(r, STATS_LONG_RUNS) <= 2);
}

static void a_full_queue_does_not_keep_those_out_whose_answer_is_there(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	uint32_t by[WIRE_STATUS_END];

	rig_session(r, &c, 0x1001, 0, false);
	cache_on(r, 1, privately);
	put(r, &c, "slow", 1, 0);
	finish(r, &c, 1, 2.0f, by);
	for (int i = 0; i < WAITING + 2; i++)
		put(r, &c, "alpha", 3, 0);
	for (int i = 0; i < 2 * WAITING; i++)
		put(r, &c, "slow", 100 + (uint32_t)i, 0);
	worker_poll(r->worker);
	assert_true(rig_count(r, STATS_REPLY_OVERLOADED) > 0);
	while (port_mem_get(r->port, (uint8_t[RIG_FRAME]){0}))
		;
	assert_true(r->worker->backlog.engaged);
	put(r, &c, "slow", 1, 0);
	worker_poll(r->worker);
	assert_int_equal(r->stats->models[1].requests, 2);
	for (int k = 0; k < 10000 && r->worker->backlog.engaged; k++)
		worker_poll(r->worker);
	while (port_mem_get(r->port, (uint8_t[RIG_FRAME]){0}))
		;
	rig_balance(r);
}

/* A version that left its slot is computed by, and remembers, for as long as requests wait for it. */
static void a_swap_while_requests_wait_mixes_nothing_up(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	uint32_t by[WIRE_STATUS_END];

	rig_session(r, &c, 0x1001, 0, false);
	cache_on(r, 1, shared);
	put(r, &c, "slow", 1, 0);
	worker_poll(r->worker);
	rig_model(r, 1, 9, rig_artifact("slow", 2, 3.0f, 5, 64));
	set_cost(r, "slow", SLOW_ROW_NS);
	finish(r, &c, 1, 2.0f, by); /* taken in under the first version */
	assert_int_equal(by[WIRE_RESULT], 1);
	put(r, &c, "slow", 1, 0);
	finish(r, &c, 1, 3.0f, by);
	assert_int_equal(by[WIRE_RESULT], 1);
}

/* ---- configuration ---- */

static void a_wrong_configuration_is_refused_by_name_and_changes_nothing(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	struct error err = {0};

	rig_session(r, &c, 0x1001, 0, false);
	cache_on(r, 0, privately);
	ask(r, &c, "alpha", 1, 1.0f);
	assert_int_equal(model_table_cache(&r->models, 0, &(struct mailbox_cache){.memory_kb = 1}, &err), -EINVAL);
	assert_non_null(strstr(err.text, "memory_kb"));
	assert_int_equal(model_table_cache(&r->models, 0,
		&(struct mailbox_cache){.memory_kb = MAILBOX_CACHE_MAX_KB + 1}, &err), -EINVAL);
	assert_non_null(strstr(err.text, "memory_kb"));
	assert_int_equal(model_table_cache(&r->models, 0,
		&(struct mailbox_cache){.memory_kb = 64, .ttl_ms = MAILBOX_CACHE_MAX_TTL_MS + 1}, &err), -EINVAL);
	assert_non_null(strstr(err.text, "ttl_ms"));
	assert_int_equal(model_table_cache(&r->models, DP_MAX_MODELS, &privately, &err), -ERANGE);
	ask(r, &c, "alpha", 1, 1.0f);
	assert_int_equal(computed(r), 1);
	cache_on(r, 0, privately); /* as it is: nothing happens */
	ask(r, &c, "alpha", 1, 1.0f);
	assert_int_equal(computed(r), 1);
}

static void memory_is_what_was_allowed_and_goes_with_the_cache(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	struct stats_cache s;

	rig_session(r, &c, 0x1001, 0, false);
	for (uint32_t kb = 64; kb <= 256; kb *= 2) {
		cache_on(r, 0, (struct mailbox_cache){.memory_kb = kb});
		for (uint32_t i = 0; i < 97; i++)
			ask(r, &c, "alpha", i, 1.0f);
		worker_poll(r->worker);
		model_table_reap(&r->models);
		s = cache_stats(r, 0);
		assert_int_equal(s.bytes, kb * 1024);
		assert_int_equal(s.entries, 97);
	}
	cache_on(r, 0, (struct mailbox_cache){0});
	ask(r, &c, "alpha", 1, 1.0f);
	worker_poll(r->worker);
	model_table_reap(&r->models);
	s = cache_stats(r, 0);
	assert_int_equal(s.bytes, 0);
	assert_int_equal(s.entries, 0);
	assert_int_equal(s.misses, 3 * 97); /* counters never go back */
	cache_on(r, 0, privately);
	assert_int_equal(model_table_unload(&r->models, 0, &(struct error){0}), 0);
	rig_model(r, 0, 20, rig_artifact("alpha", 3, 1.0f, 1, 64)); /* comes back with its cache */
	assert_int_equal(cache_stats(r, 0).bytes, 64 * 1024);
}

/* Two subscribers, few places, swaps and changed configurations in between: every answer is the present
 * version's. */
static void under_pressure_every_answer_is_right(void **state)
{
	struct rig *r = *state;
	struct rig_client c[2];
	float scale = 1.0f;

	rig_session(r, &c[0], 0x1001, 0, false);
	rig_session(r, &c[1], 0x1002, 1, false);
	cache_on(r, 0, (struct mailbox_cache){.memory_kb = 6, .ttl_ms = 9});
	srand(3);
	for (uint32_t t = 0; t < 20000; t++) {
		r->port->now_ns += 100000;
		ask(r, &c[rand() % 2], "alpha", (uint32_t)rand() % 97, scale);
		if (t % 500 == 499) {
			scale = (float)(1 + t % 9);
			rig_model(r, 0, 10 + t, rig_artifact("alpha", t, scale, 1, 64));
		}
		if (t % 700 == 699)
			cache_on(r, 0, (struct mailbox_cache){.memory_kb = 6 + t % 3, .ttl_ms = 9 + t % 7,
				.shared = t % 2});
		model_table_reap(&r->models);
	}
	assert_true(cache_stats(r, 0).hits > 1000);
	assert_true(cache_stats(r, 0).evicted > 1000);
	assert_true(cache_stats(r, 0).expired > 300);
	assert_int_equal(cache_stats(r, 0).hits + computed(r), 20000);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, rig_set_up, rig_tear_down)
#define WIDE(f) cmocka_unit_test_setup_teardown(f, t_set_up, rig_tear_down)
#define WAITS(f) cmocka_unit_test_setup_teardown(f, waiting_set_up, rig_tear_down)
	const struct CMUnitTest tests[] = {
		CASE(what_is_asked_again_is_answered_bit_for_bit_charged_and_counted_but_not_computed),
		CASE(a_model_without_a_cache_computes_every_time),
		CASE(nobody_hears_what_another_asked_unless_it_is_shared),
		CASE(a_swap_never_serves_a_former_versions_answer_and_a_rollback_has_its_own),
		CASE(an_answer_older_than_its_ttl_is_computed_again),
		CASE(of_many_rows_only_the_new_ones_are_computed),
		WIDE(requests_of_several_datagrams_are_remembered_row_by_row),
		CASE(a_full_plan_a_bad_row_and_a_forbidden_model_are_refused_though_the_answer_is_there),
		WIDE(a_retry_is_answered_from_the_reply_store_first),
		CASE(a_request_over_https_finds_what_a_datagram_asked),
		WAITS(a_long_run_is_remembered_and_its_answer_comes_at_once),
		WAITS(the_same_question_many_times_at_once_is_computed_once_or_twice),
		WAITS(a_full_queue_does_not_keep_those_out_whose_answer_is_there),
		WAITS(a_swap_while_requests_wait_mixes_nothing_up),
		CASE(a_wrong_configuration_is_refused_by_name_and_changes_nothing),
		CASE(memory_is_what_was_allowed_and_goes_with_the_cache),
		CASE(under_pressure_every_answer_is_right),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
