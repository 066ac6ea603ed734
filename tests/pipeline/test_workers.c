/* SPDX-License-Identifier: BSD-3-Clause
 * Two workers on two threads that get packets of one lane, which the one that does not own it hands over, while this thread swaps the model
 * under them or takes the lane's session from key epoch to key epoch. Made for ThreadSanitizer as much as for its asserts.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rig.h"

enum { REQUESTS = 4000, FRAME_BYTES = 160, SWAPS = 40, BURST = 8 };

struct traffic {
	struct rig *rig;
	uint32_t *answered; /* by all workers, atomic */
	uint32_t *allowed;  /* frames each may have sent so far, atomic */
	uint32_t worker;
	uint8_t (*frames)[FRAME_BYTES];
	size_t *lengths;
	uint8_t (*answers)[FRAME_BYTES];
	size_t *answer_lengths;
	uint32_t n_answers;
};

static const float sample[RIG_IN] = {1.0f, -2.0f, 0.5f, 3.0f};

static void *drive(void *arg)
{
	struct traffic *t = arg;
	struct port_mem *port = t->rig->ports[t->worker];
	struct worker *w = t->rig->workers[t->worker];
	uint8_t f[RIG_FRAME];

	/* The owner of the lane goes on until the other one's packets have been answered too. */
	for (uint32_t i = 0; __atomic_load_n(t->answered, __ATOMIC_ACQUIRE) < 2 * REQUESTS;) {
		for (uint32_t k = 0; k < BURST && i < __atomic_load_n(t->allowed, __ATOMIC_ACQUIRE); k++)
			i += port_mem_put(port, t->frames[i], t->lengths[i]);
		worker_poll(w);
		for (size_t n = port_mem_get(port, f); n; n = port_mem_get(port, f)) {
			memcpy(t->answers[t->n_answers], f, n < FRAME_BYTES ? n : FRAME_BYTES);
			t->answer_lengths[t->n_answers++] = n;
			__atomic_fetch_add(t->answered, 1, __ATOMIC_RELEASE);
		}
	}
	quiesce_leave(w->quiesce);
	return NULL;
}

static void traffic_init(struct traffic *t, struct rig *r, uint32_t worker, uint32_t *answered, uint32_t *allowed)
{
	*t = (struct traffic){.rig = r, .worker = worker, .answered = answered, .allowed = allowed};
	t->frames = calloc(REQUESTS, FRAME_BYTES);
	t->answers = calloc(2 * REQUESTS, FRAME_BYTES);
	t->lengths = calloc(REQUESTS, sizeof(*t->lengths));
	t->answer_lengths = calloc(2 * REQUESTS, sizeof(*t->answer_lengths));
}

static void traffic_uninit(struct traffic *t)
{
	free(t->frames);
	free(t->answers);
	free(t->lengths);
	free(t->answer_lengths);
}

/* Every answer is one of the two versions', and no reply counter came twice. All of an epoch, `in_epoch` answers,
 * came before the next. */
static void check_answers(const struct traffic *t, struct rig_client *c, uint8_t *seen, uint32_t in_epoch)
{
	float one[RIG_OUT], two[RIG_OUT];

	rig_expect(sample, 1.0f, one);
	rig_expect(sample, 2.0f, two);
	for (uint32_t i = 0; i < t->n_answers; i++) {
		struct rig_reply got;

		c->replies = 0;
		c->epoch = (uint8_t)(i / in_epoch);
		assert_true(rig_open(c, t->answers[i], t->answer_lengths[i], &got));
		assert_int_equal(got.head.flags, c->epoch & WIRE_FLAG_EPOCH_MASK);
		assert_int_equal(got.reply.status, WIRE_RESULT);
		assert_memory_equal(got.rows, got.reply.detail % 2 ? one : two, sizeof(one));
		assert_true(got.head.counter < 2 * REQUESTS);
		assert_int_equal(seen[got.head.counter]++, 0);
	}
}

/* One worker owns the lane and answered everything; the other handed over all it got. */
static void check_hand_over(const struct rig *r, const struct rig_client *c, const struct traffic t[2])
{
	const struct session_cell *cell = sessions_cell(r->shared.sessions, c->key_id);
	uint32_t owner = cell->lane_owner[c->lane] - 1u, other = 1 - owner;

	assert_true(owner < 2);
	assert_int_equal(t[owner].n_answers, 2 * REQUESTS);
	assert_int_equal(r->all_stats[other]->counters[STATS_HANDED_OVER], REQUESTS);
	assert_int_equal(r->all_stats[owner]->counters[STATS_TAKEN_OVER], REQUESTS);
	assert_int_equal(r->all_stats[owner]->counters[STATS_COMPLETED], 2 * REQUESTS);
}

/* Two workers, one model, one client, and traffic for each worker. */
static void set_up(struct rig *r, struct rig_client *c, struct traffic t[2], uint32_t *answered, uint32_t *allowed)
{
	rig_init(r, 2);
	rig_model(r, 0, 1, rig_artifact("alpha", 1, 1.0f, 1, 64));
	rig_session(r, c, 0x1001, 0, false);
	traffic_init(&t[0], r, 0, answered, allowed);
	traffic_init(&t[1], r, 1, answered, allowed);
}

static void swaps_under_two_workers_lose_nothing_and_repeat_no_nonce(void **state)
{
	static struct rig r;
	static uint8_t seen[2 * REQUESTS];
	struct traffic t[2];
	uint32_t answered = 0, allowed = REQUESTS;
	struct rig_client c;
	pthread_t threads[2];

	(void)state;
	set_up(&r, &c, t, &answered, &allowed);
	for (uint32_t i = 0; i < 2 * REQUESTS; i++)
		t[i % 2].lengths[i / 2] = rig_rows(&c, t[i % 2].frames[i / 2], "alpha", sample, 1);
	/* Even if one thread has finished before the other starts. */
	STATIC_ASSERT(2 * REQUESTS < (int)SESSION_WINDOW, "no genuine packet becomes too old");
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, drive, &t[i]), 0);
	for (uint64_t i = 2; i < SWAPS + 2; i++) {
		rig_model(&r, 0, i, rig_artifact("alpha", (uint32_t)i, i % 2 ? 1.0f : 2.0f, 1, 64));
		usleep(200);
	}
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	model_table_reap(&r.models);
	assert_int_equal(r.released, SWAPS - 1); /* all but previous and current */
	check_answers(&t[0], &c, seen, 2 * REQUESTS);
	check_answers(&t[1], &c, seen, 2 * REQUESTS);
	check_hand_over(&r, &c, t);
	traffic_uninit(&t[0]);
	traffic_uninit(&t[1]);
	rig_uninit(&r);
}

enum { EPOCHS = 40, IN_EPOCH = REQUESTS / EPOCHS };

/* The service thread's part of a key change, in a hurry: no packet of an older epoch is on its way. */
static void step_keys(struct rig *r)
{
	for (int i = 0; i < 2; i++)
		ratchet_take(r->shared.sessions, &r->workers[i]->promotions);
	ratchet_turn(r->shared.sessions, UINT64_MAX);
}

/* Both workers get the first packets of each epoch at the same time. */
static void epochs_step_under_two_workers_once_each(void **state)
{
	static struct rig r;
	static uint8_t seen[2 * REQUESTS];
	struct traffic t[2];
	uint32_t answered = 0, allowed = 0;
	struct rig_client c;
	pthread_t threads[2];

	(void)state;
	set_up(&r, &c, t, &answered, &allowed);
	for (uint32_t i = 0; i < 2 * REQUESTS; i++) {
		c.epoch = (uint8_t)(i / (2 * IN_EPOCH));
		t[i % 2].lengths[i / 2] = rig_rows(&c, t[i % 2].frames[i / 2], "alpha", sample, 1);
	}
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, drive, &t[i]), 0);
	for (uint32_t e = 1; e <= EPOCHS; e++) {
		__atomic_store_n(&allowed, e * IN_EPOCH, __ATOMIC_RELEASE);
		while (__atomic_load_n(&answered, __ATOMIC_ACQUIRE) < 2 * e * IN_EPOCH)
			usleep(20);
		step_keys(&r);
	}
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	check_answers(&t[0], &c, seen, 2 * IN_EPOCH);
	check_answers(&t[1], &c, seen, 2 * IN_EPOCH);
	check_hand_over(&r, &c, t);
	assert_int_equal(sessions_cell(r.shared.sessions, c.key_id)->epoch, EPOCHS - 1);
	traffic_uninit(&t[0]);
	traffic_uninit(&t[1]);
	rig_uninit(&r);
}

static void *engine_thread(void *arg)
{
	engine_run(arg);
	return NULL;
}

/* A worker hands long runs to an engine on another thread, under swaps, and answers cheap ones itself. */
static void an_engine_computes_what_the_worker_answers(void **state)
{
	enum { LONG = 200 };
	static struct rig r;
	static struct engine engine;
	static struct stats_engine stats;
	struct rig_client c;
	struct rig_reply got;
	uint8_t f[RIG_FRAME];
	float expect[2][RIG_OUT];
	pthread_t thread;
	uint32_t asked = 0, answered = 0;

	(void)state;
	rig_init(&r, 1);
	engine = (struct engine){.n_workers = 1, .slice_tsc = 1000, .stats = &stats};
	r.shared.engines = &engine;
	r.shared.n_engines = 1;
	r.models.options.n_jobs = 1;
	assert_int_equal(worker_backlog(r.worker, 1000000, 64), 0);
	r.worker->learn_shift = 32;
	rig_session(&r, &c, 0x1001, 0, false);
	rig_expect(sample, 1.0f, expect[1]);
	rig_expect(sample, 2.0f, expect[0]);
	assert_int_equal(pthread_create(&thread, NULL, engine_thread, &engine), 0);
	for (uint32_t round = 0; answered < LONG; round++) {
		size_t n;

		if (round % 64 == 0 && round / 64 < SWAPS) {
			uint32_t version = round / 64 + 1;
			const struct live_model *m;

			rig_model(&r, 0, version, rig_artifact("alpha", version, version % 2 ? 1.0f : 2.0f,
				1, 64));
			m = model_set_find(r.models.published, wire_model_id("alpha"));
			cost_flat(&m->uses[0].cost, m->run_rows, 1000000); /* said to take a millisecond */
		}
		if (asked < LONG && asked - answered < 32) {
			assert_true(port_mem_put(r.port, f, rig_rows(&c, f, "alpha", sample, 1)));
			asked++;
		}
		worker_poll(r.worker);
		while ((n = port_mem_get(r.port, f))) {
			assert_true(rig_open(&c, f, n, &got));
			assert_int_equal(got.reply.status, WIRE_RESULT);
			assert_memory_equal(got.rows, expect[got.reply.detail % 2], sizeof(expect[0]));
			answered++;
		}
		model_table_reap(&r.models);
	}
	__atomic_store_n(&engine.stop, 1, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	assert_true(stats.runs > 0);
	assert_int_equal(stats.runs, rig_count(&r, STATS_ENGINE_RUNS));
	assert_int_equal(r.stats->waiting, 0);
	rig_balance(&r);
	rig_uninit(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_engine_computes_what_the_worker_answers),
		cmocka_unit_test(swaps_under_two_workers_lose_nothing_and_repeat_no_nonce),
		cmocka_unit_test(epochs_step_under_two_workers_once_each),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
