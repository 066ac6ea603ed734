/* SPDX-License-Identifier: BSD-3-Clause
 * Convolution and pooling with channels last, the reference: double sums in the plainest order.
 */
#include <math.h>

#include "models/run/conv.h"

enum { PANEL = MODEL_FILE_PANEL };

static void store(const struct conv_block *b, size_t pixel, size_t channel, double sum)
{
	size_t place = pixel * b->y_step + channel;
	float v = (float)(sum + (b->bias ? (double)b->bias[channel] : 0) +
			  (b->add ? (double)b->add[place] : 0));

	v = v < b->low ? b->low : v;
	b->y[place] = v > b->high ? b->high : v;
}

static void dense(const struct conv_block *b)
{
	const size_t depth = b->segments * b->run;

	for (size_t p = 0; p < b->pixels; p++)
		for (size_t o = 0; o < b->out; o++) {
			const float *x = b->x + b->at[p];
			const float *w = b->w + o / PANEL * depth * PANEL + o % PANEL;
			double sum = 0;

			for (size_t i = 0; i < depth; i++)
				sum += (double)x[b->segment[i / b->run] + i % b->run] *
				       (double)w[i * PANEL];
			store(b, p, o, sum);
		}
}

static void depthwise(const struct conv_block *b)
{
	const size_t padded = (b->out + PANEL - 1) / PANEL * PANEL;

	for (size_t p = 0; p < b->pixels; p++)
		for (size_t c = 0; c < b->out; c++) {
			double sum = 0;

			for (size_t s = 0; s < b->segments; s++)
				sum += (double)b->x[b->at[p] + b->segment[s] + c] *
				       (double)b->w[s * padded + c];
			store(b, p, c, sum);
		}
}

static float pool_window(const struct pool_block *b, const float *x)
{
	float top = -INFINITY;
	double sum = 0;

	for (size_t s = 0; s < b->segments; s++) {
		float v = x[b->segment[s]];

		sum += (double)v;
		top = v > top || isnan(v) ? v : top;
	}
	return b->average ? (float)(sum * (double)b->scale) : top;
}

static void pool(const struct pool_block *b)
{
	for (size_t p = 0; p < b->n[0] * b->n[1] * b->n[2]; p++) {
		size_t i = p / b->n[2] / b->n[1], j = p / b->n[2] % b->n[1], k = p % b->n[2];
		const float *x = b->x + i * b->x_step[0] + j * b->x_step[1] + k * b->x_step[2];
		float *y = b->y + i * b->y_step[0] + j * b->y_step[1] + k * b->y_step[2];

		for (size_t c = 0; c < b->channels; c++)
			y[c] = pool_window(b, x + c);
	}
}

const struct conv_kernels conv_scalar = {dense, depthwise, pool};
