/* SPDX-License-Identifier: BSD-3-Clause
 * Dense layers by OpenBLAS on the calling core: sgemm, and sgemv for one row (0.3.21 does not turn
 * a one-row sgemm into sgemv itself). Row-major layers are one call; panels and columns, which
 * OpenBLAS was not chosen for, still work with one call per panel.
 */
#include <cblas.h>
#include <string.h>

#include "models/run/kernels.h"

static void bias_fill(const struct dense *d)
{
	for (size_t r = 0; r < d->rows; r++) {
		if (d->bias)
			memcpy(d->y + r * d->out, d->bias, d->out * sizeof(float));
		else
			memset(d->y + r * d->out, 0, d->out * sizeof(float));
	}
}

static void activate(const struct dense *d)
{
	if (d->act.kind != MODEL_ACT_NONE)
		kernels_native()->v->unary(d->act, d->y, d->y, d->rows * d->out);
}

/* y[rows][n columns of `out`] += x . w, where w is [k][ld], or [n][ld] when transposed. */
static void multiply(
	const struct dense *d, const float *w, size_t ld, bool transposed, float *y, size_t n)
{
	blasint in = (blasint)d->in, out = (blasint)d->out, cols = (blasint)n;

	if (d->rows == 1 && !transposed)
		cblas_sgemv(
			CblasRowMajor, CblasTrans, in, cols, 1, w, (blasint)ld, d->x, 1, 1, y, 1);
	else if (d->rows == 1)
		cblas_sgemv(
			CblasRowMajor, CblasNoTrans, cols, in, 1, w, (blasint)ld, d->x, 1, 1, y, 1);
	else
		cblas_sgemm(CblasRowMajor, CblasNoTrans, transposed ? CblasTrans : CblasNoTrans,
			(blasint)d->rows, cols, in, 1, d->x, in, w, (blasint)ld, 1, y, out);
}

static void dense_row_major(const struct dense *d)
{
	bias_fill(d);
	multiply(d, d->w, d->out, false, d->y, d->out);
	activate(d);
}

static void dense_panels(const struct dense *d)
{
	const float *w = d->w;

	bias_fill(d);
	for (size_t n = 0; n < d->out; n += MODEL_FILE_PANEL, w += d->in * MODEL_FILE_PANEL) {
		size_t left = d->out - n;

		multiply(d, w, MODEL_FILE_PANEL, false, d->y + n,
			left < MODEL_FILE_PANEL ? left : MODEL_FILE_PANEL);
	}
	activate(d);
}

static void dense_columns(const struct dense *d)
{
	size_t padded = (d->in + MODEL_FILE_PANEL - 1) / MODEL_FILE_PANEL * MODEL_FILE_PANEL;

	bias_fill(d);
	multiply(d, d->w, padded, true, d->y, d->out);
	activate(d);
}

static struct kernels openblas = {
	.name = "openblas",
	.dense =
		{
			[MODEL_LAYOUT_PANELS] = dense_panels,
			[MODEL_LAYOUT_ROW_MAJOR] = dense_row_major,
			[MODEL_LAYOUT_COLUMNS] = dense_columns,
		},
};

const struct kernels *kernels_openblas(void)
{
	/* Its own threads would leave the pinned core and spin on others. Environment first (see
	 * models/README.md); this is the belt to those braces. */
	if (openblas_get_num_threads() != 1)
		openblas_set_num_threads(1);
	openblas.v = kernels_native()->v; /* the same in every thread: a benign race */
	return &openblas;
}
