/* SPDX-License-Identifier: BSD-3-Clause
 * Tree ensembles: checks, and runs over any number of rows. See trees.h for the tables.
 */
#include <errno.h>
#include <string.h>

#include "models/run/trees.h"

/* From here on masks are faster than walks, measured with 100 trees of 48 leaves. */
enum { MASKED_ROWS_MIN = 6 };

/* ---- checks ---- */

/* columns 0: one dimension */
static int check_table(
	const struct tensor_op *op, uint32_t k, uint32_t dtype, uint32_t columns, struct error *err)
{
	const struct tensor *t = &op->in[k];

	if (t->dtype != dtype || t->rank != (columns ? 2 : 1) || (columns && t->dims[1] != columns))
		return tensor_refuse(op, err, "table %u: dtype %u, rank %u", k, t->dtype, t->rank);
	return 0;
}

/* Sizes of the tables after the input. */
static int check_shapes(const struct tensor_op *op, struct error *err)
{
	static const uint32_t columns[] = {0, 2, 8, 0, 0};
	int rc = 0;

	for (uint32_t k = 1; !rc && k <= 4; k++)
		rc = check_table(op, k, k == 4 ? WIRE_F32 : WIRE_I32, columns[k], err);
	if (!rc && op->i[1] == TREE_LEAF_LIST)
		rc = check_table(op, 5, WIRE_I32, 2, err);
	else if (!rc)
		rc = check_table(
			op, 5, WIRE_F32, op->i[1] == TREE_LEAF_VALUE ? 1 : op->in[4].dims[0], err);
	if (rc || op->n_in < 7)
		return rc;
	if (op->i[0] > TREE_AVERAGE || op->i[1] == TREE_LEAF_LIST)
		return tensor_refuse(op, err, "conditions for leaves that cannot be added");
	return check_table(op, 6, WIRE_I32, 3, err);
}

static uint32_t features_of(const struct tensor_op *op)
{
	return op->in[0].dims[op->in[0].rank - 1];
}

/* Bytes from one prepared row to the next. */
static uint64_t prepared_bytes(const struct tensor_op *op)
{
	return ((uint64_t)op->in[3].dims[0] + 1) * sizeof(uint32_t);
}

/* In scratch: TREE_BLOCK prepared rows, then for trees_masked() the same by columns. */
static uint64_t columns_offset(const struct tensor_op *op)
{
	uint64_t bytes = TREE_BLOCK * prepared_bytes(op);

	return (bytes + MODEL_FILE_ALIGN - 1) / MODEL_FILE_ALIGN * MODEL_FILE_ALIGN;
}

int trees_infer(struct tensor_op *op, struct error *err)
{
	const struct tensor *x = &op->in[0];
	int rc = 0;

	if (x->dtype != WIRE_F32 || x->rank < 1 || x->rank > 2)
		return tensor_refuse(op, err, "input of dtype %u, rank %u", x->dtype, x->rank);
	if (op->i[0] < 0 || op->i[0] >= TREE_AGGREGATE_END || op->i[1] < 0 ||
		op->i[1] >= TREE_LEAF_END)
		return tensor_refuse(op, err, "aggregate %ld, leaves %ld", op->i[0], op->i[1]);
	rc = check_shapes(op, err);
	if (rc)
		return rc;
	if (op->i[2] < 1 || op->i[2] > 31 || op->in[3].dims[0] >> op->i[2])
		return tensor_refuse(
			op, err, "%u columns do not fit %ld bits", op->in[3].dims[0], op->i[2]);
	op->out[0] =
		(struct tensor){WIRE_F32, 2, {x->rank == 2 ? x->dims[0] : 1, op->in[4].dims[0]}};
	op->scratch_bytes = columns_offset(op) + TREE_BLOCK * prepared_bytes(op);
	return 0;
}

static struct trees trees_of(const struct tensor_op *op, const void *const *in)
{
	return (struct trees){
		.nodes = in[1],
		.trees = in[2],
		.columns = in[3],
		.base = in[4],
		.leaves = in[5],
		.conditions = op->n_in > 6 ? in[6] : NULL,
		.n_nodes = op->in[1].dims[0],
		.n_trees = op->in[2].dims[0],
		.n_columns = op->in[3].dims[0],
		.n_targets = op->in[4].dims[0],
		.n_leaves = op->in[5].dims[0],
		.n_conditions = op->n_in > 6 ? op->in[6].dims[0] : 0,
		.n_features = features_of(op),
		.aggregate = (uint32_t)op->i[0],
		.leaf = (uint32_t)op->i[1],
		.column_bits = (uint32_t)op->i[2],
	};
}

static bool node_good(const struct trees *t, uint32_t i)
{
	const struct tree_node *n = &t->nodes[i];
	uint32_t distance = n->link >> t->column_bits;
	uint32_t column = n->link & ((1u << t->column_bits) - 1);

	if (distance)
		return column <= t->n_columns && (uint64_t)i + distance + 1 < t->n_nodes;
	return column == t->n_columns && n->key < t->n_leaves;
}

static int check_entries(const struct tensor_op *op, const struct trees *t, struct error *err)
{
	const struct tree_entry *entries = t->leaves;

	for (uint32_t i = 0; i < t->n_leaves; i++)
		if ((entries[i].target & ~TREE_LAST) >= t->n_targets)
			return tensor_refuse(op, err, "entry %u has target %u of %u", i,
				entries[i].target & ~TREE_LAST, t->n_targets);
	if (!(entries[t->n_leaves - 1].target & TREE_LAST))
		return tensor_refuse(op, err, "the last entry is not marked as last");
	return 0;
}

/* Everything trees_masked() trusts. */
static int check_conditions(const struct tensor_op *op, const struct trees *t, struct error *err)
{
	for (uint32_t i = 0; i < t->n_trees; i++) {
		const struct tree *tree = &t->trees[i];

		if (!tree->n_leaves || (uint64_t)tree->leaf + tree->n_leaves > t->n_leaves ||
			(uint64_t)tree->condition + tree->n_low + tree->n_high > t->n_conditions)
			return tensor_refuse(op, err,
				"tree %u has %u of %u leaves, conditions %u of %u", i,
				tree->n_leaves, t->n_leaves, tree->condition, t->n_conditions);
	}
	for (uint32_t i = 0; i < t->n_conditions; i++)
		if (t->conditions[i].column >= t->n_columns)
			return tensor_refuse(op, err, "condition %u looks at column %u of %u", i,
				t->conditions[i].column, t->n_columns);
	return 0;
}

int trees_check(const struct tensor_op *op, const void *const *in, struct error *err)
{
	struct trees t = trees_of(op, in);

	for (uint32_t k = 1; k < op->n_in; k++)
		if (!in[k] && op->in[k].dtype)
			return tensor_refuse(op, err, "table %u is no constant", k);
	for (uint32_t i = 0; i < t.n_nodes; i++)
		if (!node_good(&t, i))
			return tensor_refuse(
				op, err, "node %u of %u leads out of the tables", i, t.n_nodes);
	for (uint32_t i = 0; i < t.n_trees; i++)
		if (t.trees[i].root >= t.n_nodes || t.trees[i].target >= t.n_targets)
			return tensor_refuse(op, err, "tree %u has root %u of %u, target %u of %u",
				i, t.trees[i].root, t.n_nodes, t.trees[i].target, t.n_targets);
	for (uint32_t i = 0; i < t.n_columns; i++)
		if (t.columns[i] >> 1 >= t.n_features)
			return tensor_refuse(op, err, "column %u is feature %u of %u", i,
				t.columns[i] >> 1, t.n_features);
	if (t.conditions)
		return check_conditions(op, &t, err);
	return t.leaf == TREE_LEAF_LIST ? check_entries(op, &t, err) : 0;
}

/* ---- runs ---- */

static void prepare(const struct trees *t, const float *x, uint32_t *keys)
{
	for (uint32_t c = 0; c < t->n_columns; c++) {
		uint32_t bits;

		memcpy(&bits, &x[t->columns[c] >> 1], sizeof(bits));
		keys[c] = tree_key(bits, t->columns[c] & 1);
	}
	keys[t->n_columns] = 0;
}

/* One weight joins what a target has; NaN, which is absent, never does. */
static float joined(uint32_t aggregate, float old, float w)
{
	switch (aggregate) {
	case TREE_MIN:
		return w < old || old != old ? w : old;
	case TREE_MAX:
		return w > old || old != old ? w : old;
	default:
		return w != w ? old : old + w;
	}
}

/* What one leaf says joins the row's targets y. */
static void join(const struct trees *t, uint32_t target, uint32_t key, float *y)
{
	const struct tree_entry *e = t->leaves;
	const float *row = t->leaves;

	switch (t->leaf) {
	case TREE_LEAF_VALUE:
		y[target] = joined(t->aggregate, y[target], row[key]);
		break;
	case TREE_LEAF_ROW:
		row += (size_t)key * t->n_targets;
		if (t->aggregate <= TREE_AVERAGE)
			for (uint32_t k = 0; k < t->n_targets; k++)
				y[k] += row[k];
		else
			for (uint32_t k = 0; k < t->n_targets; k++)
				y[k] = joined(t->aggregate, y[k], row[k]);
		break;
	default:
		do {
			target = e[key].target & ~TREE_LAST;
			y[target] = joined(t->aggregate, y[target], e[key].weight);
		} while (!(e[key++].target & TREE_LAST));
		break;
	}
}

static void start(const struct trees *t, float *y)
{
	for (uint32_t k = 0; k < t->n_targets; k++)
		y[k] = t->aggregate <= TREE_AVERAGE ? 0 : __builtin_nanf("");
}

static void finish(const struct trees *t, float *y)
{
	for (uint32_t k = 0; k < t->n_targets; k++) {
		if (t->aggregate == TREE_AVERAGE)
			y[k] /= (float)t->n_trees;
		y[k] = (y[k] != y[k] && t->aggregate > TREE_AVERAGE ? 0 : y[k]) + t->base[k];
	}
}

/* The reference: one row, one tree, one node after the other. */
static void run_scalar(const struct trees *t, const uint32_t *x, float *y)
{
	for (uint32_t i = 0; i < t->n_trees; i++) {
		uint32_t at = t->trees[i].root, distance;

		while ((distance = t->nodes[at].link >> t->column_bits)) {
			uint32_t column = t->nodes[at].link & ((1u << t->column_bits) - 1);

			at += distance + (x[column] > t->nodes[at].key);
		}
		join(t, t->trees[i].target, t->nodes[at].key, y);
	}
}

/* One row, TREE_CHAINS trees in step. */
static void run_trees(const struct trees *t, const uint32_t *x, float *y)
{
	const uint32_t *columns[TREE_CHAINS];
	uint32_t roots[TREE_CHAINS], leaf[TREE_CHAINS];

	for (uint32_t j = 0; j < TREE_CHAINS; j++)
		columns[j] = x;
	for (uint32_t i = 0; i < t->n_trees; i += TREE_CHAINS) {
		uint32_t n = t->n_trees - i < TREE_CHAINS ? t->n_trees - i : TREE_CHAINS;

		for (uint32_t j = 0; j < TREE_CHAINS; j++)
			roots[j] = t->trees[j < n ? i + j : i].root;
		trees_walk(t, columns, roots, leaf);
		for (uint32_t j = 0; j < n; j++)
			join(t, t->trees[i + j].target, leaf[j], y);
	}
}

/* TREE_CHAINS rows in step, `stride` floats and keys apart, one tree after the other. */
static void run_chains(const struct trees *t, const uint32_t *x, float *y)
{
	const uint32_t *columns[TREE_CHAINS];
	uint32_t roots[TREE_CHAINS], leaf[TREE_CHAINS];

	for (uint32_t j = 0; j < TREE_CHAINS; j++)
		columns[j] = x + j * (t->n_columns + 1);
	for (uint32_t i = 0; i < t->n_trees; i++) {
		for (uint32_t j = 0; j < TREE_CHAINS; j++)
			roots[j] = t->trees[i].root;
		trees_walk(t, columns, roots, leaf);
		for (uint32_t j = 0; j < TREE_CHAINS; j++)
			join(t, t->trees[i].target, leaf[j], y + j * t->n_targets);
	}
}

/* Prepared rows by columns, for signed comparisons. */
static void turn(const struct trees *t, const uint32_t *keys, int32_t *columns, size_t rows)
{
	for (size_t c = 0; c < t->n_columns; c++)
		for (size_t r = 0; r < rows; r++)
			columns[c * TREE_BLOCK + r] =
				(int32_t)(keys[r * (t->n_columns + 1) + c] ^ 0x80000000u);
}

/* Rows that are prepared and started: walks, or masks where they are faster. */
static void run_prepared(const struct trees *t, const struct kernels *kernels, const uint32_t *keys,
	int32_t *columns, float *y, size_t rows)
{
	const size_t width = t->n_columns + 1;
	const bool scalar = kernels == &kernels_scalar;
	size_t r = 0;

	if (t->conditions && rows >= MASKED_ROWS_MIN && !scalar &&
		kernels_native() != &kernels_scalar) {
		turn(t, keys, columns, rows);
		trees_masked(t, columns, y, rows);
		return;
	}
	for (; !scalar && r + TREE_CHAINS <= rows; r += TREE_CHAINS)
		run_chains(t, keys + r * width, y + r * t->n_targets);
	for (; r < rows; r++)
		(scalar ? run_scalar : run_trees)(t, keys + r * width, y + r * t->n_targets);
}

void trees_run_rows(const struct tensor_op *op, const struct tensor_args *a, size_t rows)
{
	const struct trees t = trees_of(op, a->in);
	uint32_t *keys = a->scratch;
	int32_t *columns = (int32_t *)((uint8_t *)a->scratch + columns_offset(op));

	rows *= op->out[0].dims[0]; /* rows of one tensor and of several follow each other */
	for (size_t r = 0; r < rows; r += TREE_BLOCK) {
		const float *x = (const float *)a->in[0] + r * t.n_features;
		float *y = (float *)a->out[0] + r * t.n_targets;
		size_t n = rows - r < TREE_BLOCK ? rows - r : TREE_BLOCK;

		for (size_t i = 0; i < n; i++) {
			prepare(&t, x + i * t.n_features, keys + i * (t.n_columns + 1));
			start(&t, y + i * t.n_targets);
		}
		run_prepared(&t, a->kernels, keys, columns, y, n);
		for (size_t i = 0; i < n; i++)
			finish(&t, y + i * t.n_targets);
	}
}

void trees_run(const struct tensor_op *op, const struct tensor_args *a)
{
	trees_run_rows(op, a, 1);
}
