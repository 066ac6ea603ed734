/* SPDX-License-Identifier: BSD-3-Clause
 * Element by element, several inputs: binary functions with broadcasting, and Where. Float dtypes
 * are computed in float32, integers and BOOL in int64 (wrapping); float32 lines by vector kernels.
 */
#include <math.h>
#include <string.h>

#include "models/run/tensor.h"

typedef float float_binary(float a, float b);
typedef int64_t integer_binary(int64_t a, int64_t b);

/* More dimensions or elements than one walk has: row by row. */
static void rows_apart(const struct tensor_op *op, const struct tensor_args *a, size_t rows,
	void (*run)(const struct tensor_op *, const struct tensor_args *, size_t))
{
	for (size_t row = 0; row < rows; row++) {
		struct tensor_args one = tensor_row(op, a, row);

		run(op, &one, 1);
	}
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

static float b_add(float a, float b)
{
	return a + b;
}

static float b_sub(float a, float b)
{
	return a - b;
}

static float b_mul(float a, float b)
{
	return a * b;
}

static float b_div(float a, float b)
{
	return a / b;
}

static float_binary *const float_functions[BINARY_END] = {
	[BINARY_ADD] = b_add,
	[BINARY_SUB] = b_sub,
	[BINARY_MUL] = b_mul,
	[BINARY_DIV] = b_div,
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

		for (size_t i = 0; i < n; i++)
			out[i] = float_functions[op->i[0]](x[i], y[i]);
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

/* The kernels' name of a function, or -1. */
static int vector_function(int64_t fn)
{
	static const int names[BINARY_END] = {[BINARY_ADD] = VECTOR_ADD + 1,
		[BINARY_SUB] = VECTOR_SUB + 1,
		[BINARY_MUL] = VECTOR_MUL + 1,
		[BINARY_DIV] = VECTOR_DIV + 1,
		[BINARY_MIN] = VECTOR_MIN + 1,
		[BINARY_MAX] = VECTOR_MAX + 1,
		[BINARY_PRELU] = VECTOR_PRELU + 1};

	return names[fn] - 1;
}

/* One line of the walk, whose result begins at element `to`. */
static void binary_line(
	const struct tensor_op *op, const struct tensor_args *a, const struct walk *w, int64_t to)
{
	const uint32_t line = w->dims[w->rank - 1];
	const int64_t sx = w->stride[0][w->rank - 1], sy = w->stride[1][w->rank - 1];
	const int fn = vector_function(op->i[0]);

	if (fn >= 0 && op->in[0].dtype == WIRE_F32 && sx >> 1 == 0 && sy >> 1 == 0) {
		a->kernels->v->binary((enum vector_binary)fn, (float *)a->out[0] + to,
			(struct line){(const float *)a->in[0] + w->at[0], (size_t)sx},
			(struct line){(const float *)a->in[1] + w->at[1], (size_t)sy}, line);
		return;
	}
	for (uint32_t from = 0; from < line; from += TENSOR_BLOCK) {
		size_t n = line - from < TENSOR_BLOCK ? line - from : TENSOR_BLOCK;

		binary_part(op, a, w, from, to + from, n);
	}
}

void binary_rows(const struct tensor_op *op, const struct tensor_args *a, size_t rows)
{
	struct walk w;
	int64_t to = 0;

	if (!walk_rows(&w, op, a, rows)) {
		rows_apart(op, a, rows, binary_rows);
		return;
	}
	do {
		binary_line(op, a, &w, to);
		to += w.dims[w.rank - 1];
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

/* One line of the walk. */
static void where_line(
	const struct tensor_op *op, const struct tensor_args *a, const struct walk *w, uint8_t *to)
{
	const size_t size = wire_dtype_bytes(op->out[0].dtype);
	const uint32_t last = w->rank - 1, n = w->dims[last];
	const uint8_t *flag = (const uint8_t *)a->in[0] + w->at[0];
	const int64_t step = w->stride[0][last], yes = w->stride[1][last], no = w->stride[2][last];
	const uint8_t *x = (const uint8_t *)a->in[1] + (size_t)w->at[1] * size;
	const uint8_t *y = (const uint8_t *)a->in[2] + (size_t)w->at[2] * size;

	if (size == sizeof(uint32_t)) {
		const uint32_t *x4 = (const uint32_t *)x, *y4 = (const uint32_t *)y;

		for (int64_t i = 0; i < n; i++)
			((uint32_t *)to)[i] = flag[i * step] ? x4[i * yes] : y4[i * no];
		return;
	}
	for (int64_t i = 0; i < n; i++, to += size)
		memcpy(to,
			flag[i * step] ? x + i * yes * (int64_t)size : y + i * no * (int64_t)size,
			size);
}

void where_rows(const struct tensor_op *op, const struct tensor_args *a, size_t rows)
{
	const size_t size = wire_dtype_bytes(op->out[0].dtype);
	uint8_t *to = a->out[0];
	struct walk w;

	if (!walk_rows(&w, op, a, rows)) {
		rows_apart(op, a, rows, where_rows);
		return;
	}
	do {
		where_line(op, a, &w, to);
		to += w.dims[w.rank - 1] * size;
	} while (walk_next(&w));
}
