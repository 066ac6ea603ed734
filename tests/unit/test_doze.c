/* SPDX-License-Identifier: BSD-3-Clause
 * Sleep of idle workers: whatever may wake one does, soon, and the time it took is what passed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "dataplane/doze.h"

static uint64_t sleep_once(struct doze *d, uint64_t *woke_after_ns)
{
	uint64_t begin_ns = clock_now_ns();

	*woke_after_ns = doze_sleep(d);
	return clock_now_ns() - begin_ns;
}

static void nothing_wakes_it_but_the_time(void **state)
{
	struct doze d = {0};
	uint64_t woke;
	int pipes[2];

	(void)state;
	assert_int_equal(doze_init(&d, -1, true), 0);
	assert_true(sleep_once(&d, &woke) >= DOZE_NAP_US * NS_PER_US);
	assert_int_equal(woke, 0);
	doze_uninit(&d);
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(doze_init(&d, pipes[0], true), 0);
	assert_true(sleep_once(&d, &woke) >= DOZE_SLEEP_US * NS_PER_US);
	assert_int_equal(write(pipes[1], "x", 1), 1); /* a frame has arrived */
	assert_true(sleep_once(&d, &woke) < DOZE_SLEEP_US * NS_PER_US);
	assert_int_equal(woke, 0); /* nobody rang */
	doze_uninit(&d);
	close(pipes[0]);
	close(pipes[1]);
}

struct ringer {
	struct doze doze;
	uint32_t stop; /* atomic */
};

static void *ring_when_asleep(void *arg)
{
	struct ringer *r = arg;

	doze_ring(&r->doze, true); /* awake: nothing happens, nothing is left behind */
	while (!__atomic_load_n(&r->stop, __ATOMIC_RELAXED)) {
		if (!__atomic_load_n(&r->doze.asleep, __ATOMIC_SEQ_CST))
			continue;
		usleep(100);
		doze_ring(&r->doze, true);
	}
	return NULL;
}

static void a_ring_wakes_it_and_measures_how_long_that_took(void **state)
{
	struct ringer r = {0};
	uint64_t woke = 0, took = 0;
	pthread_t thread;
	int pipes[2];

	(void)state;
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(doze_init(&r.doze, pipes[0], true), 0);
	assert_int_equal(pthread_create(&thread, NULL, ring_when_asleep, &r), 0);
	while (!woke) /* on a busy machine the thread may come late */
		took = sleep_once(&r.doze, &woke);
	__atomic_store_n(&r.stop, 1, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	assert_in_range(woke, 1, took);
	sleep_once(&r.doze, &woke); /* a last ring may be left; then there is none */
	assert_true(sleep_once(&r.doze, &woke) >= DOZE_SLEEP_US * NS_PER_US);
	doze_uninit(&r.doze);
	close(pipes[0]);
	close(pipes[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_wakes_it_but_the_time),
		cmocka_unit_test(a_ring_wakes_it_and_measures_how_long_that_took),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
