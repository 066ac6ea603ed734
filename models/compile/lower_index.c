/* SPDX-License-Identifier: BSD-3-Clause
 * Builders: the gather and scatter families, TopK, and what becomes a gather while compiling.
 */
#include <string.h>

#include "models/compile/lower.h"

BUILDER(build_gather)
{
	const struct ir_value *x = value_of(n, n->in[0]), *i = value_of(n, n->in[1]);
	int64_t axis = attribute_int(n, "axis", 0);
	int32_t batch = IR_NONE;

	axis = axis < 0 ? axis + x->t.rank : axis;
	if (x->batch != IR_NONE && (x->batch == axis || i->batch != IR_NONE))
		return lower_refuse(n, "gathers along the batch dimension");
	if (x->batch != IR_NONE)
		batch = x->batch + (x->batch > axis ? (int32_t)i->t.rank - 1 : 0);
	if (i->batch != IR_NONE)
		batch = i->batch + (int32_t)axis;
	return emit(n,
		&(struct emission){
			MODEL_FN_GATHER, 2, 1, {n->in[0], n->in[1]}, {axis}, {0}, {batch}},
		NULL);
}

/* Every operand carries the batch in front, or none does. */
static int32_t batch_of_all(const struct onnx_node *n)
{
	int32_t batch = value_of(n, n->in[0])->batch;

	for (size_t k = 1; k < n->n_in; k++)
		if (value_of(n, n->in[k])->batch != batch)
			return lower_refuse(n, "only some operands carry the batch dimension");
	return batch;
}

BUILDER(build_gather_elements)
{
	int32_t batch = batch_of_all(n);
	uint32_t axis;
	int rc = is_error(batch) ? batch
				 : lower_axis(n, n->in[0], attribute_int(n, "axis", 0), &axis);

	if (rc)
		return rc;
	return emit(n,
		&(struct emission){
			MODEL_FN_GATHER_ELEMENTS, 2, 1, {n->in[0], n->in[1]}, {axis}, {0}, {batch}},
		NULL);
}

BUILDER(build_gather_nd)
{
	int64_t batch_dims = attribute_int(n, "batch_dims", 0);
	int32_t batch = value_of(n, n->in[1])->batch;

	if (value_of(n, n->in[0])->batch != IR_NONE &&
		(batch_dims < 1 || value_of(n, n->in[0])->batch != 0 || batch != 0))
		return lower_refuse(n, "gathers along the batch dimension");
	return emit(n,
		&(struct emission){
			MODEL_FN_GATHER_ND, 2, 1, {n->in[0], n->in[1]}, {batch_dims}, {0}, {batch}},
		NULL);
}

/* argument: MODEL_FN_SCATTER_ELEMENTS or MODEL_FN_SCATTER_ND. */
BUILDER(build_scatter)
{
	static const char *const names[] = {"none", "add", "mul", "min", "max"};
	int32_t batch = batch_of_all(n);
	int64_t fn = -1;
	uint32_t axis = 0;
	int rc = is_error(batch) ? batch : 0;

	for (int k = 0; k < SCATTER_END; k++)
		if (attribute_is(n, "reduction", "none", names[k]))
			fn = k;
	if (!rc && n->argument == MODEL_FN_SCATTER_ELEMENTS)
		rc = lower_axis(n, n->in[0], attribute_int(n, "axis", 0), &axis);
	else if (!rc && batch != IR_NONE)
		rc = lower_refuse(n, "scatters along the batch dimension");
	if (!rc && fn < 0)
		rc = lower_refuse(n, "unknown reduction");
	return rc ? rc
		  : emit(n,
			    &(struct emission){(enum model_function)n->argument, 3, 1,
				    {n->in[0], n->in[1], n->in[2]}, {axis, fn}, {0}, {batch}},
			    NULL);
}

BUILDER(build_topk)
{
	const int64_t *k = NULL;
	int64_t attribute_k = attribute_int(n, "k", 0);
	int32_t batch = value_of(n, n->in[0])->batch;
	uint32_t axis;
	size_t count;
	int rc = lower_axis(n, n->in[0], attribute_int(n, "axis", -1), &axis);

	if (!rc && n->n_in > 1)
		rc = constant_ints(n, n->in[1], &k, &count);
	if (rc)
		return rc;
	return emit(n,
		&(struct emission){MODEL_FN_TOPK, 1, 2, {n->in[0]},
			{axis, k ? *k : attribute_k, attribute_int(n, "largest", 1)}, {0},
			{batch, batch}},
		n->out);
}

/* Only with a condition known when compiling: then it is a Gather. */
BUILDER(build_compress)
{
	const Onnx__AttributeProto *a = attribute(n, "axis");
	int32_t x = n->in[0];
	const int64_t *condition;
	int64_t *index;
	uint32_t axis = 0, found = 0;
	size_t count;
	int rc = constant_ints(n, n->in[1], &condition, &count);

	if (!rc && a)
		rc = lower_axis(n, x, a->i, &axis);
	else if (!rc && value_of(n, x)->batch != IR_NONE)
		rc = lower_refuse(n, "flattens the batch dimension");
	if (rc)
		return rc;
	if (!a) {
		uint32_t all = (uint32_t)tensor_elements(&value_of(n, x)->t);

		x = emit_view(n, x, 1, &all, IR_NONE);
	}
	index = arena_alloc(n->g->arena, count + 1, sizeof(*index));
	if (!index || is_error(x))
		return is_error(x) ? x : error_set(n->err, -ENOMEM, "no memory for Compress");
	for (size_t i = 0; i < count; i++)
		if (condition[i])
			index[found++] = (int64_t)i;
	if (!found)
		return lower_refuse(n, "nothing is left");
	return emit(n,
		&(struct emission){MODEL_FN_GATHER, 2, 1, {x, emit_ints(n, found, index)}, {axis},
			{0}, {value_of(n, x)->batch}},
		NULL);
}

/* The number of results depends on the data: only folded. */
BUILDER(build_non_zero)
{
	int rc = must_be_constant(n, n->in[0]);
	const struct ir_value *v = rc ? NULL : value_of(n, n->in[0]);
	uint32_t dims[2] = {0, 0};
	size_t elements;
	int64_t *data;

	if (rc)
		return rc;
	elements = tensor_elements(&v->t);
	for (size_t i = 0; i < elements; i++) {
		float block;

		dims[1] += *tensor_load_f32(v->t.dtype, v->data, (int64_t)i, 1, 1, &block) != 0;
	}
	dims[0] = v->t.rank;
	if (!dims[0] || !dims[1])
		return lower_refuse(n, "an empty result");
	data = arena_alloc(n->g->arena, (size_t)dims[0] * dims[1], sizeof(*data));
	if (!data)
		return error_set(n->err, -ENOMEM, "no memory for NonZero");
	for (size_t i = 0, to = 0; i < elements; i++) {
		float block;
		size_t rest = i;

		if (*tensor_load_f32(v->t.dtype, v->data, (int64_t)i, 1, 1, &block) == 0)
			continue;
		for (uint32_t d = dims[0]; d-- > 0; rest /= v->t.dims[d])
			data[d * (size_t)dims[1] + to] = (int64_t)(rest % v->t.dims[d]);
		to++;
	}
	return emit_constant(n, WIRE_I64, 2, dims, data);
}

/* Lengths known when compiling: a gather along time for every batch element. */
BUILDER(build_reverse_sequence)
{
	const struct tensor t = value_of(n, n->in[0])->t;
	int64_t time = attribute_int(n, "time_axis", 0), *index;
	uint32_t dims[2], rest;
	const int64_t *lengths;
	int32_t x;
	size_t count;
	int rc = constant_ints(n, n->in[1], &lengths, &count);

	if (rc)
		return rc;
	if (t.rank < 2 || time < 0 || time > 1 || attribute_int(n, "batch_axis", 1) != 1 - time ||
		count != t.dims[1 - time] || value_of(n, n->in[0])->batch != IR_NONE)
		return lower_refuse(n, "axes or lengths do not fit");
	rest = (uint32_t)tensor_span(&t, 2, t.rank);
	dims[0] = t.dims[0] * t.dims[1];
	dims[1] = rest;
	index = arena_alloc(n->g->arena, dims[0], sizeof(*index));
	if (!index)
		return error_set(n->err, -ENOMEM, "no memory for ReverseSequence");
	for (uint32_t a = 0; a < t.dims[0]; a++)
		for (uint32_t b = 0; b < t.dims[1]; b++) {
			int64_t at = time ? b : a, length = lengths[time ? a : b];
			int64_t from = at < length ? length - 1 - at : at;

			index[a * t.dims[1] + b] =
				time ? a * (int64_t)t.dims[1] + from : from * t.dims[1] + b;
		}
	x = emit_view(n, n->in[0], 2, dims, IR_NONE);
	x = emit(n,
		&(struct emission){MODEL_FN_GATHER, 2, 1, {x, emit_ints(n, dims[0], index)}, {0},
			{0}, {IR_NONE}},
		NULL);
	return emit_view(n, x, t.rank, t.dims, IR_NONE);
}
