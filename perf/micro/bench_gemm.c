/* SPDX-License-Identifier: BSD-3-Clause
 * Dense layers against what this core can do: percent of min(FMA peak, batch/2 x read bandwidth at
 * the weights' size), both measured in this run; OpenBLAS on the same layer is the peer. One JSON
 * row a line on stdout.
 */
#include <cblas.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "models/run/kernels.h"
#include "models/tool/peak.h"

enum { ROUNDS = 7, SLICE_NS = 10000000 };

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Median of rounds, GFLOP/s. */
static double dense_gflops(void (*run)(const struct dense *), const struct dense *d)
{
	double round[ROUNDS], flops = 2.0 * (double)d->rows * (double)d->in * (double)d->out;

	run(d);
	for (int r = 0; r < ROUNDS; r++) {
		uint64_t t0 = clock_now_ns(), times = 0;

		do {
			run(d);
			times++;
		} while (clock_now_ns() - t0 < SLICE_NS);
		round[r] = flops * (double)times / (double)(clock_now_ns() - t0);
	}
	qsort(round, ROUNDS, sizeof(round[0]), compare);
	return round[ROUNDS / 2];
}

static float *floats(size_t n)
{
	float *x = aligned_alloc(64, n * sizeof(float));

	for (size_t i = 0; x && i < n; i++)
		x[i] = (float)(i * 7919 % 1000) / 1000.0f - 0.5f;
	return x;
}

static int bench_shape(size_t k, size_t n, double peak)
{
	static const size_t batches[] = {1, 8, 32, 128};
	float *x = floats(128 * k), *y = floats(128 * n), *w = floats(k * n), *bias = floats(n);
	double bandwidth;

	if (!x || !y || !w || !bias)
		return 1;
	bandwidth = peak_read_gbytes((const uint8_t *)w, k * n * sizeof(float));
	for (size_t b = 0; b < sizeof(batches) / sizeof(batches[0]); b++) {
		struct dense d = {.x = x, .w = w, .bias = bias, .y = y, .rows = batches[b], .in = k,
			.out = n, .act = {MODEL_ACT_RELU, 0, 0}};
		double limit = (double)batches[b] / 2 * bandwidth,
		       bound = limit < peak ? limit : peak;
		double ours = dense_gflops(kernels_native()->dense[MODEL_LAYOUT_PANELS], &d);
		double blas = dense_gflops(kernels_openblas()->dense[MODEL_LAYOUT_ROW_MAJOR], &d);

		printf("{\"id\":\"gemm.%zux%zu.b%zu.pct_bound\",\"value\":%.1f,\"unit\":"
		       "\"percent\","
		       "\"peer\":\"openblas "
		       "%s\",\"peer_value\":%.1f,\"ratio\":%.2f,\"gflops\":%.1f,"
		       "\"bound_gflops\":%.1f,\"read_gbytes_s\":%.1f,\"kernel\":\"%s\"}\n",
			k, n, batches[b], 100 * ours / bound, openblas_get_corename(),
			100 * blas / bound, ours / blas, ours, bound, bandwidth,
			kernels_native()->name);
	}
	free(x);
	free(y);
	free(w);
	free(bias);
	return 0;
}

int main(int argc, char **argv)
{
	double peak;
	int rc = 0;

	(void)argc;
	if (!getenv("OPENBLAS_NUM_THREADS")) { /* its threads start before main(): begin again */
		setenv("OPENBLAS_NUM_THREADS", "1", 1);
		execv("/proc/self/exe", argv);
	}
	if (!__builtin_cpu_supports("avx2")) {
		fprintf(stderr, "bench_gemm: this CPU has no AVX2; nothing to compare\n");
		return 1;
	}
	peak = peak_gflops();
	printf("{\"id\":\"gemm.fma_peak\",\"value\":%.1f,\"unit\":\"GFLOP/s\"}\n", peak);
	for (size_t n = 256; !rc && n <= 1024; n *= 2)
		rc = bench_shape(n, n, peak);
	return rc;
}
