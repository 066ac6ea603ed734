/* SPDX-License-Identifier: BSD-3-Clause
 * Scaled dot-product attention: softmax(scale Q K^T + mask) V, per head, operands read and written
 * in place where projections left them (a packed q,k,v, say).
 *
 *   inputs  Q, K, V, optional mask; any shapes, indexed as [outer 0][outer 1][token][feature]
 *   i[0..3] queries, keys, features of q and k, features of v; i[4], i[5] outer sizes
 *   i[6..9] first element of Q, its strides per outer 0, outer 1 and token (features are
 *           neighbours); i[10..13] of K; i[14..17] of V; i[18..21] of the output
 *   i[22..25] the mask's strides per outer 0, outer 1, query, key; i[26] enum tensor_mask
 *   i[27]   rank of the output, i[28..35] its dims
 *   f[0]    scale, f[1] what a hidden score becomes
 */
#include <string.h>

#include "models/run/tensor.h"

enum { QUERIES, KEYS, WIDTH, VALUE_WIDTH, OUTER, OPERANDS = 6, MASK = 22, KIND = 26, SHAPE = 27 };
enum { OUTPUT = 3, MASK_INPUT = 3, MAX_SIZE = 1 << 24, QUERY_BLOCK = 48 };

/* Where an operand's (outer 0, outer 1, token) begins. */
static size_t position(const struct tensor_op *op, uint32_t operand, const uint32_t at[3])
{
	const int64_t *o = op->i + OPERANDS + 4 * operand;

	return (size_t)(o[0] + o[1] * at[0] + o[2] * at[1] + o[3] * at[2]);
}

static bool strides_fit(const int64_t *stride, const int64_t *size, uint32_t n, int64_t last,
	uint64_t elements)
{
	for (uint32_t d = 0; d < n; d++) {
		if (stride[d] < 0 || stride[d] > MAX_SIZE)
			return false;
		last += stride[d] * (size[d] - 1);
	}
	return (uint64_t)last < elements;
}

static int check_operand(struct tensor_op *op, uint32_t k, struct error *err)
{
	const int64_t *o = op->i + OPERANDS + 4 * k;
	const int64_t size[4] = {op->i[OUTER], op->i[OUTER + 1], op->i[k ? KEYS : QUERIES],
		op->i[k == 2 ? VALUE_WIDTH : WIDTH]};
	const int64_t stride[4] = {o[1], o[2], o[3], 1};

	if (op->in[k].dtype != WIRE_F32)
		return tensor_refuse(op, err, "input %u has dtype %u", k, op->in[k].dtype);
	if (o[0] < 0 || o[0] > 1 << 30 ||
		!strides_fit(stride, size, 4, o[0], tensor_elements(&op->in[k])))
		return tensor_refuse(op, err, "input %u is read beyond its end", k);
	return 0;
}

static int check_mask(struct tensor_op *op, struct error *err)
{
	const int64_t size[4] = {
		op->i[OUTER], op->i[OUTER + 1], op->i[QUERIES], op->i[KEYS]};
	const struct tensor *mask = &op->in[MASK_INPUT];
	bool has = op->n_in > MASK_INPUT && mask->dtype;
	int64_t kind = op->i[KIND];

	if (kind < MASK_NONE || kind >= MASK_END || has != (kind != MASK_NONE) ||
		(has && mask->dtype != (kind == MASK_ADDED ? WIRE_F32 : WIRE_BOOL)))
		return tensor_refuse(op, err, "mask kind %ld of dtype %u", kind, mask->dtype);
	if (has && !strides_fit(op->i + MASK, size, 4, 0, tensor_elements(mask)))
		return tensor_refuse(op, err, "the mask is read beyond its end");
	return 0;
}

/* Every element of the output is written exactly once: from the smallest stride up, each is the
 * number of elements below it. */
static bool covers_output(const struct tensor_op *op)
{
	const int64_t *o = op->i + OPERANDS + 4 * OUTPUT;
	int64_t size[4] = {op->i[OUTER], op->i[OUTER + 1], op->i[QUERIES], op->i[VALUE_WIDTH]};
	int64_t stride[4] = {o[1], o[2], o[3], 1}, below = 1;

	for (uint32_t round = 0; round < 4; round++)
		for (uint32_t d = 0; d < 4; d++)
			if (size[d] > 1 && stride[d] == below) {
				below *= size[d];
				size[d] = 1;
				break;
			}
	return o[0] == 0 && size[0] == 1 && size[1] == 1 && size[2] == 1 && size[3] == 1 &&
	       (uint64_t)below == tensor_elements(&op->out[0]);
}

int attention_infer(struct tensor_op *op, struct error *err)
{
	int rc = 0;

	for (uint32_t k = 0; k < OPERANDS; k++)
		if (op->i[k] < 1 || op->i[k] > MAX_SIZE)
			return tensor_refuse(op, err, "size %u is %ld", k, op->i[k]);
	for (uint32_t k = 0; !rc && k < 3; k++)
		rc = check_operand(op, k, err);
	if (!rc)
		rc = check_mask(op, err);
	if (rc)
		return rc;
	if (op->i[SHAPE] < 0 || op->i[SHAPE] > TENSOR_MAX_RANK)
		return tensor_refuse(op, err, "rank %ld", op->i[SHAPE]);
	op->out[0].dtype = WIRE_F32;
	op->out[0].rank = (uint32_t)op->i[SHAPE];
	for (uint32_t d = 0; d < op->out[0].rank; d++) {
		int64_t dim = op->i[SHAPE + 1 + d];

		if (dim < 1 || dim > MAX_SIZE ||
			tensor_span(&op->out[0], 0, d) > MODEL_FILE_MAX_ROW_ELEMENTS)
			return tensor_refuse(op, err, "dimension %u is %ld", d, dim);
		op->out[0].dims[d] = (uint32_t)dim;
	}
	if (!covers_output(op))
		return tensor_refuse(op, err, "the output is not written element by element");
	op->scratch_bytes = (uint64_t)op->i[KEYS] * (uint64_t)(op->i[WIDTH] + QUERY_BLOCK) *
			    sizeof(float);
	return 0;
}

/* The mask of `rows` queries on their scores [rows][keys]. */
static void hide(const struct tensor_op *op, const struct tensor_args *a, const void *mask,
	const uint32_t at[3], float *scores, size_t rows)
{
	const int64_t *stride = op->i + MASK;
	const size_t keys = (size_t)op->i[KEYS];
	size_t from = (size_t)(stride[0] * at[0] + stride[1] * at[1] + stride[2] * at[2]);

	for (size_t r = 0; r < rows; r++, scores += keys, from += (size_t)stride[2]) {
		const float *added = (const float *)mask + from;
		const uint8_t *flag = (const uint8_t *)mask + from;

		if (op->i[KIND] != MASK_ADDED) {
			for (size_t k = 0; k < keys; k++)
				if ((flag[k * (size_t)stride[3]] != 0) == (op->i[KIND] == MASK_HIDDEN))
					scores[k] = op->f[1];
		} else if (stride[3] <= 1) {
			a->kernels->v->binary(VECTOR_ADD, scores, (struct line){scores, 1},
				(struct line){added, (size_t)stride[3]}, keys);
		} else {
			for (size_t k = 0; k < keys; k++)
				scores[k] += added[k * (size_t)stride[3]];
		}
	}
}

struct head {
	const float *q, *k, *v;
	const void *mask;
	float *y;
};

/* One head: `at` names it. */
static void head_run(const struct tensor_op *op, const struct tensor_args *a, const struct head *h,
	uint32_t at[3])
{
	const struct vectors *v = a->kernels->v;
	const size_t queries = (size_t)op->i[QUERIES], keys = (size_t)op->i[KEYS];
	const size_t stride_q = (size_t)op->i[OPERANDS + 3], stride_k = (size_t)op->i[OPERANDS + 7];
	const size_t stride_v = (size_t)op->i[OPERANDS + 11], stride_y = (size_t)op->i[OPERANDS + 15];
	float *turned = a->scratch, *scores = turned + keys * (size_t)op->i[WIDTH];
	struct product qk = {.b = turned, .c = scores, .k = (size_t)op->i[WIDTH], .n = keys,
		.a_stride = stride_q, .b_stride = keys, .c_stride = keys, .alpha = op->f[0]};
	struct product pv = {.a = scores, .b = h->v, .k = keys, .n = (size_t)op->i[VALUE_WIDTH],
		.a_stride = keys, .b_stride = stride_v, .c_stride = stride_y, .alpha = 1};

	v->transpose(turned, keys, h->k, stride_k, keys, (size_t)op->i[WIDTH]);
	for (size_t from = 0; from < queries; from += QUERY_BLOCK) {
		size_t rows = queries - from < QUERY_BLOCK ? queries - from : QUERY_BLOCK;

		at[2] = (uint32_t)from;
		qk.m = pv.m = rows;
		qk.a = h->q + from * stride_q;
		pv.c = h->y + from * stride_y;
		v->product(&qk);
		if (h->mask)
			hide(op, a, h->mask, at, scores, rows);
		v->softmax(scores, scores, rows, keys);
		v->product(&pv);
	}
}

static const float *operand(
	const struct tensor_op *op, const struct tensor_args *a, uint32_t k, size_t row, uint32_t *at)
{
	const uint8_t *base = (const uint8_t *)a->in[k] + row * a->in_stride[k];

	return (const float *)base + position(op, k, at);
}

void attention_rows(const struct tensor_op *op, const struct tensor_args *a, size_t rows)
{
	const size_t outer = (size_t)(op->i[OUTER] * op->i[OUTER + 1]);

	for (size_t i = 0; i < rows * outer; i++) {
		size_t row = i / outer, in_row = i % outer;
		uint32_t at[3] = {(uint32_t)(in_row / (size_t)op->i[OUTER + 1]),
			(uint32_t)(in_row % (size_t)op->i[OUTER + 1]), 0};
		struct head h = {
			.q = operand(op, a, 0, row, at),
			.k = operand(op, a, 1, row, at),
			.v = operand(op, a, 2, row, at),
			.y = (float *)((uint8_t *)a->out[0] + row * a->out_stride[0]) +
			     position(op, OUTPUT, at),
		};

		if (op->i[KIND] != MASK_NONE)
			h.mask = (const uint8_t *)a->in[MASK_INPUT] + row * a->in_stride[MASK_INPUT];
		head_run(op, a, &h, at);
	}
}
