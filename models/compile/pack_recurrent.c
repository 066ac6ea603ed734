/* SPDX-License-Identifier: BSD-3-Clause
 * Constant weights of recurrent layers go into the artifact as the engine multiplies with them.
 */
#include <errno.h>

#include "models/compile/match.h"
#include "models/compile/passes.h"

static int pack_node(struct ir_graph *g, struct ir_node *n, struct error *err)
{
	const uint32_t directions = n->t.in[1].dims[0], wide = n->t.in[1].dims[1];
	const uint32_t padded = (wide + MODEL_FILE_PANEL - 1) / MODEL_FILE_PANEL * MODEL_FILE_PANEL;
	const uint64_t each[3] = {(uint64_t)padded * n->t.in[1].dims[2],
		(uint64_t)padded * n->t.in[2].dims[2], 2 * (uint64_t)padded};
	const int64_t hidden = n->t.in[2].dims[2];
	const float *from[3] = {NULL};
	float *to[3] = {NULL};

	for (int k = 0; k < 3; k++)
		if (each[k] * directions > 1u << 30)
			return 0;
	for (int k = 0; k < 3; k++) {
		const struct tensor t = {WIRE_F32, 2, {directions, (uint32_t)each[k]}};
		int32_t v;

		if (n->in[k + 1] == IR_NONE)
			continue;
		from[k] = g->values[n->in[k + 1]].data;
		v = new_constant(g, n->name, &t, &to[k], err);
		if (v < 0)
			return v;
		n->in[k + 1] = v;
		n->t.in[k + 1] = t;
	}
	n->t.i[11] = hidden;
	recurrent_pack(&n->t, from, to);
	return tensor_infer(&n->t, err);
}

int pass_pack_recurrent(struct ir_graph *g, struct error *err)
{
	int rc = 0;

	for (int32_t i = 0; !rc && i < g->n_nodes; i++) {
		struct ir_node *n = &g->nodes[i];

		if (is_tensor(n, MODEL_FN_RECURRENT) && is_constant_f32(g, n->in[1]) &&
			is_constant_f32(g, n->in[2]) && !n->t.i[11] &&
			(n->in[3] == IR_NONE || is_constant_f32(g, n->in[3])))
			rc = pack_node(g, n, err);
	}
	return rc;
}
