/* SPDX-License-Identifier: BSD-3-Clause
 * A tree ensemble as ONNX lists it, node by node, and as the tables of models/run/trees.h.
 */
#pragma once

#include "models/compile/lower.h"
#include "models/run/trees.h"

enum ensemble_mode {
	ENSEMBLE_LEQ,
	ENSEMBLE_LT,
	ENSEMBLE_GTE,
	ENSEMBLE_GT,
	ENSEMBLE_EQ,
	ENSEMBLE_NEQ,
	ENSEMBLE_LEAF,
};

/* Parallel lists, as in the attributes; everything points into the message or the arena. */
struct ensemble {
	uint32_t n_nodes, n_weights;
	const int64_t *tree, *id, *feature, *yes, *no;
	const int64_t *missing; /* NULL: nowhere does NaN make a comparison true */
	const float *value;
	uint8_t *mode; /* enum ensemble_mode */
	const int64_t *weight_tree, *weight_id, *weight_target;
	const float *weight;
};

struct ensemble_tables {
	struct tree_node *nodes;
	struct tree *trees;
	uint32_t *columns;
	void *leaves;
	struct tree_condition *conditions; /* or NULL */
	uint32_t n_nodes, n_trees, n_columns, n_leaves, n_conditions;
	uint32_t column_bits;
	enum tree_leaf leaf;
};

/* Read nodes_* and <prefix>_*: lists of unequal length, unknown modes, weights or thresholds that
 * are no number, and targets outside [0, targets) are refused by name. 0 or -errno. */
int ensemble_read(
	const struct onnx_node *n, const char *prefix, uint32_t targets, struct ensemble *e);

/* Refused by name: a node listed twice, a child that does not exist, one reached by two ways (so
 * cycles), nodes that are not reached, features outside [0, features). 0 or -errno. */
int ensemble_build(const struct onnx_node *n, const struct ensemble *e, uint32_t features,
	uint32_t targets, enum tree_aggregate aggregate, struct ensemble_tables *t);
