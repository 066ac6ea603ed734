/* SPDX-License-Identifier: BSD-3-Clause
 * Dense layers against what this core can do: percent of min(FMA peak, batch/2 x read bandwidth at
 * the weights' size), both measured in this run; OpenBLAS on the same layer is the peer, and
 * float32 is that of bfloat16 and int8 weights. Kernels take turns, and
 * each one's best turn counts: others on the machine only ever take away. One JSON row a line on
 * stdout.
 */
#include <cblas.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "models/run/kernels.h"
#include "models/tool/peak.h"

enum { ROUNDS = 15, SLICE_NS = 3000000 };

static double dense_gflops(const struct kernels *k, uint32_t layout, const struct dense *d)
{
	double flops = 2.0 * (double)d->rows * (double)d->in * (double)d->out;
	uint64_t t0 = clock_now_ns(), times = 0;

	do {
		k->dense[layout](d);
		times++;
	} while (clock_now_ns() - t0 < SLICE_NS);
	return flops * (double)times / (double)(clock_now_ns() - t0);
}

static float *floats(size_t n)
{
	float *x = aligned_alloc(64, n * sizeof(float));

	for (size_t i = 0; x && i < n; i++)
		x[i] = (float)(i * 7919 % 1000) / 1000.0f - 0.5f;
	return x;
}

/* What a layer's turns reached, each the best. */
struct best {
	double peak, bandwidth, blas, layout[MODEL_LAYOUT_END];
};

static void raise(double *best, double value)
{
	*best = value > *best ? value : *best;
}

/* Three layouts of the same shape; times do not depend on the weights' values. */
static const uint32_t layouts[] = {
	MODEL_LAYOUT_PANELS, MODEL_LAYOUT_PANELS_BF16, MODEL_LAYOUT_PANELS_INT8};

static void take_turns(struct best *best, struct dense *d, float *const w[])
{
	*best = (struct best){.peak = peak_gflops()};
	best->bandwidth =
		peak_read_gbytes((const uint8_t *)w[0], d->in * d->out * sizeof(float));
	for (int r = 0; r < ROUNDS; r++) {
		d->w = w[0];
		raise(&best->blas, dense_gflops(kernels_openblas(), MODEL_LAYOUT_ROW_MAJOR, d));
		for (int i = 0; i < 3; i++) {
			d->w = w[i];
			raise(&best->layout[layouts[i]],
				dense_gflops(kernels_native(), layouts[i], d));
		}
	}
}

static void print_rows(const struct best *best, const struct dense *d)
{
	double limit = (double)d->rows / 2 * best->bandwidth,
	       f32 = best->layout[MODEL_LAYOUT_PANELS];
	double bound = limit < best->peak ? limit : best->peak;
	char id[64];

	snprintf(id, sizeof(id), "gemm.%zux%zu.b%zu", d->in, d->out, d->rows);
	printf("{\"id\":\"%s.pct_bound\",\"value\":%.1f,\"unit\":\"percent\",\"peer\":\"openblas "
	       "%s\",\"peer_value\":%.1f,\"ratio\":%.2f,\"gflops\":%.1f,\"bound_gflops\":%.1f,"
	       "\"fma_gflops\":%.1f,\"read_gbytes_s\":%.1f,\"kernel\":\"%s\"}\n",
		id, 100 * f32 / bound, openblas_get_corename(), 100 * best->blas / bound,
		f32 / best->blas, f32, bound, best->peak, best->bandwidth, kernels_native()->name);
	for (int i = 1; i < 3; i++)
		printf("{\"id\":\"%s.%s\",\"value\":%.1f,\"unit\":\"GFLOP/s\",\"peer\":\"float32, "
		       "same "
		       "kernels\",\"peer_value\":%.1f,\"ratio\":%.2f,\"kernel\":\"%s\"}\n",
			id, i == 1 ? "bf16" : "int8", best->layout[layouts[i]], f32,
			best->layout[layouts[i]] / f32, kernels_native()->name);
}

static int bench_shape(size_t k, size_t n)
{
	static const size_t batches[] = {1, 8, 32, 128};
	float *x = floats(128 * k), *y = floats(128 * n), *bias = floats(n), *w[3];
	void *scratch = floats(dense_scratch_bytes(MODEL_LAYOUT_PANELS_BF16, k) / sizeof(float));
	struct best best;

	for (int i = 0; i < 3; i++)
		w[i] = floats(k * n + 2 * n);
	if (!x || !y || !bias || !scratch || !w[0] || !w[1] || !w[2])
		return 1;
	for (size_t b = 0; b < sizeof(batches) / sizeof(batches[0]); b++) {
		struct dense d = {.x = x,
			.bias = bias,
			.y = y,
			.rows = batches[b],
			.in = k,
			.out = n,
			.act = {MODEL_ACT_RELU, 0, 0},
			.scratch = scratch};

		take_turns(&best, &d, w);
		print_rows(&best, &d);
	}
	for (int i = 0; i < 3; i++)
		free(w[i]);
	free(scratch);
	free(x);
	free(y);
	free(bias);
	return 0;
}

int main(int argc, char **argv)
{
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
	for (size_t n = 256; !rc && n <= 1024; n *= 2)
		rc = bench_shape(n, n);
	return rc;
}
