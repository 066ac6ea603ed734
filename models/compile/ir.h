/* SPDX-License-Identifier: BSD-3-Clause
 * The graph between ONNX and the flat plan: values (tensors) and nodes (operators on them).
 *
 * Nodes stand in an order in which every input is produced before it is used; passes keep that. A
 * run-time value of a batched graph has BATCH as its first dimension; in an unbatched graph one
 * "row" is the whole tensor. Names and constants point into the ONNX message, which outlives the
 * graph; everything else is the arena's.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "abi/model_file.h"
#include "base/error.h"
#include "models/compile/arena.h"
#include "models/run/kernels.h"

enum {
	IR_BATCH = -1,
	IR_MAX_RANK = MODEL_FILE_MAX_RANK + 1, /* with the batch dimension */
	IR_MAX_NODES = 3 * MODEL_FILE_MAX_OPS, /* one ONNX node becomes up to three */
	IR_MAX_VALUES = 1 << 18,
	IR_NONE = -1,
};

enum ir_op {
	IR_DEAD = 0,
	IR_IDENTITY, /* in[0] as it is */
	IR_VIEW,     /* in[0]'s elements with the output's shape */
	IR_UNARY,    /* act */
	IR_BINARY,   /* function */
	IR_SOFTMAX,  /* m, n, k */
	IR_MATMUL,   /* alpha, trans_a, trans_b; shapes as numpy.matmul */
	IR_DENSE, /* in[1] constant weights (alpha, trans_b), in[2] bias vector or IR_NONE; act */
};

struct ir_shape {
	uint32_t rank;
	int64_t dims[IR_MAX_RANK]; /* > 0, or IR_BATCH at [0] */
};

struct ir_value {
	const char *name;
	struct ir_shape shape;
	const float *f32;   /* constant, or NULL */
	const int64_t *i64; /* constant shape argument, or NULL */
	uint64_t elements;  /* per row for run-time values */
	bool is_input;
};

struct ir_node {
	enum ir_op op;
	const char *name; /* for people */
	int32_t in[3];    /* value, or IR_NONE */
	int32_t out;
	struct activation act;
	enum model_binary function;
	float alpha;
	bool trans_a, trans_b;
	uint32_t m, n, k;
};

struct ir_port {
	const char *name; /* a later pass may replace the value, never the name */
	int32_t value;
};

struct ir_graph {
	struct arena *arena;
	struct ir_value *values;
	struct ir_node *nodes;
	int32_t n_values, n_nodes;
	int32_t max_values, max_nodes;
	struct ir_port inputs[MODEL_FILE_MAX_IO], outputs[MODEL_FILE_MAX_IO];
	uint32_t n_inputs, n_outputs;
	bool batched;
};

/* Reserve room for a graph of so many values and nodes. -E2BIG or -ENOMEM. */
int ir_init(
	struct ir_graph *g, struct arena *arena, size_t values, size_t nodes, struct error *err);

/* New value of `shape`; counts and caps its elements. Returns its index, or -errno. */
int32_t ir_value_new(
	struct ir_graph *g, const char *name, const struct ir_shape *shape, struct error *err);

/* New node with its inputs and output IR_NONE and alpha 1; NULL with err when the table is full. */
struct ir_node *ir_node_new(struct ir_graph *g, enum ir_op op, const char *name, struct error *err);

static inline bool ir_is_constant(const struct ir_graph *g, int32_t value)
{
	return g->values[value].f32 || g->values[value].i64;
}

/* An element-wise node on constants is computed now: its output becomes a constant, the node dead.
 * Other nodes are left alone. -ENOMEM, or 0. */
int ir_fold(struct ir_graph *g, struct ir_node *n, struct error *err);

bool ir_shape_equal(const struct ir_shape *a, const struct ir_shape *b);

/* numpy's broadcasting of two operands, with the batch dimension kept first. `node` names the
 * refusal. */
int ir_broadcast(const struct ir_graph *g, const char *node, int32_t a, int32_t b,
	struct ir_shape *out, struct error *err);

/* "[batch,3,4]" into `text`; returns text. */
const char *ir_shape_text(const struct ir_shape *s, char *text, size_t bytes);
