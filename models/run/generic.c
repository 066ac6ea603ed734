/* SPDX-License-Identifier: BSD-3-Clause
 * Operators on run-time operands: element by element with broadcasting, and matrix product. These
 * are rare in served models (their weights are static), so they are plain loops for the compiler.
 */
#include "models/run/kernels.h"

static void binary_line(
	uint32_t fn, float *y, const float *a, size_t sa, const float *b, size_t sb, size_t n)
{
	switch (fn) {
	case MODEL_ADD:
		for (size_t i = 0; i < n; i++)
			y[i] = a[i * sa] + b[i * sb];
		break;
	case MODEL_SUB:
		for (size_t i = 0; i < n; i++)
			y[i] = a[i * sa] - b[i * sb];
		break;
	case MODEL_MUL:
		for (size_t i = 0; i < n; i++)
			y[i] = a[i * sa] * b[i * sb];
		break;
	default:
		for (size_t i = 0; i < n; i++)
			y[i] = a[i * sa] / b[i * sb];
		break;
	}
}

/* Step `index` through dims[0..rank), moving both offsets along; false after the last position. */
static bool advance(const struct model_op *op, uint32_t rank, uint32_t *index, size_t offset[2])
{
	for (uint32_t d = rank; d-- > 0;) {
		index[d]++;
		offset[0] += op->stride[0][d];
		offset[1] += op->stride[1][d];
		if (index[d] < op->dims[d])
			return true;
		offset[0] -= (size_t)op->stride[0][d] * index[d];
		offset[1] -= (size_t)op->stride[1][d] * index[d];
		index[d] = 0;
	}
	return false;
}

void binary_run(const struct model_op *op, float *dst, const float *a, const float *b)
{
	uint32_t index[MODEL_FILE_MAX_RANK] = {0}, last = op->rank - 1;
	size_t offset[2] = {0, 0};

	do {
		binary_line(op->function, dst, a + offset[0], op->stride[0][last], b + offset[1],
			op->stride[1][last], op->dims[last]);
		dst += op->dims[last];
	} while (advance(op, last, index, offset));
}

static void matmul_one(const struct model_op *op, float *y, const float *a, const float *b)
{
	size_t m_step = op->transposed & 1 ? 1 : op->k, ak = op->transposed & 1 ? op->m : 1;
	size_t bk = op->transposed & 2 ? 1 : op->n, n_step = op->transposed & 2 ? op->k : 1;

	for (size_t m = 0; m < op->m; m++, y += op->n) {
		for (size_t n = 0; n < op->n; n++)
			y[n] = 0;
		for (size_t k = 0; k < op->k; k++)
			for (size_t n = 0; n < op->n; n++)
				y[n] += a[m * m_step + k * ak] * b[k * bk + n * n_step];
		for (size_t n = 0; n < op->n; n++)
			y[n] *= op->a;
	}
}

void matmul_run(const struct model_op *op, float *dst, const float *a, const float *b)
{
	uint32_t index[MODEL_FILE_MAX_RANK] = {0};
	size_t offset[2] = {0, 0};

	do {
		matmul_one(op, dst, a + offset[0], b + offset[1]);
		dst += (size_t)op->m * op->n;
	} while (advance(op, op->rank, index, offset));
}
