/* SPDX-License-Identifier: BSD-3-Clause
 * millrace-model bench: time per batch on one core, median of repetitions; then per operator.
 */
#include <cblas.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "models/tool/bench_ops.h"
#include "models/tool/rows.h"
#include "models/tool/tool.h"

enum { MAX_BATCHES = 16, REPETITIONS = 9 };

struct arguments {
	const char *model;
	unsigned long batches[MAX_BATCHES];
	int n_batches;
	double seconds;
	enum model_backend backend;
	bool ops;
	const char *in[MODEL_FILE_MAX_IO];
	uint32_t n_in;
	struct tool_rows rows; /* given by files; none = made up */
};

static bool parse_batches(char *text, struct arguments *a)
{
	a->n_batches = 0;
	for (char *word = strtok(text, ","); word; word = strtok(NULL, ","))
		if (a->n_batches == MAX_BATCHES ||
			!tool_number(word, 1, MODEL_FILE_MAX_ROWS, &a->batches[a->n_batches++]))
			return false;
	return a->n_batches > 0;
}

static int parse(int argc, char **argv, struct arguments *a)
{
	static const struct option options[] = {{"batch", required_argument, NULL, 'n'},
		{"backend", required_argument, NULL, 'b'},
		{"seconds", required_argument, NULL, 's'}, {"ops", no_argument, NULL, 'o'},
		{"input", required_argument, NULL, 'i'}, {NULL, 0, NULL, 0}};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		bool ok = (c == 'n' && parse_batches(optarg, a)) ||
			  (c == 'b' && tool_backend(optarg, &a->backend)) || c == 'o';

		a->ops |= c == 'o';
		if (c == 'i' && a->n_in < MODEL_FILE_MAX_IO) {
			a->in[a->n_in++] = optarg;
			ok = true;
		}
		if (c == 's') {
			char *end;

			a->seconds = strtod(optarg, &end);
			ok = end != optarg && !*end && a->seconds > 0 && a->seconds <= 60;
		}
		if (!ok)
			return tool_usage("bench: bad option or value '%s'", optarg ? optarg : "");
	}
	if (optind + 1 != argc)
		return tool_usage("bench takes one model");
	a->model = argv[optind];
	return TOOL_OK;
}

static double run_ns(
	struct run *r, uint32_t n, const void *const *rows, void *const *outs, uint64_t times)
{
	uint64_t start = clock_now_ns();

	for (uint64_t i = 0; i < times; i++) {
		run_start(r, n, rows, outs);
		run_step(r, UINT64_MAX);
	}
	return (double)(clock_now_ns() - start) / (double)times;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Doubling finds how many batches fill one repetition; then the median of them. */
static double median_ns(
	struct run *r, uint32_t n, const void *const *rows, void *const *outs, double seconds)
{
	double slice = seconds * 1e9 / REPETITIONS, ns[REPETITIONS];
	uint64_t times = 1;

	while (run_ns(r, n, rows, outs, times) * (double)times < slice && times < 1ull << 40)
		times *= 2;
	for (int i = 0; i < REPETITIONS; i++)
		ns[i] = run_ns(r, n, rows, outs, times);
	qsort(ns, REPETITIONS, sizeof(ns[0]), compare);
	return ns[REPETITIONS / 2];
}

/* Inputs in [-1, 1) by a fixed linear congruential sequence (Numerical Recipes' constants). */
static void fill_inputs(float *x, size_t n)
{
	uint32_t state = 1;

	for (size_t i = 0; i < n; i++) {
		state = state * 1664525u + 1013904223u;
		x[i] = (float)(state >> 8) / (float)(1 << 23) - 1.0f;
	}
}

/* The given rows, from the first one again when they are used up. */
static void copy_inputs(const struct arguments *a, uint8_t *to, uint32_t n, size_t row_bytes)
{
	for (uint32_t i = 0; i < n; i++)
		memcpy(to + i * row_bytes, a->rows.bytes + i % a->rows.n * row_bytes, row_bytes);
}

static void bench_print(
	const struct bench_batch *b, const struct arguments *a, struct bench_peak *peak)
{
	double ns = median_ns(b->r, b->n, b->rows, b->outs, a->seconds);

	printf("%6u %12.3f %14.0f %10.1f %7.1f\n", b->n, ns / 1e3, b->n / ns * 1e9,
		bench_row_flops(b->m) * b->n / ns, 100 * bench_bound_ns(b->m, b->n, peak) / ns);
	if (a->ops)
		bench_ops(b, a->seconds, peak);
}

static int bench_batch(const struct model *m, uint32_t n, const struct arguments *a,
	struct bench_peak *peak, struct error *err)
{
	const struct model_file_header *h = model_header(m);
	size_t bytes = (run_bytes(m, n) + 63) / 64 * 64;
	void *memory = aligned_alloc(64, bytes);
	uint8_t *in = malloc((size_t)n * h->row_in_bytes),
		*out = malloc((size_t)n * h->row_out_bytes);
	const void **rows = calloc(n, sizeof(*rows));
	void **outs = calloc(n, sizeof(*outs));
	int rc = memory && in && out && rows && outs
			 ? 0
			 : error_set(err, -ENOMEM, "no memory for %u rows", n);

	if (!rc) {
		struct bench_batch b = {m, run_init(memory, m, n), n, rows, outs};

		if (a->rows.n)
			copy_inputs(a, in, n, h->row_in_bytes);
		else
			fill_inputs((float *)in, (size_t)n * h->row_in_bytes / sizeof(float));
		for (uint32_t i = 0; i < n; i++) {
			rows[i] = in + (size_t)i * h->row_in_bytes;
			outs[i] = out + (size_t)i * h->row_out_bytes;
		}
		bench_print(&b, a, peak);
	}
	free(memory);
	free(in);
	free(out);
	free(rows);
	free(outs);
	return rc;
}

int cmd_bench(int argc, char **argv)
{
	struct arguments a = {.batches = {1, 8, 32, 128}, .n_batches = 4, .seconds = 0.3};
	struct bench_peak peak;
	struct tool_model t;
	struct error err;
	int rc = parse(argc, argv, &a);

	if (rc)
		return rc;
	if (tool_model_open(&t, a.model, a.backend, &err))
		return tool_refuse(&err);
	rc = bench_peak_init(&peak, &err);
	printf("model %s, kernels %s, openblas core %s, peak %.1f GFLOP/s\n", a.model,
		model_backend_name(t.model), openblas_get_corename(), peak.gflops);
	printf("%6s %12s %14s %10s %7s\n", "batch", "us", "rows/s", "GFLOP/s", "% bound");
	if (!rc && a.n_in)
		rc = tool_rows_read(a.in, a.n_in, model_header(t.model), &a.rows, &err);
	for (int i = 0; !rc && i < a.n_batches; i++)
		rc = bench_batch(t.model, (uint32_t)a.batches[i], &a, &peak, &err);
	free(a.rows.bytes);
	bench_peak_free(&peak);
	tool_model_close(&t);
	return rc ? tool_refuse(&err) : TOOL_OK;
}
