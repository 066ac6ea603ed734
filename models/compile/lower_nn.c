/* SPDX-License-Identifier: BSD-3-Clause
 * Builders: convolution, pooling, normalisation, resizing, recurrent layers.
 */
#include <math.h>
#include <string.h>

#include "models/compile/lower.h"

enum { SPATIAL = 3 };

/* Stride, dilation and pads as CONV and POOL take them. */
struct geometry {
	uint32_t spatial;
	int64_t stride[SPATIAL], dilation[SPATIAL], before[SPATIAL], after[SPATIAL];
	int64_t kernel[SPATIAL];
};

/* SAME_UPPER and SAME_LOWER: as many output positions as strides fit into the input. */
static void same_pads(struct geometry *g, const struct tensor *x, bool lower)
{
	for (uint32_t a = 0; a < g->spatial; a++) {
		int64_t in = x->dims[2 + a], out = (in + g->stride[a] - 1) / g->stride[a];
		int64_t total =
			(out - 1) * g->stride[a] + (g->kernel[a] - 1) * g->dilation[a] + 1 - in;

		total = total < 0 ? 0 : total;
		g->before[a] = lower ? (total + 1) / 2 : total / 2;
		g->after[a] = total - g->before[a];
	}
}

static int read_geometry(const struct onnx_node *n, struct geometry *g, const struct tensor *x)
{
	int64_t pads[2 * SPATIAL] = {0};
	bool lower = attribute_is(n, "auto_pad", "", "SAME_LOWER");

	if (x->rank < 3 || x->rank > 2 + SPATIAL)
		return lower_refuse(n, "input of rank %u", x->rank);
	g->spatial = x->rank - 2;
	for (uint32_t a = 0; a < SPATIAL; a++)
		g->stride[a] = g->dilation[a] = 1;
	attribute_ints(n, "strides", g->stride, SPATIAL);
	attribute_ints(n, "dilations", g->dilation, SPATIAL);
	attribute_ints(n, "pads", pads, 2 * SPATIAL);
	for (uint32_t a = 0; a < g->spatial; a++) {
		g->before[a] = pads[a];
		g->after[a] = pads[g->spatial + a];
		if (g->stride[a] < 1 || g->dilation[a] < 1 || g->stride[a] > 1 << 20 ||
			g->dilation[a] > 1 << 20 || g->kernel[a] < 1 || g->kernel[a] > 1 << 20)
			return lower_refuse(n, "stride %ld, dilation %ld, kernel %ld", g->stride[a],
				g->dilation[a], g->kernel[a]);
	}
	if (lower || attribute_is(n, "auto_pad", "", "SAME_UPPER"))
		same_pads(g, x, lower);
	return 0;
}

static void put_geometry(const struct geometry *g, int64_t *i)
{
	for (uint32_t a = 0; a < g->spatial; a++) {
		i[1 + a] = g->stride[a];
		i[4 + a] = g->dilation[a];
		i[7 + a] = g->before[a];
		i[10 + a] = g->after[a];
	}
}

static int batch_in_front(const struct onnx_node *n, int32_t x)
{
	return value_of(n, x)->batch > 0 ? lower_refuse(n, "the batch is not the first dimension")
					 : 0;
}

/* ---- convolution ---- */

static int32_t convolve(const struct onnx_node *n, int32_t x, int32_t w, int32_t bias,
	const struct geometry *g, int64_t groups)
{
	struct emission e = {
		MODEL_FN_CONV, 3, 1, {x, w, bias}, {groups}, {0}, {value_of(n, x)->batch}};

	if (value_of(n, w)->batch != IR_NONE ||
		(bias != IR_NONE && value_of(n, bias)->batch != IR_NONE))
		return lower_refuse(n, "weights vary with the batch");
	put_geometry(g, e.i);
	return emit(n, &e, NULL);
}

static int filter_kernel(const struct onnx_node *n, int32_t w, struct geometry *g)
{
	const struct tensor *t = &value_of(n, w)->t;

	if (t->rank < 3 || t->rank > 2 + SPATIAL)
		return lower_refuse(n, "filters of rank %u", t->rank);
	for (uint32_t a = 0; a + 2 < t->rank; a++)
		g->kernel[a] = t->dims[2 + a];
	return 0;
}

static int32_t convolution(const struct onnx_node *n, int32_t x, int32_t w, int32_t bias)
{
	struct geometry g = {.kernel = {1, 1, 1}};
	int rc;

	if (is_error(x) || is_error(w) || is_error(bias))
		return is_error(x) ? x : is_error(w) ? w : bias;
	rc = filter_kernel(n, w, &g);
	if (!rc)
		rc = read_geometry(n, &g, &value_of(n, x)->t);
	if (!rc)
		rc = batch_in_front(n, x);
	return rc ? rc : convolve(n, x, w, bias, &g, attribute_int(n, "group", 1));
}

BUILDER(build_conv)
{
	return emit_cast(n,
		convolution(
			n, emit_f32(n, n->in[0]), emit_f32(n, n->in[1]), emit_f32(n, input(n, 2))),
		value_of(n, n->in[0])->t.dtype);
}

/* x with stride - 1 zeros between neighbours along one spatial axis. */
static int32_t spread(const struct onnx_node *n, int32_t x, uint32_t axis, int64_t stride)
{
	int64_t zero[TENSOR_MAX_RANK] = {0}, after[TENSOR_MAX_RANK] = {0};
	struct tensor t;

	if (is_error(x) || stride == 1)
		return x;
	t = value_of(n, x)->t;
	after[axis + 1] = stride - 1;
	x = emit_pad(n, emit_unsqueeze(n, x, 1u << (axis + 1)), 0, zero, after, IR_NONE);
	t.dims[axis] *= (uint32_t)stride;
	if (is_error(x))
		return x;
	x = emit_view(n, x, t.rank, t.dims, value_of(n, x)->batch);
	return emit_slice(n, x, axis, 0, 1, t.dims[axis] - (uint32_t)stride + 1);
}

/* W [C][M/g][k] becomes [M][C/g][k] with the kernel reversed. */
static int32_t turned_filters(const struct onnx_node *n, int32_t w, int64_t groups)
{
	uint32_t perm[TENSOR_MAX_RANK] = {0, 2, 1, 3, 4, 5}, dims[TENSOR_MAX_RANK];
	struct tensor t = value_of(n, w)->t;

	if (groups < 1 || t.dims[0] % groups)
		return lower_refuse(n, "%u channels in %ld groups", t.dims[0], groups);
	for (uint32_t d = 2; d < t.rank; d++)
		w = emit_slice(n, w, d, (int64_t)t.dims[d] - 1, t.dims[d] > 1 ? -1 : 1, t.dims[d]);
	dims[0] = (uint32_t)groups;
	dims[1] = t.dims[0] / (uint32_t)groups;
	memcpy(&dims[2], &t.dims[1], (t.rank - 1) * sizeof(dims[0]));
	w = emit_transpose(n, emit_view(n, w, t.rank + 1, dims, IR_NONE), perm);
	dims[0] = dims[2] * (uint32_t)groups;
	dims[1] = t.dims[0] / (uint32_t)groups;
	memcpy(&dims[2], &t.dims[2], (t.rank - 2) * sizeof(dims[0]));
	return emit_view(n, w, t.rank, dims, IR_NONE);
}

/* Pads of the output from output_shape or auto_pad (ONNX's ConvTranspose). */
static int transpose_pads(
	const struct onnx_node *n, struct geometry *g, const struct tensor *x, const int64_t *extra)
{
	int64_t want[TENSOR_MAX_RANK];
	int count = attribute_ints(n, "output_shape", want, TENSOR_MAX_RANK);
	bool upper = attribute_is(n, "auto_pad", "", "SAME_UPPER");
	bool same = upper || attribute_is(n, "auto_pad", "", "SAME_LOWER");

	if (count < 0 && !same)
		return 0;
	if (count >= 0 && (uint32_t)count != g->spatial)
		return lower_refuse(n, "output_shape has %d entries", count);
	for (uint32_t a = 0; a < g->spatial; a++) {
		int64_t full = g->stride[a] * ((int64_t)x->dims[2 + a] - 1) + extra[a] +
			       (g->kernel[a] - 1) * g->dilation[a] + 1;
		int64_t total = full - (count >= 0 ? want[a] : x->dims[2 + a] * g->stride[a]);

		total = total < 0 && same ? 0 : total; /* a larger output_shape pads */
		int64_t half =
			total < 0 ? -((1 - total) / 2) : total / 2; /* toward minus infinity */

		g->before[a] = upper ? half : total - half;
		g->after[a] = total - g->before[a];
	}
	return 0;
}

/* A convolution of the spread input with the turned filters. */
BUILDER(build_conv_transpose)
{
	int32_t x = emit_f32(n, n->in[0]), w = emit_f32(n, n->in[1]);
	int64_t groups = attribute_int(n, "group", 1), extra[SPATIAL] = {0};
	int64_t before[TENSOR_MAX_RANK] = {0}, after[TENSOR_MAX_RANK] = {0};
	struct geometry g = {.kernel = {1, 1, 1}}, plain = {0};
	int rc = filter_kernel(n, w, &g);

	if (!rc)
		rc = read_geometry(n, &g, &value_of(n, x)->t);
	if (!rc)
		rc = batch_in_front(n, x);
	attribute_ints(n, "output_padding", extra, SPATIAL);
	if (!rc)
		rc = transpose_pads(n, &g, &value_of(n, x)->t, extra);
	if (rc)
		return rc;
	plain = g;
	for (uint32_t a = 0; a < g.spatial; a++) {
		int64_t reach = (g.kernel[a] - 1) * g.dilation[a];

		x = spread(n, x, 2 + a, g.stride[a]);
		before[2 + a] = reach - g.before[a];
		after[2 + a] = reach - g.after[a] + extra[a];
		plain.stride[a] = 1;
		plain.before[a] = plain.after[a] = 0;
	}
	x = emit_pad(n, x, 0, before, after, IR_NONE);
	w = turned_filters(n, w, groups);
	if (is_error(x) || is_error(w))
		return is_error(x) ? x : w;
	return emit_cast(n, convolve(n, x, w, emit_f32(n, input(n, 2)), &plain, groups),
		value_of(n, n->in[0])->t.dtype);
}

/* ---- pooling ---- */

/* argument: enum tensor_pool. */
BUILDER(build_pool)
{
	int64_t fn = n->argument;
	struct emission e = {.function = MODEL_FN_POOL,
		.n_in = 1,
		.n_out = n->n_out > 1 && fn == POOL_MAX ? 2 : 1};
	struct geometry g = {.kernel = {0, 0, 0}};
	int32_t out[TENSOR_MAX_OUT];
	int rc;

	e.in[0] = emit_f32(n, n->in[0]);
	if (is_error(e.in[0]))
		return e.in[0];
	attribute_ints(n, "kernel_shape", g.kernel, SPATIAL);
	rc = read_geometry(n, &g, &value_of(n, e.in[0])->t);
	if (!rc)
		rc = batch_in_front(n, e.in[0]);
	if (!rc && e.n_out > 1 && value_of(n, e.in[0])->batch != IR_NONE)
		rc = lower_refuse(n, "indices into a batch");
	if (rc)
		return rc;
	put_geometry(&g, e.i);
	if (fn == POOL_AVERAGE && attribute_int(n, "count_include_pad", 0))
		fn = POOL_AVERAGE_PADDED;
	e.i[0] = fn;
	for (uint32_t a = 0; a < SPATIAL; a++)
		e.i[13 + a] = g.kernel[a];
	e.i[16] = attribute_int(n, "ceil_mode", 0);
	e.i[17] = attribute_int(n, "p", 2);
	e.i[18] = attribute_int(n, "storage_order", 0);
	e.batch[0] = e.batch[1] = value_of(n, e.in[0])->batch;
	rc = emit(n, &e, out);
	if (is_error(rc))
		return rc;
	n->out[1] = e.n_out > 1 ? out[1] : IR_NONE;
	return emit_cast(n, out[0], value_of(n, n->in[0])->t.dtype);
}

static uint32_t spatial_mask(const struct onnx_node *n, int32_t x)
{
	uint32_t rank = value_of(n, x)->t.rank;

	return (1u << rank) - 1 - (rank > 1 ? 3 : rank);
}

/* argument: enum tensor_reduce. */
BUILDER(build_global_pool)
{
	return emit_cast(n,
		emit_reduce(n, n->argument, emit_f32(n, n->in[0]), spatial_mask(n, n->in[0]), true),
		value_of(n, n->in[0])->t.dtype);
}

/* ---- normalisation ---- */

/* A vector per channel, ready to broadcast along dimension 1 of x. */
static int32_t per_channel(const struct onnx_node *n, int32_t vector, int32_t x)
{
	uint32_t mask = 0;

	for (uint32_t d = 2; d < value_of(n, x)->t.rank; d++)
		mask |= 1u << (d - 1);
	return mask ? emit_unsqueeze(n, vector, mask) : vector;
}

/* (x - mean) / sqrt(variance + epsilon) as factor and shift: both fold where they are constant. */
BUILDER(build_batch_norm)
{
	uint32_t dtype = value_of(n, n->in[0])->t.dtype;
	int32_t x = emit_f32(n, n->in[0]), part[4], factor, shift;

	if (attribute_int(n, "training_mode", 0))
		return lower_refuse(n, "training mode");
	for (size_t k = 0; k < 4; k++)
		part[k] = per_channel(n, emit_f32(n, n->in[k + 1]), x);
	factor = emit_binary(n, BINARY_ADD, part[3],
		emit_scalar(n, WIRE_F32, (double)attribute_float(n, "epsilon", 1e-5f)));
	factor = emit_binary(n, BINARY_DIV, part[0], emit_unary(n, UNARY_SQRT, factor, 0, 0));
	shift = emit_binary(n, BINARY_SUB, part[1], emit_binary(n, BINARY_MUL, part[2], factor));
	return emit_cast(
		n, emit_binary(n, BINARY_ADD, emit_binary(n, BINARY_MUL, x, factor), shift), dtype);
}

/* x minus its mean over `mask`, divided by its deviation; *mean and *inverse may be NULL. */
static int32_t normalised(const struct onnx_node *n, int32_t x, uint32_t mask, double epsilon,
	int32_t *mean_out, int32_t *inverse_out)
{
	int32_t mean = emit_reduce(n, REDUCE_MEAN, x, mask, true);
	int32_t centred = emit_binary(n, BINARY_SUB, x, mean);
	int32_t variance = emit_reduce(
		n, REDUCE_MEAN, emit_binary(n, BINARY_MUL, centred, centred), mask, true);
	int32_t inverse = emit_unary(n, UNARY_RECIPROCAL,
		emit_unary(n, UNARY_SQRT,
			emit_binary(n, BINARY_ADD, variance, emit_scalar(n, WIRE_F32, epsilon)), 0,
			0),
		0, 0);

	if (mean_out)
		*mean_out = mean;
	if (inverse_out)
		*inverse_out = inverse;
	return emit_binary(n, BINARY_MUL, centred, inverse);
}

BUILDER(build_instance_norm)
{
	int32_t x = emit_f32(n, n->in[0]), y;

	y = normalised(
		n, x, spatial_mask(n, x), (double)attribute_float(n, "epsilon", 1e-5f), NULL, NULL);
	y = emit_binary(n, BINARY_MUL, y, per_channel(n, emit_f32(n, n->in[1]), x));
	return emit_cast(n, emit_binary(n, BINARY_ADD, y, per_channel(n, emit_f32(n, n->in[2]), x)),
		value_of(n, n->in[0])->t.dtype);
}

BUILDER(build_mvn)
{
	int64_t axes[TENSOR_MAX_RANK] = {0, 2, 3};
	int count = attribute_ints(n, "axes", axes, TENSOR_MAX_RANK);
	uint32_t mask = 0, axis;

	for (int k = 0; k < (count < 0 ? 3 : count); k++) {
		int rc = lower_axis(n, n->in[0], axes[k], &axis);

		if (rc)
			return rc;
		mask |= 1u << axis;
	}
	return normalised(n, n->in[0], mask, 1e-18, NULL, NULL);
}

BUILDER(build_layer_norm)
{
	struct emission e = {.function = MODEL_FN_LAYER_NORM, .n_in = 3};
	uint32_t dtype = value_of(n, n->in[0])->t.dtype, axis, mask;
	int32_t x = emit_f32(n, n->in[0]), y;
	int rc = lower_axis(n, n->in[0], attribute_int(n, "axis", -1), &axis);

	if (rc || is_error(x))
		return rc ? rc : x;
	e.i[0] = axis;
	e.f[0] = attribute_float(n, "epsilon", 1e-5f);
	e.in[0] = x;
	e.in[1] = emit_f32(n, n->in[1]);
	e.in[2] = emit_f32(n, input(n, 2));
	e.batch[0] = value_of(n, x)->batch;
	if (e.batch[0] >= (int32_t)axis)
		return lower_refuse(n, "normalises over the batch dimension");
	mask = (1u << value_of(n, x)->t.rank) - (1u << axis);
	if (n->n_out > 1)
		normalised(n, x, mask, (double)e.f[0], &n->out[1], &n->out[2]);
	y = emit(n, &e, NULL);
	return emit_cast(n, y, dtype);
}

BUILDER(build_lp_norm)
{
	int64_t p = attribute_int(n, "p", 2);
	uint32_t axis;
	int rc = lower_axis(n, n->in[0], attribute_int(n, "axis", -1), &axis);

	if (!rc && p != 1 && p != 2)
		rc = lower_refuse(n, "p is %ld", p);
	return rc ? rc
		  : emit_binary(n, BINARY_DIV, n->in[0],
			    emit_reduce(
				    n, p == 1 ? REDUCE_L1 : REDUCE_L2, n->in[0], 1u << axis, true));
}

/* Sum of squares over neighbouring channels: an average pool along them. */
BUILDER(build_lrn)
{
	const struct tensor t = value_of(n, n->in[0])->t;
	int64_t size = attribute_int(n, "size", 1);
	struct emission e = {.function = MODEL_FN_POOL, .n_in = 1, .i = {POOL_AVERAGE_PADDED}};
	uint32_t dims[4] = {t.dims[0], 1, t.rank > 1 ? t.dims[1] : 1, 1};
	int32_t batch = value_of(n, n->in[0])->batch, sum;

	if (t.rank < 3 || size < 1 || size > 1 << 20 || t.dtype != WIRE_F32 || batch > 0)
		return lower_refuse(n, "rank %u, size %ld", t.rank, size);
	dims[3] = (uint32_t)tensor_span(&t, 2, t.rank);
	for (uint32_t a = 0; a < 2; a++) {
		e.i[1 + a] = e.i[4 + a] = 1;
		e.i[13 + a] = a ? 1 : size;
	}
	e.i[7] = (size - 1) / 2;
	e.i[10] = size - 1 - e.i[7];
	e.batch[0] = batch;
	e.in[0] = emit_view(n, emit_binary(n, BINARY_MUL, n->in[0], n->in[0]), 4, dims, batch);
	sum = emit_view(n, emit(n, &e, NULL), t.rank, t.dims, batch);
	sum = emit_unary(n, UNARY_AFFINE, sum, attribute_float(n, "alpha", 1e-4f),
		attribute_float(n, "bias", 1));
	return emit_binary(n, BINARY_DIV, n->in[0],
		emit_binary(n, BINARY_POW, sum,
			emit_scalar(n, WIRE_F32, (double)attribute_float(n, "beta", 0.75f))));
}

/* ---- resize ---- */

struct resize_axis {
	uint32_t in, out;
	double scale;
};

/* Where output position o lies in the input (ONNX's coordinate_transformation_mode). */
static double resize_source(const struct onnx_node *n, const struct resize_axis *r, uint32_t o)
{
	static const char mode[] = "coordinate_transformation_mode";
	const char *fallback = n->opset < 11 ? "asymmetric" : "half_pixel";

	if (attribute_is(n, mode, fallback, "asymmetric"))
		return o / r->scale;
	if (attribute_is(n, mode, fallback, "align_corners"))
		return r->out > 1 ? o * (double)(r->in - 1) / (r->in * r->scale - 1) : 0;
	if (attribute_is(n, mode, fallback, "pytorch_half_pixel") && r->out == 1)
		return 0;
	return (o + 0.5) / r->scale - 0.5;
}

static uint32_t resize_nearest(const struct onnx_node *n, const struct resize_axis *r, uint32_t o)
{
	double x = resize_source(n, r, o), y = ceil(x - 0.5); /* round_prefer_floor */

	if (n->opset < 11 || attribute_is(n, "nearest_mode", "round_prefer_floor", "floor"))
		y = floor(x);
	else if (attribute_is(n, "nearest_mode", "round_prefer_floor", "ceil"))
		y = ceil(x);
	else if (attribute_is(n, "nearest_mode", "round_prefer_floor", "round_prefer_ceil"))
		y = floor(x + 0.5);
	return y < 0 ? 0 : y > r->in - 1 ? r->in - 1 : (uint32_t)y;
}

/* Weights of the neighbours around x: 2 (linear) or 4 (cubic, coefficient a). */
static int resize_weights(bool cubic, double a, double part, double *w)
{
	if (!cubic) {
		w[0] = 1 - part;
		w[1] = part;
		return 2;
	}
	for (int k = 0; k < 4; k++) {
		double d = fabs(part + 1 - k);

		w[k] = d <= 1 ? ((a + 2) * d - (a + 3)) * d * d + 1
			      : ((a * d - 5 * a) * d + 8 * a) * d - 4 * a;
	}
	return 4;
}

/* Interpolation along one axis as a matrix [out][in]. */
static void resize_matrix(const struct onnx_node *n, const struct resize_axis *r, float *to)
{
	bool cubic = attribute_is(n, "mode", "nearest", "cubic");
	bool exclude = attribute_int(n, "exclude_outside", 0);
	double a = (double)attribute_float(n, "cubic_coeff_a", -0.75f), w[4];

	for (uint32_t o = 0; o < r->out; o++) {
		double x = resize_source(n, r, o), base = floor(x), sum = 0;
		int taps = resize_weights(cubic, a, x - base, w);

		for (int k = 0; k < taps; k++) {
			double at = base + k - (cubic ? 1 : 0);

			w[k] = exclude && (at < 0 || at > r->in - 1) ? 0 : w[k];
			sum += w[k];
		}
		for (int k = 0; k < taps; k++) {
			double at = base + k - (cubic ? 1 : 0);

			at = at < 0 ? 0 : at > r->in - 1 ? r->in - 1 : at;
			to[(size_t)o * r->in + (uint32_t)at] += (float)(w[k] / sum);
		}
	}
}

static int32_t resize_along(
	const struct onnx_node *n, int32_t x, uint32_t axis, const struct resize_axis *r)
{
	const struct tensor t = value_of(n, x)->t;
	const int32_t batch = value_of(n, x)->batch;
	uint32_t shape[3] = {(uint32_t)tensor_span(&t, 0, axis), r->in,
		(uint32_t)tensor_span(&t, axis + 1, t.rank)};
	uint32_t matrix[2] = {r->out, r->in};
	struct tensor out = t;
	void *data = arena_alloc(n->g->arena, (size_t)r->out * (r->in + 1), sizeof(int64_t));

	if (!data || r->in > 1 << 16 || r->out > 1 << 16)
		return lower_refuse(n, "%u to %u: too large", r->in, r->out);
	out.dims[axis] = r->out;
	if (attribute_is(n, "mode", "nearest", "nearest")) {
		for (uint32_t o = 0; o < r->out; o++)
			((int64_t *)data)[o] = resize_nearest(n, r, o);
		return emit(n,
			&(struct emission){MODEL_FN_GATHER, 2, 1,
				{x, emit_constant(n, WIRE_I64, 1, &r->out, data)}, {axis}, {0},
				{batch}},
			NULL);
	}
	resize_matrix(n, r, data);
	/* A batch in front of all others stays outermost: every slice is multiplied alike. */
	x = emit_view(n, emit_f32(n, x), 3, shape, batch == IR_NONE ? IR_NONE : 0);
	x = emit_matmul(n, emit_constant(n, WIRE_F32, 2, matrix, data), x);
	return emit_cast(n, emit_view(n, x, out.rank, out.dims, batch), t.dtype);
}

/* Sizes and scales per axis from the inputs; all constant. */
static int resize_axes(const struct onnx_node *n, const struct tensor *t, struct resize_axis *r)
{
	bool old = n->opset < 11;
	int32_t scales = input(n, old ? 1 : 2), sizes = old ? IR_NONE : input(n, 3);
	int64_t which[TENSOR_MAX_RANK];
	int n_axes = attribute_ints(n, "axes", which, TENSOR_MAX_RANK);
	const Onnx__AttributeProto *attr = attribute(n, "scales");
	const float *f = attr ? attr->floats : NULL;
	const int64_t *s = NULL;
	size_t count = attr ? attr->n_floats : 0;
	int rc = 0;

	if (sizes != IR_NONE)
		rc = constant_ints(n, sizes, &s, &count);
	else if (scales != IR_NONE)
		rc = constant_floats(n, scales, &f, &count);
	if (rc)
		return rc;
	for (uint32_t d = 0; d < t->rank; d++)
		r[d] = (struct resize_axis){t->dims[d], t->dims[d], 1};
	if ((!s && !f) || count != (n_axes < 0 ? t->rank : (size_t)n_axes))
		return lower_refuse(n, "%zu scales or sizes for rank %u", count, t->rank);
	for (size_t k = 0; k < count; k++) {
		int64_t d = n_axes < 0 ? (int64_t)k : which[k] < 0 ? which[k] + t->rank : which[k];
		double out;

		if (!tensor_axis(d, t->rank))
			return lower_refuse(n, "axis %ld", d);
		if (s && s[k] == IR_BATCH_SIZE)
			continue;
		out = s ? (double)s[k] : floor(t->dims[d] * (double)f[k]);
		if (!(out >= 1 && out <= 1 << 16))
			return lower_refuse(n, "axis %ld becomes %g", d, out);
		r[d] = (struct resize_axis){
			t->dims[d], (uint32_t)out, s ? out / t->dims[d] : (double)f[k]};
	}
	return 0;
}

BUILDER(build_resize)
{
	const struct tensor t = value_of(n, n->in[0])->t;
	struct resize_axis r[TENSOR_MAX_RANK];
	int32_t x = n->in[0];
	int rc = resize_axes(n, &t, r);

	if (rc)
		return rc;
	if (attribute_is(n, "coordinate_transformation_mode", "", "tf_crop_and_resize") ||
		attribute_int(n, "antialias", 0) ||
		attribute_is(n, "coordinate_transformation_mode", "", "half_pixel_symmetric") ||
		!attribute_is(n, "keep_aspect_ratio_policy", "stretch", "stretch"))
		return lower_refuse(n, "crop, antialias, symmetric or aspect ratio mode");
	for (uint32_t d = 0; d < t.rank && !is_error(x); d++) {
		if (r[d].in == r[d].out && r[d].scale >= 1 && r[d].scale <= 1)
			continue;
		if ((int32_t)d <= value_of(n, x)->batch)
			return lower_refuse(n, "resizes the batch dimension");
		x = resize_along(n, x, d, &r[d]);
	}
	return x;
}

/* ---- recurrent ---- */

static int64_t cell_function(const uint8_t *name, size_t length)
{
	static const struct {
		const char *name;
		int64_t fn;
	} table[] = {{"Sigmoid", UNARY_SIGMOID}, {"Tanh", UNARY_TANH}, {"Relu", UNARY_RELU},
		{"Softsign", UNARY_SOFTSIGN}, {"Softplus", UNARY_SOFTPLUS}};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (strlen(table[i].name) == length && !memcmp(table[i].name, name, length))
			return table[i].fn;
	return -1;
}

static int cell_activations(const struct onnx_node *n, int64_t *i)
{
	static const int64_t defaults[CELL_END][3] = {{UNARY_TANH, 0, 0},
		{UNARY_SIGMOID, UNARY_TANH, 0}, {UNARY_SIGMOID, UNARY_TANH, UNARY_TANH}};
	const uint32_t each = (uint32_t)n->argument + 1;
	const Onnx__AttributeProto *a = attribute(n, "activations");

	for (uint32_t k = 0; k < 6; k++)
		i[k] = defaults[n->argument][k % 3];
	for (size_t k = 0; a && k < a->n_strings && k < 2 * each; k++) {
		int64_t fn = cell_function(a->strings[k].data, a->strings[k].len);

		if (fn < 0)
			return lower_refuse(n, "activation %zu", k);
		i[k / each * 3 + k % each] = fn;
	}
	return 0;
}

/* argument: enum tensor_cell. layout 1 puts the batch first: transposed around the kernel. */
BUILDER(build_recurrent)
{
	static const uint32_t swap[4] = {1, 0, 2, 3}, swap_y[4] = {2, 0, 1, 3};
	bool batch_first = attribute_int(n, "layout", 0), clip = attribute(n, "clip") != NULL;
	struct emission e = {.function = MODEL_FN_RECURRENT,
		.n_in = 8,
		.n_out = n->argument == CELL_LSTM ? 3 : 2,
		.f = {attribute_float(n, "clip", 0)}};
	int32_t out[TENSOR_MAX_OUT], batch;
	int rc = cell_activations(n, &e.i[4]);

	e.i[0] = n->argument;
	e.i[1] = attribute_is(n, "direction", "forward", "reverse")         ? 1
		 : attribute_is(n, "direction", "forward", "bidirectional") ? 2
									    : 0;
	e.i[2] = attribute_int(n, "linear_before_reset", 0);
	e.i[3] = attribute_int(n, "input_forget", 0);
	e.i[10] = clip;
	for (size_t k = 0; k < 8; k++) {
		e.in[k] = k == 4 ? input(n, k) : emit_f32(n, input(n, k));
		if (batch_first && (k == 0 || k == 5 || k == 6) && e.in[k] >= 0)
			e.in[k] = emit_transpose(n, e.in[k], swap);
	}
	if (rc || is_error(e.in[0]))
		return rc ? rc : e.in[0];
	batch = value_of(n, e.in[0])->batch;
	if (batch != IR_NONE && batch != 1)
		return lower_refuse(n, "the batch is not where layout says");
	for (size_t k = 1; k < 8; k++)
		if (e.in[k] >= 0 && value_of(n, e.in[k])->batch != IR_NONE &&
			value_of(n, e.in[k])->batch != (k == 4 ? 0 : 1))
			return lower_refuse(n, "input %zu varies with the batch", k);
	e.batch[0] = batch == IR_NONE ? IR_NONE : 2;
	e.batch[1] = e.batch[2] = batch;
	rc = emit(n, &e, out);
	if (is_error(rc))
		return rc;
	for (uint32_t k = 0; k < e.n_out && k < n->n_out; k++) {
		n->out[k] = batch_first ? emit_transpose(n, out[k], k ? swap : swap_y) : out[k];
		if (is_error(n->out[k]))
			return n->out[k];
	}
	return n->out[0];
}
