/* SPDX-License-Identifier: BSD-3-Clause
 * ONNX model → graph: names resolved, operators and shapes checked.
 */
#pragma once

#include "models/compile/compile.h"
#include "models/compile/ir.h"
#include "models/compile/onnx_wire.h"

enum { ONNX_MAX_OPSET = 21 };

/* Fill `g` from `model`, which must outlive it. Refusals (-EINVAL malformed, -ENOTSUP not
 * supported, -E2BIG, -ENOMEM) name the node, operator or tensor. */
int onnx_read(const Onnx__ModelProto *model, const struct compile_options *options,
	struct arena *arena, struct ir_graph *g, struct error *err);
