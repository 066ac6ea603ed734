/* SPDX-License-Identifier: BSD-3-Clause
 * The graph between ONNX and the flat plan: values (tensors) and nodes (operators on them).
 *
 * Nodes stand in an order in which every input is produced before it is used; passes keep that.
 * A batched value is described row by row: its batch dimension counts as 1, and `batch` says which
 * it is. A reshape may merge it with its neighbours ([batch x heads], [time x batch]): the dimension
 * then counts as the product of those, `outside` of which lie outside the batch. A constant that
 * came from Shape of a batched value holds ir_batches() in the batch's place and is `symbolic`. Names and some constants point into the ONNX message, which outlives the
 * graph; everything else is the arena's.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "models/compile/arena.h"
#include "models/run/tensor.h"

/* In symbolic constants: 1 or `times` batch sizes, numbers no shape holds. */
#define IR_BATCH_SIZE (INT64_MIN + 4711)

static inline int64_t ir_batches(int64_t times)
{
	return IR_BATCH_SIZE + times - 1;
}

/* How many batch sizes the number stands for; 0 for an ordinary one. */
static inline int64_t ir_batches_in(int64_t x)
{
	return x >= IR_BATCH_SIZE && x < IR_BATCH_SIZE + (1 << 30) ? x - IR_BATCH_SIZE + 1 : 0;
}

enum {
	IR_MAX_NODES = 4 * MODEL_FILE_MAX_OPS,
	IR_MAX_VALUES = 1 << 19,
	IR_NONE = -1,
};

enum ir_op {
	IR_DEAD = 0,
	IR_VIEW,    /* in[0]'s elements with the output's shape */
	IR_TENSOR,  /* t */
	IR_UNARY,   /* act */
	IR_SOFTMAX, /* m, n, k */
	IR_DENSE,   /* in[1] constant weights [k][n], in[2] bias vector or IR_NONE; act */
};

struct ir_value {
	const char *name;
	struct tensor t;
	int32_t batch;    /* axis of the batch dimension, or IR_NONE */
	uint32_t outside; /* of a merged batch dimension, see above; else 1 */
	const void *data; /* constant, or NULL */
	bool symbolic;
	int32_t input; /* a run-time value: one graph input it depends on (to name it) */
};

struct ir_node {
	enum ir_op op;
	const char *name;                               /* for people */
	int32_t in[TENSOR_MAX_IN], out[TENSOR_MAX_OUT]; /* values, or IR_NONE */
	struct tensor_op t;
	struct activation act;
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
	double folded; /* multiplications that constants have cost so far */
	int32_t needs; /* after -ENOTSUP: the graph input whose value must be known, or IR_NONE */
};

/* Reserve room for a graph; tables grow as needed up to the caps above. -ENOMEM. */
int ir_init(
	struct ir_graph *g, struct arena *arena, size_t values, size_t nodes, struct error *err);

/* New value of this dtype and shape; caps its elements. Returns its index, or -errno. */
int32_t ir_value_new(
	struct ir_graph *g, const char *name, const struct tensor *t, struct error *err);

/* New node with its inputs and outputs IR_NONE; NULL with err when the table is full. */
struct ir_node *ir_node_new(struct ir_graph *g, enum ir_op op, const char *name, struct error *err);

static inline bool ir_is_constant(const struct ir_graph *g, int32_t value)
{
	return g->values[value].data != NULL;
}

/* A tensor function on constants is computed now: its outputs become constants, the node dead.
 * Other nodes are left alone. -ENOTSUP when it would compute with the batch size, -ENOMEM, or 0. */
int ir_fold(struct ir_graph *g, struct ir_node *n, struct error *err);

/* "[2,3,4]" into `text`; returns text. */
const char *ir_shape_text(const struct ir_value *v, char *text, size_t bytes);
