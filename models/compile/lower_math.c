/* SPDX-License-Identifier: BSD-3-Clause
 * Builders: element by element, reductions, products, constants.
 */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "models/compile/lower.h"

/* ---- element by element ---- */

BUILDER(build_unary)
{
	return emit_unary(n, n->argument, n->in[0], 0, 0);
}

/* One or two float attributes with ONNX's defaults. */
BUILDER(build_parametric)
{
	static const struct {
		int64_t fn;
		const char *name[2];
		float fallback[2];
	} table[] = {
		{UNARY_LEAKY_RELU, {"alpha", ""}, {0.01f, 0}},
		{UNARY_ELU, {"alpha", ""}, {1, 0}},
		{UNARY_SELU, {"alpha", "gamma"}, {1.67326319f, 1.05070102f}},
		{UNARY_CELU, {"alpha", ""}, {1, 0}},
		{UNARY_HARD_SIGMOID, {"alpha", "beta"}, {0.2f, 0.5f}},
		{UNARY_THRESHOLDED, {"alpha", ""}, {1, 0}},
		{UNARY_SHRINK, {"bias", "lambd"}, {0, 0.5f}},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (table[i].fn == n->argument)
			return emit_cast(n,
				emit_unary(n, n->argument, emit_f32(n, n->in[0]),
					attribute_float(n, table[i].name[0], table[i].fallback[0]),
					attribute_float(n, table[i].name[1], table[i].fallback[1])),
				value_of(n, n->in[0])->t.dtype);
	return lower_refuse(n, "no parameters known");
}

BUILDER(build_is_inf)
{
	return emit_unary(n, UNARY_IS_INF, n->in[0], (float)attribute_int(n, "detect_negative", 1),
		(float)attribute_int(n, "detect_positive", 1));
}

/* Bounds are attributes before opset 11, optional inputs after. Constant float ones fuse. */
BUILDER(build_clip)
{
	float bound[2] = {attribute_float(n, "min", -FLT_MAX), attribute_float(n, "max", FLT_MAX)};
	int32_t x = n->in[0];
	bool fused = value_of(n, x)->t.dtype == WIRE_F32;

	for (size_t k = 1; k < 3; k++) {
		int32_t v = input(n, k);

		if (v == IR_NONE)
			continue;
		if (fused && ir_is_constant(n->g, v) && value_of(n, v)->t.dtype == WIRE_F32 &&
			tensor_elements(&value_of(n, v)->t) == 1)
			bound[k - 1] = *(const float *)value_of(n, v)->data;
		else
			x = emit_binary(n, k == 1 ? BINARY_MAX : BINARY_MIN, x, v);
	}
	if (!fused || is_error(x) || (bound[0] <= -FLT_MAX && bound[1] >= FLT_MAX))
		return x;
	return emit_unary(n, UNARY_CLIP, x, bound[0], bound[1]);
}

/* Before opset 7 broadcasting was opt-in: B's dimensions match A's from `axis` on. */
static int32_t old_broadcast(const struct onnx_node *n, int32_t a, int32_t b)
{
	uint32_t ra = value_of(n, a)->t.rank, rb = value_of(n, b)->t.rank;
	int64_t axis = attribute_int(n, "axis", (int64_t)ra - rb);
	uint32_t mask = 0;

	if (!attribute_int(n, "broadcast", 0))
		return tensor_same_shape(&value_of(n, a)->t, &value_of(n, b)->t)
			       ? b
			       : lower_refuse(n, "different shapes without broadcast=1");
	axis = axis < 0 ? axis + ra : axis;
	if (axis < 0 || axis + rb > ra)
		return lower_refuse(n, "axis %ld of rank %u", axis, ra);
	for (uint32_t d = (uint32_t)axis + rb; d < ra; d++)
		mask |= 1u << (d - (uint32_t)axis);
	return mask ? emit_unsqueeze(n, b, mask) : b;
}

BUILDER(build_binary)
{
	int32_t b = n->opset < 7 ? old_broadcast(n, n->in[0], n->in[1]) : n->in[1];

	return emit_binary(n, n->argument, n->in[0], b);
}

/* The result has the base's dtype; a float exponent of an integer base goes by way of floats. */
BUILDER(build_pow)
{
	uint32_t base = value_of(n, n->in[0])->t.dtype, power = value_of(n, n->in[1])->t.dtype;
	bool floats = tensor_is_float(base) || tensor_is_float(power);
	uint32_t common = floats ? WIRE_F32 : base;
	int32_t b = n->opset < 7 ? old_broadcast(n, n->in[0], n->in[1]) : n->in[1];

	return emit_cast(n,
		emit_binary(n, BINARY_POW, emit_cast(n, n->in[0], common), emit_cast(n, b, common)),
		base);
}

BUILDER(build_mod)
{
	return emit_binary(
		n, attribute_int(n, "fmod", 0) ? BINARY_FMOD : BINARY_MOD, n->in[0], n->in[1]);
}

BUILDER(build_shift)
{
	uint32_t dtype = value_of(n, n->in[0])->t.dtype;

	if (dtype != WIRE_U8)
		return lower_refuse(n, "only UINT8");
	return emit_binary(n,
		attribute_is(n, "direction", "", "LEFT") ? BINARY_SHIFT_LEFT : BINARY_SHIFT_RIGHT,
		n->in[0], n->in[1]);
}

/* Max, Min, Sum, Mean of any number of inputs. */
BUILDER(build_variadic)
{
	int32_t x = n->in[0];

	for (size_t k = 1; k < n->n_in; k++)
		x = emit_binary(n,
			n->argument == REDUCE_MAX   ? BINARY_MAX
			: n->argument == REDUCE_MIN ? BINARY_MIN
						    : BINARY_ADD,
			x, n->in[k]);
	if (n->argument != REDUCE_MEAN || is_error(x))
		return x;
	return emit_binary(
		n, BINARY_DIV, x, emit_scalar(n, value_of(n, x)->t.dtype, (double)n->n_in));
}

BUILDER(build_where)
{
	return emit_where(n, n->in[0], n->in[1], n->in[2]);
}

BUILDER(build_cast)
{
	const Onnx__AttributeProto *a = attribute(n, "to");
	uint32_t dtype =
		a && a->has_i && a->i >= 0 && a->i < 64 ? onnx_wire_dtype((int32_t)a->i) : 0;

	if (!dtype)
		return lower_refuse(n, "to %s", a ? onnx_type_name((int32_t)a->i) : "nothing");
	return emit_cast(n, n->in[0], dtype);
}

BUILDER(build_cast_like)
{
	return emit_cast(n, n->in[0], value_of(n, n->in[1])->t.dtype);
}

BUILDER(build_prelu)
{
	int32_t slope = n->in[1];
	uint32_t rank = value_of(n, n->in[0])->t.rank, mask = 0;

	/* Before opset 7, and in older exporters, a slope per channel has one dimension. */
	if (n->opset < 9 && value_of(n, slope)->t.rank == 1 && rank > 2) {
		for (uint32_t d = 1; d + 1 < rank; d++)
			mask |= 1u << d;
		slope = emit_unsqueeze(n, slope, mask);
	}
	return emit_binary(n, BINARY_PRELU, n->in[0], slope);
}

BUILDER(build_identity)
{
	return n->in[0];
}

/* A mask of ones where it is asked for. */
/* A ratio of 0 drops nothing, in training either: how torch exports its attention. */
static bool drops_nothing(const struct onnx_node *n)
{
	int32_t ratio = input(n, 1) == IR_NONE ? IR_NONE : emit_f32(n, n->in[1]);

	return ratio >= 0 && ir_is_constant(n->g, ratio) &&
	       *(const float *)value_of(n, ratio)->data == 0;
}

BUILDER(build_dropout)
{
	if (input(n, 2) != IR_NONE && !drops_nothing(n)) {
		const int64_t *training;
		size_t count;
		int rc = constant_ints(n, n->in[2], &training, &count);

		if (rc)
			return rc;
		if (count && training[0])
			return lower_refuse(n, "training_mode is true");
	}
	if (n->opset < 7 && !attribute_int(n, "is_test", 0))
		return lower_refuse(n, "training mode (is_test=0)");
	if (n->n_out > 1)
		n->out[1] = emit_unary(n, UNARY_NOT,
			emit_binary(n, BINARY_MUL, emit_cast(n, n->in[0], WIRE_BOOL),
				emit_scalar(n, WIRE_BOOL, 0)),
			0, 0);
	return n->in[0];
}

BUILDER(build_constant)
{
	const Onnx__AttributeProto *a = n->proto->n_attribute == 1 ? n->proto->attribute[0] : NULL;
	struct onnx_tensor t;
	uint32_t dims[TENSOR_MAX_RANK], count;
	int rc;

	if (!a)
		return lower_refuse(n, "exactly one attribute gives the value");
	count = (uint32_t)(a->n_floats ? a->n_floats : a->n_ints);
	if (!strcmp(a->name, "value_float"))
		return emit_scalar(n, WIRE_F32, (double)a->f);
	if (!strcmp(a->name, "value_floats"))
		return emit_constant(n, WIRE_F32, 1, &count, a->floats);
	if (!strcmp(a->name, "value_int")) {
		int32_t v = emit_ints(n, 1, &a->i);

		return emit_squeeze(n, v, 1);
	}
	if (!strcmp(a->name, "value_ints"))
		return emit_constant(n, WIRE_I64, 1, &count, a->ints);
	if (strcmp(a->name, "value") || !a->t)
		return lower_refuse(n, "attribute %s", a->name);
	rc = onnx_tensor_read(a->t, n->g->arena, &t, n->err);
	if (rc)
		return rc;
	for (uint32_t d = 0; d < t.rank; d++)
		dims[d] = (uint32_t)t.dims[d];
	return emit_constant(n, t.dtype, t.rank, dims, t.data);
}

/* ---- along axes ---- */

/* Axes as attribute or (from `from_opset` on) input 1; -1 with rc when there are none. */
static int axes_mask(const struct onnx_node *n, int32_t x, uint32_t *mask, bool *given)
{
	int64_t list[TENSOR_MAX_RANK];
	const int64_t *axes = list;
	int count = attribute_ints(n, "axes", list, TENSOR_MAX_RANK);
	size_t length = count < 0 ? 0 : (size_t)count;
	uint32_t axis;
	int rc = 0;

	*mask = 0;
	if (input(n, 1) != IR_NONE)
		rc = constant_ints(n, n->in[1], &axes, &length);
	for (size_t i = 0; !rc && i < length; i++) {
		rc = lower_axis(n, x, axes[i], &axis);
		if (!rc)
			*mask |= 1u << axis;
	}
	*given = length > 0;
	return rc;
}

BUILDER(build_reduce)
{
	uint32_t mask, dtype = value_of(n, n->in[0])->t.dtype;
	bool given, direct;
	int rc = axes_mask(n, n->in[0], &mask, &given);

	if (rc)
		return rc;
	if (!given && attribute_int(n, "noop_with_empty_axes", 0))
		return n->in[0];
	if (!given)
		mask = (1u << value_of(n, n->in[0])->t.rank) - 1;
	direct = !tensor_is_float(dtype) && n->argument != REDUCE_L2 &&
		 n->argument != REDUCE_LOG_SUM && n->argument != REDUCE_LOG_SUM_EXP;
	return emit_cast(n,
		emit_reduce(n, n->argument, direct ? n->in[0] : emit_f32(n, n->in[0]), mask,
			attribute_int(n, "keepdims", 1)),
		dtype);
}

BUILDER(build_argmax)
{
	bool keep = attribute_int(n, "keepdims", 1);
	int32_t batch = value_of(n, n->in[0])->batch;
	uint32_t axis;
	int rc = lower_axis(n, n->in[0], attribute_int(n, "axis", 0), &axis);

	if (rc)
		return rc;
	batch -= !keep && batch > (int32_t)axis;
	return emit(n,
		&(struct emission){MODEL_FN_ARGMAX, 1, 1, {n->in[0]},
			{axis, keep, n->argument, attribute_int(n, "select_last_index", 0)}, {0},
			{batch}},
		NULL);
}

BUILDER(build_cumsum)
{
	const int64_t *axis;
	uint32_t at;
	size_t count;
	int rc = constant_ints(n, n->in[1], &axis, &count);

	if (!rc)
		rc = lower_axis(n, n->in[0], axis[0], &at);
	if (rc)
		return rc;
	return emit(n,
		&(struct emission){MODEL_FN_CUMSUM, 1, 1, {n->in[0]},
			{at, attribute_int(n, "exclusive", 0), attribute_int(n, "reverse", 0)}, {0},
			{value_of(n, n->in[0])->batch}},
		NULL);
}

enum { SOFTMAX, LOG_SOFTMAX, HARDMAX };

static int32_t hardmax(const struct onnx_node *n, int32_t x, uint32_t axis)
{
	uint32_t size = value_of(n, x)->t.dims[axis], rank = value_of(n, x)->t.rank;
	int64_t *range = arena_alloc(n->g->arena, size, sizeof(*range));
	uint32_t dims[TENSOR_MAX_RANK] = {1, 1, 1, 1, 1, 1, 1, 1};
	int32_t best;

	if (!range)
		return -ENOMEM;
	for (uint32_t i = 0; i < size; i++)
		range[i] = i;
	dims[axis] = size;
	best = emit(n,
		&(struct emission){
			MODEL_FN_ARGMAX, 1, 1, {x}, {axis, 1}, {0}, {value_of(n, x)->batch}},
		NULL);
	return emit_binary(n, BINARY_EQUAL, best, emit_constant(n, WIRE_I64, rank, dims, range));
}

static int32_t log_softmax(const struct onnx_node *n, int32_t x, uint32_t axis)
{
	int32_t shifted =
		emit_binary(n, BINARY_SUB, x, emit_reduce(n, REDUCE_MAX, x, 1u << axis, true));

	return emit_binary(n, BINARY_SUB, shifted,
		emit_reduce(n, REDUCE_LOG_SUM_EXP, shifted, 1u << axis, true));
}

/* Before opset 13 everything from `axis` on (default 1) is one vector; since then it is one axis
 * (default the last). */
BUILDER(build_softmax)
{
	bool flat = n->opset < 13;
	struct tensor t = value_of(n, n->in[0])->t;
	int32_t x = emit_f32(n, n->in[0]), batch = value_of(n, n->in[0])->batch;
	uint32_t axis;
	int rc = lower_axis(n, n->in[0], attribute_int(n, "axis", flat ? 1 : -1), &axis);

	if (rc)
		return rc;
	if (flat) {
		uint32_t two[2] = {(uint32_t)tensor_span(&t, 0, axis),
			(uint32_t)tensor_span(&t, axis, t.rank)};

		if (batch > 0 || (batch == 0 && axis == 0))
			return lower_refuse(n, "flattens the batch dimension");
		x = emit_view(n, x, 2, two, batch);
		axis = 1;
	}
	if (is_error(x))
		return x;
	if (n->argument == SOFTMAX)
		x = emit(n, &(struct emission){MODEL_FN_SOFTMAX, 1, 1, {x}, {axis}, {0}, {batch}},
			NULL);
	else
		x = n->argument == HARDMAX ? hardmax(n, x, axis) : log_softmax(n, x, axis);
	return emit_view(n, emit_cast(n, x, t.dtype), t.rank, t.dims, batch);
}

/* ---- products ---- */

/* float16 and bfloat16 are multiplied as float32. */
static uint32_t product_dtype(uint32_t dtype)
{
	return tensor_is_float(dtype) ? WIRE_F32 : dtype;
}

/* numpy.matmul with operands of one dimension, too. */
static int32_t product(const struct onnx_node *n, int32_t a, int32_t b)
{
	uint32_t ra, rb;
	int32_t y;

	if (is_error(a) || is_error(b))
		return is_error(a) ? a : b;
	ra = value_of(n, a)->t.rank;
	rb = value_of(n, b)->t.rank;
	if (!ra || !rb)
		return lower_refuse(n, "operand of rank 0");
	if (ra == 1)
		a = emit_unsqueeze(n, a, 1);
	if (rb == 1)
		b = emit_unsqueeze(n, b, 2);
	y = emit_matmul(n, a, b);
	if (is_error(y))
		return y;
	if (rb == 1)
		y = emit_squeeze(n, y, 1u << (value_of(n, y)->t.rank - 1));
	if (ra == 1 && !is_error(y))
		y = emit_squeeze(n, y, 1u << (value_of(n, y)->t.rank - (rb == 1 ? 1 : 2)));
	return y;
}

BUILDER(build_matmul)
{
	uint32_t dtype = value_of(n, n->in[0])->t.dtype, common = product_dtype(dtype);

	return emit_cast(n,
		product(n, emit_cast(n, n->in[0], common), emit_cast(n, n->in[1], common)), dtype);
}

/* alpha A'B' + beta C; passes make a dense layer of it where B is constant. */
BUILDER(build_gemm)
{
	static const uint32_t swap[2] = {1, 0};
	uint32_t dtype = value_of(n, n->in[0])->t.dtype, common = product_dtype(dtype);
	float alpha = attribute_float(n, "alpha", 1), beta = attribute_float(n, "beta", 1);
	int32_t a = emit_cast(n, n->in[0], common), b = emit_cast(n, n->in[1], common), y;
	int32_t c = emit_cast(n, input(n, 2), common);

	if (value_of(n, n->in[0])->t.rank != 2 || value_of(n, n->in[1])->t.rank != 2)
		return lower_refuse(n, "A and B must be matrices");
	if (attribute_int(n, "transA", 0))
		a = emit_transpose(n, a, swap);
	if (attribute_int(n, "transB", 0))
		b = emit_transpose(n, b, swap);
	if (alpha != 1)
		b = emit_binary(n, BINARY_MUL, b, emit_scalar(n, common, (double)alpha));
	y = emit_matmul(n, a, b);
	if (is_error(y) || c == IR_NONE)
		return emit_cast(n, y, dtype);
	if (beta != 1)
		c = emit_binary(n, BINARY_MUL, c, emit_scalar(n, common, (double)beta));
	return emit_cast(n, emit_binary(n, BINARY_ADD, y, c), dtype);
}

/* ---- einsum ---- */

struct einsum {
	const char *at, *end;
	char letters[TENSOR_MAX_RANK]; /* '.' + k stands for ellipsis dimension k */
	uint32_t n_letters, ellipsis;
	struct emission e;
};

static int64_t label_of(struct einsum *s, char letter)
{
	for (uint32_t l = 0; l < s->n_letters; l++)
		if (s->letters[l] == letter)
			return l;
	if (s->n_letters >= TENSOR_MAX_RANK)
		return -1;
	s->letters[s->n_letters] = letter;
	return s->n_letters++;
}

/* Labels of one term up to ',' or '-' or the end; -1 when it does not parse. */
static int einsum_term(struct einsum *s, uint32_t rank, int64_t *labels, bool is_output)
{
	uint32_t count = 0, named = 0;

	for (const char *c = s->at; c < s->end && *c != ',' && *c != '-'; c++)
		named += *c != '.' && *c != ' ';
	if (!is_output && rank >= named && rank - named > s->ellipsis)
		s->ellipsis = rank - named;
	for (; s->at < s->end && *s->at != ',' && *s->at != '-'; s->at++) {
		uint32_t dots = is_output ? s->ellipsis : rank >= named ? rank - named : 0;

		if (*s->at == ' ')
			continue;
		if (*s->at == '.') {
			s->at += 2;
			/* Ellipsis dimensions align from the right. */
			for (uint32_t k = dots; k > 0; k--)
				if (count >= TENSOR_MAX_RANK ||
					(labels[count++] = label_of(s, (char)k)) < 0)
					return -1;
			continue;
		}
		if (count >= TENSOR_MAX_RANK || (labels[count++] = label_of(s, *s->at)) < 0)
			return -1;
	}
	return (int)count;
}

/* Without "->": every letter that occurs once, in alphabetical order, after the ellipsis. */
static int einsum_implicit(struct einsum *s, const char *text)
{
	int count = 0;

	for (uint32_t k = s->ellipsis; k > 0; k--)
		s->e.i[2 + count++] = label_of(s, (char)k);
	for (int letter = 'A'; letter <= 'z'; letter++) {
		int times = 0;

		for (const char *c = text; c < s->end; c++)
			times += *c == letter;
		if (times == 1)
			s->e.i[2 + count++] = label_of(s, (char)letter);
	}
	return count;
}

BUILDER(build_einsum)
{
	const Onnx__AttributeProto *a = attribute(n, "equation");
	struct einsum s = {.e = {.function = MODEL_FN_EINSUM, .n_in = (uint32_t)n->n_in}};
	const char *text = a && a->has_s ? (const char *)a->s.data : "";
	int rank;

	s.at = text;
	s.end = text + (a && a->has_s ? a->s.len : 0);
	s.e.batch[0] = IR_NONE;
	for (uint32_t k = 0; k < n->n_in; k++, s.at += s.at < s.end && *s.at == ',') {
		s.e.in[k] = emit_f32(n, n->in[k]);
		if (einsum_term(&s, value_of(n, n->in[k])->t.rank, &s.e.i[10 + 8 * k], false) !=
			(int)value_of(n, n->in[k])->t.rank)
			return lower_refuse(n, "term %u of the equation", k);
	}
	if (s.at + 1 < s.end && s.at[0] == '-' && s.at[1] == '>') {
		s.at += 2;
		rank = einsum_term(&s, 0, &s.e.i[2], true);
	} else {
		rank = einsum_implicit(&s, text);
	}
	if (rank < 0 || s.at != s.end)
		return lower_refuse(n, "the equation");
	s.e.i[0] = s.n_letters;
	s.e.i[1] = rank;
	/* The batch is a label of its own in every batched operand, and the output keeps it. */
	for (uint32_t k = 0; k < n->n_in; k++) {
		int32_t batch = value_of(n, n->in[k])->batch, at = IR_NONE;

		for (int d = 0; batch != IR_NONE && d < rank; d++)
			if (s.e.i[2 + d] == s.e.i[10 + 8 * k + (uint32_t)batch])
				at = d;
		if (batch != IR_NONE &&
			(at == IR_NONE || (s.e.batch[0] != IR_NONE && s.e.batch[0] != at)))
			return lower_refuse(n, "mixes the rows of the batch");
		if (batch != IR_NONE)
			s.e.batch[0] = at;
	}
	return emit_cast(n, emit(n, &s.e, NULL), value_of(n, n->in[0])->t.dtype);
}
