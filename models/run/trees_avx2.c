/* SPDX-License-Identifier: BSD-3-Clause
 * Small trees, TREE_BLOCK rows at a time, without walking: every condition of a tree is looked at,
 * and where it holds the leaves of its node's first child are out. The first leaf that is still in
 * is the row's (QuickScorer, Lucchese et al., SIGIR 2015, with rows in the lanes). No branch, no
 * gather; a tree of 48 leaves costs some 10 cycles a row where a walk costs 50.
 */
#include <string.h>

#include "models/run/trees.h"

enum { LANES = 8, SETS = TREE_BLOCK / LANES };

typedef int32_t lanes __attribute__((vector_size(LANES * sizeof(int32_t))));
typedef float floats __attribute__((vector_size(LANES * sizeof(float)), aligned(sizeof(float))));

/* The leaves, of 32, that n conditions leave in, for all rows. */
static void leaves_in(const struct tree_condition *c, uint32_t n, const int32_t *x, uint32_t *in)
{
	lanes left[SETS];

	for (int s = 0; s < SETS; s++)
		left[s] = (lanes){0} - 1;
	for (uint32_t i = 0; i < n; i++) {
		const lanes *column = (const lanes *)(x + (size_t)c[i].column * TREE_BLOCK);
		const lanes key = (lanes){0} + c[i].key, out = (lanes){0} + (int32_t)c[i].out;

		for (int s = 0; s < SETS; s++)
			left[s] &= ~((column[s] > key) & out);
	}
	for (int s = 0; s < SETS; s++)
		memcpy(in + s * LANES, &left[s], sizeof(left[s]));
}

static void add_row(const struct trees *t, uint32_t leaf, float *y)
{
	const float *row = (const float *)t->leaves + (size_t)leaf * t->n_targets;
	uint32_t k = 0;

	for (; k + LANES <= t->n_targets; k += LANES)
		*(floats *)(y + k) += *(const floats *)(row + k);
	for (; k < t->n_targets; k++)
		y[k] += row[k];
}

void trees_masked(const struct trees *t, const int32_t *x, float *y, size_t rows)
{
	for (uint32_t i = 0; i < t->n_trees; i++) {
		const struct tree *tree = &t->trees[i];
		const struct tree_condition *c = t->conditions + tree->condition;
		uint32_t low[TREE_BLOCK], high[TREE_BLOCK];

		leaves_in(c, tree->n_low, x, low);
		leaves_in(c + tree->n_low, tree->n_high, x, high);
		for (size_t r = 0; r < rows; r++) {
			uint64_t in = (uint64_t)high[r] << 32 | low[r];
			uint32_t leaf = in ? (uint32_t)__builtin_ctzll(in) : 0;

			leaf = tree->leaf + (leaf < tree->n_leaves ? leaf : tree->n_leaves - 1);
			if (t->leaf == TREE_LEAF_ROW)
				add_row(t, leaf, y + r * t->n_targets);
			else
				y[r * t->n_targets + tree->target] +=
					((const float *)t->leaves)[leaf];
		}
	}
}
