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

static void *ring_when_asleep(void *arg)
{
	struct doze *d = arg;

	doze_ring(d, true); /* awake: nothing happens, nothing is left behind */
	while (!__atomic_load_n(&d->asleep, __ATOMIC_SEQ_CST))
		;
	usleep(500);
	doze_ring(d, true);
	return NULL;
}

static void a_ring_wakes_it_and_measures_how_long_that_took(void **state)
{
	struct doze d = {0};
	uint64_t woke = 0, took;
	pthread_t thread;
	int pipes[2];

	(void)state;
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(doze_init(&d, pipes[0], true), 0);
	assert_int_equal(pthread_create(&thread, NULL, ring_when_asleep, &d), 0);
	for (int i = 0; i < 100 && !woke; i++) /* on a busy machine the thread may come late */
		took = sleep_once(&d, &woke);
	pthread_join(thread, NULL);
	assert_in_range(woke, 1, took);
	assert_true(sleep_once(&d, &woke) >= DOZE_SLEEP_US * NS_PER_US); /* and it was taken */
	doze_uninit(&d);
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
