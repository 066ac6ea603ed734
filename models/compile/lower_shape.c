/* SPDX-License-Identifier: BSD-3-Clause
 * Builders: shapes, slices, indices. Most of these cost nothing or are folded while compiling.
 */
#include <math.h>
#include <string.h>

#include "models/compile/lower.h"

/* ---- views ---- */

BUILDER(build_flatten)
{
	const struct tensor t = value_of(n, n->in[0])->t;
	int32_t batch = value_of(n, n->in[0])->batch;
	int64_t axis = attribute_int(n, "axis", 1);
	uint32_t dims[2];

	axis = axis < 0 ? axis + t.rank : axis;
	if (axis < 0 || axis > t.rank)
		return lower_refuse(n, "axis %ld of rank %u", axis, t.rank);
	dims[0] = (uint32_t)tensor_span(&t, 0, (uint32_t)axis);
	dims[1] = (uint32_t)tensor_span(&t, (uint32_t)axis, t.rank);
	if (batch != IR_NONE)
		batch = axis > batch ? 0 : 1;
	return emit_view(n, n->in[0], 2, dims, batch);
}

/* The target of a Reshape, row by row. */
struct target {
	uint32_t dims[TENSOR_MAX_RANK];
	int32_t batch, infer; /* axes; infer: of -1 */
	uint64_t rest;        /* product of the other dimensions */
};

/* One dimension of the target: a number, 0 for the old one, -1, or so many batch sizes. */
static int reshape_axis(
	const struct onnx_node *n, struct target *to, uint32_t d, int64_t want, bool keep_zero)
{
	const struct ir_value *x = value_of(n, n->in[0]);
	int64_t times = ir_batches_in(want);
	bool copies = want == 0 && !keep_zero && d < x->t.rank;
	int64_t w = times ? times : copies ? x->t.dims[d] : want;

	to->dims[d] = 1;
	if (times || (copies && (int32_t)d == x->batch && to->batch == IR_NONE))
		to->batch = (int32_t)d;
	if (w == -1 && to->infer == IR_NONE) {
		to->infer = (int32_t)d;
		return 0;
	}
	if (w < 1 || w > 1 << 30)
		return lower_refuse(n, "target dimension %u is %ld", d, w);
	to->dims[d] = (uint32_t)w;
	to->rest *= to->dims[d];
	return to->rest >> 31 ? lower_refuse(n, "the target shape is too large") : 0;
}

BUILDER(build_reshape)
{
	const uint64_t elements = tensor_elements(&value_of(n, n->in[0])->t);
	bool keep_zero = attribute_int(n, "allowzero", 0);
	struct target to = {.batch = IR_NONE, .infer = IR_NONE, .rest = 1};
	int64_t list[TENSOR_MAX_RANK];
	const int64_t *want = list;
	size_t rank;
	int rc = 0;

	if (n->n_in > 1)
		rc = constant_ints(n, n->in[1], &want, &rank);
	else
		rank = (size_t)attribute_ints(n, "shape", list, TENSOR_MAX_RANK);
	if (rc)
		return rc;
	if (rank > TENSOR_MAX_RANK)
		return lower_refuse(n, "%zu dimensions, limit %d", rank, TENSOR_MAX_RANK);
	for (size_t d = 0; !rc && d < rank; d++)
		rc = reshape_axis(n, &to, (uint32_t)d, want[d], keep_zero);
	if (rc)
		return rc;
	if (value_of(n, n->in[0])->batch == IR_NONE)
		to.batch = IR_NONE;
	else if (to.batch == IR_NONE) /* then only -1 can hold it */
		to.batch = to.infer;
	if (value_of(n, n->in[0])->batch != IR_NONE && to.batch == IR_NONE)
		return lower_refuse(n, "the target shape fixes the batch dimension");
	if (to.infer != IR_NONE && elements % to.rest)
		return lower_refuse(n, "%lu elements do not fit", elements);
	if (to.infer != IR_NONE)
		to.dims[to.infer] = (uint32_t)(elements / to.rest);
	return emit_view(n, n->in[0], (uint32_t)rank, to.dims, to.batch);
}

BUILDER(build_transpose)
{
	const uint32_t rank = value_of(n, n->in[0])->t.rank;
	int64_t list[TENSOR_MAX_RANK];
	int count = attribute_ints(n, "perm", list, TENSOR_MAX_RANK);
	uint32_t perm[TENSOR_MAX_RANK], seen = 0;

	if (count >= 0 && (uint32_t)count != rank)
		return lower_refuse(n, "perm has %d entries for rank %u", count, rank);
	for (uint32_t d = 0; d < rank; d++) {
		int64_t p = count < 0 ? rank - 1 - d : list[d];

		if (!tensor_axis(p, rank) || seen >> p & 1)
			return lower_refuse(n, "perm is no permutation");
		seen |= 1u << p;
		perm[d] = (uint32_t)p;
	}
	return emit_transpose(n, n->in[0], perm);
}

/* Axes from the attribute or input 1, normalised for `rank`; *count -1 when there are none. */
static int axes_of(const struct onnx_node *n, uint32_t rank, uint32_t *mask, int *count)
{
	int64_t list[TENSOR_MAX_RANK];
	const int64_t *axes = list;
	size_t length;
	int rc = 0;

	*count = attribute_ints(n, "axes", list, TENSOR_MAX_RANK);
	*mask = 0;
	if (input(n, 1) != IR_NONE) {
		rc = constant_ints(n, n->in[1], &axes, &length);
		*count = rc ? -1 : (int)length;
	}
	for (int i = 0; !rc && i < *count; i++) {
		int64_t axis = axes[i] < 0 ? axes[i] + rank + (n->argument ? *count : 0) : axes[i];

		if (axis < 0 || axis >= 2 * TENSOR_MAX_RANK || *mask >> axis & 1)
			return lower_refuse(n, "axis %ld", axes[i]);
		*mask |= 1u << axis;
	}
	return rc;
}

BUILDER(build_squeeze)
{
	const struct tensor t = value_of(n, n->in[0])->t;
	uint32_t mask;
	int count, rc = axes_of(n, t.rank, &mask, &count);

	if (rc)
		return rc;
	for (uint32_t d = 0; count < 0 && d < t.rank; d++)
		if (t.dims[d] == 1 && (int32_t)d != value_of(n, n->in[0])->batch)
			mask |= 1u << d;
	if (mask >> t.rank)
		return lower_refuse(n, "an axis is out of range");
	return emit_squeeze(n, n->in[0], mask);
}

BUILDER(build_unsqueeze)
{
	uint32_t mask;
	int count, rc = axes_of(n, value_of(n, n->in[0])->t.rank, &mask, &count);

	return rc ? rc : emit_unsqueeze(n, n->in[0], mask);
}

/* ---- slices ---- */

static int64_t clamp(int64_t x, int64_t low, int64_t high)
{
	return x < low ? low : x > high ? high : x;
}

/* One axis of Slice, with numpy's rules. */
static int32_t slice_axis(const struct onnx_node *n, int32_t x, int64_t axis, int64_t start,
	int64_t end, int64_t step)
{
	int64_t size, count;
	uint32_t at;

	if (is_error(x))
		return x;
	axis = axis < 0 ? axis + value_of(n, x)->t.rank : axis;
	if (!tensor_axis(axis, value_of(n, x)->t.rank) || !step)
		return lower_refuse(n, "axis %ld, step %ld", axis, step);
	at = (uint32_t)axis;
	size = value_of(n, x)->t.dims[at];
	if ((int32_t)at == value_of(n, x)->batch) {
		if (start == 0 && step == 1 && end >= INT32_MAX)
			return x;
		return lower_refuse(n, "slices the batch dimension");
	}
	start = start < 0 ? (start < -size ? -1 : start + size) : start;
	end = end < 0 ? (end < -size ? -1 : end + size) : end;
	start = step > 0 ? clamp(start, 0, size) : clamp(start, -1, size - 1);
	end = step > 0 ? clamp(end, 0, size) : clamp(end, -1, size - 1);
	step = clamp(step, -size, size);
	count = step > 0 ? (end - start + step - 1) / step : (start - end - step - 1) / -step;
	if (count < 1)
		return lower_refuse(n, "axis %ld: nothing is left", axis);
	return emit_slice(n, x, at, start, step, (uint32_t)count);
}

BUILDER(build_slice)
{
	int64_t list[3][TENSOR_MAX_RANK];
	const int64_t *starts = list[0], *ends = list[1], *axes = NULL, *steps = NULL;
	const int64_t **where[4] = {&starts, &ends, &axes, &steps};
	size_t count = 0, length;
	int32_t x = n->in[0];

	if (n->opset < 10 && n->n_in == 1) {
		int have = attribute_ints(n, "starts", list[0], TENSOR_MAX_RANK);

		if (have < 0 || attribute_ints(n, "ends", list[1], TENSOR_MAX_RANK) != have)
			return lower_refuse(n, "starts and ends differ in length");
		count = (size_t)have;
		if (attribute_ints(n, "axes", list[2], TENSOR_MAX_RANK) == have)
			axes = list[2];
	}
	for (size_t k = 1; k < n->n_in; k++) {
		int rc =
			n->in[k] == IR_NONE ? 0 : constant_ints(n, n->in[k], where[k - 1], &length);

		if (rc)
			return rc;
		if (k == 1)
			count = length;
		else if (n->in[k] != IR_NONE && length != count)
			return lower_refuse(n, "starts, ends, axes and steps differ in length");
	}
	for (size_t i = 0; i < count; i++)
		x = slice_axis(n, x, axes ? axes[i] : (int64_t)i, starts[i], ends[i],
			steps ? steps[i] : 1);
	return x;
}

BUILDER(build_split)
{
	int64_t list[OPERATOR_MAX_OUTPUTS], total, each;
	const int64_t *sizes = list;
	int have = attribute_ints(n, "split", list, OPERATOR_MAX_OUTPUTS);
	size_t count = have < 0 ? 0 : (size_t)have;
	int64_t start = 0;
	uint32_t axis;
	int rc = lower_axis(n, n->in[0], attribute_int(n, "axis", 0), &axis);

	if (!rc && input(n, 1) != IR_NONE)
		rc = constant_ints(n, n->in[1], &sizes, &count);
	if (rc)
		return rc;
	total = value_of(n, n->in[0])->t.dims[axis];
	each = (total + (int64_t)n->n_out - 1) / (int64_t)n->n_out;
	if (count && count != n->n_out)
		return lower_refuse(n, "%zu sizes for %zu outputs", count, n->n_out);
	for (size_t k = 0; k < n->n_out; k++) {
		int64_t size = count ? sizes[k] : clamp(each, 0, total - start);

		if (size < 1 || size > total - start)
			return lower_refuse(n, "part %zu has %ld of %ld", k, size, total);
		n->out[k] = emit_slice(n, n->in[0], axis, start, 1, (uint32_t)size);
		if (is_error(n->out[k]))
			return n->out[k];
		start += size;
	}
	return n->out[0];
}

BUILDER(build_concat)
{
	uint32_t axis;
	int rc = lower_axis(n, n->in[0], attribute_int(n, "axis", n->opset < 4 ? 1 : 0), &axis);

	for (size_t k = 0; !rc && k < n->n_in; k++)
		if (n->in[k] == IR_NONE || (value_of(n, n->in[k])->batch == (int32_t)axis))
			rc = lower_refuse(n, "input %zu is missing, or joined along the batch", k);
	return rc ? rc : emit_concat(n, n->in, n->n_in, axis);
}

BUILDER(build_expand)
{
	const struct tensor t = value_of(n, n->in[0])->t;
	int32_t batch = value_of(n, n->in[0])->batch;
	struct tensor in[2] = {t, {.dtype = t.dtype}}, out = {.dtype = t.dtype};
	int64_t strides[TENSOR_MAX_RANK] = {0};
	const int64_t *want;
	size_t rank;
	int rc = constant_ints(n, n->in[1], &want, &rank);

	if (rc)
		return rc;
	if (rank > TENSOR_MAX_RANK)
		return lower_refuse(n, "%zu dimensions", rank);
	in[1].rank = (uint32_t)rank;
	for (size_t d = 0; d < rank; d++) {
		if (want[d] != IR_BATCH_SIZE && (want[d] < 1 || want[d] > 1 << 30))
			return lower_refuse(n, "dimension %zu is %ld", d, want[d]);
		in[1].dims[d] = want[d] == IR_BATCH_SIZE ? 1 : (uint32_t)want[d];
	}
	if (!tensor_broadcast(in, 2, &out))
		return lower_refuse(n, "the shapes do not broadcast");
	if (batch != IR_NONE)
		batch += (int32_t)(out.rank - t.rank);
	if (batch != IR_NONE && out.dims[batch] != 1)
		return lower_refuse(n, "expands the batch dimension");
	for (size_t d = 0; d < rank; d++)
		if (want[d] == IR_BATCH_SIZE)
			batch = (int32_t)(d + out.rank - rank);
	for (uint32_t i = 1; i <= t.rank; i++)
		strides[out.rank - i] = t.dims[t.rank - i] == 1
						? 0
						: (int64_t)tensor_span(&t, t.rank - i + 1, t.rank);
	if (tensor_elements(&out) == tensor_elements(&t))
		return emit_view(n, n->in[0], out.rank, out.dims, batch);
	return emit_strided(n, n->in[0], 0, out.rank, out.dims, strides, batch);
}

/* Axis by axis: [outer][inner] walked as [outer][times][inner]. */
BUILDER(build_tile)
{
	const int64_t *times;
	struct tensor t = value_of(n, n->in[0])->t;
	int32_t x = n->in[0], batch = value_of(n, x)->batch;
	size_t count;
	int rc = constant_ints(n, n->in[1], &times, &count);

	if (rc)
		return rc;
	if (count != t.rank)
		return lower_refuse(n, "%zu repeats for rank %u", count, t.rank);
	for (uint32_t d = 0; d < t.rank; d++) {
		uint32_t walk[3];
		int64_t strides[3] = {0, 0, 1};

		if (times[d] < 1 || times[d] > 1 << 24 || ((int32_t)d == batch && times[d] != 1))
			return lower_refuse(n, "repeats axis %u %ld times", d, times[d]);
		if (times[d] == 1)
			continue;
		walk[0] = (uint32_t)tensor_span(&t, 0, d);
		walk[1] = (uint32_t)times[d];
		walk[2] = (uint32_t)tensor_span(&t, d, t.rank);
		strides[0] = walk[2];
		x = emit_strided(n, x, 0, 3, walk, strides, IR_NONE);
		t.dims[d] *= (uint32_t)times[d];
		x = emit_view(n, x, t.rank, t.dims, batch);
		if (is_error(x))
			return x;
	}
	return x;
}

BUILDER(build_pad)
{
	static const char *const modes[] = {"constant", "reflect", "edge", "wrap"};
	const uint32_t rank = value_of(n, n->in[0])->t.rank;
	int64_t list[2 * TENSOR_MAX_RANK], before[TENSOR_MAX_RANK] = {0};
	int64_t after[TENSOR_MAX_RANK] = {0}, mode = -1;
	const int64_t *pads = list, *axes = NULL;
	size_t count, n_axes = rank;
	int32_t value = input(n, 2);
	int rc = 0;

	count = (size_t)attribute_ints(
		n, n->opset < 2 ? "paddings" : "pads", list, 2 * TENSOR_MAX_RANK);
	if (n->n_in > 1)
		rc = constant_ints(n, n->in[1], &pads, &count);
	if (!rc && input(n, 3) != IR_NONE)
		rc = constant_ints(n, n->in[3], &axes, &n_axes);
	if (rc)
		return rc;
	if (count != 2 * n_axes)
		return lower_refuse(n, "%zu pads for %zu axes", count, n_axes);
	for (size_t i = 0; i < n_axes; i++) {
		int64_t axis = axes ? axes[i] : (int64_t)i;

		axis = axis < 0 ? axis + rank : axis;
		if (!tensor_axis(axis, rank))
			return lower_refuse(n, "axis %ld", axis);
		before[axis] = pads[i];
		after[axis] = pads[n_axes + i];
	}
	for (int m = 0; m < 4; m++)
		if (attribute_is(n, "mode", "constant", modes[m]))
			mode = m;
	if (mode < 0)
		return lower_refuse(n, "unknown mode");
	if (value == IR_NONE && attribute(n, "value"))
		value = emit_scalar(
			n, value_of(n, n->in[0])->t.dtype, (double)attribute_float(n, "value", 0));
	return emit_pad(n, n->in[0], mode, before, after, value);
}

/* ---- shapes as values ---- */

BUILDER(build_shape)
{
	const struct ir_value *v = value_of(n, n->in[0]);
	int64_t dims[TENSOR_MAX_RANK], start = attribute_int(n, "start", 0);
	int64_t end = attribute_int(n, "end", v->t.rank);
	bool symbolic = false;
	uint32_t count = 0;
	int32_t out;

	start = clamp(start < 0 ? start + v->t.rank : start, 0, v->t.rank);
	end = clamp(end < 0 ? end + v->t.rank : end, 0, v->t.rank);
	for (int64_t d = start; d < end; d++) {
		dims[count++] = d == v->batch ? ir_batches(v->t.dims[d]) : v->t.dims[d];
		symbolic |= d == v->batch;
	}
	if (!count)
		return lower_refuse(n, "an empty shape");
	out = emit_ints(n, count, dims);
	if (out >= 0)
		n->g->values[out].symbolic = symbolic;
	return out;
}

BUILDER(build_size)
{
	int64_t size = (int64_t)tensor_elements(&value_of(n, n->in[0])->t);

	if (value_of(n, n->in[0])->batch != IR_NONE)
		return lower_refuse(n, "the batch size is not known");
	return emit_squeeze(n, emit_ints(n, 1, &size), 1);
}

/* A value of one element walked with strides of 0. */
static int32_t filled(const struct onnx_node *n, int32_t value, const int64_t *want, size_t rank)
{
	uint32_t dims[TENSOR_MAX_RANK];
	int64_t strides[TENSOR_MAX_RANK] = {0};

	if (rank > TENSOR_MAX_RANK)
		return lower_refuse(n, "%zu dimensions", rank);
	for (size_t d = 0; d < rank; d++) {
		if (want[d] != IR_BATCH_SIZE && (want[d] < 1 || want[d] > 1 << 30))
			return lower_refuse(n, "dimension %zu is %ld", d, want[d]);
		dims[d] = want[d] == IR_BATCH_SIZE ? 1 : (uint32_t)want[d];
	}
	return emit_strided(n, value, 0, (uint32_t)rank, dims, strides, IR_NONE);
}

BUILDER(build_constant_of_shape)
{
	const Onnx__AttributeProto *a = attribute(n, "value");
	const int64_t *want;
	struct onnx_tensor t;
	size_t rank;
	int rc = constant_ints(n, n->in[0], &want, &rank);

	if (rc)
		return rc;
	if (!a || !a->t)
		return filled(n, emit_scalar(n, WIRE_F32, 0), want, rank);
	rc = onnx_tensor_read(a->t, n->g->arena, &t, n->err);
	if (rc)
		return rc;
	if (t.elements != 1)
		return lower_refuse(n, "value has %lu elements", t.elements);
	return filled(n, emit_constant(n, t.dtype, 0, NULL, t.data), want, rank);
}

BUILDER(build_range)
{
	uint32_t dtype = value_of(n, n->in[0])->t.dtype, count;
	const float *f[3];
	const int64_t *i[3];
	void *data;
	double size;
	size_t one;

	for (size_t k = 0; k < 3; k++) {
		int rc = tensor_is_float(dtype) ? constant_floats(n, n->in[k], &f[k], &one)
						: constant_ints(n, n->in[k], &i[k], &one);

		if (rc)
			return rc;
	}
	if (tensor_is_float(dtype))
		size = ceil(((double)*f[1] - (double)*f[0]) / (double)*f[2]);
	else
		size = ceil(((double)*i[1] - (double)*i[0]) / (double)*i[2]);
	if (!(size >= 1 && size <= 1 << 24))
		return lower_refuse(n, "%g elements", size);
	count = (uint32_t)size;
	data = arena_alloc(n->g->arena, count, sizeof(int64_t));
	if (!data)
		return error_set(n->err, -ENOMEM, "no memory for Range");
	for (uint32_t k = 0; k < count; k++) {
		float x = tensor_is_float(dtype) ? *f[0] + (float)k * *f[2] : 0;
		int64_t v = tensor_is_float(dtype)
				    ? 0
				    : (int64_t)((uint64_t)*i[0] + k * (uint64_t)*i[2]);

		if (tensor_is_float(dtype))
			tensor_store_f32(dtype, data, k, 1, &x);
		else
			tensor_store_i64(dtype, data, k, 1, &v);
	}
	return emit_constant(n, dtype, 1, &count, data);
}

/* rows x columns of BOOL: true where column - row relates to k. */
static int32_t band(const struct onnx_node *n, uint32_t rows, uint32_t columns, int64_t k, char how)
{
	uint32_t dims[2] = {rows, columns};
	uint8_t *data = arena_alloc(n->g->arena, (size_t)rows * columns, 1);

	if (!data)
		return error_set(n->err, -ENOMEM, "no memory for a mask");
	for (uint32_t r = 0; r < rows; r++)
		for (uint32_t c = 0; c < columns; c++) {
			int64_t d = (int64_t)c - r;

			data[(size_t)r * columns + c] = how == '='   ? d == k
							: how == 'u' ? d >= k
								     : d <= k;
		}
	return emit_constant(n, WIRE_BOOL, 2, dims, data);
}

BUILDER(build_eye_like)
{
	const struct ir_value *v = value_of(n, n->in[0]);
	uint32_t dtype = v->t.dtype;
	const Onnx__AttributeProto *a = attribute(n, "dtype");

	if (a)
		dtype = a->i > 0 && a->i < 64 ? onnx_wire_dtype((int32_t)a->i) : 0;
	if (v->t.rank != 2 || v->batch != IR_NONE || !dtype)
		return lower_refuse(n, "rank %u, or a dtype that is not supported", v->t.rank);
	return emit_cast(
		n, band(n, v->t.dims[0], v->t.dims[1], attribute_int(n, "k", 0), '='), dtype);
}

BUILDER(build_trilu)
{
	const struct tensor t = value_of(n, n->in[0])->t;
	const int64_t *k = NULL;
	size_t count;
	int rc = input(n, 1) == IR_NONE ? 0 : constant_ints(n, n->in[1], &k, &count);

	if (rc)
		return rc;
	if (t.rank < 2)
		return lower_refuse(n, "rank %u", t.rank);
	return emit_where(n,
		band(n, t.dims[t.rank - 2], t.dims[t.rank - 1], k ? *k : 0,
			attribute_int(n, "upper", 1) ? 'u' : 'l'),
		n->in[0], emit_scalar(n, t.dtype, 0));
}

/* on where index mod depth equals the position along the new axis. */
BUILDER(build_one_hot)
{
	const struct ir_value *v = value_of(n, n->in[0]);
	int64_t axis = attribute_int(n, "axis", -1), *range;
	uint32_t rank = v->t.rank, dims[TENSOR_MAX_RANK] = {1, 1, 1, 1, 1, 1, 1, 1}, depth;
	const int64_t *given;
	size_t count;
	int32_t index, hot, values = n->in[2];
	int rc = constant_ints(n, n->in[1], &given, &count);

	if (rc)
		return rc;
	axis = axis < 0 ? axis + rank + 1 : axis;
	if (axis < 0 || axis > rank || rank >= TENSOR_MAX_RANK || *given < 1 || *given > 1 << 24 ||
		value_of(n, values)->t.rank != 1 || value_of(n, values)->t.dims[0] != 2)
		return lower_refuse(n, "axis %ld, depth %ld", axis, *given);
	depth = (uint32_t)*given;
	range = arena_alloc(n->g->arena, depth, sizeof(*range));
	if (!range)
		return error_set(n->err, -ENOMEM, "no memory for OneHot");
	for (uint32_t i = 0; i < depth; i++)
		range[i] = i;
	dims[axis] = depth;
	index = emit_unsqueeze(n, emit_cast(n, n->in[0], WIRE_I64), 1u << axis);
	index = emit_binary(n, BINARY_MOD, index, emit_scalar(n, WIRE_I64, depth));
	hot = emit_binary(
		n, BINARY_EQUAL, index, emit_constant(n, WIRE_I64, rank + 1, dims, range));
	return emit_where(
		n, hot, emit_slice(n, values, 0, 1, 1, 1), emit_slice(n, values, 0, 0, 1, 1));
}

/* ---- blocks ---- */

BUILDER(build_depth_to_space)
{
	static const uint32_t dcr[6] = {0, 3, 4, 1, 5, 2}, crd[6] = {0, 1, 4, 2, 5, 3};
	const struct tensor t = value_of(n, n->in[0])->t;
	int32_t batch = value_of(n, n->in[0])->batch, x;
	int64_t b = attribute_int(n, "blocksize", 0);
	bool depth_first = attribute_is(n, "mode", "DCR", "DCR");
	uint32_t s = b > 0 && b < 1 << 12 ? (uint32_t)b : 0;

	if (t.rank != 4 || !s || t.dims[1] % (s * s))
		return lower_refuse(n, "blocksize %ld", b);
	uint32_t c = t.dims[1] / (s * s);
	uint32_t six[6] = {
		t.dims[0], depth_first ? s : c, s, depth_first ? c : s, t.dims[2], t.dims[3]};
	uint32_t four[4] = {t.dims[0], c, t.dims[2] * s, t.dims[3] * s};

	x = emit_view(n, n->in[0], 6, six, batch);
	return emit_view(n, emit_transpose(n, x, depth_first ? dcr : crd), 4, four, batch);
}

BUILDER(build_space_to_depth)
{
	static const uint32_t perm[6] = {0, 3, 5, 1, 2, 4};
	const struct tensor t = value_of(n, n->in[0])->t;
	int32_t batch = value_of(n, n->in[0])->batch;
	int64_t b = attribute_int(n, "blocksize", 0);
	uint32_t s = b > 0 && b < 1 << 12 ? (uint32_t)b : 0;

	if (t.rank != 4 || !s || t.dims[2] % s || t.dims[3] % s)
		return lower_refuse(n, "blocksize %ld", b);
	uint32_t six[6] = {t.dims[0], t.dims[1], t.dims[2] / s, s, t.dims[3] / s, s};
	uint32_t four[4] = {t.dims[0], t.dims[1] * s * s, t.dims[2] / s, t.dims[3] / s};

	return emit_view(
		n, emit_transpose(n, emit_view(n, n->in[0], 6, six, batch), perm), 4, four, batch);
}

/* Hann, Hamming and Blackman windows of a size known when compiling; argument picks one. */
BUILDER(build_window)
{
	static const double terms[3][3] = {
		{0.5, 0.5, 0}, {25.0 / 46, 21.0 / 46, 0}, {0.42, 0.5, 0.08}};
	const double *w = terms[n->argument];
	const int64_t *size;
	size_t count;
	uint32_t length;
	float *data;
	double period;
	int rc = constant_ints(n, n->in[0], &size, &count);

	if (rc)
		return rc;
	if (*size < 1 || *size > 1 << 24 || attribute_int(n, "output_datatype", 1) != 1)
		return lower_refuse(n, "size %ld, or an output dtype other than FLOAT", *size);
	length = (uint32_t)*size;
	data = arena_alloc(n->g->arena, length, sizeof(*data));
	if (!data)
		return error_set(n->err, -ENOMEM, "no memory for a window");
	period = attribute_int(n, "periodic", 1) ? length : length - 1;
	for (uint32_t i = 0; i < length; i++)
		data[i] = (float)(w[0] - w[1] * cos(2 * M_PI * i / period) +
				  w[2] * cos(4 * M_PI * i / period));
	return emit_constant(n, WIRE_F32, 1, &length, data);
}
