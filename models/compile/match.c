/* SPDX-License-Identifier: BSD-3-Clause
 * What the passes look at graphs with: see match.h.
 */
#include <errno.h>

#include "models/compile/match.h"

/* Uses of every value, graph outputs included; the table is the arena's. */
uint32_t *count_uses(struct ir_graph *g)
{
	uint32_t *uses = arena_alloc(g->arena, (size_t)g->n_values + 1, sizeof(*uses));

	if (!uses)
		return NULL;
	for (int32_t i = 0; i < g->n_nodes; i++)
		for (int k = 0; g->nodes[i].op != IR_DEAD && k < TENSOR_MAX_IN; k++)
			if (g->nodes[i].in[k] != IR_NONE)
				uses[g->nodes[i].in[k]]++;
	for (uint32_t i = 0; i < g->n_outputs; i++)
		uses[g->outputs[i].value]++;
	return uses;
}

/* Producer of every value; IR_NONE for inputs and constants. */
int32_t *find_producers(struct ir_graph *g)
{
	int32_t *by = arena_alloc(g->arena, (size_t)g->n_values + 1, sizeof(*by));

	if (!by)
		return NULL;
	for (int32_t v = 0; v < g->n_values; v++)
		by[v] = IR_NONE;
	for (int32_t i = 0; i < g->n_nodes; i++)
		for (int k = 0; g->nodes[i].op != IR_DEAD && k < TENSOR_MAX_OUT; k++)
			if (g->nodes[i].out[k] != IR_NONE)
				by[g->nodes[i].out[k]] = i;
	return by;
}

bool is_tensor(const struct ir_node *n, uint32_t function)
{
	return n->op == IR_TENSOR && n->t.function == function;
}

bool is_constant_f32(const struct ir_graph *g, int32_t v)
{
	return v != IR_NONE && g->values[v].data && g->values[v].t.dtype == WIRE_F32;
}

int32_t new_constant(struct ir_graph *g, const char *name, const struct tensor *t,
	float **data, struct error *err)
{
	int32_t v = ir_value_new(g, name, t, err);

	if (v < 0)
		return v;
	*data = arena_alloc(g->arena, tensor_elements(t), sizeof(float));
	if (!*data)
		return error_set(err, -ENOMEM, "no memory for a constant");
	g->values[v].data = *data;
	return v;
}

void absorb(const struct ir_graph *g, int32_t *producer, struct ir_node *into, struct ir_node *n)
{
	into->out[0] = n->out[0];
	producer[n->out[0]] = (int32_t)(into - g->nodes);
	n->op = IR_DEAD;
}

int match_init(struct match *m, struct ir_graph *g, struct error *err)
{
	*m = (struct match){g, count_uses(g), find_producers(g), err};
	return m->uses && m->producer ? 0 : error_set(err, -ENOMEM, "no memory for a pass");
}

struct ir_node *producer_of(const struct match *m, int32_t value)
{
	return value == IR_NONE || m->producer[value] == IR_NONE
		       ? NULL
		       : &m->g->nodes[m->producer[value]];
}

struct ir_node *made_by(
	const struct match *m, int32_t value, enum model_function function, int64_t kind)
{
	struct ir_node *n = producer_of(m, value);

	return n && is_tensor(n, function) && n->t.i[0] == kind ? n : NULL;
}

bool scalar_of(const struct ir_graph *g, int32_t v, float *x)
{
	if (!is_constant_f32(g, v) || tensor_elements(&g->values[v].t) != 1)
		return false;
	*x = *(const float *)g->values[v].data;
	return true;
}

int32_t operand_scalar(const struct ir_graph *g, const struct ir_node *n, float *x)
{
	if (scalar_of(g, n->in[1], x))
		return n->in[0];
	return scalar_of(g, n->in[0], x) ? n->in[1] : IR_NONE;
}

bool match_activation(const struct tensor_op *t, struct activation *act)
{
	static const uint32_t kinds[UNARY_END] = {
		[UNARY_RELU] = MODEL_ACT_RELU,
		[UNARY_SIGMOID] = MODEL_ACT_SIGMOID,
		[UNARY_TANH] = MODEL_ACT_TANH,
		[UNARY_LEAKY_RELU] = MODEL_ACT_LEAKY_RELU,
		[UNARY_CLIP] = MODEL_ACT_CLIP,
		[UNARY_NEG] = MODEL_ACT_NEG,
		[UNARY_ABS] = MODEL_ACT_ABS,
		[UNARY_EXP] = MODEL_ACT_EXP,
		[UNARY_SQRT] = MODEL_ACT_SQRT,
		[UNARY_LOG] = MODEL_ACT_LOG,
		[UNARY_ERF] = MODEL_ACT_ERF,
		[UNARY_RECIPROCAL] = MODEL_ACT_RECIPROCAL,
		[UNARY_AFFINE] = MODEL_ACT_AFFINE,
		[UNARY_ELU] = MODEL_ACT_ELU,
		[UNARY_SELU] = MODEL_ACT_ELU,
		[UNARY_HARD_SIGMOID] = MODEL_ACT_HARD_SIGMOID,
		[UNARY_HARD_SWISH] = MODEL_ACT_HARD_SWISH,
		[UNARY_SOFTPLUS] = MODEL_ACT_SOFTPLUS,
		[UNARY_SOFTSIGN] = MODEL_ACT_SOFTSIGN,
		[UNARY_GELU] = MODEL_ACT_GELU,
		[UNARY_MISH] = MODEL_ACT_MISH,
		[UNARY_FLOOR] = MODEL_ACT_FLOOR,
		[UNARY_CEIL] = MODEL_ACT_CEIL,
		[UNARY_ROUND] = MODEL_ACT_ROUND,
	};

	*act = (struct activation){kinds[t->i[0]], t->f[0], t->i[0] == UNARY_ELU ? 1 : t->f[1]};
	return act->kind != MODEL_ACT_NONE;
}

void become_unary(struct ir_node *n, int32_t x, struct activation act)
{
	n->op = IR_UNARY;
	n->act = act;
	for (uint32_t k = 0; k < TENSOR_MAX_IN; k++)
		n->in[k] = IR_NONE;
	n->in[0] = x;
	n->t = (struct tensor_op){
		.function = MODEL_FN_UNARY, .n_in = 1, .n_out = 1, .in = {n->t.out[0]}, .out = {n->t.out[0]}};
}

int become_tensor(const struct match *m, struct ir_node *n, const struct tensor_op *t,
	const int32_t *in)
{
	const struct tensor was = n->t.out[0];
	struct tensor_op op = *t;
	int rc;

	for (uint32_t k = 0; k < op.n_in; k++)
		if (in[k] != IR_NONE)
			op.in[k] = m->g->values[in[k]].t;
	rc = tensor_infer(&op, m->err);
	if (!rc && tensor_elements(&op.out[0]) != tensor_elements(&was))
		rc = error_set(m->err, -EINVAL, "node '%s' changed its size in a pass", n->name);
	if (rc)
		return rc;
	n->op = IR_TENSOR;
	n->t = op;
	for (uint32_t k = 0; k < TENSOR_MAX_IN; k++)
		n->in[k] = k < op.n_in ? in[k] : IR_NONE;
	return 0;
}
