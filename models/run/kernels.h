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

enum {
	DENSE_BLOCK_ROWS = 64,   /* rows a reduced layer converts at a time */
	DENSE_INT8_MAX_IN = 65536, /* its sums fit 32 bits */
};

/* y[rows][out] = act(x[rows][in] x w + bias[out]); w in the layout the table entry is for. */
struct dense {
	const float *x;
	const void *w;
	const float *bias; /* NULL, or `out` floats zero-padded to a multiple of 16 */
	float *y;
	size_t rows, in, out;
	struct activation act;
	float low, high; /* PANELS_INT8: x's range; equal: every row's own */
	void *scratch;   /* dense_scratch_bytes(), 64-byte aligned; NULL when that is 0 */
};

/* y = (x - mean) / sqrt(variance + epsilon) scale + bias over each of `rows` vectors of n. */
struct norm {
	const float *x, *scale, *bias; /* scale, bias: n; bias may be NULL */
	float *y;                      /* may be x */
	size_t rows, n;
	float epsilon;
	bool rms; /* the mean counts as 0 */
};

/* c[m][n] = alpha a[m][k] b[k][n]; strides in floats between rows, columns are neighbours. */
struct product {
	const float *a, *b;
	float *c;
	size_t m, k, n, a_stride, b_stride, c_stride;
	float alpha;
};

enum vector_binary {
	VECTOR_ADD,
	VECTOR_SUB,
	VECTOR_MUL,
	VECTOR_DIV,
	VECTOR_MIN, /* NaN in either operand is NaN */
	VECTOR_MAX,
	VECTOR_PRELU, /* a < 0 ? a b : a */
};

/* An operand of a binary line: element i is x[i step], step 0 or 1. */
struct line {
	const float *x;
	size_t step;
};

/* What a family does beside dense layers. Every y may be one of its inputs unless said otherwise. */
struct vectors {
	/* y[i] = act(x[i]), i < n. */
	void (*unary)(struct activation act, float *y, const float *x, size_t n);
	void (*binary)(enum vector_binary fn, float *y, struct line a, struct line b, size_t n);
	/* Softmax over each of `rows` contiguous vectors of n. */
	void (*softmax)(float *y, const float *x, size_t rows, size_t n);
	float (*sum)(const float *x, size_t n);
	void (*layer_norm)(const struct norm *p);
	void (*product)(const struct product *p); /* c overlaps neither */
	/* to[c to_stride + r] = from[r from_stride + c]; they do not overlap. */
	void (*transpose)(float *to, size_t to_stride, const float *from, size_t from_stride,
		size_t rows, size_t columns);
};

struct kernels {
	const char *name;
	void (*dense[MODEL_LAYOUT_END])(const struct dense *d); /* NULL: layout not taken */
	const struct vectors *v;
	const struct conv_kernels *conv; /* models/run/conv.h; NULL: kernels_native()'s */
};

/* Scalar: double sums, libm. The others: written once in vector_body.h on vecmath.h, whose head
 * states their errors. Those exist only where they were compiled in. */
extern const struct vectors vectors_scalar, vectors_avx2, vectors_avx512;

/* Reference: double (INT8: integer) sums, libm. Takes every layout. INT8 layers without activation or
 * with ReLU give the same bits in every family; BF16 ones differ as float32 sums do. */
extern const struct kernels kernels_scalar;

/* cblas_sgemm, cblas_sgemv for one row; activations by `kernels_native()`. Takes every float32
 * layout: panels and columns by one call per panel. */
const struct kernels *kernels_openblas(void);

/* Panel and column kernels; NULL where they were not compiled in. The caller checks the CPU. */
const struct kernels *kernels_avx2(void);
const struct kernels *kernels_avx512(void);

/* The best family this CPU runs (cpuid and OS state): AVX-512, AVX2 or the scalar reference. */
const struct kernels *kernels_native(void);

/* Softmax over the middle one of three dimensions, k > 1: struct model_op's SOFTMAX. One row. */
void softmax_strided_run(const struct model_op *op, float *dst, const float *src);

/* act(x) by libm: the reference, also used by the compiler's constant folding. */
float activation_scalar(struct activation act, float x);

/* Bytes of the weights of a dense layer in `layout`; false when a product overflows, or INT8 has
 * more than DENSE_INT8_MAX_IN inputs. */
bool dense_weight_bytes(uint32_t layout, uint64_t in, uint64_t out, uint64_t *bytes);

/* Bytes of scratch a dense layer needs, a multiple of 64; 0 for float32 layouts. */
uint64_t dense_scratch_bytes(uint32_t layout, uint64_t in);
