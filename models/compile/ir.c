/* SPDX-License-Identifier: BSD-3-Clause
 * The graph's containers and shape arithmetic: see ir.h.
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
	*g = (struct ir_graph){.arena = arena};
	g->max_values = (int32_t)values;
	g->max_nodes = (int32_t)nodes;
	g->values = arena_alloc(arena, values, sizeof(*g->values));
	g->nodes = arena_alloc(arena, nodes, sizeof(*g->nodes));
	if (!g->values || !g->nodes)
		return error_set(err, -ENOMEM, "no memory for %zu nodes", nodes);
	return 0;
}

int32_t ir_value_new(
	struct ir_graph *g, const char *name, const struct ir_shape *shape, struct error *err)
{
	struct ir_value v = {.name = name, .shape = *shape, .elements = 1};

	for (uint32_t i = 0; i < shape->rank; i++) {
		int64_t d = shape->dims[i];

		if (d == IR_BATCH && i == 0)
			continue;
		if (d < 1 || d > MODEL_FILE_MAX_ROW_ELEMENTS ||
			__builtin_mul_overflow(v.elements, (uint64_t)d, &v.elements) ||
			v.elements > (uint64_t)1 << 30)
			return error_set(err, -EINVAL,
				"value '%s' dimension %u is %ld: must be at "
				"least 1, and the whole below 2^30 elements",
				name, i, d);
	}
	if (g->n_values >= g->max_values)
		return error_set(err, -E2BIG, "more than %d values", g->max_values);
	g->values[g->n_values] = v;
	return g->n_values++;
}

struct ir_node *ir_node_new(struct ir_graph *g, enum ir_op op, const char *name, struct error *err)
{
	struct ir_node *n;

	if (g->n_nodes >= g->max_nodes) {
		error_set(err, -E2BIG, "more than %d nodes", g->max_nodes);
		return NULL;
	}
	n = &g->nodes[g->n_nodes++];
	*n = (struct ir_node){.op = op, .name = name, .out = IR_NONE, .alpha = 1};
	n->in[0] = n->in[1] = n->in[2] = IR_NONE;
	return n;
}

bool ir_shape_equal(const struct ir_shape *a, const struct ir_shape *b)
{
	return a->rank == b->rank && !memcmp(a->dims, b->dims, a->rank * sizeof(a->dims[0]));
}

const char *ir_shape_text(const struct ir_shape *s, char *text, size_t bytes)
{
	size_t at = (size_t)snprintf(text, bytes, "[");

	for (uint32_t i = 0; i < s->rank && at < bytes; i++) {
		if (s->dims[i] == IR_BATCH)
			at += (size_t)snprintf(text + at, bytes - at, "%sbatch", i ? "," : "");
		else
			at += (size_t)snprintf(
				text + at, bytes - at, "%s%ld", i ? "," : "", s->dims[i]);
	}
	if (at < bytes)
		snprintf(text + at, bytes - at, "]");
	return text;
}

/* In a batched graph a run-time operand must carry the batch where the result has it. */
static bool batch_aligned(const struct ir_graph *g, int32_t value, uint32_t rank)
{
	const struct ir_value *v = &g->values[value];

	if (!g->batched)
		return true;
	if (!ir_is_constant(g, value))
		return v->shape.rank == rank;
	return v->shape.rank < rank || v->shape.dims[0] == 1;
}

int ir_broadcast(const struct ir_graph *g, const char *node, int32_t a, int32_t b,
	struct ir_shape *out, struct error *err)
{
	const struct ir_shape *sa = &g->values[a].shape, *sb = &g->values[b].shape;
	char ta[96], tb[96];

	*out = (struct ir_shape){.rank = sa->rank > sb->rank ? sa->rank : sb->rank};
	for (uint32_t i = 1; i <= out->rank; i++) {
		int64_t da = i <= sa->rank ? sa->dims[sa->rank - i] : 1;
		int64_t db = i <= sb->rank ? sb->dims[sb->rank - i] : 1;

		if (da != db && da != 1 && db != 1)
			return error_set(err, -EINVAL,
				"node '%s': shapes %s and %s do not broadcast", node,
				ir_shape_text(sa, ta, sizeof(ta)),
				ir_shape_text(sb, tb, sizeof(tb)));
		out->dims[out->rank - i] = da == 1 ? db : da;
	}
	if (!(ir_is_constant(g, a) && ir_is_constant(g, b)) &&
		(!batch_aligned(g, a, out->rank) || !batch_aligned(g, b, out->rank)))
		return error_set(err, -EINVAL,
			"node '%s': shapes %s and %s broadcast along the batch "
			"dimension",
			node, ir_shape_text(sa, ta, sizeof(ta)), ir_shape_text(sb, tb, sizeof(tb)));
	return 0;
}
