/* SPDX-License-Identifier: BSD-3-Clause
 * Embeddings: rows of tables by index. Of one table and summed or averaged (EMBEDDING), or one a field and each of
 * a table of its own (LOOKUPS). What the next row needs is fetched ahead: tables are larger than caches.
 */
#include <string.h>

#include "base/prefetch.h"
#include "models/run/tensor.h"

enum { AHEAD_BYTES = 256 };

static void fetch(const float *row, size_t width)
{
	size_t bytes = width * sizeof(*row);

	prefetch_lines(row, bytes < AHEAD_BYTES ? bytes : AHEAD_BYTES);
}

/* ---- bags ---- */

int embedding_infer(struct tensor_op *op, struct error *err)
{
	const struct tensor *table = &op->in[0], *indices = &op->in[1];
	struct tensor *out = &op->out[0];

	if (table->dtype != WIRE_F32 || table->rank != 2 || !indices->rank ||
		(indices->dtype != WIRE_I64 && indices->dtype != WIRE_I32))
		return tensor_refuse(op, err, "table of dtype %u, rank %u; indices of dtype %u",
			table->dtype, table->rank, indices->dtype);
	if (op->i[0] != REDUCE_SUM && op->i[0] != REDUCE_MEAN)
		return tensor_refuse(op, err, "function %ld", op->i[0]);
	*out = *indices;
	out->dtype = WIRE_F32;
	out->dims[out->rank - 1] = table->dims[1];
	return 0;
}

static const float *table_row(
	const struct tensor_op *op, const float *table, const void *indices, size_t at)
{
	return table + tensor_index(op->in[1].dtype, indices, at, op->in[0].dims[0]) * op->in[0].dims[1];
}

static void sum_bag(const struct tensor_op *op, const float *table, const void *indices, size_t at,
	float *restrict y)
{
	const size_t n = op->in[1].dims[op->in[1].rank - 1], width = op->in[0].dims[1];
	const float factor = op->i[0] == REDUCE_MEAN ? 1.0f / (float)n : 1;

	memcpy(y, table_row(op, table, indices, at), width * sizeof(*y));
	for (size_t k = 1; k < n; k++) {
		const float *row = table_row(op, table, indices, at + k);

		for (size_t i = 0; i < width; i++)
			y[i] += row[i];
	}
	for (size_t i = 0; factor != 1 && i < width; i++)
		y[i] *= factor;
}

void embedding_rows(const struct tensor_op *op, const struct tensor_args *a, size_t rows)
{
	const size_t n = op->in[1].dims[op->in[1].rank - 1], width = op->in[0].dims[1];
	const size_t bags = tensor_elements(&op->in[1]) / n;

	for (size_t r = 0; r < rows; r++) {
		const float *table =
			(const float *)((const uint8_t *)a->in[0] + r * a->in_stride[0]);
		const uint8_t *indices = (const uint8_t *)a->in[1] + r * a->in_stride[1];
		float *y = (float *)((uint8_t *)a->out[0] + r * a->out_stride[0]);

		for (size_t k = 0; r + 1 < rows && k < n; k++) /* the next row's first bag */
			fetch(table_row(op, table, indices + a->in_stride[1], k), width);
		for (size_t b = 0; b < bags; b++)
			sum_bag(op, table, indices, b * n, y + b * width);
	}
}

/* ---- one a field ---- */

struct field {
	int64_t index, first, rows;
};

int lookups_infer(struct tensor_op *op, struct error *err)
{
	const struct tensor *table = &op->in[0], *indices = &op->in[1], *fields = &op->in[2];

	if (table->dtype != WIRE_F32 || table->rank != 2 || (indices->dtype != WIRE_I64 && indices->dtype != WIRE_I32))
		return tensor_refuse(op, err, "table of dtype %u, rank %u; indices of dtype %u", table->dtype, table->rank,
			indices->dtype);
	if (fields->dtype != WIRE_I64 || fields->rank != 2 || fields->dims[1] != 3)
		return tensor_refuse(op, err, "fields of dtype %u, rank %u", fields->dtype, fields->rank);
	op->out[0] = (struct tensor){.dtype = WIRE_F32, .rank = 3, .dims = {1, fields->dims[0], table->dims[1]}};
	if (op->i[0] == 1)
		op->out[0] = (struct tensor){.dtype = WIRE_F32, .rank = 2, .dims = {1, fields->dims[0] * table->dims[1]}};
	return 0;
}

int lookups_check(const struct tensor_op *op, const void *const *in, struct error *err)
{
	const int64_t indices = (int64_t)tensor_elements(&op->in[1]), rows = op->in[0].dims[0];
	const struct field *f = in[2];

	if (!f)
		return tensor_refuse(op, err, "its fields are not constant");
	for (uint32_t k = 0; k < op->in[2].dims[0]; k++)
		if (f[k].index < 0 || f[k].index >= indices || f[k].first < 0 || f[k].first >= rows || f[k].rows < 1 ||
			f[k].rows > rows - f[k].first)
			return tensor_refuse(op, err, "field %u is index %ld of %ld, rows %ld and %ld more of %ld", k, f[k].index,
				indices, f[k].first, f[k].rows, rows);
	return 0;
}

static const float *field_row(const struct tensor_op *op, const float *table, const void *indices, const struct field *f)
{
	return table + ((size_t)f->first + tensor_index(op->in[1].dtype, indices, (size_t)f->index, (uint32_t)f->rows)) * op->in[0].dims[1];
}

void lookups_rows(const struct tensor_op *op, const struct tensor_args *a, size_t rows)
{
	const size_t n = op->in[2].dims[0], width = op->in[0].dims[1];
	const struct field *fields = a->in[2];

	for (size_t r = 0; r < rows; r++) {
		const float *table = (const float *)((const uint8_t *)a->in[0] + r * a->in_stride[0]);
		const uint8_t *indices = (const uint8_t *)a->in[1] + r * a->in_stride[1];
		float *y = (float *)((uint8_t *)a->out[0] + r * a->out_stride[0]);

		for (size_t k = 0; r + 1 < rows && k < n; k++)
			fetch(field_row(op, table, indices + a->in_stride[1], &fields[k]), width);
		for (size_t k = 0; k < n; k++)
			memcpy(y + k * width, field_row(op, table, indices, &fields[k]), width * sizeof(*y));
	}
}
