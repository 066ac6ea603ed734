/* SPDX-License-Identifier: BSD-3-Clause
 * Attention as exporters write it, with the moves around it:
 *
 *   softmax(scale Q K^T + mask) V     Q, K, V: slices and transposes of what projections made;
 *                                     the answer transposed back
 *
 * The moves are not compared with pictures: every element of Q, K and V is traced through views,
 * slices, transposes and multiplications by numbers to where it was first written. If those places
 * are an affine function of (head, token, feature), the kernel reads them there, and the moves go.
 */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "models/compile/match.h"
#include "models/compile/passes.h"

/* Every element of an operand is traced, so there is a limit: 4,096 tokens 1,024 wide. */
enum { MAX_ELEMENTS = 1 << 22, MAX_MOVES = 16, Q = 0, K = 1, V = 2, Y = 3 };

/* Element (o, t, d) of an operand [outer][tokens][features] lies at base + o0, o1, t and d times
 * their strides, o = o0 outer1 + o1. */
struct place {
	int64_t base, outer[2], token, feature;
};

struct found {
	int64_t queries, keys, width, value_width, outer[2];
	int32_t source[3], mask; /* mask: IR_NONE for none */
	struct place place[4], hides; /* hides: the mask, its token a query, its feature a key */
	struct ir_node *scores; /* Q K^T */
	int64_t mask_kind;
	float scale, fill;
	int32_t out; /* the value the last move made */
	struct ir_node *moves[MAX_MOVES]; /* from the product to it */
	uint32_t n_moves;
};

static bool is_move(const struct ir_node *n)
{
	return n && (n->op == IR_VIEW || is_tensor(n, MODEL_FN_STRIDED));
}

/* Where element e of a move's output comes from in its input. */
static int64_t moved_from(const struct ir_node *n, int64_t e)
{
	int64_t at;

	if (n->op == IR_VIEW || is_tensor(n, MODEL_FN_UNARY) || is_tensor(n, MODEL_FN_BINARY))
		return e;
	at = n->t.i[0];
	for (int64_t d = n->t.i[1]; d-- > 0; e /= n->t.i[2 + d])
		at += e % n->t.i[2 + d] * n->t.i[10 + d];
	return at;
}

/* n multiplies by a number: it and the other operand. */
static int32_t scaled(const struct match *m, const struct ir_node *n, float *by)
{
	int32_t x;

	if (!n || !is_tensor(n, MODEL_FN_BINARY) || n->t.in[0].dtype != WIRE_F32)
		return IR_NONE;
	x = operand_scalar(m->g, n, by);
	if (x == IR_NONE || tensor_elements(&m->g->values[x].t) != tensor_elements(&n->t.out[0]))
		return IR_NONE;
	if (n->t.i[0] == BINARY_DIV && x == n->in[0])
		*by = 1 / *by;
	else if (n->t.i[0] != BINARY_MUL)
		return IR_NONE;
	return isfinite(*by) ? x : IR_NONE;
}

/* ---- where operands lie ---- */

struct chain {
	const struct ir_node *move[MAX_MOVES]; /* from the operand back */
	uint32_t n;
};

static int64_t trace(const struct chain *c, int64_t e)
{
	for (uint32_t i = 0; i < c->n; i++)
		e = moved_from(c->move[i], e);
	return e;
}

/* The shape an operand is asked in: element (o, t, d) has the index o tokens features + t token_step
 * + d feature_step. */
struct shape {
	int64_t outer[2], tokens, features;
	bool turned; /* [outer][features][tokens], as K^T is */
};

static int64_t element(const struct shape *s, int64_t o, int64_t t, int64_t d)
{
	return o * s->tokens * s->features +
	       (s->turned ? d * s->tokens + t : t * s->features + d);
}

/* Is the chain affine on this shape? Then *p says how. */
static bool find_place(const struct chain *c, const struct shape *s, struct place *p)
{
	const int64_t inner = s->outer[1];

	p->base = trace(c, 0);
	p->outer[0] = s->outer[0] > 1 ? trace(c, element(s, inner, 0, 0)) - p->base : 0;
	p->outer[1] = inner > 1 ? trace(c, element(s, 1, 0, 0)) - p->base : 0;
	p->token = s->tokens > 1 ? trace(c, element(s, 0, 1, 0)) - p->base : 0;
	p->feature = s->features > 1 ? trace(c, element(s, 0, 0, 1)) - p->base : 1;
	if (p->feature != 1 || p->base < 0 || p->outer[0] < 0 || p->outer[1] < 0 || p->token < 0)
		return false;
	for (int64_t o = 0; o < s->outer[0] * inner; o++)
		for (int64_t t = 0; t < s->tokens; t++)
			for (int64_t d = 0; d < s->features; d++)
				if (trace(c, element(s, o, t, d)) !=
					p->base + o / inner * p->outer[0] + o % inner * p->outer[1] +
						t * p->token + d)
					return false;
	return true;
}

/* Follow the operand back as far as it stays affine. */
static bool find_source(const struct match *m, int32_t value, const struct shape *s, int32_t *source,
	struct place *p, float *scale)
{
	struct chain c = {.n = 0};
	struct place here;
	bool any = false;
	float by = 1;

	if (tensor_elements(&m->g->values[value].t) > MAX_ELEMENTS ||
		tensor_elements(&m->g->values[value].t) !=
		(uint64_t)(s->outer[0] * s->outer[1] * s->tokens * s->features))
		return false;
	for (;;) {
		const struct ir_node *n = producer_of(m, value);
		float factor;
		int32_t x = scaled(m, n, &factor);

		if (find_place(&c, s, &here)) {
			*p = here;
			*source = value;
			*scale = by;
			any = true;
		}
		if (c.n == MAX_MOVES || (x == IR_NONE && !is_move(n)))
			return any;
		by *= x == IR_NONE ? 1 : factor;
		value = x == IR_NONE ? n->in[0] : x;
		c.move[c.n++] = n;
	}
}

/* ---- the way from softmax to the scores ---- */

/* Strides of the mask along the scores' outer dimensions, queries and keys; it is broadcast. */
static bool place_mask(const struct match *m, struct found *f, int32_t mask, const struct tensor *to)
{
	const struct tensor *t = &m->g->values[mask].t;
	int64_t stride[TENSOR_MAX_RANK] = {0}, step = 1;
	uint32_t outer = 0;

	if (t->rank > to->rank || to->rank < 2)
		return false;
	for (uint32_t i = 1; i <= t->rank; i++) {
		uint32_t d = t->dims[t->rank - i];

		stride[to->rank - i] = d == 1 ? 0 : step;
		step *= d;
	}
	f->outer[0] = f->outer[1] = 1;
	f->hides.outer[0] = f->hides.outer[1] = 0;
	for (uint32_t d = 0; d + 2 < to->rank; d++) {
		if (to->dims[d] == 1)
			continue;
		if (outer == 2)
			return false;
		if (outer == 1) {
			f->outer[0] = f->outer[1];
			f->hides.outer[0] = f->hides.outer[1];
		}
		f->outer[1] = to->dims[d];
		f->hides.outer[1] = stride[d];
		outer++;
	}
	f->queries = to->dims[to->rank - 2];
	f->keys = to->dims[to->rank - 1];
	f->hides.token = stride[to->rank - 2];
	f->hides.feature = stride[to->rank - 1];
	f->mask = mask;
	return true;
}

/* Does a product make the value, but for views and numbers? */
static bool is_product(const struct match *m, int32_t value)
{
	for (int step = 0; step < MAX_MOVES; step++) {
		const struct ir_node *n = producer_of(m, value);
		float by;
		int32_t x = scaled(m, n, &by);

		if (x == IR_NONE && (!n || n->op != IR_VIEW))
			return n && is_tensor(n, MODEL_FN_MATMUL);
		value = x == IR_NONE ? n->in[0] : x;
	}
	return false;
}

/* One mask on the way back: scores + mask, or a choice between scores and a number. */
static int32_t unmask(const struct match *m, struct found *f, const struct ir_node *n)
{
	if (f->mask != IR_NONE || !n || n->op != IR_TENSOR)
		return IR_NONE;
	if (is_tensor(n, MODEL_FN_BINARY) && n->t.i[0] == BINARY_ADD) {
		for (int side = 0; side < 2; side++) {
			f->mask_kind = MASK_ADDED;
			if (tensor_same_shape(&n->t.in[side], &n->t.out[0]) &&
				is_product(m, n->in[side]) && place_mask(m, f, n->in[1 - side], &n->t.out[0]))
				return n->in[side];
		}
		return IR_NONE;
	}
	if (!is_tensor(n, MODEL_FN_WHERE) || n->t.out[0].dtype != WIRE_F32)
		return IR_NONE;
	for (int side = 1; side < 3; side++) {
		f->mask_kind = side == 1 ? MASK_KEPT : MASK_HIDDEN;
		if (scalar_of(m->g, n->in[3 - side], &f->fill) &&
			tensor_same_shape(&n->t.in[side], &n->t.out[0]) &&
			place_mask(m, f, n->in[0], &n->t.out[0]))
			return n->in[side];
	}
	return IR_NONE;
}

/* From the left operand of the product with V back to the product Q K^T. */
static bool find_scores(const struct match *m, struct found *f, int32_t value)
{
	bool softmax = false;

	for (int step = 0; step < MAX_MOVES; step++) {
		struct ir_node *n = producer_of(m, value);
		float by;
		int32_t x;

		if (n && n->op == IR_VIEW) {
			value = n->in[0];
		} else if (n && !softmax && is_tensor(n, MODEL_FN_SOFTMAX) &&
			   n->t.i[0] == (int64_t)n->t.in[0].rank - 1) {
			softmax = true;
			f->keys = n->t.in[0].dims[n->t.i[0]];
			value = n->in[0];
		} else if (softmax && n && is_tensor(n, MODEL_FN_MATMUL)) {
			f->scores = n;
			return true;
		} else if (softmax && (x = scaled(m, n, &by)) != IR_NONE) {
			f->scale *= by;
			value = x;
		} else if (softmax && (x = unmask(m, f, n)) != IR_NONE) {
			if (f->scale != 1) /* the mask would be scaled as well */
				return false;
			value = x;
		} else {
			return false;
		}
	}
	return false;
}

/* ---- the whole ---- */

/* Moves that follow the product one after the other, each the only reader. */
static void find_moves(const struct match *m, struct found *f, const int32_t *reader, int32_t value)
{
	f->out = value;
	while (f->n_moves < MAX_MOVES && m->uses[f->out] == 1 && reader[f->out] != IR_NONE) {
		struct ir_node *n = &m->g->nodes[reader[f->out]];

		if (!is_move(n) || tensor_elements(&m->g->values[n->out[0]].t) !=
					   tensor_elements(&m->g->values[f->out].t))
			return;
		f->moves[f->n_moves++] = n;
		f->out = n->out[0];
	}
}

/* Where (o, t, d) goes in the last move's output; drops moves until it is affine. */
static bool find_output(const struct match *m, struct found *f)
{
	const struct shape s = {
		{f->outer[0], f->outer[1]}, f->queries, f->value_width, false};
	const int64_t size = s.outer[0] * s.outer[1] * s.tokens * s.features;
	int64_t *to = arena_alloc(m->g->arena, (size_t)size, sizeof(*to));

	if (!to || size > MAX_ELEMENTS)
		return false;
	for (;; f->n_moves--) {
		struct place *p = &f->place[Y];
		bool affine = true;

		memset(to, 0xff, (size_t)size * sizeof(*to));
		for (int64_t e = 0; e < size; e++) {
			int64_t at = e;

			for (uint32_t i = f->n_moves; i-- > 0;)
				at = moved_from(f->moves[i], at);
			affine &= to[at] == -1; /* each once */
			to[at] = e;
		}
		p->base = to[0];
		p->outer[0] = s.outer[0] > 1 ? to[element(&s, s.outer[1], 0, 0)] : 0;
		p->outer[1] = s.outer[1] > 1 ? to[element(&s, 1, 0, 0)] : 0;
		p->token = s.tokens > 1 ? to[element(&s, 0, 1, 0)] : 0;
		p->feature = s.features > 1 ? to[1] : 1;
		for (int64_t o = 0; o < s.outer[0] * s.outer[1] && affine; o++)
			for (int64_t t = 0; t < s.tokens; t++)
				for (int64_t d = 0; d < s.features; d++)
					affine &= to[element(&s, o, t, d)] ==
						  o / s.outer[1] * p->outer[0] +
							  o % s.outer[1] * p->outer[1] +
							  t * p->token + d;
		if (affine && p->base == 0 && p->feature == 1)
			break;
		if (!f->n_moves)
			return false;
	}
	f->out = f->n_moves ? f->moves[f->n_moves - 1]->out[0] : f->out;
	return true;
}

/* Sizes of everything from the two products; the operands must not be broadcast. */
static bool find_sizes(struct found *f, const struct ir_node *pv)
{
	const struct tensor *s = &f->scores->t.out[0], *p = &pv->t.out[0];
	uint64_t outer = tensor_span(s, 0, s->rank - 2);

	if (s->dims[s->rank - 1] != f->keys ||
		(f->mask != IR_NONE && s->dims[s->rank - 2] != f->queries))
		return false;
	f->queries = s->dims[s->rank - 2];
	f->width = f->scores->t.in[0].dims[f->scores->t.in[0].rank - 1];
	f->value_width = p->dims[p->rank - 1];
	if (f->mask == IR_NONE) {
		f->outer[0] = 1;
		f->outer[1] = (int64_t)outer;
		for (uint32_t d = 0; d + 2 < s->rank; d++)
			if (s->dims[d] != 1) { /* batch and heads may lie differently */
				f->outer[0] = s->dims[d];
				f->outer[1] = (int64_t)outer / s->dims[d];
				break;
			}
	}
	return p->dims[p->rank - 2] == f->queries && tensor_span(p, 0, p->rank - 2) == outer &&
	       (uint64_t)(f->outer[0] * f->outer[1]) == outer;
}

static bool find_sources(const struct match *m, struct found *f, const struct ir_node *pv)
{
	const struct shape q = {{f->outer[0], f->outer[1]}, f->queries, f->width, false};
	const struct shape k = {{f->outer[0], f->outer[1]}, f->keys, f->width, true};
	const struct shape v = {{f->outer[0], f->outer[1]}, f->keys, f->value_width, false};
	float by[3];

	if (!find_source(m, f->scores->in[0], &q, &f->source[Q], &f->place[Q], &by[Q]) ||
		!find_source(m, f->scores->in[1], &k, &f->source[K], &f->place[K], &by[K]) ||
		!find_source(m, pv->in[1], &v, &f->source[V], &f->place[V], &by[V]))
		return false;
	f->scale *= by[Q] * by[K];
	return by[V] == 1;
}

static void put_place(int64_t *to, const struct place *p)
{
	to[0] = p->base;
	to[1] = p->outer[0];
	to[2] = p->outer[1];
	to[3] = p->token;
}

/* attention.c says what the numbers mean. */
static void describe(const struct match *m, const struct found *f, struct tensor_op *t)
{
	const struct tensor *out = &m->g->values[f->out].t;

	t->function = MODEL_FN_ATTENTION;
	t->n_in = f->mask == IR_NONE ? 3 : 4;
	t->n_out = 1;
	t->i[0] = f->queries;
	t->i[1] = f->keys;
	t->i[2] = f->width;
	t->i[3] = f->value_width;
	t->i[4] = f->outer[0];
	t->i[5] = f->outer[1];
	for (int k = 0; k < 4; k++)
		put_place(t->i + 6 + 4 * k, &f->place[k]);
	if (f->mask != IR_NONE) {
		t->i[22] = f->hides.outer[0];
		t->i[23] = f->hides.outer[1];
		t->i[24] = f->hides.token;
		t->i[25] = f->hides.feature;
		t->i[26] = f->mask_kind;
	}
	t->i[27] = out->rank;
	for (uint32_t d = 0; d < out->rank; d++)
		t->i[28 + d] = out->dims[d];
	t->f[0] = f->scale;
	t->f[1] = f->fill;
}

static int fuse_node(struct match *m, struct ir_node *n, const int32_t *reader)
{
	struct found f = {.mask = IR_NONE, .scale = 1};
	struct tensor_op t = {0};
	int32_t in[4];
	int rc;

	if (!is_tensor(n, MODEL_FN_MATMUL) || n->t.out[0].dtype != WIRE_F32 ||
		!find_scores(m, &f, n->in[0]) || !find_sizes(&f, n))
		return 0;
	find_moves(m, &f, reader, n->out[0]);
	if (!find_sources(m, &f, n) || !find_output(m, &f))
		return 0;
	describe(m, &f, &t);
	memcpy(in, f.source, sizeof(f.source));
	in[3] = f.mask;
	rc = become_tensor(m, n, &t, in);
	if (rc) /* sizes beyond the kernel's: leave the chain */
		return 0;
	for (uint32_t i = 0; i < f.n_moves; i++)
		f.moves[i]->op = IR_DEAD;
	n->out[0] = f.out;
	m->producer[f.out] = (int32_t)(n - m->g->nodes);
	return 0;
}

int pass_fuse_attention(struct ir_graph *g, struct error *err)
{
	struct match m;
	int rc = match_init(&m, g, err);
	int32_t *reader = arena_alloc(g->arena, (size_t)g->n_values + 1, sizeof(*reader));

	if (rc || !reader)
		return rc ? rc : error_set(err, -ENOMEM, "no memory for a pass");
	memset(reader, 0xff, (size_t)g->n_values * sizeof(*reader));
	for (int32_t i = 0; i < g->n_nodes; i++)
		for (int k = 0; g->nodes[i].op != IR_DEAD && k < TENSOR_MAX_IN; k++)
			if (g->nodes[i].in[k] != IR_NONE)
				reader[g->nodes[i].in[k]] = i;
	for (int32_t i = 0; !rc && i < g->n_nodes; i++)
		rc = fuse_node(&m, &g->nodes[i], reader);
	return rc;
}
