/* SPDX-License-Identifier: BSD-3-Clause
 * The flat plan: what goes into the artifact's program and weights sections.
 */
#pragma once

#include "models/compile/compile.h"
#include "models/compile/ir.h"

struct plan {
	struct model_program program;
	struct model_buffer *buffers;
	struct model_op *ops;
	struct model_tensor_op *tensors;
	uint8_t *weights; /* packed, 64-byte aligned; the arena's */
	uint64_t weights_bytes;
	struct model_file_io inputs[MODEL_FILE_MAX_IO], outputs[MODEL_FILE_MAX_IO];
	uint32_t n_inputs, n_outputs;
	uint64_t parameters, flops; /* per row, for people */
	uint32_t n_dense;
};

/* Place every buffer, flatten every node and pack the weights; backend, precision and layers of `o`
 * choose their layout. Everything belongs to g->arena. -ENOTSUP, -E2BIG, -ENOMEM. */
int plan_build(struct ir_graph *g, const struct compile_options *o, struct plan *p,
	struct error *err);
