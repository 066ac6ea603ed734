/* SPDX-License-Identifier: BSD-3-Clause
 * Element by element, one input: unary functions and Cast. Float dtypes are computed in float32,
 * integers and BOOL in int64 (wrapping), a block at a time.
 */
#include <math.h>

#include "models/run/tensor.h"

typedef float float_unary(float x, const float *p);

/* ---- unary ---- */

static float f_none(float x, const float *p)
{
	(void)p;
	return x;
}

static float f_abs(float x, const float *p)
{
	(void)p;
	return fabsf(x);
}

static float f_neg(float x, const float *p)
{
	(void)p;
	return -x;
}

static float f_sign(float x, const float *p)
{
	(void)p;
	return isnan(x) ? x : (x > 0 ? 1.0f : 0) - (x < 0 ? 1.0f : 0);
}

static float f_floor(float x, const float *p)
{
	(void)p;
	return floorf(x);
}

static float f_ceil(float x, const float *p)
{
	(void)p;
	return ceilf(x);
}

static float f_round(float x, const float *p) /* halves to even */
{
	(void)p;
	return nearbyintf(x);
}

static float f_sqrt(float x, const float *p)
{
	(void)p;
	return sqrtf(x);
}

static float f_exp(float x, const float *p)
{
	(void)p;
	return expf(x);
}

static float f_log(float x, const float *p)
{
	(void)p;
	return logf(x);
}

static float f_reciprocal(float x, const float *p)
{
	(void)p;
	return 1 / x;
}

static float f_sin(float x, const float *p)
{
	(void)p;
	return sinf(x);
}

static float f_cos(float x, const float *p)
{
	(void)p;
	return cosf(x);
}

static float f_tan(float x, const float *p)
{
	(void)p;
	return tanf(x);
}

static float f_asin(float x, const float *p)
{
	(void)p;
	return asinf(x);
}

static float f_acos(float x, const float *p)
{
	(void)p;
	return acosf(x);
}

static float f_atan(float x, const float *p)
{
	(void)p;
	return atanf(x);
}

static float f_sinh(float x, const float *p)
{
	(void)p;
	return sinhf(x);
}

static float f_cosh(float x, const float *p)
{
	(void)p;
	return coshf(x);
}

static float f_tanh(float x, const float *p)
{
	(void)p;
	return tanhf(x);
}

static float f_asinh(float x, const float *p)
{
	(void)p;
	return asinhf(x);
}

static float f_acosh(float x, const float *p)
{
	(void)p;
	return acoshf(x);
}

static float f_atanh(float x, const float *p)
{
	(void)p;
	return atanhf(x);
}

static float f_erf(float x, const float *p)
{
	(void)p;
	return erff(x);
}

static float f_sigmoid(float x, const float *p)
{
	(void)p;
	return 1 / (1 + expf(-x));
}

static float f_relu(float x, const float *p)
{
	(void)p;
	return x < 0 ? 0 : x;
}

static float f_leaky_relu(float x, const float *p)
{
	return x < 0 ? p[0] * x : x;
}

static float f_elu(float x, const float *p)
{
	return x < 0 ? p[0] * expm1f(x) : x;
}

static float f_selu(float x, const float *p)
{
	return p[1] * (x < 0 ? p[0] * expm1f(x) : x);
}

static float f_celu(float x, const float *p)
{
	return fmaxf(0, x) + fminf(0, p[0] * expm1f(x / p[0]));
}

static float f_hard_sigmoid(float x, const float *p)
{
	float y = p[0] * x + p[1];

	return y < 0 ? 0 : y > 1 ? 1 : y;
}

static float f_hard_swish(float x, const float *p)
{
	float y = x / 6 + 0.5f;

	(void)p;
	return x * (y < 0 ? 0 : y > 1 ? 1 : y);
}

static float f_softplus(float x, const float *p)
{
	(void)p;
	return x > 20 ? x : log1pf(expf(x));
}

static float f_softsign(float x, const float *p)
{
	(void)p;
	return x / (1 + fabsf(x));
}

static float f_thresholded(float x, const float *p)
{
	return isnan(x) || x > p[0] ? x : 0;
}

static float f_shrink(float x, const float *p)
{
	if (x < -p[1])
		return x + p[0];
	return x > p[1] ? x - p[0] : 0;
}

static float f_clip(float x, const float *p)
{
	x = x < p[0] ? p[0] : x;
	return x > p[1] ? p[1] : x;
}

static float f_gelu(float x, const float *p)
{
	(void)p;
	return 0.5f * x * (1 + erff(x * 0.70710678f));
}

static float f_mish(float x, const float *p)
{
	return x * tanhf(f_softplus(x, p));
}

static float f_affine(float x, const float *p)
{
	return p[0] * x + p[1];
}

static float f_not(float x, const float *p)
{
	(void)p;
	return x == 0 ? 1 : 0;
}

static float f_is_nan(float x, const float *p)
{
	(void)p;
	return isnan(x) ? 1.0f : 0.0f;
}

static float f_is_inf(float x, const float *p)
{
	return isinf(x) && p[x < 0 ? 0 : 1] != 0 ? 1 : 0;
}

static float_unary *const unary_functions[UNARY_END] = {
	[UNARY_NONE] = f_none,
	[UNARY_ABS] = f_abs,
	[UNARY_NEG] = f_neg,
	[UNARY_SIGN] = f_sign,
	[UNARY_FLOOR] = f_floor,
	[UNARY_CEIL] = f_ceil,
	[UNARY_ROUND] = f_round,
	[UNARY_SQRT] = f_sqrt,
	[UNARY_EXP] = f_exp,
	[UNARY_LOG] = f_log,
	[UNARY_RECIPROCAL] = f_reciprocal,
	[UNARY_SIN] = f_sin,
	[UNARY_COS] = f_cos,
	[UNARY_TAN] = f_tan,
	[UNARY_ASIN] = f_asin,
	[UNARY_ACOS] = f_acos,
	[UNARY_ATAN] = f_atan,
	[UNARY_SINH] = f_sinh,
	[UNARY_COSH] = f_cosh,
	[UNARY_TANH] = f_tanh,
	[UNARY_ASINH] = f_asinh,
	[UNARY_ACOSH] = f_acosh,
	[UNARY_ATANH] = f_atanh,
	[UNARY_ERF] = f_erf,
	[UNARY_SIGMOID] = f_sigmoid,
	[UNARY_RELU] = f_relu,
	[UNARY_LEAKY_RELU] = f_leaky_relu,
	[UNARY_ELU] = f_elu,
	[UNARY_SELU] = f_selu,
	[UNARY_CELU] = f_celu,
	[UNARY_HARD_SIGMOID] = f_hard_sigmoid,
	[UNARY_HARD_SWISH] = f_hard_swish,
	[UNARY_SOFTPLUS] = f_softplus,
	[UNARY_SOFTSIGN] = f_softsign,
	[UNARY_THRESHOLDED] = f_thresholded,
	[UNARY_SHRINK] = f_shrink,
	[UNARY_CLIP] = f_clip,
	[UNARY_GELU] = f_gelu,
	[UNARY_MISH] = f_mish,
	[UNARY_AFFINE] = f_affine,
	[UNARY_NOT] = f_not,
	[UNARY_IS_NAN] = f_is_nan,
	[UNARY_IS_INF] = f_is_inf,
};

static int64_t integer_unary(int64_t fn, int64_t x)
{
	switch (fn) {
	case UNARY_ABS:
		return x < 0 ? (int64_t)(0 - (uint64_t)x) : x;
	case UNARY_NEG:
		return (int64_t)(0 - (uint64_t)x);
	case UNARY_SIGN:
		return (x > 0) - (x < 0);
	case UNARY_RELU:
		return x < 0 ? 0 : x;
	case UNARY_NOT:
		return x == 0;
	default:
		return x;
	}
}

static bool integer_unary_exists(int64_t fn)
{
	return fn == UNARY_NONE || fn == UNARY_ABS || fn == UNARY_NEG || fn == UNARY_SIGN ||
	       fn == UNARY_RELU || fn == UNARY_NOT;
}

int unary_infer(struct tensor_op *op, struct error *err)
{
	bool is_float = tensor_is_float(op->in[0].dtype);

	if (op->i[0] < 0 || op->i[0] >= UNARY_END)
		return tensor_refuse(op, err, "function %ld", op->i[0]);
	if (!is_float && !integer_unary_exists(op->i[0]))
		return tensor_refuse(
			op, err, "function %ld of dtype %u", op->i[0], op->in[0].dtype);
	op->out[0] = op->in[0];
	if (op->i[0] == UNARY_IS_NAN || op->i[0] == UNARY_IS_INF || op->i[0] == UNARY_NOT)
		op->out[0].dtype = WIRE_BOOL;
	return 0;
}

static void unary_block(
	const struct tensor_op *op, const struct tensor_args *a, int64_t at, size_t n)
{
	if (tensor_is_float(op->in[0].dtype)) {
		float_unary *f = unary_functions[op->i[0]];
		float in[TENSOR_BLOCK], y[TENSOR_BLOCK];
		const float *x = tensor_load_f32(op->in[0].dtype, a->in[0], at, 1, n, in);

		for (size_t i = 0; i < n; i++)
			y[i] = f(x[i], op->f);
		tensor_store_f32(op->out[0].dtype, a->out[0], at, n, y);
	} else {
		int64_t in[TENSOR_BLOCK], y[TENSOR_BLOCK];
		const int64_t *x = tensor_load_i64(op->in[0].dtype, a->in[0], at, 1, n, in);

		for (size_t i = 0; i < n; i++)
			y[i] = integer_unary(op->i[0], x[i]);
		tensor_store_i64(op->out[0].dtype, a->out[0], at, n, y);
	}
}

/* Run `block` over the elements of all rows, TENSOR_BLOCK at a time. */
static void in_blocks(const struct tensor_op *op, const struct tensor_args *a, size_t rows,
	void (*block)(const struct tensor_op *, const struct tensor_args *, int64_t, size_t))
{
	size_t n = rows * tensor_elements(&op->out[0]);

	if (rows > 1 && !a->in_stride[0]) { /* the same constant for all */
		for (size_t row = 0; row < rows; row++) {
			struct tensor_args one = tensor_row(op, a, row);

			in_blocks(op, &one, 1, block);
		}
		return;
	}
	for (size_t at = 0; at < n; at += TENSOR_BLOCK)
		block(op, a, (int64_t)at, n - at < TENSOR_BLOCK ? n - at : TENSOR_BLOCK);
}

void unary_rows(const struct tensor_op *op, const struct tensor_args *a, size_t rows)
{
	in_blocks(op, a, rows, unary_block);
}

/* ---- cast ---- */

int cast_infer(struct tensor_op *op, struct error *err)
{
	if (op->i[0] <= 0 || op->i[0] >= WIRE_DTYPE_END)
		return tensor_refuse(op, err, "to dtype %ld", op->i[0]);
	op->out[0] = op->in[0];
	op->out[0].dtype = (uint32_t)op->i[0];
	return 0;
}

static void cast_block(
	const struct tensor_op *op, const struct tensor_args *a, int64_t at, size_t n)
{
	float f[TENSOR_BLOCK];
	int64_t i[TENSOR_BLOCK];
	uint32_t from = op->in[0].dtype, to = op->out[0].dtype;

	/* To BOOL by way of floats: 0.5 is true. Integers go by way of integers, exactly. */
	if (tensor_is_float(from))
		tensor_store_f32(
			to, a->out[0], at, n, tensor_load_f32(from, a->in[0], at, 1, n, f));
	else
		tensor_store_i64(
			to, a->out[0], at, n, tensor_load_i64(from, a->in[0], at, 1, n, i));
}

void cast_rows(const struct tensor_op *op, const struct tensor_args *a, size_t rows)
{
	in_blocks(op, a, rows, cast_block);
}
