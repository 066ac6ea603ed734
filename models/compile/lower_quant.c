/* SPDX-License-Identifier: BSD-3-Clause
 * Builders: quantised operators, put together from float32 and INT32 ones (products and sums are
 * exact below 2^24).
 */
#include <string.h>

#include "models/compile/lower.h"

/* ---- quantisation ---- */

/* A scale or zero point with one element per index of `axis` of x, ready to broadcast. */
static int32_t along_axis(const struct onnx_node *n, int32_t v, int32_t x, int64_t axis)
{
	uint32_t rank = value_of(n, x)->t.rank, mask = 0;

	if (is_error(v) || v == IR_NONE || value_of(n, v)->t.rank == 0)
		return v;
	axis = axis < 0 ? axis + rank : axis;
	if (tensor_elements(&value_of(n, v)->t) == 1)
		return emit_squeeze(n, v, (1u << value_of(n, v)->t.rank) - 1);
	if (value_of(n, v)->t.rank != 1 || !tensor_axis(axis, rank))
		return lower_refuse(n, "a scale of rank %u", value_of(n, v)->t.rank);
	for (uint32_t d = (uint32_t)axis + 1; d < rank; d++)
		mask |= 1u << (d - (uint32_t)axis);
	return mask ? emit_unsqueeze(n, v, mask) : v;
}

/* round(x / scale) + zero point, saturated to the dtype. */
static int32_t quantised(
	const struct onnx_node *n, int32_t x, int32_t scale, int32_t zero, uint32_t dtype)
{
	int32_t y = emit_unary(n, UNARY_ROUND, emit_binary(n, BINARY_DIV, x, scale), 0, 0);

	if (zero != IR_NONE)
		y = emit_binary(n, BINARY_ADD, y, emit_f32(n, zero));
	y = emit_unary(n, UNARY_CLIP, y, dtype == WIRE_I8 ? -128 : 0, dtype == WIRE_I8 ? 127 : 255);
	return emit_cast(n, y, dtype);
}

BUILDER(build_quantize)
{
	int64_t axis = attribute_int(n, "axis", 1);
	int32_t zero = along_axis(n, input(n, 2), n->in[0], axis);
	uint32_t dtype = zero >= 0 ? value_of(n, zero)->t.dtype : WIRE_U8;

	if (is_error(zero) || (dtype != WIRE_U8 && dtype != WIRE_I8))
		return is_error(zero) ? zero : lower_refuse(n, "zero point of dtype %u", dtype);
	return quantised(n, emit_f32(n, n->in[0]),
		along_axis(n, emit_f32(n, n->in[1]), n->in[0], axis), zero, dtype);
}

BUILDER(build_dequantize)
{
	int64_t axis = attribute_int(n, "axis", 1);
	int32_t x = emit_cast(n, n->in[0], WIRE_I32);
	int32_t zero = along_axis(n, input(n, 2), n->in[0], axis);

	if (zero != IR_NONE)
		x = emit_binary(n, BINARY_SUB, x, emit_cast(n, zero, WIRE_I32));
	return emit_binary(n, BINARY_MUL, emit_f32(n, x),
		along_axis(n, emit_f32(n, n->in[1]), n->in[0], axis));
}

/* Scale and zero point from the smallest and largest element, 0 among them. */
BUILDER(build_dynamic_quantize)
{
	uint32_t all = (1u << value_of(n, n->in[0])->t.rank) - 1;
	int32_t x = n->in[0], none = emit_scalar(n, WIRE_F32, 0), low, high, zero;

	low = emit_binary(n, BINARY_MIN, none, emit_reduce(n, REDUCE_MIN, x, all, false));
	high = emit_binary(n, BINARY_MAX, none, emit_reduce(n, REDUCE_MAX, x, all, false));
	n->out[1] = emit_binary(n, BINARY_DIV, emit_binary(n, BINARY_SUB, high, low),
		emit_scalar(n, WIRE_F32, 255));
	zero = emit_unary(n, UNARY_NEG, emit_binary(n, BINARY_DIV, low, n->out[1]), 0, 0);
	zero = emit_unary(n, UNARY_ROUND, emit_unary(n, UNARY_CLIP, zero, 0, 255), 0, 0);
	n->out[2] = emit_cast(n, zero, WIRE_U8);
	return quantised(n, x, n->out[1], n->out[2], WIRE_U8);
}

/* x - zero as INT32; a zero point with one element per row of a matrix counts rows. */
static int32_t centred(const struct onnx_node *n, int32_t x, int32_t zero, bool by_row)
{
	int32_t wide = emit_cast(n, x, WIRE_I32);

	if (zero == IR_NONE)
		return wide;
	if (by_row && value_of(n, zero)->t.rank == 1 && value_of(n, zero)->t.dims[0] > 1)
		zero = emit_unsqueeze(n, zero, 2);
	return emit_binary(n, BINARY_SUB, wide, emit_cast(n, zero, WIRE_I32));
}

BUILDER(build_matmul_integer)
{
	return emit_matmul(n, centred(n, n->in[0], input(n, 2), true),
		centred(n, n->in[1], input(n, 3), false));
}

/* a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero */
BUILDER(build_qlinear_matmul)
{
	int32_t y = emit_matmul(
		n, centred(n, n->in[0], n->in[2], true), centred(n, n->in[3], n->in[5], false));
	int32_t scale = emit_binary(n, BINARY_MUL, emit_f32(n, n->in[1]), emit_f32(n, n->in[4]));

	return quantised(n, emit_binary(n, BINARY_MUL, emit_f32(n, y), scale),
		emit_f32(n, n->in[6]), n->in[7], value_of(n, n->in[7])->t.dtype);
}

/* A zero point per filter stands in front of channels and kernel. */
static int32_t filters_centred(const struct onnx_node *n, int32_t w, int32_t zero)
{
	if (zero != IR_NONE && value_of(n, zero)->t.rank == 1)
		zero = along_axis(n, zero, w, 0);
	return emit_f32(n, centred(n, w, zero, false));
}

/* The same node with other inputs, for a builder of another operator. */
static int32_t convolve_f32(const struct onnx_node *n, int32_t x, int32_t w, int32_t bias)
{
	struct onnx_node *copy = arena_alloc(n->g->arena, 1, sizeof(*copy));

	if (!copy)
		return error_set(n->err, -ENOMEM, "no memory for a node");
	if (is_error(x) || is_error(w) || is_error(bias))
		return is_error(x) ? x : is_error(w) ? w : bias;
	*copy = *n;
	copy->n_in = bias == IR_NONE ? 2 : 3;
	copy->in[0] = x;
	copy->in[1] = w;
	copy->in[2] = bias;
	return build_conv(copy);
}

BUILDER(build_conv_integer)
{
	return emit_cast(n,
		convolve_f32(n, emit_f32(n, centred(n, n->in[0], input(n, 2), false)),
			filters_centred(n, n->in[1], input(n, 3)), IR_NONE),
		WIRE_I32);
}

/* x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias */
BUILDER(build_qlinear_conv)
{
	int32_t y = convolve_f32(n, emit_f32(n, centred(n, n->in[0], n->in[2], false)),
		filters_centred(n, n->in[3], n->in[5]), emit_f32(n, input(n, 8)));
	int32_t scale;

	if (is_error(y))
		return y;
	scale = emit_binary(
		n, BINARY_MUL, emit_f32(n, n->in[1]), along_axis(n, emit_f32(n, n->in[4]), y, 1));
	return quantised(n, emit_binary(n, BINARY_MUL, y, scale), emit_f32(n, n->in[6]), n->in[7],
		value_of(n, n->in[7])->t.dtype);
}
