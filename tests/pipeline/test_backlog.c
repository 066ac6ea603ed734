/* SPDX-License-Identifier: BSD-3-Clause
 * A core with more to do than it can: fair shares, early refusals, bounds, runs in slices, and that nothing
 * of it outlives a swap, a session or a stop. Costs are set and hold still, so that the outcome does not
 * depend on the machine.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/clock.h"
#include "rig.h"

enum {
	ROW_NS = 10000,       /* of model alpha: two to three requests fill a turn of 25 us */
	SLOW_ROW_NS = 200000, /* of model slow: over the slice of 100 us */
	UNITS = 5,            /* of either, a row */
	QUEUE_US = 1000,
	WAITING = 96,
};

static const float sample[RIG_IN] = {1.0f, -2.0f, 0.5f, 3.0f};

static void set_cost(struct rig *r, const char *name, uint32_t ns_per_row)
{
	const struct live_model *m = model_set_find(r->models.published, wire_model_id(name));

	cost_flat(&m->uses[0].cost, m->run_rows, ns_per_row);
}

static int set_up(void **state)
{
	int rc = rig_set_up(state);
	struct rig *r = *state;

	assert_int_equal(worker_backlog(r->worker, QUEUE_US, WAITING), 0);
	r->models.options.n_jobs = 1;
	rig_model(r, 0, 2, rig_artifact("alpha", 2, 1.0f, UNITS, 64));
	rig_model(r, 1, 3, rig_artifact("slow", 1, 2.0f, UNITS, 64));
	set_cost(r, "alpha", ROW_NS);
	set_cost(r, "slow", SLOW_ROW_NS);
	r->worker->learn_shift = 32;
	r->worker->backlog.step_tsc = 0; /* the least step there is */
	return rc;
}

static void weight(struct rig *r, uint32_t subscriber, uint32_t w, uint32_t concurrent)
{
	r->limits[subscriber].flags = LIMIT_ACTIVE | w << LIMIT_WEIGHT_SHIFT |
				      concurrent << LIMIT_CONCURRENT_SHIFT;
}

static void ask(struct rig *r, struct rig_client *c, const char *model, uint32_t deadline_us)
{
	struct wire_request q = {.request_id = 1000 + c->counter, .model_id = wire_model_id(model),
		.dtype = WIRE_F32, .segment_count = 1, .rows = 1, .deadline_us = deadline_us};
	uint8_t f[RIG_FRAME];

	assert_true(port_mem_put(r->port, f, rig_request(c, f, &q, sample, sizeof(sample))));
}

/* Answers so far, by client and status; a result must be right. */
struct tally {
	struct rig_client *clients;
	uint32_t n_clients;
	uint32_t by[4][WIRE_STATUS_END];
	struct wire_reply last, refused;
};

static void collect(struct rig *r, struct tally *t)
{
	uint8_t f[RIG_FRAME];
	size_t n;

	while ((n = port_mem_get(r->port, f))) {
		uint32_t key_id;
		struct rig_reply got;

		memcpy(&key_id, f + 14 + 20 + 8 + 4, sizeof(key_id));
		for (uint32_t i = 0; i < t->n_clients; i++) {
			float expect[RIG_OUT];

			if (t->clients[i].key_id != key_id)
				continue;
			assert_true(rig_open(&t->clients[i], f, n, &got));
			t->by[i][got.reply.status]++;
			if (got.reply.status != WIRE_RESULT) {
				t->refused = got.reply;
				continue;
			}
			t->last = got.reply;
			rig_expect(sample, got.reply.model_id == wire_model_id("slow") ? 2.0f : 1.0f, expect);
			assert_memory_equal(got.rows, expect, sizeof(expect));
		}
	}
}

static void clients(struct rig *r, struct tally *t, struct rig_client c[], uint32_t n)
{
	memset(t, 0, sizeof(*t));
	for (uint32_t i = 0; i < n; i++)
		rig_session(r, &c[i], 0x1001 + i, i, false);
	t->clients = c;
	t->n_clients = n;
}

static void finish(struct rig *r, struct tally *t)
{
	for (int i = 0; i < 10000 && r->worker->backlog.engaged; i++) {
		worker_poll(r->worker);
		collect(r, t);
	}
	assert_false(r->worker->backlog.engaged);
	assert_int_equal(r->stats->waiting, 0);
}

static void shares_follow_the_plans_weights_whoever_shouts(void **state)
{
	struct rig *r = *state;
	struct rig_client c[3];
	struct tally t;
	double served[3], total = 0;
	static const uint32_t weights[] = {1, 3, 1}, shout[] = {4, 4, 16};

	rig_model(r, 2, 4, rig_artifact("beta", 1, 1.0f, 1, 64));
	set_cost(r, "beta", 2 * ROW_NS);
	clients(r, &t, c, 3);
	for (uint32_t i = 0; i < 3; i++)
		weight(r, i, weights[i], 0);
	for (int round = 0; round < 2000; round++) {
		for (uint32_t i = 0; i < 3; i++)
			for (uint32_t k = 0; k < shout[i]; k++)
				ask(r, &c[i], i == 2 ? "beta" : "alpha", 0);
		worker_poll(r->worker);
		collect(r, &t);
		r->port->now_ns += 25000;
	}
	for (int i = 0; i < 3; i++) {
		served[i] = t.by[i][WIRE_RESULT] * (i == 2 ? 2.0 : 1.0);
		total += served[i];
		assert_true(t.by[i][WIRE_OVERLOADED] > 0);
	}
	for (int i = 0; i < 3; i++)
		assert_in_range(1000 * served[i] / total, 950 * weights[i] / 5.0, 1050 * weights[i] / 5.0);
	finish(r, &t);
}

static void who_asks_little_is_always_served_and_soon(void **state)
{
	struct rig *r = *state;
	struct rig_client c[2];
	struct tally t;
	uint32_t asked = 0;

	clients(r, &t, c, 2);
	for (int round = 0; round < 1000; round++) {
		uint32_t before = t.by[1][WIRE_RESULT];
		bool asks = round % 4 == 0;

		for (int k = 0; k < 24; k++)
			ask(r, &c[0], "alpha", 0);
		if (asks)
			ask(r, &c[1], "alpha", 0);
		asked += asks;
		worker_poll(r->worker);
		collect(r, &t);
		if (asks) /* in the very poll that brought it: what waits before it is another's */
			assert_int_equal(t.by[1][WIRE_RESULT], before + 1);
	}
	finish(r, &t);
	assert_int_equal(t.by[1][WIRE_RESULT], asked);
	assert_true(t.by[0][WIRE_OVERLOADED] > t.by[0][WIRE_RESULT]);
}

/* Fill the queue until somebody is refused. */
static void fill(struct rig *r, struct rig_client *c, struct tally *t)
{
	while (!t->by[0][WIRE_OVERLOADED]) {
		for (int k = 0; k < 8; k++)
			ask(r, c, "alpha", 0);
		worker_poll(r->worker);
		collect(r, t);
	}
}

static void the_bound_is_work_and_a_refusal_costs_one_unit(void **state)
{
	struct rig *r = *state;
	struct rig_client c[1];
	struct tally t;
	uint64_t units, work_ns, polls = 0;

	clients(r, &t, c, 1);
	fill(r, c, &t);
	work_ns = r->worker->backlog.quick.work_ns;
	assert_in_range(work_ns, 700 * NS_PER_US, QUEUE_US * NS_PER_US);
	assert_int_equal(r->stats->waiting, work_ns / ROW_NS);
	units = r->limits[0].units_admitted;
	for (int k = 0; k < 24; k++)
		ask(r, c, "alpha", 0);
	memset(t.by, 0, sizeof(t.by));
	worker_poll(r->worker);
	collect(r, &t);
	assert_true(t.by[0][WIRE_OVERLOADED] >= 20);
	assert_in_range(r->limits[0].units_admitted - units, t.by[0][WIRE_OVERLOADED], 24 + 4 * (UNITS - 1));
	assert_in_range(t.refused.retry_after_us, 1, QUEUE_US);
	/* Whoever comes back when he was told to is let in. */
	for (; polls * 25 < t.refused.retry_after_us; polls++)
		worker_poll(r->worker);
	collect(r, &t);
	memset(t.by, 0, sizeof(t.by));
	ask(r, c, "alpha", 0);
	worker_poll(r->worker);
	finish(r, &t);
	assert_int_equal(t.by[0][WIRE_OVERLOADED], 0);
}

static void a_deadline_that_cannot_be_met_is_refused_at_once(void **state)
{
	struct rig *r = *state;
	struct rig_client c[2];
	struct tally t;
	uint64_t units;

	clients(r, &t, c, 2);
	fill(r, &c[0], &t);
	units = r->limits[0].units_admitted;
	memset(t.by, 0, sizeof(t.by));
	ask(r, &c[0], "alpha", 300);
	ask(r, &c[1], "alpha", 300); /* its share serves it at once */
	worker_poll(r->worker);
	collect(r, &t);
	assert_int_equal(t.by[0][WIRE_DEADLINE_EXCEEDED], 1);
	assert_int_equal(t.by[1][WIRE_RESULT], 1);
	assert_int_equal(r->limits[0].units_admitted, units + 1);
	finish(r, &t);
	memset(t.by, 0, sizeof(t.by));
	ask(r, &c[0], "slow", SLOW_ROW_NS / 1000 - 1); /* shorter than the run alone */
	ask(r, &c[0], "slow", SLOW_ROW_NS / 1000 + 1);
	worker_poll(r->worker);
	finish(r, &t);
	assert_int_equal(t.by[0][WIRE_DEADLINE_EXCEEDED], 1);
	assert_int_equal(t.by[0][WIRE_RESULT], 1);
}

static void a_deadline_that_passes_while_waiting_is_told(void **state)
{
	struct rig *r = *state;
	struct rig_client c[1];
	struct tally t;

	clients(r, &t, c, 1);
	for (int k = 0; k < 20; k++)
		ask(r, c, "alpha", 600);
	worker_poll(r->worker);
	r->port->now_ns += 600 * NS_PER_US;
	finish(r, &t);
	assert_in_range(t.by[0][WIRE_RESULT], 2, 6);
	assert_int_equal(t.by[0][WIRE_RESULT] + t.by[0][WIRE_DEADLINE_EXCEEDED], 20);
}

static void cheap_ones_are_answered_while_a_long_run_is_suspended(void **state)
{
	struct rig *r = *state;
	struct rig_client c[2];
	struct tally t;

	clients(r, &t, c, 2);
	ask(r, &c[0], "slow", 0);
	worker_poll(r->worker);
	collect(r, &t);
	assert_non_null(r->worker->backlog.job);
	assert_int_equal(t.by[0][WIRE_RESULT], 0);
	for (uint32_t k = 1; k <= 20; k++) {
		r->worker->backlog.credit_ns = -1000000; /* the slow have had more than their share */
		ask(r, &c[1], "alpha", 0);
		worker_poll(r->worker);
		collect(r, &t);
		assert_int_equal(t.by[1][WIRE_RESULT], k);
	}
	assert_int_equal(t.by[0][WIRE_RESULT], 0);
	assert_int_equal(r->stats->waiting, 1);
	finish(r, &t);
	assert_int_equal(t.by[0][WIRE_RESULT], 1);
	assert_int_equal(rig_count(r, STATS_LONG_RUNS), 1);
}

static void the_slow_get_their_share_of_a_core_that_is_never_idle(void **state)
{
	struct rig *r = *state;
	struct rig_client c[2];
	struct tally t;

	clients(r, &t, c, 2);
	for (int k = 0; k < 4; k++)
		ask(r, &c[0], "slow", 0);
	for (int round = 0; round < 1000 && !t.by[0][WIRE_RESULT]; round++) {
		for (int k = 0; k < 8; k++)
			ask(r, &c[1], "alpha", 0);
		worker_poll(r->worker);
		collect(r, &t);
	}
	assert_true(t.by[0][WIRE_RESULT] > 0);
	assert_true(t.by[1][WIRE_RESULT] > 0);
	finish(r, &t);
	assert_int_equal(t.by[0][WIRE_RESULT], 4);
}

static void a_swap_waits_for_the_suspended_run_of_the_old_version(void **state)
{
	struct rig *r = *state;
	struct rig_client c[1];
	struct tally t;

	clients(r, &t, c, 1);
	ask(r, c, "slow", 0);
	worker_poll(r->worker);
	assert_non_null(r->worker->backlog.job);
	rig_model(r, 1, 5, rig_artifact("slow", 2, 7.0f, UNITS, 64));
	rig_model(r, 1, 6, rig_artifact("slow", 3, 7.0f, UNITS, 64)); /* the first is in no slot now */
	quiesce_tick(r->worker->quiesce);
	model_table_reap(&r->models);
	assert_int_not_equal(r->released, 3);
	finish(r, &t);
	assert_int_equal(t.by[0][WIRE_RESULT], 1); /* collect() expects the old version's numbers */
	assert_int_equal(t.last.detail, 1);
	model_table_reap(&r->models);
	assert_int_equal(r->released, 3);
}

static void an_unload_waits_for_those_who_wait(void **state)
{
	struct rig *r = *state;
	struct rig_client c[1];
	struct tally t;
	struct error err = {0};

	clients(r, &t, c, 1);
	for (int k = 0; k < 12; k++)
		ask(r, c, "alpha", 0);
	worker_poll(r->worker);
	assert_true(r->stats->waiting > 0);
	assert_int_equal(model_table_unload(&r->models, 0, &err), 0);
	quiesce_tick(r->worker->quiesce);
	model_table_reap(&r->models);
	finish(r, &t);
	assert_int_equal(t.by[0][WIRE_RESULT], 12);
	model_table_reap(&r->models);
	assert_int_equal(r->released, 2);
}

static void a_session_that_ends_gets_no_answer_under_anothers_keys(void **state)
{
	struct rig *r = *state;
	struct rig_client c[2];
	struct tally t;

	clients(r, &t, c, 1);
	for (int k = 0; k < 12; k++)
		ask(r, c, "alpha", 0);
	ask(r, c, "slow", 0);
	worker_poll(r->worker);
	collect(r, &t);
	assert_int_equal(sessions_remove_begin(r->shared.sessions, c[0].slot, c[0].key_id * 10ull), 0);
	sessions_remove_finish(r->shared.sessions, c[0].slot);
	rig_session(r, &c[1], 0x1001 + RIG_CAPACITY, 1, false); /* the same cell */
	finish(r, &t);
	assert_in_range(t.by[0][WIRE_RESULT], 2, 6);
	assert_int_equal(rig_count(r, STATS_DROP_UNKNOWN_KEY), 13 - t.by[0][WIRE_RESULT]);
	assert_int_equal(r->worker->backlog.n_unused, WAITING);
}

static void a_subscriber_has_only_so_many_waiting_or_running(void **state)
{
	struct rig *r = *state;
	struct rig_client c[2];
	struct tally t;

	clients(r, &t, c, 2);
	weight(r, 0, 1, 2);
	for (int k = 0; k < 5; k++)
		ask(r, &c[0], "slow", 0);
	ask(r, &c[1], "slow", 0);
	worker_poll(r->worker);
	collect(r, &t);
	assert_int_equal(t.by[0][WIRE_OVERLOADED], 3);
	assert_in_range(t.refused.retry_after_us, 1, 10 * SLOW_ROW_NS / 1000);
	finish(r, &t);
	assert_int_equal(t.by[0][WIRE_RESULT], 2);
	assert_int_equal(t.by[1][WIRE_RESULT], 1);
	ask(r, &c[0], "slow", 0); /* they have ended: there is room again */
	worker_poll(r->worker);
	finish(r, &t);
	assert_int_equal(t.by[0][WIRE_RESULT], 3);
}

static void a_stop_answers_what_was_let_in(void **state)
{
	struct rig *r = *state;
	struct rig_client c[2];
	struct tally t;

	clients(r, &t, c, 2);
	for (int k = 0; k < 12; k++)
		ask(r, &c[0], "alpha", 0);
	for (int k = 0; k < 3; k++)
		ask(r, &c[1], "slow", 0);
	worker_poll(r->worker);
	assert_true(r->stats->waiting > 4);
	r->shared.stop = 1;
	worker_run(r->worker);
	collect(r, &t);
	assert_int_equal(t.by[0][WIRE_RESULT], 12);
	assert_int_equal(t.by[1][WIRE_RESULT], 3);
	assert_int_equal(r->stats->waiting, 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, rig_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(shares_follow_the_plans_weights_whoever_shouts),
		TEST(who_asks_little_is_always_served_and_soon),
		TEST(the_bound_is_work_and_a_refusal_costs_one_unit),
		TEST(a_deadline_that_cannot_be_met_is_refused_at_once),
		TEST(a_deadline_that_passes_while_waiting_is_told),
		TEST(cheap_ones_are_answered_while_a_long_run_is_suspended),
		TEST(the_slow_get_their_share_of_a_core_that_is_never_idle),
		TEST(a_swap_waits_for_the_suspended_run_of_the_old_version),
		TEST(an_unload_waits_for_those_who_wait),
		TEST(a_session_that_ends_gets_no_answer_under_anothers_keys),
		TEST(a_subscriber_has_only_so_many_waiting_or_running),
		TEST(a_stop_answers_what_was_let_in),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
