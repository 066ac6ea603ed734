/* SPDX-License-Identifier: BSD-3-Clause
 * What one operator of a plan does, for people: shapes, buffers, work. Shared by inspect and bench.
 */
#pragma once

#include "models/run/model_private.h"

/* Multiplications and additions of one row; 0 for operators that only move, compare or look up. */
double step_flops(const struct step *s);

/* Bytes of the constants (weights, biases, tables) it names. */
uint64_t step_constant_bytes(const struct step *s);

/* Buffers it reads and writes, in operand order. */
struct step_buffers {
	uint32_t in[TENSOR_MAX_IN], out[TENSOR_MAX_OUT];
	uint32_t n_in, n_out;
};
struct step_buffers step_buffers(const struct step *s);

/* "dense", "softmax", "conv", ... */
const char *step_name(const struct step *s);

/* "relu", ... of a dense or unary operator; "" for none. */
const char *step_activation(const struct step *s);

/* "dense [1,64] x [64,128] relu", "add f32[1,4] const f32[4] -> f32[1,4]" on stdout. */
void step_print(const struct step *s);

/* "f32", "i64", ...: short dtype names. */
const char *step_dtype(uint32_t dtype);
