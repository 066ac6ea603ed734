/* SPDX-License-Identifier: BSD-3-Clause
 * One operator of a plan, for people: see steps.h.
 */
#include <stdio.h>

#include "models/tool/steps.h"

static const char *const kinds[MODEL_OP_END] = {"?", "dense", "unary", "softmax", "tensor"};
static const char *const activations[MODEL_ACT_END] = {
	"", "relu", "sigmoid", "tanh", "leaky-relu", "clip", "neg", "abs", "exp", "sqrt", "log",
	"erf", "reciprocal", "affine", "elu", "hard-sigmoid", "hard-swish", "softplus", "softsign",
	"gelu", "gelu-tanh", "silu", "mish", "floor", "ceil", "round"};
static const char *const dtypes[WIRE_DTYPE_END] = {"-", "f32", "f16", "bf16", "i8", "u8", "i32", "i64", "bool"};

/* ---- work ---- */

static double tensor_flops(const struct tensor_op *t)
{
	static const int gates[CELL_END] = {[CELL_RNN] = 1, [CELL_GRU] = 3, [CELL_LSTM] = 4};
	double out = (double)tensor_elements(&t->out[0]);

	if (t->function == MODEL_FN_MATMUL)
		return 2 * out * t->in[0].dims[t->in[0].rank - 1];
	if (t->function == MODEL_FN_CONV)
		return 2 * out * (double)tensor_span(&t->in[1], 1, t->in[1].rank);
	if (t->function == MODEL_FN_CONV_LAST) /* [groups][panels][floats][16], or [floats][C] */
		return 2 * out * t->in[1].dims[t->in[1].rank == 4 ? 2 : 0];
	if (t->function == MODEL_FN_ATTENTION) /* queries x keys x both widths, every head */
		return 2.0 * (double)(t->i[0] * t->i[1] * (t->i[2] + t->i[3]) * t->i[4] * t->i[5]);
	if (t->function == MODEL_FN_RECURRENT) /* out: steps, directions, batch, hidden */
		return 2 * out * gates[t->i[0]] * (t->in[0].dims[2] + t->out[0].dims[3]);
	return 0;
}

double step_flops(const struct step *s)
{
	if (s->op.kind == MODEL_OP_DENSE)
		return 2.0 * s->op.m * s->op.k * s->op.n;
	return s->op.kind == MODEL_OP_TENSOR ? tensor_flops(&s->tensor->op) : 0;
}

uint64_t step_constant_bytes(const struct step *s)
{
	uint64_t bytes = 0;

	if (s->op.kind != MODEL_OP_TENSOR)
		return s->op.constant_bytes[0] + s->op.constant_bytes[1] + s->op.bias_bytes;
	for (uint32_t k = 0; k < s->tensor->op.n_in; k++)
		if (s->tensor->constant[k])
			bytes += tensor_elements(&s->tensor->op.in[k]) * wire_dtype_bytes(s->tensor->op.in[k].dtype);
	return bytes;
}

struct step_buffers step_buffers(const struct step *s)
{
	struct step_buffers b = {.n_in = 0};
	const struct tensor_step *t = s->tensor;

	if (s->op.kind != MODEL_OP_TENSOR) {
		for (uint32_t k = 0; k < 2; k++)
			if (s->op.src[k] != MODEL_NONE)
				b.in[b.n_in++] = s->op.src[k];
		b.out[b.n_out++] = s->op.dst;
		return b;
	}
	for (uint32_t k = 0; k < t->op.n_in; k++)
		if (t->op.in[k].dtype && t->in[k] != MODEL_NONE)
			b.in[b.n_in++] = t->in[k];
	for (uint32_t k = 0; k < t->op.n_out; k++)
		b.out[b.n_out++] = t->out[k];
	return b;
}

/* ---- words ---- */

const char *step_dtype(uint32_t dtype)
{
	return dtype < WIRE_DTYPE_END ? dtypes[dtype] : "?";
}

const char *step_name(const struct step *s)
{
	return s->op.kind == MODEL_OP_TENSOR ? tensor_function_at(s->tensor->op.function)->name : kinds[s->op.kind];
}

const char *step_activation(const struct step *s)
{
	return s->op.kind == MODEL_OP_DENSE || s->op.kind == MODEL_OP_UNARY ? activations[s->op.activation] : "";
}

static void print_operand(const struct tensor *t, const void *constant)
{
	printf(" %s%s[", constant ? "const " : "", step_dtype(t->dtype));
	for (uint32_t d = 0; d < t->rank; d++)
		printf("%s%u", d ? "," : "", t->dims[d]);
	printf("]");
}

static void print_tensor(const struct tensor_step *s)
{
	for (uint32_t k = 0; k < s->op.n_in; k++)
		if (s->op.in[k].dtype)
			print_operand(&s->op.in[k], s->constant[k]);
	printf(" ->");
	for (uint32_t k = 0; k < s->op.n_out; k++)
		print_operand(&s->op.out[k], NULL);
	if (s->op.scratch_bytes)
		printf(", %lu scratch bytes", s->op.scratch_bytes);
}

void step_print(const struct step *s)
{
	const struct model_op *op = &s->op;

	printf("%s", step_name(s));
	if (op->kind == MODEL_OP_TENSOR)
		print_tensor(s->tensor);
	else if (op->kind == MODEL_OP_DENSE)
		printf(" [%u,%u] x [%u,%u]", op->m, op->k, op->k, op->n);
	else if (op->kind == MODEL_OP_SOFTMAX)
		printf(" [%u,%u,%u] over %u", op->m, op->n, op->k, op->n);
	else
		printf(" [%u]", op->m);
	if (*step_activation(s))
		printf(" %s", step_activation(s));
	if (op->high > op->low)
		printf(", inputs from %g to %g", (double)op->low, (double)op->high);
}
