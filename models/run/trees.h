/* SPDX-License-Identifier: BSD-3-Clause
 * Tree ensembles: the tables behind MODEL_FN_TREES and the walks over them.
 *
 * Operands: X float32 [rows][features] or [features]; then constants, INT32 unless said otherwise:
 *   1 nodes   [n][2]  struct tree_node, of all trees
 *   2 trees   [n][8]  struct tree
 *   3 columns [n]     feature << 1 | 1 if NaN counts as the lowest value (else as the highest)
 *   4 base    float32 [targets]  added to what the trees say
 *   5 leaves  float32 [n][1], float32 [n][targets], or [n][2] struct tree_entry
 *   6 conditions  absent, or [n][3] struct tree_condition: all trees have at most 64 leaves, and
 *             the leaves of a tree follow each other in `leaves` from left to right
 * Attributes: i[0] enum tree_aggregate, i[1] enum tree_leaf, i[2] bits of a node's column.
 * Output: float32 [rows][targets].
 *
 * Columns are inputs as unsigned keys that are ordered as the floats are (-0 and 0 the same), so
 * that all comparisons, strict or not and whatever NaN does, are one: key of the column > key of
 * the node. (Keys also do not care whether denormals are flushed.) A node's children stand side by
 * side, `distance` behind it; the second one is taken when the comparison holds:
 *
 *   nodes: [root][a][b][a0][a1][b0][b1] ...     at += distance + (x[column] > key)
 *
 * A leaf has distance 0 and the column after the last, which holds 0: no key is below it, and a
 * walk that has arrived stays. Several walks can therefore go in step until the last one has
 * arrived. Children always lie behind their parent: whatever the tables say, a walk ends.
 */
#pragma once

#include "models/run/tensor.h"

enum { TREE_CHAINS = 8, TREE_BLOCK = 16 }; /* walks in step; rows prepared at a time */

enum tree_aggregate { TREE_SUM, TREE_AVERAGE, TREE_MIN, TREE_MAX, TREE_AGGREGATE_END };

/* A leaf's key is the first element of `leaves` it has. A weight of NaN counts as absent. */
enum tree_leaf {
	TREE_LEAF_VALUE, /* a weight for its tree's target */
	TREE_LEAF_ROW,   /* a weight for every target */
	TREE_LEAF_LIST,  /* entries up to the one marked TREE_LAST */
	TREE_LEAF_END,
};

struct tree_node {
	uint32_t key;
	uint32_t link; /* distance << column bits | column */
};

struct tree {
	uint32_t root;
	uint32_t target; /* VALUE */
	/* With conditions: */
	uint32_t leaf, n_leaves;           /* in `leaves` */
	uint32_t condition, n_low, n_high; /* first the conditions on leaves 0 to 31 */
	uint32_t reserved;
};

/* A node as trees_masked() sees it: column > key puts leaves of its first child out. */
struct tree_condition {
	uint32_t column;
	int32_t key;  /* the node's, less 2^31: signed */
	uint32_t out; /* bit i: leaf i, or 32 + i */
};

struct tree_entry {
	uint32_t target; /* | TREE_LAST on the last of a leaf */
	float weight;
};

#define TREE_LAST 0x80000000u

/* The operands, by their names. */
struct trees {
	const struct tree_node *nodes;
	const struct tree *trees;
	const uint32_t *columns;
	const float *base;
	const void *leaves;
	const struct tree_condition *conditions; /* or NULL */
	uint32_t n_nodes, n_trees, n_columns, n_leaves, n_conditions, n_targets, n_features;
	uint32_t column_bits, aggregate, leaf;
};

/* Ordered as x is, but for NaN: lowest or highest of all. */
static inline uint32_t tree_key(uint32_t float_bits, bool nan_lowest)
{
	uint32_t magnitude = float_bits & 0x7fffffff;

	if (magnitude > 0x7f800000)
		return nan_lowest ? 0 : UINT32_MAX;
	return float_bits >> 31 ? 0x80000000u - magnitude : 0x80000000u + magnitude;
}

int trees_infer(struct tensor_op *op, struct error *err);
/* The tables' contents: everything the walks trust. */
int trees_check(const struct tensor_op *op, const void *const *in, struct error *err);
void trees_run(const struct tensor_op *op, const struct tensor_args *a);
void trees_run_rows(const struct tensor_op *op, const struct tensor_args *a, size_t rows);

/* Walk TREE_CHAINS times in step, walk j from roots[j] over the columns x[j]; leaf[j] gets the
 * keys of the leaves. */
void trees_walk(
	const struct trees *t, const uint32_t *const *x, const uint32_t *roots, uint32_t *leaf);

/* Up to TREE_BLOCK rows with conditions: x[column][row of TREE_BLOCK] are keys less 2^31; every
 * tree's weights are added to y[row][target]. Aligned to a cache line. */
void trees_masked(const struct trees *t, const int32_t *x, float *y, size_t rows);
