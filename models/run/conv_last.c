/* SPDX-License-Identifier: BSD-3-Clause
 * Convolution with channels last and packed weights: an implicit matrix product. Nothing is copied
 * but images that need padding (into scratch, a few at a time, whose borders stay zero); the
 * windows are read where they lie, pixels of all rows of a batch after one another.
 *
 *   images of all rows -> [pad some into scratch] -> blocks of pixels -> groups -> kernel ->
 * activation
 */
#include <math.h>
#include <string.h>

#include "models/run/conv.h"
#include "models/run/window.h"

enum {
	PANEL = MODEL_FILE_PANEL,
	SHORT_RUN = 16, /* segments below are listed float by float: a short loop's end is a wrong
			   guess */
	BLOCK_PIXELS = 384,         /* a multiple of every tile's pixels */
	BLOCK_FLOATS = 24 * 1024,   /* of input and output a block may touch: they stay in L2 */
	SCRATCH_FLOATS = 32 * 1024, /* padded images at a time, unless one alone is larger */
};

/* What an operator's attributes come to. */
struct conv_plan {
	struct window w;
	size_t padded[SPATIAL]; /* what the windows reach of an image, padding included */
	size_t channels, filters, groups;
	/* Segments of a window (conv.h): per line of the kernel `positions` x `listed`. */
	size_t positions, listed, segments, run;
	size_t image_floats; /* of an image as the kernels read it */
	size_t batch;        /* images padded at a time; 0: no padding, read in place */
};

static bool is_depthwise(const struct tensor_op *op)
{
	uint32_t channels = op->in[0].dims[op->in[0].rank - 1];

	return op->i[0] > 1 && op->i[0] == channels && op->i[16] == channels;
}

static uint64_t padded_to_panel(uint64_t n)
{
	return (n + PANEL - 1) / PANEL * PANEL;
}

/* The shape packed weights must have; false when a product overflows. */
static bool weights_shape(const struct tensor_op *op, struct tensor *w)
{
	const struct tensor *x = &op->in[0];
	uint64_t depth = is_depthwise(op) ? 1 : x->dims[x->rank - 1] / (uint64_t)op->i[0];

	for (uint32_t a = 0; a + 2 < x->rank; a++)
		if (__builtin_mul_overflow(depth, (uint64_t)op->i[13 + a], &depth))
			return false;
	if (depth > UINT32_MAX)
		return false;
	if (is_depthwise(op))
		*w = (struct tensor){
			WIRE_F32, 2, {(uint32_t)depth, (uint32_t)padded_to_panel(op->i[16])}};
	else
		*w = (struct tensor){WIRE_F32, 4,
			{(uint32_t)op->i[0],
				(uint32_t)(padded_to_panel(op->i[16] / op->i[0]) / PANEL),
				(uint32_t)depth, PANEL}};
	return true;
}

/* Floats of the bias: every group's filters padded to whole panels. */
static uint64_t bias_floats(const struct tensor_op *op)
{
	return is_depthwise(op) ? padded_to_panel(op->i[16])
				: op->i[0] * padded_to_panel(op->i[16] / op->i[0]);
}

static int check_operands(const struct tensor_op *op, struct error *err)
{
	const struct tensor *w = &op->in[1], *b = &op->in[2], *add = &op->in[3];
	struct tensor want;

	if (!weights_shape(op, &want))
		return tensor_refuse(op, err, "window floats overflow");
	if (w->dtype != WIRE_F32 || !tensor_same_shape(w, &want))
		return tensor_refuse(op, err, "the weights have another shape");
	if (b->dtype && (b->dtype != WIRE_F32 || b->rank != 1 || b->dims[0] != bias_floats(op)))
		return tensor_refuse(op, err, "the bias has another shape");
	if (add->dtype && (add->dtype != WIRE_F32 || !tensor_same_shape(add, &op->out[0])))
		return tensor_refuse(op, err, "the summand has another shape");
	return 0;
}

static int check_attributes(const struct tensor_op *op, uint32_t *kernel, struct error *err)
{
	const struct tensor *x = &op->in[0];
	uint32_t channels = x->rank ? x->dims[x->rank - 1] : 0;

	if (x->dtype != WIRE_F32 || x->rank < 3 || x->rank > 2 + SPATIAL)
		return tensor_refuse(op, err, "dtype %u, rank %u", x->dtype, x->rank);
	if (op->i[0] < 1 || op->i[0] > channels || channels % op->i[0])
		return tensor_refuse(op, err, "%u channels in %ld groups", channels, op->i[0]);
	if (op->i[16] < 1 || op->i[16] > MODEL_FILE_MAX_ROW_ELEMENTS || op->i[16] % op->i[0])
		return tensor_refuse(op, err, "%ld filters in %ld groups", op->i[16], op->i[0]);
	if (op->i[17] < 0 || op->i[17] >= MODEL_ACT_END)
		return tensor_refuse(op, err, "activation %ld", op->i[17]);
	for (uint32_t a = 0; a + 2 < x->rank; a++) {
		if (op->i[13 + a] < 1 || op->i[13 + a] > WINDOW_LIMIT)
			return tensor_refuse(op, err, "kernel %ld", op->i[13 + a]);
		kernel[a] = (uint32_t)op->i[13 + a];
	}
	return 0;
}

/* A whole line of the kernel where its floats are neighbours, else one position; float by float
 * when that is short. A depthwise segment is a position of all channels. */
static void plan_segments(struct conv_plan *p, bool depthwise)
{
	const bool whole = p->groups == 1 && p->w.dilation[2] == 1;

	p->positions = whole ? 1 : p->w.kernel[2];
	p->run = p->channels / p->groups * (whole ? p->w.kernel[2] : 1);
	p->listed = 1;
	if (p->run < SHORT_RUN && !depthwise) {
		p->listed = p->run;
		p->run = 1;
	}
	p->segments = p->w.kernel[0] * p->w.kernel[1] * p->positions * p->listed;
}

static uint64_t segments_bytes(const struct conv_plan *p)
{
	return (p->segments * sizeof(size_t) + MODEL_FILE_ALIGN - 1) / MODEL_FILE_ALIGN *
	       MODEL_FILE_ALIGN;
}

static void conv_plan(struct conv_plan *p, const struct tensor_op *op)
{
	const uint32_t kernel[SPATIAL] = {
		(uint32_t)op->i[13], (uint32_t)op->i[14], (uint32_t)op->i[15]};
	const struct tensor *x = &op->in[0];
	bool padding = false;

	window_init(&p->w, op, kernel, 1);
	p->channels = x->dims[x->rank - 1];
	p->filters = (size_t)op->i[16];
	p->groups = (size_t)op->i[0];
	for (uint32_t d = 0; d < SPATIAL; d++) {
		p->padded[d] = (p->w.out[d] - 1) * (size_t)p->w.stride[d] +
			       (p->w.kernel[d] - 1) * (size_t)p->w.dilation[d] + 1;
		padding |= p->w.pad[d] || p->padded[d] > p->w.in[d];
	}
	if (!padding)
		memcpy(p->padded, p->w.in, sizeof(p->padded));
	p->image_floats = p->channels;
	for (uint32_t d = 0; d < SPATIAL; d++)
		if (__builtin_mul_overflow(p->image_floats, p->padded[d], &p->image_floats))
			p->image_floats = SIZE_MAX;
	plan_segments(p, is_depthwise(op));
	p->batch = 0;
	if (padding)
		p->batch = p->image_floats < SCRATCH_FLOATS ? SCRATCH_FLOATS / p->image_floats : 1;
}

int conv_last_infer(struct tensor_op *op, struct error *err)
{
	const struct tensor *x = &op->in[0];
	uint32_t kernel[SPATIAL] = {0};
	struct conv_plan p;
	int rc = check_attributes(op, kernel, err);

	if (rc)
		return rc;
	op->out[0] = (struct tensor){WIRE_F32, x->rank, {x->dims[0]}};
	op->out[0].dims[x->rank - 1] = (uint32_t)op->i[16];
	rc = window_infer(op, kernel, 1, false, err);
	if (!rc)
		rc = check_operands(op, err);
	if (rc)
		return rc;
	conv_plan(&p, op);
	if (p.image_floats >> 30)
		return tensor_refuse(op, err, "a padded image has more than 2^30 elements");
	op->scratch_bytes = segments_bytes(&p) + p.batch * p.image_floats * sizeof(float);
	return 0;
}

/* ---- padding ---- */

/* The part of an image the windows reach, into the middle of a padded one with zero borders. */
static void pad_image(const struct conv_plan *p, float *to, const float *from)
{
	size_t n[SPATIAL];

	for (uint32_t d = 0; d < SPATIAL; d++) {
		size_t room =
			p->padded[d] > (size_t)p->w.pad[d] ? p->padded[d] - (size_t)p->w.pad[d] : 0;

		n[d] = room < p->w.in[d] ? room : p->w.in[d];
	}
	for (size_t z = 0; z < n[0]; z++)
		for (size_t y = 0; y < n[1]; y++) {
			size_t line =
				(z + (size_t)p->w.pad[0]) * p->padded[1] + y + (size_t)p->w.pad[1];

			memcpy(to + (line * p->padded[2] + (size_t)p->w.pad[2]) * p->channels,
				from + (z * p->w.in[1] + y) * p->w.in[2] * p->channels,
				n[2] * p->channels * sizeof(float));
		}
}

/* ---- blocks ---- */

/* First floats of the windows of output pixels [pixel, pixel + n), counted over all images. */
static void window_offsets(const struct conv_plan *p, size_t *at, size_t pixel, size_t n)
{
	const struct window *w = &p->w;
	size_t image = pixel / w->out_elements, rest = pixel % w->out_elements;
	size_t x = rest % w->out[2], y = rest / w->out[2] % w->out[1],
	       z = rest / w->out[2] / w->out[1];
	const size_t step = (size_t)w->stride[2] * p->channels;

	for (size_t i = 0; i < n;) {
		size_t line = (z * (size_t)w->stride[0] * p->padded[1] + y * (size_t)w->stride[1]) *
				      p->padded[2] * p->channels +
			      image * p->image_floats;

		for (; i < n && x < w->out[2]; x++, i++)
			at[i] = line + x * step;
		x = 0;
		if (++y == w->out[1]) {
			y = 0;
			if (++z == w->out[0]) {
				z = 0;
				image++;
			}
		}
	}
}

static void list_segments(const struct conv_plan *p, size_t *segment)
{
	const struct window *w = &p->w;
	const size_t line = p->padded[2] * p->channels, step = (size_t)w->dilation[2] * p->channels;

	for (size_t z = 0; z < w->kernel[0]; z++)
		for (size_t y = 0; y < w->kernel[1]; y++)
			for (size_t x = 0; x < p->positions; x++)
				for (size_t f = 0; f < p->listed; f++)
					*segment++ = (z * (size_t)w->dilation[0] * p->padded[1] +
							     y * (size_t)w->dilation[1]) *
							     line +
						     x * step + f;
}

static size_t block_pixels(const struct conv_plan *p)
{
	size_t n = BLOCK_FLOATS / (p->channels + p->filters) / 24 * 24;

	return n < 48 ? 48 : n > BLOCK_PIXELS ? BLOCK_PIXELS : n;
}

/* NONE, RELU and CLIP are a clamp before the only store. */
static bool clamp_of(const struct tensor_op *op, struct conv_block *b)
{
	b->low = op->i[17] == MODEL_ACT_RELU ? 0 : -INFINITY;
	b->high = INFINITY;
	if (op->i[17] == MODEL_ACT_CLIP) {
		b->low = op->f[0];
		b->high = op->f[1];
	}
	return op->i[17] == MODEL_ACT_NONE || op->i[17] == MODEL_ACT_RELU ||
	       op->i[17] == MODEL_ACT_CLIP;
}

/* One block of pixels, all groups. `b` is right for group 0 but for `out`. */
static void run_groups(const struct tensor_op *op, const struct tensor_args *a,
	const struct conv_plan *p, struct conv_block b)
{
	const struct conv_kernels *k = conv_kernels_of(a->kernels);
	const size_t filters = p->filters / p->groups, bias = padded_to_panel(filters);

	if (is_depthwise(op)) {
		b.out = p->filters;
		k->depthwise(&b);
		return;
	}
	b.out = filters;
	for (size_t g = 0; g < p->groups; g++) {
		k->dense(&b);
		b.x += p->channels / p->groups;
		b.y += filters;
		b.add = b.add ? b.add + filters : NULL;
		b.w += tensor_span(&op->in[1], 1, 4);
		b.bias = b.bias ? b.bias + bias : NULL;
	}
}

/* Images that can be read as they are; y and add are at the first one's first pixel. */
static void run_images(const struct tensor_op *op, const struct tensor_args *a,
	const struct conv_plan *p, struct conv_block b, size_t images)
{
	const size_t total = images * p->w.out_elements, step = block_pixels(p);
	const bool clamps = clamp_of(op, &b);
	size_t at[BLOCK_PIXELS] __attribute__((uninitialized));

	b.at = at;
	b.y_step = p->filters;
	b.w = a->in[1];
	b.bias = a->in[2];
	b.segment = a->scratch;
	b.segments = p->segments;
	b.run = p->run;
	for (size_t pixel = 0; pixel < total; pixel += b.pixels) {
		b.pixels = total - pixel < step ? total - pixel : step;
		window_offsets(p, at, pixel, b.pixels);
		run_groups(op, a, p, b);
		if (!clamps)
			a->kernels->v->unary(
				(struct activation){(uint32_t)op->i[17], op->f[0], op->f[1]}, b.y,
				b.y, b.pixels * p->filters);
		b.y += b.pixels * p->filters;
		b.add = b.add ? b.add + b.pixels * p->filters : NULL;
	}
}

static void run_padded(const struct tensor_op *op, const struct tensor_args *a,
	const struct conv_plan *p, struct conv_block b, size_t images)
{
	const size_t in = p->w.in_elements * p->channels, out = p->w.out_elements * p->filters;
	const size_t batch = images < p->batch ? images : p->batch;
	const float *from = b.x;
	float *padded = (float *)((uint8_t *)a->scratch + segments_bytes(p));

	b.x = padded;
	memset(padded, 0, batch * p->image_floats * sizeof(float));
	for (size_t image = 0; image < images; image += batch) {
		size_t n = images - image < batch ? images - image : batch;

		for (size_t i = 0; i < n; i++, from += in)
			pad_image(p, padded + i * p->image_floats, from);
		run_images(op, a, p, b, n);
		b.y += n * out;
		b.add = b.add ? b.add + n * out : NULL;
	}
}

static void run_together(const struct tensor_op *op, const struct tensor_args *a, size_t rows)
{
	struct conv_block b = {.x = a->in[0], .y = a->out[0], .add = a->in[3]};
	struct conv_plan p;
	size_t images = rows * op->in[0].dims[0];

	conv_plan(&p, op);
	list_segments(&p, a->scratch);
	if (p.batch)
		run_padded(op, a, &p, b, images);
	else
		run_images(op, a, &p, b, images);
}

void conv_last_run(const struct tensor_op *op, const struct tensor_args *a)
{
	run_together(op, a, 1);
}

/* Together when images and summands follow each other and the weights are the same for all. */
void conv_last_rows(const struct tensor_op *op, const struct tensor_args *a, size_t rows)
{
	struct tensor_args row = *a;

	if (a->in_stride[0] && !a->in_stride[1] && !a->in_stride[2] &&
		(!a->in[3] || a->in_stride[3])) {
		run_together(op, a, rows);
		return;
	}
	for (; rows; rows--, tensor_next_row(op, &row))
		run_together(op, &row, 1);
}
