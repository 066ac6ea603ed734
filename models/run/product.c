/* SPDX-License-Identifier: BSD-3-Clause
 * Products of run-time tensors: numpy.matmul by packing the right side into the panels the dense
 * kernels read, and Einsum as a walk over all labels.
 */
#include <string.h>

#include "models/run/tensor.h"

enum { PANEL = MODEL_FILE_PANEL };

/* ---- matmul ---- */

static struct tensor outer_of(const struct tensor *t)
{
	struct tensor o = *t;

	o.rank -= 2;
	return o;
}

int matmul_infer(struct tensor_op *op, struct error *err)
{
	const struct tensor *a = &op->in[0], *b = &op->in[1];
	struct tensor outer[2], *out = &op->out[0];

	if (a->dtype != b->dtype ||
		(a->dtype != WIRE_F32 && a->dtype != WIRE_I32 && a->dtype != WIRE_I64))
		return tensor_refuse(op, err, "dtypes %u and %u", a->dtype, b->dtype);
	if (a->rank < 2 || b->rank < 2 || a->dims[a->rank - 1] != b->dims[b->rank - 2])
		return tensor_refuse(op, err, "the shapes do not multiply");
	outer[0] = outer_of(a);
	outer[1] = outer_of(b);
	if (!tensor_broadcast(outer, 2, out))
		return tensor_refuse(op, err, "the outer dimensions do not broadcast");
	out->dims[out->rank++] = a->dims[a->rank - 2];
	out->dims[out->rank++] = b->dims[b->rank - 1];
	out->dtype = a->dtype;
	op->scratch_bytes = ((uint64_t)b->dims[b->rank - 1] + PANEL - 1) / PANEL * PANEL *
			    sizeof(float) * b->dims[b->rank - 2];
	return 0;
}

/* b[k][n] into [n/16][k][16 columns], zero-padded. */
static void pack_panels(float *to, const float *b, size_t k, size_t n)
{
	for (size_t p = 0; p < n; p += PANEL) {
		size_t width = n - p < PANEL ? n - p : PANEL;

		for (size_t r = 0; r < k; r++, to += PANEL) {
			memcpy(to, b + r * n + p, width * sizeof(float));
			memset(to + width, 0, (PANEL - width) * sizeof(float));
		}
	}
}

static void integer_product(uint32_t dtype, void *y, const void *a, const void *b,
	const size_t at[3], const size_t mkn[3])
{
	for (size_t m = 0; m < mkn[0]; m++)
		for (size_t n = 0; n < mkn[2]; n++) {
			uint64_t sum = 0;
			int64_t v;

			for (size_t k = 0; k < mkn[1]; k++)
				sum += (uint64_t)tensor_get_i64(dtype, a, at[0] + m * mkn[1] + k) *
				       (uint64_t)tensor_get_i64(dtype, b, at[1] + k * mkn[2] + n);
			v = (int64_t)sum;
			tensor_store_i64(dtype, y, (int64_t)(at[2] + m * mkn[2] + n), 1, &v);
		}
}

/* Few rows, or a right side that stays in L1, are not worth packing. */
static bool is_small(const size_t mkn[3])
{
	return mkn[0] < 8 || mkn[1] * mkn[2] <= 4096;
}

static void one_product(const struct tensor_op *op, const struct tensor_args *a, const size_t at[3],
	const size_t mkn[3], bool repack)
{
	const float *x = (const float *)a->in[0] + at[0], *w = (const float *)a->in[1] + at[1];
	struct dense d = {
		.x = x,
		.w = a->scratch,
		.y = (float *)a->out[0] + at[2],
		.rows = mkn[0],
		.in = mkn[1],
		.out = mkn[2],
	};

	if (op->out[0].dtype != WIRE_F32) {
		integer_product(op->out[0].dtype, a->out[0], a->in[0], a->in[1], at, mkn);
		return;
	}
	if (is_small(mkn)) {
		a->kernels->v->product(&(struct product){.a = x, .b = w, .c = d.y, .m = mkn[0],
			.k = mkn[1], .n = mkn[2], .a_stride = mkn[1], .b_stride = mkn[2],
			.c_stride = mkn[2], .alpha = 1});
		return;
	}
	if (repack)
		pack_panels(a->scratch, w, mkn[1], mkn[2]);
	a->kernels->dense[MODEL_LAYOUT_PANELS](&d);
}

static void matmul_row(const struct tensor_op *op, const struct tensor_args *a, struct walk w)
{
	const struct tensor *x = &op->in[0], *y = &op->in[1];
	const size_t mkn[3] = {x->dims[x->rank - 2], x->dims[x->rank - 1], y->dims[y->rank - 1]};
	size_t to = 0, packed = SIZE_MAX;

	do {
		for (uint32_t i = 0; i < w.dims[w.rank - 1]; i++) {
			int64_t pa = w.at[0] + i * w.stride[0][w.rank - 1];
			int64_t pb = w.at[1] + i * w.stride[1][w.rank - 1];
			size_t at[3] = {
				(size_t)pa * mkn[0] * mkn[1], (size_t)pb * mkn[1] * mkn[2], to};

			one_product(op, a, at, mkn, packed != at[1]);
			packed = at[1];
			to += mkn[0] * mkn[2];
		}
	} while (walk_next(&w));
}

void matmul_rows(const struct tensor_op *op, const struct tensor_args *a, size_t rows)
{
	struct tensor outer[2] = {outer_of(&op->in[0]), outer_of(&op->in[1])};
	struct tensor out = outer_of(&op->out[0]);
	struct walk w;

	walk_broadcast(&w, &out, outer, 2);
	for (size_t row = 0; row < rows; row++) {
		struct tensor_args one = tensor_row(op, a, row);

		matmul_row(op, &one, w);
	}
}

/* ---- einsum ---- */

enum { EINSUM_LABELS = 8 };

/* Every label has one size; the output's labels are distinct and occur in the inputs. */
static int einsum_labels(struct tensor_op *op, uint32_t *size, struct error *err)
{
	for (uint32_t k = 0; k < op->n_in; k++)
		for (uint32_t d = 0; d < op->in[k].rank; d++) {
			int64_t l = op->i[10 + 8 * k + d];

			if (l < 0 || l >= op->i[0])
				return tensor_refuse(op, err, "label %ld", l);
			if (size[l] && size[l] != op->in[k].dims[d])
				return tensor_refuse(op, err, "label %ld is %u and %u", l, size[l],
					op->in[k].dims[d]);
			size[l] = op->in[k].dims[d];
		}
	for (int64_t l = 0; l < op->i[0]; l++)
		if (!size[l])
			return tensor_refuse(op, err, "label %ld is in no input", l);
	return 0;
}

int einsum_infer(struct tensor_op *op, struct error *err)
{
	uint32_t size[EINSUM_LABELS] = {0}, seen = 0;
	int rc;

	if (op->i[0] < 1 || op->i[0] > EINSUM_LABELS || op->i[1] < 0 || op->i[1] > op->i[0])
		return tensor_refuse(op, err, "%ld labels, output rank %ld", op->i[0], op->i[1]);
	for (uint32_t k = 0; k < op->n_in; k++)
		if (op->in[k].dtype != WIRE_F32)
			return tensor_refuse(op, err, "dtype %u", op->in[k].dtype);
	rc = einsum_labels(op, size, err);
	if (rc)
		return rc;
	op->out[0].dtype = WIRE_F32;
	op->out[0].rank = (uint32_t)op->i[1];
	for (uint32_t d = 0; d < op->out[0].rank; d++) {
		int64_t l = op->i[2 + d];

		if (l < 0 || l >= op->i[0] || seen >> l & 1)
			return tensor_refuse(op, err, "output label %ld", l);
		seen |= 1u << l;
		op->out[0].dims[d] = size[l];
	}
	return 0;
}

/* The walk's dimensions are the labels: those of the output first, the summed ones after. */
static void einsum_walk(const struct tensor_op *op, struct walk *w)
{
	uint32_t place[EINSUM_LABELS], seen = 0;

	*w = (struct walk){.n = op->n_in};
	for (uint32_t d = 0; d < op->i[1]; d++) {
		place[op->i[2 + d]] = w->rank++;
		seen |= 1u << op->i[2 + d];
	}
	for (uint32_t l = 0; l < op->i[0]; l++)
		if (!(seen >> l & 1))
			place[l] = w->rank++;
	for (uint32_t k = 0; k < op->n_in; k++)
		for (uint32_t d = 0; d < op->in[k].rank; d++) {
			uint32_t to = place[op->i[10 + 8 * k + d]];

			w->dims[to] = op->in[k].dims[d];
			w->stride[k][to] += (int64_t)tensor_span(&op->in[k], d + 1, op->in[k].rank);
		}
}

void einsum_run(const struct tensor_op *op, const struct tensor_args *a)
{
	float *y = a->out[0];
	struct walk w;
	size_t per_output, done = 0;
	double sum = 0;

	einsum_walk(op, &w);
	per_output = 1;
	for (uint32_t d = (uint32_t)op->i[1]; d < w.rank; d++)
		per_output *= w.dims[d];
	do {
		for (uint32_t i = 0; i < w.dims[w.rank - 1]; i++) {
			double product = 1;

			for (uint32_t k = 0; k < op->n_in; k++)
				product *= (double)((const float
						*)a->in[k])[w.at[k] + i * w.stride[k][w.rank - 1]];
			sum += product;
			if (++done % per_output == 0) {
				*y++ = (float)sum;
				sum = 0;
			}
		}
	} while (walk_next(&w));
}
