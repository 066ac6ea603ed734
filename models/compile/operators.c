/* SPDX-License-Identifier: BSD-3-Clause
 * ONNX operators: attribute and shape checks, and the graph nodes each becomes. Semantics are those
 * of the ONNX operator set (onnx.ai, Operators.md), including what changed between its versions.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "models/compile/operators.h"

#define refuse(err, node, ...) operator_refuse(err, node, __VA_ARGS__)

static int operator_refuse(struct error *err, const struct onnx_node *n, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static int operator_refuse(struct error *err, const struct onnx_node *n, const char *fmt, ...)
{
	char text[200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return error_set(err, -ENOTSUP, "%s: %s (node '%s')", n->proto->op_type, text, n->name);
}

/* ---- attributes ---- */

static const Onnx__AttributeProto *attribute(const struct onnx_node *n, const char *name)
{
	for (size_t i = 0; i < n->proto->n_attribute; i++)
		if (n->proto->attribute[i]->name && !strcmp(n->proto->attribute[i]->name, name))
			return n->proto->attribute[i];
	return NULL;
}

static int64_t attribute_int(const struct onnx_node *n, const char *name, int64_t fallback)
{
	const Onnx__AttributeProto *a = attribute(n, name);

	return a && a->has_i ? a->i : fallback;
}

static float attribute_float(const struct onnx_node *n, const char *name, float fallback)
{
	const Onnx__AttributeProto *a = attribute(n, name);

	return a && a->has_f ? a->f : fallback;
}

/* A possibly negative axis into [0, limit]; -1 when out of range. */
static int64_t axis_in(int64_t axis, uint32_t rank, int64_t limit)
{
	if (axis < 0)
		axis += rank;
	return axis < 0 || axis > limit ? -1 : axis;
}

/* Elements of dims [from, to); the batch counts as 1. */
static uint64_t span_elements(const struct ir_shape *s, uint32_t from, uint32_t to)
{
	uint64_t n = 1;

	for (uint32_t i = from; i < to; i++)
		n *= s->dims[i] == IR_BATCH ? 1 : (uint64_t)s->dims[i];
	return n;
}

static bool has_batch(const struct ir_shape *s)
{
	return s->rank && s->dims[0] == IR_BATCH;
}

/* ---- building blocks ---- */

static int32_t emit(struct ir_graph *g, const struct onnx_node *n, enum ir_op op, int32_t a,
	int32_t b, const struct ir_shape *shape, struct ir_node **node, struct error *err)
{
	int32_t out = ir_value_new(g, n->name, shape, err);
	struct ir_node *made;

	if (out < 0)
		return out;
	made = ir_node_new(g, op, n->name, err);
	if (!made)
		return err->code;
	made->in[0] = a;
	made->in[1] = b;
	made->out = out;
	if (node)
		*node = made;
	return out;
}

static int32_t emit_unary(struct ir_graph *g, const struct onnx_node *n, int32_t x,
	struct activation act, struct error *err)
{
	struct ir_node *node;
	int32_t out = emit(g, n, IR_UNARY, x, IR_NONE, &g->values[x].shape, &node, err);

	int rc;

	if (out < 0)
		return out;
	node->act = act;
	rc = ir_fold(g, node, err);
	return rc ? rc : out;
}

static int32_t emit_binary(struct ir_graph *g, const struct onnx_node *n, enum model_binary fn,
	int32_t a, int32_t b, struct error *err)
{
	struct ir_shape shape;
	struct ir_node *node;
	int32_t out;
	int rc = ir_broadcast(g, n->name, a, b, &shape, err);

	if (rc)
		return rc;
	out = emit(g, n, IR_BINARY, a, b, &shape, &node, err);
	if (out < 0)
		return out;
	node->function = fn;
	rc = ir_fold(g, node, err);
	return rc ? rc : out;
}

/* Same elements, other shape: constants are relabelled, run-time values get a view. */
static int32_t emit_view(struct ir_graph *g, const struct onnx_node *n, int32_t x,
	const struct ir_shape *shape, struct error *err)
{
	int32_t out;

	if (!ir_is_constant(g, x))
		return emit(g, n, IR_VIEW, x, IR_NONE, shape, NULL, err);
	out = ir_value_new(g, n->name, shape, err);
	if (out >= 0) {
		g->values[out].f32 = g->values[x].f32;
		g->values[out].i64 = g->values[x].i64;
	}
	return out;
}

static int32_t scalar_constant(
	struct ir_graph *g, const struct onnx_node *n, float value, struct error *err)
{
	struct ir_shape scalar = {0};
	float *data = arena_alloc(g->arena, 1, sizeof(*data));
	int32_t out = ir_value_new(g, n->name, &scalar, err);

	if (!data)
		return error_set(err, -ENOMEM, "no memory for a constant");
	*data = value;
	if (out >= 0)
		g->values[out].f32 = data;
	return out;
}

/* ---- element by element ---- */

static int32_t build_relu(struct ir_graph *g, const struct onnx_node *n, struct error *err)
{
	return emit_unary(g, n, n->in[0], (struct activation){.kind = MODEL_ACT_RELU}, err);
}

static int32_t build_sigmoid(struct ir_graph *g, const struct onnx_node *n, struct error *err)
{
	return emit_unary(g, n, n->in[0], (struct activation){.kind = MODEL_ACT_SIGMOID}, err);
}

static int32_t build_tanh(struct ir_graph *g, const struct onnx_node *n, struct error *err)
{
	return emit_unary(g, n, n->in[0], (struct activation){.kind = MODEL_ACT_TANH}, err);
}

static int32_t build_leaky_relu(struct ir_graph *g, const struct onnx_node *n, struct error *err)
{
	struct activation act = {MODEL_ACT_LEAKY_RELU, attribute_float(n, "alpha", 0.01f), 0};

	return emit_unary(g, n, n->in[0], act, err);
}

static int32_t build_neg(struct ir_graph *g, const struct onnx_node *n, struct error *err)
{
	return emit_unary(g, n, n->in[0], (struct activation){.kind = MODEL_ACT_NEG}, err);
}

static int32_t build_abs(struct ir_graph *g, const struct onnx_node *n, struct error *err)
{
	return emit_unary(g, n, n->in[0], (struct activation){.kind = MODEL_ACT_ABS}, err);
}

static int32_t build_exp(struct ir_graph *g, const struct onnx_node *n, struct error *err)
{
	return emit_unary(g, n, n->in[0], (struct activation){.kind = MODEL_ACT_EXP}, err);
}

static int32_t build_sqrt(struct ir_graph *g, const struct onnx_node *n, struct error *err)
{
	return emit_unary(g, n, n->in[0], (struct activation){.kind = MODEL_ACT_SQRT}, err);
}

/* A bound is an attribute before opset 11, an optional constant scalar input after. */
static int clip_bound(const struct ir_graph *g, const struct onnx_node *n, size_t input,
	const char *name, float fallback, float *bound, struct error *err)
{
	const struct ir_value *v;

	*bound = attribute_float(n, name, fallback);
	if (n->n_in <= input || n->in[input] == IR_NONE)
		return 0;
	v = &g->values[n->in[input]];
	if (!v->f32 || v->elements != 1)
		return refuse(err, n, "%s is computed at run time", name);
	*bound = v->f32[0];
	return 0;
}

static int32_t build_clip(struct ir_graph *g, const struct onnx_node *n, struct error *err)
{
	struct activation act = {.kind = MODEL_ACT_CLIP};
	int rc = clip_bound(g, n, 1, "min", -3.402823466e+38f, &act.a, err);

	if (!rc)
		rc = clip_bound(g, n, 2, "max", 3.402823466e+38f, &act.b, err);
	return rc ? rc : emit_unary(g, n, n->in[0], act, err);
}

/* Before opset 7 broadcasting was opt-in and could name an axis. */
static int32_t build_binary(
	struct ir_graph *g, const struct onnx_node *n, enum model_binary fn, struct error *err)
{
	if (n->opset < 7) {
		if (attribute(n, "axis"))
			return refuse(err, n, "attribute axis (opset %ld broadcasting)", n->opset);
		if (!attribute_int(n, "broadcast", 0) &&
			!ir_shape_equal(&g->values[n->in[0]].shape, &g->values[n->in[1]].shape))
			return refuse(err, n, "different shapes without broadcast=1 (opset %ld)",
				n->opset);
	}
	return emit_binary(g, n, fn, n->in[0], n->in[1], err);
}

static int32_t build_add(struct ir_graph *g, const struct onnx_node *n, struct error *err)
{
	return build_binary(g, n, MODEL_ADD, err);
}

static int32_t build_sub(struct ir_graph *g, const struct onnx_node *n, struct error *err)
{
	return build_binary(g, n, MODEL_SUB, err);
}

static int32_t build_mul(struct ir_graph *g, const struct onnx_node *n, struct error *err)
{
	return build_binary(g, n, MODEL_MUL, err);
}

static int32_t build_div(struct ir_graph *g, const struct onnx_node *n, struct error *err)
{
	return build_binary(g, n, MODEL_DIV, err);
}

/* Before opset 13 everything from `axis` on (default 1) is one vector; since then it is one axis
 * (default the last). */
static int32_t build_softmax(struct ir_graph *g, const struct onnx_node *n, struct error *err)
{
	const struct ir_shape *s = &g->values[n->in[0]].shape;
	bool flat = n->opset < 13;
	int64_t axis =
		axis_in(attribute_int(n, "axis", flat ? 1 : -1), s->rank, (int64_t)s->rank - 1);
	struct ir_node *node;
	int32_t out;

	if (axis < 0)
		return refuse(err, n, "axis %ld of rank %u",
			(long)attribute_int(n, "axis", flat ? 1 : -1), s->rank);
	if (axis == 0 && has_batch(s))
		return refuse(err, n, "axis 0 is the batch dimension");
	out = emit(g, n, IR_SOFTMAX, n->in[0], IR_NONE, s, &node, err);
	if (out < 0)
		return out;
	s = &g->values[n->in[0]].shape;
	node->m = (uint32_t)span_elements(s, 0, (uint32_t)axis);
	node->n = (uint32_t)span_elements(s, (uint32_t)axis, flat ? s->rank : (uint32_t)axis + 1);
	node->k = flat ? 1 : (uint32_t)span_elements(s, (uint32_t)axis + 1, s->rank);
	return out;
}

/* ---- shapes ---- */

static int32_t build_identity(struct ir_graph *g, const struct onnx_node *n, struct error *err)
{
	if (ir_is_constant(g, n->in[0]))
		return n->in[0];
	return emit(g, n, IR_IDENTITY, n->in[0], IR_NONE, &g->values[n->in[0]].shape, NULL, err);
}

static int32_t build_dropout(struct ir_graph *g, const struct onnx_node *n, struct error *err)
{
	if (n->n_in > 2 && n->in[2] != IR_NONE)
		return refuse(err, n, "training_mode input");
	if (n->opset < 7 && !attribute_int(n, "is_test", 0))
		return refuse(err, n, "training mode (is_test=0)");
	return build_identity(g, n, err);
}

static int32_t build_flatten(struct ir_graph *g, const struct onnx_node *n, struct error *err)
{
	const struct ir_shape *s = &g->values[n->in[0]].shape;
	int64_t axis = axis_in(attribute_int(n, "axis", 1), s->rank, s->rank);
	struct ir_shape out = {.rank = 2};

	if (axis < 0)
		return refuse(
			err, n, "axis %ld of rank %u", (long)attribute_int(n, "axis", 1), s->rank);
	out.dims[0] = (int64_t)span_elements(s, 0, (uint32_t)axis);
	out.dims[1] = (int64_t)span_elements(s, (uint32_t)axis, s->rank);
	if (has_batch(s)) {
		if (axis == 0 || out.dims[0] != 1)
			return refuse(
				err, n, "axis %ld merges the batch dimension with others", axis);
		out.dims[0] = IR_BATCH;
	}
	return emit_view(g, n, n->in[0], &out, err);
}

/* Fill the one -1 so that the element counts agree. */
static int reshape_infer(struct ir_shape *out, uint32_t infer, uint64_t elements)
{
	uint64_t rest = 1;

	for (uint32_t i = 0; i < out->rank; i++) {
		if (i == infer || out->dims[i] == IR_BATCH)
			continue;
		if (out->dims[i] < 1 || __builtin_mul_overflow(rest, (uint64_t)out->dims[i], &rest))
			return -EINVAL;
	}
	if (infer < out->rank) {
		if (elements % rest)
			return -EINVAL;
		out->dims[infer] = (int64_t)(elements / rest);
		return 0;
	}
	return rest == elements ? 0 : -EINVAL;
}

static int reshape_target(const struct ir_graph *g, const struct onnx_node *n, const int64_t *want,
	uint64_t rank, struct ir_shape *out, struct error *err)
{
	const struct ir_value *x = &g->values[n->in[0]];
	bool keep_zero = attribute_int(n, "allowzero", 0);
	uint32_t infer = IR_MAX_RANK;

	if (rank > IR_MAX_RANK)
		return refuse(err, n, "%lu dimensions, limit %d", rank, IR_MAX_RANK);
	*out = (struct ir_shape){.rank = (uint32_t)rank};
	for (uint32_t i = 0; i < rank; i++) {
		out->dims[i] = want[i];
		if (want[i] == 0 && !keep_zero && i < x->shape.rank)
			out->dims[i] = x->shape.dims[i]; /* keeps the batch, too */
		else if (want[i] == -1 && infer == IR_MAX_RANK)
			infer = i;
		else if (want[i] < 1)
			return refuse(err, n, "target dimension %u is %ld", i, want[i]);
	}
	if (!has_batch(&x->shape)) {
		if (reshape_infer(out, infer, x->elements))
			return refuse(
				err, n, "%lu elements do not fit the target shape", x->elements);
		return 0;
	}
	if (rank && infer == 0) { /* the free dimension is the batch if all others fill one row */
		out->dims[0] = IR_BATCH;
		infer = IR_MAX_RANK;
	}
	if (!has_batch(out))
		return refuse(err, n, "the target shape fixes the batch dimension");
	if (reshape_infer(out, infer, x->elements))
		return refuse(
			err, n, "a row of %lu elements does not fit the target shape", x->elements);
	return 0;
}

static int32_t build_reshape(struct ir_graph *g, const struct onnx_node *n, struct error *err)
{
	const Onnx__AttributeProto *old = attribute(n, "shape");
	struct ir_shape out;
	int rc;

	if (n->n_in < 2 && old && n->opset < 5) {
		rc = reshape_target(g, n, old->ints, old->n_ints, &out, err);
	} else {
		const struct ir_value *v = n->n_in > 1 ? &g->values[n->in[1]] : NULL;

		if (!v || !v->i64)
			return refuse(err, n, "the target shape is computed at run time");
		rc = reshape_target(g, n, v->i64, v->elements, &out, err);
	}
	return rc ? rc : emit_view(g, n, n->in[0], &out, err);
}

/* ---- matrix products ---- */

/* numpy.matmul's shape, batch kept first; a and b may be rank 1 only in unbatched graphs. */
static int matmul_shape(const struct ir_graph *g, const struct onnx_node *n, int32_t a, int32_t b,
	bool ta, bool tb, struct ir_shape *out, struct error *err)
{
	const struct ir_shape *sa = &g->values[a].shape, *sb = &g->values[b].shape;
	int64_t am, ak, bk, bn;
	uint32_t outer_a = sa->rank - 2, outer_b = sb->rank - 2;
	char text[2][96];

	if (sa->rank < 2 || sb->rank < 2)
		return refuse(err, n, "operand of rank %u", sa->rank < 2 ? sa->rank : sb->rank);
	am = sa->dims[sa->rank - (ta ? 1 : 2)];
	ak = sa->dims[sa->rank - (ta ? 2 : 1)];
	bk = sb->dims[sb->rank - (tb ? 1 : 2)];
	bn = sb->dims[sb->rank - (tb ? 2 : 1)];
	if (ak != bk || ak == IR_BATCH || bn == IR_BATCH)
		return refuse(err, n, "%s%s x %s%s does not multiply row by row",
			ir_shape_text(sa, text[0], sizeof(text[0])), ta ? " transposed" : "",
			ir_shape_text(sb, text[1], sizeof(text[1])), tb ? " transposed" : "");
	if (g->batched && !ir_is_constant(g, b) &&
		(sa->rank != sb->rank || sa->rank < 3 || !has_batch(sa)))
		return refuse(err, n,
			"both operands are computed at run time and a batch of %s x %s is "
			"no product row by row",
			ir_shape_text(sa, text[0], sizeof(text[0])),
			ir_shape_text(sb, text[1], sizeof(text[1])));
	*out = (struct ir_shape){.rank = sa->rank > sb->rank ? sa->rank : sb->rank};
	for (uint32_t i = 0; i + 2 < out->rank; i++) {
		uint32_t from_end = out->rank - 2 - i;
		int64_t da = from_end <= outer_a ? sa->dims[outer_a - from_end] : 1;
		int64_t db = from_end <= outer_b ? sb->dims[outer_b - from_end] : 1;

		if (da != db && da != 1 && db != 1)
			return refuse(err, n, "outer dimensions of %s and %s do not broadcast",
				ir_shape_text(sa, text[0], sizeof(text[0])),
				ir_shape_text(sb, text[1], sizeof(text[1])));
		out->dims[i] = da == 1 ? db : da;
	}
	if (g->batched && !(ir_is_constant(g, a) && ir_is_constant(g, b)) &&
		(out->rank > 2 ? out->dims[0] : am) != IR_BATCH)
		return refuse(err, n, "the batch dimension is not the product's first");
	out->dims[out->rank - 2] = am;
	out->dims[out->rank - 1] = bn;
	return 0;
}

static int32_t emit_matmul(struct ir_graph *g, const struct onnx_node *n, bool ta, bool tb,
	float alpha, struct error *err)
{
	struct ir_shape shape;
	struct ir_node *node;
	int32_t out = matmul_shape(g, n, n->in[0], n->in[1], ta, tb, &shape, err);

	if (out)
		return out;
	out = emit(g, n, IR_MATMUL, n->in[0], n->in[1], &shape, &node, err);
	if (out >= 0) {
		node->trans_a = ta;
		node->trans_b = tb;
		node->alpha = alpha;
	}
	return out;
}

static int32_t build_matmul(struct ir_graph *g, const struct onnx_node *n, struct error *err)
{
	return emit_matmul(g, n, false, false, 1, err);
}

/* alpha A'B' + beta C becomes a product and a sum; a pass puts them together again where it can. */
static int32_t build_gemm(struct ir_graph *g, const struct onnx_node *n, struct error *err)
{
	float beta = attribute_float(n, "beta", 1);
	int32_t product, c = n->n_in > 2 ? n->in[2] : IR_NONE;

	if (g->values[n->in[0]].shape.rank != 2 || g->values[n->in[1]].shape.rank != 2)
		return refuse(err, n, "A and B must be matrices");
	product = emit_matmul(g, n, attribute_int(n, "transA", 0), attribute_int(n, "transB", 0),
		attribute_float(n, "alpha", 1), err);
	if (product < 0 || c == IR_NONE)
		return product;
	if (beta != 1) {
		int32_t factor = scalar_constant(g, n, beta, err);

		if (factor < 0)
			return factor;
		c = emit_binary(g, n, MODEL_MUL, c, factor, err);
		if (c < 0)
			return c;
	}
	if (g->values[c].shape.rank > 2)
		return refuse(err, n, "C has rank %u", g->values[c].shape.rank);
	return emit_binary(g, n, MODEL_ADD, product, c, err);
}

static int32_t constant_floats(struct ir_graph *g, const struct onnx_node *n, const float *data,
	size_t count, bool scalar, struct error *err)
{
	struct ir_shape shape = {.rank = scalar ? 0 : 1, .dims = {(int64_t)count}};
	int32_t out = ir_value_new(g, n->name, &shape, err);

	if (out >= 0)
		g->values[out].f32 = data;
	return out;
}

static int32_t build_constant(struct ir_graph *g, const struct onnx_node *n, struct error *err)
{
	const Onnx__AttributeProto *a;
	struct ir_shape shape = {0};
	struct onnx_tensor t;
	int32_t out;

	if (n->proto->n_attribute != 1)
		return refuse(err, n, "%zu attributes, exactly one gives the value",
			n->proto->n_attribute);
	a = n->proto->attribute[0];
	if (a->has_f && !strcmp(a->name, "value_float"))
		return constant_floats(g, n, &a->f, 1, true, err);
	if (a->n_floats && !strcmp(a->name, "value_floats"))
		return constant_floats(g, n, a->floats, a->n_floats, false, err);
	if (strcmp(a->name, "value") || !a->t)
		return refuse(err, n, "attribute %s", a->name);
	out = onnx_tensor_read(a->t, &t, err);
	if (out)
		return out;
	if (t.rank > IR_MAX_RANK)
		return refuse(err, n, "%u dimensions, limit %d", t.rank, IR_MAX_RANK);
	shape.rank = t.rank;
	memcpy(shape.dims, t.dims, t.rank * sizeof(t.dims[0]));
	out = ir_value_new(g, n->name, &shape, err);
	if (out >= 0) {
		g->values[out].f32 = t.f32;
		g->values[out].i64 = t.i64;
	}
	return out;
}

/* ---- the table ---- */

static const struct onnx_operator operators[] = {
	{"Abs", 1, 1, "", build_abs, "element by element"},
	{"Add", 2, 2, "axis,broadcast", build_add, "numpy broadcasting within a row"},
	{"Clip", 1, 3, "min,max", build_clip, "bounds must be constant"},
	{"Constant", 0, 0, "value,value_float,value_floats", build_constant, "FLOAT, INT64 shapes"},
	{"Div", 2, 2, "axis,broadcast", build_div, "numpy broadcasting within a row"},
	{"Dropout", 1, 3, "ratio,seed,is_test", build_dropout, "inference: removed"},
	{"Exp", 1, 1, "", build_exp, "element by element"},
	{"Flatten", 1, 1, "axis", build_flatten, "costs nothing"},
	{"Gemm", 2, 3, "alpha,beta,transA,transB,broadcast", build_gemm,
		"a dense layer when B is constant"},
	{"Identity", 1, 1, "", build_identity, "removed"},
	{"LeakyRelu", 1, 1, "alpha", build_leaky_relu, "fused into a dense layer before it"},
	{"MatMul", 2, 2, "", build_matmul,
		"a dense layer when the right side is a constant matrix"},
	{"Mul", 2, 2, "axis,broadcast", build_mul, "numpy broadcasting within a row"},
	{"Neg", 1, 1, "", build_neg, "element by element"},
	{"Relu", 1, 1, "", build_relu, "fused into a dense layer before it"},
	{"Reshape", 1, 2, "shape,allowzero", build_reshape, "constant target; costs nothing"},
	{"Sigmoid", 1, 1, "", build_sigmoid, "fused into a dense layer before it"},
	{"Softmax", 1, 1, "axis", build_softmax, "any axis but the batch; opset < 13 flattens"},
	{"Sqrt", 1, 1, "", build_sqrt, "element by element"},
	{"Sub", 2, 2, "axis,broadcast", build_sub, "numpy broadcasting within a row"},
	{"Tanh", 1, 1, "", build_tanh, "fused into a dense layer before it"},
};

const struct onnx_operator *operator_at(size_t i)
{
	return i < sizeof(operators) / sizeof(operators[0]) ? &operators[i] : NULL;
}

const struct onnx_operator *operator_find(const char *name)
{
	for (size_t i = 0; operator_at(i); i++)
		if (!strcmp(operators[i].name, name))
			return &operators[i];
	return NULL;
}
