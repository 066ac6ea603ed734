/* SPDX-License-Identifier: BSD-3-Clause
 * Constant folding, node by node while the graph is built: shape checks of later nodes depend on
 * what is constant (a bias scaled by Gemm's beta, say), so it cannot wait for a pass.
 */
#include <errno.h>

#include "models/compile/ir.h"

/* Strides of `v` broadcast to `to`: 0 where it has one element. */
static void fold_strides(const struct ir_shape *v, const struct ir_shape *to, le32 *stride)
{
	uint32_t step = 1;

	for (uint32_t i = 1; i <= to->rank; i++) {
		int64_t d = i <= v->rank ? v->dims[v->rank - i] : 1;

		stride[to->rank - i] = d == 1 ? 0 : step;
		step *= (uint32_t)d;
	}
}

static void fold_binary(const struct ir_graph *g, const struct ir_node *n, float *out)
{
	const struct ir_shape *to = &g->values[n->out].shape;
	struct model_op op = {.kind = MODEL_OP_BINARY, .function = n->function, .rank = to->rank};

	for (uint32_t i = 0; i < to->rank; i++)
		op.dims[i] = (uint32_t)to->dims[i];
	for (int k = 0; k < 2; k++)
		fold_strides(&g->values[n->in[k]].shape, to, op.stride[k]);
	if (!op.rank)
		op.rank = op.dims[0] = 1;
	binary_run(&op, out, g->values[n->in[0]].f32, g->values[n->in[1]].f32);
}

static bool foldable(const struct ir_graph *g, const struct ir_node *n)
{
	if ((n->op != IR_UNARY && n->op != IR_BINARY) || !g->values[n->in[0]].f32)
		return false;
	return (n->op == IR_UNARY || g->values[n->in[1]].f32) &&
	       g->values[n->out].shape.rank <= MODEL_FILE_MAX_RANK;
}

int ir_fold(struct ir_graph *g, struct ir_node *n, struct error *err)
{
	struct ir_value *out = &g->values[n->out];
	float *data;

	if (!foldable(g, n))
		return 0;
	data = arena_alloc(g->arena, out->elements, sizeof(*data));
	if (!data)
		return error_set(err, -ENOMEM, "no memory to fold node '%s'", n->name);
	if (n->op == IR_BINARY)
		fold_binary(g, n, data);
	else
		kernels_scalar.unary(n->act, data, g->values[n->in[0]].f32, out->elements);
	out->f32 = data;
	n->op = IR_DEAD;
	return 0;
}
