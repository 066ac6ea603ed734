/* SPDX-License-Identifier: BSD-3-Clause
 * Max and average pooling with channels last: vectors of channels, a line of output pixels whose
 * windows have the same shape at a time.
 */
#include <math.h>

#include "models/run/conv.h"
#include "models/run/window.h"

static void kernel_of(const struct tensor_op *op, uint32_t *kernel)
{
	for (uint32_t a = 0; a < SPATIAL; a++)
		kernel[a] = a + 2 < op->in[0].rank ? (uint32_t)op->i[13 + a] : 0;
}

int pool_last_infer(struct tensor_op *op, struct error *err)
{
	const struct tensor *x = &op->in[0];
	uint32_t kernel[SPATIAL];

	if (x->dtype != WIRE_F32 || x->rank < 3 || x->rank > 2 + SPATIAL || op->n_out != 1)
		return tensor_refuse(
			op, err, "dtype %u, rank %u, %u outputs", x->dtype, x->rank, op->n_out);
	if (op->i[0] != POOL_MAX && op->i[0] != POOL_AVERAGE && op->i[0] != POOL_AVERAGE_PADDED)
		return tensor_refuse(op, err, "function %ld", op->i[0]);
	for (uint32_t a = 0; a + 2 < x->rank; a++)
		if (op->i[13 + a] < 1 || op->i[13 + a] > WINDOW_LIMIT)
			return tensor_refuse(op, err, "kernel %ld", op->i[13 + a]);
	kernel_of(op, kernel);
	op->out[0] = (struct tensor){WIRE_F32, x->rank, {x->dims[0]}};
	op->out[0].dims[x->rank - 1] = x->dims[x->rank - 1];
	return window_infer(op, kernel, 1, op->i[16], err);
}

/* The block of output pixels [b->pixels] of one line that begins with window r. */
static void pool_line(const struct tensor_op *op, const struct tensor_args *a,
	const struct window *w, struct pool_block *b, const float *image,
	const struct reach r[SPATIAL])
{
	const size_t step[SPATIAL] = {
		w->in[1] * w->in[2] * b->channels, w->in[2] * b->channels, b->channels};
	size_t taps = 1;

	b->x = image;
	for (uint32_t d = 0; d < SPATIAL; d++) {
		b->window.count[d] = reach_count(&r[d]);
		b->window.step[d] = (size_t)r[d].step * step[d];
		taps *= b->window.count[d];
	}
	if (taps)
		for (uint32_t d = 0; d < SPATIAL; d++)
			b->x += (size_t)r[d].from * step[d];
	if (op->i[0] == POOL_AVERAGE_PADDED)
		taps = (size_t)(r[0].padded * r[1].padded * r[2].padded);
	b->scale = taps ? 1.0f / (float)taps : 0;
	conv_kernels_of(a->kernels)->pool(b);
	b->y += b->pixels * b->channels;
}

/* Output positions along the last axis from `o` on whose windows have o's shape. */
static size_t same_shape(const struct window *w, const struct reach *first, size_t o)
{
	size_t n = 1;

	while (o + n < w->out[2]) {
		struct reach r = window_reach(w, 2, o + n);

		if (r.to - r.from != first->to - first->from || r.padded != first->padded ||
			r.from != first->from + (int64_t)n * w->stride[2])
			break;
		n++;
	}
	return n;
}

static void pool_image(const struct tensor_op *op, const struct tensor_args *a,
	const struct window *w, struct pool_block *b, const float *image)
{
	struct reach r[SPATIAL];

	for (size_t x = 0; x < w->out[2]; x += b->pixels) {
		float *y = b->y;

		r[2] = window_reach(w, 2, x);
		b->pixels = same_shape(w, &r[2], x);
		for (size_t z = 0; z < w->out[0]; z++) {
			r[0] = window_reach(w, 0, z);
			for (size_t line = 0; line < w->out[1]; line++) {
				r[1] = window_reach(w, 1, line);
				b->y = y + ((z * w->out[1] + line) * w->out[2]) * b->channels;
				pool_line(op, a, w, b, image, r);
			}
		}
		b->y = y + b->pixels * b->channels;
	}
}

void pool_last_rows(const struct tensor_op *op, const struct tensor_args *a, size_t rows)
{
	const struct tensor *x = &op->in[0];
	uint32_t kernel[SPATIAL];
	struct pool_block b = {
		.channels = x->dims[x->rank - 1], .window.run = 1, .average = op->i[0] != POOL_MAX};
	struct window w;

	kernel_of(op, kernel);
	window_init(&w, op, kernel, 1);
	b.x_step = (size_t)w.stride[2] * b.channels;
	for (size_t row = 0; row < rows; row++)
		for (size_t i = 0; i < x->dims[0]; i++) {
			b.y = (float *)((uint8_t *)a->out[0] + row * a->out_stride[0]) +
			      i * w.out_elements * b.channels;
			pool_image(op, a, &w, &b,
				(const float *)((const uint8_t *)a->in[0] + row * a->in_stride[0]) +
					i * w.in_elements * b.channels);
		}
}

void pool_last_run(const struct tensor_op *op, const struct tensor_args *a)
{
	pool_last_rows(op, a, 1);
}
