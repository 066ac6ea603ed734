/* SPDX-License-Identifier: BSD-3-Clause
 * What is asked and what must come back: input rows, expected outputs, labels, order of sessions.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "client/millrace.h"
#include "base/npy.h"
#include "perf/loadgen/options.h"

struct workload {
	struct mr_model model;
	uint32_t batch;  /* rows per request */
	uint8_t *inputs; /* n_rows x row_in_bytes, followed by the first `batch` rows once more */
	size_t n_rows;
	struct npy_floats expect; /* rows == 0: not checked */
	struct npy_floats labels;
	double rtol, atol;
	uint8_t *seen;      /* per distinct row: answered at least once, bit 1: class was right */
	uint64_t wrong;     /* rows that differed from the expectation */
	double worst_error; /* largest |answer - expected| */
	uint32_t *order;    /* session of request i = order[i % order_n] */
	uint32_t order_n;
	/* The row being compared: not on the stack, where -ftrivial-auto-var-init would clear it for each answer
	 * (3.5 M answers a second became 2.7 M, AMD Zen 5). */
	float answer[WIRE_MAX_SEGMENTS * WIRE_SEGMENT_ROW_BYTES / sizeof(float)];
};

/* Load the files or draw seeded rows and the order. 0, or -errno with err. */
int workload_init(struct workload *w, const struct options *o, const struct mr_model *model,
	struct error *err);
void workload_uninit(struct workload *w);

/* First row of request `i`: rows are asked in turn, each equally often. */
static inline size_t workload_row(const struct workload *w, uint64_t i)
{
	return (size_t)(i * w->batch % w->n_rows);
}

static inline const uint8_t *workload_input(const struct workload *w, uint64_t i)
{
	return w->inputs + workload_row(w, i) * w->model.row_in_bytes;
}

static inline uint32_t workload_session(const struct workload *w, uint64_t i)
{
	return w->order[i % w->order_n];
}

/* Are answers compared with anything? */
static inline bool workload_compares(const struct workload *w)
{
	return w->expect.rows || w->labels.rows;
}

/* Compare the answers of request `i` with what was expected; only when workload_compares(). */
void workload_check(struct workload *w, uint64_t i, const uint8_t *rows);

/* Share of distinct rows whose class was right, -1 without labels or answers. */
double workload_accuracy(const struct workload *w, uint64_t *distinct);
