/* SPDX-License-Identifier: BSD-3-Clause
 * Builders: ai.onnx.ml, what scikit-learn's and gradient boosting's converters write. Semantics are
 * those of the ONNX-ML operator set where it is clear and of ONNX Runtime where it is not; the one
 * difference: the label of two weighted classes is that of the larger score.
 */
#include <float.h>
#include <math.h>
#include <string.h>

#include "models/compile/ensemble.h"

/* ---- preparation ---- */

BUILDER(build_binarizer)
{
	return emit_f32(
		n, emit_binary(n, BINARY_GREATER, emit_f32(n, n->in[0]),
			   emit_scalar(n, WIRE_F32, (double)attribute_float(n, "threshold", 0))));
}

static int32_t float_list(const struct onnx_node *n, const char *name)
{
	const Onnx__AttributeProto *a = attribute(n, name);
	uint32_t count = a ? (uint32_t)a->n_floats : 0;

	return count ? emit_constant(n, WIRE_F32, 1, &count, a->floats) : IR_NONE;
}

static int32_t int_list(const struct onnx_node *n, const char *name)
{
	const Onnx__AttributeProto *a = attribute(n, name);
	uint32_t count = a ? (uint32_t)a->n_ints : 0;

	return count ? emit_constant(n, WIRE_I64, 1, &count, a->ints) : IR_NONE;
}

/* A scalar of all 64 bits, which emit_scalar()'s double has not. */
static int32_t integer(const struct onnx_node *n, const char *name, int64_t fallback)
{
	int64_t value = attribute_int(n, name, fallback);

	return emit_view(n, emit_ints(n, 1, &value), 0, NULL, IR_NONE);
}

/* (x - offset) scale */
BUILDER(build_scaler)
{
	int32_t x = emit_f32(n, n->in[0]), offset = float_list(n, "offset");
	int32_t scale = float_list(n, "scale");

	if (offset != IR_NONE)
		x = emit_binary(n, BINARY_SUB, x, offset);
	return scale == IR_NONE ? x : emit_binary(n, BINARY_MUL, x, scale);
}

/* A row whose norm is 0 stays as it is. */
BUILDER(build_normalizer)
{
	int32_t x = emit_f32(n, n->in[0]), norm, zero;
	uint32_t last = value_of(n, n->in[0])->t.rank - 1;
	int64_t fn = attribute_is(n, "norm", "MAX", "L1")   ? REDUCE_L1
		     : attribute_is(n, "norm", "MAX", "L2") ? REDUCE_L2
							    : REDUCE_MAX;

	if (value_of(n, n->in[0])->t.rank < 2)
		return lower_refuse(n, "rank %u", last + 1);
	norm = emit_reduce(n, fn, x, 1u << last, true);
	zero = emit_binary(n, BINARY_EQUAL, norm, emit_scalar(n, WIRE_F32, 0));
	return emit_binary(
		n, BINARY_DIV, x, emit_where(n, zero, emit_scalar(n, WIRE_F32, 1), norm));
}

/* Values that are the replaced one, or NaN, become the imputed ones. */
BUILDER(build_imputer)
{
	bool floats = tensor_is_float(value_of(n, n->in[0])->t.dtype);
	int32_t x = n->in[0], imputed, hole;
	float replaced = attribute_float(n, "replaced_value_float", 0);

	imputed = floats ? float_list(n, "imputed_value_floats")
			 : int_list(n, "imputed_value_int64s");
	if (imputed == IR_NONE)
		return lower_refuse(n, "no imputed values for this dtype");
	if (!floats)
		hole = emit_binary(n, BINARY_EQUAL, emit_cast(n, x, WIRE_I64),
			emit_scalar(
				n, WIRE_I64, (double)attribute_int(n, "replaced_value_int64", 0)));
	else if (isnan(replaced))
		hole = emit_unary(n, UNARY_IS_NAN, emit_f32(n, x), 0, 0);
	else
		hole = emit_binary(n, BINARY_EQUAL, emit_f32(n, x),
			emit_scalar(n, WIRE_F32, (double)replaced));
	x = emit_cast(n, x, floats ? WIRE_F32 : WIRE_I64);
	return emit_where(n, hole, imputed, x);
}

BUILDER(build_feature_vectorizer)
{
	int32_t parts[OPERATOR_MAX_INPUTS];

	for (size_t k = 0; k < n->n_in; k++) {
		const struct tensor t = value_of(n, n->in[k])->t;
		uint32_t one = 1;

		if (t.rank < 1 || t.rank > 2)
			return lower_refuse(n, "rank %u", t.rank);
		parts[k] = emit_f32(n, n->in[k]);
		if (t.rank == 1) /* one feature of every row */
			parts[k] = emit_unsqueeze(n, parts[k], one << 1);
	}
	return emit_concat(n, parts, n->n_in, 1);
}

/* The last axis by index. A table of classes by the rows' best ones: [1][rows]. */
BUILDER(build_feature_extractor)
{
	const struct ir_value x = *value_of(n, n->in[0]), index = *value_of(n, n->in[1]);
	uint32_t last = x.t.rank - 1, all = (uint32_t)tensor_elements(&index.t);
	struct emission e = {MODEL_FN_GATHER, 2, 1, {n->in[0], n->in[1]}, {last}, {0}, {x.batch}};

	if (x.t.rank == 1 && x.batch == IR_NONE && index.t.rank == 1 && index.batch == 0) {
		e.batch[0] = 0;
		return emit_view(n, emit(n, &e, NULL), 2, (uint32_t[2]){1, 1}, 1);
	}
	if (!x.t.rank || x.batch == (int32_t)last || index.batch != IR_NONE)
		return lower_refuse(n, "ranks %u and %u", x.t.rank, index.t.rank);
	if (index.t.rank != 1)
		e.in[1] = emit_view(n, n->in[1], 1, &all, IR_NONE);
	return emit(n, &e, NULL);
}

/* The key that equals x chooses its value; none, the default. */
BUILDER(build_label_encoder)
{
	bool from_floats = attribute(n, "keys_floats"), to_floats = attribute(n, "values_floats");
	int32_t keys = from_floats ? float_list(n, "keys_floats") : int_list(n, "keys_int64s");
	int32_t values = to_floats ? float_list(n, "values_floats") : int_list(n, "values_int64s");
	int32_t x = emit_cast(n, n->in[0], from_floats ? WIRE_F32 : WIRE_I64), equal, at, none;
	struct tensor t;

	if (keys < 0 || values < 0 || is_error(x))
		return lower_refuse(n, "keys and values must be integers or floats");
	t = value_of(n, x)->t;
	if (tensor_elements(&value_of(n, keys)->t) != tensor_elements(&value_of(n, values)->t))
		return lower_refuse(n, "%lu keys, %lu values",
			tensor_elements(&value_of(n, keys)->t),
			tensor_elements(&value_of(n, values)->t));
	equal = emit_cast(n, emit_binary(n, BINARY_EQUAL, emit_unsqueeze(n, x, 1u << t.rank), keys),
		WIRE_F32);
	if (is_error(equal))
		return equal;
	at = emit(n,
		&(struct emission){MODEL_FN_ARGMAX, 1, 1, {equal}, {t.rank, 0, 0, 0}, {0},
			{value_of(n, x)->batch}},
		NULL);
	at = emit(n,
		&(struct emission){
			MODEL_FN_GATHER, 2, 1, {values, at}, {0}, {0}, {value_of(n, x)->batch}},
		NULL);
	none = emit_binary(n, BINARY_EQUAL, emit_reduce(n, REDUCE_MAX, equal, 1u << t.rank, false),
		emit_scalar(n, WIRE_F32, 0));
	return emit_where(n, none,
		to_floats ? emit_scalar(n, WIRE_F32, (double)attribute_float(n, "default_float", 0))
			  : integer(n, "default_int64", -1),
		at);
}

/* Maps of class to score are not served: the scores themselves are. */
BUILDER(build_zip_map)
{
	return n->in[0];
}

/* ---- scores and labels ---- */

enum post { POST_NONE, POST_SOFTMAX, POST_LOGISTIC, POST_SOFTMAX_ZERO, POST_PROBIT, POST_END };

static int read_post(const struct onnx_node *n, enum post *post)
{
	static const char *const names[POST_END] = {
		"NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"};

	*post = POST_NONE;
	for (int k = 0; k < POST_END; k++)
		if (attribute_is(n, "post_transform", "NONE", names[k])) {
			*post = (enum post)k;
			return 0;
		}
	return lower_refuse(n, "post_transform is none that is known");
}

static int32_t emit_number(const struct onnx_node *n, double value)
{
	return emit_scalar(n, WIRE_F32, value);
}

static int32_t emit_softmax(const struct onnx_node *n, int32_t x)
{
	if (is_error(x))
		return x;
	return emit(n,
		&(struct emission){MODEL_FN_SOFTMAX, 1, 1, {x}, {1}, {0}, {value_of(n, x)->batch}},
		NULL);
}

/* Softmax of those that are not 0; 0 stays 0. */
static int32_t emit_softmax_zero(const struct onnx_node *n, int32_t x)
{
	int32_t zero = emit_binary(
		n, BINARY_LESS_EQUAL, emit_unary(n, UNARY_ABS, x, 0, 0), emit_number(n, 1e-7));
	int32_t top = emit_reduce(n, REDUCE_MAX, x, 1u << 1, true), sum;
	int32_t e = emit_unary(n, UNARY_EXP, emit_binary(n, BINARY_SUB, x, top), 0, 0);

	e = emit_where(n, zero, emit_number(n, 0), e);
	sum = emit_reduce(n, REDUCE_SUM, e, 1u << 1, true);
	/* All 0: nothing to divide by. */
	return emit_binary(
		n, BINARY_DIV, e, emit_binary(n, BINARY_MAX, sum, emit_number(n, FLT_MIN)));
}

/* sqrt 2 erfinv(2 p - 1): Winitzki's approximation of erfinv ("A handy approximation for the error
 * function and its inverse", 2008), as ONNX Runtime has it, then two steps of Newton's method. */
static int32_t emit_probit(const struct onnx_node *n, int32_t p)
{
	const double a = 0.147, pi = 3.14159265358979323846;
	int32_t x = emit_unary(n, UNARY_AFFINE, p, 2, -1), log, v, y;

	log = emit_unary(n, UNARY_LOG,
		emit_binary(n, BINARY_MUL, emit_unary(n, UNARY_AFFINE, x, -1, 1),
			emit_unary(n, UNARY_AFFINE, x, 1, 1)),
		0, 0);
	v = emit_unary(n, UNARY_AFFINE, log, 0.5f, (float)(2 / (pi * a)));
	y = emit_binary(n, BINARY_SUB, emit_binary(n, BINARY_MUL, v, v),
		emit_unary(n, UNARY_AFFINE, log, (float)(1 / a), 0));
	y = emit_binary(n, BINARY_SUB, emit_unary(n, UNARY_SQRT, y, 0, 0), v);
	y = emit_binary(n, BINARY_MUL, emit_unary(n, UNARY_SQRT, y, 0, 0),
		emit_unary(n, UNARY_SIGN, x, 0, 0));
	for (int step = 0; step < 2; step++) {
		int32_t miss = emit_binary(n, BINARY_SUB, emit_unary(n, UNARY_ERF, y, 0, 0), x);
		int32_t slope = emit_unary(n, UNARY_EXP,
			emit_unary(n, UNARY_NEG, emit_binary(n, BINARY_MUL, y, y), 0, 0), 0, 0);

		slope = emit_unary(n, UNARY_AFFINE, slope, (float)(2 / sqrt(pi)), 0);
		y = emit_binary(n, BINARY_SUB, y, emit_binary(n, BINARY_DIV, miss, slope));
	}
	return emit_unary(n, UNARY_AFFINE, y, (float)sqrt(2), 0);
}

static int32_t emit_post(const struct onnx_node *n, enum post post, int32_t x)
{
	switch (post) {
	case POST_SOFTMAX:
		return emit_softmax(n, x);
	case POST_LOGISTIC:
		return emit_unary(n, UNARY_SIGMOID, x, 0, 0);
	case POST_SOFTMAX_ZERO:
		return emit_softmax_zero(n, x);
	case POST_PROBIT:
		return emit_probit(n, x);
	default:
		return x;
	}
}

/* Class labels: integers, or strings, which stand for their index. */
struct labels {
	const int64_t *ints; /* NULL: strings */
	uint32_t n;
};

static int read_labels(const struct onnx_node *n, const char *ints, struct labels *l)
{
	const Onnx__AttributeProto *numbers = attribute(n, ints);
	const Onnx__AttributeProto *strings = attribute(n, "classlabels_strings");

	if (numbers && numbers->n_ints)
		*l = (struct labels){numbers->ints, (uint32_t)numbers->n_ints};
	else
		*l = (struct labels){NULL, strings ? (uint32_t)strings->n_strings : 0};
	if (l->n < 2 || l->n > MODEL_FILE_MAX_ROW_ELEMENTS)
		return lower_refuse(n, "%u class labels, at least 2 are needed", l->n);
	return 0;
}

/* Labels of class numbers INT64 [rows]. */
static int32_t emit_labels(const struct onnx_node *n, const struct labels *l, int32_t at)
{
	bool same = true;

	for (uint32_t i = 0; l->ints && i < l->n; i++)
		same &= l->ints[i] == i;
	if (is_error(at) || same)
		return at;
	return emit(n,
		&(struct emission){MODEL_FN_GATHER, 2, 1, {emit_ints(n, l->n, l->ints), at}, {0},
			{0}, {value_of(n, at)->batch}},
		NULL);
}

static int32_t emit_best(const struct onnx_node *n, int32_t scores)
{
	if (is_error(scores))
		return scores;
	return emit(n,
		&(struct emission){MODEL_FN_ARGMAX, 1, 1, {scores}, {1, 0, 0, 0}, {0},
			{value_of(n, scores)->batch}},
		NULL);
}

/* 1 where column `k` of the scores is above the threshold. */
static int32_t emit_above(const struct onnx_node *n, int32_t scores, uint32_t k, double threshold)
{
	int32_t column = emit_slice(n, scores, 1, k, 1, 1);

	return emit_squeeze(n,
		emit_cast(n, emit_binary(n, BINARY_GREATER, column, emit_number(n, threshold)),
			WIRE_I64),
		1u << 1);
}

/* Columns [a s + b, c s + d] of the one column s. */
static int32_t emit_two(const struct onnx_node *n, int32_t s, float a, float b, float c, float d)
{
	static const uint32_t dims[2] = {1, 2};
	float *w = arena_alloc(n->g->arena, 4, sizeof(*w));

	if (!w)
		return lower_refuse(n, "no memory");
	memcpy(w, (float[4]){a, c, b, d}, 4 * sizeof(*w));
	s = emit_matmul(n, s, emit_constant(n, WIRE_F32, 2, dims, w));
	return b == 0 && d == 0
		       ? s
		       : emit_binary(n, BINARY_ADD, s, emit_constant(n, WIRE_F32, 2, dims, w + 2));
}

/* ---- linear models ---- */

/* x W' + b */
static int32_t emit_linear(const struct onnx_node *n, uint64_t rows)
{
	static const uint32_t swap[2] = {1, 0};
	int32_t w = float_list(n, "coefficients"), b = float_list(n, "intercepts"), y;
	uint32_t dims[2];

	if (w < 0 || rows < 1 || rows > tensor_elements(&value_of(n, w)->t) ||
		tensor_elements(&value_of(n, w)->t) % rows)
		return lower_refuse(n, "the coefficients are no %lu rows", rows);
	dims[0] = (uint32_t)rows;
	dims[1] = (uint32_t)(tensor_elements(&value_of(n, w)->t) / rows);
	y = emit_matmul(n, emit_f32(n, n->in[0]),
		emit_transpose(n, emit_view(n, w, 2, dims, IR_NONE), swap));
	return b == IR_NONE ? y : emit_binary(n, BINARY_ADD, y, b);
}

BUILDER(build_linear)
{
	int64_t targets = attribute_int(n, "targets", 1);
	enum post post;
	int rc = read_post(n, &post);

	if (rc)
		return rc;
	return emit_post(n, post, emit_linear(n, targets < 1 ? 0 : (uint64_t)targets));
}

/* Coefficients for every class, or of two for the second one. */
BUILDER(build_linear_classifier)
{
	const struct tensor x = value_of(n, n->in[0])->t;
	const Onnx__AttributeProto *w = attribute(n, "coefficients");
	uint64_t features = x.rank ? x.dims[x.rank - 1] : 0, rows;
	struct labels l;
	enum post post;
	int32_t s;
	int rc = read_labels(n, "classlabels_ints", &l);

	if (!rc)
		rc = read_post(n, &post);
	if (rc)
		return rc;
	rows = w && features ? w->n_floats / features : 0;
	if (x.rank != 2 || !w || rows * features != w->n_floats ||
		(rows != l.n && !(rows == 1 && l.n == 2)))
		return lower_refuse(n, "%zu coefficients for %lu features and %u classes",
			w ? w->n_floats : 0, features, l.n);
	s = emit_linear(n, rows);
	if (is_error(s))
		return s;
	if (rows > 1) {
		n->out[0] = emit_labels(n, &l, emit_best(n, s));
		n->out[1] = emit_post(n, post, s);
		return n->out[0];
	}
	n->out[0] = emit_labels(n, &l, emit_above(n, s, 0, 0));
	s = post == POST_LOGISTIC ? emit_post(n, post, emit_two(n, s, -1, 0, 1, 0))
				  : emit_two(n, s, -1, 1, 1, 0);
	n->out[1] = s;
	return n->out[0];
}

/* ---- tree ensembles ---- */

static int32_t emit_table(const struct onnx_node *n, uint32_t dtype, uint32_t rows,
	uint32_t columns, const void *data)
{
	uint32_t dims[2] = {rows, columns};

	return data ? emit_constant(n, dtype, columns ? 2 : 1, dims, data) : IR_NONE;
}

/* float32 [rows][targets] of all trees, base values added. */
static int32_t emit_ensemble(const struct onnx_node *n, const struct ensemble *e, uint32_t targets,
	enum tree_aggregate aggregate, const float *base)
{
	int32_t x = emit_f32(n, n->in[0]);
	struct ensemble_tables t;
	struct tensor shape;
	int rc;

	if (is_error(x))
		return x;
	shape = value_of(n, x)->t;
	if (shape.rank < 1 || shape.rank > 2 || value_of(n, x)->batch == (int32_t)shape.rank - 1)
		return lower_refuse(n, "input of rank %u: rows of features are needed", shape.rank);
	rc = ensemble_build(n, e, shape.dims[shape.rank - 1], targets, aggregate, &t);
	if (rc)
		return rc;
	return emit(n,
		&(struct emission){MODEL_FN_TREES, 7, 1,
			{x, emit_table(n, WIRE_I32, t.n_nodes, 2, t.nodes),
				emit_table(n, WIRE_I32, t.n_trees, 8, t.trees),
				emit_table(n, WIRE_I32, t.n_columns, 0, t.columns),
				emit_table(n, WIRE_F32, targets, 0, base),
				emit_table(n, t.leaf == TREE_LEAF_LIST ? WIRE_I32 : WIRE_F32,
					t.n_leaves,
					t.leaf == TREE_LEAF_LIST    ? 2
					: t.leaf == TREE_LEAF_VALUE ? 1
								    : targets,
					t.leaves),
				emit_table(n, WIRE_I32, t.n_conditions, 3, t.conditions)},
			{aggregate, t.leaf, t.column_bits}, {0}, {value_of(n, x)->batch}},
		NULL);
}

/* base_values, one for each target, or zeros. NULL with an error. */
static const float *read_base(const struct onnx_node *n, uint32_t targets)
{
	const Onnx__AttributeProto *a = attribute(n, "base_values");
	float *zeros;

	if (a && a->n_floats) {
		if (a->n_floats == targets)
			return a->floats;
		lower_refuse(n, "%zu base values for %u targets", a->n_floats, targets);
		return NULL;
	}
	zeros = arena_alloc(n->g->arena, targets, sizeof(*zeros));
	if (!zeros)
		lower_refuse(n, "no memory for %u targets", targets);
	return zeros;
}

BUILDER(build_tree_regressor)
{
	static const char *const names[TREE_AGGREGATE_END] = {"SUM", "AVERAGE", "MIN", "MAX"};
	int64_t targets = attribute_int(n, "n_targets", 1);
	uint32_t aggregate = 0;
	const float *base;
	struct ensemble e;
	enum post post;
	int rc = read_post(n, &post);

	if (rc)
		return rc;
	if (targets < 1 || targets > MODEL_FILE_MAX_ROW_ELEMENTS)
		return lower_refuse(n, "%ld targets", targets);
	while (aggregate < TREE_AGGREGATE_END &&
		!attribute_is(n, "aggregate_function", "SUM", names[aggregate]))
		aggregate++;
	if (aggregate == TREE_AGGREGATE_END)
		return lower_refuse(n, "aggregate_function is none that is known");
	rc = ensemble_read(n, "target", (uint32_t)targets, &e);
	base = rc ? NULL : read_base(n, (uint32_t)targets);
	if (!base)
		return rc ? rc : n->err->code;
	return emit_post(n, post, emit_ensemble(n, &e, (uint32_t)targets, aggregate, base));
}

/* Two classes and weights for one of them: the score s of the second class stands for both. As in
 * ONNX Runtime, scores that cannot be negative are shares, others count from 0. */
static int32_t binary_classifier(struct onnx_node *n, const struct labels *l, struct ensemble *e,
	enum post post, bool shares)
{
	int64_t *zeros = arena_alloc(n->g->arena, e->n_weights, sizeof(*zeros));
	const float *base = read_base(n, 1);
	int32_t s;

	if (!base || !zeros)
		return base ? lower_refuse(n, "no memory") : n->err->code;
	e->weight_target = zeros;
	s = emit_ensemble(n, e, 1, TREE_SUM, base);
	if (is_error(s))
		return s;
	n->out[0] = emit_labels(n, l, emit_above(n, s, 0, shares ? 0.5 : 0));
	if (post == POST_LOGISTIC)
		n->out[1] = emit_post(n, post, emit_two(n, s, -1, 0, 1, 0));
	else if (post == POST_PROBIT)
		n->out[1] = emit_post(n, post, emit_two(n, s, -1, 1, 1, 0));
	else
		n->out[1] = emit_two(n, s, -1, shares, 1, 0);
	return n->out[0];
}

BUILDER(build_tree_classifier)
{
	const float *base;
	struct ensemble e;
	struct labels l;
	enum post post;
	bool one = true, shares = true;
	int32_t s;
	int rc = read_labels(n, "classlabels_int64s", &l);

	if (!rc)
		rc = read_post(n, &post);
	if (!rc)
		rc = ensemble_read(n, "class", l.n, &e);
	if (rc)
		return rc;
	for (uint32_t i = 0; i < e.n_weights; i++) {
		one &= e.weight_target[i] == e.weight_target[0];
		shares &= e.weight[i] >= 0;
	}
	if (one && l.n == 2 && e.weight_target[0] == 0)
		return binary_classifier(n, &l, &e, post, shares);
	base = read_base(n, l.n);
	s = base ? emit_ensemble(n, &e, l.n, TREE_SUM, base) : n->err->code;
	if (is_error(s))
		return s;
	/* Weights for the second class alone: its score decides. */
	n->out[0] = emit_labels(
		n, &l, one && l.n == 2 ? emit_above(n, s, 1, shares ? 0.5 : 0) : emit_best(n, s));
	n->out[1] = emit_post(n, post, s);
	return n->out[0];
}
