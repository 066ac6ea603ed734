/* SPDX-License-Identifier: BSD-3-Clause
 * Moves in their simplest form: a Gather of one known index (x[:, 3], as exporters write it) is a
 * slice, which other passes look through.
 */
#include "models/compile/match.h"
#include "models/compile/passes.h"

static int slice_gather(const struct match *m, struct ir_node *n)
{
	const struct tensor x = n->t.in[0], out = n->t.out[0];
	const uint32_t axis = (uint32_t)n->t.i[0], added = n->t.in[1].rank;
	const int64_t size = x.dims[axis];
	int64_t index = tensor_get_i64(n->t.in[1].dtype, m->g->values[n->in[1]].data, 0);
	struct tensor_op t = {.function = MODEL_FN_STRIDED, .n_in = 1, .n_out = 1};
	const int32_t in[1] = {n->in[0]};

	index = index < 0 ? index + size : index;
	if (index < 0 || index >= size)
		return 0; /* the engine clamps it */
	t.i[0] = index * (int64_t)tensor_span(&x, axis + 1, x.rank);
	t.i[1] = out.rank;
	for (uint32_t d = 0; d < out.rank; d++) {
		uint32_t from = d < axis ? d : d - added + 1; /* the input's dimension */

		t.i[2 + d] = out.dims[d];
		t.i[10 + d] = out.dims[d] == 1 ? 0 : (int64_t)tensor_span(&x, from + 1, x.rank);
	}
	return become_tensor(m, n, &t, in);
}

int pass_slice_gathers(struct ir_graph *g, struct error *err)
{
	struct match m;
	int rc = match_init(&m, g, err);

	for (int32_t i = 0; !rc && i < g->n_nodes; i++) {
		struct ir_node *n = &g->nodes[i];

		if (is_tensor(n, MODEL_FN_GATHER) && !ir_is_constant(g, n->in[0]) &&
			ir_is_constant(g, n->in[1]) && tensor_elements(&n->t.in[1]) == 1 &&
			n->t.in[1].rank <= 1)
			rc = slice_gather(&m, n);
	}
	return rc;
}
