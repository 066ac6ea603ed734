/* SPDX-License-Identifier: BSD-3-Clause
 * Where a batch's time goes: per operator, against the core's limits.
 */
#pragma once

#include "models/run/model_private.h"

struct bench_batch {
	const struct model *m;
	struct run *r;
	uint32_t n; /* rows */
	const void *const *rows;
	void *const *outs;
};

/* The core's limits; reading is measured once per power of two of bytes. */
struct bench_peak {
	double gflops;
	uint8_t *bytes; /* what is read: 2^PEAK_LOG2 bytes, or NULL */
	double read_gbytes[32];
};

/* -ENOMEM, or 0; then bench_peak_free(). */
int bench_peak_init(struct bench_peak *peak, struct error *err);
void bench_peak_free(struct bench_peak *peak);

/* Multiplications and additions of one row of all operators. */
double bench_row_flops(const struct model *m);

/* Nanoseconds `n` rows need at least: flops at the peak, or weights and activations at the
 * bandwidth of their size, whichever takes longer, summed over the operators. */
double bench_bound_ns(const struct model *m, uint32_t n, struct bench_peak *peak);

/* Run the batch for about `seconds` and print a line "op ..." per operator, gather and scatter. */
void bench_ops(const struct bench_batch *b, double seconds, struct bench_peak *peak);
