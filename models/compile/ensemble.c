/* SPDX-License-Identifier: BSD-3-Clause
 * ONNX's lists of tree nodes → flat tables: see ensemble.h. Every tree is laid out breadth-first:
 * the levels all rows visit share cache lines.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/compile/ensemble.h"

#define malformed(n, fmt, ...)                                                                     \
	error_set((n)->err, -EINVAL, "%s: " fmt " (node '%s')", (n)->proto->op_type, __VA_ARGS__,  \
		(n)->name)

/* A leaf table for every target is taken up to this size, or up to twice the list's. */
enum { ROW_TABLE_MAX_BYTES = 4 << 20, MAX_NODES = 1 << 26 };

/* ---- the lists ---- */

struct list {
	const Onnx__AttributeProto *a;
	char name[48];
};

static struct list list_of(const struct onnx_node *n, const char *prefix, const char *name)
{
	struct list l;

	snprintf(l.name, sizeof(l.name), "%s_%s", prefix, name);
	l.a = attribute(n, l.name);
	return l;
}

static int list_length(const struct onnx_node *n, const struct list *l, size_t has, size_t count)
{
	if (has != count)
		return malformed(n, "%s has %zu entries, %zu are needed", l->name, has, count);
	return 0;
}

static int read_ints(const struct onnx_node *n, const char *prefix, const char *name, size_t count,
	const int64_t **out)
{
	struct list l = list_of(n, prefix, name);

	*out = l.a ? l.a->ints : NULL;
	return list_length(n, &l, l.a ? l.a->n_ints : 0, count);
}

/* No NaN: it could neither be compared with nor added. */
static int read_floats(const struct onnx_node *n, const char *prefix, const char *name,
	size_t count, const float **out)
{
	struct list l = list_of(n, prefix, name);

	*out = l.a ? l.a->floats : NULL;
	for (size_t i = 0; l.a && i < l.a->n_floats; i++)
		if (isnan(l.a->floats[i]))
			return malformed(n, "%s[%zu] is NaN", l.name, i);
	return list_length(n, &l, l.a ? l.a->n_floats : 0, count);
}

static int read_modes(const struct onnx_node *n, struct ensemble *e)
{
	static const char *const names[] = {"BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT",
		"BRANCH_EQ", "BRANCH_NEQ", "LEAF"};
	struct list l = list_of(n, "nodes", "modes");
	int rc = list_length(n, &l, l.a ? l.a->n_strings : 0, e->n_nodes);

	e->mode = arena_alloc(n->g->arena, e->n_nodes, 1);
	if (rc || !e->mode)
		return rc ? rc : malformed(n, "no memory for %u nodes", e->n_nodes);
	for (size_t i = 0; i < e->n_nodes; i++) {
		const ProtobufCBinaryData *s = &l.a->strings[i];
		uint8_t k = 0;

		while (k <= ENSEMBLE_LEAF &&
			(s->len != strlen(names[k]) || memcmp(s->data, names[k], s->len) != 0))
			k++;
		if (k > ENSEMBLE_LEAF)
			return malformed(n, "nodes_modes[%zu] is '%.*s'", i,
				(int)(s->len < 40 ? s->len : 40), (const char *)s->data);
		e->mode[i] = k;
	}
	return 0;
}

static int read_nodes(const struct onnx_node *n, struct ensemble *e)
{
	struct list ids = list_of(n, "nodes", "nodeids");
	struct list missing = list_of(n, "nodes", "missing_value_tracks_true");
	size_t count = ids.a ? ids.a->n_ints : 0;
	int rc;

	if (!count || count > MAX_NODES)
		return malformed(n, "%zu nodes, must be 1 to %d", count, MAX_NODES);
	e->n_nodes = (uint32_t)count;
	e->id = ids.a->ints;
	rc = read_ints(n, "nodes", "treeids", count, &e->tree);
	if (!rc)
		rc = read_ints(n, "nodes", "featureids", count, &e->feature);
	if (!rc)
		rc = read_ints(n, "nodes", "truenodeids", count, &e->yes);
	if (!rc)
		rc = read_ints(n, "nodes", "falsenodeids", count, &e->no);
	if (!rc && missing.a && missing.a->n_ints)
		rc = read_ints(n, "nodes", "missing_value_tracks_true", count, &e->missing);
	if (!rc)
		rc = read_floats(n, "nodes", "values", count, &e->value);
	return rc ? rc : read_modes(n, e);
}

int ensemble_read(
	const struct onnx_node *n, const char *prefix, uint32_t targets, struct ensemble *e)
{
	struct list ids = list_of(n, prefix, "nodeids");
	size_t count = ids.a ? ids.a->n_ints : 0;
	int rc;

	*e = (struct ensemble){0};
	rc = read_nodes(n, e);
	if (!rc && (!count || count > 4 * (size_t)MAX_NODES))
		rc = malformed(n, "%s has %zu entries", ids.name, count);
	if (rc)
		return rc;
	e->n_weights = (uint32_t)count;
	e->weight_id = ids.a->ints;
	rc = read_ints(n, prefix, "treeids", count, &e->weight_tree);
	if (!rc)
		rc = read_ints(n, prefix, "ids", count, &e->weight_target);
	if (!rc)
		rc = read_floats(n, prefix, "weights", count, &e->weight);
	for (size_t i = 0; !rc && i < count; i++)
		if (e->weight_target[i] < 0 || e->weight_target[i] >= targets)
			rc = malformed(n, "%s_ids[%zu] is %ld of %u", prefix, i,
				e->weight_target[i], targets);
	return rc;
}

/* ---- which node is which ---- */

struct place {
	int64_t tree, id;
	uint32_t at; /* in the lists */
};

struct builder {
	const struct onnx_node *n;
	const struct ensemble *e;
	struct ensemble_tables *t;
	struct place *places; /* sorted */
	uint32_t *column;     /* of feature << 1 | NaN lowest */
	uint32_t *leaf;       /* list index → index in the table; UINT32_MAX: not reached (yet) */
	uint32_t *first;      /* list index → its first weight in `order`; one more at the end */
	uint32_t *order;      /* weights, those of a leaf together */
	uint32_t *tree_of;    /* list index → tree in the table */
	/* Of the table's nodes: leaves below, and the number of the first of them. */
	uint32_t *below, *number;
	uint32_t n_leaves;
	bool aliases;
};

static int compare_places(const void *a, const void *b)
{
	const struct place *p = a, *q = b;

	if (p->tree != q->tree)
		return p->tree < q->tree ? -1 : 1;
	return (p->id > q->id) - (p->id < q->id);
}

/* Index in the lists, or -1. */
static int64_t place_find(const struct builder *b, int64_t tree, int64_t id)
{
	struct place key = {tree, id, 0};
	const struct place *p =
		bsearch(&key, b->places, b->e->n_nodes, sizeof(key), compare_places);

	return p ? (int64_t)p->at : -1;
}

static int build_places(struct builder *b)
{
	const struct ensemble *e = b->e;

	for (uint32_t i = 0; i < e->n_nodes; i++)
		b->places[i] = (struct place){e->tree[i], e->id[i], i};
	qsort(b->places, e->n_nodes, sizeof(*b->places), compare_places);
	for (uint32_t i = 0; i + 1 < e->n_nodes; i++)
		if (!compare_places(&b->places[i], &b->places[i + 1]))
			return malformed(b->n, "node %ld of tree %ld is listed twice",
				b->places[i].id, b->places[i].tree);
	return 0;
}

/* ---- columns ---- */

/* How one listed node compares: key of the column > key takes the second child. */
struct branch {
	uint32_t key;
	bool nan_lowest;
	int64_t child[2]; /* node ids */
};

static struct branch branch_of(const struct ensemble *e, uint32_t i)
{
	bool missing = e->missing && e->missing[i];
	bool swapped = e->mode[i] == ENSEMBLE_GT || e->mode[i] == ENSEMBLE_GTE ||
		       e->mode[i] == ENSEMBLE_NEQ;
	bool strict = e->mode[i] == ENSEMBLE_LT || e->mode[i] == ENSEMBLE_GTE;
	struct branch b = {.nan_lowest = missing};
	uint32_t bits;

	memcpy(&bits, &e->value[i], sizeof(bits));
	b.key = tree_key(bits, false) - strict;
	b.child[0] = swapped ? e->no[i] : e->yes[i];
	b.child[1] = swapped ? e->yes[i] : e->no[i];
	if (swapped)
		/* NaN is never greater, but it is always different. */
		b.nan_lowest = e->mode[i] == ENSEMBLE_NEQ ? false : !missing;
	return b;
}

/* The columns in use, in the order of the features. Equality looks twice, the second time with
 * NaN, if it gets there, among the equal ones. */
static int build_columns(struct builder *b, uint32_t features)
{
	const struct ensemble *e = b->e;
	uint32_t used = 0;

	for (uint32_t i = 0; i < e->n_nodes; i++) {
		if (e->mode[i] == ENSEMBLE_LEAF)
			continue;
		if (e->feature[i] < 0 || e->feature[i] >= features)
			return malformed(b->n, "nodes_featureids[%u] is %ld of %u features", i,
				e->feature[i], features);
		b->column[2 * e->feature[i] + branch_of(e, i).nan_lowest] = 1;
		if (e->mode[i] == ENSEMBLE_EQ || e->mode[i] == ENSEMBLE_NEQ)
			b->column[2 * e->feature[i]] = 1;
	}
	for (uint32_t c = 0; c < 2 * features; c++)
		if (b->column[c]) {
			b->t->columns[used] = c;
			b->column[c] = used++;
		}
	b->t->n_columns = used ? used : 1; /* of leaves alone: feature 0, not looked at */
	b->t->column_bits = 1;
	while (b->t->n_columns >> b->t->column_bits)
		b->t->column_bits++;
	return 0;
}

/* ---- nodes ---- */

/* One place of the table that waits for its node. */
enum wait { WAIT_NODE, WAIT_SECOND, WAIT_ALIAS };

struct waiting {
	uint32_t at; /* list index; ALIAS: not used */
	enum wait what;
};

struct queue {
	struct waiting *items; /* item i becomes node first + i of the table */
	uint32_t n, first;
};

static int link_children(
	struct builder *b, uint32_t self, uint32_t distance, uint32_t column, uint32_t key)
{
	uint32_t bits = b->t->column_bits;

	if (distance >> (32 - bits))
		return malformed(b->n, "a tree is too wide: children %u nodes away, limit 2^%u",
			distance, 32 - bits);
	b->t->nodes[self] = (struct tree_node){key, distance << bits | column};
	return 0;
}

static int wait_child(struct builder *b, struct queue *q, uint32_t parent, int64_t id)
{
	int64_t tree = b->e->tree[parent], at = place_find(b, tree, id);

	if (at < 0)
		return malformed(b->n, "node %ld of tree %ld has a child %ld, which does not exist",
			b->e->id[parent], tree, id);
	if (b->tree_of[at] != UINT32_MAX)
		return malformed(b->n, "node %ld of tree %ld is reached twice: a cycle, or no tree",
			id, tree);
	b->tree_of[at] = b->tree_of[parent];
	q->items[q->n++] = (struct waiting){(uint32_t)at, WAIT_NODE};
	return 0;
}

static int wait_children(struct builder *b, struct queue *q, uint32_t parent, const int64_t *ids)
{
	int rc = wait_child(b, q, parent, ids[0]);

	return rc ? rc : wait_child(b, q, parent, ids[1]);
}

/* x == t is x <= t and not x < t: the first look leads to the second one, or by an alias to the
 * child both share.
 *
 *   <= t ?  first child: < t ?  first child: unequal  <-+
 *                               second child: equal     |
 *           second child: alias, goes there always -----+
 */
static int place_first_look(
	struct builder *b, struct queue *q, uint32_t self, uint32_t at, const struct branch *br)
{
	uint32_t distance = q->first + q->n - self;

	q->items[q->n++] = (struct waiting){at, WAIT_SECOND};
	q->items[q->n++] = (struct waiting){at, WAIT_ALIAS};
	return link_children(
		b, self, distance, b->column[2 * b->e->feature[at] + br->nan_lowest], br->key);
}

static int place_second_look(
	struct builder *b, struct queue *q, uint32_t self, uint32_t at, const struct branch *br)
{
	uint32_t distance = q->first + q->n - self;
	int rc = wait_children(b, q, at, (int64_t[2]){br->child[1], br->child[0]});

	/* The alias stands beside it: the same children from there, one node less away. */
	if (!rc)
		rc = link_children(b, self + 1, distance - 1, b->t->n_columns, 0);
	return rc ? rc
		  : link_children(b, self, distance, b->column[2 * b->e->feature[at]], br->key - 1);
}

static int place_node(struct builder *b, struct queue *q, uint32_t i)
{
	const struct waiting w = q->items[i];
	uint32_t self = q->first + i, distance = q->n - i;
	struct branch br;
	int rc;

	if (w.what == WAIT_ALIAS)
		return 0; /* placed with the second look */
	br = branch_of(b->e, w.at);
	if (w.what == WAIT_SECOND)
		return place_second_look(b, q, self, w.at, &br);
	switch (b->e->mode[w.at]) {
	case ENSEMBLE_LEAF:
		b->leaf[w.at] = self;
		return link_children(b, self, 0, b->t->n_columns, 0);
	case ENSEMBLE_EQ:
	case ENSEMBLE_NEQ:
		return place_first_look(b, q, self, w.at, &br);
	default:
		rc = wait_children(b, q, w.at, br.child);
		return rc ? rc
			  : link_children(b, self, distance,
				    b->column[2 * b->e->feature[w.at] + br.nan_lowest], br.key);
	}
}

/* The tree whose nodes are places [from, to): its root is the one listed first. */
static int build_tree(struct builder *b, struct queue *q, uint32_t from, uint32_t to)
{
	struct ensemble_tables *t = b->t;
	uint32_t root = b->places[from].at;
	int rc = 0;

	for (uint32_t i = from; i < to; i++)
		root = b->places[i].at < root ? b->places[i].at : root;
	b->tree_of[root] = t->n_trees;
	t->trees[t->n_trees++] = (struct tree){.root = t->n_nodes};
	*q = (struct queue){.items = q->items, .n = 1, .first = t->n_nodes};
	q->items[0] = (struct waiting){root, WAIT_NODE};
	for (uint32_t i = 0; !rc && i < q->n; i++)
		rc = place_node(b, q, i);
	t->n_nodes += q->n;
	for (uint32_t i = from; !rc && i < to; i++)
		if (b->tree_of[b->places[i].at] == UINT32_MAX)
			rc = malformed(b->n, "node %ld of tree %ld is not reached from its root",
				b->places[i].id, b->places[i].tree);
	return rc;
}

static int build_nodes(struct builder *b)
{
	const uint32_t n = b->e->n_nodes;
	struct queue q = {.items = arena_alloc(b->n->g->arena, 3 * (size_t)n, sizeof(*q.items))};
	int rc = q.items ? 0 : malformed(b->n, "no memory for %u nodes", n);

	for (uint32_t from = 0, to; !rc && from < n; from = to) {
		for (to = from; to < n && b->places[to].tree == b->places[from].tree;)
			to++;
		rc = build_tree(b, &q, from, to);
	}
	return rc;
}

/* ---- leaves ---- */

static uint32_t distance_of(const struct builder *b, uint32_t node)
{
	return b->t->nodes[node].link >> b->t->column_bits;
}

static bool is_alias(const struct builder *b, uint32_t node)
{
	uint32_t column = b->t->nodes[node].link & ((1u << b->t->column_bits) - 1);

	return distance_of(b, node) && column == b->t->n_columns;
}

/* Number the leaves of every tree from left to right; children stand behind their parents. */
static int build_numbers(struct builder *b)
{
	const uint32_t n = b->t->n_nodes;

	b->below = arena_alloc(b->n->g->arena, n, sizeof(*b->below));
	b->number = arena_alloc(b->n->g->arena, n, sizeof(*b->number));
	if (!b->below || !b->number)
		return malformed(b->n, "no memory for %u nodes", n);
	for (uint32_t i = n; i-- > 0;) {
		uint32_t d = distance_of(b, i);

		b->below[i] = !d ? 1 : is_alias(b, i) ? 0 : b->below[i + d] + b->below[i + d + 1];
		b->aliases |= is_alias(b, i);
	}
	for (uint32_t i = 0; i < b->t->n_trees; i++) {
		struct tree *tree = &b->t->trees[i];

		tree->leaf = b->number[tree->root] = b->n_leaves;
		tree->n_leaves = b->below[tree->root];
		b->n_leaves += tree->n_leaves;
	}
	for (uint32_t i = 0; i < n; i++) {
		uint32_t d = distance_of(b, i);

		if (!d || is_alias(b, i))
			continue;
		b->number[i + d] = b->number[i];
		b->number[i + d + 1] = b->number[i] + b->below[i + d];
	}
	return 0;
}

/* The conditions of one tree on leaves 32 x half to 32 x half + 31. */
static uint32_t put_conditions(struct builder *b, const struct tree *tree, uint32_t end, int half)
{
	struct ensemble_tables *t = b->t;
	uint32_t before = t->n_conditions;

	for (uint32_t i = tree->root; i < end; i++) {
		uint32_t d = distance_of(b, i);
		uint64_t out =
			d ? ((1ull << b->below[i + d]) - 1) << (b->number[i] - tree->leaf) : 0;

		if ((uint32_t)(out >> 32 * half))
			t->conditions[t->n_conditions++] = (struct tree_condition){
				t->nodes[i].link & ((1u << t->column_bits) - 1),
				(int32_t)(t->nodes[i].key ^ 0x80000000u),
				(uint32_t)(out >> 32 * half)};
	}
	return t->n_conditions - before;
}

/* Conditions for trees_masked(), if all trees are small and compare but once a node. */
static int build_conditions(struct builder *b)
{
	struct ensemble_tables *t = b->t;

	for (uint32_t i = 0; i < t->n_trees; i++)
		if (b->aliases || t->trees[i].n_leaves > 64)
			return 0;
	t->conditions = arena_alloc(b->n->g->arena, 2 * (size_t)t->n_nodes, sizeof(*t->conditions));
	if (!t->conditions)
		return malformed(b->n, "no memory for %u conditions", t->n_nodes);
	for (uint32_t i = 0; i < t->n_trees; i++) {
		struct tree *tree = &t->trees[i];
		uint32_t end = i + 1 < t->n_trees ? t->trees[i + 1].root : t->n_nodes;

		tree->condition = t->n_conditions;
		tree->n_low = put_conditions(b, tree, end, 0);
		tree->n_high = put_conditions(b, tree, end, 1);
	}
	if (!t->n_conditions) /* leaves alone */
		t->conditions = NULL;
	return 0;
}

/* Weights of one leaf together. Those of other nodes count for nothing, as in ONNX Runtime. */
static int build_order(struct builder *b)
{
	const struct ensemble *e = b->e;
	uint32_t *node = arena_alloc(b->n->g->arena, e->n_weights, sizeof(*node)), sum = 0;

	if (!node)
		return malformed(b->n, "no memory for %u weights", e->n_weights);
	for (uint32_t i = 0; i < e->n_weights; i++) {
		int64_t at = place_find(b, e->weight_tree[i], e->weight_id[i]);

		if (at < 0)
			return malformed(b->n,
				"weight %u is for node %ld of tree %ld, which does not exist", i,
				e->weight_id[i], e->weight_tree[i]);
		node[i] = (uint32_t)at;
		b->first[at] += e->mode[at] == ENSEMBLE_LEAF;
	}
	for (uint32_t i = 0; i <= e->n_nodes; i++) {
		uint32_t count = b->first[i];

		b->first[i] = sum;
		sum += count;
	}
	for (uint32_t i = 0; i < e->n_weights; i++)
		if (e->mode[node[i]] == ENSEMBLE_LEAF)
			b->order[b->first[node[i]]++] = i;
	memmove(b->first + 1, b->first, e->n_nodes * sizeof(*b->first));
	b->first[0] = 0;
	return 0;
}

/* Has every tree weights for one target only? Sets it. */
static bool trees_have_one_target(struct builder *b)
{
	uint32_t *target = arena_alloc(b->n->g->arena, b->t->n_trees, sizeof(*target));
	bool one = target != NULL;

	if (one)
		memset(target, 0xff, b->t->n_trees * sizeof(*target));
	for (uint32_t i = 0; one && i < b->e->n_nodes; i++)
		for (uint32_t k = b->first[i]; one && k < b->first[i + 1]; k++) {
			uint32_t *its = &target[b->tree_of[i]];
			uint32_t wants = (uint32_t)b->e->weight_target[b->order[k]];

			one = *its == UINT32_MAX || *its == wants;
			*its = wants;
		}
	for (uint32_t i = 0; one && i < b->t->n_trees; i++)
		b->t->trees[i].target = target[i] == UINT32_MAX ? 0 : target[i];
	return one;
}

static float joined(enum tree_aggregate aggregate, float old, float w)
{
	if (isnan(old))
		return w;
	switch (aggregate) {
	case TREE_MIN:
		return w < old ? w : old;
	case TREE_MAX:
		return w > old ? w : old;
	default:
		return old + w;
	}
}

/* What leaf i says of the target of each of its weights: y[target], NaN where it says nothing. */
static void leaf_weights(
	const struct builder *b, enum tree_aggregate aggregate, uint32_t i, float *y, uint32_t step)
{
	for (uint32_t k = b->first[i]; k < b->first[i + 1]; k++) {
		float *its = &y[b->e->weight_target[b->order[k]] * step];

		*its = joined(aggregate, *its, b->e->weight[b->order[k]]);
	}
}

/* A table of `width` weights a leaf. */
static int leaves_as_table(struct builder *b, enum tree_aggregate aggregate, uint32_t width)
{
	const size_t size = (size_t)b->n_leaves * width;
	float *rows = arena_alloc(b->n->g->arena, size, sizeof(*rows));

	if (!rows)
		return malformed(b->n, "no memory for %u leaves of %u", b->n_leaves, width);
	for (size_t k = 0; aggregate > TREE_AVERAGE && k < size; k++)
		rows[k] = NAN;
	for (uint32_t i = 0; i < b->e->n_nodes; i++) {
		uint32_t number = b->e->mode[i] == ENSEMBLE_LEAF ? b->number[b->leaf[i]] : 0;

		if (b->e->mode[i] != ENSEMBLE_LEAF)
			continue;
		leaf_weights(b, aggregate, i, rows + (size_t)number * width, width > 1);
		b->t->nodes[b->leaf[i]].key = number;
	}
	b->t->leaves = rows;
	b->t->n_leaves = b->n_leaves;
	return aggregate <= TREE_AVERAGE ? build_conditions(b) : 0;
}

/* A leaf that says nothing has one entry of NaN. */
static int leaves_as_lists(struct builder *b)
{
	struct tree_entry *entries = arena_alloc(
		b->n->g->arena, (size_t)b->e->n_weights + b->n_leaves, sizeof(*entries));
	uint32_t at = 0;

	if (!entries)
		return malformed(b->n, "no memory for %u leaves", b->n_leaves);
	for (uint32_t i = 0; i < b->e->n_nodes; i++) {
		if (b->e->mode[i] != ENSEMBLE_LEAF)
			continue;
		b->t->nodes[b->leaf[i]].key = at;
		for (uint32_t k = b->first[i]; k < b->first[i + 1]; k++)
			entries[at++] =
				(struct tree_entry){(uint32_t)b->e->weight_target[b->order[k]],
					b->e->weight[b->order[k]]};
		if (b->first[i] == b->first[i + 1])
			entries[at++] = (struct tree_entry){0, NAN};
		entries[at - 1].target |= TREE_LAST;
	}
	b->t->leaf = TREE_LEAF_LIST;
	b->t->leaves = entries;
	b->t->n_leaves = at;
	return 0;
}

static int build_leaves(struct builder *b, enum tree_aggregate aggregate, uint32_t targets)
{
	uint64_t rows, list;
	int rc = build_order(b);

	if (!rc)
		rc = build_numbers(b);
	if (rc)
		return rc;
	b->t->leaf = trees_have_one_target(b) ? TREE_LEAF_VALUE : TREE_LEAF_ROW;
	if (b->t->leaf == TREE_LEAF_VALUE)
		return leaves_as_table(b, aggregate, 1);
	rows = (uint64_t)b->n_leaves * targets * sizeof(float);
	list = (uint64_t)b->e->n_weights * sizeof(struct tree_entry);
	if (rows <= ROW_TABLE_MAX_BYTES || rows <= 2 * list)
		return leaves_as_table(b, aggregate, targets);
	return leaves_as_lists(b);
}

int ensemble_build(const struct onnx_node *n, const struct ensemble *e, uint32_t features,
	uint32_t targets, enum tree_aggregate aggregate, struct ensemble_tables *t)
{
	struct arena *a = n->g->arena;
	struct builder b = {.n = n,
		.e = e,
		.t = t,
		.places = arena_alloc(a, e->n_nodes, sizeof(*b.places)),
		.column = arena_alloc(a, 2 * (size_t)features, sizeof(*b.column)),
		.leaf = arena_alloc(a, e->n_nodes, sizeof(*b.leaf)),
		.first = arena_alloc(a, (size_t)e->n_nodes + 2, sizeof(*b.first)),
		.order = arena_alloc(a, e->n_weights, sizeof(*b.order)),
		.tree_of = arena_alloc(a, e->n_nodes, sizeof(*b.tree_of))};
	int rc;

	*t = (struct ensemble_tables){
		.nodes = arena_alloc(a, 3 * (size_t)e->n_nodes, sizeof(*t->nodes)),
		.trees = arena_alloc(a, e->n_nodes, sizeof(*t->trees)),
		.columns = arena_alloc(a, 2 * (size_t)features, sizeof(*t->columns))};
	if (!b.places || !b.column || !b.leaf || !b.first || !b.order || !b.tree_of || !t->nodes ||
		!t->trees || !t->columns)
		return malformed(n, "no memory for %u nodes", e->n_nodes);
	memset(b.tree_of, 0xff, e->n_nodes * sizeof(*b.tree_of));
	rc = build_places(&b);
	if (!rc)
		rc = build_columns(&b, features);
	if (!rc)
		rc = build_nodes(&b);
	return rc ? rc : build_leaves(&b, aggregate, targets);
}
