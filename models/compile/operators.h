/* SPDX-License-Identifier: BSD-3-Clause
 * The table of ONNX operators: what each takes, and how one node becomes graph nodes. This list is
 * also the documentation: `millrace-model operators` prints it.
 */
#pragma once

#include "models/compile/ir.h"
#include "models/compile/onnx_wire.h"

enum { OPERATOR_MAX_INPUTS = 4 };

/* One ONNX node being read. */
struct onnx_node {
	const Onnx__NodeProto *proto;
	const char *name; /* never NULL: the node's, or its first output's */
	int64_t opset;
	size_t n_in;
	int32_t in[OPERATOR_MAX_INPUTS]; /* values; IR_NONE for one left out */
};

struct onnx_operator {
	const char *name;
	size_t min_inputs, max_inputs;
	const char *attributes; /* comma-separated names that may appear */
	/* Append nodes; returns the value of the (only) output, or -errno with err. */
	int32_t (*build)(struct ir_graph *g, const struct onnx_node *n, struct error *err);
	const char *help;
};

/* NULL when the operator is not supported. */
const struct onnx_operator *operator_find(const char *name);

/* Row i of the table, NULL after the last. */
const struct onnx_operator *operator_at(size_t i);
