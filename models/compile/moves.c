/* SPDX-License-Identifier: BSD-3-Clause
 * Moves in their simplest form: a Gather of one known index (x[:, 3], as exporters write it) is a
 * slice, which other passes look through; a Concat of Concats is one, as far as an operator has inputs.
 */
#include <string.h>

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

/* Input k of `n`, if it is a Concat along the same axis that nobody else uses, and there is room for its inputs. */
static struct ir_node *part_of(const struct match *m, const struct ir_node *n, uint32_t k)
{
	struct ir_node *part = made_by(m, n->in[k], MODEL_FN_CONCAT, n->t.i[0]);

	return part && m->uses[n->in[k]] == 1 && part->t.out[0].rank == n->t.out[0].rank &&
			       n->t.n_in - 1 + part->t.n_in <= TENSOR_MAX_IN
		       ? part
		       : NULL;
}

static void take_part(struct ir_node *n, uint32_t k, struct ir_node *part)
{
	const uint32_t added = part->t.n_in, behind = n->t.n_in - k - 1;

	memmove(&n->in[k + added], &n->in[k + 1], behind * sizeof(n->in[0]));
	memmove(&n->t.in[k + added], &n->t.in[k + 1], behind * sizeof(n->t.in[0]));
	memcpy(&n->in[k], part->in, added * sizeof(n->in[0]));
	memcpy(&n->t.in[k], part->t.in, added * sizeof(n->t.in[0]));
	n->t.n_in += added - 1;
	part->op = IR_DEAD;
}

int pass_join_concats(struct ir_graph *g, struct error *err)
{
	struct match m;
	int rc = match_init(&m, g, err);

	for (int32_t i = 0; !rc && i < g->n_nodes; i++) {
		struct ir_node *n = &g->nodes[i], *part;

		for (uint32_t k = 0; is_tensor(n, MODEL_FN_CONCAT) && k < n->t.n_in;)
			if ((part = part_of(&m, n, k)))
				take_part(n, k, part);
			else
				k++;
	}
	return rc;
}
