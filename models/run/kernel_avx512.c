/* SPDX-License-Identifier: BSD-3-Clause
 * Dense layers with AVX-512 F, DQ and VL: float32, and bfloat16 weights widened in registers; the
 * tables of all AVX-512 families (dense_dot512.c has what VNNI and BF16 add).
 */
#include "models/run/kernels.h"

#ifdef __AVX512F__ /* fuzzers build without: they use the scalar reference */
#include "models/run/conv.h"
#include "models/run/dense_avx512.h"

#define vec_multiply(kind, sum, x, w) vec_fma(x, w, sum)
#define vec_sum2(kind, a, b) vec_add(a, b)

#include "models/run/dense_tiles.h"

TILES_OF(KIND_F32)
TILES_OF(KIND_BF16)

static void dense_panels(const struct dense *d)
{
	dense_float(d, tiles_of_KIND_F32);
}

static void dense_bf16(const struct dense *d)
{
	dense_converted(d, KIND_BF16, tiles_of_KIND_BF16, tiles_of_KIND_F32);
}

#define TABLE(text, bf16, int8)                                                                    \
	{                                                                                          \
		.name = text,                                                                      \
		.dense = {[MODEL_LAYOUT_PANELS] = dense_panels,                                    \
			[MODEL_LAYOUT_COLUMNS] = dense_narrow,                                     \
			[MODEL_LAYOUT_PANELS_BF16] = bf16,                                         \
			[MODEL_LAYOUT_PANELS_INT8] = int8},                                        \
		.v = &vectors_avx512, .conv = &conv_avx512,                                        \
	}

/* By what the CPU has besides: nothing, VNNI, VNNI and BF16. */
static const struct kernels families[] = {
	TABLE("avx512", dense_bf16, dense_avx2_int8),
	TABLE("avx512-vnni", dense_bf16, dense_vnni_int8),
	TABLE("avx512-vnni-bf16", dense_dot_bf16, dense_vnni_int8),
};

const struct kernels *kernels_avx512(void)
{
	bool vnni = __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw");

	return &families[vnni ? 1 + !!__builtin_cpu_supports("avx512bf16") : 0];
}
#else
const struct kernels *kernels_avx512(void)
{
	return NULL;
}
#endif
