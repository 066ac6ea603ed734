/* SPDX-License-Identifier: BSD-3-Clause
 * The cost table: interpolation, learning towards what is measured, robustness against stolen time, and
 * measuring within a budget.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "dataplane/cost.h"

/* A model of a model: `once` a run and `each` a row. */
struct fake {
	uint64_t once, each, spent;
	uint32_t runs;
};

static uint64_t fake_run(void *ctx, uint32_t rows, uint64_t limit_ns)
{
	struct fake *f = ctx;
	uint64_t ns = f->once + rows * f->each;

	f->runs++;
	f->spent += ns < limit_ns ? ns : limit_ns;
	/* Every third one is disturbed: measuring takes the best. */
	return ns > limit_ns ? 0 : f->runs % 3 ? ns : 2 * ns;
}

static void measuring_finds_the_line_and_the_table_interpolates_it(void **state)
{
	struct fake f = {.once = 1000, .each = 50};
	struct cost_table t;

	(void)state;
	cost_measure(&t, 256, 100000000, fake_run, &f);
	for (uint32_t rows = 1; rows <= COST_ROWS_MAX; rows++)
		assert_in_range(cost_run_ns(&t, rows), 1000 + 50 * rows - 1, 1000 + 50 * rows + 1);
	assert_int_equal(cost_run_ns(&t, 300), 2 * cost_run_ns(&t, 128) + cost_run_ns(&t, 44));
	assert_in_range(cost_share_ns(&t, 1), 80, 82); /* (1000 + 32 x 50) / 32 */
	assert_in_range(cost_share_ns(&t, 10), 810, 813);
}

static void measuring_stays_within_its_budget_and_extrapolates(void **state)
{
	struct fake f = {.each = 3000000};
	struct cost_table t;

	(void)state;
	cost_measure(&t, 64, 80000000, fake_run, &f);
	assert_true(f.spent <= 2 * 80000000);
	assert_int_equal(t.top, 6);
	assert_int_equal(cost_run_ns(&t, 1), 3000000);
	assert_int_equal(cost_run_ns(&t, 2), 6000000);
	assert_int_equal(cost_run_ns(&t, 64), 64 * 3000000); /* too long to measure */
	f = (struct fake){.each = 1000000000};
	cost_measure(&t, 64, 80000000, fake_run, &f);
	assert_int_equal(cost_run_ns(&t, 1), 10000000); /* at least: the rest is learned */
}

static void learning_follows_the_runs_but_not_stolen_time(void **state)
{
	struct cost_table t;

	(void)state;
	cost_flat(&t, 128, 100);
	for (int i = 0; i < 64; i++)
		cost_observe(&t, 8, 1600, COST_LEARN_SHIFT);
	assert_in_range(cost_run_ns(&t, 8), 1590, 1610);
	assert_int_equal(cost_run_ns(&t, 4), 400); /* its own bucket only */
	cost_observe(&t, 8, 1000000000, COST_LEARN_SHIFT); /* preempted */
	assert_true(cost_run_ns(&t, 8) <= 1610 + 3 * 1610 / 8 + 1);
	for (int i = 0; i < 64; i++)
		cost_observe(&t, 8, 10, COST_LEARN_SHIFT);
	assert_true(cost_run_ns(&t, 8) <= 20);
	cost_flat(&t, 128, 1);
	for (int i = 0; i < 64; i++)
		cost_observe(&t, 1, 1000, COST_LEARN_SHIFT);
	assert_true(cost_run_ns(&t, 1) >= 900); /* also from one nanosecond upward */
	cost_observe(&t, 1, 5, 32);
	assert_true(cost_run_ns(&t, 1) >= 900); /* told to hold still */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(measuring_finds_the_line_and_the_table_interpolates_it),
		cmocka_unit_test(measuring_stays_within_its_budget_and_extrapolates),
		cmocka_unit_test(learning_follows_the_runs_but_not_stolen_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
