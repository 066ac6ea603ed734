/* SPDX-License-Identifier: BSD-3-Clause
 * What the passes look at graphs with: who uses and who makes a value, constants, and the ways to
 * turn a node into another.
 */
#pragma once

#include "models/compile/ir.h"

/* Uses of every value, graph outputs included; the table is the arena's, NULL without memory. */
uint32_t *count_uses(struct ir_graph *g);
/* Producer of every value; IR_NONE for inputs and constants. */
int32_t *find_producers(struct ir_graph *g);

struct match {
	struct ir_graph *g;
	uint32_t *uses;
	int32_t *producer;
	struct error *err;
};

/* Values that a pass makes later are in neither table. -ENOMEM. */
int match_init(struct match *m, struct ir_graph *g, struct error *err);

/* The node that makes the value, or NULL. */
struct ir_node *producer_of(const struct match *m, int32_t value);
/* The same if it is this function with i[0] = kind. */
struct ir_node *made_by(
	const struct match *m, int32_t value, enum model_function function, int64_t kind);

bool is_tensor(const struct ir_node *n, uint32_t function);
bool is_constant_f32(const struct ir_graph *g, int32_t v);
/* A float32 constant of one element. */
bool scalar_of(const struct ir_graph *g, int32_t v, float *x);
/* The other operand of a binary node one of whose operands is a scalar constant, or IR_NONE. */
int32_t operand_scalar(const struct ir_graph *g, const struct ir_node *n, float *x);

/* A float32 constant whose elements are to be filled in. Returns its value or -errno. */
int32_t new_constant(struct ir_graph *g, const char *name, const struct tensor *t, float **data,
	struct error *err);

/* `into` now also does the work of `n`, which goes: its output is the layer's. */
void absorb(const struct ir_graph *g, int32_t *producer, struct ir_node *into, struct ir_node *n);

/* The kernels' name of a UNARY function; false when they have none. */
bool match_activation(const struct tensor_op *t, struct activation *act);

/* The node keeps its output and makes it another way; what made its old inputs may be dead then. */
void become_unary(struct ir_node *n, int32_t x, struct activation act);
/* t's function, attributes, n_in and n_out are set; in[] are its operands. -EINVAL, or 0. */
int become_tensor(const struct match *m, struct ir_node *n, const struct tensor_op *t,
	const int32_t *in);
