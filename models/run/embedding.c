/* SPDX-License-Identifier: BSD-3-Clause
 * Embedding bags: rows of a table by index, summed or averaged. The rows of the next bag are
 * fetched while one is summed: tables are larger than caches.
 */
#include <string.h>

#include "base/prefetch.h"
#include "models/run/tensor.h"

enum { AHEAD_BYTES = 256 };

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

/* A negative index counts from the end; whatever is outside is clamped. */
static const float *table_row(
	const struct tensor_op *op, const float *table, const void *indices, size_t at)
{
	const int64_t size = op->in[0].dims[0];
	int64_t i = op->in[1].dtype == WIRE_I64 ? ((const int64_t *)indices)[at]
						: ((const int32_t *)indices)[at];

	i = i < 0 ? i + size : i;
	i = i < 0 ? 0 : i >= size ? size - 1 : i;
	return table + (size_t)i * op->in[0].dims[1];
}

static void fetch(const float *row, size_t width)
{
	size_t bytes = width * sizeof(*row);

	prefetch_lines(row, bytes < AHEAD_BYTES ? bytes : AHEAD_BYTES);
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
