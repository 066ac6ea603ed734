/* SPDX-License-Identifier: BSD-3-Clause
 * Histogram buckets and percentiles against exact percentiles of the sorted values.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <math.h>
#include <cmocka.h>

#include "abi/stats.h"
#include "base/histogram.h"

enum { VALUES = 20000 };

STATIC_ASSERT((int)HISTOGRAM_BUCKETS == (int)STATS_HISTOGRAM_BUCKETS, "the region holds one");

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void every_value_lies_in_the_bucket_whose_end_bounds_it(void **state)
{
	(void)state;
	for (uint32_t b = 0; b + 1 < HISTOGRAM_BUCKETS; b++) {
		uint64_t end = histogram_bucket_end(b);

		assert_int_equal(histogram_bucket(end), b);
		assert_int_equal(histogram_bucket(end + 1), b + 1);
	}
	assert_int_equal(histogram_bucket(UINT64_MAX), HISTOGRAM_BUCKETS - 1);
}

static void percentiles_are_at_most_a_32nd_above_the_exact_ones(void **state)
{
	static const double percents[] = {0, 1, 25, 50, 90, 99, 99.9, 100};
	static uint64_t values[VALUES], buckets[HISTOGRAM_BUCKETS];
	uint64_t seed = 88172645463325252ull;

	(void)state;
	for (int i = 0; i < VALUES; i++) {
		seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
		values[i] = seed >> (24 + seed % 40);
		histogram_record(buckets, values[i]);
	}
	qsort(values, VALUES, sizeof(values[0]), compare);
	assert_int_equal(histogram_count(buckets), VALUES);
	for (size_t i = 0; i < sizeof(percents) / sizeof(percents[0]); i++) {
		uint64_t rank = (uint64_t)ceil(percents[i] / 100 * VALUES);
		uint64_t exact = values[rank ? rank - 1 : 0];
		uint64_t got = histogram_percentile(buckets, percents[i]);

		assert_true(got >= exact);
		assert_true(got <= exact + exact / 32);
	}
}

static void merging_equals_recording_everything_in_one(void **state)
{
	uint64_t a[HISTOGRAM_BUCKETS] = {0}, b[HISTOGRAM_BUCKETS] = {0}, all[HISTOGRAM_BUCKETS] = {0};

	(void)state;
	for (uint64_t v = 1; v < 1000000; v = v * 5 / 4 + 1) {
		histogram_record(v % 2 ? a : b, v);
		histogram_record(all, v);
	}
	histogram_merge(a, b);
	assert_memory_equal(a, all, sizeof(a));
	memset(b, 0, sizeof(b));
	assert_int_equal(histogram_percentile(b, 50), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_value_lies_in_the_bucket_whose_end_bounds_it),
		cmocka_unit_test(percentiles_are_at_most_a_32nd_above_the_exact_ones),
		cmocka_unit_test(merging_equals_recording_everything_in_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
