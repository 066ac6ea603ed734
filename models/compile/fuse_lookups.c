/* SPDX-License-Identifier: BSD-3-Clause
 * The sparse features of a recommender, as exported: every feature's index sliced out of one tensor, a Gather from a
 * table of its own, and a Concat of all that was found.
 *
 *   ids ─┬─ slice ─ Gather(table 0) ─┐                         ids ─ LOOKUPS(tables) ─┐
 *        ├─ slice ─ Gather(table 1) ─┼─ Concat ─      →                               ├─ Concat ─
 *        └─ …                   x ───┘                                            x ───┘
 *
 * Tables of one width are laid one after the other; a table that several features share is laid once.
 */
#include <errno.h>
#include <string.h>

#include "models/compile/match.h"
#include "models/compile/passes.h"

enum { LEAST = 2, MOST = TENSOR_MAX_IN };

struct lookup {
	struct ir_node *gather;
	int32_t ids, table;
	int64_t index; /* element of ids */
};

/* The value this one is another shape of, if nobody else uses either. */
static int32_t behind_views(const struct match *m, int32_t v)
{
	const struct ir_node *n = producer_of(m, v);

	while (n && n->op == IR_VIEW && m->uses[n->in[0]] == 1) {
		v = n->in[0];
		n = producer_of(m, v);
	}
	return v;
}

static bool lookup_of(const struct match *m, int32_t value, struct lookup *l)
{
	int32_t v = m->uses[value] == 1 ? behind_views(m, value) : IR_NONE;
	struct ir_node *gather = producer_of(m, v), *slice;

	if (!gather || !is_tensor(gather, MODEL_FN_GATHER) || !is_constant_f32(m->g, gather->in[0]) ||
		gather->t.in[0].rank != 2 || gather->t.i[0] || ir_is_constant(m->g, gather->in[1]) ||
		tensor_elements(&gather->t.in[1]) != 1)
		return false;
	slice = producer_of(m, behind_views(m, gather->in[1]));
	if (!slice || !is_tensor(slice, MODEL_FN_STRIDED) || tensor_elements(&slice->t.out[0]) != 1)
		return false;
	*l = (struct lookup){gather, slice->in[0], gather->in[0], slice->t.i[0]};
	return true;
}

/* How many inputs of `concat` from k on are such lookups, alike but for index and table. */
static uint32_t run_of(const struct match *m, const struct ir_node *concat, uint32_t k, struct lookup run[MOST])
{
	const struct tensor *first = &concat->t.in[k];
	uint32_t n = 0;

	for (; k + n < concat->t.n_in && lookup_of(m, concat->in[k + n], &run[n]); n++)
		if (run[n].ids != run[0].ids || !tensor_same_shape(&concat->t.in[k + n], first) ||
			m->g->values[run[n].table].t.dims[1] != m->g->values[run[0].table].t.dims[1])
			break;
	return n;
}

/* All tables, and which rows of them are whose. */
static int stack_tables(const struct match *m, const struct lookup *run, uint32_t n, int32_t *table, int32_t *fields)
{
	struct tensor t = m->g->values[run[0].table].t, f = {.dtype = WIRE_I64, .rank = 2, .dims = {n, 3}};
	int64_t (*field)[3] = arena_alloc(m->g->arena, n, sizeof(*field)), rows = 0;
	float *data;

	if (!field)
		return error_set(m->err, -ENOMEM, "no memory for a constant");
	for (uint32_t k = 0; k < n; k++) {
		uint32_t same = 0;

		while (run[same].table != run[k].table)
			same++;
		field[k][0] = run[k].index;
		field[k][1] = same < k ? field[same][1] : rows;
		field[k][2] = m->g->values[run[k].table].t.dims[0];
		rows += same < k ? 0 : field[k][2];
	}
	t.dims[0] = (uint32_t)rows;
	*table = new_constant(m->g, "tables", &t, &data, m->err);
	if (*table < 0)
		return *table;
	for (uint32_t k = 0; k < n; k++)
		memcpy(data + (size_t)field[k][1] * t.dims[1], m->g->values[run[k].table].data,
			(size_t)field[k][2] * t.dims[1] * sizeof(*data));
	*fields = ir_value_new(m->g, "fields", &f, m->err);
	if (*fields < 0)
		return *fields;
	m->g->values[*fields].data = field;
	return 0;
}

/* The last of the run's Gathers makes all of it; returns the value, or -errno. */
static int32_t fuse(const struct match *m, const struct ir_node *concat, uint32_t k, const struct lookup *run, uint32_t n)
{
	struct tensor_op t = {.function = MODEL_FN_LOOKUPS, .n_in = 3, .n_out = 1};
	struct tensor out = concat->t.in[k];
	struct ir_node *last = run[0].gather;
	int32_t in[3] = {IR_NONE, run[0].ids, IR_NONE}, value;
	int rc = stack_tables(m, run, n, &in[0], &in[2]);

	for (uint32_t i = 1; i < n; i++)
		last = run[i].gather > last ? run[i].gather : last;
	out.dims[concat->t.i[0]] *= n;
	value = rc ? rc : ir_value_new(m->g, last->name, &out, m->err);
	if (value < 0)
		return value;
	m->g->values[value].batch = m->g->values[concat->in[k]].batch;
	m->g->values[value].input = m->g->values[concat->in[k]].input;
	t.i[0] = out.rank == 2;
	last->out[0] = value;
	last->t.out[0] = out;
	rc = become_tensor(m, last, &t, in);
	return rc ? rc : value;
}

/* [1, width] joined behind one another, or [1, 1, width] below one another: the row's elements in order. */
static bool joins_in_order(const struct ir_node *concat)
{
	const struct tensor *x = &concat->t.in[0];

	return concat->t.i[0] == 1 && x->dims[0] == 1 && (x->rank == 2 || x->rank == 3);
}

static int fuse_inputs(const struct match *m, struct ir_node *concat)
{
	struct tensor_op *t = &concat->t;
	struct lookup run[MOST];
	uint32_t to = 0;

	for (uint32_t k = 0, n; k < t->n_in; k += n) {
		int32_t value = concat->in[k];

		n = run_of(m, concat, k, run);
		if (n >= LEAST && (t->in[k].rank == 2 || t->in[k].dims[1] == 1))
			value = fuse(m, concat, k, run, n);
		else
			n = 1;
		if (value < 0)
			return value;
		concat->in[to] = value;
		t->in[to++] = m->g->values[value].t;
	}
	for (uint32_t k = to; k < t->n_in; k++)
		concat->in[k] = IR_NONE;
	t->n_in = to;
	if (to == 1)
		concat->op = IR_VIEW;
	return 0;
}

int pass_fuse_lookups(struct ir_graph *g, struct error *err)
{
	struct match m;
	int rc = match_init(&m, g, err);

	for (int32_t i = 0; !rc && i < g->n_nodes; i++)
		if (is_tensor(&g->nodes[i], MODEL_FN_CONCAT) && joins_in_order(&g->nodes[i]))
			rc = fuse_inputs(&m, &g->nodes[i]);
	return rc;
}
