/* SPDX-License-Identifier: BSD-3-Clause
 * The layout pass: convolutions and what lies between them work with channels last.
 *
 * Every value v may have a twin: the same tensor with dimension 1 moved to the end. The pass walks
 * the nodes in order and writes a new table. Convolutions and pools make twins out of twins; so
 * does whatever works element by element. A node that knows nothing of twins has its inputs moved
 * back first. A move is free where nothing moves (one channel, or one position).
 *
 *   x --move--> x' -CONV_LAST-> y' -POOL_LAST-> z' --flatten, dense with its rows reordered--> ...
 *
 * A bias is already the convolution's; activations and residual sums are taken into it here.
 */
#include <errno.h>
#include <string.h>

#include "models/compile/match.h"
#include "models/compile/passes.h"

enum { PANEL = MODEL_FILE_PANEL };

struct layout {
	struct ir_graph *g;
	struct error *err;
	uint32_t *uses;   /* the tables are per value of the graph as it was */
	int32_t *twin;    /* value, or IR_NONE */
	int32_t *made_by; /* node of the new table that makes the twin */
	int32_t *flat;    /* the value with a twin this one is the flattening of, or IR_NONE */
	bool *absent;     /* only the twin is there (or what `flat` names) */
};

static const struct ir_value *value(const struct layout *l, int32_t v)
{
	return &l->g->values[v];
}

/* Only the twin of v exists so far. */
static bool lives_in_twin(const struct layout *l, int32_t v)
{
	return v != IR_NONE && l->absent[v] && l->flat[v] == IR_NONE;
}

static struct tensor channels_last(const struct tensor *t)
{
	struct tensor last = *t;

	memmove(&last.dims[1], &t->dims[2], (t->rank - 2) * sizeof(t->dims[0]));
	last.dims[t->rank - 1] = t->dims[1];
	return last;
}

static int32_t new_value(struct layout *l, const struct tensor *t, const struct ir_value like)
{
	int32_t v = ir_value_new(l->g, like.name, t, l->err);

	if (v >= 0) {
		l->g->values[v].batch = like.batch;
		l->g->values[v].input = like.input;
	}
	return v;
}

/* A new node; its index, or -errno. */
static int32_t new_node(struct layout *l, enum ir_op op, const char *name)
{
	return ir_node_new(l->g, op, name, l->err) ? l->g->n_nodes - 1 : l->err->code;
}

/* ---- moves ---- */

/* Emit the node that makes `to` out of `from`: dimension 1 to the end, or back. */
static int emit_move(struct layout *l, int32_t from, int32_t to, bool back)
{
	const struct tensor t = value(l, from)->t;
	const uint32_t rank = t.rank, channel = back ? rank - 1 : 1;
	const bool moves = t.dims[channel] != 1 && t.dims[channel] != tensor_span(&t, 1, rank);
	int32_t i = new_node(l, moves ? IR_TENSOR : IR_VIEW, value(l, from)->name);
	struct ir_node *n;

	if (i < 0)
		return i;
	n = &l->g->nodes[i];
	n->in[0] = from;
	n->out[0] = to;
	if (!moves)
		return 0;
	n->t = (struct tensor_op){
		.function = MODEL_FN_STRIDED, .n_in = 1, .n_out = 1, .in = {t}, .i = {0, rank}};
	for (uint32_t d = 0; d < rank; d++) {
		uint32_t of = d == 0 ? 0 : d + 1;

		if (back)
			of = d == 1 ? rank - 1 : d == 0 ? 0 : d - 1;
		else if (d == rank - 1)
			of = 1;
		n->t.i[2 + d] = t.dims[of];
		n->t.i[10 + d] = t.dims[of] == 1 ? 0 : (int64_t)tensor_span(&t, of + 1, rank);
	}
	return tensor_infer(&n->t, l->err);
}

/* v's twin, moved there when there is none yet; IR_NONE-like negatives are -errno. */
static int32_t twin_of(struct layout *l, int32_t v)
{
	struct tensor last;
	int32_t t;
	int rc;

	if (l->twin[v] != IR_NONE)
		return l->twin[v];
	last = channels_last(&value(l, v)->t);
	t = new_value(l, &last, *value(l, v));
	if (t < 0)
		return t;
	rc = emit_move(l, v, t, false);
	if (rc)
		return rc;
	l->twin[v] = t;
	l->made_by[v] = l->g->n_nodes - 1;
	return t;
}

/* Make v itself available to nodes that know nothing of twins. */
static int bring_back(struct layout *l, int32_t v)
{
	int32_t i;

	if (v == IR_NONE || !l->absent[v])
		return 0;
	l->absent[v] = false;
	if (l->flat[v] == IR_NONE)
		return emit_move(l, l->twin[v], v, true);
	i = bring_back(l, l->flat[v]);
	if (!i)
		i = new_node(l, IR_VIEW, value(l, v)->name);
	if (i < 0)
		return i;
	l->g->nodes[i].in[0] = l->flat[v];
	l->g->nodes[i].out[0] = v;
	return 0;
}

/* `t` on these inputs makes the twin of v, which gets its place; then v is absent. */
static int emit_twin(struct layout *l, const struct ir_node *like, const struct tensor_op *t,
	const int32_t *in, int32_t v)
{
	int32_t twin = new_value(l, &t->out[0], *value(l, v)), i;

	if (twin < 0)
		return twin;
	i = new_node(l, like->op, like->name);
	if (i < 0)
		return i;
	l->g->nodes[i].t = *t;
	l->g->nodes[i].act = like->act;
	memcpy(l->g->nodes[i].in, in, t->n_in * sizeof(in[0]));
	l->g->nodes[i].out[0] = twin;
	l->twin[v] = twin;
	l->made_by[v] = i;
	l->absent[v] = true;
	return 0;
}

/* ---- convolution ---- */

static bool takes_conv(const struct layout *l, const struct ir_node *n)
{
	return is_tensor(n, MODEL_FN_CONV) && is_constant_f32(l->g, n->in[1]) &&
	       (n->in[2] == IR_NONE || is_constant_f32(l->g, n->in[2])) &&
	       !ir_is_constant(l->g, n->in[0]) && value(l, n->in[0])->batch <= 0;
}

/* [M][C/groups][kernel] into panels (tensor.h). One filter a group: [kernel][M]. */
static void pack_filters(
	float *to, const float *from, const struct tensor *w, size_t groups, bool depthwise)
{
	const size_t filters = w->dims[0] / groups, channels = w->dims[1];
	const size_t taps = tensor_span(w, 2, w->rank), depth = taps * channels;
	const size_t panels = (filters + PANEL - 1) / PANEL;
	const size_t padded = (w->dims[0] + PANEL - 1) / PANEL * PANEL;

	for (size_t m = 0; m < w->dims[0]; m++)
		for (size_t c = 0; c < channels; c++)
			for (size_t t = 0; t < taps; t++) {
				size_t panel = m / filters * panels + m % filters / PANEL;
				size_t at = (panel * depth + t * channels + c) * PANEL +
					    m % filters % PANEL;

				to[depthwise ? t * padded + m : at] =
					from[(m * channels + c) * taps + t];
			}
}

static void pack_bias(float *to, const float *from, size_t all, size_t groups)
{
	const size_t filters = all / groups, padded = (filters + PANEL - 1) / PANEL * PANEL;

	for (size_t m = 0; m < all; m++)
		to[m / filters * padded + m % filters] = from[m];
}

/* The operator CONV_LAST of a CONV, but for the constants. False when it does not fit. */
static bool conv_last_op(const struct ir_node *n, struct tensor_op *t)
{
	const struct tensor w = n->t.in[1];
	const uint32_t groups = (uint32_t)n->t.i[0], filters = w.dims[0] / groups;
	const uint32_t panels = (filters + PANEL - 1) / PANEL;
	const bool depthwise = groups > 1 && w.dims[1] == 1 && filters == 1;
	const uint64_t depth = tensor_span(&w, 1, w.rank);
	struct error ignored;

	*t = (struct tensor_op){.function = MODEL_FN_CONV_LAST, .n_in = 3, .n_out = 1};
	t->in[0] = channels_last(&n->t.in[0]);
	t->in[1] = (struct tensor){WIRE_F32, 4, {groups, panels, (uint32_t)depth, PANEL}};
	t->in[2] = (struct tensor){WIRE_F32, 1, {groups * panels * PANEL}};
	if (depthwise) {
		uint32_t padded = (groups + PANEL - 1) / PANEL * PANEL;

		t->in[1] = (struct tensor){WIRE_F32, 2, {(uint32_t)depth, padded}};
		t->in[2].dims[0] = padded;
	}
	if (n->in[2] == IR_NONE)
		t->in[2] = (struct tensor){0};
	memcpy(t->i, n->t.i, 13 * sizeof(t->i[0]));
	for (uint32_t a = 0; a + 2 < w.rank; a++)
		t->i[13 + a] = w.dims[2 + a];
	t->i[16] = w.dims[0];
	return !tensor_infer(t, &ignored);
}

static int conv_constants(
	struct layout *l, const struct ir_node *n, const struct tensor_op *t, int32_t *in)
{
	float *data;

	in[1] = new_constant(l->g, n->name, &t->in[1], &data, l->err);
	if (in[1] < 0)
		return in[1];
	pack_filters(
		data, value(l, n->in[1])->data, &n->t.in[1], (size_t)t->i[0], t->in[1].rank == 2);
	if (n->in[2] == IR_NONE)
		return 0;
	in[2] = new_constant(l->g, n->name, &t->in[2], &data, l->err);
	if (in[2] < 0)
		return in[2];
	pack_bias(data, value(l, n->in[2])->data, (size_t)t->i[16],
		t->in[1].rank == 2 ? 1 : (size_t)t->i[0]);
	return 0;
}

/* Each of the functions below takes a node: 1 when it did, 0 when the node is not for it, -errno.
 */
static int take_conv(struct layout *l, const struct ir_node *n)
{
	int32_t in[3] = {IR_NONE, IR_NONE, IR_NONE};
	struct tensor_op t;
	int rc;

	if (!takes_conv(l, n) || !conv_last_op(n, &t))
		return 0;
	in[0] = twin_of(l, n->in[0]);
	if (in[0] < 0)
		return in[0];
	rc = conv_constants(l, n, &t, in);
	if (!rc)
		rc = emit_twin(l, n, &t, in, n->out[0]);
	return rc ? rc : 1;
}

/* The convolution that alone made v, and that nothing followed yet; NULL when there is none. */
static struct ir_node *open_conv(const struct layout *l, int32_t v)
{
	struct ir_node *c;

	if (!lives_in_twin(l, v) || l->uses[v] != 1)
		return NULL;
	c = &l->g->nodes[l->made_by[v]];
	return is_tensor(c, MODEL_FN_CONV_LAST) && c->t.i[17] == MODEL_ACT_NONE ? c : NULL;
}

/* v is now what the node that made `of`'s twin makes. */
static void rename_twin(struct layout *l, int32_t v, int32_t of)
{
	l->twin[v] = l->twin[of];
	l->made_by[v] = l->made_by[of];
	l->absent[v] = true;
}

static int take_activation(struct layout *l, const struct ir_node *n)
{
	struct ir_node *conv = n->op == IR_UNARY ? open_conv(l, n->in[0]) : NULL;

	if (!conv)
		return 0;
	conv->t.i[17] = n->act.kind;
	conv->t.f[0] = n->act.a;
	conv->t.f[1] = n->act.b;
	rename_twin(l, n->out[0], n->in[0]);
	return 1;
}

/* conv + other of the same shape, made before the convolution: its kernels add it. */
static int take_residual(struct layout *l, const struct ir_node *n)
{
	if (!is_tensor(n, MODEL_FN_BINARY) || n->t.i[0] != BINARY_ADD)
		return 0;
	for (int side = 0; side < 2; side++) {
		int32_t v = n->in[side], other = n->in[1 - side];
		struct ir_node *conv = open_conv(l, v);

		if (!conv || conv->t.n_in > 3 || ir_is_constant(l->g, other) ||
			l->twin[other] == IR_NONE || l->made_by[other] >= l->made_by[v] ||
			!tensor_same_shape(&n->t.in[0], &n->t.in[1]))
			continue;
		conv->in[3] = l->twin[other];
		conv->t.in[3] = value(l, l->twin[other])->t;
		conv->t.n_in = 4;
		rename_twin(l, n->out[0], v);
		return 1;
	}
	return 0;
}

/* ---- pooling ---- */

static int take_pool(struct layout *l, const struct ir_node *n)
{
	struct tensor_op t = n->t;
	struct error ignored;
	int rc;

	if (!is_tensor(n, MODEL_FN_POOL) || !lives_in_twin(l, n->in[0]))
		return 0;
	t.function = MODEL_FN_POOL_LAST;
	t.in[0] = value(l, l->twin[n->in[0]])->t;
	if (tensor_infer(&t, &ignored))
		return 0;
	rc = emit_twin(l, n, &t, &l->twin[n->in[0]], n->out[0]);
	return rc ? rc : 1;
}

/* A mean or maximum over all positions is a pool with one window. */
static int take_global_pool(struct layout *l, const struct ir_node *n)
{
	struct tensor_op t = {.function = MODEL_FN_POOL_LAST, .n_in = 1, .n_out = 1};
	const uint32_t rank = n->t.in[0].rank;
	struct error ignored;
	int rc;

	if (!is_tensor(n, MODEL_FN_REDUCE) || !lives_in_twin(l, n->in[0]) ||
		(n->t.i[0] != REDUCE_MEAN && n->t.i[0] != REDUCE_MAX) || !n->t.i[2] ||
		n->t.i[1] != (1 << rank) - 4)
		return 0;
	t.i[0] = n->t.i[0] == REDUCE_MAX ? POOL_MAX : POOL_AVERAGE;
	t.in[0] = value(l, l->twin[n->in[0]])->t;
	for (uint32_t a = 0; a + 2 < rank; a++) {
		t.i[1 + a] = t.i[4 + a] = 1;
		t.i[13 + a] = t.in[0].dims[1 + a];
	}
	if (tensor_infer(&t, &ignored))
		return 0;
	rc = emit_twin(l, n, &t, &l->twin[n->in[0]], n->out[0]);
	return rc ? rc : 1;
}

/* ---- element by element ---- */

static int take_unary(struct layout *l, const struct ir_node *n)
{
	struct tensor_op t = n->t;
	int rc;

	if ((n->op != IR_UNARY && !is_tensor(n, MODEL_FN_UNARY) && !is_tensor(n, MODEL_FN_CAST)) ||
		!lives_in_twin(l, n->in[0]))
		return 0;
	t.in[0] = value(l, l->twin[n->in[0]])->t;
	rc = tensor_infer(&t, l->err);
	if (!rc)
		rc = emit_twin(l, n, &t, &l->twin[n->in[0]], n->out[0]);
	return rc ? rc : 1;
}

/* A constant that broadcasts along a value of `rank` in its first form, in the second. */
static int32_t constant_twin(struct layout *l, int32_t v, uint32_t rank)
{
	struct tensor t = value(l, v)->t, full = {t.dtype, rank, {0}}, last;
	const float *from = value(l, v)->data;
	size_t channels, span;
	float *to;
	int32_t twin;

	for (uint32_t d = 0; d < rank; d++)
		full.dims[d] = d + t.rank < rank ? 1 : t.dims[d + t.rank - rank];
	last = channels_last(&full);
	twin = new_constant(l->g, value(l, v)->name, &last, &to, l->err);
	if (twin < 0)
		return twin;
	channels = full.dims[1];
	span = tensor_span(&full, 2, rank);
	for (size_t i = 0; i < tensor_elements(&full); i++)
		to[i / (channels * span) * channels * span + i % span * channels +
			i / span % channels] = from[i];
	return twin;
}

static bool takes_binary(const struct layout *l, const struct ir_node *n)
{
	const uint32_t rank = n->t.out[0].rank;
	bool any = false;

	if (!is_tensor(n, MODEL_FN_BINARY) || rank < 3)
		return false;
	for (int k = 0; k < 2; k++) {
		any |= lives_in_twin(l, n->in[k]);
		if (ir_is_constant(l->g, n->in[k])
				? !is_constant_f32(l->g, n->in[k])
				: n->t.in[k].rank != rank || value(l, n->in[k])->batch > 0 ||
					  l->flat[n->in[k]] != IR_NONE)
			return false;
	}
	return any;
}

static int take_binary(struct layout *l, const struct ir_node *n)
{
	struct tensor_op t = n->t;
	int32_t in[2];
	int rc;

	if (!takes_binary(l, n))
		return 0;
	for (int k = 0; k < 2; k++) {
		in[k] = ir_is_constant(l->g, n->in[k])
				? constant_twin(l, n->in[k], n->t.out[0].rank)
				: twin_of(l, n->in[k]);
		if (in[k] < 0)
			return in[k];
		t.in[k] = value(l, in[k])->t;
	}
	rc = tensor_infer(&t, l->err);
	if (!rc)
		rc = emit_twin(l, n, &t, in, n->out[0]);
	return rc ? rc : 1;
}

static int take_concat(struct layout *l, const struct ir_node *n)
{
	const uint32_t rank = n->t.out[0].rank;
	struct tensor_op t = n->t;
	int32_t in[TENSOR_MAX_IN];
	int rc;

	if (!is_tensor(n, MODEL_FN_CONCAT) || rank < 3)
		return 0;
	for (uint32_t k = 0; k < t.n_in; k++)
		if (!lives_in_twin(l, n->in[k]))
			return 0;
	for (uint32_t k = 0; k < t.n_in; k++) {
		in[k] = l->twin[n->in[k]];
		t.in[k] = value(l, in[k])->t;
	}
	if (t.i[0] > 0)
		t.i[0] = t.i[0] == 1 ? rank - 1 : t.i[0] - 1;
	rc = tensor_infer(&t, l->err);
	if (!rc)
		rc = emit_twin(l, n, &t, in, n->out[0]);
	return rc ? rc : 1;
}

/* ---- flattening ---- */

/* [N][C][...] seen as [N][C x ...]: put off, a dense layer may read the twin's order instead. */
static int take_flatten(struct layout *l, const struct ir_node *n)
{
	const struct tensor *x, *y;

	if (n->op != IR_VIEW || !lives_in_twin(l, n->in[0]))
		return 0;
	x = &value(l, n->in[0])->t;
	y = &value(l, n->out[0])->t;
	if (y->rank != 2 || y->dims[0] != x->dims[0])
		return 0;
	l->flat[n->out[0]] = n->in[0];
	l->absent[n->out[0]] = true;
	return 1;
}

/* The rows of weights [C x positions][n] in the order [positions x C]. */
static int32_t turned_rows(struct layout *l, const struct ir_node *n, const struct tensor *x)
{
	const struct tensor w = value(l, n->in[1])->t;
	const float *from = value(l, n->in[1])->data;
	const size_t channels = x->dims[1], positions = tensor_span(x, 2, x->rank);
	float *to;
	int32_t v = new_constant(l->g, n->name, &w, &to, l->err);

	for (size_t k = 0; v >= 0 && k < n->k; k++)
		memcpy(to + (k % positions * channels + k / positions) * n->n, from + k * n->n,
			n->n * sizeof(float));
	return v;
}

static int take_dense(struct layout *l, const struct ir_node *n)
{
	int32_t x = n->op == IR_DENSE ? l->flat[n->in[0]] : IR_NONE, view, w, i;

	if (x == IR_NONE || !l->absent[n->in[0]])
		return 0;
	view = new_value(l, &value(l, n->in[0])->t, *value(l, n->in[0]));
	w = turned_rows(l, n, &value(l, x)->t);
	if (view < 0 || w < 0)
		return view < 0 ? view : w;
	i = new_node(l, IR_VIEW, n->name);
	if (i < 0)
		return i;
	l->g->nodes[i].in[0] = l->twin[x];
	l->g->nodes[i].out[0] = view;
	i = new_node(l, IR_DENSE, n->name);
	if (i < 0)
		return i;
	l->g->nodes[i] = *n;
	l->g->nodes[i].in[0] = view;
	l->g->nodes[i].in[1] = w;
	return 1;
}

/* ---- the walk ---- */

static int take_other(struct layout *l, const struct ir_node *n)
{
	int32_t i = 0;

	for (uint32_t k = 0; !i && k < TENSOR_MAX_IN; k++)
		i = bring_back(l, n->in[k]);
	if (!i)
		i = new_node(l, n->op, n->name);
	if (i < 0)
		return i;
	l->g->nodes[i] = *n;
	return 1;
}

static int take_node(struct layout *l, const struct ir_node *n)
{
	static int (*const takers[])(struct layout *, const struct ir_node *) = {take_conv,
		take_activation, take_residual, take_pool, take_global_pool, take_unary,
		take_binary, take_concat, take_flatten, take_dense, take_other};
	int rc = 0;

	for (size_t i = 0; !rc && i < sizeof(takers) / sizeof(takers[0]); i++)
		rc = takers[i](l, n);
	return rc < 0 ? rc : 0;
}

static int layout_init(struct layout *l, struct ir_graph *g, struct error *err)
{
	const size_t n = (size_t)g->n_values + 1, bytes = n * sizeof(int32_t);

	*l = (struct layout){.g = g, .err = err, .uses = count_uses(g)};
	l->twin = arena_alloc(g->arena, n, sizeof(int32_t));
	l->made_by = arena_alloc(g->arena, n, sizeof(int32_t));
	l->flat = arena_alloc(g->arena, n, sizeof(int32_t));
	l->absent = arena_alloc(g->arena, n, sizeof(bool));
	if (!l->uses || !l->twin || !l->made_by || !l->flat || !l->absent)
		return error_set(err, -ENOMEM, "no memory for a pass");
	memset(l->twin, 0xff, bytes);
	memset(l->flat, 0xff, bytes);
	return 0;
}

int pass_channels_last(struct ir_graph *g, struct error *err)
{
	const struct ir_node *old = g->nodes;
	const int32_t count = g->n_nodes;
	struct layout l;
	int rc = layout_init(&l, g, err);

	if (rc)
		return rc;
	g->nodes = arena_alloc(g->arena, (size_t)count + 1, sizeof(*g->nodes));
	if (!g->nodes)
		return error_set(err, -ENOMEM, "no memory for a pass");
	g->max_nodes = count + 1;
	g->n_nodes = 0;
	for (int32_t i = 0; !rc && i < count; i++)
		if (old[i].op != IR_DEAD)
			rc = take_node(&l, &old[i]);
	for (uint32_t i = 0; !rc && i < g->n_outputs; i++)
		rc = bring_back(&l, g->outputs[i].value);
	return rc;
}
