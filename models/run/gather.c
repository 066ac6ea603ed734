/* SPDX-License-Identifier: BSD-3-Clause
 * By index: the gather and scatter families. Indices are run-time data: negative ones
 * count from the end, and whatever is still outside is clamped, so no request can reach another
 * byte.
 */
#include <string.h>

#include "base/prefetch.h"
#include "models/run/tensor.h"

static int check_indices(const struct tensor_op *op, struct error *err)
{
	if (op->in[1].dtype != WIRE_I64 && op->in[1].dtype != WIRE_I32)
		return tensor_refuse(op, err, "indices of dtype %u", op->in[1].dtype);
	return 0;
}

static int check_axis(const struct tensor_op *op, struct error *err)
{
	if (!tensor_axis(op->i[0], op->in[0].rank))
		return tensor_refuse(op, err, "axis %ld of rank %u", op->i[0], op->in[0].rank);
	return check_indices(op, err);
}

/* ---- gather ---- */

int gather_infer(struct tensor_op *op, struct error *err)
{
	const struct tensor *x = &op->in[0], *indices = &op->in[1];
	struct tensor *out = &op->out[0];
	int rc = check_axis(op, err);

	if (rc)
		return rc;
	if (x->rank - 1 + indices->rank > TENSOR_MAX_RANK)
		return tensor_refuse(op, err, "ranks %u and %u", x->rank, indices->rank);
	out->dtype = x->dtype;
	for (uint32_t d = 0; d < x->rank; d++)
		if (d != op->i[0])
			out->dims[out->rank++] = x->dims[d];
		else
			for (uint32_t k = 0; k < indices->rank; k++)
				out->dims[out->rank++] = indices->dims[k];
	return 0;
}

enum { GATHER_AHEAD = 8 }; /* indices between a prefetch and its use */

/* Up to TENSOR_BLOCK indices from `at` on, as elements of the axis. */
static size_t clamp_block(const struct tensor_op *op, const void *indices, size_t at, size_t n,
	uint32_t to[TENSOR_BLOCK])
{
	const uint32_t size = op->in[0].dims[op->i[0]];

	n = n < TENSOR_BLOCK ? n : TENSOR_BLOCK;
	for (size_t k = 0; k < n; k++)
		to[k] = (uint32_t)tensor_index(op->in[1].dtype, indices, at + k, size);
	return n;
}

/* n places of `bytes` bytes, one after the other. */
static void gather_block(
	uint8_t *to, const uint8_t *table, const uint32_t *index, size_t n, size_t bytes)
{
	if (bytes == sizeof(uint32_t)) {
		for (size_t k = 0; k < n; k++)
			((uint32_t *)to)[k] = ((const uint32_t *)table)[index[k]];
		return;
	}
	for (size_t k = 0; k < n; k++, to += bytes) {
		if (k + GATHER_AHEAD < n)
			prefetch_read(table + index[k + GATHER_AHEAD] * bytes);
		memcpy(to, table + index[k] * bytes, bytes);
	}
}

/* `n` indices lie in a line and count for `rows` rows: those of one, or of many rows into the same
 * table, or constant ones. */
static void gather_line(
	const struct tensor_op *op, const struct tensor_args *a, size_t n, size_t rows)
{
	const struct tensor *x = &op->in[0];
	const uint32_t axis = (uint32_t)op->i[0];
	const size_t outer = tensor_span(x, 0, axis);
	const size_t bytes = tensor_span(x, axis + 1, x->rank) * wire_dtype_bytes(x->dtype);
	uint32_t index[TENSOR_BLOCK];

	for (size_t at = 0, block; at < n; at += block) {
		block = clamp_block(op, a->in[1], at, n - at, index);
		for (size_t row = 0; row < rows; row++)
			for (size_t o = 0; o < outer; o++)
				gather_block((uint8_t *)a->out[0] + row * a->out_stride[0] +
						     (o * n + at) * bytes,
					(const uint8_t *)a->in[0] + row * a->in_stride[0] +
						o * x->dims[axis] * bytes,
					index, block, bytes);
	}
}

void gather_rows(const struct tensor_op *op, const struct tensor_args *a, size_t rows)
{
	const size_t n = tensor_elements(&op->in[1]);

	if (!a->in_stride[1]) {
		gather_line(op, a, n, rows);
		return;
	}
	if (!a->in_stride[0] && tensor_span(&op->in[0], 0, (uint32_t)op->i[0]) == 1) {
		gather_line(op, a, rows * n, 1);
		return;
	}
	for (size_t row = 0; row < rows; row++) {
		struct tensor_args one = tensor_row(op, a, row);

		gather_line(op, &one, n, 1);
	}
}

/* `t` walked beside x: equal ranks, no larger than x except along the axis. */
static int check_beside(const struct tensor_op *op, struct error *err)
{
	const struct tensor *x = &op->in[0], *t = &op->in[1];
	int rc = check_axis(op, err);

	if (!rc && t->rank != x->rank)
		rc = tensor_refuse(op, err, "ranks %u and %u", x->rank, t->rank);
	for (uint32_t d = 0; !rc && d < x->rank; d++)
		if (d != op->i[0] && t->dims[d] > x->dims[d])
			rc = tensor_refuse(op, err, "dimension %u: %u indices of %u", d, t->dims[d],
				x->dims[d]);
	return rc;
}

int gather_elements_infer(struct tensor_op *op, struct error *err)
{
	op->out[0] = op->in[1];
	op->out[0].dtype = op->in[0].dtype;
	return check_beside(op, err);
}

/* Element of x that belongs to element e of the indices. */
static size_t beside(const struct tensor_op *op, const struct tensor_args *a, size_t e)
{
	const struct tensor *x = &op->in[0], *t = &op->in[1];
	size_t at = 0, step = 1, rest = e;

	for (uint32_t d = x->rank; d-- > 0; step *= x->dims[d], rest /= t->dims[d]) {
		size_t i = rest % t->dims[d];

		if (d == op->i[0])
			i = tensor_index(t->dtype, a->in[1], e, x->dims[d]);
		at += i * step;
	}
	return at;
}

void gather_elements_run(const struct tensor_op *op, const struct tensor_args *a)
{
	const size_t n = tensor_elements(&op->in[1]), size = wire_dtype_bytes(op->in[0].dtype);
	uint8_t *to = a->out[0];

	for (size_t e = 0; e < n; e++, to += size)
		memcpy(to, (const uint8_t *)a->in[0] + beside(op, a, e) * size, size);
}

/* ---- n-dimensional ---- */

/* Index tuples of `depth` values select slices of `slice` elements of x after `batch` dimensions.
 */
struct tuples {
	size_t n, depth, slice;
	uint32_t batch;
};

static struct tuples tuples_of(const struct tensor *x, const struct tensor *indices, uint32_t batch)
{
	uint32_t depth = indices->dims[indices->rank - 1];

	return (struct tuples){tensor_span(indices, 0, indices->rank - 1), depth,
		tensor_span(x, batch + depth, x->rank), batch};
}

static int check_tuples(const struct tensor_op *op, int64_t batch, struct error *err)
{
	const struct tensor *x = &op->in[0], *t = &op->in[1];
	int rc = check_indices(op, err);

	if (!rc && (batch < 0 || !t->rank || batch >= t->rank || batch >= x->rank ||
			   t->dims[t->rank - 1] > x->rank - batch))
		rc = tensor_refuse(
			op, err, "indices of rank %u, %ld batch dimensions", t->rank, batch);
	for (uint32_t d = 0; !rc && d < batch; d++)
		if (t->dims[d] != x->dims[d])
			rc = tensor_refuse(op, err, "batch dimension %u differs", d);
	return rc;
}

/* First element of the slice tuple e selects. */
static size_t tuple_at(const struct tensor *x, const struct tensor *t, const void *indices,
	const struct tuples *s, size_t e)
{
	size_t at = e / (s->n / tensor_span(x, 0, s->batch));

	for (uint32_t k = 0; k < s->depth; k++) {
		uint32_t size = x->dims[s->batch + k];

		at = at * size + tensor_index(t->dtype, indices, e * s->depth + k, size);
	}
	return at * s->slice;
}

int gather_nd_infer(struct tensor_op *op, struct error *err)
{
	const struct tensor *x = &op->in[0], *t = &op->in[1];
	struct tensor *out = &op->out[0];
	int rc = check_tuples(op, op->i[0], err);
	uint32_t from;

	if (rc)
		return rc;
	from = (uint32_t)op->i[0] + t->dims[t->rank - 1];
	if (t->rank - 1 + x->rank - from > TENSOR_MAX_RANK)
		return tensor_refuse(op, err, "ranks %u and %u", x->rank, t->rank);
	out->dtype = x->dtype;
	for (uint32_t d = 0; d + 1 < t->rank; d++)
		out->dims[out->rank++] = t->dims[d];
	for (uint32_t d = from; d < x->rank; d++)
		out->dims[out->rank++] = x->dims[d];
	return 0;
}

void gather_nd_run(const struct tensor_op *op, const struct tensor_args *a)
{
	const struct tuples s = tuples_of(&op->in[0], &op->in[1], (uint32_t)op->i[0]);
	const size_t size = wire_dtype_bytes(op->in[0].dtype), bytes = s.slice * size;

	for (size_t e = 0; e < s.n; e++)
		memcpy((uint8_t *)a->out[0] + e * bytes,
			(const uint8_t *)a->in[0] +
				tuple_at(&op->in[0], &op->in[1], a->in[1], &s, e) * size,
			bytes);
}

/* ---- scatter ---- */

static int check_updates(const struct tensor_op *op, struct error *err)
{
	if (op->in[2].dtype != op->in[0].dtype)
		return tensor_refuse(op, err, "dtypes %u and %u", op->in[0].dtype, op->in[2].dtype);
	if (op->i[1] < 0 || op->i[1] >= SCATTER_END)
		return tensor_refuse(op, err, "function %ld", op->i[1]);
	return 0;
}

static float scatter_float(int64_t fn, float old, float x)
{
	switch (fn) {
	case SCATTER_ADD:
		return old + x;
	case SCATTER_MUL:
		return old * x;
	case SCATTER_MIN:
		return x < old ? x : old;
	default:
		return x > old ? x : old;
	}
}

static int64_t scatter_integer(int64_t fn, int64_t old, int64_t x)
{
	switch (fn) {
	case SCATTER_ADD:
		return (int64_t)((uint64_t)old + (uint64_t)x);
	case SCATTER_MUL:
		return (int64_t)((uint64_t)old * (uint64_t)x);
	case SCATTER_MIN:
		return x < old ? x : old;
	default:
		return x > old ? x : old;
	}
}

/* n elements of the updates from `from` into the output at `to`. */
static void scatter(
	const struct tensor_op *op, const struct tensor_args *a, size_t to, size_t from, size_t n)
{
	const uint32_t dtype = op->in[0].dtype;
	const size_t size = wire_dtype_bytes(dtype);

	if (op->i[1] == SCATTER_SET) {
		memcpy((uint8_t *)a->out[0] + to * size, (const uint8_t *)a->in[2] + from * size,
			n * size);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		if (tensor_is_float(dtype)) {
			float block[2], y;

			y = scatter_float(op->i[1],
				*tensor_load_f32(dtype, a->out[0], (int64_t)(to + i), 1, 1, block),
				*tensor_load_f32(
					dtype, a->in[2], (int64_t)(from + i), 1, 1, block + 1));
			tensor_store_f32(dtype, a->out[0], (int64_t)(to + i), 1, &y);
		} else {
			int64_t y =
				scatter_integer(op->i[1], tensor_get_i64(dtype, a->out[0], to + i),
					tensor_get_i64(dtype, a->in[2], from + i));

			tensor_store_i64(dtype, a->out[0], (int64_t)(to + i), 1, &y);
		}
	}
}

static void copy_first(const struct tensor_op *op, const struct tensor_args *a)
{
	memcpy(a->out[0], a->in[0],
		tensor_elements(&op->in[0]) * wire_dtype_bytes(op->in[0].dtype));
}

int scatter_elements_infer(struct tensor_op *op, struct error *err)
{
	int rc = check_beside(op, err);

	op->out[0] = op->in[0];
	if (!rc && !tensor_same_shape(&op->in[1], &op->in[2]))
		rc = tensor_refuse(op, err, "indices and updates differ in shape");
	return rc ? rc : check_updates(op, err);
}

void scatter_elements_run(const struct tensor_op *op, const struct tensor_args *a)
{
	const size_t n = tensor_elements(&op->in[1]);

	copy_first(op, a);
	for (size_t e = 0; e < n; e++)
		scatter(op, a, beside(op, a, e), e, 1);
}

int scatter_nd_infer(struct tensor_op *op, struct error *err)
{
	int rc = check_tuples(op, 0, err);
	struct tuples s;

	if (rc)
		return rc;
	s = tuples_of(&op->in[0], &op->in[1], 0);
	op->out[0] = op->in[0];
	if (tensor_elements(&op->in[2]) != s.n * s.slice)
		return tensor_refuse(op, err, "%lu updates, the indices need %zu x %zu",
			tensor_elements(&op->in[2]), s.n, s.slice);
	return check_updates(op, err);
}

void scatter_nd_run(const struct tensor_op *op, const struct tensor_args *a)
{
	const struct tuples s = tuples_of(&op->in[0], &op->in[1], 0);

	copy_first(op, a);
	for (size_t e = 0; e < s.n; e++)
		scatter(op, a, tuple_at(&op->in[0], &op->in[1], a->in[1], &s, e), e * s.slice,
			s.slice);
}
