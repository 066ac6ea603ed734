/* SPDX-License-Identifier: BSD-3-Clause
 * Graph → flat plan. Buffers first (a view shares its source's), then operators with their
 * constants, then offsets: a buffer's bytes are given to others after its last use, and to the result of
 * an element-wise operator with it.
 */
#include <errno.h>
#include <string.h>

#include "models/compile/pack.h"
#include "models/compile/plan.h"
#include "models/run/kernels.h"

/* A buffer's life in operator numbers. Inputs are born at 0, operator i's output at i + 1. */
struct life {
	uint32_t born, dies;
};

struct planner {
	struct ir_graph *g;
	struct plan *p;
	struct life *lives;  /* per buffer */
	uint32_t *buffer_of; /* per value; MODEL_NONE for constants */
	const struct ir_node **nodes; /* per operator */
	const struct compile_options *o;
	struct error *err;
};

static uint64_t align_up(uint64_t n)
{
	return (n + MODEL_FILE_ALIGN - 1) / MODEL_FILE_ALIGN * MODEL_FILE_ALIGN;
}

static uint64_t buffer_bytes(const struct model_buffer *b)
{
	return align_up((uint64_t)b->elements * wire_dtype_bytes(b->dtype));
}

/* ---- buffers ---- */

static int buffer_new(struct planner *pl, int32_t value, uint32_t born)
{
	uint64_t elements = tensor_elements(&pl->g->values[value].t);
	uint32_t b = pl->p->program.n_buffers;

	if (elements > MODEL_FILE_MAX_ROW_ELEMENTS)
		return error_set(pl->err, -E2BIG, "value '%s' has %lu elements per row, limit %d",
			pl->g->values[value].name, elements, MODEL_FILE_MAX_ROW_ELEMENTS);
	if (b >= MODEL_FILE_MAX_BUFFERS)
		return error_set(pl->err, -E2BIG, "more than %d buffers", MODEL_FILE_MAX_BUFFERS);
	pl->p->buffers[b].elements = (uint32_t)elements;
	pl->p->buffers[b].dtype = pl->g->values[value].t.dtype;
	pl->lives[b] = (struct life){born, born};
	pl->buffer_of[value] = b;
	pl->p->program.n_buffers++;
	return 0;
}

/* ---- operators ---- */

static void scratch_atleast(struct plan *p, uint64_t bytes)
{
	if (bytes > p->program.scratch_bytes)
		p->program.scratch_bytes = bytes;
}

/* Layers of one panel gain nothing from smaller weights, and class scores lose: they stay float32. */
static uint32_t dense_layout(const struct planner *pl, const struct ir_node *n)
{
	const struct compile_options *o = pl->o;
	bool wide = n->n > MODEL_FILE_PANEL;

	if (o->backend == MODEL_BACKEND_OPENBLAS)
		return MODEL_LAYOUT_ROW_MAJOR;
	if (o->precision == COMPILE_BF16 && wide)
		return MODEL_LAYOUT_PANELS_BF16;
	if (o->precision == COMPILE_INT8 && wide && n->k <= DENSE_INT8_MAX_IN)
		return MODEL_LAYOUT_PANELS_INT8;
	if (pl->p->n_dense < o->n_layers && o->layers[pl->p->n_dense].openblas)
		return MODEL_LAYOUT_ROW_MAJOR;
	return n->n <= PACK_NARROW ? MODEL_LAYOUT_COLUMNS : MODEL_LAYOUT_PANELS;
}

static void flatten_dense(const struct planner *pl, const struct ir_node *n, struct model_op *op)
{
	op->kind = MODEL_OP_DENSE;
	op->activation = n->act.kind;
	op->a = n->act.a;
	op->b = n->act.b;
	op->m = n->m;
	op->k = n->k;
	op->n = n->n;
	op->layout = dense_layout(pl, n);
	if (op->layout == MODEL_LAYOUT_PANELS_INT8 && pl->p->n_dense < pl->o->n_layers) {
		op->low = pl->o->layers[pl->p->n_dense].low;
		op->high = pl->o->layers[pl->p->n_dense].high;
	}
	pl->p->n_dense++;
	scratch_atleast(pl->p, dense_scratch_bytes(op->layout, op->k));
	pl->p->flops += 2 * (uint64_t)n->m * n->k * n->n;
}

/* Multiplications and additions of a product or convolution, for people. */
static uint64_t tensor_flops(const struct tensor_op *t)
{
	uint64_t out = tensor_elements(&t->out[0]);

	if (t->function == MODEL_FN_MATMUL)
		return 2 * out * t->in[0].dims[t->in[0].rank - 1];
	if (t->function == MODEL_FN_CONV)
		return 2 * out * tensor_span(&t->in[1], 1, t->in[1].rank);
	if (t->function == MODEL_FN_CONV_LAST) /* [groups][panels][floats][16], or [floats][C] */
		return 2 * out * t->in[1].dims[t->in[1].rank == 4 ? 2 : 0];
	return 0;
}

static void operand_shape(struct model_operand *o, const struct tensor *t)
{
	o->dtype = t->dtype;
	o->rank = t->rank;
	for (uint32_t d = 0; d < t->rank; d++)
		o->dims[d] = t->dims[d];
}

/* The record of a general operator; constants' offsets follow in pack.c. */
static void flatten_tensor(struct planner *pl, const struct ir_node *n, struct model_op *op)
{
	struct model_tensor_op *r = &pl->p->tensors[pl->p->program.n_tensor_ops];

	op->n = (uint32_t)pl->p->program.n_tensor_ops++;
	op->dst = MODEL_NONE;
	r->function = n->t.function;
	r->n_in = n->t.n_in;
	r->n_out = n->t.n_out;
	memcpy(r->ints, n->t.i, sizeof(r->ints));
	memcpy(r->floats, n->t.f, sizeof(r->floats));
	for (uint32_t k = 0; k < r->n_in; k++) {
		operand_shape(&r->in[k], &n->t.in[k]);
		if (n->in[k] != IR_NONE)
			r->in[k].buffer = pl->buffer_of[n->in[k]];
	}
	for (uint32_t k = 0; k < r->n_out; k++) {
		operand_shape(&r->out[k], &n->t.out[k]);
		r->out[k].buffer = pl->buffer_of[n->out[k]];
	}
	scratch_atleast(pl->p, n->t.scratch_bytes);
	pl->p->flops += tensor_flops(&n->t);
}

static void flatten_node(struct planner *pl, const struct ir_node *n, struct model_op *op)
{
	switch (n->op) {
	case IR_UNARY:
		op->kind = MODEL_OP_UNARY;
		op->activation = n->act.kind;
		op->a = n->act.a;
		op->b = n->act.b;
		op->m = (uint32_t)tensor_elements(&n->t.out[0]);
		break;
	case IR_SOFTMAX:
		op->kind = MODEL_OP_SOFTMAX;
		op->m = n->m;
		op->n = n->n;
		op->k = n->k;
		break;
	case IR_TENSOR:
		op->kind = MODEL_OP_TENSOR;
		flatten_tensor(pl, n, op);
		return;
	default:
		flatten_dense(pl, n, op);
		break;
	}
	op->src[0] = pl->buffer_of[n->in[0]];
	op->dst = pl->buffer_of[n->out[0]];
}

/* Every run-time input must have a buffer, which lives until here. */
static int link_inputs(struct planner *pl, const struct ir_node *n)
{
	for (int k = 0; k < TENSOR_MAX_IN; k++) {
		uint32_t b = n->in[k] == IR_NONE ? MODEL_NONE : pl->buffer_of[n->in[k]];

		if (n->in[k] == IR_NONE || ir_is_constant(pl->g, n->in[k]))
			continue;
		if (b == MODEL_NONE)
			return error_set(pl->err, -EINVAL,
				"node '%s' reads '%s', which nothing produces", n->name,
				pl->g->values[n->in[k]].name);
		pl->lives[b].dies = pl->p->program.n_ops + 1;
	}
	return 0;
}

static int plan_node(struct planner *pl, struct ir_node *n)
{
	struct model_op *op = &pl->p->ops[pl->p->program.n_ops];
	int rc;

	if (n->op == IR_DEAD)
		return 0;
	rc = link_inputs(pl, n);
	if (n->op == IR_VIEW) {
		pl->buffer_of[n->out[0]] = pl->buffer_of[n->in[0]];
		return rc;
	}
	if (pl->p->program.n_ops >= MODEL_FILE_MAX_OPS)
		return error_set(pl->err, -E2BIG, "more than %d operators", MODEL_FILE_MAX_OPS);
	op->src[0] = op->src[1] = MODEL_NONE;
	for (int k = 0; !rc && k < TENSOR_MAX_OUT; k++)
		if (n->out[k] != IR_NONE)
			rc = buffer_new(pl, n->out[k], pl->p->program.n_ops + 1);
	if (rc)
		return rc;
	flatten_node(pl, n, op);
	pl->nodes[pl->p->program.n_ops++] = n;
	return 0;
}

/* ---- offsets ---- */

static bool lives_meet(const struct life *a, const struct life *b)
{
	return a->born <= b->dies && b->born <= a->dies;
}

/* The input of the operator that makes buffer b whose bytes b may take: one that nobody reads afterwards, and that is
 * read element by element as b is written. All inputs must be of b's shape: a broadcast one makes narrow lines of a row
 * each, which wait for one another in place (tensor.h). MODEL_NONE: there is none. */
static uint32_t place_of_input(const struct planner *pl, uint32_t b)
{
	const uint32_t born = pl->lives[b].born;
	const struct model_op *op = born ? &pl->p->ops[born - 1] : NULL;
	const struct tensor_op *t;
	uint32_t place = MODEL_NONE;

	if (op && op->kind == MODEL_OP_UNARY && pl->lives[op->src[0]].dies == born)
		return op->src[0];
	if (!op || op->kind != MODEL_OP_TENSOR)
		return MODEL_NONE;
	t = &pl->nodes[born - 1]->t;
	for (uint32_t k = 0; k < t->n_in; k++) {
		uint32_t in = pl->p->tensors[op->n].in[k].buffer;

		if (!t->in[k].dtype || in == MODEL_NONE || !tensor_in_place(t, k))
			return MODEL_NONE;
		if (pl->lives[in].dies == born)
			place = in;
	}
	return place;
}

/* Lowest offset that is free of every earlier buffer alive at the same time: try 0 and the end of
 * each. Plans are short; a deep one costs n^2 small steps once, at compile time. */
static void place_buffer(struct planner *pl, uint32_t b)
{
	struct model_buffer *buffers = pl->p->buffers;
	uint64_t bytes = buffer_bytes(&buffers[b]), at = 0;
	uint32_t input = place_of_input(pl, b);
	bool moved = input == MODEL_NONE;

	if (input != MODEL_NONE) /* whoever is alive now has kept clear of it */
		at = buffers[input].row_offset;
	while (moved) {
		moved = false;
		for (uint32_t o = 0; o < b; o++) {
			uint64_t end = buffers[o].row_offset + buffer_bytes(&buffers[o]);

			if (lives_meet(&pl->lives[o], &pl->lives[b]) && at < end &&
				buffers[o].row_offset < at + bytes) {
				at = end;
				moved = true;
			}
		}
	}
	buffers[b].row_offset = at;
	if (at + bytes > pl->p->program.row_arena_bytes)
		pl->p->program.row_arena_bytes = at + bytes;
}

/* ---- inputs and outputs ---- */

static int describe_port(
	const struct planner *pl, const struct ir_port *port, struct model_file_io *io)
{
	const struct ir_value *v = &pl->g->values[port->value];
	size_t length = strlen(port->name);
	uint32_t batch = v->batch == 0;

	if (length >= sizeof(io->name))
		return error_set(pl->err, -ENOTSUP, "name '%.60s...' has %zu bytes, limit %zu",
			port->name, length, sizeof(io->name) - 1);
	for (const char *c = port->name; *c; c++)
		if ((uint8_t)*c < 0x20 || *c == 0x7f)
			return error_set(pl->err, -EINVAL, "name '%s' holds a control character",
				port->name);
	if (v->t.rank - batch > MODEL_FILE_MAX_RANK)
		return error_set(pl->err, -ENOTSUP, "'%s' has rank %u, limit %d", port->name,
			v->t.rank, MODEL_FILE_MAX_RANK);
	memcpy(io->name, port->name, length);
	io->dtype = v->t.dtype;
	io->rank = v->t.rank - batch;
	memcpy(io->dims, v->t.dims + batch, io->rank * sizeof(io->dims[0]));
	io->elements = (uint32_t)tensor_elements(&v->t);
	io->row_bytes = (io->elements * wire_dtype_bytes(io->dtype) + 3) / 4 * 4;
	return 0;
}

static int plan_inputs(struct planner *pl)
{
	const struct ir_graph *g = pl->g;
	int rc = 0;

	for (uint32_t i = 0; !rc && i < g->n_inputs; i++) {
		rc = buffer_new(pl, g->inputs[i].value, 0);
		pl->p->program.inputs[i] = pl->buffer_of[g->inputs[i].value];
		if (!rc)
			rc = describe_port(pl, &g->inputs[i], &pl->p->inputs[i]);
	}
	pl->p->n_inputs = g->n_inputs;
	return rc;
}

static int plan_outputs(struct planner *pl)
{
	const struct ir_graph *g = pl->g;

	for (uint32_t i = 0; i < g->n_outputs; i++) {
		uint32_t b = pl->buffer_of[g->outputs[i].value];
		int rc;

		if (b == MODEL_NONE)
			return error_set(pl->err, -ENOTSUP,
				"output '%s' does not depend on any input", g->outputs[i].name);
		pl->p->program.outputs[i] = b;
		pl->lives[b].dies = UINT32_MAX;
		rc = describe_port(pl, &g->outputs[i], &pl->p->outputs[i]);
		if (rc)
			return rc;
	}
	pl->p->n_outputs = g->n_outputs;
	return 0;
}

static int planner_init(struct planner *pl)
{
	struct ir_graph *g = pl->g;
	size_t nodes = (size_t)g->n_nodes + 1, buffers = TENSOR_MAX_OUT * nodes + g->n_inputs;
	size_t values = (size_t)g->n_values, live = 1;

	for (int32_t i = 0; i < g->n_nodes; i++)
		live += g->nodes[i].op == IR_TENSOR;

	pl->p->buffers = arena_alloc(g->arena, buffers, sizeof(*pl->p->buffers));
	pl->p->ops = arena_alloc(g->arena, nodes, sizeof(*pl->p->ops));
	pl->p->tensors = arena_alloc(g->arena, live, sizeof(*pl->p->tensors));
	pl->lives = arena_alloc(g->arena, buffers, sizeof(*pl->lives));
	pl->nodes = arena_alloc(g->arena, nodes, sizeof(*pl->nodes));
	pl->buffer_of = arena_alloc(g->arena, values, sizeof(*pl->buffer_of));
	if (!pl->p->tensors || !pl->p->buffers || !pl->p->ops || !pl->lives || !pl->nodes || !pl->buffer_of)
		return error_set(pl->err, -ENOMEM, "no memory for a plan of %d nodes", g->n_nodes);
	memset(pl->buffer_of, 0xff, values * sizeof(*pl->buffer_of));
	return 0;
}

int plan_build(struct ir_graph *g, const struct compile_options *o, struct plan *p,
	struct error *err)
{
	struct planner pl = {.g = g, .p = p, .o = o, .err = err};
	int rc;

	*p = (struct plan){0};
	rc = planner_init(&pl);
	if (!rc)
		rc = plan_inputs(&pl);
	for (int32_t i = 0; !rc && i < g->n_nodes; i++)
		rc = plan_node(&pl, &g->nodes[i]);
	if (!rc)
		rc = plan_outputs(&pl);
	for (uint32_t b = 0; !rc && b < p->program.n_buffers; b++)
		place_buffer(&pl, b);
	if (!rc && p->program.row_arena_bytes >> 32)
		rc = error_set(err, -E2BIG, "one row needs %lu activation bytes, limit 2^32 - 1",
			p->program.row_arena_bytes);
	return rc ? rc : pack_constants(g, p, err);
}
