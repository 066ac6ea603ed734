/* SPDX-License-Identifier: BSD-3-Clause
 * The passes: remove identities, form dense layers, fuse bias and activation, drop
 * dead code. Each is one function; passes_run() at the end lists them in order.
 */
#include <errno.h>
#include <string.h>

#include "models/compile/passes.h"

/* Uses of every value, graph outputs included; the table is the arena's. */
static uint32_t *count_uses(struct ir_graph *g)
{
	uint32_t *uses = arena_alloc(g->arena, (size_t)g->n_values, sizeof(*uses));

	if (!uses)
		return NULL;
	for (int32_t i = 0; i < g->n_nodes; i++)
		for (int k = 0; g->nodes[i].op != IR_DEAD && k < 3; k++)
			if (g->nodes[i].in[k] != IR_NONE)
				uses[g->nodes[i].in[k]]++;
	for (uint32_t i = 0; i < g->n_outputs; i++)
		uses[g->outputs[i].value]++;
	return uses;
}

/* Identity (and Dropout, which at inference is one): its users take its input. */
static int pass_remove_identities(struct ir_graph *g, struct error *err)
{
	int32_t *same = arena_alloc(g->arena, (size_t)g->n_values, sizeof(*same));

	if (!same)
		return error_set(err, -ENOMEM, "no memory for a pass");
	for (int32_t v = 0; v < g->n_values; v++)
		same[v] = v;
	for (int32_t i = 0; i < g->n_nodes; i++) {
		struct ir_node *n = &g->nodes[i];

		for (int k = 0; k < 3; k++)
			if (n->in[k] != IR_NONE)
				n->in[k] = same[n->in[k]];
		if (n->op == IR_IDENTITY) {
			same[n->out] = n->in[0];
			n->op = IR_DEAD;
		}
	}
	for (uint32_t i = 0; i < g->n_outputs; i++)
		g->outputs[i].value = same[g->outputs[i].value];
	return 0;
}

/* A product with a constant matrix on the right is a dense layer. */
static int pass_form_dense(struct ir_graph *g, struct error *err)
{
	(void)err;
	for (int32_t i = 0; i < g->n_nodes; i++) {
		struct ir_node *n = &g->nodes[i];
		const struct ir_shape *s, *w;

		if (n->op != IR_MATMUL || n->trans_a || ir_is_constant(g, n->in[0]) ||
			!g->values[n->in[1]].f32)
			continue;
		s = &g->values[n->out].shape;
		w = &g->values[n->in[1]].shape;
		if (w->rank != 2 || s->rank < 2)
			continue;
		n->op = IR_DENSE;
		n->k = (uint32_t)w->dims[n->trans_b ? 1 : 0];
		n->n = (uint32_t)w->dims[n->trans_b ? 0 : 1];
		n->m = (uint32_t)(g->values[n->out].elements / n->n);
	}
	return 0;
}

/* Producer of every value; IR_NONE for inputs and constants. */
static int32_t *find_producers(struct ir_graph *g)
{
	int32_t *by = arena_alloc(g->arena, (size_t)g->n_values, sizeof(*by));

	if (!by)
		return NULL;
	for (int32_t v = 0; v < g->n_values; v++)
		by[v] = IR_NONE;
	for (int32_t i = 0; i < g->n_nodes; i++)
		if (g->nodes[i].op != IR_DEAD)
			by[g->nodes[i].out] = i;
	return by;
}

/* Can the constant be added per column: one element, or one per column in the last dimension? */
static bool is_bias(const struct ir_value *v, uint32_t columns)
{
	if (!v->f32)
		return false;
	return v->elements == 1 || (v->elements == columns && v->shape.rank &&
					   v->shape.dims[v->shape.rank - 1] == columns);
}

/* A new constant of `columns` elements: what the layer adds already, plus `more`. */
static int32_t bias_sum(
	struct ir_graph *g, const struct ir_node *dense, int32_t more, struct error *err)
{
	struct ir_shape shape = {.rank = 1, .dims = {dense->n}};
	float *data = arena_alloc(g->arena, dense->n, sizeof(*data));
	const struct ir_value *a = dense->in[2] == IR_NONE ? NULL : &g->values[dense->in[2]];
	const struct ir_value *b = &g->values[more];
	int32_t v;

	if (!data)
		return error_set(err, -ENOMEM, "no memory for a bias");
	for (uint32_t i = 0; i < dense->n; i++)
		data[i] = (a ? a->f32[i] : 0) + b->f32[b->elements == 1 ? 0 : i];
	v = ir_value_new(g, dense->name, &shape, err);
	if (v >= 0)
		g->values[v].f32 = data;
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
static int pass_fuse_bias(struct ir_graph *g, struct error *err)
{
	uint32_t *uses = count_uses(g);
	int32_t *producer = find_producers(g);

	if (!uses || !producer)
		return error_set(err, -ENOMEM, "no memory for a pass");
	for (int32_t i = 0; i < g->n_nodes; i++) {
		struct ir_node *n = &g->nodes[i], *dense;
		int side;
		int32_t bias;

		if (n->op != IR_BINARY || n->function != MODEL_ADD)
			continue;
		side = fusable(g, uses, producer, n->in[0]) ? 0 : 1;
		if (!fusable(g, uses, producer, n->in[side]))
			continue;
		dense = &g->nodes[producer[n->in[side]]];
		if (!is_bias(&g->values[n->in[1 - side]], dense->n) ||
			!ir_shape_equal(&g->values[n->out].shape, &g->values[dense->out].shape))
			continue;
		bias = bias_sum(g, dense, n->in[1 - side], err);
		if (bias < 0)
			return bias;
		dense->in[2] = bias;
		dense->out = n->out;
		producer[n->out] = (int32_t)(dense - g->nodes);
		n->op = IR_DEAD;
	}
	return 0;
}

/* activation(dense): applied by the layer's kernel before its only store. */
static int pass_fuse_activation(struct ir_graph *g, struct error *err)
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
		dense->out = n->out;
		producer[n->out] = (int32_t)(dense - g->nodes);
		n->op = IR_DEAD;
	}
	return 0;
}

/* Nodes whose output nobody uses; backwards, so that their inputs' producers go as well. */
static int pass_drop_dead(struct ir_graph *g, struct error *err)
{
	uint32_t *uses = count_uses(g);

	if (!uses)
		return error_set(err, -ENOMEM, "no memory for a pass");
	for (int32_t i = g->n_nodes; i-- > 0;) {
		struct ir_node *n = &g->nodes[i];

		if (n->op == IR_DEAD || uses[n->out])
			continue;
		for (int k = 0; k < 3; k++)
			if (n->in[k] != IR_NONE)
				uses[n->in[k]]--;
		n->op = IR_DEAD;
	}
	return 0;
}

int passes_run(struct ir_graph *g, struct error *err)
{
	static int (*const passes[])(struct ir_graph *, struct error *) = {
		pass_remove_identities,
		pass_form_dense,
		pass_fuse_bias,
		pass_fuse_activation,
		pass_drop_dead,
	};
	int rc = 0;

	for (size_t i = 0; !rc && i < sizeof(passes) / sizeof(passes[0]); i++)
		rc = passes[i](g, err);
	return rc;
}
