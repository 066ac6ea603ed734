/* SPDX-License-Identifier: BSD-3-Clause
 * The vector kernels of struct vectors (kernels.h), written once: vectors_avx2.c and
 * vectors_avx512.c include this behind their primitives, and say what the table VECTORS is called.
 */
#pragma once

#include "models/run/kernels.h"
#include "models/run/vecmath.h"

/* ---- unary ---- */

typedef vf activation_vector(vf x, vf a, vf b);

INLINE vf act_relu(vf x, vf a, vf b)
{
	(void)a, (void)b;
	return v_max(v_set(0.0f), x);
}

INLINE vf act_leaky_relu(vf x, vf a, vf b)
{
	(void)b;
	return v_select(v_less(x, v_set(0.0f)), v_mul(x, a), x);
}

INLINE vf act_clip(vf x, vf a, vf b)
{
	return v_min(b, v_max(a, x));
}

INLINE vf act_affine(vf x, vf a, vf b)
{
	return v_fma(a, x, b);
}

INLINE vf act_reciprocal(vf x, vf a, vf b)
{
	(void)a, (void)b;
	return v_div(v_set(1.0f), x);
}

INLINE vf act_elu(vf x, vf a, vf b)
{
	return v_mul(b, v_select(v_less(x, v_set(0.0f)), v_mul(a, v_expm1(x)), x));
}

INLINE vf act_hard_sigmoid(vf x, vf a, vf b)
{
	return act_clip(v_fma(a, x, b), v_set(0.0f), v_set(1.0f));
}

INLINE vf act_hard_swish(vf x, vf a, vf b)
{
	(void)a, (void)b;
	return v_mul(x, act_hard_sigmoid(x, v_set(1.0f / 6), v_set(0.5f)));
}

INLINE vf act_softsign(vf x, vf a, vf b)
{
	(void)a, (void)b;
	return v_div(x, v_add(v_set(1.0f), v_abs(x)));
}

INLINE vf act_silu(vf x, vf a, vf b)
{
	(void)b;
	return v_silu(x, a);
}

/* Functions of x alone, as one with parameters it ignores. */
#define ALONE(name, of)                                                                            \
	INLINE vf name(vf x, vf a, vf b)                                                           \
	{                                                                                          \
		(void)a, (void)b;                                                                  \
		return of(x);                                                                      \
	}
ALONE(act_sigmoid, v_sigmoid)
ALONE(act_tanh, v_tanh)
ALONE(act_neg, v_neg)
ALONE(act_abs, v_abs)
ALONE(act_exp, v_exp)
ALONE(act_sqrt, v_sqrt)
ALONE(act_log, v_log)
ALONE(act_erf, v_erf)
ALONE(act_softplus, v_softplus)
ALONE(act_gelu, v_gelu)
ALONE(act_gelu_tanh, v_gelu_tanh)
ALONE(act_mish, v_mish)
ALONE(act_floor, v_floor)
ALONE(act_ceil, v_ceil)
ALONE(act_round, v_round)
#undef ALONE

/* f is a constant at every call and becomes part of the loop. */
INLINE void each(activation_vector *f, struct activation act, float *y, const float *x, size_t n)
{
	const vf a = v_set(act.a), b = v_set(act.b);
	size_t i = 0;

	for (; i + LANES <= n; i += LANES)
		v_store(y + i, f(v_load(x + i), a, b));
	if (i < n)
		v_store_n(y + i, f(v_load_n(x + i, n - i, v_set(0.0f)), a, b), n - i);
}

#define EACH(name) \
	static void each_##name(struct activation act, float *y, const float *x, size_t n)         \
	{                                                                                          \
		each(act_##name, act, y, x, n);                                                    \
	}
EACH(relu)
EACH(sigmoid)
EACH(tanh)
EACH(leaky_relu)
EACH(clip)
EACH(neg)
EACH(abs)
EACH(exp)
EACH(sqrt)
EACH(log)
EACH(erf)
EACH(reciprocal)
EACH(affine)
EACH(elu)
EACH(hard_sigmoid)
EACH(hard_swish)
EACH(softplus)
EACH(softsign)
EACH(gelu)
EACH(gelu_tanh)
EACH(silu)
EACH(mish)
EACH(floor)
EACH(ceil)
EACH(round)
#undef EACH

static void copy(struct activation act, float *y, const float *x, size_t n)
{
	(void)act;
	for (size_t i = 0; y != x && i < n; i++)
		y[i] = x[i];
}

static void unary(struct activation act, float *y, const float *x, size_t n)
{
	static void (*const loops[MODEL_ACT_END])(
		struct activation, float *, const float *, size_t) = {
		[MODEL_ACT_NONE] = copy,
		[MODEL_ACT_RELU] = each_relu,
		[MODEL_ACT_SIGMOID] = each_sigmoid,
		[MODEL_ACT_TANH] = each_tanh,
		[MODEL_ACT_LEAKY_RELU] = each_leaky_relu,
		[MODEL_ACT_CLIP] = each_clip,
		[MODEL_ACT_NEG] = each_neg,
		[MODEL_ACT_ABS] = each_abs,
		[MODEL_ACT_EXP] = each_exp,
		[MODEL_ACT_SQRT] = each_sqrt,
		[MODEL_ACT_LOG] = each_log,
		[MODEL_ACT_ERF] = each_erf,
		[MODEL_ACT_RECIPROCAL] = each_reciprocal,
		[MODEL_ACT_AFFINE] = each_affine,
		[MODEL_ACT_ELU] = each_elu,
		[MODEL_ACT_HARD_SIGMOID] = each_hard_sigmoid,
		[MODEL_ACT_HARD_SWISH] = each_hard_swish,
		[MODEL_ACT_SOFTPLUS] = each_softplus,
		[MODEL_ACT_SOFTSIGN] = each_softsign,
		[MODEL_ACT_GELU] = each_gelu,
		[MODEL_ACT_GELU_TANH] = each_gelu_tanh,
		[MODEL_ACT_SILU] = each_silu,
		[MODEL_ACT_MISH] = each_mish,
		[MODEL_ACT_FLOOR] = each_floor,
		[MODEL_ACT_CEIL] = each_ceil,
		[MODEL_ACT_ROUND] = each_round,
	};

	loops[act.kind](act, y, x, n);
}

/* ---- binary ---- */

typedef vf binary_vector(vf a, vf b);

INLINE vf two_min(vf a, vf b) /* NaN in either is NaN */
{
	return v_select(v_is_nan(a), a, v_min(a, b));
}

INLINE vf two_max(vf a, vf b)
{
	return v_select(v_is_nan(a), a, v_max(a, b));
}

INLINE vf two_prelu(vf a, vf b)
{
	return v_select(v_less(a, v_set(0.0f)), v_mul(a, b), a);
}

INLINE vf load_step(const float *p, size_t at, size_t step, size_t n)
{
	return step ? v_load_n(p + at, n, v_set(0.0f)) : v_set(*p);
}

INLINE void pairs(binary_vector *f, float *y, struct line a, struct line b, size_t n)
{
	size_t i = 0;

	if (a.step && b.step)
		for (; i + LANES <= n; i += LANES)
			v_store(y + i, f(v_load(a.x + i), v_load(b.x + i)));
	else
		for (; i + LANES <= n; i += LANES)
			v_store(y + i,
				f(load_step(a.x, i, a.step, LANES),
					load_step(b.x, i, b.step, LANES)));
	if (i < n)
		v_store_n(y + i, f(load_step(a.x, i, a.step, n - i), load_step(b.x, i, b.step, n - i)),
			n - i);
}

static void binary(enum vector_binary fn, float *y, struct line a, struct line b, size_t n)
{
	switch (fn) {
	case VECTOR_ADD:
		pairs(v_add, y, a, b, n);
		break;
	case VECTOR_SUB:
		pairs(v_sub, y, a, b, n);
		break;
	case VECTOR_MUL:
		pairs(v_mul, y, a, b, n);
		break;
	case VECTOR_DIV:
		pairs(v_div, y, a, b, n);
		break;
	case VECTOR_MIN:
		pairs(two_min, y, a, b, n);
		break;
	case VECTOR_MAX:
		pairs(two_max, y, a, b, n);
		break;
	default:
		pairs(two_prelu, y, a, b, n);
		break;
	}
}

/* ---- softmax, norms ---- */

/* Three passes over one vector; one of n <= LANES stays in a register. */
static void softmax_one(float *y, const float *x, size_t n)
{
	const vf low = v_set(-__builtin_inff()), zero = v_set(0.0f);
	vf top = low, sum = zero, peak, scale;
	size_t i = 0;

	for (; i + LANES <= n; i += LANES)
		top = v_max(top, v_load(x + i));
	if (i < n)
		top = v_max(top, v_load_n(x + i, n - i, low));
	peak = v_set(v_top(top));
	for (i = 0; i + LANES <= n; i += LANES) {
		vf e = v_exp(v_sub(v_load(x + i), peak));

		sum = v_add(sum, e);
		v_store(y + i, e);
	}
	if (i < n) {
		vf e = v_first(v_exp(v_sub(v_load_n(x + i, n - i, zero), peak)), n - i, zero);

		sum = v_add(sum, e);
		v_store_n(y + i, e, n - i);
	}
	scale = v_set(1.0f / v_sum(sum));
	for (i = 0; i + LANES <= n; i += LANES)
		v_store(y + i, v_mul(v_load(y + i), scale));
	if (i < n)
		v_store_n(y + i, v_mul(v_load_n(y + i, n - i, zero), scale), n - i);
}

static void softmax(float *y, const float *x, size_t rows, size_t n)
{
	for (size_t r = 0; r < rows; r++)
		softmax_one(y + r * n, x + r * n, n);
}

/* Sum of x, or of (x - shift)^2, in four chains that hide the latency of an addition. */
INLINE float sum_of(const float *x, size_t n, vf shift, const bool squares)
{
	vf acc[4] = {v_set(0.0f), v_set(0.0f), v_set(0.0f), v_set(0.0f)};
	size_t i = 0;

	for (; i + 4 * LANES <= n; i += 4 * LANES) {
#pragma GCC unroll 4
		for (size_t k = 0; k < 4; k++) {
			vf v = v_sub(v_load(x + i + k * LANES), shift);

			acc[k] = squares ? v_fma(v, v, acc[k]) : v_add(acc[k], v);
		}
	}
	for (; i < n; i += LANES) {
		vf v = v_sub(v_load_n(x + i, n - i, shift), shift);

		acc[0] = squares ? v_fma(v, v, acc[0]) : v_add(acc[0], v);
	}
	return v_sum(v_add(v_add(acc[0], acc[1]), v_add(acc[2], acc[3])));
}

static float sum(const float *x, size_t n)
{
	return sum_of(x, n, v_set(0.0f), false);
}

INLINE vf norm_part(const struct norm *p, const float *x, size_t i, size_t n, vf mean, vf factor)
{
	const vf zero = v_set(0.0f);
	vf v = v_mul(v_sub(v_load_n(x + i, n, zero), mean), factor);

	v = v_mul(v, v_load_n(p->scale + i, n, zero));
	return p->bias ? v_add(v, v_load_n(p->bias + i, n, zero)) : v;
}

static void layer_norm(const struct norm *p)
{
	const vf zero = v_set(0.0f);

	for (size_t r = 0; r < p->rows; r++) {
		const float *x = p->x + r * p->n;
		float *y = p->y + r * p->n, variance;
		vf mean = zero, factor;
		size_t i = 0;

		if (!p->rms)
			mean = v_set(sum_of(x, p->n, zero, false) / (float)p->n);
		variance = sum_of(x, p->n, mean, true) / (float)p->n;
		factor = v_set(1 / __builtin_sqrtf(variance + p->epsilon));
		for (; i + LANES <= p->n; i += LANES)
			v_store(y + i, norm_part(p, x, i, LANES, mean, factor));
		if (i < p->n)
			v_store_n(
				y + i, norm_part(p, x, i, p->n - i, mean, factor), p->n - i);
	}
}

/* ---- products ---- */

/* R rows x V vectors of c, the last of them with what is left of the columns if `tail`; all three are constants at
 * every call. */
INLINE void product_tile(const struct product *p, size_t row, size_t col, const int R, const int V, const int tail)
{
	const float *a = p->a + row * p->a_stride, *b = p->b + col;
	const size_t left = p->n - col - (size_t)(V - 1) * LANES;
	vf acc[6][2];

#pragma GCC unroll 8
	for (int r = 0; r < R; r++) {
#pragma GCC unroll 2
		for (int v = 0; v < V; v++)
			acc[r][v] = v_set(0.0f);
	}
	for (size_t k = 0; k < p->k; k++, b += p->b_stride) {
		vf w[2];

#pragma GCC unroll 2
		for (int v = 0; v < V; v++)
			w[v] = tail && v == V - 1 ? v_load_n(b + v * LANES, left, v_set(0.0f)) : v_load(b + v * LANES);
#pragma GCC unroll 8
		for (int r = 0; r < R; r++) {
			vf x = v_set(a[(size_t)r * p->a_stride + k]);

#pragma GCC unroll 2
			for (int v = 0; v < V; v++)
				acc[r][v] = v_fma(x, w[v], acc[r][v]);
		}
	}
#pragma GCC unroll 8
	for (int r = 0; r < R; r++) {
		float *c = p->c + (row + (size_t)r) * p->c_stride + col;

#pragma GCC unroll 2
		for (int v = 0; v < V; v++) {
			vf y = v_mul(acc[r][v], v_set(p->alpha));

			if (tail && v == V - 1)
				v_store_n(c + v * LANES, y, left);
			else
				v_store(c + v * LANES, y);
		}
	}
}

INLINE void product_rows(const struct product *p, size_t col, const int V, const int tail)
{
	size_t r = 0;

	for (; r + 6 <= p->m; r += 6)
		product_tile(p, r, col, 6, V, tail);
	switch (p->m - r) {
	case 5:
		product_tile(p, r, col, 5, V, tail);
		break;
	case 4:
		product_tile(p, r, col, 4, V, tail);
		break;
	case 3:
		product_tile(p, r, col, 3, V, tail);
		break;
	case 2:
		product_tile(p, r, col, 2, V, tail);
		break;
	case 1:
		product_tile(p, r, col, 1, V, tail);
		break;
	default:
		break;
	}
}

static void product(const struct product *p)
{
	size_t col = 0;

	for (; col + 2 * LANES <= p->n; col += 2 * LANES)
		product_rows(p, col, 2, 0);
	if (p->n - col > LANES)
		product_rows(p, col, 2, 1);
	else if (col < p->n)
		product_rows(p, col, 1, 1);
}

/* ---- moves ---- */

/* 8 x 8 floats: pairs, quads, halves. Both instruction sets have the 256-bit shuffles. */
INLINE void transpose_block(float *to, size_t to_stride, const float *from, size_t from_stride)
{
	__m256 r[8], s[8];

#pragma GCC unroll 8
	for (int i = 0; i < 8; i++)
		r[i] = _mm256_loadu_ps(from + (size_t)i * from_stride);
#pragma GCC unroll 4
	for (int i = 0; i < 8; i += 2) {
		s[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
		s[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
	}
#pragma GCC unroll 2
	for (int i = 0; i < 8; i += 4) {
		r[i] = _mm256_shuffle_ps(s[i], s[i + 2], 0x44);
		r[i + 1] = _mm256_shuffle_ps(s[i], s[i + 2], 0xee);
		r[i + 2] = _mm256_shuffle_ps(s[i + 1], s[i + 3], 0x44);
		r[i + 3] = _mm256_shuffle_ps(s[i + 1], s[i + 3], 0xee);
	}
#pragma GCC unroll 4
	for (int i = 0; i < 4; i++) {
		_mm256_storeu_ps(
			to + (size_t)i * to_stride, _mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
		_mm256_storeu_ps(to + (size_t)(i + 4) * to_stride,
			_mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
	}
}

/* What is less than 8 high or wide: the shorter loop inside, or a channels-first image of three
 * channels costs a division an element. */
static void transpose_edge(float *to, size_t to_stride, const float *from, size_t from_stride,
	size_t rows, size_t columns)
{
	if (rows == 3) {
		for (size_t c = 0; c < columns; c++) {
			float *y = to + c * to_stride;

			y[0] = from[c];
			y[1] = from[from_stride + c];
			y[2] = from[2 * from_stride + c];
		}
		return;
	}
	for (size_t c = 0; c < columns; c++)
		for (size_t r = 0; r < rows; r++)
			to[c * to_stride + r] = from[r * from_stride + c];
}

static void transpose(float *to, size_t to_stride, const float *from, size_t from_stride,
	size_t rows, size_t columns)
{
	size_t r = 0, wide = columns / 8 * 8;

	for (; r + 8 <= rows; r += 8) {
		for (size_t c = 0; c < wide; c += 8)
			transpose_block(to + c * to_stride + r, to_stride,
				from + r * from_stride + c, from_stride);
		transpose_edge(to + wide * to_stride + r, to_stride,
			from + r * from_stride + wide, from_stride, 8, columns - wide);
	}
	transpose_edge(
		to + r, to_stride, from + r * from_stride, from_stride, rows - r, columns);
}

const struct vectors VECTORS = {
	.unary = unary,
	.binary = binary,
	.softmax = softmax,
	.sum = sum,
	.layer_norm = layer_norm,
	.product = product,
	.transpose = transpose,
};
