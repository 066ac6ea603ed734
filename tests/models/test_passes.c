/* SPDX-License-Identifier: BSD-3-Clause
 * Every pass alone, on a small graph built by hand: the graph computes the same answers after it as
 * before (by the scalar reference), and is what the pass is there to make of it. Where another
 * value of the pattern is used elsewhere, the pass keeps its hands off.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "models/compile/passes.h"

enum { MAX_VALUES = 64, MAX_PASSES = 4 };

struct t {
	struct arena arena;
	struct ir_graph g;
	struct error err;
	uint32_t seed;
};

/* ---- building ---- */

static struct tensor t_shape(uint32_t rank, const uint32_t *dims)
{
	struct tensor s = {.dtype = WIRE_F32, .rank = rank};

	memcpy(s.dims, dims, rank * sizeof(*dims));
	return s;
}

#define SHAPE(...)                                                                                 \
	t_shape(sizeof((uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t), (uint32_t[]){__VA_ARGS__})

static float t_float(struct t *t)
{
	t->seed = t->seed * 1664525u + 1013904223u;
	return (float)(t->seed >> 8) / (float)(1 << 23) - 1;
}

static int32_t t_value(struct t *t, struct tensor shape)
{
	int32_t v = ir_value_new(&t->g, "v", &shape, &t->err);

	assert_true(v >= 0 && v < MAX_VALUES);
	return v;
}

static int32_t t_input(struct t *t, struct tensor shape)
{
	int32_t v = t_value(t, shape);

	t->g.inputs[t->g.n_inputs++] = (struct ir_port){"x", v};
	return v;
}

static void t_output(struct t *t, int32_t v)
{
	t->g.outputs[t->g.n_outputs++] = (struct ir_port){"y", v};
}

/* Random elements; one element is `number`. */
static int32_t t_constant(struct t *t, struct tensor shape, float number)
{
	int32_t v = t_value(t, shape);
	uint64_t n = tensor_elements(&shape);
	float *data = arena_alloc(&t->arena, n, sizeof(*data));

	for (uint64_t i = 0; i < n; i++)
		data[i] = n == 1 ? number : t_float(t);
	t->g.values[v].data = data;
	return v;
}

static int32_t t_number(struct t *t, float x)
{
	return t_constant(t, (struct tensor){.dtype = WIRE_F32}, x);
}

static int32_t t_indices(struct t *t, struct tensor shape, const int64_t *from)
{
	int64_t *data = arena_alloc(&t->arena, tensor_elements(&shape), sizeof(*data));
	int32_t v;

	shape.dtype = WIRE_I64;
	v = t_value(t, shape);
	memcpy(data, from, tensor_elements(&shape) * sizeof(*data));
	t->g.values[v].data = data;
	return v;
}

/* A node of op's function and attributes; the first of its outputs. */
static int32_t t_node(struct t *t, struct tensor_op op, uint32_t n_in, const int32_t *in)
{
	struct ir_node *n = ir_node_new(&t->g, IR_TENSOR, "n", &t->err);

	op.n_in = n_in;
	op.n_out = 1;
	for (uint32_t k = 0; k < n_in; k++) {
		n->in[k] = in[k];
		op.in[k] = t->g.values[in[k]].t;
	}
	if (tensor_infer(&op, &t->err))
		fail_msg("%s", t->err.text);
	n->t = op;
	n->out[0] = t_value(t, op.out[0]);
	return n->out[0];
}

static int32_t t_unary(struct t *t, int64_t fn, int32_t x)
{
	return t_node(t, (struct tensor_op){.function = MODEL_FN_UNARY, .i = {fn}}, 1, &x);
}

static int32_t t_binary(struct t *t, int64_t fn, int32_t a, int32_t b)
{
	return t_node(t, (struct tensor_op){.function = MODEL_FN_BINARY, .i = {fn}}, 2,
		(int32_t[]){a, b});
}

static int32_t t_matmul(struct t *t, int32_t a, int32_t b)
{
	return t_node(t, (struct tensor_op){.function = MODEL_FN_MATMUL}, 2, (int32_t[]){a, b});
}

/* The mean over the last of two dimensions, kept. */
static int32_t t_mean(struct t *t, int32_t x)
{
	return t_node(t,
		(struct tensor_op){.function = MODEL_FN_REDUCE, .i = {REDUCE_MEAN, 1 << 1, 1}}, 1, &x);
}

/* ---- computing ---- */

static void t_dense(const struct ir_node *n, const float *x, const float *w, const float *b, float *y)
{
	for (uint32_t i = 0; i < n->m * n->n; i++) {
		double sum = b ? b[i % n->n] : 0;

		for (uint32_t k = 0; k < n->k; k++)
			sum += (double)x[i / n->n * n->k + k] * w[k * n->n + i % n->n];
		y[i] = activation_scalar(n->act, (float)sum);
	}
}

static void t_compute(struct t *t, const struct ir_node *n, void *const *at)
{
	const uint64_t elements = tensor_elements(&t->g.values[n->out[0]].t);
	struct tensor_args a = {.kernels = &kernels_scalar,
		.scratch = arena_alloc(&t->arena, n->t.scratch_bytes + 64, 1)};
	const float *x = at[n->in[0]];
	float *y = at[n->out[0]];

	switch (n->op) {
	case IR_VIEW:
		memcpy(y, x, elements * sizeof(*y));
		break;
	case IR_UNARY:
		kernels_scalar.v->unary(n->act, y, x, elements);
		break;
	case IR_SOFTMAX:
		assert_int_equal(n->k, 1);
		kernels_scalar.v->softmax(y, x, n->m, n->n);
		break;
	case IR_DENSE:
		t_dense(n, x, at[n->in[1]], n->in[2] == IR_NONE ? NULL : at[n->in[2]], y);
		break;
	default:
		for (uint32_t k = 0; k < n->t.n_in; k++)
			a.in[k] = n->in[k] == IR_NONE ? NULL : at[n->in[k]];
		a.out[0] = y;
		tensor_run(&n->t, &a);
		break;
	}
}

/* Every output's elements one after the other; returns how many. */
static size_t t_answers(struct t *t, float *to)
{
	void *at[MAX_VALUES];
	size_t n = 0;

	t->seed = 7; /* the same inputs each time */
	for (int32_t v = 0; v < t->g.n_values; v++) {
		const struct ir_value *value = &t->g.values[v];

		at[v] = value->data ? (void *)(uintptr_t)value->data
				    : arena_alloc(&t->arena, tensor_elements(&value->t) + 64, 8);
	}
	for (uint32_t i = 0; i < t->g.n_inputs; i++) {
		const struct tensor *s = &t->g.values[t->g.inputs[i].value].t;
		void *x = at[t->g.inputs[i].value];

		for (uint64_t e = 0; e < tensor_elements(s); e++)
			if (s->dtype == WIRE_I64)
				((int64_t *)x)[e] = (int64_t)((t_float(t) + 1) * 4);
			else
				((float *)x)[e] = 2 * t_float(t);
	}
	for (int32_t i = 0; i < t->g.n_nodes; i++)
		if (t->g.nodes[i].op != IR_DEAD)
			t_compute(t, &t->g.nodes[i], at);
	for (uint32_t i = 0; i < t->g.n_outputs; i++) {
		int32_t v = t->g.outputs[i].value;

		memcpy(to + n, at[v], tensor_elements(&t->g.values[v].t) * sizeof(*to));
		n += tensor_elements(&t->g.values[v].t);
	}
	return n;
}

/* ---- graphs ---- */

static void t_chain_and_dead_ends(struct t *t)
{
	int32_t x = t_input(t, SHAPE(1, 5));

	t_unary(t, UNARY_EXP, t_unary(t, UNARY_NEG, x));
	t_output(t, t_unary(t, UNARY_RELU, x));
}

static int32_t t_conv(struct t *t)
{
	int32_t in[] = {t_input(t, SHAPE(1, 3, 6, 6)), t_constant(t, SHAPE(4, 3, 3, 3), 0)};

	return t_node(t,
		(struct tensor_op){.function = MODEL_FN_CONV,
			.i = {1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 0}},
		2, in);
}

static void t_normalised_conv(struct t *t)
{
	int32_t y = t_binary(t, BINARY_MUL, t_conv(t), t_constant(t, SHAPE(4, 1, 1), 0));

	t_output(t, t_binary(t, BINARY_ADD, y, t_constant(t, SHAPE(4, 1, 1), 0)));
}

static void t_activated_conv(struct t *t)
{
	t_output(t, t_unary(t, UNARY_RELU, t_conv(t)));
}

static void t_one_column(struct t *t)
{
	int32_t in[] = {t_input(t, SHAPE(1, 4, 6)), 0};

	in[1] = t_indices(t, (struct tensor){.rank = 0}, (int64_t[]){-2});
	t_output(t, t_node(t, (struct tensor_op){.function = MODEL_FN_GATHER, .i = {2}}, 2, in));
}

static void t_layer_norm(struct t *t)
{
	int32_t x = t_input(t, SHAPE(3, 8)), d = t_binary(t, BINARY_SUB, x, t_mean(t, x));
	int32_t v = t_mean(t, t_binary(t, BINARY_POW, d, t_number(t, 2)));
	int32_t s = t_unary(t, UNARY_SQRT, t_binary(t, BINARY_ADD, v, t_number(t, 1e-5f)));
	int32_t y = t_binary(t, BINARY_DIV, d, s);

	y = t_binary(t, BINARY_MUL, y, t_constant(t, SHAPE(8), 0));
	t_output(t, t_binary(t, BINARY_ADD, y, t_constant(t, SHAPE(8), 0)));
}

static void t_gelu(struct t *t)
{
	int32_t x = t_input(t, SHAPE(1, 40));
	int32_t e = t_unary(t, UNARY_ERF, t_binary(t, BINARY_DIV, x, t_number(t, 1.41421356f)));
	int32_t y = t_binary(t, BINARY_MUL, x, t_binary(t, BINARY_ADD, e, t_number(t, 1)));

	t_output(t, t_binary(t, BINARY_MUL, y, t_number(t, 0.5f)));
}

static void t_attention(struct t *t)
{
	int32_t q = t_input(t, SHAPE(2, 5, 8)), k = t_input(t, SHAPE(2, 7, 8));
	int32_t v = t_input(t, SHAPE(2, 7, 6));
	int32_t turned = t_node(t,
		(struct tensor_op){.function = MODEL_FN_STRIDED,
			.i = {0, 3, 2, 8, 7, 0, 0, 0, 0, 0, 56, 1, 8}},
		1, &k);
	int32_t s = t_binary(t, BINARY_MUL, t_matmul(t, q, turned), t_number(t, 0.35f));

	s = t_node(t, (struct tensor_op){.function = MODEL_FN_SOFTMAX, .i = {2}}, 1, &s);
	t_output(t, t_matmul(t, s, v));
}

static void t_bag(struct t *t)
{
	struct tensor ids = SHAPE(2, 5);
	int32_t in[] = {t_constant(t, SHAPE(9, 4), 0), 0}, x;

	ids.dtype = WIRE_I64;
	in[1] = t_input(t, ids);
	x = t_node(t, (struct tensor_op){.function = MODEL_FN_GATHER}, 2, in);
	t_output(t, t_node(t,
			    (struct tensor_op){.function = MODEL_FN_REDUCE,
				    .i = {REDUCE_MEAN, 1 << 1, 0}},
			    1, &x));
}

/* A row of `table` by element `index` of `ids`. */
static int32_t t_lookup(struct t *t, int32_t ids, int64_t index, int32_t table)
{
	struct tensor_op slice = {.function = MODEL_FN_STRIDED, .i = {[0] = index, [1] = 1, [2] = 1}};
	int32_t in[] = {table, t_node(t, slice, 1, &ids)};

	return t_node(t, (struct tensor_op){.function = MODEL_FN_GATHER}, 2, in);
}

/* Three features, two of them of one table, and something else; the second is shown besides or not. */
static void t_features(struct t *t, bool shown)
{
	struct tensor ids = SHAPE(1, 4);
	int32_t in[4], x, shared = t_constant(t, SHAPE(9, 4), 0);

	ids.dtype = WIRE_I64;
	x = t_input(t, ids);
	in[0] = t_constant(t, SHAPE(1, 3), 0);
	in[1] = t_lookup(t, x, 2, shared);
	in[2] = t_lookup(t, x, 0, t_constant(t, SHAPE(5, 4), 0));
	in[3] = t_lookup(t, x, 3, shared);
	t_output(t, t_node(t, (struct tensor_op){.function = MODEL_FN_CONCAT, .i = {1}}, 4, in));
	if (shown)
		t_output(t, in[2]);
}

static void t_sparse(struct t *t)
{
	t_features(t, false);
}

static void t_shown_sparse(struct t *t)
{
	t_features(t, true);
}

static void t_concats(struct t *t)
{
	struct tensor_op concat = {.function = MODEL_FN_CONCAT, .i = {1}};
	int32_t in[] = {t_input(t, SHAPE(2, 3)), t_constant(t, SHAPE(2, 4), 0), 0, t_constant(t, SHAPE(2, 2), 0)};

	in[2] = t_node(t, concat, 2, in);
	t_output(t, t_node(t, concat, 3, in + 1));
}

static int32_t t_product(struct t *t)
{
	return t_matmul(t, t_input(t, SHAPE(3, 6)), t_constant(t, SHAPE(6, 5), 0));
}

static void t_layer(struct t *t)
{
	int32_t y = t_binary(t, BINARY_ADD, t_product(t), t_constant(t, SHAPE(5), 0));

	t_output(t, t_unary(t, UNARY_TANH, y));
}

/* The product itself is an answer too. */
static void t_shown_layer(struct t *t)
{
	int32_t product = t_product(t);

	t_output(t, product);
	t_output(t, t_binary(t, BINARY_ADD, product, t_constant(t, SHAPE(5), 0)));
}

static void t_shown_sum(struct t *t)
{
	int32_t product = t_product(t);

	t_output(t, product);
	t_output(t, t_unary(t, UNARY_RELU, product));
}

static void t_classes(struct t *t)
{
	int32_t x = t_unary(t, UNARY_SIGMOID, t_input(t, SHAPE(2, 7)));

	t_output(t, t_node(t, (struct tensor_op){.function = MODEL_FN_SOFTMAX, .i = {1}}, 1, &x));
}

static void t_numbers(struct t *t)
{
	t_output(t, t_binary(t, BINARY_SUB, t_number(t, 3), t_input(t, SHAPE(2, 7))));
}

static void t_lstm(struct t *t)
{
	int32_t in[] = {t_input(t, SHAPE(4, 2, 3)), t_constant(t, SHAPE(1, 20, 3), 0),
		t_constant(t, SHAPE(1, 20, 5), 0), t_constant(t, SHAPE(1, 40), 0)};

	t_output(t, t_node(t,
			    (struct tensor_op){.function = MODEL_FN_RECURRENT,
				    .i = {CELL_LSTM, 0, 0, 0, UNARY_SIGMOID, UNARY_TANH, UNARY_TANH,
					    UNARY_SIGMOID, UNARY_TANH, UNARY_TANH}},
			    4, in));
}

/* ---- the table ---- */

typedef int pass_fn(struct ir_graph *g, struct error *err);

struct pass_case {
	const char *name;
	void (*build)(struct t *t);
	pass_fn *passes[MAX_PASSES]; /* the last one is tested */
	int32_t live;                /* nodes that are left, dead ones dropped */
	enum ir_op op;               /* the last of them */
	uint32_t function;           /* IR_TENSOR: its function */
	uint32_t act;                /* else its activation */
};

static const struct pass_case cases[] = {
	{"drop_dead", t_chain_and_dead_ends, {pass_drop_dead}, 1, IR_TENSOR, MODEL_FN_UNARY, 0},
	{"fold_into_conv", t_normalised_conv, {pass_fold_into_conv}, 1, IR_TENSOR, MODEL_FN_CONV, 0},
	{"slice_gathers", t_one_column, {pass_slice_gathers}, 1, IR_TENSOR, MODEL_FN_STRIDED, 0},
	{"fuse_norm", t_layer_norm, {pass_fuse_norm}, 1, IR_TENSOR, MODEL_FN_LAYER_NORM, 0},
	{"fuse_elementwise", t_gelu, {pass_fuse_elementwise}, 1, IR_UNARY, 0, MODEL_ACT_GELU},
	{"fuse_attention", t_attention, {pass_fuse_attention}, 1, IR_TENSOR, MODEL_FN_ATTENTION, 0},
	{"fuse_embedding", t_bag, {pass_fuse_embedding}, 1, IR_TENSOR, MODEL_FN_EMBEDDING, 0},
	{"fuse_lookups", t_sparse, {pass_fuse_lookups}, 2, IR_TENSOR, MODEL_FN_CONCAT, 0},
	{"fuse_lookups, one shown", t_shown_sparse, {pass_fuse_lookups}, 7, IR_TENSOR, MODEL_FN_CONCAT, 0},
	{"join_concats", t_concats, {pass_join_concats}, 1, IR_TENSOR, MODEL_FN_CONCAT, 0},
	{"form_dense", t_layer, {pass_form_dense}, 3, IR_TENSOR, MODEL_FN_UNARY, 0},
	{"choose_kernels", t_classes, {pass_choose_kernels}, 2, IR_SOFTMAX, 0, 0},
	{"fuse_bias", t_layer, {pass_form_dense, pass_fuse_bias}, 2, IR_TENSOR, MODEL_FN_UNARY, 0},
	{"fuse_bias, product shown", t_shown_layer, {pass_form_dense, pass_fuse_bias}, 2, IR_TENSOR,
		MODEL_FN_BINARY, 0},
	{"simplify", t_numbers, {pass_simplify}, 1, IR_UNARY, 0, MODEL_ACT_AFFINE},
	{"fuse_activation", t_layer,
		{pass_form_dense, pass_fuse_bias, pass_choose_kernels, pass_fuse_activation}, 1, IR_DENSE,
		0, MODEL_ACT_TANH},
	{"fuse_activation, sum shown", t_shown_sum,
		{pass_form_dense, pass_choose_kernels, pass_fuse_activation}, 2, IR_UNARY, 0,
		MODEL_ACT_RELU},
	{"channels_last", t_activated_conv, {pass_choose_kernels, pass_channels_last}, 3, IR_TENSOR,
		MODEL_FN_STRIDED, 0},
	{"pack_recurrent", t_lstm, {pass_pack_recurrent}, 1, IR_TENSOR, MODEL_FN_RECURRENT, 0},
};

static void t_init(struct t *t)
{
	*t = (struct t){.arena = {.limit_bytes = 64 << 20}, .seed = 3};
	if (ir_init(&t->g, &t->arena, MAX_VALUES, MAX_VALUES, &t->err))
		fail_msg("%s", t->err.text);
	t->g.needs = IR_NONE;
}

static void t_pass(const struct pass_case *c)
{
	float before[2048], after[2048];
	const struct ir_node *last = NULL;
	int32_t live = 0;
	size_t n;
	struct t t;

	t_init(&t);
	c->build(&t);
	n = t_answers(&t, before);
	for (int i = 0; i < MAX_PASSES && c->passes[i]; i++)
		if (c->passes[i](&t.g, &t.err))
			fail_msg("%s: %s", c->name, t.err.text);
	assert_int_equal(pass_drop_dead(&t.g, &t.err), 0);
	for (int32_t i = 0; i < t.g.n_nodes; i++)
		if (t.g.nodes[i].op != IR_DEAD) {
			last = &t.g.nodes[i];
			live++;
		}
	if (live != c->live || last->op != c->op ||
		(c->op == IR_TENSOR ? last->t.function != c->function : last->act.kind != c->act))
		fail_msg("%s: %d nodes, the last of kind %d, function %u, activation %u", c->name,
			live, last->op, last->t.function, last->act.kind);
	assert_int_equal(t_answers(&t, after), n);
	for (size_t i = 0; i < n; i++)
		if (!(fabsf(after[i] - before[i]) <= 1e-5f * (1 + fabsf(before[i]))))
			fail_msg("%s: answer %zu was %g, is %g", c->name, i, (double)before[i],
				(double)after[i]);
	arena_free(&t.arena);
}

static void each_pass_alone_keeps_the_answers_and_does_its_work(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		t_pass(&cases[i]);
}

/* What has nothing to do for a pass goes through it unchanged. */
static void a_pass_leaves_other_graphs_alone(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct pass_case *c = &cases[i];
		pass_fn *pass = c->passes[0];
		struct ir_node *old;
		size_t bytes;
		struct t t;

		t_init(&t);
		t_chain_and_dead_ends(&t);
		bytes = (size_t)t.g.n_nodes * sizeof(*old);
		old = arena_alloc(&t.arena, bytes, 1);
		memcpy(old, t.g.nodes, bytes);
		if (pass != pass_drop_dead && pass != pass_choose_kernels) {
			assert_int_equal(pass(&t.g, &t.err), 0);
			assert_memory_equal(old, t.g.nodes, bytes);
		}
		arena_free(&t.arena);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_pass_alone_keeps_the_answers_and_does_its_work),
		cmocka_unit_test(a_pass_leaves_other_graphs_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
