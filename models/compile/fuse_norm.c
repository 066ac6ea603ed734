/* SPDX-License-Identifier: BSD-3-Clause
 * Normalisations as exporters write them before opset 17, by PyTorch, Keras or by hand:
 *
 *   d = x - mean(x)     v = mean(d d)     y = d / sqrt(v + epsilon) * scale + bias
 *
 * with d left out (RMS norm), the square as product or power, the division as product with a
 * reciprocal, and Keras' y = x s + (bias - mean s) with s = scale / sqrt(v + epsilon).
 */
#include <errno.h>

#include "models/compile/match.h"
#include "models/compile/passes.h"

struct norm_match {
	int32_t x, mean; /* mean: IR_NONE for RMS */
	int32_t scale;   /* constant, or IR_NONE */
	int64_t axes;    /* bit mask of the reductions */
	float epsilon;
};

static bool is_number(const struct match *m, int32_t v, float want)
{
	float x;

	return scalar_of(m->g, v, &x) && x == want;
}

/* v = mean(of) with dimensions kept. */
static bool is_mean(const struct match *m, int32_t v, int32_t *of, int64_t *axes)
{
	const struct ir_node *n = made_by(m, v, MODEL_FN_REDUCE, REDUCE_MEAN);

	if (!n || !n->t.i[2] || n->t.in[0].dtype != WIRE_F32)
		return false;
	*of = n->in[0];
	*axes = n->t.i[1];
	return true;
}

/* v = root ^ 2 */
static bool is_square(const struct match *m, int32_t v, int32_t *root)
{
	const struct ir_node *n = made_by(m, v, MODEL_FN_BINARY, BINARY_MUL);

	if (n && n->in[0] == n->in[1]) {
		*root = n->in[0];
		return true;
	}
	n = made_by(m, v, MODEL_FN_BINARY, BINARY_POW);
	if (!n || !is_number(m, n->in[1], 2))
		return false;
	*root = n->in[0];
	return true;
}

/* v = x - mean(x) over the axes, by whichever node of several. */
static bool is_centred(const struct match *m, int32_t v, struct norm_match *f)
{
	const struct ir_node *n = made_by(m, v, MODEL_FN_BINARY, BINARY_SUB);
	int64_t axes;
	int32_t of;

	if (!n || !is_mean(m, n->in[1], &of, &axes) || of != n->in[0] || axes != f->axes)
		return false;
	f->x = n->in[0];
	f->mean = n->in[1];
	return true;
}

/* v = mean(d d) + epsilon; fills in everything but scale. */
static bool is_variance(const struct match *m, int32_t v, struct norm_match *f)
{
	const struct ir_node *n = made_by(m, v, MODEL_FN_BINARY, BINARY_ADD);
	int32_t mean, square, root;

	if (!n)
		return false;
	mean = operand_scalar(m->g, n, &f->epsilon);
	if (mean == IR_NONE || !is_mean(m, mean, &square, &f->axes) ||
		!is_square(m, square, &root))
		return false;
	if (is_centred(m, root, f))
		return true;
	f->x = root;
	f->mean = IR_NONE;
	return true;
}

/* v = sqrt(variance) */
static bool is_deviation(const struct match *m, int32_t v, struct norm_match *f)
{
	const struct ir_node *n = made_by(m, v, MODEL_FN_UNARY, UNARY_SQRT);

	if (!n) {
		n = made_by(m, v, MODEL_FN_BINARY, BINARY_POW);
		if (!n || !is_number(m, n->in[1], 0.5f))
			return false;
	}
	return is_variance(m, n->in[0], f);
}

/* v = 1 / sqrt(variance), perhaps times a constant */
static bool is_factor(const struct match *m, int32_t v, struct norm_match *f)
{
	const struct ir_node *n = made_by(m, v, MODEL_FN_UNARY, UNARY_RECIPROCAL);

	if (n)
		return is_deviation(m, n->in[0], f);
	n = made_by(m, v, MODEL_FN_BINARY, BINARY_DIV);
	if (n)
		return is_number(m, n->in[0], 1) && is_deviation(m, n->in[1], f);
	n = made_by(m, v, MODEL_FN_BINARY, BINARY_POW);
	if (n)
		return is_number(m, n->in[1], -0.5f) && is_variance(m, n->in[0], f);
	n = made_by(m, v, MODEL_FN_BINARY, BINARY_MUL);
	for (int side = 0; n && side < 2 && f->scale == IR_NONE; side++) {
		if (!is_constant_f32(m->g, n->in[1 - side]))
			continue;
		f->scale = n->in[1 - side];
		if (is_factor(m, n->in[side], f))
			return true;
		f->scale = IR_NONE;
	}
	return false;
}

/* Is d what the variance was taken of? */
static bool is_same_centred(const struct match *m, int32_t d, const struct norm_match *f)
{
	struct norm_match other = *f;

	if (f->mean == IR_NONE)
		return d == f->x;
	return is_centred(m, d, &other) && other.x == f->x;
}

/* n = d / deviation, or d times the factor. */
static bool is_core(const struct match *m, const struct ir_node *n, struct norm_match *f)
{
	f->scale = IR_NONE;
	if (!is_tensor(n, MODEL_FN_BINARY) || n->t.in[0].dtype != WIRE_F32)
		return false;
	if (n->t.i[0] == BINARY_DIV)
		return is_deviation(m, n->in[1], f) && is_same_centred(m, n->in[0], f);
	for (int side = 0; n->t.i[0] == BINARY_MUL && side < 2; side++) {
		f->scale = IR_NONE;
		if (is_factor(m, n->in[side], f) && is_same_centred(m, n->in[1 - side], f))
			return true;
	}
	return false;
}

/* v = a b in either order of operands; b is given. */
static bool is_product_with(const struct match *m, int32_t v, int32_t b, int32_t *a)
{
	const struct ir_node *n = made_by(m, v, MODEL_FN_BINARY, BINARY_MUL);

	if (!n || (n->in[0] != b && n->in[1] != b))
		return false;
	*a = n->in[0] == b ? n->in[1] : n->in[0];
	return true;
}

/* n = x s + (bias - mean s) */
static bool is_keras(
	const struct match *m, const struct ir_node *n, struct norm_match *f, int32_t *bias)
{
	for (int side = 0; side < 2; side++) {
		const struct ir_node *rest, *product;
		int32_t mean;

		if (!is_tensor(n, MODEL_FN_BINARY) || n->t.i[0] != BINARY_ADD)
			return false;
		product = made_by(m, n->in[side], MODEL_FN_BINARY, BINARY_MUL);
		rest = made_by(m, n->in[1 - side], MODEL_FN_BINARY, BINARY_SUB);
		for (int s = 0; product && rest && s < 2; s++) {
			f->scale = IR_NONE;
			if (!is_factor(m, product->in[s], f) || product->in[1 - s] != f->x ||
				!is_product_with(m, rest->in[1], product->in[s], &mean) ||
				mean != f->mean || !is_constant_f32(m->g, rest->in[0]))
				continue;
			*bias = rest->in[0];
			return true;
		}
	}
	return false;
}

/* The first axis of the mask if it is all axes from there on; -1 otherwise. */
static int64_t first_axis(const struct tensor *x, int64_t axes)
{
	for (uint32_t d = 0; d < x->rank; d++)
		if (axes == (int64_t)((1u << x->rank) - (1u << d)))
			return d;
	return -1;
}

/* A constant of the normalised dimensions exactly, seen from the back. */
static bool is_per_feature(const struct ir_graph *g, int32_t v, const struct tensor *x, uint32_t axis)
{
	const struct tensor *t = &g->values[v].t;

	if (!is_constant_f32(g, v) || tensor_elements(t) != tensor_span(x, axis, x->rank))
		return false;
	for (uint32_t i = 1; i <= t->rank; i++)
		if (t->dims[t->rank - i] != (i <= x->rank - axis ? x->dims[x->rank - i] : 1))
			return false;
	return true;
}

static int32_t ones(const struct match *m, const char *name, const struct tensor *x, uint32_t axis)
{
	const struct tensor shape = {WIRE_F32, 1, {(uint32_t)tensor_span(x, axis, x->rank)}};
	float *data;
	int32_t v = new_constant(m->g, name, &shape, &data, m->err);

	for (uint32_t i = 0; v >= 0 && i < shape.dims[0]; i++)
		data[i] = 1;
	return v;
}

static int replace_norm(
	const struct match *m, struct ir_node *n, const struct norm_match *f, int32_t bias)
{
	const struct tensor x = m->g->values[f->x].t;
	int64_t axis = first_axis(&x, f->axes);
	struct tensor_op t = {.function = MODEL_FN_LAYER_NORM,
		.n_in = bias == IR_NONE ? 2 : 3,
		.n_out = 1,
		.i = {axis, f->mean == IR_NONE},
		.f = {f->epsilon}};
	int32_t in[3] = {f->x, f->scale, bias};

	if (axis < 0 || !tensor_same_shape(&x, &n->t.out[0]) ||
		(f->scale != IR_NONE && !is_per_feature(m->g, f->scale, &x, (uint32_t)axis)) ||
		(bias != IR_NONE && !is_per_feature(m->g, bias, &x, (uint32_t)axis)))
		return 0;
	if (f->scale == IR_NONE)
		in[1] = ones(m, n->name, &x, (uint32_t)axis);
	return in[1] < 0 ? in[1] : become_tensor(m, n, &t, in);
}

/* n = norm * constant, or norm + constant: the norm does it, in n's place. */
static int absorb_affine(const struct match *m, struct ir_node *n)
{
	bool add = n->t.i[0] == BINARY_ADD;
	struct ir_node *norm = NULL;
	int32_t with = IR_NONE, in[3];
	struct tensor_op t;

	if (!is_tensor(n, MODEL_FN_BINARY) || (!add && n->t.i[0] != BINARY_MUL))
		return 0;
	for (int side = 0; side < 2 && !norm; side++) {
		norm = producer_of(m, n->in[side]);
		norm = norm && is_tensor(norm, MODEL_FN_LAYER_NORM) ? norm : NULL;
		with = n->in[1 - side];
	}
	if (!norm || norm->in[2] != IR_NONE || !tensor_same_shape(&norm->t.out[0], &n->t.out[0]) ||
		!is_per_feature(m->g, with, &norm->t.in[0], (uint32_t)norm->t.i[0]))
		return 0;
	t = norm->t;
	t.n_in = add ? 3 : 2;
	in[0] = norm->in[0];
	in[1] = norm->in[1];
	in[2] = with;
	if (!add) {
		const uint64_t size = tensor_elements(&t.in[1]);
		const float *a = m->g->values[in[1]].data, *b = m->g->values[with].data;
		float *data;

		if (!a)
			return 0;
		in[1] = new_constant(m->g, n->name, &t.in[1], &data, m->err);
		for (uint64_t i = 0; in[1] >= 0 && i < size; i++)
			data[i] = a[i] * b[i];
	}
	return in[1] < 0 ? in[1] : become_tensor(m, n, &t, in);
}

int pass_fuse_norm(struct ir_graph *g, struct error *err)
{
	struct match m;
	int rc = match_init(&m, g, err);

	for (int32_t i = 0; !rc && i < g->n_nodes; i++) {
		struct ir_node *n = &g->nodes[i];
		struct norm_match f = {.scale = IR_NONE};
		int32_t bias = IR_NONE;

		if (n->op == IR_TENSOR && (is_core(&m, n, &f) || is_keras(&m, n, &f, &bias)))
			rc = replace_norm(&m, n, &f, bias);
	}
	for (int32_t i = 0; !rc && i < g->n_nodes; i++)
		if (g->nodes[i].op == IR_TENSOR)
			rc = absorb_affine(&m, &g->nodes[i]);
	return rc;
}
