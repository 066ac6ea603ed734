/* SPDX-License-Identifier: BSD-3-Clause
 * Scalar reference kernels: what every other kernel is tested against.
 */
#include "models/run/conv.h"
#include "models/run/dense.h"

/* Position of weight (k, n) in each layout. */
static size_t at_panels(const struct dense *d, size_t k, size_t n)
{
	return (n / MODEL_FILE_PANEL * d->in + k) * MODEL_FILE_PANEL + n % MODEL_FILE_PANEL;
}

static size_t at_row_major(const struct dense *d, size_t k, size_t n)
{
	return k * d->out + n;
}

static size_t at_columns(const struct dense *d, size_t k, size_t n)
{
	size_t padded = (d->in + MODEL_FILE_PANEL - 1) / MODEL_FILE_PANEL * MODEL_FILE_PANEL;

	return n * padded + k;
}

static void dense(const struct dense *d, size_t (*at)(const struct dense *, size_t, size_t))
{
	const float *w = d->w;

	for (size_t r = 0; r < d->rows; r++) {
		for (size_t n = 0; n < d->out; n++) {
			double sum = d->bias ? (double)d->bias[n] : 0;

			for (size_t k = 0; k < d->in; k++)
				sum += (double)d->x[r * d->in + k] * (double)w[at(d, k, n)];
			d->y[r * d->out + n] = activation_scalar(d->act, (float)sum);
		}
	}
}

static void dense_panels(const struct dense *d)
{
	dense(d, at_panels);
}

static void dense_row_major(const struct dense *d)
{
	dense(d, at_row_major);
}

static void dense_columns(const struct dense *d)
{
	dense(d, at_columns);
}

const struct kernels kernels_scalar = {
	.name = "scalar",
	.dense =
		{
			[MODEL_LAYOUT_PANELS] = dense_panels,
			[MODEL_LAYOUT_ROW_MAJOR] = dense_row_major,
			[MODEL_LAYOUT_COLUMNS] = dense_columns,
			[MODEL_LAYOUT_PANELS_BF16] = dense_scalar_bf16,
			[MODEL_LAYOUT_PANELS_INT8] = dense_scalar_int8,
		},
	.v = &vectors_scalar,
	.conv = &conv_scalar,
};
