/* SPDX-License-Identifier: BSD-3-Clause
 * Inputs, expectations and session order: see workload.h.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "abi/wire.h"
#include "perf/loadgen/random.h"
#include "perf/loadgen/workload.h"

enum { RANDOM_ROWS = 1024, ORDER_MAX = 1 << 20, SEEN = 1, RIGHT = 2 };

static int take_inputs(struct workload *w, const struct options *o, struct error *err)
{
	size_t bytes = w->model.row_in_bytes, floats = bytes / sizeof(float);
	struct npy_floats file = {.rows = RANDOM_ROWS, .columns = floats};
	uint64_t state = random_seed(o->seed);
	int rc = o->rows ? npy_floats_read(&file, o->rows, err) : 0;

	if (rc)
		return rc;
	if (w->model.input_dtype != WIRE_F32 || file.columns != floats) {
		npy_floats_free(&file);
		return error_set(err, -EINVAL, "model %s wants rows of %zu float32; the rows have %zu",
			w->model.name, floats, file.columns);
	}
	w->n_rows = file.rows;
	w->inputs = malloc((file.rows + w->batch) * bytes);
	for (size_t i = 0; w->inputs && i < (file.rows + w->batch) * floats; i++) {
		float v = o->rows ? file.values[i % (file.rows * floats)]
				  : (float)(random_unit(&state) * 2 - 1);

		memcpy(w->inputs + i * sizeof(v), &v, sizeof(v));
	}
	npy_floats_free(&file);
	return w->inputs ? 0 : error_set(err, -ENOMEM, "out of memory for the inputs");
}

static int take_expectations(struct workload *w, const struct options *o, struct error *err)
{
	int rc = o->expect ? npy_floats_read(&w->expect, o->expect, err) : 0;

	rc = rc || !o->labels ? rc : npy_floats_read(&w->labels, o->labels, err);
	if (rc)
		return rc;
	if (w->model.output_dtype != WIRE_F32 && (o->expect || o->labels))
		return error_set(err, -EINVAL, "model %s does not answer float32", w->model.name);
	if (o->expect && (w->expect.rows != w->n_rows ||
				 w->expect.columns * sizeof(float) != w->model.row_out_bytes))
		return error_set(err, -EINVAL, "%s: %zu x %zu does not match %zu rows of %u bytes",
			o->expect, w->expect.rows, w->expect.columns, w->n_rows,
			w->model.row_out_bytes);
	if (o->labels && w->labels.rows != w->n_rows)
		return error_set(err, -EINVAL, "%s: %zu labels for %zu rows", o->labels,
			w->labels.rows, w->n_rows);
	w->seen = calloc(w->n_rows, 1);
	return w->seen ? 0 : error_set(err, -ENOMEM, "out of memory");
}

/* Zipf: rank r has weight 1/(r+1)^0.99; drawn by binary search in the cumulated weights. */
static int draw_zipf(struct workload *w, uint32_t sessions, uint64_t *state)
{
	double *sum = malloc(sessions * sizeof(*sum)), total = 0;

	if (!sum)
		return -ENOMEM;
	for (uint32_t i = 0; i < sessions; i++)
		sum[i] = total += pow(i + 1.0, -0.99);
	for (uint32_t i = 0; i < w->order_n; i++) {
		double x = random_unit(state) * total;
		uint32_t low = 0, high = sessions - 1;

		while (low < high) {
			uint32_t middle = (low + high) / 2;

			if (sum[middle] < x)
				low = middle + 1;
			else
				high = middle;
		}
		w->order[i] = low;
	}
	free(sum);
	return 0;
}

static int draw_order(struct workload *w, const struct options *o, struct error *err)
{
	uint64_t state = random_seed(o->seed + 1);
	uint32_t n = o->sessions;

	w->order_n = o->order == ORDER_RR || n == 1 ? n : ORDER_MAX;
	w->order = calloc(w->order_n, sizeof(*w->order));
	if (!w->order)
		return error_set(err, -ENOMEM, "out of memory for the order of sessions");
	if (o->order == ORDER_ZIPF && n > 1)
		return draw_zipf(w, n, &state) ? error_set(err, -ENOMEM, "out of memory") : 0;
	for (uint32_t i = 0; i < w->order_n; i++)
		w->order[i] = o->order == ORDER_RR ? i : (uint32_t)(random_next(&state) % n);
	return 0;
}

int workload_init(struct workload *w, const struct options *o, const struct mr_model *model,
	struct error *err)
{
	int rc;

	memset(w, 0, sizeof(*w));
	w->model = *model;
	w->batch = o->rows_per_request;
	w->rtol = o->rtol;
	w->atol = o->atol;
	rc = take_inputs(w, o, err);
	rc = rc ? rc : take_expectations(w, o, err);
	rc = rc ? rc : draw_order(w, o, err);
	if (rc)
		workload_uninit(w);
	return rc;
}

void workload_uninit(struct workload *w)
{
	free(w->inputs);
	free(w->seen);
	free(w->order);
	npy_floats_free(&w->expect);
	npy_floats_free(&w->labels);
	memset(w, 0, sizeof(*w));
}

static void check_values(struct workload *w, size_t row, const float *got)
{
	const float *want = w->expect.values + row * w->expect.columns;
	bool bad = false;

	for (size_t i = 0; i < w->expect.columns; i++) {
		double error = fabs((double)got[i] - (double)want[i]);

		if (!(error <= w->atol + w->rtol * fabs((double)want[i])))
			bad = true;
		if (error > w->worst_error)
			w->worst_error = error;
	}
	w->wrong += bad;
}

/* The largest output is the class; a single output is a probability. */
static uint32_t class_of(const float *y, size_t n)
{
	uint32_t best = 0;

	if (n == 1)
		return y[0] >= 0.5f;
	for (uint32_t i = 1; i < n; i++) {
		if (y[i] > y[best])
			best = i;
	}
	return best;
}

void workload_check(struct workload *w, uint64_t i, const uint8_t *rows)
{
	size_t n = w->model.row_out_bytes / sizeof(float), first = workload_row(w, i);
	float *y = w->answer;

	for (uint32_t r = 0; r < w->batch; r++) {
		size_t row = (first + r) % w->n_rows;

		memcpy(y, rows + (size_t)r * w->model.row_out_bytes, n * sizeof(float));
		if (w->expect.rows)
			check_values(w, row, y);
		if (w->labels.rows && !w->seen[row])
			w->seen[row] = (uint8_t)(SEEN |
				(class_of(y, n) == (uint32_t)w->labels.values[row] ? RIGHT : 0));
	}
}

double workload_accuracy(const struct workload *w, uint64_t *distinct)
{
	uint64_t right = 0;

	*distinct = 0;
	for (size_t i = 0; i < w->n_rows && w->labels.rows; i++) {
		*distinct += w->seen[i] & SEEN;
		right += !!(w->seen[i] & RIGHT);
	}
	return *distinct ? (double)right / (double)*distinct : -1;
}
