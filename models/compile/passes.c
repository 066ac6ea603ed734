/* SPDX-License-Identifier: BSD-3-Clause
 * The passes: fold per-channel factors into convolutions, form dense layers, choose the fast forms
 * of activations and softmax, fuse bias and activation, drop dead code. Each is one function, the
 * larger ones in files of their own (fuse_*.c, layout.c); passes_run() at the end lists them in order.
 * (Identities never become nodes; constants fold while reading.)
 */
#include <errno.h>
#include <string.h>

#include "models/compile/match.h"
#include "models/compile/passes.h"

/* ---- convolution and what follows it ---- */

/* One element, or one per channel: c elements in dimension 1 (counted in an x of this rank). */
static bool is_per_channel(const struct ir_value *v, const struct tensor *x)
{
	uint32_t from_end = x->rank - 1;

	if (v->t.rank > x->rank)
		return false;
	if (tensor_elements(&v->t) == 1)
		return true;
	return v->t.rank >= from_end && tensor_elements(&v->t) == x->dims[1] &&
	       v->t.dims[v->t.rank - from_end] == x->dims[1];
}

/* Multiply the filters and the bias by `by`, or add it to the bias. */
static int scale_conv(struct ir_graph *g, struct ir_node *conv, const struct ir_value by, bool add,
	struct error *err)
{
	const struct tensor w = g->values[conv->in[1]].t;
	const struct tensor vector = {WIRE_F32, 1, {w.dims[0]}};
	const size_t each = tensor_span(&w, 1, w.rank);
	const float *old_bias = conv->in[2] == IR_NONE ? NULL : g->values[conv->in[2]].data;
	const float *factor = by.data, *from = g->values[conv->in[1]].data;
	const size_t step = tensor_elements(&by.t) == 1 ? 0 : 1;
	float *bias, *filters = NULL;
	int32_t b = new_constant(g, conv->name, &vector, &bias, err), f = 0;

	if (b >= 0 && !add)
		f = new_constant(g, conv->name, &w, &filters, err);
	if (b < 0 || f < 0)
		return b < 0 ? b : f;
	for (uint32_t c = 0; c < w.dims[0]; c++) {
		bias[c] = old_bias ? old_bias[c] : 0;
		bias[c] = add ? bias[c] + factor[c * step] : bias[c] * factor[c * step];
		for (size_t k = 0; !add && k < each; k++)
			filters[c * each + k] = from[c * each + k] * factor[c * step];
	}
	if (!add)
		conv->in[1] = f;
	conv->in[2] = b;
	conv->t.n_in = 3;
	conv->t.in[2] = vector;
	return 0;
}

static bool is_fusable_conv(const struct ir_graph *g, const struct ir_node *c)
{
	return is_tensor(c, MODEL_FN_CONV) && is_constant_f32(g, c->in[1]) &&
	       (c->in[2] == IR_NONE || is_constant_f32(g, c->in[2]));
}

/* conv x constant, conv + constant: BatchNormalization arrives as these two. */
int pass_fold_into_conv(struct ir_graph *g, struct error *err)
{
	uint32_t *uses = count_uses(g);
	int32_t *producer = find_producers(g);

	if (!uses || !producer)
		return error_set(err, -ENOMEM, "no memory for a pass");
	for (int32_t i = 0; i < g->n_nodes; i++) {
		struct ir_node *n = &g->nodes[i], *conv;
		bool add = n->t.i[0] == BINARY_ADD;
		int32_t by, with = n->in[1];

		if (!is_tensor(n, MODEL_FN_BINARY) || (!add && n->t.i[0] != BINARY_MUL))
			continue;
		by = producer[n->in[0]];
		if (by == IR_NONE || uses[n->in[0]] != 1 || !is_fusable_conv(g, &g->nodes[by]) ||
			!is_constant_f32(g, with) ||
			!is_per_channel(&g->values[with], &g->nodes[by].t.out[0]))
			continue;
		conv = &g->nodes[by];
		if (scale_conv(g, conv, g->values[with], add, err))
			return err->code;
		absorb(g, producer, conv, n);
	}
	return 0;
}

/* ---- fast forms ---- */

/* A product with a constant matrix on the right is a dense layer. */
int pass_form_dense(struct ir_graph *g, struct error *err)
{
	(void)err;
	for (int32_t i = 0; i < g->n_nodes; i++) {
		struct ir_node *n = &g->nodes[i];
		const struct tensor *w = &n->t.in[1];

		if (!is_tensor(n, MODEL_FN_MATMUL) || ir_is_constant(g, n->in[0]) ||
			!is_constant_f32(g, n->in[1]) || tensor_span(w, 0, w->rank - 2) != 1)
			continue;
		n->op = IR_DENSE;
		n->k = w->dims[w->rank - 2];
		n->n = w->dims[w->rank - 1];
		n->m = (uint32_t)(tensor_elements(&n->t.out[0]) / n->n);
	}
	return 0;
}

/* Activations and softmax on float32 have kernels of their own, over all rows of a batch at once.
 */
int pass_choose_kernels(struct ir_graph *g, struct error *err)
{
	(void)err;
	for (int32_t i = 0; i < g->n_nodes; i++) {
		struct ir_node *n = &g->nodes[i];
		const struct tensor *x = &n->t.in[0];
		uint32_t axis = (uint32_t)n->t.i[0];

		if (n->op != IR_TENSOR || x->dtype != WIRE_F32 || ir_is_constant(g, n->in[0]))
			continue;
		if (n->t.function == MODEL_FN_UNARY && match_activation(&n->t, &n->act)) {
			n->op = IR_UNARY;
		} else if (n->t.function == MODEL_FN_SOFTMAX) {
			n->op = IR_SOFTMAX;
			n->m = (uint32_t)tensor_span(x, 0, axis);
			n->n = x->dims[axis];
			n->k = (uint32_t)tensor_span(x, axis + 1, x->rank);
		}
	}
	return 0;
}

/* ---- dense layers and what follows them ---- */

/* Can the constant be added per column: one element, or one per column in the last dimension? */
static bool is_bias(const struct ir_value *v, uint32_t columns)
{
	return tensor_elements(&v->t) == 1 || (tensor_elements(&v->t) == columns && v->t.rank &&
						      v->t.dims[v->t.rank - 1] == columns);
}

/* A new constant of `columns` elements: what the layer adds already, plus `more`. */
static int32_t bias_sum(
	struct ir_graph *g, const struct ir_node *dense, int32_t more, struct error *err)
{
	const struct tensor shape = {WIRE_F32, 1, {dense->n}};
	const float *a = dense->in[2] == IR_NONE ? NULL : g->values[dense->in[2]].data;
	const float *b = g->values[more].data;
	const size_t step = tensor_elements(&g->values[more].t) == 1 ? 0 : 1;
	float *data;
	int32_t v = new_constant(g, dense->name, &shape, &data, err);

	for (uint32_t i = 0; v >= 0 && i < dense->n; i++)
		data[i] = (a ? a[i] : 0) + b[i * step];
	return v;
}

static bool fusable(
	const struct ir_graph *g, const uint32_t *uses, const int32_t *producer, int32_t value)
{
	int32_t by = producer[value];

	return by != IR_NONE && uses[value] == 1 && g->nodes[by].op == IR_DENSE &&
	       g->nodes[by].act.kind == MODEL_ACT_NONE;
}

/* dense + constant: the sum moves into the layer's bias. */
int pass_fuse_bias(struct ir_graph *g, struct error *err)
{
	uint32_t *uses = count_uses(g);
	int32_t *producer = find_producers(g);

	if (!uses || !producer)
		return error_set(err, -ENOMEM, "no memory for a pass");
	for (int32_t i = 0; i < g->n_nodes; i++) {
		struct ir_node *n = &g->nodes[i], *dense;
		int side;
		int32_t bias;

		if (!is_tensor(n, MODEL_FN_BINARY) || n->t.i[0] != BINARY_ADD)
			continue;
		side = fusable(g, uses, producer, n->in[0]) ? 0 : 1;
		if (!fusable(g, uses, producer, n->in[side]))
			continue;
		dense = &g->nodes[producer[n->in[side]]];
		if (!is_constant_f32(g, n->in[1 - side]) ||
			!is_bias(&g->values[n->in[1 - side]], dense->n) ||
			tensor_elements(&n->t.out[0]) != (uint64_t)dense->m * dense->n)
			continue;
		bias = bias_sum(g, dense, n->in[1 - side], err);
		if (bias < 0)
			return bias;
		dense->in[2] = bias;
		absorb(g, producer, dense, n);
	}
	return 0;
}

/* activation(dense): applied by the layer's kernel before its only store. */
int pass_fuse_activation(struct ir_graph *g, struct error *err)
{
	uint32_t *uses = count_uses(g);
	int32_t *producer = find_producers(g);

	if (!uses || !producer)
		return error_set(err, -ENOMEM, "no memory for a pass");
	for (int32_t i = 0; i < g->n_nodes; i++) {
		struct ir_node *n = &g->nodes[i], *dense;

		if (n->op != IR_UNARY || !fusable(g, uses, producer, n->in[0]))
			continue;
		dense = &g->nodes[producer[n->in[0]]];
		dense->act = n->act;
		absorb(g, producer, dense, n);
	}
	return 0;
}

/* Nodes whose outputs nobody uses; backwards, so that their inputs' producers go as well. */
int pass_drop_dead(struct ir_graph *g, struct error *err)
{
	uint32_t *uses = count_uses(g);

	if (!uses)
		return error_set(err, -ENOMEM, "no memory for a pass");
	for (int32_t i = g->n_nodes; i-- > 0;) {
		struct ir_node *n = &g->nodes[i];
		bool used = false;

		for (int k = 0; k < TENSOR_MAX_OUT; k++)
			used |= n->out[k] != IR_NONE && uses[n->out[k]];
		if (n->op == IR_DEAD || used)
			continue;
		for (int k = 0; k < TENSOR_MAX_IN; k++)
			if (n->in[k] != IR_NONE)
				uses[n->in[k]]--;
		n->op = IR_DEAD;
	}
	return 0;
}

int passes_run(struct ir_graph *g, struct error *err)
{
	static int (*const passes[])(struct ir_graph *, struct error *) = {
		pass_drop_dead,
		pass_fold_into_conv,
		pass_slice_gathers,
		pass_fuse_norm,
		pass_fuse_elementwise,
		pass_fuse_attention,
		pass_fuse_embedding,
		pass_fuse_lookups,
		pass_join_concats,
		pass_drop_dead,
		pass_form_dense,
		pass_choose_kernels,
		pass_channels_last,
		pass_fuse_bias,
		pass_simplify,
		pass_fuse_activation,
		pass_pack_recurrent,
		pass_drop_dead,
	};
	int rc = 0;

	for (size_t i = 0; !rc && i < sizeof(passes) / sizeof(passes[0]); i++)
		rc = passes[i](g, err);
	return rc;
}
