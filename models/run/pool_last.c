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
	uint64_t segments = 1;

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
	for (uint32_t a = 0; a + 2 < x->rank; a++)
		segments *= kernel[a]; /* at most 2^60 */
	op->scratch_bytes = segments >> 32 ? segments : segments * sizeof(size_t);
	return window_infer(op, kernel, 1, op->i[16], err);
}

/* Output positions along an axis from `o` on whose windows have o's shape. */
static size_t same_shape(const struct window *w, uint32_t axis, size_t o)
{
	struct reach first = window_reach(w, axis, o), r;
	size_t n = 1;

	for (; o + n < w->out[axis]; n++) {
		r = window_reach(w, axis, o + n);
		if (r.to - r.from != first.to - first.from || r.padded != first.padded ||
			r.from != first.from + (int64_t)n * w->stride[axis])
			break;
	}
	return n;
}

/* The box of output pixels from `o` on, b->n[1] x b->n[2] of one z, of all images. */
static void pool_box(const struct tensor_op *op, const struct tensor_args *a,
	const struct window *w, struct pool_block b, const size_t o[SPATIAL])
{
	const size_t step[SPATIAL] = {
		w->in[1] * w->in[2] * b.channels, w->in[2] * b.channels, b.channels};
	size_t count[SPATIAL], taps = 1, *segment = a->scratch;
	struct reach r[SPATIAL];

	for (uint32_t d = 0; d < SPATIAL; d++) {
		r[d] = window_reach(w, d, o[d]);
		count[d] = reach_count(&r[d]);
		taps *= count[d];
	}
	for (uint32_t d = 0; taps && d < SPATIAL; d++)
		b.x += (size_t)r[d].from * step[d];
	for (size_t z = 0; z < count[0]; z++)
		for (size_t y = 0; y < count[1]; y++)
			for (size_t x = 0; x < count[2]; x++)
				*segment++ = z * (size_t)r[0].step * step[0] +
					     y * (size_t)r[1].step * step[1] +
					     x * (size_t)r[2].step * step[2];
	b.segment = a->scratch;
	b.segments = taps;
	b.y += ((o[0] * w->out[1] + o[1]) * w->out[2] + o[2]) * b.channels;
	if (op->i[0] == POOL_AVERAGE_PADDED)
		taps = (size_t)(r[0].padded * r[1].padded * r[2].padded);
	b.scale = taps ? 1.0f / (float)taps : 0;
	conv_kernels_of(a->kernels)->pool(&b);
}

/* Images at b->x, b->n[0] of them: boxes of pixels whose windows are all inside, or all cut off
 * alike. */
static void pool_images(const struct tensor_op *op, const struct tensor_args *a,
	const struct window *w, struct pool_block *b)
{
	size_t o[SPATIAL];

	for (uint32_t d = 1; d < SPATIAL; d++) {
		b->x_step[d] = (size_t)w->stride[d] * b->channels * (d == 1 ? w->in[2] : 1);
		b->y_step[d] = b->channels * (d == 1 ? w->out[2] : 1);
	}
	for (o[0] = 0; o[0] < w->out[0]; o[0]++)
		for (o[1] = 0; o[1] < w->out[1]; o[1] += b->n[1]) {
			b->n[1] = same_shape(w, 1, o[1]);
			for (o[2] = 0; o[2] < w->out[2]; o[2] += b->n[2]) {
				b->n[2] = same_shape(w, 2, o[2]);
				pool_box(op, a, w, *b, o);
			}
		}
}

/* Buffers' rows follow each other: their images are one sequence. */
void pool_last_rows(const struct tensor_op *op, const struct tensor_args *a, size_t rows)
{
	const struct tensor *x = &op->in[0];
	struct pool_block b = {.x = a->in[0],
		.y = a->out[0],
		.channels = x->dims[x->rank - 1],
		.average = op->i[0] != POOL_MAX};
	uint32_t kernel[SPATIAL];
	struct window w;

	kernel_of(op, kernel);
	window_init(&w, op, kernel, 1);
	b.n[0] = rows * x->dims[0];
	b.x_step[0] = w.in_elements * b.channels;
	b.y_step[0] = w.out_elements * b.channels;
	if (rows == 1 || a->in_stride[0]) {
		pool_images(op, a, &w, &b);
		return;
	}
	b.n[0] = x->dims[0]; /* a constant: the same images for every row */
	for (; rows; rows--, b.y += b.n[0] * b.y_step[0])
		pool_images(op, a, &w, &b);
}

void pool_last_run(const struct tensor_op *op, const struct tensor_args *a)
{
	pool_last_rows(op, a, 1);
}
