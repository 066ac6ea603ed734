/* SPDX-License-Identifier: BSD-3-Clause
 * Moving elements without looking at them: one strided walk that is Slice, Transpose, Expand, Tile
 * and more, concatenation, and padding.
 */
#include <string.h>

#include "models/run/tensor.h"

/* ---- strided ---- */

/* Smallest and largest element the walk touches must lie in the input. */
static int strided_bounds(const struct tensor_op *op, struct error *err)
{
	const int64_t elements = (int64_t)tensor_elements(&op->in[0]);
	int64_t low = op->i[0], high = op->i[0];

	if (low < 0 || low >= elements)
		return tensor_refuse(op, err, "begins at element %ld of %ld", low, elements);
	for (uint32_t d = 0; d < op->i[1]; d++) {
		int64_t step = op->i[10 + d], reach;

		if (step > elements || step < -elements)
			return tensor_refuse(op, err, "stride %ld in %ld elements", step, elements);
		reach = step * (op->i[2 + d] - 1); /* both below 2^31 */
		low += reach < 0 ? reach : 0;
		high += reach > 0 ? reach : 0;
	}
	if (low < 0 || high >= elements)
		return tensor_refuse(
			op, err, "walks elements %ld to %ld of %ld", low, high, elements);
	return 0;
}

int strided_infer(struct tensor_op *op, struct error *err)
{
	struct tensor *out = &op->out[0];

	if (op->i[1] < 0 || op->i[1] > TENSOR_MAX_RANK)
		return tensor_refuse(op, err, "rank %ld", op->i[1]);
	out->dtype = op->in[0].dtype;
	out->rank = (uint32_t)op->i[1];
	for (uint32_t d = 0; d < out->rank; d++) {
		if (op->i[2 + d] < 1 || op->i[2 + d] > MODEL_FILE_MAX_ROW_ELEMENTS)
			return tensor_refuse(op, err, "dimension %u is %ld", d, op->i[2 + d]);
		out->dims[d] = (uint32_t)op->i[2 + d];
	}
	return strided_bounds(op, err);
}

/* n elements of `size` bytes, `stride` elements apart, to consecutive places. */
static void copy_line(uint8_t *to, const uint8_t *from, int64_t stride, size_t n, size_t size)
{
	if (stride == 1) {
		memcpy(to, from, n * size);
		return;
	}
	if (size == 4) {
		const uint32_t *f = (const uint32_t *)from;
		uint32_t *t = (uint32_t *)to;

		for (size_t i = 0; i < n; i++)
			t[i] = f[(int64_t)i * stride];
		return;
	}
	for (size_t i = 0; i < n; i++)
		memcpy(to + i * size, from + (int64_t)i * stride * (int64_t)size, size);
}

/* The walk's last two dimensions turn a matrix of 4-byte elements. */
static bool turns(const struct walk *w, size_t size)
{
	return size == sizeof(float) && w->rank >= 2 && w->stride[0][w->rank - 2] == 1 &&
	       w->stride[0][w->rank - 1] > 1;
}

static void strided_walk(const struct tensor_op *op, const struct tensor_args *a, struct walk w)
{
	const size_t size = wire_dtype_bytes(op->in[0].dtype);
	const bool matrices = turns(&w, size);
	const size_t n = w.dims[w.rank - 1], m = matrices ? w.dims[w.rank - 2] : 1;
	const int64_t stride = w.stride[0][w.rank - 1];
	uint8_t *to = a->out[0];

	w.rank -= matrices;
	w.dims[w.rank - 1] = matrices ? 1 : w.dims[w.rank - 1];
	do {
		const uint8_t *from = (const uint8_t *)a->in[0] + w.at[0] * (int64_t)size;

		if (matrices)
			a->kernels->v->transpose(
				(float *)to, n, (const float *)from, (size_t)stride, n, m);
		else
			copy_line(to, from, stride, n, size);
		to += m * n * size;
	} while (walk_next(&w));
}

/* The walk of all rows, which are its outermost dimension; false when it has no room for one. */
static bool strided_plan(
	const struct tensor_op *op, const struct tensor_args *a, size_t rows, struct walk *w)
{
	*w = (struct walk){.rank = rows > 1, .n = 1, .dims = {(uint32_t)rows}, .at = {op->i[0]}};
	w->stride[0][0] = (int64_t)(a->in_stride[0] / wire_dtype_bytes(op->in[0].dtype));
	for (uint32_t d = 0; d < op->out[0].rank; d++) {
		if (op->out[0].dims[d] == 1)
			continue;
		if (w->rank == TENSOR_MAX_RANK)
			return false;
		w->dims[w->rank] = op->out[0].dims[d];
		w->stride[0][w->rank++] = op->i[10 + d];
	}
	w->rank += w->rank == 0; /* one element */
	walk_merge(w);
	return rows * tensor_elements(&op->out[0]) >> 31 == 0;
}

void strided_rows(const struct tensor_op *op, const struct tensor_args *a, size_t rows)
{
	struct walk w;

	if (strided_plan(op, a, rows, &w)) {
		strided_walk(op, a, w);
		return;
	}
	strided_plan(op, a, 1, &w);
	for (size_t row = 0; row < rows; row++) {
		struct tensor_args one = tensor_row(op, a, row);

		strided_walk(op, &one, w);
	}
}

/* ---- concat ---- */

int concat_infer(struct tensor_op *op, struct error *err)
{
	uint64_t sum = 0;

	op->out[0] = op->in[0];
	if (!tensor_axis(op->i[0], op->in[0].rank))
		return tensor_refuse(op, err, "axis %ld of rank %u", op->i[0], op->in[0].rank);
	for (uint32_t k = 0; k < op->n_in; k++) {
		struct tensor t = op->in[k];

		if (t.dtype != op->in[0].dtype || t.rank != op->in[0].rank)
			return tensor_refuse(op, err, "input %u has another dtype or rank", k);
		sum += t.dims[op->i[0]];
		t.dims[op->i[0]] = op->in[0].dims[op->i[0]];
		if (!tensor_same_shape(&t, &op->in[0]))
			return tensor_refuse(op, err, "input %u has another shape", k);
	}
	if (sum > MODEL_FILE_MAX_ROW_ELEMENTS)
		return tensor_refuse(op, err, "%lu along the axis", sum);
	op->out[0].dims[op->i[0]] = (uint32_t)sum;
	return 0;
}

void concat_rows(const struct tensor_op *op, const struct tensor_args *a, size_t rows)
{
	const uint32_t axis = (uint32_t)op->i[0];
	const size_t outer = tensor_span(&op->out[0], 0, axis);
	const size_t size = wire_dtype_bytes(op->out[0].dtype);
	const size_t line = tensor_span(&op->out[0], axis, op->out[0].rank) * size;
	size_t before = 0;

	for (uint32_t k = 0; k < op->n_in; k++) {
		const size_t bytes = tensor_span(&op->in[k], axis, op->in[k].rank) * size;

		for (size_t row = 0; row < rows; row++)
			for (size_t o = 0; o < outer; o++)
				memcpy((uint8_t *)a->out[0] + row * a->out_stride[0] + o * line +
						before,
					(const uint8_t *)a->in[k] + row * a->in_stride[k] +
						o * bytes,
					bytes);
		before += bytes;
	}
}

/* ---- pad ---- */

enum { PAD_CONSTANT, PAD_REFLECT, PAD_EDGE, PAD_WRAP, PAD_END };

int pad_infer(struct tensor_op *op, struct error *err)
{
	struct tensor *out = &op->out[0];

	*out = op->in[0];
	if (op->i[0] < 0 || op->i[0] >= PAD_END || op->in[1].dtype != op->in[0].dtype ||
		tensor_elements(&op->in[1]) != 1)
		return tensor_refuse(
			op, err, "mode %ld, value of dtype %u", op->i[0], op->in[1].dtype);
	for (uint32_t d = 0; d < out->rank; d++) {
		int64_t before = op->i[1 + d], after = op->i[9 + d], size = out->dims[d];

		if (before < 0 || after < 0 || before > MODEL_FILE_MAX_ROW_ELEMENTS ||
			after > MODEL_FILE_MAX_ROW_ELEMENTS)
			return tensor_refuse(op, err, "pads %ld and %ld", before, after);
		if (op->i[0] == PAD_REFLECT && (before >= size || after >= size))
			return tensor_refuse(
				op, err, "reflects %ld and %ld of %ld", before, after, size);
		out->dims[d] = (uint32_t)(size + before + after);
	}
	return 0;
}

/* Where index i of a padded axis comes from; -1: the pad value. */
static int64_t pad_source(int64_t mode, int64_t i, int64_t before, int64_t size)
{
	i -= before;
	if (i >= 0 && i < size)
		return i;
	switch (mode) {
	case PAD_REFLECT:
		return i < 0 ? -i : 2 * size - 2 - i;
	case PAD_EDGE:
		return i < 0 ? 0 : size - 1;
	case PAD_WRAP:
		return (i % size + size) % size;
	default:
		return -1;
	}
}

/* First element of the input's line for the output line at index[]; -1: all of it is padding. */
static int64_t pad_line(const struct tensor_op *op, const uint32_t *index)
{
	const struct tensor *in = &op->in[0];
	int64_t at = 0;

	for (uint32_t d = 0; d + 1 < in->rank; d++) {
		int64_t i = pad_source(op->i[0], index[d], op->i[1 + d], in->dims[d]);

		if (i < 0)
			return -1;
		at = (at + i) * in->dims[d + 1];
	}
	return at;
}

void pad_run(const struct tensor_op *op, const struct tensor_args *a)
{
	const struct tensor *in = &op->in[0];
	const uint32_t last = in->rank ? in->rank - 1 : 0, line = in->rank ? in->dims[last] : 1;
	const size_t size = wire_dtype_bytes(in->dtype);
	const uint8_t *from = a->in[0];
	struct walk w = {.rank = last + 1};
	uint8_t *to = a->out[0];

	w.dims[0] = 1;
	memcpy(w.dims, op->out[0].dims, in->rank * sizeof(w.dims[0]));
	do {
		int64_t at = pad_line(op, w.index);

		for (uint32_t i = 0; i < w.dims[last]; i++, to += size) {
			int64_t s = pad_source(op->i[0], i, in->rank ? op->i[1 + last] : 0, line);

			memcpy(to, at < 0 || s < 0 ? a->in[1] : from + (size_t)(at + s) * size,
				size);
		}
	} while (walk_next(&w));
}
