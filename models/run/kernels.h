/* SPDX-License-Identifier: BSD-3-Clause
 * The one interface every kernel family implements: scalar reference, OpenBLAS, AVX2, AVX-512.
 *
 * All arrays are float32, row-major, unaligned unless said otherwise; weights and bias are 64-byte
 * aligned (abi/model_file.h). Kernels do not allocate, lock or call the system (OpenBLAS, inside
 * the library, locks). NaN inputs give NaN outputs. FTZ/DAZ are the caller's choice.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "abi/model_file.h"

struct activation {
	uint32_t kind; /* enum model_activation */
	float a, b;
};

/* y[rows][out] = act(x[rows][in] x w + bias[out]); w in the layout the table entry is for. */
struct dense {
	const float *x;
	const float *w;
	const float *bias; /* NULL, or `out` floats zero-padded to a multiple of 16 */
	float *y;
	size_t rows, in, out;
	struct activation act;
};

struct kernels {
	const char *name;
	void (*dense[MODEL_LAYOUT_END])(const struct dense *d); /* NULL: layout not taken */
	/* y[i] = act(x[i]), i < n; y == x is allowed. */
	void (*unary)(struct activation act, float *y, const float *x, size_t n);
	/* Softmax over each of `rows` contiguous vectors of n; y == x is allowed. */
	void (*softmax)(float *y, const float *x, size_t rows, size_t n);
	const struct conv_kernels *conv; /* models/run/conv.h; NULL: kernels_native()'s */
};

/* Reference: double sums, libm. Takes every layout. */
extern const struct kernels kernels_scalar;

/* cblas_sgemm, cblas_sgemv for one row; activations by `kernels_native()`. Takes every layout:
 * panels and columns by one call per panel. */
const struct kernels *kernels_openblas(void);

/* Panel and column kernels; NULL where they were not compiled in. The caller checks the CPU.
 * Errors against exact arithmetic, measured by tests/models/test_engine.c over the float range:
 * exp <= 2 ULP, sigmoid <= 4 ULP, tanh <= 4 ULP (results below 2^-126 excepted). */
const struct kernels *kernels_avx2(void);
const struct kernels *kernels_avx512(void);

/* The best family this CPU runs (cpuid and OS state): AVX-512, AVX2 or the scalar reference. */
const struct kernels *kernels_native(void);

/* Softmax over the middle one of three dimensions, k > 1: struct model_op's SOFTMAX. One row. */
void softmax_strided_run(const struct model_op *op, float *dst, const float *src);

/* act(x) by libm: the reference, also used by the compiler's constant folding. */
float activation_scalar(struct activation act, float x);

/* Bytes of the weights of a dense layer in `layout`; false when a product overflows. */
bool dense_weight_bytes(uint32_t layout, uint64_t in, uint64_t out, uint64_t *bytes);
