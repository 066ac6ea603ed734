/* SPDX-License-Identifier: BSD-3-Clause
 * The walk of TREE_CHAINS trees or rows in step. One walk waits some 15 cycles a level for its
 * loads and its comparison; eight that do not depend on each other fill that time, without a branch
 * to mispredict but the last. (AVX-512 gathers need more micro-operations for the same loads.)
 */
#include "models/run/trees.h"

void trees_walk(
	const struct trees *t, const uint32_t *const *x, const uint32_t *roots, uint32_t *leaf)
{
	const struct tree_node *nodes = t->nodes;
	const uint32_t bits = t->column_bits, mask = (1u << bits) - 1;
	uint32_t at[TREE_CHAINS], moved;

#pragma GCC unroll 8
	for (int j = 0; j < TREE_CHAINS; j++)
		at[j] = roots[j];
	do {
		moved = 0;
#pragma GCC unroll 8
		for (int j = 0; j < TREE_CHAINS; j++) {
			const struct tree_node n = nodes[at[j]];
			uint32_t distance = n.link >> bits;

			moved |= distance;
			at[j] += distance + (n.key < x[j][n.link & mask]);
		}
	} while (moved);
#pragma GCC unroll 8
	for (int j = 0; j < TREE_CHAINS; j++)
		leaf[j] = nodes[at[j]].key;
}
