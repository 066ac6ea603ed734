/* SPDX-License-Identifier: BSD-3-Clause
 * The table of ONNX operators: what each takes, and how one node becomes graph nodes. This list is
 * also the documentation: `millrace-model operators` prints it.
 */
#pragma once

#include "models/compile/ir.h"
#include "models/compile/onnx_wire.h"

enum { OPERATOR_MAX_INPUTS = 256, OPERATOR_MAX_OUTPUTS = 64 };

/* One ONNX node being read, and everything its builder needs. */
struct onnx_node {
	const Onnx__NodeProto *proto;
	const char *name; /* never NULL: the node's, or its first output's */
	int64_t opset;    /* of the node's domain */
	int64_t argument; /* the table's */
	size_t n_in, n_out;
	int32_t in[OPERATOR_MAX_INPUTS];   /* values; IR_NONE for one left out */
	int32_t out[OPERATOR_MAX_OUTPUTS]; /* set by the builder; IR_NONE at first */
	struct ir_graph *g;
	struct error *err;
};

struct onnx_operator {
	const char *domain; /* "" is ai.onnx */
	const char *name;
	int64_t since; /* first opset it exists in */
	size_t min_inputs, max_inputs;
	const char *attributes; /* comma-separated names that may appear */
	/* Append nodes; returns the value of output 0, or -errno with err. */
	int32_t (*build)(struct onnx_node *n);
	int64_t argument; /* for the builder */
	const char *help;
};

/* NULL when the operator is not supported. */
const struct onnx_operator *operator_find(const char *domain, const char *name);

/* Row i of the table, NULL after the last. */
const struct onnx_operator *operator_at(size_t i);
