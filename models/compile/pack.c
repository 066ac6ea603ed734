/* SPDX-License-Identifier: BSD-3-Clause
 * Packing constants: see pack.h and the drawing of the layouts in abi/model_file.h.
 */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "models/compile/pack.h"
#include "models/run/dense.h"

enum { PANEL = MODEL_FILE_PANEL };

/* Reserve the next 64-byte border; false when the section grows past its limit. */
static bool reserve(struct plan *p, uint64_t bytes, le64 *offset, le64 *op_bytes)
{
	*offset = p->weights_bytes;
	*op_bytes = bytes;
	if (bytes >> MODEL_FILE_MAX_BYTES_LOG2)
		return false;
	p->weights_bytes += (bytes + MODEL_FILE_ALIGN - 1) / MODEL_FILE_ALIGN * MODEL_FILE_ALIGN;
	return !(p->weights_bytes >> MODEL_FILE_MAX_BYTES_LOG2);
}

static bool reserve_dense(struct plan *p, const struct ir_node *n, struct model_op *op)
{
	uint64_t bytes;

	if (!dense_weight_bytes(op->layout, op->k, op->n, &bytes) ||
		!reserve(p, bytes, &op->constant[1], &op->constant_bytes[1]))
		return false;
	p->parameters += (uint64_t)op->k * op->n + (n->in[2] == IR_NONE ? 0 : op->n);
	if (n->in[2] == IR_NONE)
		return true;
	return reserve(p, ((uint64_t)op->n + PANEL - 1) / PANEL * PANEL * sizeof(float), &op->bias,
		&op->bias_bytes);
}

/* Constants of a general operator, as they are, in operand order. */
static bool reserve_operands(struct plan *p, const struct ir_graph *g, const struct ir_node *n,
	struct model_tensor_op *r)
{
	le64 bytes;

	for (uint32_t k = 0; k < r->n_in; k++) {
		const struct ir_value *v = n->in[k] == IR_NONE ? NULL : &g->values[n->in[k]];

		if (!v || !v->data)
			continue;
		if (!reserve(p, tensor_elements(&v->t) * wire_dtype_bytes(v->t.dtype),
			    &r->in[k].constant, &bytes))
			return false;
		p->parameters += tensor_elements(&v->t);
	}
	return true;
}

/* Where weight (k, n) goes in each layout. */
static size_t position(const struct model_op *op, size_t k, size_t n)
{
	size_t in = op->k;

	switch (op->layout) {
	case MODEL_LAYOUT_PANELS:
		return (n / PANEL * in + k) * PANEL + n % PANEL;
	case MODEL_LAYOUT_COLUMNS:
		return n * ((in + PANEL - 1) / PANEL * PANEL) + k;
	default:
		return k * op->n + n;
	}
}

/* Weight k of column n stands at `group` values a word of panel n/16. */
static size_t reduced_position(const struct model_op *op, size_t k, size_t n, size_t group)
{
	size_t steps = dense_steps(op->layout, op->k);

	return ((n / PANEL * steps + k / group) * PANEL + n % PANEL) * group + k % group;
}

static void copy_bf16(uint16_t *to, const float *from, const struct model_op *op)
{
	for (size_t k = 0; k < op->k; k++)
		for (size_t n = 0; n < op->n; n++)
			to[reduced_position(op, k, n, 2)] = float_to_bfloat(from[k * op->n + n]);
}

/* Of column n: the largest weight shall be 127 at most, and so shall two neighbours' sum (rounding
 * adds 1), or the AVX2 kernel's 16-bit sums of pairs would saturate. That costs normally distributed
 * weights half a bit; every family then has the same exact sums. */
static float column_scale(const float *from, const struct model_op *op, size_t n)
{
	float most = 0;

	for (size_t k = 0; k < op->k; k += 2) {
		float a = from[k * op->n + n];
		float b = k + 1 < op->k ? from[(k + 1) * op->n + n] : 0;

		most = fmaxf(most, fmaxf(fmaxf(fabsf(a), fabsf(b)), fabsf(a + b)));
	}
	return most / 127;
}

static void copy_int8(void *to, const float *from, const struct model_op *op)
{
	const struct dense d = {.w = to, .in = op->k, .out = op->n};
	float *scales = (float *)(uintptr_t)dense_scales(&d);
	int32_t *sums = (int32_t *)(uintptr_t)dense_sums(&d);
	int8_t *w = to;

	for (size_t n = 0; n < op->n; n++) {
		float scale = column_scale(from, op, n);
		float inverse = scale > 1.0e-35f ? 1 / scale : 0;

		scales[n] = scale;
		for (size_t k = 0; k < op->k; k++) {
			int8_t q = (int8_t)lrintf(from[k * op->n + n] * inverse);

			w[reduced_position(op, k, n, 4)] = q;
			sums[n] += q;
		}
	}
}

static void copy_dense(const struct plan *p, const struct ir_graph *g, const struct ir_node *n,
	const struct model_op *op)
{
	const float *from = g->values[n->in[1]].data;
	float *to = (float *)(p->weights + op->constant[1]);

	if (op->layout == MODEL_LAYOUT_PANELS_BF16)
		copy_bf16((uint16_t *)to, from, op);
	else if (op->layout == MODEL_LAYOUT_PANELS_INT8)
		copy_int8(to, from, op);
	else
		for (size_t k = 0; k < op->k; k++)
			for (size_t c = 0; c < op->n; c++)
				to[position(op, k, c)] = from[k * op->n + c];
	if (n->in[2] != IR_NONE)
		memcpy(p->weights + op->bias, g->values[n->in[2]].data, op->n * sizeof(float));
}

static void copy_operands(const struct plan *p, const struct ir_graph *g, const struct ir_node *n,
	const struct model_tensor_op *r)
{
	for (uint32_t k = 0; k < r->n_in; k++) {
		const struct ir_value *v = n->in[k] == IR_NONE ? NULL : &g->values[n->in[k]];

		if (v && v->data)
			memcpy(p->weights + r->in[k].constant, v->data,
				tensor_elements(&v->t) * wire_dtype_bytes(v->t.dtype));
	}
}

static bool has_operator(const struct ir_node *n)
{
	return n->op != IR_DEAD && n->op != IR_VIEW;
}

int pack_constants(struct ir_graph *g, struct plan *p, struct error *err)
{
	struct model_op *op = p->ops;

	for (int32_t i = 0; i < g->n_nodes; i++) {
		const struct ir_node *n = &g->nodes[i];
		bool fits = true;

		if (!has_operator(n))
			continue;
		if (op->kind == MODEL_OP_DENSE)
			fits = reserve_dense(p, n, op);
		else if (op->kind == MODEL_OP_TENSOR)
			fits = reserve_operands(p, g, n, &p->tensors[op->n]);
		if (!fits)
			return error_set(err, -E2BIG, "the weights need more than 2^%d bytes",
				MODEL_FILE_MAX_BYTES_LOG2);
		op++;
	}
	p->weights = arena_alloc(g->arena, p->weights_bytes ? p->weights_bytes : 1, 1);
	if (!p->weights)
		return error_set(err, -ENOMEM, "no memory for %lu bytes of packed weights",
			p->weights_bytes);
	op = p->ops;
	for (int32_t i = 0; i < g->n_nodes; i++) {
		if (!has_operator(&g->nodes[i]))
			continue;
		if (op->kind == MODEL_OP_DENSE)
			copy_dense(p, g, &g->nodes[i], op);
		else if (op->kind == MODEL_OP_TENSOR)
			copy_operands(p, g, &g->nodes[i], &p->tensors[op->n]);
		op++;
	}
	return 0;
}
