/* SPDX-License-Identifier: BSD-3-Clause
 * Graph → flat plan. Buffers first (a view shares its source's), then operators with their
 * constants, then offsets: a buffer's bytes are given to others after its last use.
 */
#include <errno.h>
#include <string.h>

#include "models/compile/pack.h"
#include "models/compile/plan.h"

/* A buffer's life in operator numbers. Inputs are born at 0, operator i's output at i + 1. */
struct life {
	uint32_t born, dies;
};

struct planner {
	struct ir_graph *g;
	struct plan *p;
	struct life *lives;  /* per buffer */
	uint32_t *buffer_of; /* per value; MODEL_NONE for constants */
	enum model_backend backend;
	struct error *err;
};

static uint64_t align_up(uint64_t n)
{
	return (n + MODEL_FILE_ALIGN - 1) / MODEL_FILE_ALIGN * MODEL_FILE_ALIGN;
}

/* ---- buffers ---- */

static int buffer_new(struct planner *pl, int32_t value, uint32_t born)
{
	uint64_t elements = pl->g->values[value].elements;
	uint32_t b = pl->p->program.n_buffers;

	if (elements > MODEL_FILE_MAX_ROW_ELEMENTS)
		return error_set(pl->err, -E2BIG, "value '%s' has %lu elements per row, limit %d",
			pl->g->values[value].name, elements, MODEL_FILE_MAX_ROW_ELEMENTS);
	if (b >= MODEL_FILE_MAX_BUFFERS)
		return error_set(pl->err, -E2BIG, "more than %d buffers", MODEL_FILE_MAX_BUFFERS);
	pl->p->buffers[b].elements = (uint32_t)elements;
	pl->lives[b] = (struct life){born, born};
	pl->buffer_of[value] = b;
	pl->p->program.n_buffers++;
	return 0;
}

/* ---- operators ---- */

/* Dimensions of one row, and the strides that walk an operand along them (0 = broadcast). */
static uint32_t row_dims(const struct ir_shape *out, uint32_t skip_last, le32 *dims)
{
	uint32_t first = out->rank && out->dims[0] == IR_BATCH, n = 0;

	for (uint32_t i = first; i + skip_last < out->rank; i++)
		dims[n++] = (uint32_t)out->dims[i];
	return n;
}

static void row_strides(
	const struct ir_shape *v, uint32_t skip_last, uint32_t rank, uint32_t unit, le32 *stride)
{
	for (uint32_t i = 1; i <= rank; i++) {
		uint32_t from_end = i + skip_last;
		int64_t d = from_end <= v->rank ? v->dims[v->rank - from_end] : 1;

		if (d == IR_BATCH)
			d = 1;
		stride[rank - i] = d == 1 ? 0 : unit;
		unit *= (uint32_t)d;
	}
}

/* Merge neighbouring dimensions that both operands walk without a jump: longer inner loops. */
static void merge_dims(struct model_op *op)
{
	uint32_t to = 0;

	for (uint32_t i = 1; i < op->rank; i++) {
		bool joins = op->stride[0][to] == op->stride[0][i] * op->dims[i] &&
			     op->stride[1][to] == op->stride[1][i] * op->dims[i];

		if (!joins)
			to++;
		op->dims[to] = joins ? op->dims[to] * op->dims[i] : op->dims[i];
		op->stride[0][to] = op->stride[0][i];
		op->stride[1][to] = op->stride[1][i];
	}
	for (uint32_t i = to + 1; i < op->rank; i++)
		op->dims[i] = op->stride[0][i] = op->stride[1][i] = 0;
	op->rank = to + 1;
}

static int flatten_binary(const struct planner *pl, const struct ir_node *n, struct model_op *op)
{
	const struct ir_graph *g = pl->g;

	op->kind = MODEL_OP_BINARY;
	op->function = n->function;
	op->rank = row_dims(&g->values[n->out].shape, 0, op->dims);
	for (int k = 0; k < 2; k++)
		row_strides(&g->values[n->in[k]].shape, 0, op->rank, 1, op->stride[k]);
	if (!op->rank)
		op->rank = op->dims[0] = 1;
	merge_dims(op);
	return 0;
}

static int flatten_matmul(const struct planner *pl, const struct ir_node *n, struct model_op *op)
{
	const struct ir_graph *g = pl->g;
	const struct ir_shape *out = &g->values[n->out].shape, *a = &g->values[n->in[0]].shape;

	if (out->dims[out->rank - 2] == IR_BATCH)
		return error_set(pl->err, -ENOTSUP,
			"MatMul of this shape is not supported (node '%s')", n->name);
	op->kind = MODEL_OP_MATMUL;
	op->transposed = (n->trans_a ? 1u : 0) | (n->trans_b ? 2u : 0);
	op->a = n->alpha;
	op->m = (uint32_t)out->dims[out->rank - 2];
	op->n = (uint32_t)out->dims[out->rank - 1];
	op->k = (uint32_t)a->dims[a->rank - (n->trans_a ? 2 : 1)];
	op->rank = row_dims(out, 2, op->dims);
	row_strides(a, 2, op->rank, op->m * op->k, op->stride[0]);
	row_strides(&g->values[n->in[1]].shape, 2, op->rank, op->k * op->n, op->stride[1]);
	pl->p->flops += 2 * op->k * (uint64_t)pl->g->values[n->out].elements;
	return 0;
}

static int flatten_dense(const struct planner *pl, const struct ir_node *n, struct model_op *op)
{
	op->kind = MODEL_OP_DENSE;
	op->activation = n->act.kind;
	op->a = n->act.a;
	op->b = n->act.b;
	op->m = n->m;
	op->k = n->k;
	op->n = n->n;
	if (pl->backend == MODEL_BACKEND_OPENBLAS)
		op->layout = MODEL_LAYOUT_ROW_MAJOR;
	else
		op->layout = n->n <= PACK_NARROW ? MODEL_LAYOUT_COLUMNS : MODEL_LAYOUT_PANELS;
	pl->p->flops += 2 * (uint64_t)n->m * n->k * n->n;
	return 0;
}

static int flatten_node(const struct planner *pl, const struct ir_node *n, struct model_op *op)
{
	switch (n->op) {
	case IR_UNARY:
		op->kind = MODEL_OP_UNARY;
		op->activation = n->act.kind;
		op->a = n->act.a;
		op->b = n->act.b;
		op->m = (uint32_t)pl->g->values[n->out].elements;
		return 0;
	case IR_SOFTMAX:
		op->kind = MODEL_OP_SOFTMAX;
		op->m = n->m;
		op->n = n->n;
		op->k = n->k;
		return 0;
	case IR_BINARY:
		return flatten_binary(pl, n, op);
	case IR_MATMUL:
		return flatten_matmul(pl, n, op);
	default:
		return flatten_dense(pl, n, op);
	}
}

/* The node's inputs: a buffer to read, or a constant to be packed later (pack.c). */
static int link_inputs(struct planner *pl, const struct ir_node *n, struct model_op *op)
{
	op->src[0] = op->src[1] = MODEL_NONE;
	for (int k = 0; k < 2; k++) {
		uint32_t b = n->in[k] == IR_NONE ? MODEL_NONE : pl->buffer_of[n->in[k]];

		if (n->in[k] == IR_NONE || pl->g->values[n->in[k]].f32)
			continue;
		if (b == MODEL_NONE)
			return error_set(pl->err, -EINVAL,
				"node '%s' reads '%s', which nothing produces", n->name,
				pl->g->values[n->in[k]].name);
		op->src[k] = b;
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
	if (n->op == IR_VIEW) {
		pl->buffer_of[n->out] = pl->buffer_of[n->in[0]];
		return 0;
	}
	rc = link_inputs(pl, n, op);
	if (!rc)
		rc = flatten_node(pl, n, op);
	if (!rc)
		rc = buffer_new(pl, n->out, pl->p->program.n_ops + 1);
	op->dst = pl->buffer_of[n->out];
	pl->p->program.n_ops++;
	return rc;
}

/* ---- offsets ---- */

static bool lives_meet(const struct life *a, const struct life *b)
{
	return a->born <= b->dies && b->born <= a->dies;
}

/* Lowest offset that is free of every earlier buffer alive at the same time: try 0 and the end of
 * each. Plans are short; a deep one costs n^2 small steps once, at compile time. */
static void place_buffer(struct planner *pl, uint32_t b)
{
	struct model_buffer *buffers = pl->p->buffers;
	uint64_t bytes = align_up((uint64_t)buffers[b].elements * sizeof(float)), at = 0;
	bool moved = true;

	while (moved) {
		moved = false;
		for (uint32_t o = 0; o < b; o++) {
			uint64_t end = buffers[o].row_offset +
				       align_up((uint64_t)buffers[o].elements * sizeof(float));

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
	uint32_t batch = v->shape.rank && v->shape.dims[0] == IR_BATCH;

	if (length >= sizeof(io->name))
		return error_set(pl->err, -ENOTSUP, "name '%.60s...' has %zu bytes, limit %zu",
			port->name, length, sizeof(io->name) - 1);
	for (const char *c = port->name; *c; c++)
		if ((uint8_t)*c < 0x20 || *c == 0x7f)
			return error_set(pl->err, -EINVAL, "name '%s' holds a control character",
				port->name);
	if (v->shape.rank - batch > MODEL_FILE_MAX_RANK)
		return error_set(pl->err, -ENOTSUP, "'%s' has rank %u, limit %d", port->name,
			v->shape.rank, MODEL_FILE_MAX_RANK);
	memcpy(io->name, port->name, length);
	io->dtype = WIRE_F32;
	io->rank = row_dims(&v->shape, 0, io->dims);
	io->elements = (uint32_t)v->elements;
	io->row_bytes = io->elements * (uint32_t)sizeof(float);
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
	size_t buffers = (size_t)g->n_nodes + g->n_inputs, values = (size_t)g->n_values;

	pl->p->buffers = arena_alloc(g->arena, buffers, sizeof(*pl->p->buffers));
	pl->p->ops = arena_alloc(g->arena, (size_t)g->n_nodes + 1, sizeof(*pl->p->ops));
	pl->lives = arena_alloc(g->arena, buffers, sizeof(*pl->lives));
	pl->buffer_of = arena_alloc(g->arena, values, sizeof(*pl->buffer_of));
	if (!pl->p->buffers || !pl->p->ops || !pl->lives || !pl->buffer_of)
		return error_set(pl->err, -ENOMEM, "no memory for a plan of %d nodes", g->n_nodes);
	memset(pl->buffer_of, 0xff, values * sizeof(*pl->buffer_of));
	return 0;
}

int plan_build(struct ir_graph *g, enum model_backend backend, struct plan *p, struct error *err)
{
	struct planner pl = {.g = g, .p = p, .backend = backend, .err = err};
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
