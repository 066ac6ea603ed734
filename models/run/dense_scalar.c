/* SPDX-License-Identifier: BSD-3-Clause
 * Reduced dense layers, the reference: sizes, conversions of rows and weights, and plain loops.
 */
#include <math.h>
#include <string.h>

#include "models/run/dense.h"
#include "models/run/tensor.h"

bool dense_weight_bytes(uint32_t layout, uint64_t in, uint64_t out, uint64_t *bytes)
{
	const uint64_t panel = MODEL_FILE_PANEL;
	uint64_t columns, tables = 0;

	if (in > UINT32_MAX || out > UINT32_MAX)
		return false;
	if (layout == MODEL_LAYOUT_PANELS_INT8 && in > DENSE_INT8_MAX_IN)
		return false;
	columns = layout == MODEL_LAYOUT_ROW_MAJOR || layout == MODEL_LAYOUT_COLUMNS
			  ? out
			  : (out + panel - 1) / panel * panel;
	if (layout == MODEL_LAYOUT_COLUMNS)
		in = (in + panel - 1) / panel * panel;
	if (layout == MODEL_LAYOUT_PANELS_INT8)
		tables = columns * (sizeof(float) + sizeof(int32_t));
	return !__builtin_mul_overflow(dense_steps(layout, in), columns, bytes) &&
	       !__builtin_mul_overflow(*bytes, sizeof(float), bytes) &&
	       !__builtin_add_overflow(*bytes, tables, bytes);
}

uint64_t dense_scratch_bytes(uint32_t layout, uint64_t in)
{
	uint64_t behind = DENSE_BLOCK_ROWS * sizeof(struct dense_row);

	if (layout != MODEL_LAYOUT_PANELS_BF16 && layout != MODEL_LAYOUT_PANELS_INT8)
		return 0;
	if (layout == MODEL_LAYOUT_PANELS_BF16)
		behind = 2 * dense_steps(layout, in) * DENSE_STEP_BYTES;
	return DENSE_BLOCK_ROWS * dense_row_bytes(layout, in) + behind;
}

/* ---- bfloat16 ---- */

static float bf16_value(uint16_t half)
{
	uint32_t bits = (uint32_t)half << 16;
	float x;

	memcpy(&x, &bits, sizeof(x));
	return x;
}

static float bf16_weight(const struct dense *d, size_t k, size_t n)
{
	const uint16_t *w = d->w;
	size_t pair =
		(n / MODEL_FILE_PANEL * dense_steps(MODEL_LAYOUT_PANELS_BF16, d->in) + k / 2) *
			MODEL_FILE_PANEL +
		n % MODEL_FILE_PANEL;

	return bf16_value(w[2 * pair + k % 2]);
}

void dense_scalar_bf16(const struct dense *d)
{
	for (size_t r = 0; r < d->rows; r++)
		for (size_t n = 0; n < d->out; n++) {
			double sum = d->bias ? (double)d->bias[n] : 0;

			for (size_t k = 0; k < d->in; k++)
				sum += (double)bf16_value(float_to_bfloat(d->x[r * d->in + k])) *
				       (double)bf16_weight(d, k, n);
			d->y[r * d->out + n] = activation_scalar(d->act, (float)sum);
		}
}

/* ---- int8 ---- */

struct dense_row dense_row_from(float low, float high)
{
	float range = high - low;
	struct dense_row q = {.scale = 1};

	if (!(range <= 3.0e38f)) /* NaN, infinite, or about to be */
		q.scale = NAN;
	else if (range > 1.0e-35f) { /* below, the inverse would not be a float: all is 0 */
		q.scale = range / 255;
		q.inverse = 255 / range;
		q.zero = (int32_t)lrintf(-low * q.inverse);
	}
	return q;
}

static struct dense_row row_range(const struct dense *d, const float *x)
{
	float low = 0, high = 0;

	for (size_t k = 0; k < d->in; k++) {
		if (isnan(x[k]))
			return dense_row_from(NAN, NAN);
		low = x[k] < low ? x[k] : low;
		high = x[k] > high ? x[k] : high;
	}
	if (d->high > d->low)
		return dense_row_from(d->low, d->high);
	return dense_row_from(low, high);
}

static int32_t quantised(float x, const struct dense_row *q)
{
	float v = x * q->inverse;
	int32_t rounded;

	v = v < -512 ? -512 : v;
	v = v > 512 ? 512 : v;
	rounded = isnan(v) ? 0 : (int32_t)lrintf(v) + q->zero;
	return rounded < 0 ? 0 : rounded > 255 ? 255 : rounded;
}

static int32_t int8_weight(const struct dense *d, size_t k, size_t n)
{
	const int8_t *w = d->w;
	size_t quad =
		(n / MODEL_FILE_PANEL * dense_steps(MODEL_LAYOUT_PANELS_INT8, d->in) + k / 4) *
			MODEL_FILE_PANEL +
		n % MODEL_FILE_PANEL;

	return w[4 * quad + k % 4];
}

/* Sums modulo 2^32, as vector registers have them: an honest artifact's never get that far. */
void dense_scalar_int8(const struct dense *d)
{
	const float *scales = dense_scales(d);
	const int32_t *sums = dense_sums(d);

	for (size_t r = 0; r < d->rows; r++) {
		const float *x = d->x + r * d->in;
		struct dense_row q = row_range(d, x);

		for (size_t n = 0; n < d->out; n++) {
			uint32_t sum = (uint32_t)sums[n] * (uint32_t)-q.zero;
			float y;

			for (size_t k = 0; k < d->in; k++)
				sum += (uint32_t)(quantised(x[k], &q) * int8_weight(d, k, n));
			y = (float)(int32_t)sum * (q.scale * scales[n]);
			y = d->bias ? y + d->bias[n] : y;
			d->y[r * d->out + n] = activation_scalar(d->act, y);
		}
	}
}
