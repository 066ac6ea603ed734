/* SPDX-License-Identifier: BSD-3-Clause
 * Embedding bags, as EmbeddingBag and the mean of an Embedding are exported: Gather from a constant
 * table, ReduceSum or ReduceMean over the indices' last dimension. One EMBEDDING.
 */
#include "models/compile/match.h"
#include "models/compile/passes.h"

/* The reduction's operand if it is such a Gather that nobody else uses; else NULL. */
static const struct ir_node *gather_of(const struct match *m, const struct ir_node *reduce)
{
	const struct ir_node *n;

	if (!is_tensor(reduce, MODEL_FN_REDUCE) ||
		(reduce->t.i[0] != REDUCE_SUM && reduce->t.i[0] != REDUCE_MEAN))
		return NULL;
	n = producer_of(m, reduce->in[0]);
	if (!n || !is_tensor(n, MODEL_FN_GATHER) || m->uses[reduce->in[0]] != 1 ||
		!is_constant_f32(m->g, n->in[0]) || n->t.in[0].rank != 2 || n->t.i[0] ||
		!n->t.in[1].rank || ir_is_constant(m->g, n->in[1]))
		return NULL;
	return reduce->t.i[1] == 1 << (n->t.in[1].rank - 1) ? n : NULL;
}

int pass_fuse_embedding(struct ir_graph *g, struct error *err)
{
	struct match m;
	int rc = match_init(&m, g, err);

	for (int32_t i = 0; !rc && i < g->n_nodes; i++) {
		struct ir_node *n = &g->nodes[i];
		const struct ir_node *gather = gather_of(&m, n);
		struct tensor_op t = {.function = MODEL_FN_EMBEDDING, .n_in = 2, .n_out = 1};

		if (!gather)
			continue;
		t.i[0] = n->t.i[0];
		rc = become_tensor(&m, n, &t, (int32_t[2]){gather->in[0], gather->in[1]});
	}
	return rc;
}
