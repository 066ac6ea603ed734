/* SPDX-License-Identifier: BSD-3-Clause
 * Constant folding, node by node while the graph is built, by the engine's own functions: later
 * nodes' shapes depend on what is constant, so it cannot wait for a pass.
 */
#include <errno.h>

#include "models/compile/ir.h"

/* A few hundred bytes of convolution can ask for minutes (fuzz_onnx found 331 that took eight
 * seconds); what exporters leave to be folded takes thousands. */
enum { FOLD_MOST = 1 << 26 };

/* Functions that move elements or compare them give right answers on the batch size's stand-in. */
static bool moves_only(const struct tensor_op *op)
{
	switch (op->function) {
	case MODEL_FN_STRIDED:
	case MODEL_FN_CONCAT:
	case MODEL_FN_GATHER:
	case MODEL_FN_GATHER_ELEMENTS:
	case MODEL_FN_GATHER_ND:
	case MODEL_FN_SCATTER_ELEMENTS:
	case MODEL_FN_SCATTER_ND:
	case MODEL_FN_WHERE:
		return true;
	case MODEL_FN_CAST:
		return op->i[0] == WIRE_I64;
	case MODEL_FN_BINARY:
		return op->i[0] == BINARY_EQUAL;
	default:
		return false;
	}
}

/* Does a symbolic constant still hold the batch size? A slice of a shape often does not. */
static bool holds_batch_size(const struct ir_value *v)
{
	const int64_t *data = v->data;

	if (v->t.dtype != WIRE_I64)
		return false;
	for (uint64_t i = 0; i < tensor_elements(&v->t); i++)
		if (ir_batches_in(data[i]))
			return true;
	return false;
}

/* x fn y where x, y or both may be batch sizes; false when the result is neither a number nor so
 * many batch sizes. */
static bool batches_fold(int64_t fn, int64_t x, int64_t y, int64_t *to)
{
	int64_t a = ir_batches_in(x), b = ir_batches_in(y);

	if (fn == BINARY_MUL && (a != 0) != (b != 0)) {
		int64_t times = a ? a : b, by = a ? y : x;

		*to = by > 0 && by <= (1 << 30) / times ? ir_batches(times * by) : 0;
		return *to != 0;
	}
	if (fn == BINARY_DIV && a && (b || y > 0)) {
		int64_t by = b ? b : y;

		*to = b ? a / b : ir_batches(a / by);
		return a % by == 0;
	}
	return false;
}

/* The elements of a product or quotient that have to do with the batch size, over the others, which
 * run() has computed. */
static bool fold_batches(const struct tensor_op *op, const struct tensor_args *a)
{
	int64_t *to = a->out[0];
	struct walk w;

	if (op->function != MODEL_FN_BINARY || op->in[0].dtype != WIRE_I64)
		return false;
	walk_broadcast(&w, &op->out[0], op->in, 2);
	do {
		for (uint32_t i = 0; i < w.dims[w.rank - 1]; i++, to++) {
			int64_t x = ((const int64_t *)a->in[0])[w.at[0] +
								i * w.stride[0][w.rank - 1]];
			int64_t y = ((const int64_t *)a->in[1])[w.at[1] +
								i * w.stride[1][w.rank - 1]];

			if ((ir_batches_in(x) || ir_batches_in(y)) &&
				!batches_fold(op->i[0], x, y, to))
				return false;
		}
	} while (walk_next(&w));
	return true;
}

static int fold_outputs(
	struct ir_graph *g, struct ir_node *n, struct tensor_args *a, struct error *err)
{
	for (uint32_t k = 0; k < n->t.n_out; k++) {
		const struct tensor *t = &n->t.out[k];

		a->out[k] = arena_alloc(g->arena, tensor_elements(t), wire_dtype_bytes(t->dtype));
		if (!a->out[k])
			return error_set(err, -ENOMEM, "no memory to fold node '%s'", n->name);
	}
	a->scratch = arena_alloc(g->arena, n->t.scratch_bytes + 1, 1);
	return a->scratch ? 0 : error_set(err, -ENOMEM, "no memory to fold node '%s'", n->name);
}

/* Multiplications of an Einsum: all labels' sizes. */
static double einsum_work(const struct tensor_op *op)
{
	uint32_t size[TENSOR_MAX_RANK] = {1, 1, 1, 1, 1, 1, 1, 1};
	double work = 1;

	for (uint32_t k = 0; k < op->n_in; k++)
		for (uint32_t d = 0; d < op->in[k].rank; d++)
			size[op->i[10 + 8 * k + d]] = op->in[k].dims[d];
	for (uint32_t l = 0; l < TENSOR_MAX_RANK; l++)
		work *= size[l];
	return work;
}

/* Multiplications, or elements where there are none to speak of. */
static double fold_work(const struct tensor_op *op)
{
	const double out = (double)tensor_elements(&op->out[0]);

	switch (op->function) {
	case MODEL_FN_MATMUL:
		return out * op->in[0].dims[op->in[0].rank - 1];
	case MODEL_FN_CONV:
		return out * (double)tensor_span(&op->in[1], 1, op->in[1].rank);
	case MODEL_FN_EINSUM:
		return einsum_work(op);
	default:
		return out;
	}
}

int ir_fold(struct ir_graph *g, struct ir_node *n, struct error *err)
{
	struct tensor_args a = {.kernels = &kernels_scalar};
	bool symbolic = false;
	int rc;

	for (uint32_t k = 0; k < n->t.n_in; k++) {
		if (n->in[k] == IR_NONE)
			continue;
		if (!ir_is_constant(g, n->in[k]))
			return 0;
		a.in[k] = g->values[n->in[k]].data;
		symbolic |= g->values[n->in[k]].symbolic;
	}
	g->folded += fold_work(&n->t);
	if (g->folded > FOLD_MOST)
		return error_set(err, -EINVAL,
			"node '%s': products of constants take more than %d multiplications", n->name,
			FOLD_MOST);
	rc = fold_outputs(g, n, &a, err);
	if (rc)
		return rc;
	tensor_run(&n->t, &a);
	if (symbolic && !moves_only(&n->t) && !fold_batches(&n->t, &a))
		return error_set(err, -ENOTSUP,
			"node '%s' computes with the batch size, which is not known", n->name);
	for (uint32_t k = 0; k < n->t.n_out; k++) {
		struct ir_value *v = &g->values[n->out[k]];

		v->data = a.out[k];
		v->symbolic = symbolic && holds_batch_size(v);
	}
	n->op = IR_DEAD;
	return 0;
}
