/* SPDX-License-Identifier: BSD-3-Clause
 * The cost table: see cost.h.
 */
#include "cost.h"

enum { MEASURE_TRIES = 7, OUTLIER = 4 };

static uint32_t bucket_of(uint32_t rows)
{
	return 31 - (uint32_t)__builtin_clz(rows);
}

static uint64_t at(const struct cost_table *t, uint32_t bucket)
{
	return __atomic_load_n(&t->ns[bucket], __ATOMIC_RELAXED);
}

static void put(struct cost_table *t, uint32_t bucket, uint64_t ns)
{
	uint32_t v = ns > UINT32_MAX ? UINT32_MAX : ns ? (uint32_t)ns : 1;

	__atomic_store_n(&t->ns[bucket], v, __ATOMIC_RELAXED);
}

uint64_t cost_run_ns(const struct cost_table *t, uint32_t rows)
{
	uint64_t whole = 0, low, high;
	uint32_t bucket;

	if (rows > COST_ROWS_MAX) {
		whole = rows / COST_ROWS_MAX * at(t, COST_BUCKETS - 1);
		rows %= COST_ROWS_MAX;
		if (!rows)
			return whole;
	}
	bucket = bucket_of(rows);
	low = at(t, bucket);
	if (rows == 1u << bucket)
		return whole + low;
	high = at(t, bucket + 1);
	if (high < low) /* a larger batch measured faster: noise */
		high = low;
	return whole + low + ((high - low) * (rows - (1u << bucket)) >> bucket);
}

uint64_t cost_share_ns(const struct cost_table *t, uint32_t rows)
{
	uint32_t bucket = t->top < COST_SHARE_BUCKET ? t->top : COST_SHARE_BUCKET;
	uint64_t ns = at(t, bucket) * rows >> bucket;

	return ns ? ns : 1;
}

void cost_observe(struct cost_table *t, uint32_t rows, uint64_t ns, uint32_t shift)
{
	uint64_t expected = cost_run_ns(t, rows), was, to;
	uint32_t bucket;

	if (rows > COST_ROWS_MAX || shift > 31)
		return;
	if (ns > OUTLIER * expected)
		ns = OUTLIER * expected;
	bucket = bucket_of(rows);
	was = at(t, bucket);
	to = (uint64_t)((double)was * (double)ns / (double)expected);
	if (to > was) /* rounded up, so that small numbers grow as well */
		put(t, bucket, was + ((to - was + (1u << shift) - 1) >> shift));
	else
		put(t, bucket, was - ((was - to) >> shift));
}

static uint32_t top_of(uint32_t run_rows)
{
	uint32_t bucket = bucket_of(run_rows ? run_rows : 1);

	return bucket < COST_BUCKETS ? bucket : COST_BUCKETS - 1;
}

void cost_flat(struct cost_table *t, uint32_t run_rows, uint32_t ns_per_row)
{
	*t = (struct cost_table){.top = top_of(run_rows)};
	for (uint32_t b = 0; b < COST_BUCKETS; b++)
		put(t, b, (uint64_t)ns_per_row << b);
}

void cost_measure(struct cost_table *t, uint32_t run_rows, uint64_t budget_ns,
	uint64_t (*run_ns)(void *ctx, uint32_t rows, uint64_t limit_ns), void *ctx)
{
	bool more = true;

	*t = (struct cost_table){.top = top_of(run_rows)};
	for (uint32_t b = 0; b < COST_BUCKETS; b++) {
		uint64_t best = UINT64_MAX, left = budget_ns / COST_BUCKETS;

		for (int i = 0; more && b <= t->top && i < MEASURE_TRIES; i++) {
			uint64_t ns = run_ns(ctx, 1u << b, left);

			if (!ns) {
				more = best != UINT64_MAX;
				break;
			}
			best = ns < best ? ns : best;
			if (ns >= left)
				break;
			left -= ns;
		}
		put(t, b, best != UINT64_MAX ? best : b ? 2 * at(t, b - 1) : budget_ns / COST_BUCKETS);
	}
}
