/* SPDX-License-Identifier: BSD-3-Clause
 * The table of tensor functions, and the shape and element helpers all of them use: see tensor.h.
 */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "models/run/tensor.h"
#include "models/run/trees.h"

static const struct tensor_function functions[MODEL_FN_END] = {
	[MODEL_FN_UNARY] = {"unary", unary_infer, NULL, 1, 1, unary_rows, .in_place = true},
	[MODEL_FN_BINARY] = {"binary", binary_infer, NULL, 2, 2, binary_rows, .in_place = true},
	[MODEL_FN_WHERE] = {"where", where_infer, NULL, 3, 3, where_rows},
	[MODEL_FN_CAST] = {"cast", cast_infer, NULL, 1, 1, cast_rows, .in_place = true},
	[MODEL_FN_STRIDED] = {"strided", strided_infer, NULL, 1, 1, strided_rows},
	[MODEL_FN_CONCAT] = {"concat", concat_infer, NULL, 1, 8, concat_rows},
	[MODEL_FN_PAD] = {"pad", pad_infer, pad_run, 2, 2},
	[MODEL_FN_REDUCE] = {"reduce", reduce_infer, NULL, 1, 1, reduce_rows},
	[MODEL_FN_ARGMAX] = {"argmax", argmax_infer, argmax_run, 1, 1},
	[MODEL_FN_CUMSUM] = {"cumsum", cumsum_infer, cumsum_run, 1, 1},
	[MODEL_FN_MATMUL] = {"matmul", matmul_infer, NULL, 2, 2, matmul_rows},
	[MODEL_FN_EINSUM] = {"einsum", einsum_infer, einsum_run, 1, 3},
	[MODEL_FN_CONV] = {"conv", conv_infer, conv_run, 2, 3},
	[MODEL_FN_POOL] = {"pool", pool_infer, pool_run, 1, 1},
	[MODEL_FN_SOFTMAX] = {"softmax", softmax_infer, softmax_run, 1, 1},
	[MODEL_FN_GATHER] = {"gather", gather_infer, NULL, 2, 2, gather_rows},
	[MODEL_FN_GATHER_ELEMENTS] = {"gather-elements", gather_elements_infer, gather_elements_run,
		2, 2},
	[MODEL_FN_GATHER_ND] = {"gather-nd", gather_nd_infer, gather_nd_run, 2, 2},
	[MODEL_FN_SCATTER_ELEMENTS] = {"scatter-elements", scatter_elements_infer,
		scatter_elements_run, 3, 3},
	[MODEL_FN_SCATTER_ND] = {"scatter-nd", scatter_nd_infer, scatter_nd_run, 3, 3},
	[MODEL_FN_TOPK] = {"topk", topk_infer, topk_run, 1, 1},
	[MODEL_FN_RECURRENT] = {"recurrent", recurrent_infer, NULL, 3, 8, recurrent_rows},
	[MODEL_FN_TREES] = {"trees", trees_infer, trees_run, 6, 7, trees_run_rows, trees_check},
	[MODEL_FN_LAYER_NORM] = {"layer-norm", layer_norm_infer, NULL, 2, 3, layer_norm_rows},
	[MODEL_FN_CONV_LAST] = {"conv-last", conv_last_infer, conv_last_run, 2, 4, conv_last_rows},
	[MODEL_FN_POOL_LAST] = {"pool-last", pool_last_infer, pool_last_run, 1, 1, pool_last_rows},
	[MODEL_FN_EMBEDDING] = {"embedding", embedding_infer, NULL, 2, 2, embedding_rows},
	[MODEL_FN_LOOKUPS] = {"lookups", lookups_infer, NULL, 3, 3, lookups_rows, lookups_check},
	[MODEL_FN_ATTENTION] = {"attention", attention_infer, NULL, 3, 4, attention_rows},
};

const struct tensor_function *tensor_function_at(uint32_t function)
{
	return function < MODEL_FN_END && functions[function].infer ? &functions[function] : NULL;
}

bool tensor_in_place(const struct tensor_op *op, uint32_t k)
{
	return functions[op->function].in_place && op->n_out == 1 && tensor_same_shape(&op->in[k], &op->out[0]) &&
	       wire_dtype_bytes(op->in[k].dtype) == wire_dtype_bytes(op->out[0].dtype);
}

struct tensor_args tensor_row(const struct tensor_op *op, const struct tensor_args *a, size_t row)
{
	struct tensor_args b = *a;

	for (uint32_t k = 0; k < op->n_in; k++)
		if (a->in_stride[k])
			b.in[k] = (const uint8_t *)a->in[k] + row * a->in_stride[k];
	for (uint32_t k = 0; k < op->n_out; k++)
		b.out[k] = (uint8_t *)a->out[k] + row * a->out_stride[k];
	return b;
}

void tensor_run(const struct tensor_op *op, const struct tensor_args *a)
{
	const struct tensor_function *f = &functions[op->function];

	if (f->run_rows)
		f->run_rows(op, a, 1);
	else
		f->run(op, a);
}

int tensor_refuse(const struct tensor_op *op, struct error *err, const char *fmt, ...)
{
	char text[200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return error_set(err, -EINVAL, "%s: %s", functions[op->function].name, text);
}

static int check_inputs(
	const struct tensor_op *op, const struct tensor_function *f, struct error *err)
{
	if (op->n_in < f->min_in || op->n_in > f->max_in || op->n_out < 1 ||
		op->n_out > TENSOR_MAX_OUT)
		return tensor_refuse(op, err, "%u inputs and %u outputs", op->n_in, op->n_out);
	for (uint32_t k = 0; k < op->n_in; k++) {
		const struct tensor *t = &op->in[k];
		uint64_t n = 1;

		if (!t->dtype && k >= f->min_in)
			continue;
		if (!wire_dtype_bytes(t->dtype) || t->rank > TENSOR_MAX_RANK)
			return tensor_refuse(
				op, err, "input %u: dtype %u, rank %u", k, t->dtype, t->rank);
		for (uint32_t d = 0; d < t->rank; d++)
			if (!t->dims[d] || __builtin_mul_overflow(n, t->dims[d], &n) || n >> 30)
				return tensor_refuse(
					op, err, "input %u has more than 2^30 or no elements", k);
	}
	return 0;
}

static int check_outputs(const struct tensor_op *op, struct error *err)
{
	for (uint32_t k = 0; k < op->n_out; k++) {
		const struct tensor *t = &op->out[k];
		uint64_t n = 1;

		if (!wire_dtype_bytes(t->dtype) || t->rank > TENSOR_MAX_RANK)
			return tensor_refuse(op, err, "%u outputs", op->n_out);
		for (uint32_t d = 0; d < t->rank; d++)
			if (!t->dims[d] || __builtin_mul_overflow(n, t->dims[d], &n) ||
				n > MODEL_FILE_MAX_ROW_ELEMENTS)
				return tensor_refuse(op, err,
					"output %u has more than %d or no elements", k,
					MODEL_FILE_MAX_ROW_ELEMENTS);
	}
	return op->scratch_bytes >> 32
		       ? tensor_refuse(op, err, "needs %lu scratch bytes", op->scratch_bytes)
		       : 0;
}

int tensor_infer(struct tensor_op *op, struct error *err)
{
	const struct tensor_function *f = tensor_function_at(op->function);
	int rc;

	if (!f)
		return error_set(err, -EINVAL, "unknown tensor function %u", op->function);
	memset(op->out, 0, sizeof(op->out));
	op->scratch_bytes = 0;
	rc = check_inputs(op, f, err);
	if (!rc)
		rc = f->infer(op, err);
	if (!rc)
		rc = check_outputs(op, err);
	op->scratch_bytes =
		(op->scratch_bytes + MODEL_FILE_ALIGN - 1) & ~(uint64_t)(MODEL_FILE_ALIGN - 1);
	return rc;
}

void tensor_next_row(const struct tensor_op *op, struct tensor_args *a)
{
	for (uint32_t k = 0; k < op->n_in; k++)
		if (a->in_stride[k])
			a->in[k] = (const uint8_t *)a->in[k] + a->in_stride[k];
	for (uint32_t k = 0; k < op->n_out; k++)
		a->out[k] = (uint8_t *)a->out[k] + a->out_stride[k];
}

/* ---- shapes ---- */

uint64_t tensor_span(const struct tensor *t, uint32_t from, uint32_t to)
{
	uint64_t n = 1;

	for (uint32_t d = from; d < to; d++)
		n *= t->dims[d];
	return n;
}

uint64_t tensor_elements(const struct tensor *t)
{
	return tensor_span(t, 0, t->rank);
}

bool tensor_same_shape(const struct tensor *a, const struct tensor *b)
{
	return a->rank == b->rank && !memcmp(a->dims, b->dims, a->rank * sizeof(a->dims[0]));
}

bool tensor_is_float(uint32_t dtype)
{
	return dtype == WIRE_F32 || dtype == WIRE_F16 || dtype == WIRE_BF16;
}

bool tensor_broadcast(const struct tensor *in, uint32_t n, struct tensor *out)
{
	out->rank = 0;
	for (uint32_t k = 0; k < n; k++)
		out->rank = in[k].rank > out->rank ? in[k].rank : out->rank;
	for (uint32_t i = 1; i <= out->rank; i++) {
		uint32_t *to = &out->dims[out->rank - i];

		*to = 1;
		for (uint32_t k = 0; k < n; k++) {
			uint32_t d = i <= in[k].rank ? in[k].dims[in[k].rank - i] : 1;

			if (d != 1 && *to != 1 && d != *to)
				return false;
			*to = d == 1 ? *to : d;
		}
	}
	return true;
}

void walk_merge(struct walk *w)
{
	uint32_t to = 0;

	for (uint32_t d = 1; d < w->rank; d++) {
		bool joins = true;

		for (uint32_t k = 0; k < w->n; k++)
			joins &= w->stride[k][to] == w->stride[k][d] * (int64_t)w->dims[d];
		to += !joins;
		w->dims[to] = joins ? w->dims[to] * w->dims[d] : w->dims[d];
		for (uint32_t k = 0; k < w->n; k++)
			w->stride[k][to] = w->stride[k][d];
	}
	w->rank = to + 1;
}

void walk_broadcast(struct walk *w, const struct tensor *out, const struct tensor *in, uint32_t n)
{
	*w = (struct walk){.rank = out->rank ? out->rank : 1, .n = n};
	w->dims[0] = 1;
	for (uint32_t d = 0; d < out->rank; d++)
		w->dims[d] = out->dims[d];
	for (uint32_t k = 0; k < n; k++) {
		int64_t step = 1;

		for (uint32_t i = 1; i <= in[k].rank; i++) {
			uint32_t d = in[k].dims[in[k].rank - i];

			w->stride[k][out->rank - i] = d == 1 ? 0 : step;
			step *= d;
		}
	}
	walk_merge(w);
}

bool walk_rows(struct walk *w, const struct tensor_op *op, const struct tensor_args *a, size_t rows)
{
	struct walk one;

	walk_broadcast(&one, &op->out[0], op->in, op->n_in);
	*w = (struct walk){.rank = rows > 1, .n = one.n, .dims = {(uint32_t)rows}};
	if (rows * tensor_elements(&op->out[0]) >> 31)
		return false;
	for (uint32_t k = 0; k < w->n && rows > 1; k++)
		w->stride[k][0] = (int64_t)(a->in_stride[k] / wire_dtype_bytes(op->in[k].dtype));
	for (uint32_t d = 0; d < one.rank; d++) {
		if (one.dims[d] == 1)
			continue;
		if (w->rank == TENSOR_MAX_RANK)
			return false;
		w->dims[w->rank] = one.dims[d];
		for (uint32_t k = 0; k < w->n; k++)
			w->stride[k][w->rank] = one.stride[k][d];
		w->rank++;
	}
	w->rank += w->rank == 0; /* one element */
	walk_merge(w);
	return true;
}

bool walk_next(struct walk *w)
{
	for (uint32_t d = w->rank - 1; d-- > 0;) {
		w->index[d]++;
		for (uint32_t k = 0; k < w->n; k++)
			w->at[k] += w->stride[k][d];
		if (w->index[d] < w->dims[d])
			return true;
		for (uint32_t k = 0; k < w->n; k++)
			w->at[k] -= w->stride[k][d] * (int64_t)w->dims[d];
		w->index[d] = 0;
	}
	return false;
}

/* ---- elements ---- */

static float from_bits(uint32_t bits)
{
	float x;

	memcpy(&x, &bits, sizeof(x));
	return x;
}

static uint32_t to_bits(float x)
{
	uint32_t bits;

	memcpy(&bits, &x, sizeof(bits));
	return bits;
}

float half_to_float(uint16_t h)
{
	uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, mantissa = h & 1023;

	if (exponent == 31)
		return from_bits(sign | 0x7f800000 | mantissa << 13);
	if (exponent)
		return from_bits(sign | (exponent + 112) << 23 | mantissa << 13);
	return from_bits(sign | to_bits((float)mantissa * 0x1p-24f));
}

uint16_t float_to_half(float x)
{
	uint32_t bits = to_bits(x), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;

	if (magnitude > 0x7f800000)
		return (uint16_t)(sign | 0x7e00);
	if (magnitude >= 0x477ff000) /* rounds to 65536 or more */
		return (uint16_t)(sign | 0x7c00);
	if (magnitude < 0x38800000) /* subnormal: let the float unit round at bit 2^-24 */
		return (uint16_t)(sign | (to_bits(from_bits(magnitude) + 0.5f) - to_bits(0.5f)));
	magnitude += 0xfff + (magnitude >> 13 & 1);
	return (uint16_t)(sign | ((magnitude - 0x38000000) >> 13));
}

uint16_t float_to_bfloat(float x)
{
	uint32_t bits = to_bits(x);

	if ((bits & 0x7fffffff) > 0x7f800000)
		return (uint16_t)(bits >> 16 | 0x40);
	return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

int64_t tensor_get_i64(uint32_t dtype, const void *base, size_t at)
{
	switch (dtype) {
	case WIRE_I8:
		return ((const int8_t *)base)[at];
	case WIRE_U8:
		return ((const uint8_t *)base)[at];
	case WIRE_BOOL:
		return ((const uint8_t *)base)[at] != 0;
	case WIRE_I32:
		return ((const int32_t *)base)[at];
	default:
		return ((const int64_t *)base)[at];
	}
}

static float get_f32(uint32_t dtype, const void *base, size_t at)
{
	switch (dtype) {
	case WIRE_F32:
		return ((const float *)base)[at];
	case WIRE_F16:
		return half_to_float(((const uint16_t *)base)[at]);
	case WIRE_BF16:
		return from_bits((uint32_t)((const uint16_t *)base)[at] << 16);
	default:
		return (float)tensor_get_i64(dtype, base, at);
	}
}

const float *tensor_load_f32(
	uint32_t dtype, const void *base, int64_t at, int64_t stride, size_t n, float *block)
{
	const float *f = base;

	if (dtype == WIRE_F32 && stride == 1)
		return f + at;
	if (dtype == WIRE_F32)
		for (size_t i = 0; i < n; i++, at += stride)
			block[i] = f[at];
	else
		for (size_t i = 0; i < n; i++, at += stride)
			block[i] = get_f32(dtype, base, (size_t)at);
	return block;
}

/* Toward zero; saturates, and NaN is 0. */
static int64_t to_integer(float x)
{
	if (isnan(x))
		return 0;
	if (x >= 0x1p63f)
		return INT64_MAX;
	return x < -0x1p63f ? INT64_MIN : (int64_t)x;
}

const int64_t *tensor_load_i64(
	uint32_t dtype, const void *base, int64_t at, int64_t stride, size_t n, int64_t *block)
{
	if (dtype == WIRE_I64 && stride == 1)
		return (const int64_t *)base + at;
	if (tensor_is_float(dtype))
		for (size_t i = 0; i < n; i++, at += stride)
			block[i] = to_integer(get_f32(dtype, base, (size_t)at));
	else
		for (size_t i = 0; i < n; i++, at += stride)
			block[i] = tensor_get_i64(dtype, base, (size_t)at);
	return block;
}

static void put_i64(uint32_t dtype, void *base, size_t at, int64_t x)
{
	switch (dtype) {
	case WIRE_I8:
	case WIRE_U8:
		((uint8_t *)base)[at] = (uint8_t)x;
		break;
	case WIRE_BOOL:
		((uint8_t *)base)[at] = x != 0;
		break;
	case WIRE_I32:
		((uint32_t *)base)[at] = (uint32_t)x;
		break;
	default:
		((int64_t *)base)[at] = x;
		break;
	}
}

void tensor_store_i64(uint32_t dtype, void *base, int64_t at, size_t n, const int64_t *from)
{
	float x;

	for (size_t i = 0; i < n; i++) {
		if (!tensor_is_float(dtype)) {
			put_i64(dtype, base, (size_t)at + i, from[i]);
			continue;
		}
		x = (float)from[i];
		tensor_store_f32(dtype, base, at + (int64_t)i, 1, &x);
	}
}

static void put_f32(uint32_t dtype, void *base, size_t at, float x)
{
	static const int64_t low[WIRE_DTYPE_END] = {
		[WIRE_I8] = -128, [WIRE_I32] = INT32_MIN, [WIRE_I64] = INT64_MIN};
	static const int64_t high[WIRE_DTYPE_END] = {
		[WIRE_I8] = 127, [WIRE_U8] = 255, [WIRE_I32] = INT32_MAX, [WIRE_I64] = INT64_MAX};
	int64_t whole;

	if (dtype == WIRE_F16) {
		((uint16_t *)base)[at] = float_to_half(x);
	} else if (dtype == WIRE_BF16) {
		((uint16_t *)base)[at] = float_to_bfloat(x);
	} else if (dtype == WIRE_BOOL) {
		((uint8_t *)base)[at] = x != 0;
	} else {
		whole = to_integer(x);
		whole = whole < low[dtype] ? low[dtype] : whole;
		put_i64(dtype, base, at, whole > high[dtype] ? high[dtype] : whole);
	}
}

void tensor_store_f32(uint32_t dtype, void *base, int64_t at, size_t n, const float *from)
{
	if (dtype == WIRE_F32)
		memmove((float *)base + at, from, n * sizeof(*from));
	else
		for (size_t i = 0; i < n; i++)
			put_f32(dtype, base, (size_t)at + i, from[i]);
}
