/* SPDX-License-Identifier: BSD-3-Clause
 * Windows over one to three spatial dimensions: the geometry that convolution and pooling share.
 *
 * Stride, dilation and pads are the operator's attributes i[1..12] (tensor.h). The spatial
 * dimensions of input and output begin at dimension `first`: 2 with channels in front of them
 * (ONNX), 1 with channels last.
 */
#pragma once

#include "models/run/tensor.h"

enum { SPATIAL = 3, WINDOW_LIMIT = 1 << 20 };

/* Always three axes; missing ones in front are 1 wide. */
struct window {
	size_t in[SPATIAL], out[SPATIAL], kernel[SPATIAL];
	int64_t stride[SPATIAL], dilation[SPATIAL], pad[SPATIAL], pad_after[SPATIAL];
	size_t in_elements, out_elements, kernel_elements;
};

/* Check the attributes and set the spatial dimensions of out[0]; -EINVAL when no window fits. */
int window_infer(struct tensor_op *op, const uint32_t *kernel, uint32_t first, bool ceil_mode,
	struct error *err);

/* Read the geometry of an operator that window_infer() has accepted. */
void window_init(
	struct window *w, const struct tensor_op *op, const uint32_t *kernel, uint32_t first);

/* Input positions [from, to) of one output position along one axis, `step` apart, and how many they
 * would be with the padding. */
struct reach {
	int64_t from, to, step, padded;
};

struct reach window_reach(const struct window *w, uint32_t axis, size_t output);

/* Number of positions of a reach that lie inside the input. */
static inline size_t reach_count(const struct reach *r)
{
	return r->to > r->from ? (size_t)((r->to - r->from + r->step - 1) / r->step) : 0;
}
