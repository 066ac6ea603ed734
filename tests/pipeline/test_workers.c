/* SPDX-License-Identifier: BSD-3-Clause
 * Two workers on two threads that share a session and its lane, while this thread swaps the model
 * under them. Made for ThreadSanitizer as much as for its asserts.
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

	for (uint32_t i = 0; i < REQUESTS; i += BURST) {
		for (uint32_t k = i; k < i + BURST; k++)
			port_mem_put(port, t->frames[k], t->lengths[k]);
		worker_poll(w);
		for (uint32_t k = 0; k < BURST; k++) {
			size_t n = port_mem_get(port, f);

			if (!n)
				break;
			memcpy(t->answers[t->n_answers], f, n < FRAME_BYTES ? n : FRAME_BYTES);
			t->answer_lengths[t->n_answers++] = n;
		}
	}
	quiesce_leave(w->quiesce);
	return NULL;
}

static void traffic_init(struct traffic *t, struct rig *r, uint32_t worker)
{
	*t = (struct traffic){.rig = r, .worker = worker};
	t->frames = calloc(REQUESTS, FRAME_BYTES);
	t->answers = calloc(REQUESTS, FRAME_BYTES);
	t->lengths = calloc(REQUESTS, sizeof(*t->lengths));
	t->answer_lengths = calloc(REQUESTS, sizeof(*t->answer_lengths));
}

static void traffic_uninit(struct traffic *t)
{
	free(t->frames);
	free(t->answers);
	free(t->lengths);
	free(t->answer_lengths);
}

/* Every answer is one of the two versions', and no reply counter came twice. */
static void check_answers(const struct traffic *t, struct rig_client *c, uint8_t *seen)
{
	float one[RIG_OUT], two[RIG_OUT];

	rig_expect(sample, 1.0f, one);
	rig_expect(sample, 2.0f, two);
	assert_int_equal(t->n_answers, REQUESTS);
	for (uint32_t i = 0; i < t->n_answers; i++) {
		struct rig_reply got;

		c->replies = 0;
		assert_true(rig_open(c, t->answers[i], t->answer_lengths[i], &got));
		assert_int_equal(got.reply.status, WIRE_RESULT);
		assert_memory_equal(got.rows, got.reply.detail % 2 ? one : two, sizeof(one));
		assert_true(got.head.counter < 2 * REQUESTS);
		assert_int_equal(seen[got.head.counter]++, 0);
	}
}

static void swaps_under_two_workers_lose_nothing_and_repeat_no_nonce(void **state)
{
	static struct rig r;
	static uint8_t seen[2 * REQUESTS];
	struct traffic t[2];
	struct rig_client c;
	pthread_t threads[2];

	(void)state;
	rig_init(&r, 2);
	rig_model(&r, 0, 1, rig_artifact("alpha", 1, 1.0f, 1, 64));
	rig_session(&r, &c, 0x1001, 0, false);
	traffic_init(&t[0], &r, 0);
	traffic_init(&t[1], &r, 1);
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
	check_answers(&t[0], &c, seen);
	check_answers(&t[1], &c, seen);
	traffic_uninit(&t[0]);
	traffic_uninit(&t[1]);
	rig_uninit(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(swaps_under_two_workers_lose_nothing_and_repeat_no_nonce),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
