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

enum { ROUNDS = 7, SLICE_NS = 10000000, BLOCK_BYTES = 1024 };

/* 16 independent FMA chains, 8 steps each: enough to fill two pipes of four cycles. Returns lanes.
 */
static unsigned fma_block(uint64_t times)
{
	if (__builtin_cpu_supports("avx512f")) {
		for (uint64_t i = 0; i < times; i++)
			__asm__ volatile(".rept 8\n"
					 ".irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
					 "vfmadd231ps %%zmm16, %%zmm17, %%zmm\\r\n"
					 ".endr\n.endr" ::
						 : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5",
					 "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
					 "xmm13", "xmm14", "xmm15");
		return 16;
	}
	for (uint64_t i = 0; i < times; i++)
		__asm__ volatile(".rept 8\n"
				 ".irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13\n"
				 "vfmadd231ps %%ymm14, %%ymm15, %%ymm\\r\n"
				 ".endr\n.endr\nvzeroupper" ::
					 : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6",
				 "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13",
				 "xmm14", "xmm15");
	return 8;
}

static double fma_peak_gflops(void)
{
	double best = 0;

	for (int r = 0; r < ROUNDS; r++) {
		const uint64_t times = 100000;
		uint64_t t0 = clock_now_ns();
		unsigned lanes = fma_block(times), chains = lanes == 16 ? 16 : 14;
		double ns = (double)(clock_now_ns() - t0);
		double gflops = 2.0 * lanes * chains * 8 * (double)times / ns;

		best = gflops > best ? gflops : best;
	}
	return best;
}

static void read_block(const uint8_t *p)
{
	if (__builtin_cpu_supports("avx512f"))
		__asm__ volatile(
			".irp o,0,64,128,192,256,320,384,448,512,576,640,704,768,832,896,960\n"
			"vmovups \\o(%0), %%zmm0\n.endr" ::"r"(p)
			: "xmm0", "memory");
	else
		__asm__ volatile(
			".irp o,0,64,128,192,256,320,384,448,512,576,640,704,768,832,896,960\n"
			"vmovups \\o(%0), %%ymm0\nvmovups \\o+32(%0), %%ymm1\n.endr" ::"r"(p)
			: "xmm0", "xmm1", "memory");
}

static double read_gbytes(const uint8_t *bytes, size_t size)
{
	double best = 0;

	for (int r = 0; r < ROUNDS; r++) {
		uint64_t t0 = clock_now_ns(), total = 0;
		double rate;

		do {
			for (size_t at = 0; at + BLOCK_BYTES <= size; at += BLOCK_BYTES)
				read_block(bytes + at);
			total += size;
		} while (clock_now_ns() - t0 < SLICE_NS);
		rate = (double)total / (double)(clock_now_ns() - t0);
		best = rate > best ? rate : best;
	}
	return best;
}

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
	bandwidth = read_gbytes((const uint8_t *)w, k * n * sizeof(float));
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
	peak = fma_peak_gflops();
	printf("{\"id\":\"gemm.fma_peak\",\"value\":%.1f,\"unit\":\"GFLOP/s\"}\n", peak);
	for (size_t n = 256; !rc && n <= 1024; n *= 2)
		rc = bench_shape(n, n, peak);
	return rc;
}
