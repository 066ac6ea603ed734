/* SPDX-License-Identifier: BSD-3-Clause
 * TopK along one axis. Long lines of floats first lose what cannot be among the best: the line is
 * cut into at least 2 k groups, and of the groups' best elements a bound is found that k of them
 * reach; what does not reach it is not looked at again. Equal elements stay in index order.
 */
#include <math.h>
#include <string.h>

#include "models/run/tensor.h"
#include "models/run/topk.h"

/* GROUP_MAX: with larger groups the bound lets too many pass. HALVINGS: the bound's precision. */
enum { GROUP_MAX = 16, HALVINGS = 9, LINE_MIN = 64 };

/* Elements of a group; 0: every element is inserted. */
static size_t group_size(const struct tensor_op *op)
{
	const struct tensor *x = &op->in[0];
	const size_t n = x->dims[op->i[0]], k = (size_t)op->i[1];
	size_t size = n / (2 * k);

	if (x->dtype != WIRE_F32 || (uint32_t)op->i[0] != x->rank - 1 || n < LINE_MIN || size < 2)
		return 0;
	return size < GROUP_MAX ? size : GROUP_MAX;
}

int topk_infer(struct tensor_op *op, struct error *err)
{
	const struct tensor *x = &op->in[0];
	size_t size;

	if (!tensor_axis(op->i[0], x->rank) || op->i[1] < 1 || op->i[1] > x->dims[op->i[0]])
		return tensor_refuse(op, err, "axis %ld, k %ld", op->i[0], op->i[1]);
	op->out[0] = *x;
	op->out[0].dims[op->i[0]] = (uint32_t)op->i[1];
	op->out[1] = op->out[0];
	op->out[1].dtype = WIRE_I64;
	if (op->n_out != 2)
		return tensor_refuse(op, err, "%u outputs", op->n_out);
	size = group_size(op);
	if (size) /* the groups' best, then the numbers of the candidates */
		op->scratch_bytes = (x->dims[op->i[0]] / size + x->dims[op->i[0]]) * sizeof(float);
	return 0;
}

/* ---- any dtype, any axis: each element is inserted ---- */

/* Does element b of x come before element a? Equal ones stay in index order. */
static bool before(const struct tensor_op *op, const void *x, size_t b, size_t a)
{
	uint32_t dtype = op->in[0].dtype;
	float block[2];

	if (!tensor_is_float(dtype)) {
		int64_t vb = tensor_get_i64(dtype, x, b), va = tensor_get_i64(dtype, x, a);

		return op->i[2] ? vb > va : vb < va;
	}
	float vb = *tensor_load_f32(dtype, x, (int64_t)b, 1, 1, block);
	float va = *tensor_load_f32(dtype, x, (int64_t)a, 1, 1, block + 1);

	return op->i[2] ? vb > va : vb < va;
}

/* One line: the k best so far stand sorted in the index output. */
static void topk_line(const struct tensor_op *op, const struct tensor_args *a, size_t base,
	size_t to, size_t inner)
{
	const size_t n = op->in[0].dims[op->i[0]], k = (size_t)op->i[1];
	const size_t size = wire_dtype_bytes(op->in[0].dtype);
	int64_t *best = a->out[1];
	size_t have = 0;

	for (size_t i = 0; i < n; i++) {
		size_t place = have < k ? have++ : k;

		while (place > 0 &&
			before(op, a->in[0], base + i * inner,
				base + (size_t)best[to + (place - 1) * inner] * inner)) {
			if (place < k)
				best[to + place * inner] = best[to + (place - 1) * inner];
			place--;
		}
		if (place < k)
			best[to + place * inner] = (int64_t)i;
	}
	for (size_t i = 0; i < k; i++)
		memcpy((uint8_t *)a->out[0] + (to + i * inner) * size,
			(const uint8_t *)a->in[0] +
				(base + (size_t)best[to + i * inner] * inner) * size,
			size);
}

/* ---- long lines of floats ---- */

/* best[j] = the largest of x[j], x[j + groups], ...: group j. NaN is never the largest. */
static void best_of_groups(const struct topk_line *l, float sign)
{
	const size_t groups = l->n / l->group;

	for (size_t j = 0; j < groups; j++) {
		l->best[j] = -INFINITY;
		for (size_t i = 0; i < l->group; i++) {
			float v = sign * l->x[i * groups + j];

			l->best[j] = v > l->best[j] ? v : l->best[j];
		}
	}
}

static size_t reach(const float *values, size_t n, float bound)
{
	size_t count = 0;

	for (size_t i = 0; i < n; i++)
		count += values[i] >= bound;
	return count;
}

/* By halving, between the smallest, which all reach, and the largest. */
float topk_bound(const float *values, size_t n, size_t k,
	size_t (*reaching)(const float *values, size_t n, float bound))
{
	float low = values[0], high = values[0];

	for (size_t i = 1; i < n; i++) {
		low = values[i] < low ? values[i] : low;
		high = values[i] > high ? values[i] : high;
	}
	for (int step = 0; step < HALVINGS; step++) {
		float middle = low / 2 + high / 2;

		if (reaching(values, n, middle) >= k)
			low = middle;
		else
			high = middle;
	}
	return low;
}

size_t topk_candidates(const struct topk_line *l)
{
	const float sign = l->largest ? 1 : -1;
	size_t found = 0;
	float bound;

	best_of_groups(l, sign);
	bound = topk_bound(l->best, l->n / l->group, l->k, reach);
	for (size_t i = 0; i < l->n; i++)
		if (sign * l->x[i] >= bound)
			l->at[found++] = (uint32_t)i;
	return found;
}

/* The k best candidates, sorted, into y and best. */
static void insert_candidates(const struct topk_line *l, size_t found, float *y, int64_t *best)
{
	const float sign = l->largest ? 1 : -1;
	size_t have = 0;

	for (size_t c = 0; c < found; c++) {
		const float v = sign * l->x[l->at[c]];
		size_t place;

		if (have == l->k && v <= sign * y[l->k - 1])
			continue;
		place = have < l->k ? have++ : l->k - 1;
		for (; place > 0 && v > sign * y[place - 1]; place--) {
			y[place] = y[place - 1];
			best[place] = best[place - 1];
		}
		y[place] = l->x[l->at[c]];
		best[place] = l->at[c];
	}
}

/* False if NaN leaves fewer than k candidates. */
static bool topk_long(
	const struct tensor_op *op, const struct tensor_args *a, size_t base, size_t to)
{
	struct topk_line l = {.x = (const float *)a->in[0] + base,
		.n = op->in[0].dims[op->i[0]],
		.k = (size_t)op->i[1],
		.group = group_size(op),
		.largest = op->i[2],
		.best = a->scratch};
	size_t found;

	l.at = (uint32_t *)(l.best + l.n / l.group);
	if (a->kernels == &kernels_scalar || kernels_native() == &kernels_scalar)
		found = topk_candidates(&l);
	else
		found = topk_candidates_avx2(&l);
	if (found < l.k)
		return false;
	insert_candidates(&l, found, (float *)a->out[0] + to, (int64_t *)a->out[1] + to);
	return true;
}

void topk_run(const struct tensor_op *op, const struct tensor_args *a)
{
	const uint32_t axis = (uint32_t)op->i[0];
	const size_t outer = tensor_span(&op->in[0], 0, axis), n = op->in[0].dims[axis];
	const size_t inner = tensor_span(&op->in[0], axis + 1, op->in[0].rank);
	const size_t k = (size_t)op->i[1];

	for (size_t o = 0; o < outer; o++)
		for (size_t i = 0; i < inner; i++)
			if (!group_size(op) || !topk_long(op, a, o * n, o * k))
				topk_line(op, a, o * n * inner + i, o * k * inner + i, inner);
}
