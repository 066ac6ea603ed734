/* SPDX-License-Identifier: BSD-3-Clause
 * The graph's containers: see ir.h.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "models/compile/ir.h"

int ir_init(struct ir_graph *g, struct arena *arena, size_t values, size_t nodes, struct error *err)
{
	if (nodes > IR_MAX_NODES || values > IR_MAX_VALUES)
		return error_set(err, -E2BIG,
			"the graph has %zu nodes and %zu values, limits %d and %d", nodes, values,
			IR_MAX_NODES, IR_MAX_VALUES);
	*g = (struct ir_graph){.arena = arena, .needs = IR_NONE};
	g->max_values = (int32_t)values;
	g->max_nodes = (int32_t)nodes;
	g->values = arena_alloc(arena, values, sizeof(*g->values));
	g->nodes = arena_alloc(arena, nodes, sizeof(*g->nodes));
	if (!g->values || !g->nodes)
		return error_set(err, -ENOMEM, "no memory for %zu nodes", nodes);
	return 0;
}

/* A table twice as large with the same content; the arena keeps the old one until the end. */
static void *grown(struct ir_graph *g, const void *table, int32_t *max, int32_t limit, size_t size)
{
	int32_t wanted = *max * 2 < limit ? *max * 2 + 16 : limit;
	void *bigger = *max < limit ? arena_alloc(g->arena, (size_t)wanted, size) : NULL;

	if (bigger) {
		memcpy(bigger, table, (size_t)*max * size);
		*max = wanted;
	}
	return bigger;
}

int32_t ir_value_new(
	struct ir_graph *g, const char *name, const struct tensor *t, struct error *err)
{
	uint64_t elements = 1;

	for (uint32_t i = 0; i < t->rank; i++)
		if (t->dims[i] < 1 || t->dims[i] > 1u << 30 ||
			__builtin_mul_overflow(elements, (uint64_t)t->dims[i], &elements) ||
			elements > (uint64_t)1 << 30)
			return error_set(err, -ENOTSUP,
				"value '%s' dimension %u is %u: must be at least 1, and the whole "
				"below 2^30 elements",
				name, i, t->dims[i]);
	if (g->n_values >= g->max_values) {
		struct ir_value *bigger =
			grown(g, g->values, &g->max_values, IR_MAX_VALUES, sizeof(*g->values));

		if (!bigger)
			return error_set(err, -E2BIG, "more than %d values", g->max_values);
		g->values = bigger;
	}
	g->values[g->n_values] =
		(struct ir_value){
		.name = name, .t = *t, .batch = IR_NONE, .outside = 1, .input = IR_NONE};
	return g->n_values++;
}

struct ir_node *ir_node_new(struct ir_graph *g, enum ir_op op, const char *name, struct error *err)
{
	struct ir_node *n;

	if (g->n_nodes >= g->max_nodes) {
		struct ir_node *bigger =
			grown(g, g->nodes, &g->max_nodes, IR_MAX_NODES, sizeof(*g->nodes));

		if (!bigger) {
			error_set(err, -E2BIG, "more than %d nodes", g->max_nodes);
			return NULL;
		}
		g->nodes = bigger;
	}
	n = &g->nodes[g->n_nodes++];
	*n = (struct ir_node){.op = op, .name = name};
	for (uint32_t k = 0; k < TENSOR_MAX_IN; k++)
		n->in[k] = IR_NONE;
	for (uint32_t k = 0; k < TENSOR_MAX_OUT; k++)
		n->out[k] = IR_NONE;
	return n;
}

const char *ir_shape_text(const struct ir_value *v, char *text, size_t bytes)
{
	size_t at = (size_t)snprintf(text, bytes, "[");

	for (uint32_t i = 0; i < v->t.rank && at < bytes; i++) {
		if ((int32_t)i == v->batch && v->t.dims[i] == 1)
			at += (size_t)snprintf(text + at, bytes - at, "%sbatch", i ? "," : "");
		else if ((int32_t)i == v->batch)
			at += (size_t)snprintf(text + at, bytes - at, "%s%u x batch", i ? "," : "",
				v->t.dims[i]);
		else
			at += (size_t)snprintf(
				text + at, bytes - at, "%s%u", i ? "," : "", v->t.dims[i]);
	}
	if (at < bytes)
		snprintf(text + at, bytes - at, "]");
	return text;
}
