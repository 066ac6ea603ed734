/* SPDX-License-Identifier: BSD-3-Clause
 * Two threads at once on what workers and engines share: hand-over ring, an engine's rings, a lane's replay window. Made for
 * ThreadSanitizer (SAN=thread) as much as for the asserts: what lies behind a ring's slot is written without atomics.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "handover.h"
#include "replay.h"

enum { PACKETS = 200000, JOBS = 100000, COUNTERS = 200000, BUFFERS = 1024, BUFFER_BYTES = 64 };

/* ---- hand-over: three workers, each gives to and takes from both others ---- */

enum { WORKERS = 3 };

struct giver {
	struct handover *h;
	uint32_t self;
	uint64_t wrong, taken;
	uint8_t (*buffers)[BUFFER_BYTES]; /* BUFFERS for each taker */
};

/* Buffer k for worker `to`, filled so that the taker can tell. A ring has fewer slots than there are buffers. */
static void give(struct giver *g, uint32_t to, uint64_t k)
{
	uint8_t *b = g->buffers[to * BUFFERS + k % BUFFERS];
	struct handed e = {.buffer = b, .data = b, .bytes = BUFFER_BYTES, .session_id = k};

	memset(b, (int)(k % 251), BUFFER_BYTES);
	while (!handover_put(g->h, g->self, to, &e)) {
		struct handed mine;

		/* Both full and both waiting for each other would be a deadlock: workers drop instead, this takes. */
		sched_yield();
		for (uint32_t from = 0; from < WORKERS; from++)
			while (from != g->self && handover_get(g->h, from, g->self, &mine)) {
				g->wrong += mine.data[0] != mine.session_id % 251 ||
					    mine.data[BUFFER_BYTES - 1] != mine.session_id % 251;
				g->taken++;
			}
	}
}

static void *give_and_take(void *arg)
{
	struct giver *g = arg;
	struct handed e;

	for (uint64_t k = 0; k < PACKETS / WORKERS; k++)
		for (uint32_t to = 0; to < WORKERS; to++)
			if (to != g->self)
				give(g, to, k);
	while (g->taken < (WORKERS - 1) * (uint64_t)(PACKETS / WORKERS))
		for (uint32_t from = 0; from < WORKERS; from++) {
			if (from == g->self || !handover_get(g->h, from, g->self, &e))
				continue;
			g->wrong += e.data[0] != e.session_id % 251 || e.bytes != BUFFER_BYTES;
			g->taken++;
		}
	return NULL;
}

static void what_is_handed_over_arrives_once_and_whole(void **state)
{
	struct giver g[WORKERS];
	pthread_t t[WORKERS];
	struct handover *h;

	(void)state;
	assert_int_equal(handover_init(&h, WORKERS), 0);
	for (uint32_t i = 0; i < WORKERS; i++) {
		g[i] = (struct giver){.h = h, .self = i, .buffers = calloc(WORKERS * BUFFERS, BUFFER_BYTES)};
		assert_int_equal(pthread_create(&t[i], NULL, give_and_take, &g[i]), 0);
	}
	for (uint32_t i = 0; i < WORKERS; i++) {
		pthread_join(t[i], NULL);
		assert_int_equal(g[i].wrong, 0);
		assert_int_equal(g[i].taken, (WORKERS - 1) * (PACKETS / WORKERS));
	}
	for (uint32_t i = 0; i < WORKERS; i++)
		free(g[i].buffers);
	handover_uninit(h);
}

/* ---- engine: a worker's jobs go there and come back ---- */

struct bench {
	struct engine_ring in, out;
	uint64_t wrong;
};

/* What an engine does with a job, without a model. */
static void *serve(void *arg)
{
	struct bench *b = arg;

	for (uint32_t done = 0; done < JOBS;) {
		struct job *j = engine_get(&b->in);

		if (!j) {
			sched_yield();
			continue;
		}
		b->wrong += j->parts[0].n_rows != (uint16_t)j->cost_ns;
		memset(j->reply[0], (int)(j->cost_ns % 251), sizeof(j->reply[0]));
		j->runs++;
		b->wrong += !engine_put(&b->out, j);
		done++;
	}
	return NULL;
}

static void a_job_is_one_threads_at_a_time(void **state)
{
	struct bench *b = aligned_alloc(64, (sizeof(*b) + 63) & ~(size_t)63);
	struct job *jobs = aligned_alloc(64, ENGINE_JOBS * sizeof(*jobs));
	struct job *idle[ENGINE_JOBS];
	uint32_t n_idle = ENGINE_JOBS, sent = 0, back = 0;
	pthread_t t;

	(void)state;
	memset(b, 0, sizeof(*b));
	memset(jobs, 0, ENGINE_JOBS * sizeof(*jobs));
	for (uint32_t i = 0; i < ENGINE_JOBS; i++)
		idle[i] = &jobs[i];
	assert_int_equal(pthread_create(&t, NULL, serve, b), 0);
	while (back < JOBS) {
		struct job *j = engine_get(&b->out);

		if (j) {
			assert_int_equal(j->runs, 1);
			assert_int_equal(j->reply[0][sizeof(j->reply[0]) - 1], j->cost_ns % 251);
			idle[n_idle++] = j;
			back++;
		} else if (n_idle && sent < JOBS) {
			j = idle[--n_idle];
			j->runs = 0;
			j->cost_ns = sent;
			j->parts[0].n_rows = (uint16_t)sent++;
			assert_true(engine_put(&b->in, j));
		} else {
			sched_yield();
		}
	}
	pthread_join(t, NULL);
	assert_int_equal(b->wrong, 0);
	free(jobs);
	free(b);
}

/* ---- replay window: its owner accepts, another worker looks first ---- */

struct onlooker {
	struct session_lane *lane;
	uint64_t done; /* atomic: every counter below has been accepted */
	uint32_t stop;
	uint64_t wrong;
};

/* A look may be too strict while the owner moves the window, but never too lax. */
static void *look(void *arg)
{
	struct onlooker *o = arg;

	for (uint64_t i = 0; !__atomic_load_n(&o->stop, __ATOMIC_ACQUIRE); i++) {
		uint64_t done = __atomic_load_n(&o->done, __ATOMIC_ACQUIRE);

		if (done > i % 256)
			o->wrong += replay_check(o->lane, done - 1 - i % 256);
	}
	return NULL;
}

static void a_counter_is_accepted_once_while_others_look(void **state)
{
	struct session_lane *lane = aligned_alloc(64, sizeof(*lane));
	struct onlooker o = {.lane = lane};
	uint64_t accepted = 0;
	pthread_t t;

	(void)state;
	memset(lane, 0, sizeof(*lane));
	assert_int_equal(pthread_create(&t, NULL, look, &o), 0);
	/* Forwards, every third one late, and everything tried twice. */
	for (uint64_t i = 0; i < COUNTERS; i++) {
		uint64_t counter = i % 3 == 2 ? i - 2 : i + 1;

		for (int tries = 0; tries < 2; tries++)
			accepted += replay_accept(lane, counter);
		if (i % 3 == 2)
			__atomic_store_n(&o.done, i + 1, __ATOMIC_RELEASE);
	}
	__atomic_store_n(&o.stop, 1, __ATOMIC_RELEASE);
	pthread_join(t, NULL);
	assert_int_equal(accepted, COUNTERS);
	assert_int_equal(o.wrong, 0);
	free(lane);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_handed_over_arrives_once_and_whole),
		cmocka_unit_test(a_job_is_one_threads_at_a_time),
		cmocka_unit_test(a_counter_is_accepted_once_while_others_look),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
