/* SPDX-License-Identifier: BSD-3-Clause
 * The replay window against a table of cases in the manner of WireGuard's counter self-test, a slow
 * model, and a crash between any two stores.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/replay.h"
#include "dataplane/send_counter.h"

#define LIM ((uint64_t)SESSION_WINDOW)
#define END REPLAY_COUNTER_END

static const struct {
	uint64_t counter;
	bool accepted;
} table[] = {
	{0, true},
	{1, true},
	{1, false},
	{9, true},
	{8, true},
	{7, true},
	{7, false},
	{LIM, true},
	{LIM - 1, true},
	{LIM - 1, false},
	{LIM - 2, true},
	{2, true},
	{2, false},
	{LIM + 16, true},
	{3, false},
	{LIM + 16, false},
	{LIM * 4, true},
	{LIM * 4 - (LIM - 1), true},
	{10, false},
	{LIM * 4 - LIM, false},
	{LIM * 4 - (LIM + 1), false},
	{LIM * 4 - (LIM - 2), true},
	{LIM * 4 + 1 - LIM, false},
	{0, false},
	{END, false},
	{END - 1, true},
	{END, false},
	{END - 1, false},
	{END - 2, true},
	{END + 1, false},
	{END + 2, false},
	{END - 2, false},
	{END - 3, true},
	{0, false},
	{UINT64_MAX, false},
};

static void counters_are_accepted_as_in_the_table(void **state)
{
	struct session_lane lane = {0};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (replay_accept(&lane, table[i].counter) != table[i].accepted)
			fail_msg("case %zu: counter %lu", i, (unsigned long)table[i].counter);
}

static void a_descending_run_fills_the_whole_window_once(void **state)
{
	struct session_lane lane = {0};

	(void)state;
	assert_true(replay_accept(&lane, LIM));
	for (uint64_t c = LIM - 1; c >= 1; c--)
		assert_true(replay_accept(&lane, c));
	for (uint64_t c = 1; c <= LIM; c++)
		assert_false(replay_accept(&lane, c));
	assert_false(replay_accept(&lane, 0)); /* one past the window */
}

static uint64_t random_step(uint64_t *at)
{
	uint32_t kind = (uint32_t)rand() % 16;

	if (kind == 0)
		*at += (uint64_t)rand() % 20000;
	else if (kind < 8)
		*at += 1;
	return *at > 9000 ? *at - (uint64_t)rand() % 9000 : *at;
}

static void random_traffic_matches_a_list_of_everything_seen(void **state)
{
	static uint8_t seen[1 << 24];
	struct session_lane lane = {0};
	uint64_t at = 0, highest = 0;

	(void)state;
	srand(1);
	for (int i = 0; i < 200000 && at < sizeof(seen) - 30000; i++) {
		uint64_t c = random_step(&at);
		bool expect = !seen[c] && (c >= highest || highest - c <= LIM);

		assert_int_equal(replay_check(&lane, c), expect);
		assert_int_equal(replay_accept(&lane, c), expect);
		seen[c] |= expect;
		if (expect && c >= highest)
			highest = c + 1;
	}
}

/* The stores of replay_accept() in their order; a crash keeps a prefix of them. */
static void a_crash_between_any_two_stores_never_accepts_twice(void **state)
{
	static const uint64_t jumps[] = {1, 63, 64, 65, 128, 4000, 8128, 8192, 20000};

	(void)state;
	for (size_t j = 0; j < sizeof(jumps) / sizeof(jumps[0]); j++) {
		uint64_t from = 9000, to = from + jumps[j];
		uint64_t words = to / 64 - from / 64;

		words = words > SESSION_WINDOW_WORDS ? SESSION_WINDOW_WORDS : words;
		for (uint64_t kept = 0; kept <= words + 1; kept++) {
			struct session_lane lane = {0};

			for (uint64_t c = 0; c <= from; c++)
				replay_accept(&lane, c);
			if (kept >= 1)
				lane.highest = to + 1;
			for (uint64_t i = 0; i + 1 < kept; i++)
				lane.bits[(to / 64 - i) % SESSION_WINDOW_WORDS] = 0;
			for (uint64_t c = 0; c <= from; c++)
				assert_false(replay_check(&lane, c));
		}
	}
}

static void a_send_counter_is_published_before_it_is_used(void **state)
{
	struct session_lane lane = {0};

	(void)state;
	send_counter_attach(&lane);
	for (uint64_t i = 0; i < 3ull * SESSION_RESERVE; i++) {
		assert_int_equal(send_counter_take(&lane), i);
		assert_true(lane.send_limit > i && lane.send_limit - i <= SESSION_RESERVE);
	}
	send_counter_take(&lane);
	send_counter_attach(&lane); /* the next dataplane */
	assert_int_equal(send_counter_take(&lane), 4ull * SESSION_RESERVE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(counters_are_accepted_as_in_the_table),
		cmocka_unit_test(a_descending_run_fills_the_whole_window_once),
		cmocka_unit_test(random_traffic_matches_a_list_of_everything_seen),
		cmocka_unit_test(a_crash_between_any_two_stores_never_accepts_twice),
		cmocka_unit_test(a_send_counter_is_published_before_it_is_used),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
