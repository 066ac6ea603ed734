/* SPDX-License-Identifier: BSD-3-Clause
 * Activations that exporters write as chains of small operators (Gelu by Erf or by Tanh, SiLU,
 * HardSwish, Mish, ...), and arithmetic with numbers.
 *
 * Every exporter orders its chain in another way, so the chain is not compared with a picture: a
 * node that depends on one value x through element-wise operators and numbers alone is a function
 * of x. It is evaluated at points all over the line, and if it agrees there with an activation the
 * kernels have, it is that one: such chains have one exp, erf, tanh or clip and a few numbers, too
 * little freedom to agree at seventy points on both sides of zero and differ elsewhere.
 */
#include <errno.h>
#include <math.h>

#include "models/compile/match.h"
#include "models/compile/passes.h"

enum { MAX_CONE = 16, POINTS = 70 };

static const float magnitudes[POINTS / 2] = {0, 1e-4f, 0.01f, 0.1f, 0.25f, 0.5f, 0.75f, 1, 1.3f,
	1.7f, 2, 2.4f, 2.5f, 2.6f, 2.9f, 3, 3.1f, 3.5f, 4, 5, 5.9f, 6, 6.1f, 7, 8, 10, 13, 19, 21,
	40, 80, 1000, 1e6f, 1e12f, 3e38f};

/* The values a node is computed from, itself first. */
struct cone {
	int32_t value[MAX_CONE];
	uint32_t n;
	bool bends; /* holds a function that is no arithmetic */
};

static bool is_arithmetic(int64_t fn)
{
	return fn == BINARY_ADD || fn == BINARY_SUB || fn == BINARY_MUL || fn == BINARY_DIV ||
	       fn == BINARY_POW || fn == BINARY_MIN || fn == BINARY_MAX;
}

static bool is_elementwise(const struct ir_graph *g, const struct ir_node *n)
{
	uint64_t size;

	if (!n || n->op != IR_TENSOR || n->t.out[0].dtype != WIRE_F32 ||
		n->t.in[0].dtype != WIRE_F32)
		return false;
	if (n->t.function == MODEL_FN_UNARY)
		return true;
	if (n->t.function != MODEL_FN_BINARY || !is_arithmetic(n->t.i[0]))
		return false;
	size = tensor_elements(&n->t.out[0]);
	for (int k = 0; k < 2; k++) {
		float x;

		if (!scalar_of(g, n->in[k], &x) &&
			(ir_is_constant(g, n->in[k]) || tensor_elements(&n->t.in[k]) != size))
			return false;
	}
	return true;
}

static void cone_add(const struct match *m, struct cone *c, int32_t value)
{
	const struct ir_node *n = producer_of(m, value);

	if (ir_is_constant(m->g, value))
		return;
	for (uint32_t i = 0; i < c->n; i++)
		if (c->value[i] == value)
			return;
	if (c->n == MAX_CONE)
		return;
	c->value[c->n++] = value;
	if (!is_elementwise(m->g, n))
		return;
	c->bends |= n->t.function == MODEL_FN_UNARY || n->t.i[0] == BINARY_MIN ||
		    n->t.i[0] == BINARY_MAX;
	for (uint32_t k = 0; k < n->t.n_in; k++)
		cone_add(m, c, n->in[k]);
}

/* Where values of the cone are worked out, each once. */
struct evaluation {
	const struct match *m;
	const struct cone *cone;
	bool known[MAX_CONE];
	float y[MAX_CONE][POINTS];
};

static int index_of(const struct cone *c, int32_t value)
{
	for (uint32_t i = 0; i < c->n; i++)
		if (c->value[i] == value)
			return (int)i;
	return -1;
}

/* The points of `value`, a number or a value of the cone; NULL when it depends on more than x. */
static const float *evaluate(struct evaluation *e, int32_t value, float *room)
{
	const struct ir_node *n = producer_of(e->m, value);
	int at = index_of(e->cone, value);
	float numbers[2][POINTS], c;
	struct tensor_args a = {.kernels = &kernels_scalar};
	struct tensor_op t;

	if (scalar_of(e->m->g, value, &c)) {
		for (int i = 0; i < POINTS; i++)
			room[i] = c;
		return room;
	}
	if (at < 0 || e->known[at])
		return at < 0 ? NULL : e->y[at];
	if (!is_elementwise(e->m->g, n))
		return NULL;
	t = n->t;
	for (uint32_t k = 0; k < t.n_in; k++) {
		a.in[k] = evaluate(e, n->in[k], numbers[k]);
		if (!a.in[k])
			return NULL;
		t.in[k] = (struct tensor){WIRE_F32, 1, {POINTS}};
	}
	a.out[0] = e->y[at];
	if (tensor_infer(&t, e->m->err))
		return NULL;
	tensor_run(&t, &a);
	e->known[at] = true;
	return e->y[at];
}

/* Where a chain overflows on its way to a finite value the activation's kernel is the better one. */
static bool agrees(struct activation act, const float *x, const float *y)
{
	for (int i = 0; i < POINTS; i++) {
		float want = activation_scalar(act, x[i]);
		float limit = 2e-6f + 5e-6f * fmaxf(fabsf(x[i]), fabsf(want));

		if (isfinite(y[i]) ? !(fabsf(y[i] - want) <= limit) : !isfinite(want))
			return false;
	}
	return true;
}

static bool find_activation(const float *x, const float *y, struct activation *found)
{
	static const struct activation known[] = {{MODEL_ACT_GELU, 0, 0},
		{MODEL_ACT_GELU_TANH, 0, 0}, {MODEL_ACT_SILU, 1, 0}, {MODEL_ACT_SILU, 1.702f, 0},
		{MODEL_ACT_HARD_SWISH, 0, 0}, {MODEL_ACT_HARD_SIGMOID, 1.0f / 6, 0.5f},
		{MODEL_ACT_HARD_SIGMOID, 0.2f, 0.5f}, {MODEL_ACT_MISH, 0, 0},
		{MODEL_ACT_SOFTPLUS, 0, 0}, {MODEL_ACT_SIGMOID, 0, 0}, {MODEL_ACT_SOFTSIGN, 0, 0},
		{MODEL_ACT_RELU, 0, 0}, {MODEL_ACT_CLIP, 0, 6}};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (agrees(known[i], x, y)) {
			*found = known[i];
			return true;
		}
	return false;
}

/* Longest chains first: the values added last to the cone are farthest from the node. */
static void fuse_node(const struct match *m, struct ir_node *n)
{
	struct cone c = {0};

	cone_add(m, &c, n->out[0]);
	if (!c.bends || c.n < 3)
		return;
	for (uint32_t k = c.n; k-- > 1;) {
		struct evaluation e = {.m = m, .cone = &c};
		struct activation act;
		const float *y;
		float room[POINTS];

		if ((n->t.n_in == 1 && c.value[k] == n->in[0]) || /* one operator is no chain */
			tensor_elements(&m->g->values[c.value[k]].t) !=
				tensor_elements(&n->t.out[0]))
			continue;
		for (int i = 0; i < POINTS; i++)
			e.y[k][i] = i % 2 ? -magnitudes[i / 2] : magnitudes[i / 2];
		e.known[k] = true;
		y = evaluate(&e, n->out[0], room);
		if (y && find_activation(e.y[k], y, &act)) {
			become_unary(n, c.value[k], act);
			return;
		}
	}
}

int pass_fuse_elementwise(struct ir_graph *g, struct error *err)
{
	struct match m;
	int rc = match_init(&m, g, err);

	for (int32_t i = g->n_nodes; !rc && i-- > 0;)
		if (is_elementwise(g, &g->nodes[i]))
			fuse_node(&m, &g->nodes[i]);
	return rc;
}

/* ---- arithmetic with numbers ---- */

/* a x + b for x and a number c; false for what is none. */
static bool affine_of(int64_t fn, bool number_first, float c, float *a, float *b)
{
	*a = 1;
	*b = 0;
	switch (fn) {
	case BINARY_ADD:
		*b = c;
		return true;
	case BINARY_SUB:
		*a = number_first ? -1 : 1;
		*b = number_first ? c : -c;
		return true;
	case BINARY_MUL:
		*a = c;
		return true;
	case BINARY_DIV:
		*a = 1 / c;
		return !number_first && isfinite(*a);
	default:
		return false;
	}
}

static void simplify_node(const struct ir_graph *g, struct ir_node *n)
{
	float c, a, b;
	int32_t x = operand_scalar(g, n, &c);
	bool number_first = x == n->in[1];

	if (x == IR_NONE || ir_is_constant(g, x) || n->t.out[0].dtype != WIRE_F32 ||
		n->t.in[0].dtype != WIRE_F32 ||
		tensor_elements(&g->values[x].t) != tensor_elements(&n->t.out[0]))
		return;
	if (affine_of(n->t.i[0], number_first, c, &a, &b))
		become_unary(n, x, (struct activation){MODEL_ACT_AFFINE, a, b});
	else if (n->t.i[0] == BINARY_DIV && number_first && c == 1)
		become_unary(n, x, (struct activation){MODEL_ACT_RECIPROCAL, 0, 0});
	else if (n->t.i[0] == BINARY_POW && !number_first && c == 0.5f)
		become_unary(n, x, (struct activation){MODEL_ACT_SQRT, 0, 0});
	else if (n->t.i[0] == BINARY_POW && !number_first && c == 2 &&
		 tensor_same_shape(&n->t.in[0], &n->t.out[0])) {
		n->t.i[0] = BINARY_MUL;
		n->in[1] = n->in[0];
		n->t.in[1] = n->t.in[0];
	}
}

int pass_simplify(struct ir_graph *g, struct error *err)
{
	(void)err;
	for (int32_t i = 0; i < g->n_nodes; i++)
		if (is_tensor(&g->nodes[i], MODEL_FN_BINARY))
			simplify_node(g, &g->nodes[i]);
	return 0;
}
