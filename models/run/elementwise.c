/* SPDX-License-Identifier: BSD-3-Clause
 * Element by element: unary functions, binary functions with broadcasting, Where and Cast. Float
 * dtypes are computed in float32, integers and BOOL in int64 (wrapping), a block at a time.
 */
#include <math.h>
#include <string.h>

#include "models/run/tensor.h"

typedef float float_unary(float x, const float *p);
typedef float float_binary(float a, float b);
typedef int64_t integer_binary(int64_t a, int64_t b);

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

/* Run `block` over n elements, TENSOR_BLOCK at a time. */
static void in_blocks(const struct tensor_op *op, const struct tensor_args *a,
	void (*block)(const struct tensor_op *, const struct tensor_args *, int64_t, size_t))
{
	size_t n = tensor_elements(&op->out[0]);

	for (size_t at = 0; at < n; at += TENSOR_BLOCK)
		block(op, a, (int64_t)at, n - at < TENSOR_BLOCK ? n - at : TENSOR_BLOCK);
}

void unary_run(const struct tensor_op *op, const struct tensor_args *a)
{
	in_blocks(op, a, unary_block);
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

void cast_run(const struct tensor_op *op, const struct tensor_args *a)
{
	in_blocks(op, a, cast_block);
}

/* ---- binary ---- */

static float b_mod(float a, float b) /* sign of the divisor */
{
	float r = fmodf(a, b);

	return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}

static float b_min(float a, float b)
{
	return isnan(a) || a < b ? a : b;
}

static float b_max(float a, float b)
{
	return isnan(a) || a > b ? a : b;
}

static float b_prelu(float a, float b)
{
	return a < 0 ? a * b : a;
}

static float b_equal(float a, float b)
{
	return a == b ? 1 : 0;
}

static float b_less(float a, float b)
{
	return a < b ? 1 : 0;
}

static float b_greater(float a, float b)
{
	return a > b ? 1 : 0;
}

static float b_less_equal(float a, float b)
{
	return a <= b ? 1 : 0;
}

static float b_greater_equal(float a, float b)
{
	return a >= b ? 1 : 0;
}

/* The four arithmetic ones have loops of their own below. */
static float_binary *const float_functions[BINARY_END] = {
	[BINARY_POW] = powf,
	[BINARY_MOD] = b_mod,
	[BINARY_FMOD] = fmodf,
	[BINARY_MIN] = b_min,
	[BINARY_MAX] = b_max,
	[BINARY_PRELU] = b_prelu,
	[BINARY_EQUAL] = b_equal,
	[BINARY_LESS] = b_less,
	[BINARY_GREATER] = b_greater,
	[BINARY_LESS_EQUAL] = b_less_equal,
	[BINARY_GREATER_EQUAL] = b_greater_equal,
};

static int64_t i_add(int64_t a, int64_t b)
{
	return (int64_t)((uint64_t)a + (uint64_t)b);
}

static int64_t i_sub(int64_t a, int64_t b)
{
	return (int64_t)((uint64_t)a - (uint64_t)b);
}

static int64_t i_mul(int64_t a, int64_t b)
{
	return (int64_t)((uint64_t)a * (uint64_t)b);
}

static int64_t i_div(int64_t a, int64_t b) /* by 0 is 0 */
{
	if (b == 0 || b == -1)
		return b ? i_sub(0, a) : 0;
	return a / b;
}

static int64_t i_fmod(int64_t a, int64_t b)
{
	return b == 0 || b == -1 ? 0 : a % b;
}

static int64_t i_mod(int64_t a, int64_t b)
{
	int64_t r = i_fmod(a, b);

	return r && (r < 0) != (b < 0) ? r + b : r;
}

static int64_t i_pow(int64_t a, int64_t b)
{
	int64_t y = 1;

	if (b < 0)
		return a == 1 ? 1 : a == -1 ? (b & 1 ? -1 : 1) : 0;
	for (; b; b >>= 1, a = i_mul(a, a))
		y = b & 1 ? i_mul(y, a) : y;
	return y;
}

static int64_t i_min(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int64_t i_max(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static int64_t i_prelu(int64_t a, int64_t b)
{
	return a < 0 ? i_mul(a, b) : a;
}

static int64_t i_shift_left(int64_t a, int64_t b)
{
	return b < 0 || b > 63 ? 0 : (int64_t)((uint64_t)a << b);
}

static int64_t i_shift_right(int64_t a, int64_t b)
{
	return b < 0 || b > 63 ? 0 : (int64_t)((uint64_t)a >> b);
}

static int64_t i_and(int64_t a, int64_t b)
{
	return a & b;
}

static int64_t i_or(int64_t a, int64_t b)
{
	return a | b;
}

static int64_t i_xor(int64_t a, int64_t b)
{
	return a ^ b;
}

static int64_t i_equal(int64_t a, int64_t b)
{
	return a == b;
}

static int64_t i_less(int64_t a, int64_t b)
{
	return a < b;
}

static int64_t i_greater(int64_t a, int64_t b)
{
	return a > b;
}

static int64_t i_less_equal(int64_t a, int64_t b)
{
	return a <= b;
}

static int64_t i_greater_equal(int64_t a, int64_t b)
{
	return a >= b;
}

static integer_binary *const integer_functions[BINARY_END] = {
	[BINARY_ADD] = i_add,
	[BINARY_SUB] = i_sub,
	[BINARY_MUL] = i_mul,
	[BINARY_DIV] = i_div,
	[BINARY_POW] = i_pow,
	[BINARY_MOD] = i_mod,
	[BINARY_FMOD] = i_fmod,
	[BINARY_MIN] = i_min,
	[BINARY_MAX] = i_max,
	[BINARY_PRELU] = i_prelu,
	[BINARY_SHIFT_LEFT] = i_shift_left,
	[BINARY_SHIFT_RIGHT] = i_shift_right,
	[BINARY_AND] = i_and,
	[BINARY_OR] = i_or,
	[BINARY_XOR] = i_xor,
	[BINARY_EQUAL] = i_equal,
	[BINARY_LESS] = i_less,
	[BINARY_GREATER] = i_greater,
	[BINARY_LESS_EQUAL] = i_less_equal,
	[BINARY_GREATER_EQUAL] = i_greater_equal,
};

int binary_infer(struct tensor_op *op, struct error *err)
{
	int64_t fn = op->i[0];
	bool is_float = tensor_is_float(op->in[0].dtype);

	if (fn < 0 || fn >= BINARY_END)
		return tensor_refuse(op, err, "function %ld", fn);
	if (op->in[0].dtype != op->in[1].dtype)
		return tensor_refuse(op, err, "dtypes %u and %u", op->in[0].dtype, op->in[1].dtype);
	if (is_float && fn >= BINARY_SHIFT_LEFT && fn <= BINARY_XOR)
		return tensor_refuse(op, err, "function %ld of dtype %u", fn, op->in[0].dtype);
	if (!tensor_broadcast(op->in, 2, &op->out[0]))
		return tensor_refuse(op, err, "the shapes do not broadcast");
	op->out[0].dtype = fn >= BINARY_EQUAL ? WIRE_BOOL : op->in[0].dtype;
	return 0;
}

static void float_line(int64_t fn, float *y, const float *a, const float *b, size_t n)
{
	switch (fn) {
	case BINARY_ADD:
		for (size_t i = 0; i < n; i++)
			y[i] = a[i] + b[i];
		break;
	case BINARY_SUB:
		for (size_t i = 0; i < n; i++)
			y[i] = a[i] - b[i];
		break;
	case BINARY_MUL:
		for (size_t i = 0; i < n; i++)
			y[i] = a[i] * b[i];
		break;
	case BINARY_DIV:
		for (size_t i = 0; i < n; i++)
			y[i] = a[i] / b[i];
		break;
	default:
		for (size_t i = 0; i < n; i++)
			y[i] = float_functions[fn](a[i], b[i]);
		break;
	}
}

/* Part of a line: n elements at both operands' positions, n <= TENSOR_BLOCK. */
static void binary_part(const struct tensor_op *op, const struct tensor_args *a,
	const struct walk *w, uint32_t from, int64_t to, size_t n)
{
	const uint32_t dtype = op->in[0].dtype, last = w->rank - 1;
	const int64_t sx = w->stride[0][last], sy = w->stride[1][last];
	const int64_t ax = w->at[0] + from * sx, ay = w->at[1] + from * sy;

	if (tensor_is_float(dtype)) {
		float in[2][TENSOR_BLOCK], out[TENSOR_BLOCK];
		const float *x = tensor_load_f32(dtype, a->in[0], ax, sx, n, in[0]);
		const float *y = tensor_load_f32(dtype, a->in[1], ay, sy, n, in[1]);

		float_line(op->i[0], out, x, y, n);
		tensor_store_f32(op->out[0].dtype, a->out[0], to, n, out);
	} else {
		int64_t in[2][TENSOR_BLOCK], out[TENSOR_BLOCK];
		const int64_t *x = tensor_load_i64(dtype, a->in[0], ax, sx, n, in[0]);
		const int64_t *y = tensor_load_i64(dtype, a->in[1], ay, sy, n, in[1]);

		for (size_t i = 0; i < n; i++)
			out[i] = integer_functions[op->i[0]](x[i], y[i]);
		tensor_store_i64(op->out[0].dtype, a->out[0], to, n, out);
	}
}

void binary_tensor_run(const struct tensor_op *op, const struct tensor_args *a)
{
	struct walk w;
	int64_t to = 0;

	walk_broadcast(&w, &op->out[0], op->in, 2);
	do {
		uint32_t line = w.dims[w.rank - 1];

		for (uint32_t from = 0; from < line; from += TENSOR_BLOCK) {
			size_t n = line - from < TENSOR_BLOCK ? line - from : TENSOR_BLOCK;

			binary_part(op, a, &w, from, to, n);
			to += (int64_t)n;
		}
	} while (walk_next(&w));
}

/* ---- where ---- */

int where_infer(struct tensor_op *op, struct error *err)
{
	if (op->in[0].dtype != WIRE_BOOL || op->in[1].dtype != op->in[2].dtype)
		return tensor_refuse(op, err, "dtypes %u, %u and %u", op->in[0].dtype,
			op->in[1].dtype, op->in[2].dtype);
	if (!tensor_broadcast(op->in, 3, &op->out[0]))
		return tensor_refuse(op, err, "the shapes do not broadcast");
	op->out[0].dtype = op->in[1].dtype;
	return 0;
}

void where_run(const struct tensor_op *op, const struct tensor_args *a)
{
	const size_t size = wire_dtype_bytes(op->out[0].dtype);
	uint8_t *to = a->out[0];
	struct walk w;

	walk_broadcast(&w, &op->out[0], op->in, 3);
	do {
		uint32_t last = w.rank - 1;
		int64_t at[3] = {w.at[0], w.at[1], w.at[2]};

		for (uint32_t i = 0; i < w.dims[last]; i++, to += size) {
			uint32_t k = ((const uint8_t *)a->in[0])[at[0]] ? 1 : 2;

			memcpy(to, (const uint8_t *)a->in[k] + (size_t)at[k] * size, size);
			for (uint32_t t = 0; t < 3; t++)
				at[t] += w.stride[t][last];
		}
	} while (walk_next(&w));
}
