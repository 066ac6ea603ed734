/* SPDX-License-Identifier: BSD-3-Clause
 * The building blocks of the operators' builders: see lower.h.
 */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "models/compile/lower.h"

int32_t lower_refuse(const struct onnx_node *n, const char *fmt, ...)
{
	char text[200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return error_set(n->err, -ENOTSUP, "%s: %s (node '%s')", n->proto->op_type, text, n->name);
}

static int32_t no_memory(const struct onnx_node *n)
{
	return error_set(n->err, -ENOMEM, "%s: no memory (node '%s')", n->proto->op_type, n->name);
}

/* ---- attributes ---- */

const Onnx__AttributeProto *attribute(const struct onnx_node *n, const char *name)
{
	for (size_t i = 0; i < n->proto->n_attribute; i++)
		if (n->proto->attribute[i]->name && !strcmp(n->proto->attribute[i]->name, name))
			return n->proto->attribute[i];
	return NULL;
}

int64_t attribute_int(const struct onnx_node *n, const char *name, int64_t fallback)
{
	const Onnx__AttributeProto *a = attribute(n, name);

	return a && a->has_i ? a->i : fallback;
}

float attribute_float(const struct onnx_node *n, const char *name, float fallback)
{
	const Onnx__AttributeProto *a = attribute(n, name);

	return a && a->has_f ? a->f : fallback;
}

bool attribute_is(
	const struct onnx_node *n, const char *name, const char *fallback, const char *text)
{
	const Onnx__AttributeProto *a = attribute(n, name);

	if (!a || !a->has_s)
		return !strcmp(fallback, text);
	return a->s.len == strlen(text) && !memcmp(a->s.data, text, a->s.len);
}

int attribute_ints(const struct onnx_node *n, const char *name, int64_t *to, int room)
{
	const Onnx__AttributeProto *a = attribute(n, name);

	if (!a)
		return -1;
	for (size_t i = 0; i < a->n_ints && i < (size_t)room; i++)
		to[i] = a->ints[i];
	return a->n_ints > (size_t)room ? room : (int)a->n_ints;
}

int must_be_constant(const struct onnx_node *n, int32_t v)
{
	if (v == IR_NONE)
		return lower_refuse(n, "an input is missing");
	if (is_error(v) || ir_is_constant(n->g, v))
		return is_error(v) ? v : 0;
	n->g->needs = value_of(n, v)->input;
	return lower_refuse(n, "the value of '%s' must be known when compiling: bind input '%s'",
		value_of(n, v)->name,
		n->g->needs == IR_NONE ? "?" : value_of(n, n->g->needs)->name);
}

int constant_ints(const struct onnx_node *n, int32_t v, const int64_t **data, size_t *count)
{
	int rc = must_be_constant(n, v);
	const struct ir_value *c = rc ? NULL : value_of(n, v);
	int64_t *copy;

	if (rc)
		return rc;
	*count = tensor_elements(&c->t);
	if (tensor_is_float(c->t.dtype))
		return lower_refuse(n, "'%s' must hold integers", c->name);
	copy = arena_alloc(n->g->arena, *count, sizeof(*copy));
	if (!copy)
		return no_memory(n);
	for (size_t i = 0; i < *count; i++)
		copy[i] = tensor_get_i64(c->t.dtype, c->data, i);
	*data = copy;
	return 0;
}

int constant_floats(const struct onnx_node *n, int32_t v, const float **data, size_t *count)
{
	int rc = must_be_constant(n, v);
	int32_t f;

	if (rc)
		return rc;
	f = emit_cast(n, v, WIRE_F32);
	if (is_error(f))
		return f;
	*data = value_of(n, f)->data;
	*count = tensor_elements(&value_of(n, f)->t);
	return 0;
}

int lower_axis(const struct onnx_node *n, int32_t v, int64_t axis, uint32_t *out)
{
	uint32_t rank = value_of(n, v)->t.rank;
	int64_t positive = axis < 0 ? axis + rank : axis;

	if (!tensor_axis(positive, rank))
		return lower_refuse(n, "axis %ld of rank %u", axis, rank);
	if (positive == value_of(n, v)->batch)
		return lower_refuse(n, "axis %ld is the batch dimension", axis);
	*out = (uint32_t)positive;
	return 0;
}

/* ---- values ---- */

int32_t emit_constant(const struct onnx_node *n, uint32_t dtype, uint32_t rank,
	const uint32_t *dims, const void *data)
{
	struct tensor t = {.dtype = dtype, .rank = rank};
	int32_t v;

	if (rank > TENSOR_MAX_RANK)
		return lower_refuse(n, "%u dimensions, limit %d", rank, TENSOR_MAX_RANK);
	if (rank)
		memcpy(t.dims, dims, rank * sizeof(*dims));
	v = ir_value_new(n->g, n->name, &t, n->err);
	if (v >= 0)
		n->g->values[v].data = data;
	return v;
}

int32_t emit_scalar(const struct onnx_node *n, uint32_t dtype, double value)
{
	void *data = arena_alloc(n->g->arena, 1, sizeof(int64_t));
	float f = (float)value;
	int64_t i = 0;

	if (!data)
		return no_memory(n);
	if (!tensor_is_float(dtype)) {
		if (!(fabs(value) < 0x1p63) || value != trunc(value))
			return lower_refuse(n, "%g beside integers", value);
		i = (int64_t)value;
	}
	if (tensor_is_float(dtype))
		tensor_store_f32(dtype, data, 0, 1, &f);
	else
		tensor_store_i64(dtype, data, 0, 1, &i);
	return emit_constant(n, dtype, 0, NULL, data);
}

int32_t emit_ints(const struct onnx_node *n, uint32_t count, const int64_t *data)
{
	int64_t *copy = arena_alloc(n->g->arena, count, sizeof(*copy));

	if (!copy)
		return no_memory(n);
	memcpy(copy, data, count * sizeof(*data));
	return emit_constant(n, WIRE_I64, 1, &count, copy);
}

/* ---- nodes ---- */

/* Any graph input one of the operands depends on. */
static int32_t input_of(const struct onnx_node *n, const struct emission *e)
{
	for (uint32_t k = 0; k < e->n_in; k++)
		if (e->in[k] != IR_NONE && value_of(n, e->in[k])->input != IR_NONE)
			return value_of(n, e->in[k])->input;
	return IR_NONE;
}

static void fill_op(const struct onnx_node *n, const struct emission *e, struct tensor_op *op)
{
	*op = (struct tensor_op){
		.function = e->function, .n_in = e->n_in, .n_out = e->n_out ? e->n_out : 1};
	while (op->n_in && e->in[op->n_in - 1] == IR_NONE)
		op->n_in--;
	for (uint32_t k = 0; k < op->n_in; k++)
		if (e->in[k] != IR_NONE)
			op->in[k] = value_of(n, e->in[k])->t;
	memcpy(op->i, e->i, sizeof(op->i));
	memcpy(op->f, e->f, sizeof(op->f));
}

/* A merged batch dimension stays what it is, in all operands and in the output. */
static int keep_merged(const struct onnx_node *n, const struct emission *e, int32_t out)
{
	struct ir_value *to = &n->g->values[out];

	for (uint32_t k = 0; k < e->n_in && to->batch != IR_NONE; k++) {
		const struct ir_value *v = e->in[k] == IR_NONE ? NULL : value_of(n, e->in[k]);

		if (!v || v->batch == IR_NONE)
			continue;
		to->outside = v->outside;
		if (v->t.dims[v->batch] != to->t.dims[to->batch])
			return lower_refuse(n, "changes a dimension that the batch is part of");
	}
	for (uint32_t k = 0; k < e->n_in && to->batch != IR_NONE; k++)
		if (e->in[k] != IR_NONE && value_of(n, e->in[k])->batch != IR_NONE &&
			value_of(n, e->in[k])->outside != to->outside)
			return lower_refuse(n, "operands hold the batch in different places");
	return 0;
}

int32_t emit(const struct onnx_node *n, const struct emission *e, int32_t *out)
{
	struct tensor_op op;
	struct ir_node *node;
	int32_t values[TENSOR_MAX_OUT];
	int rc;

	for (uint32_t k = 0; k < e->n_in; k++)
		if (is_error(e->in[k]))
			return e->in[k];
	fill_op(n, e, &op);
	if (tensor_infer(&op, n->err))
		return lower_refuse(n, "%.150s", n->err->text);
	for (uint32_t k = 0; k < op.n_out; k++) {
		values[k] = ir_value_new(n->g, n->name, &op.out[k], n->err);
		if (values[k] < 0)
			return values[k];
		n->g->values[values[k]].batch = e->batch[k];
		n->g->values[values[k]].input = input_of(n, e);
		rc = keep_merged(n, e, values[k]);
		if (rc)
			return rc;
	}
	node = ir_node_new(n->g, IR_TENSOR, n->name, n->err);
	if (!node)
		return n->err->code;
	node->t = op;
	memcpy(node->in, e->in, op.n_in * sizeof(node->in[0]));
	memcpy(node->out, values, op.n_out * sizeof(values[0]));
	rc = ir_fold(n->g, node, n->err);
	if (rc)
		return rc;
	if (out)
		memcpy(out, values, op.n_out * sizeof(values[0]));
	return values[0];
}

int32_t emit_unary(const struct onnx_node *n, int64_t fn, int32_t x, float f0, float f1)
{
	if (is_error(x))
		return x;
	return emit(n,
		&(struct emission){
			MODEL_FN_UNARY, 1, 1, {x}, {fn}, {f0, f1}, {value_of(n, x)->batch}},
		NULL);
}

/* Rows stay apart when all batched operands carry the batch in the same place counted from the
 * back, and what is constant does not vary along it. Sets the result's batch axis. */
static int join_batch(const struct onnx_node *n, const int32_t *in, uint32_t count, int32_t *batch)
{
	uint32_t rank = 0, from_end = 0;

	for (uint32_t k = 0; k < count; k++) {
		const struct ir_value *v = value_of(n, in[k]);

		rank = v->t.rank > rank ? v->t.rank : rank;
		if (v->batch == IR_NONE)
			continue;
		if (from_end && from_end != v->t.rank - (uint32_t)v->batch)
			return lower_refuse(n, "operands broadcast along the batch dimension");
		from_end = v->t.rank - (uint32_t)v->batch;
	}
	*batch = from_end ? (int32_t)(rank - from_end) : IR_NONE;
	for (uint32_t k = 0; k < count && from_end; k++) {
		const struct ir_value *v = value_of(n, in[k]);

		if (v->batch == IR_NONE && v->t.rank >= from_end &&
			v->t.dims[v->t.rank - from_end] != 1)
			return lower_refuse(n, "operands broadcast along the batch dimension");
	}
	return 0;
}

static int32_t emit_joined(const struct onnx_node *n, struct emission e)
{
	int rc;

	for (uint32_t k = 0; k < e.n_in; k++)
		if (is_error(e.in[k]))
			return e.in[k];
	rc = join_batch(n, e.in, e.n_in, &e.batch[0]);
	return rc ? rc : emit(n, &e, NULL);
}

int32_t emit_binary(const struct onnx_node *n, int64_t fn, int32_t a, int32_t b)
{
	return emit_joined(n, (struct emission){MODEL_FN_BINARY, 2, 1, {a, b}, {fn}, {0}, {0}});
}

int32_t emit_where(const struct onnx_node *n, int32_t condition, int32_t a, int32_t b)
{
	return emit_joined(
		n, (struct emission){MODEL_FN_WHERE, 3, 1, {condition, a, b}, {0}, {0}, {0}});
}

int32_t emit_cast(const struct onnx_node *n, int32_t x, uint32_t dtype)
{
	if (is_error(x) || x == IR_NONE || value_of(n, x)->t.dtype == dtype)
		return x;
	return emit(n,
		&(struct emission){MODEL_FN_CAST, 1, 1, {x}, {dtype}, {0}, {value_of(n, x)->batch}},
		NULL);
}

int32_t emit_f32(const struct onnx_node *n, int32_t x)
{
	return emit_cast(n, x, WIRE_F32);
}

/* The elements before the batch are the same ones in both shapes. */
static int view_merged(const struct onnx_node *n, const struct ir_value *from, struct ir_value *to)
{
	uint64_t outside, before;

	if (from->batch == IR_NONE || to->batch == IR_NONE)
		return 0;
	outside = tensor_span(&from->t, 0, (uint32_t)from->batch) * from->outside;
	before = tensor_span(&to->t, 0, (uint32_t)to->batch);
	if (outside % before || to->t.dims[to->batch] % (outside / before))
		return lower_refuse(n, "moves elements across the batch dimension");
	to->outside = (uint32_t)(outside / before);
	return 0;
}

/* A row's elements stay as they are; `moved`: the batch changes places with dimensions of 1. */
static int32_t view(const struct onnx_node *n, int32_t x, uint32_t rank, const uint32_t *dims,
	int32_t batch, bool moved)
{
	struct ir_node *node;
	struct ir_value *v;
	int32_t out;

	if (is_error(x))
		return x;
	out = emit_constant(n, value_of(n, x)->t.dtype, rank, dims, value_of(n, x)->data);
	if (out < 0)
		return out;
	v = &n->g->values[out];
	if (tensor_elements(&v->t) != tensor_elements(&value_of(n, x)->t))
		return lower_refuse(n, "%lu elements do not fit the target shape",
			tensor_elements(&value_of(n, x)->t));
	v->batch = batch;
	v->input = value_of(n, x)->input;
	v->symbolic = value_of(n, x)->symbolic;
	if (v->data)
		return out;
	v->outside = value_of(n, x)->outside;
	if (!moved && view_merged(n, value_of(n, x), v))
		return n->err->code;
	node = ir_node_new(n->g, IR_VIEW, n->name, n->err);
	if (!node)
		return n->err->code;
	node->in[0] = x;
	node->out[0] = out;
	return out;
}

int32_t emit_view(
	const struct onnx_node *n, int32_t x, uint32_t rank, const uint32_t *dims, int32_t batch)
{
	return view(n, x, rank, dims, batch, false);
}

int32_t emit_strided(const struct onnx_node *n, int32_t x, int64_t base, uint32_t rank,
	const uint32_t *dims, const int64_t *strides, int32_t batch)
{
	struct emission e = {MODEL_FN_STRIDED, 1, 1, {x}, {base, rank}, {0}, {batch}};

	if (rank > TENSOR_MAX_RANK)
		return lower_refuse(n, "%u dimensions, limit %d", rank, TENSOR_MAX_RANK);
	for (uint32_t d = 0; d < rank; d++) {
		e.i[2 + d] = dims[d];
		e.i[10 + d] = dims[d] == 1 ? 0 : strides[d];
	}
	return emit(n, &e, NULL);
}

static void natural_strides(const struct tensor *t, int64_t *strides)
{
	for (uint32_t d = 0; d < t->rank; d++)
		strides[d] = (int64_t)tensor_span(t, d + 1, t->rank);
}

int32_t emit_transpose(const struct onnx_node *n, int32_t x, const uint32_t *perm)
{
	int64_t natural[TENSOR_MAX_RANK], strides[TENSOR_MAX_RANK];
	uint32_t dims[TENSOR_MAX_RANK];
	int32_t batch = IR_NONE, last = -1;
	bool moves = false;
	struct tensor t;

	if (is_error(x))
		return x;
	t = value_of(n, x)->t;
	natural_strides(&t, natural);
	for (uint32_t d = 0; d < t.rank; d++) {
		dims[d] = t.dims[perm[d]];
		strides[d] = natural[perm[d]];
		if ((int32_t)perm[d] == value_of(n, x)->batch)
			batch = (int32_t)d;
		if (dims[d] != 1) { /* only dimensions of 1 change places: nothing moves */
			moves |= (int32_t)perm[d] < last;
			last = (int32_t)perm[d];
		}
	}
	if (!moves)
		return view(n, x, t.rank, dims, batch, true);
	return emit_strided(n, x, 0, t.rank, dims, strides, batch);
}

int32_t emit_slice(const struct onnx_node *n, int32_t x, uint32_t axis, int64_t start, int64_t step,
	uint32_t size)
{
	int64_t strides[TENSOR_MAX_RANK];
	struct tensor t;
	int64_t base;

	if (is_error(x))
		return x;
	t = value_of(n, x)->t;
	if (start == 0 && step == 1 && size == t.dims[axis])
		return x;
	natural_strides(&t, strides);
	base = start * strides[axis];
	strides[axis] *= step;
	t.dims[axis] = size;
	return emit_strided(n, x, base, t.rank, t.dims, strides, value_of(n, x)->batch);
}

int32_t emit_unsqueeze(const struct onnx_node *n, int32_t x, uint32_t mask)
{
	uint32_t dims[2 * TENSOR_MAX_RANK + 1], rank = 0, from = 0;
	int32_t batch = IR_NONE;
	struct tensor t;

	if (is_error(x))
		return x;
	t = value_of(n, x)->t;
	while (from < t.rank || mask >> rank) {
		if (rank >= 2 * TENSOR_MAX_RANK)
			return lower_refuse(n, "too many dimensions");
		if (mask >> rank & 1) {
			dims[rank++] = 1;
			continue;
		}
		if (from >= t.rank)
			return lower_refuse(n, "an axis is out of range");
		if ((int32_t)from == value_of(n, x)->batch)
			batch = (int32_t)rank;
		dims[rank++] = t.dims[from++];
	}
	return emit_view(n, x, rank, dims, batch);
}

int32_t emit_squeeze(const struct onnx_node *n, int32_t x, uint32_t mask)
{
	uint32_t dims[TENSOR_MAX_RANK], rank = 0;
	int32_t batch = IR_NONE;
	struct tensor t;

	if (is_error(x))
		return x;
	t = value_of(n, x)->t;
	for (uint32_t d = 0; d < t.rank; d++) {
		if ((int32_t)d == value_of(n, x)->batch)
			batch = (int32_t)rank;
		if (!(mask >> d & 1))
			dims[rank++] = t.dims[d];
		else if (t.dims[d] != 1 || (int32_t)d == value_of(n, x)->batch)
			return lower_refuse(n, "dimension %u is not 1", d);
	}
	return emit_view(n, x, rank, dims, batch);
}

int32_t emit_reduce(const struct onnx_node *n, int64_t fn, int32_t x, uint32_t mask, bool keep)
{
	int32_t batch;
	uint32_t before = 0;

	if (is_error(x))
		return x;
	batch = value_of(n, x)->batch;
	if (batch != IR_NONE && mask >> batch & 1)
		return lower_refuse(n, "reduces over the batch dimension");
	for (int32_t d = 0; d < batch; d++)
		before += mask >> d & 1;
	if (batch != IR_NONE && !keep)
		batch -= (int32_t)before;
	return emit(n,
		&(struct emission){MODEL_FN_REDUCE, 1, 1, {x}, {fn, mask, keep}, {0}, {batch}},
		NULL);
}

int32_t emit_matmul(const struct onnx_node *n, int32_t a, int32_t b)
{
	const int32_t in[2] = {a, b};
	uint32_t rank = 0;
	int32_t batch = IR_NONE;

	if (is_error(a) || is_error(b))
		return is_error(a) ? a : b;
	for (int k = 0; k < 2; k++)
		rank = value_of(n, in[k])->t.rank > rank ? value_of(n, in[k])->t.rank : rank;
	for (int k = 0; k < 2; k++) {
		const struct ir_value *v = value_of(n, in[k]);
		uint32_t from_end = v->t.rank - (uint32_t)v->batch;
		int32_t place = (int32_t)(rank - from_end);

		if (v->batch == IR_NONE)
			continue;
		/* The batch may be an outer dimension, or the left side's rows. */
		if (from_end < (k ? 3 : 2) || (batch != IR_NONE && batch != place) ||
			(from_end == 2 && value_of(n, b)->batch != IR_NONE))
			return lower_refuse(n, "the operands do not multiply row by row");
		batch = place;
	}
	for (int k = 0; k < 2; k++) {
		const struct ir_value *v = value_of(n, in[k]);

		if (batch != IR_NONE && v->batch == IR_NONE && (int32_t)rank - batch >= 3 &&
			(int32_t)v->t.rank >= (int32_t)rank - batch &&
			v->t.dims[v->t.rank - (rank - (uint32_t)batch)] != 1)
			return lower_refuse(n, "a constant varies along the batch dimension");
	}
	return emit(n, &(struct emission){MODEL_FN_MATMUL, 2, 1, {a, b}, {0}, {0}, {batch}}, NULL);
}

int32_t emit_concat(const struct onnx_node *n, const int32_t *in, size_t count, uint32_t axis)
{
	struct emission e = {.function = MODEL_FN_CONCAT, .i = {axis}};
	int32_t joined = in[0];

	for (size_t k = 0; k < count; k++)
		if (is_error(in[k]))
			return in[k];
	for (size_t at = 1; at < count || at == 1; at += e.n_in - 1) {
		int rc;

		e.n_in = 1;
		e.in[0] = joined;
		for (size_t k = at; k < count && e.n_in < TENSOR_MAX_IN; k++)
			e.in[e.n_in++] = in[k];
		if (e.n_in == 1)
			return joined;
		rc = join_batch(n, e.in, e.n_in, &e.batch[0]);
		if (rc)
			return rc;
		joined = emit(n, &e, NULL);
		if (is_error(joined))
			return joined;
	}
	return joined;
}

int32_t emit_pad(const struct onnx_node *n, int32_t x, int64_t mode, const int64_t *before,
	const int64_t *after, int32_t value)
{
	struct emission e = {MODEL_FN_PAD, 2, 1, {x, value}, {mode}, {0}, {0}};
	bool any = false;
	uint32_t rank;

	if (is_error(x))
		return x;
	rank = value_of(n, x)->t.rank;
	for (uint32_t d = 0; d < rank; d++) {
		int64_t size = value_of(n, x)->t.dims[d];
		int64_t cut = before[d] < 0 ? -before[d] : 0, end = after[d] < 0 ? -after[d] : 0;

		if ((before[d] || after[d]) && (int32_t)d == value_of(n, x)->batch)
			return lower_refuse(n, "pads the batch dimension");
		if (cut > size || end > size || size - cut - end < 1)
			return lower_refuse(n, "pads take all of dimension %u away", d);
		x = emit_slice(n, x, d, cut, 1, (uint32_t)(size - cut - end));
		if (is_error(x))
			return x;
		e.i[1 + d] = before[d] > 0 ? before[d] : 0;
		e.i[9 + d] = after[d] > 0 ? after[d] : 0;
		any |= e.i[1 + d] || e.i[9 + d];
	}
	e.in[0] = x;
	e.in[1] = value == IR_NONE ? emit_scalar(n, value_of(n, x)->t.dtype, 0) : value;
	e.batch[0] = value_of(n, x)->batch;
	return any ? emit(n, &e, NULL) : x;
}
