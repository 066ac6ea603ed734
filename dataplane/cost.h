/* SPDX-License-Identifier: BSD-3-Clause
 * What a run of a model costs: nanoseconds by rows, measured when the artifact is staged and corrected
 * by what a worker sees of its own runs. Admission, fair service and slicing all ask here.
 *
 * Buckets are 1, 2, 4 .. 128 rows; between them the cost is interpolated. One table per model and
 * worker, written by that worker alone; other threads may read it (relaxed).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	COST_BUCKETS = 8,
	COST_ROWS_MAX = 1 << (COST_BUCKETS - 1),
	COST_SHARE_BUCKET = 5, /* what a row costs in company: in a batch of 32 */
	COST_LEARN_SHIFT = 3,  /* a measured run moves the table by 1/8 of its difference */
};

struct cost_table {
	uint32_t ns[COST_BUCKETS]; /* of a run of 1 << i rows; >= 1 */
	uint32_t top;              /* largest bucket a run of this model can have */
	uint32_t pad;
};

/* Estimated time of one run of `rows` >= 1; more than fit one run count as several. Any thread. */
uint64_t cost_run_ns(const struct cost_table *t, uint32_t rows);

/* What `rows` add to a batch that others share: the price fair service charges. Any thread. */
uint64_t cost_share_ns(const struct cost_table *t, uint32_t rows);

/* A run of `rows` took `ns`: move the table towards it by 2^-shift of the difference. One that took more
 * than four times the estimate (somebody else had the core) counts as four times. Owner only. */
void cost_observe(struct cost_table *t, uint32_t rows, uint64_t ns, uint32_t shift);

/* A table for runs of up to `run_rows` that says `ns` for every bucket's row: a start without measuring. */
void cost_flat(struct cost_table *t, uint32_t run_rows, uint32_t ns_per_row);

/* Fill the table from real runs, at most about `budget_ns` of them: the best of several, because the core
 * may be shared. `run_ns` runs `rows` rows once and says how long it took; it may stop at `limit_ns` and
 * return 0, then this bucket and larger ones are extrapolated. */
void cost_measure(struct cost_table *t, uint32_t run_rows, uint64_t budget_ns,
	uint64_t (*run_ns)(void *ctx, uint32_t rows, uint64_t limit_ns), void *ctx);
