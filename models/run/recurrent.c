/* SPDX-License-Identifier: BSD-3-Clause
 * RNN, GRU and LSTM as ONNX defines them: X [steps][batch][in], outputs Y
 * [steps][directions][batch] [hidden], Y_h and Y_c [directions][batch][hidden]. W and R are packed
 * into panels once per run.
 */
#include <math.h>
#include <string.h>

#include "models/run/tensor.h"

enum { PANEL = MODEL_FILE_PANEL, MAX_GATES = 4, X = 0, W, R, B, LENGTHS, H0, C0, P };

static const uint32_t gates_of[CELL_END] = {1, 3, 4};

static size_t round_up(size_t n)
{
	return (n + PANEL - 1) / PANEL * PANEL;
}

/* ---- shapes ---- */

static bool is_shape(
	const struct tensor *t, uint32_t dtype, uint32_t rank, size_t a, size_t b, size_t c)
{
	return t->dtype == dtype && t->rank == rank && t->dims[0] == a &&
	       (rank < 2 || t->dims[1] == b) && (rank < 3 || t->dims[2] == c);
}

static bool cell_activation(int64_t fn)
{
	return fn == UNARY_SIGMOID || fn == UNARY_TANH || fn == UNARY_RELU || fn == UNARY_NONE ||
	       fn == UNARY_SOFTSIGN || fn == UNARY_SOFTPLUS;
}

static int check_attributes(const struct tensor_op *op, struct error *err)
{
	if (op->i[0] < 0 || op->i[0] >= CELL_END || op->i[1] < 0 || op->i[1] > 2)
		return tensor_refuse(op, err, "cell %ld, direction %ld", op->i[0], op->i[1]);
	for (uint32_t k = 0; k < 6; k++)
		if (!cell_activation(op->i[4 + k]))
			return tensor_refuse(op, err, "activation %ld", op->i[4 + k]);
	return 0;
}

int recurrent_infer(struct tensor_op *op, struct error *err)
{
	const struct tensor *x = &op->in[X], *t = op->in;
	uint32_t directions = op->i[1] == 2 ? 2 : 1, gates;
	size_t hidden, batch;
	int rc = check_attributes(op, err);

	if (rc)
		return rc;
	gates = gates_of[op->i[0]];
	hidden = t[R].rank == 3 ? t[R].dims[2] : 0;
	batch = x->rank == 3 ? x->dims[1] : 0;
	if (!hidden || !batch || hidden > 1 << 20 || x->dtype != WIRE_F32 ||
		!is_shape(&t[W], WIRE_F32, 3, directions, gates * hidden, x->dims[2]) ||
		!is_shape(&t[R], WIRE_F32, 3, directions, gates * hidden, hidden))
		return tensor_refuse(op, err, "X, W and R do not fit");
	if ((t[B].dtype && !is_shape(&t[B], WIRE_F32, 2, directions, 2 * gates * hidden, 0)) ||
		(t[LENGTHS].dtype && !is_shape(&t[LENGTHS], WIRE_I32, 1, batch, 0, 0)) ||
		(t[H0].dtype && !is_shape(&t[H0], WIRE_F32, 3, directions, batch, hidden)) ||
		(t[C0].dtype && !is_shape(&t[C0], WIRE_F32, 3, directions, batch, hidden)) ||
		(t[P].dtype && !is_shape(&t[P], WIRE_F32, 2, directions, 3 * hidden, 0)))
		return tensor_refuse(op, err, "an optional input has another shape");
	if ((op->i[0] != CELL_LSTM && (t[C0].dtype || t[P].dtype || op->n_out > 2)))
		return tensor_refuse(op, err, "inputs or outputs only LSTM has");
	op->out[0] = (struct tensor){
		WIRE_F32, 4, {x->dims[0], directions, (uint32_t)batch, (uint32_t)hidden}};
	for (uint32_t k = 1; k < op->n_out; k++)
		op->out[k] = (struct tensor){
			WIRE_F32, 3, {directions, (uint32_t)batch, (uint32_t)hidden}};
	op->scratch_bytes = (gates * round_up(hidden) * (x->dims[2] + hidden) +
				    (2 * gates + 3) * round_up(hidden)) *
			    sizeof(float);
	return 0;
}

/* ---- one direction of one batch element ---- */

/* Every array has room for round_up(hidden) floats; panels[g] those of gate g. */
struct cell {
	const struct tensor_op *op;
	const struct kernels *kernels;
	size_t in, hidden;
	uint32_t gates;
	float *w_panels, *r_panels;
	float *from_x[MAX_GATES], *from_h[MAX_GATES];
	float *h, *c, *temp;
	const float *w_bias, *r_bias, *peephole; /* NULL: none */
	const int64_t *activations;
};

/* rows of w[out][in] become panels [out/16][in][16]. */
static void pack_rows(float *to, const float *w, size_t out, size_t in)
{
	for (size_t p = 0; p < out; p += PANEL)
		for (size_t k = 0; k < in; k++)
			for (size_t n = p; n < p + PANEL; n++)
				*to++ = n < out ? w[n * in + k] : 0;
}

static void cell_init(
	struct cell *c, const struct tensor_op *op, const struct tensor_args *a, uint32_t direction)
{
	const size_t hidden = op->in[R].dims[2], in = op->in[X].dims[2], wide = round_up(hidden);
	float *at = a->scratch;

	*c = (struct cell){.op = op,
		.kernels = a->kernels,
		.in = in,
		.hidden = hidden,
		.gates = gates_of[op->i[0]]};
	c->w_panels = at;
	c->r_panels = c->w_panels + c->gates * wide * in;
	at = c->r_panels + c->gates * wide * hidden;
	for (uint32_t g = 0; g < c->gates; g++, at += 2 * wide) {
		size_t row = ((size_t)direction * c->gates + g) * hidden;

		c->from_x[g] = at;
		c->from_h[g] = at + wide;
		pack_rows(c->w_panels + g * wide * in, (const float *)a->in[W] + row * in, hidden,
			in);
		pack_rows(c->r_panels + g * wide * hidden, (const float *)a->in[R] + row * hidden,
			hidden, hidden);
	}
	c->h = at;
	c->c = at + wide;
	c->temp = at + 2 * wide;
	if (a->in[B]) {
		c->w_bias = (const float *)a->in[B] + (size_t)direction * 2 * c->gates * hidden;
		c->r_bias = c->w_bias + c->gates * hidden;
	}
	if (a->in[P])
		c->peephole = (const float *)a->in[P] + (size_t)direction * 3 * hidden;
	c->activations = &op->i[4 + 3 * direction];
}

static float activate(const struct cell *c, uint32_t which, float x)
{
	const float limit = c->op->f[0];

	if (c->op->i[10])
		x = x < -limit ? -limit : x > limit ? limit : x;
	switch (c->activations[which]) {
	case UNARY_SIGMOID:
		return 1 / (1 + expf(-x));
	case UNARY_TANH:
		return tanhf(x);
	case UNARY_RELU:
		return x < 0 ? 0 : x;
	case UNARY_SOFTSIGN:
		return x / (1 + fabsf(x));
	case UNARY_SOFTPLUS:
		return log1pf(expf(x));
	default:
		return x;
	}
}

/* y = panels x v (+ bias): one gate. */
static void gate_product(const struct cell *c, float *y, const float *panels, const float *v,
	size_t in, const float *bias)
{
	struct dense d = {.x = v, .w = panels, .y = y, .rows = 1, .in = in, .out = c->hidden};

	c->kernels->dense[MODEL_LAYOUT_PANELS](&d);
	for (size_t i = 0; bias && i < c->hidden; i++)
		y[i] += bias[i];
}

static void gate_from_x(const struct cell *c, uint32_t g, const float *x)
{
	gate_product(c, c->from_x[g], c->w_panels + g * round_up(c->hidden) * c->in, x, c->in,
		c->w_bias ? c->w_bias + g * c->hidden : NULL);
}

static void gate_from_h(const struct cell *c, uint32_t g, const float *h)
{
	gate_product(c, c->from_h[g], c->r_panels + g * round_up(c->hidden) * c->hidden, h,
		c->hidden, c->r_bias ? c->r_bias + g * c->hidden : NULL);
}

static void step_rnn(const struct cell *c)
{
	for (size_t i = 0; i < c->hidden; i++)
		c->h[i] = activate(c, 0, c->from_x[0][i] + c->from_h[0][i]);
}

/* Gates z, r, h. */
static void step_gru(const struct cell *c)
{
	const size_t n = c->hidden;

	for (size_t i = 0; i < n; i++) {
		c->from_x[0][i] = activate(c, 0, c->from_x[0][i] + c->from_h[0][i]);
		c->from_x[1][i] = activate(c, 0, c->from_x[1][i] + c->from_h[1][i]);
		c->temp[i] = c->from_x[1][i] * c->h[i];
	}
	if (!c->op->i[2]) /* reset before the product: (r * h) R + bias */
		gate_from_h(c, 2, c->temp);
	for (size_t i = 0; i < n; i++) {
		float rest = c->from_h[2][i] * (c->op->i[2] ? c->from_x[1][i] : 1);
		float z = c->from_x[0][i];

		c->h[i] = (1 - z) * activate(c, 1, c->from_x[2][i] + rest) + z * c->h[i];
	}
}

/* Gates i, o, f, c; peepholes i, o, f. */
static void step_lstm(const struct cell *c)
{
	const size_t n = c->hidden;
	const float *p = c->peephole;

	for (size_t k = 0; k < n; k++) {
		float i = c->from_x[0][k] + c->from_h[0][k], o = c->from_x[1][k] + c->from_h[1][k];
		float f = c->from_x[2][k] + c->from_h[2][k], g = c->from_x[3][k] + c->from_h[3][k];

		i = activate(c, 0, i + (p ? p[k] * c->c[k] : 0));
		f = c->op->i[3] ? 1 - i : activate(c, 0, f + (p ? p[2 * n + k] * c->c[k] : 0));
		c->c[k] = f * c->c[k] + i * activate(c, 1, g);
		o = activate(c, 0, o + (p ? p[n + k] * c->c[k] : 0));
		c->h[k] = o * activate(c, 2, c->c[k]);
	}
}

static void cell_step(const struct cell *c, const float *x)
{
	for (uint32_t g = 0; g < c->gates; g++) {
		gate_from_x(c, g, x);
		gate_from_h(c, g, c->h);
	}
	switch (c->op->i[0]) {
	case CELL_RNN:
		step_rnn(c);
		break;
	case CELL_GRU:
		step_gru(c);
		break;
	default:
		step_lstm(c);
		break;
	}
}

static void load_state(float *to, const void *from, size_t at, size_t n)
{
	if (from)
		memcpy(to, (const float *)from + at * n, n * sizeof(float));
	else
		memset(to, 0, n * sizeof(float));
}

static void run_sequence(
	const struct cell *c, const struct tensor_args *a, uint32_t direction, uint32_t b)
{
	const struct tensor *y = &c->op->out[0];
	const uint32_t steps = y->dims[0], directions = y->dims[1], batch = y->dims[2];
	const size_t state = (size_t)direction * batch + b, n = c->hidden;
	int64_t length = steps;
	bool reverse = c->op->i[1] == 1 || direction == 1;

	if (a->in[LENGTHS])
		length = ((const int32_t *)a->in[LENGTHS])[b];
	length = length < 0 ? 0 : length > steps ? steps : length;
	load_state(c->h, a->in[H0], state, n);
	load_state(c->c, a->in[C0], state, n);
	for (uint32_t s = 0; s < steps; s++) {
		uint32_t t = reverse && s < length ? (uint32_t)length - 1 - s : s;
		float *to =
			(float *)a->out[0] + (((size_t)t * directions + direction) * batch + b) * n;

		if (s >= length) {
			memset(to, 0, n * sizeof(float));
			continue;
		}
		cell_step(c, (const float *)a->in[X] + ((size_t)t * batch + b) * c->in);
		memcpy(to, c->h, n * sizeof(float));
	}
	for (uint32_t k = 1; k < c->op->n_out; k++)
		memcpy((float *)a->out[k] + state * n, k == 1 ? c->h : c->c, n * sizeof(float));
}

void recurrent_run(const struct tensor_op *op, const struct tensor_args *a)
{
	struct cell c;

	for (uint32_t d = 0; d < op->out[0].dims[1]; d++) {
		cell_init(&c, op, a, d);
		for (uint32_t b = 0; b < op->out[0].dims[2]; b++)
			run_sequence(&c, a, d, b);
	}
}
