/* SPDX-License-Identifier: BSD-3-Clause
 * Convolution and pooling with channels last, the reference: double sums in the plainest order.
 */
#include <math.h>
#include <stdbool.h>

#include "models/run/conv.h"

enum { PANEL = MODEL_FILE_PANEL };

/* Floats of a window, and where float i of it lies. */
static size_t window_floats(const struct window_shape *w)
{
	return w->count[0] * w->count[1] * w->count[2] * w->run;
}

static size_t window_at(const struct window_shape *w, size_t i)
{
	size_t segment = i / w->run;

	return segment / w->count[2] / w->count[1] * w->step[0] +
	       segment / w->count[2] % w->count[1] * w->step[1] +
	       segment % w->count[2] * w->step[2] + i % w->run;
}

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
	const size_t depth = window_floats(&b->window);

	for (size_t p = 0; p < b->pixels; p++)
		for (size_t o = 0; o < b->out; o++) {
			const float *w = b->w + o / PANEL * depth * PANEL + o % PANEL;
			double sum = 0;

			for (size_t i = 0; i < depth; i++)
				sum += (double)b->x[b->at[p] + window_at(&b->window, i)] *
				       (double)w[i * PANEL];
			store(b, p, o, sum);
		}
}

static void depthwise(const struct conv_block *b)
{
	const size_t padded = (b->out + PANEL - 1) / PANEL * PANEL;
	const size_t taps = window_floats(&b->window) / b->window.run;

	for (size_t p = 0; p < b->pixels; p++)
		for (size_t c = 0; c < b->out; c++) {
			double sum = 0;

			for (size_t t = 0; t < taps; t++)
				sum += (double)b->x[b->at[p] +
						    window_at(&b->window, t * b->window.run) + c] *
				       (double)b->w[t * padded + c];
			store(b, p, c, sum);
		}
}

static void pool(const struct pool_block *b)
{
	const size_t taps = window_floats(&b->window) / b->window.run;

	for (size_t p = 0; p < b->pixels; p++)
		for (size_t c = 0; c < b->channels; c++) {
			const float *x = b->x + p * b->x_step + c;
			float top = -INFINITY;
			double sum = 0;

			for (size_t t = 0; t < taps; t++) {
				float v = x[window_at(&b->window, t * b->window.run)];

				sum += (double)v;
				top = v > top || isnan(v) ? v : top;
			}
			b->y[p * b->channels + c] =
				b->average ? (float)(sum * (double)b->scale) : top;
		}
}

const struct conv_kernels conv_scalar = {dense, depthwise, pool};
