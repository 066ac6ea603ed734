/* SPDX-License-Identifier: BSD-3-Clause
 * Windows over one to three spatial dimensions: convolution and pooling. A convolution copies the
 * windows of every output position into panels (im2col in the layout the dense kernels read) and
 * multiplies the filters with them, so the product lands in the output's own order.
 */
#include <math.h>
#include <string.h>

#include "models/run/window.h"

enum { PANEL = MODEL_FILE_PANEL };

static size_t product3(const size_t *n)
{
	return n[0] * n[1] * n[2];
}

void window_init(
	struct window *w, const struct tensor_op *op, const uint32_t *kernel, uint32_t first)
{
	const struct tensor *x = &op->in[0], *y = &op->out[0];
	const uint32_t spatial = x->rank - 2;

	for (uint32_t d = 0; d < SPATIAL; d++) {
		w->in[d] = w->out[d] = w->kernel[d] = 1;
		w->stride[d] = w->dilation[d] = 1;
		w->pad[d] = w->pad_after[d] = 0;
	}
	for (uint32_t a = 0; a < spatial; a++) {
		uint32_t d = SPATIAL - spatial + a;

		w->in[d] = x->dims[first + a];
		w->out[d] = y->dims[first + a];
		w->kernel[d] = kernel[a];
		w->stride[d] = op->i[1 + a];
		w->dilation[d] = op->i[4 + a];
		w->pad[d] = op->i[7 + a];
		w->pad_after[d] = op->i[10 + a];
	}
	w->in_elements = product3(w->in);
	w->out_elements = product3(w->out);
	w->kernel_elements = product3(w->kernel);
}

/* Output positions of `in` inputs along axis a; 0 when the window does not fit. */
static int64_t window_count(
	const struct tensor_op *op, uint32_t a, int64_t in, int64_t kernel, bool ceil_mode)
{
	int64_t stride = op->i[1 + a], before = op->i[7 + a];
	int64_t room = in + before + op->i[10 + a] - (kernel - 1) * op->i[4 + a] - 1, n;

	if (room < 0)
		return 0;
	n = room / stride + 1;
	/* A partial window at the end counts if it begins inside the input or the front padding. */
	if (ceil_mode && room % stride && n * stride < in + before)
		n++;
	return n;
}

int window_infer(struct tensor_op *op, const uint32_t *kernel, uint32_t first, bool ceil_mode,
	struct error *err)
{
	for (uint32_t a = 0; a + 2 < op->in[0].rank; a++) {
		int64_t n = 0;

		for (uint32_t k = 0; k < 4; k++)
			if (op->i[1 + 3 * k + a] < (k < 2 ? 1 : 0) ||
				op->i[1 + 3 * k + a] > WINDOW_LIMIT)
				return tensor_refuse(op, err, "attribute %u of axis %u is %ld", k,
					a, op->i[1 + 3 * k + a]);
		if (kernel[a] <= WINDOW_LIMIT)
			n = window_count(op, a, op->in[0].dims[first + a], kernel[a], ceil_mode);
		if (n < 1 || n > MODEL_FILE_MAX_ROW_ELEMENTS)
			return tensor_refuse(op, err, "no window of %u fits axis %u", kernel[a], a);
		op->out[0].dims[first + a] = (uint32_t)n;
	}
	return 0;
}

struct reach window_reach(const struct window *w, uint32_t axis, size_t output)
{
	struct reach r = {.step = w->dilation[axis]};
	int64_t end;

	r.from = (int64_t)output * w->stride[axis] - w->pad[axis];
	r.to = r.from + ((int64_t)w->kernel[axis] - 1) * r.step + 1;
	end = (int64_t)w->in[axis] + w->pad_after[axis];
	r.padded = ((r.to < end ? r.to : end) - r.from + r.step - 1) / r.step;
	if (r.from < 0)
		r.from += (-r.from + r.step - 1) / r.step * r.step;
	r.to = r.to < (int64_t)w->in[axis] ? r.to : (int64_t)w->in[axis];
	return r;
}

/* ---- convolution ---- */

static int conv_shapes(const struct tensor_op *op, struct error *err)
{
	const struct tensor *x = &op->in[0], *w = &op->in[1], *b = &op->in[2];
	int64_t groups = op->i[0];

	if (x->dtype != WIRE_F32 || w->dtype != WIRE_F32 || (b->dtype && b->dtype != WIRE_F32))
		return tensor_refuse(op, err, "dtypes %u and %u", x->dtype, w->dtype);
	if (x->rank < 3 || x->rank > 2 + SPATIAL || w->rank != x->rank)
		return tensor_refuse(op, err, "ranks %u and %u", x->rank, w->rank);
	if (groups < 1 || groups > x->dims[1] || x->dims[1] % groups || w->dims[0] % groups ||
		w->dims[1] != x->dims[1] / groups)
		return tensor_refuse(op, err, "%u channels in %ld groups, filters of %u",
			x->dims[1], groups, w->dims[1]);
	if (b->dtype && (b->rank != 1 || b->dims[0] != w->dims[0]))
		return tensor_refuse(op, err, "the bias has another shape");
	return 0;
}

int conv_infer(struct tensor_op *op, struct error *err)
{
	const struct tensor *w = &op->in[1];
	uint64_t positions;
	int rc = conv_shapes(op, err);

	if (rc)
		return rc;
	op->out[0] = (struct tensor){WIRE_F32, op->in[0].rank, {op->in[0].dims[0], w->dims[0]}};
	rc = window_infer(op, &w->dims[2], 2, false, err);
	if (rc)
		return rc;
	positions = 1;
	for (uint32_t d = 2; d < op->out[0].rank; d++)
		if (__builtin_mul_overflow(positions, op->out[0].dims[d], &positions) ||
			positions > MODEL_FILE_MAX_ROW_ELEMENTS)
			return tensor_refuse(op, err, "more than 2^24 output positions");
	op->scratch_bytes = (positions + PANEL - 1) / PANEL * PANEL * sizeof(float);
	if (__builtin_mul_overflow(
		    op->scratch_bytes, tensor_span(w, 1, w->rank), &op->scratch_bytes))
		return tensor_refuse(op, err, "scratch bytes overflow");
	return 0;
}

/* One line of output positions (fixed z, y) of one kernel tap: inside the input or zero. */
static void tap_line(const struct window *w, float *panels, size_t depth, const float *line,
	int64_t x0, size_t position)
{
	for (size_t ox = 0; ox < w->out[2]; ox++, position++) {
		int64_t ix = x0 + (int64_t)ox * w->stride[2];
		bool inside = line && ix >= 0 && ix < (int64_t)w->in[2];

		panels[position / PANEL * depth * PANEL + position % PANEL] = inside ? line[ix] : 0;
	}
}

/* All output positions of one channel and kernel tap t; `panels` points at its place in panel 0. */
static void tap_copy(
	const struct window *w, float *panels, size_t depth, const float *channel, size_t t)
{
	const int64_t kx = (int64_t)(t % w->kernel[2]);
	const int64_t ky = (int64_t)(t / w->kernel[2] % w->kernel[1]);
	const int64_t kz = (int64_t)(t / w->kernel[2] / w->kernel[1]);
	size_t position = 0;

	for (size_t oz = 0; oz < w->out[0]; oz++)
		for (size_t oy = 0; oy < w->out[1]; oy++, position += w->out[2]) {
			int64_t iz = (int64_t)oz * w->stride[0] - w->pad[0] + kz * w->dilation[0];
			int64_t iy = (int64_t)oy * w->stride[1] - w->pad[1] + ky * w->dilation[1];
			bool inside = iz >= 0 && iz < (int64_t)w->in[0] && iy >= 0 &&
				      iy < (int64_t)w->in[1];

			tap_line(w, panels, depth,
				inside ? channel + ((size_t)iz * w->in[1] + (size_t)iy) * w->in[2]
				       : NULL,
				kx * w->dilation[2] - w->pad[2], position);
		}
	for (; position % PANEL; position++)
		panels[position / PANEL * depth * PANEL + position % PANEL] = 0;
}

static void add_bias(float *y, const float *bias, size_t channels, size_t n)
{
	for (size_t c = 0; c < channels; c++, y += n)
		for (size_t i = 0; i < n; i++)
			y[i] += bias[c];
}

void conv_run(const struct tensor_op *op, const struct tensor_args *a)
{
	const struct tensor *x = &op->in[0], *f = &op->in[1];
	const size_t groups = (size_t)op->i[0], channels = f->dims[1];
	const size_t filters = f->dims[0] / groups;
	struct window w;
	size_t depth;

	window_init(&w, op, &f->dims[2], 2);
	depth = channels * w.kernel_elements;
	for (size_t g = 0; g < x->dims[0] * groups; g++) {
		const float *in = (const float *)a->in[0] + g * channels * w.in_elements;
		struct dense d = {
			.x = (const float *)a->in[1] + g % groups * filters * depth,
			.w = a->scratch,
			.y = (float *)a->out[0] + g * filters * w.out_elements,
			.rows = filters,
			.in = depth,
			.out = w.out_elements,
		};

		for (size_t k = 0; k < depth; k++)
			tap_copy(&w, (float *)a->scratch + k * PANEL, depth,
				in + k / w.kernel_elements * w.in_elements, k % w.kernel_elements);
		a->kernels->dense[MODEL_LAYOUT_PANELS](&d);
		if (a->in[2])
			add_bias(d.y, (const float *)a->in[2] + g % groups * filters, filters,
				w.out_elements);
	}
}

/* ---- pooling ---- */

int pool_infer(struct tensor_op *op, struct error *err)
{
	const struct tensor *x = &op->in[0];
	uint32_t kernel[SPATIAL] = {0};
	int rc;

	if (x->dtype != WIRE_F32 || x->rank < 3 || x->rank > 2 + SPATIAL)
		return tensor_refuse(op, err, "dtype %u, rank %u", x->dtype, x->rank);
	if (op->i[0] < 0 || op->i[0] >= POOL_END || (op->i[0] == POOL_LP && op->i[17] < 1) ||
		(op->n_out > 1 && op->i[0] != POOL_MAX))
		return tensor_refuse(op, err, "function %ld", op->i[0]);
	for (uint32_t a = 0; a + 2 < x->rank; a++) {
		if (op->i[13 + a] < 1 || op->i[13 + a] > WINDOW_LIMIT)
			return tensor_refuse(op, err, "kernel %ld", op->i[13 + a]);
		kernel[a] = (uint32_t)op->i[13 + a];
	}
	op->out[0] = (struct tensor){WIRE_F32, x->rank, {x->dims[0], x->dims[1]}};
	rc = window_infer(op, kernel, 2, op->i[16], err);
	op->out[1] = op->out[0];
	op->out[1].dtype = WIRE_I64;
	if (op->n_out < 2)
		op->out[1] = (struct tensor){0};
	return rc;
}

static double pool_step(int64_t fn, double acc, double x, int64_t p)
{
	if (fn == POOL_LP)
		return acc + (p == 2 ? x * x : pow(fabs(x), (double)p));
	return acc + x;
}

/* One window: its value, and for max the position of it in the channel. */
static float pool_window(const struct tensor_op *op, const struct window *w, const float *x,
	const struct reach r[SPATIAL], size_t *best)
{
	double acc = 0, count = 0, top = (double)-INFINITY;

	for (int64_t z = r[0].from; z < r[0].to; z += r[0].step)
		for (int64_t y = r[1].from; y < r[1].to; y += r[1].step)
			for (int64_t i = r[2].from; i < r[2].to; i += r[2].step) {
				size_t at =
					((size_t)z * w->in[1] + (size_t)y) * w->in[2] + (size_t)i;
				double v = (double)x[at];

				count++;
				if (op->i[0] != POOL_MAX) {
					acc = pool_step(op->i[0], acc, v, op->i[17]);
				} else if (v > top || isnan(v) || count == 1) {
					top = v;
					*best = at;
				}
			}
	if (op->i[0] == POOL_MAX)
		return (float)top;
	if (op->i[0] == POOL_LP)
		return (float)pow(acc, 1.0 / (double)op->i[17]);
	if (op->i[0] == POOL_AVERAGE_PADDED)
		count = (double)(r[0].padded * r[1].padded * r[2].padded);
	return count > 0 ? (float)(acc / count) : 0;
}

/* MaxPool's index of position `at`: row-major, or with the first spatial axis fastest. */
static int64_t pool_index(const struct window *w, size_t at, bool column_major)
{
	size_t x = at % w->in[2], y = at / w->in[2] % w->in[1], z = at / w->in[2] / w->in[1];

	return (int64_t)(column_major ? (x * w->in[1] + y) * w->in[0] + z : at);
}

static void pool_channel(const struct tensor_op *op, const struct window *w, const float *x,
	float *to, int64_t *index, int64_t base)
{
	struct reach r[SPATIAL];

	for (size_t o = 0; o < w->out_elements; o++) {
		size_t at[SPATIAL] = {
			o / w->out[2] / w->out[1], o / w->out[2] % w->out[1], o % w->out[2]};
		size_t best = 0;

		for (uint32_t d = 0; d < SPATIAL; d++)
			r[d] = window_reach(w, d, at[d]);
		to[o] = pool_window(op, w, x, r, &best);
		if (index)
			index[o] = base + pool_index(w, best, op->i[18]);
	}
}

void pool_run(const struct tensor_op *op, const struct tensor_args *a)
{
	const size_t channels = (size_t)op->in[0].dims[0] * op->in[0].dims[1];
	uint32_t kernel[SPATIAL] = {(uint32_t)op->i[13], (uint32_t)op->i[14], (uint32_t)op->i[15]};
	struct window w;

	window_init(&w, op, kernel, 2);
	for (size_t c = 0; c < channels; c++)
		pool_channel(op, &w, (const float *)a->in[0] + c * w.in_elements,
			(float *)a->out[0] + c * w.out_elements,
			a->out[1] ? (int64_t *)a->out[1] + c * w.out_elements : NULL,
			(int64_t)(c * w.in_elements));
}
