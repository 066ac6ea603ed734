/* SPDX-License-Identifier: BSD-3-Clause
 * RNN, GRU and LSTM as ONNX defines them: X [steps][batch][in], outputs Y
 * [steps][directions][batch][hidden], Y_h and Y_c [directions][batch][hidden].
 *
 * Many sequences advance together: X W of a block of steps is one product, h R of all sequences
 * another one a step; the gates of a cell lie beside each other, gates x hidden wide:
 *
 *   sequence s = row x batch + b    from_x[(row x steps + t) x batch + b][gates x hidden]
 *                                   from_h[s][gates x hidden], h[s][hidden], c[s][hidden]
 *
 * W and R come packed into the dense kernels' panels when they are constant (recurrent_pack());
 * else they are packed into scratch memory before use.
 */
#include <math.h>
#include <string.h>

#include "models/run/tensor.h"

enum { PANEL = MODEL_FILE_PANEL, MAX_GATES = 4, X = 0, W, R, B, LENGTHS, H0, C0, P };
enum { SEQUENCES = 64, STEPS = 16, BLOCK_FLOATS = 1 << 20, PACKED = 11 };

static const uint32_t gates_of[CELL_END] = {1, 3, 4};

static size_t round_up(size_t n)
{
	return (n + PANEL - 1) / PANEL * PANEL;
}

/* ---- shapes ---- */

struct sizes {
	uint64_t steps, batch, in, hidden, directions, gates;
	uint64_t wide;   /* gates x hidden */
	uint64_t padded; /* the same rounded up to panels */
	uint64_t rows;   /* of the model's batch, at once */
	uint64_t block;  /* steps at once */
};

/* i[PACKED] is the hidden size when W, R and B are packed. */
static struct sizes sizes_of(const struct tensor_op *op)
{
	const struct tensor *x = &op->in[X], *r = &op->in[R];
	struct sizes s = {.steps = x->dims[0], .batch = x->dims[1], .in = x->dims[2]};

	s.directions = op->i[1] == 2 ? 2 : 1;
	s.gates = gates_of[op->i[0]];
	s.hidden = op->i[PACKED] ? (uint64_t)op->i[PACKED] : r->rank == 3 ? r->dims[2] : 0;
	s.wide = s.gates * s.hidden;
	s.padded = round_up(s.wide);
	s.rows = s.batch < SEQUENCES ? SEQUENCES / s.batch : 1;
	/* Sequences of different lengths look at different steps at once. */
	s.block = op->in[LENGTHS].dtype || s.steps < STEPS ? s.steps : STEPS;
	while (s.rows > 1 && s.rows * s.batch * s.block * s.wide > BLOCK_FLOATS)
		s.rows /= 2;
	return s;
}

static bool is_shape(
	const struct tensor *t, uint32_t dtype, uint32_t rank, size_t a, size_t b, size_t c)
{
	return t->dtype == dtype && t->rank == rank && t->dims[0] == a &&
	       (rank < 2 || t->dims[1] == b) && (rank < 3 || t->dims[2] == c);
}

static uint32_t cell_activation(int64_t fn)
{
	switch (fn) {
	case UNARY_SIGMOID:
		return MODEL_ACT_SIGMOID;
	case UNARY_TANH:
		return MODEL_ACT_TANH;
	case UNARY_RELU:
		return MODEL_ACT_RELU;
	case UNARY_SOFTSIGN:
		return MODEL_ACT_SOFTSIGN;
	case UNARY_SOFTPLUS:
		return MODEL_ACT_SOFTPLUS;
	default:
		return fn == UNARY_NONE ? MODEL_ACT_NONE : MODEL_ACT_END;
	}
}

static int check_attributes(const struct tensor_op *op, struct error *err)
{
	if (op->i[0] < 0 || op->i[0] >= CELL_END || op->i[1] < 0 || op->i[1] > 2)
		return tensor_refuse(op, err, "cell %ld, direction %ld", op->i[0], op->i[1]);
	for (uint32_t k = 0; k < 6; k++)
		if (cell_activation(op->i[4 + k]) == MODEL_ACT_END)
			return tensor_refuse(op, err, "activation %ld", op->i[4 + k]);
	if (op->i[PACKED] < 0 || op->i[PACKED] > 1 << 20)
		return tensor_refuse(op, err, "packed for %ld", op->i[PACKED]);
	return 0;
}

static bool weights_fit(const struct tensor_op *op, const struct sizes *s)
{
	const struct tensor *t = op->in;

	if (op->i[PACKED])
		return is_shape(&t[W], WIRE_F32, 2, s->directions, s->padded * s->in, 0) &&
		       is_shape(&t[R], WIRE_F32, 2, s->directions, s->padded * s->hidden, 0) &&
		       (!t[B].dtype ||
			       is_shape(&t[B], WIRE_F32, 2, s->directions, 2 * s->padded, 0));
	return is_shape(&t[W], WIRE_F32, 3, s->directions, s->wide, s->in) &&
	       is_shape(&t[R], WIRE_F32, 3, s->directions, s->wide, s->hidden) &&
	       (!t[B].dtype || is_shape(&t[B], WIRE_F32, 2, s->directions, 2 * s->wide, 0));
}

/* The scratch memory of one direction, all in whole panels. */
static uint64_t scratch_floats(const struct tensor_op *op, const struct sizes *s)
{
	uint64_t sequences = s->rows * s->batch;
	uint64_t state = round_up(sequences * s->hidden), from_h = round_up(sequences * s->wide);
	uint64_t packed = op->i[PACKED] ? 0 : s->padded * (s->in + s->hidden + 2);

	return packed + round_up(sequences * s->block * s->wide) + from_h + 3 * state;
}

int recurrent_infer(struct tensor_op *op, struct error *err)
{
	const struct tensor *x = &op->in[X], *t = op->in;
	int rc = check_attributes(op, err);
	struct sizes s;

	if (rc)
		return rc;
	if (x->rank != 3 || x->dtype != WIRE_F32)
		return tensor_refuse(op, err, "X has rank %u", x->rank);
	s = sizes_of(op);
	if (!s.hidden || s.hidden > 1 << 20 || !weights_fit(op, &s))
		return tensor_refuse(op, err, "X, W, R and B do not fit");
	if ((t[LENGTHS].dtype && !is_shape(&t[LENGTHS], WIRE_I32, 1, s.batch, 0, 0)) ||
		(t[H0].dtype && !is_shape(&t[H0], WIRE_F32, 3, s.directions, s.batch, s.hidden)) ||
		(t[C0].dtype && !is_shape(&t[C0], WIRE_F32, 3, s.directions, s.batch, s.hidden)) ||
		(t[P].dtype && !is_shape(&t[P], WIRE_F32, 2, s.directions, 3 * s.hidden, 0)))
		return tensor_refuse(op, err, "an optional input has another shape");
	if ((op->i[0] != CELL_LSTM && (t[C0].dtype || t[P].dtype || op->n_out > 2)))
		return tensor_refuse(op, err, "inputs or outputs only LSTM has");
	op->out[0] = (struct tensor){WIRE_F32, 4,
		{x->dims[0], (uint32_t)s.directions, (uint32_t)s.batch, (uint32_t)s.hidden}};
	for (uint32_t k = 1; k < op->n_out; k++)
		op->out[k] = (struct tensor){WIRE_F32, 3,
			{(uint32_t)s.directions, (uint32_t)s.batch, (uint32_t)s.hidden}};
	op->scratch_bytes = scratch_floats(op, &s) * sizeof(float);
	return 0;
}

/* ---- weights ---- */

/* rows of w[out][in] become panels [out/16][in][16]. */
static void pack_rows(float *to, const float *w, size_t out, size_t in)
{
	for (size_t p = 0; p < out; p += PANEL)
		for (size_t k = 0; k < in; k++)
			for (size_t n = p; n < p + PANEL; n++)
				*to++ = n < out ? w[n * in + k] : 0;
}

static void pack_bias(float *to, const float *b, size_t wide, size_t padded)
{
	for (int half = 0; half < 2; half++)
		for (size_t i = 0; i < padded; i++)
			*to++ = i < wide ? b[(size_t)half * wide + i] : 0;
}

void recurrent_pack(const struct tensor_op *op, const float *const from[3], float *const to[3])
{
	const struct sizes s = sizes_of(op);

	for (uint64_t d = 0; d < s.directions; d++) {
		pack_rows(to[0] + d * s.padded * s.in, from[0] + d * s.wide * s.in, s.wide, s.in);
		pack_rows(to[1] + d * s.padded * s.hidden, from[1] + d * s.wide * s.hidden, s.wide,
			s.hidden);
		if (from[2])
			pack_bias(to[2] + d * 2 * s.padded, from[2] + d * 2 * s.wide, s.wide,
				s.padded);
	}
}

/* ---- one direction of many sequences ---- */

struct cell {
	const struct tensor_op *op;
	const struct tensor_args *a;
	const struct vectors *v;
	struct sizes s;
	uint64_t direction, rows; /* rows: of the model's batch, in this block */
	const float *w, *r, *w_bias, *r_bias, *peephole; /* biases, peephole: NULL for none */
	float *from_x, *from_h, *h, *c, *temp;
	struct activation act[3];
};

static const void *row_in(const struct tensor_args *a, uint32_t k, uint64_t row)
{
	return a->in[k] ? (const uint8_t *)a->in[k] + row * a->in_stride[k] : NULL;
}

static void *row_out(const struct tensor_args *a, uint32_t k, uint64_t row)
{
	return (uint8_t *)a->out[k] + row * a->out_stride[k];
}

/* The weights of one direction, packed in scratch memory if they are not yet; what follows in it. */
static float *cell_weights(struct cell *c, uint64_t row)
{
	const struct sizes *s = &c->s;
	const float *w = row_in(c->a, W, row), *r = row_in(c->a, R, row);
	const float *b = row_in(c->a, B, row);
	float *at = c->a->scratch;
	const uint64_t d = c->direction;

	if (c->op->i[PACKED]) {
		c->w = w + d * s->padded * s->in;
		c->r = r + d * s->padded * s->hidden;
		c->w_bias = b ? b + d * 2 * s->padded : NULL;
	} else {
		c->w = at;
		pack_rows(at, w + d * s->wide * s->in, s->wide, s->in);
		c->r = at += s->padded * s->in;
		pack_rows(at, r + d * s->wide * s->hidden, s->wide, s->hidden);
		at += s->padded * s->hidden;
		c->w_bias = b ? at : NULL;
		if (b)
			pack_bias(at, b + d * 2 * s->wide, s->wide, s->padded);
		at += 2 * s->padded;
	}
	c->r_bias = c->w_bias ? c->w_bias + s->padded : NULL;
	return at;
}

static void cell_init(struct cell *c, uint64_t row)
{
	const struct sizes *s = &c->s;
	const uint64_t sequences = s->rows * s->batch, state = round_up(sequences * s->hidden);
	const float *p = row_in(c->a, P, row);
	float *at = cell_weights(c, row);

	c->from_x = at;
	c->from_h = c->from_x + round_up(sequences * s->block * s->wide);
	c->h = c->from_h + round_up(sequences * s->wide);
	c->c = c->h + state;
	c->temp = c->c + state;
	c->peephole = p ? p + c->direction * 3 * s->hidden : NULL;
	for (int k = 0; k < 3; k++)
		c->act[k].kind = cell_activation(c->op->i[4 + 3 * (int64_t)c->direction + k]);
}

static void multiply(const struct cell *c, float *y, const float *x, const float *w,
	const float *bias, size_t rows, size_t in)
{
	struct dense d = {.x = x, .w = w, .bias = bias, .y = y, .rows = rows, .in = in,
		.out = c->s.wide};

	c->a->kernels->dense[MODEL_LAYOUT_PANELS](&d);
}

/* y = act(x) with ONNX's clip before it; y may be x. */
static void activate(const struct cell *c, uint32_t which, float *y, const float *x, size_t n)
{
	if (c->op->i[10]) {
		c->v->unary((struct activation){MODEL_ACT_CLIP, -c->op->f[0], c->op->f[0]}, y, x, n);
		x = y;
	}
	c->v->unary(c->act[which], y, x, n);
}

static void combine(
	const struct cell *c, enum vector_binary fn, float *y, const float *a, const float *b)
{
	c->v->binary(fn, y, (struct line){a, 1}, (struct line){b, 1}, c->s.hidden);
}

/* y += a b */
static void accumulate(const struct cell *c, float *y, const float *a, const float *b)
{
	combine(c, VECTOR_MUL, c->temp, a, b);
	combine(c, VECTOR_ADD, y, y, c->temp);
}

/* Gates z, r, h; x + h is in x for z and r, and h's part of the last gate in from_h. */
static void step_gru(const struct cell *c, float *x, const float *from_h, float *h)
{
	const size_t n = c->s.hidden;
	float *z = x, *r = x + n, *g = x + 2 * n;

	if (c->op->i[2])
		accumulate(c, g, r, from_h + 2 * n);
	else
		combine(c, VECTOR_ADD, g, g, from_h + 2 * n);
	activate(c, 1, g, g, n);
	combine(c, VECTOR_SUB, h, h, g); /* (1 - z) g + z h */
	combine(c, VECTOR_MUL, h, h, z);
	combine(c, VECTOR_ADD, h, h, g);
}

static void gates_gru(const struct cell *c, float *x, const float *from_h)
{
	const size_t n = 2 * c->s.hidden;

	c->v->binary(VECTOR_ADD, x, (struct line){x, 1}, (struct line){from_h, 1}, n);
	activate(c, 0, x, x, n);
}

/* Gates i, o, f, c; peepholes i, o, f. */
static void step_lstm(const struct cell *c, float *x, const float *from_h, float *h, float *state)
{
	const size_t n = c->s.hidden;
	const float *p = c->peephole;
	float *i = x, *o = x + n, *f = x + 2 * n, *g = x + 3 * n;

	c->v->binary(VECTOR_ADD, x, (struct line){x, 1}, (struct line){from_h, 1}, 4 * n);
	if (p) {
		accumulate(c, i, p, state);
		accumulate(c, f, p + 2 * n, state);
	}
	activate(c, 0, i, i, p ? n : 3 * n); /* o's peephole waits for the new state */
	if (c->op->i[3])
		c->v->unary((struct activation){MODEL_ACT_AFFINE, -1, 1}, f, i, n);
	else if (p)
		activate(c, 0, f, f, n);
	activate(c, 1, g, g, n);
	combine(c, VECTOR_MUL, state, state, f);
	accumulate(c, state, i, g);
	if (p) {
		accumulate(c, o, p + n, state);
		activate(c, 0, o, o, n);
	}
	activate(c, 2, h, state, n);
	combine(c, VECTOR_MUL, h, h, o);
}

/* Sequence q's step within the block of from_x. */
static float *at_step(const struct cell *c, uint64_t q, uint64_t t)
{
	uint64_t row = q / c->s.batch, b = q % c->s.batch;

	return c->from_x + ((row * c->s.block + t) * c->s.batch + b) * c->s.wide;
}

static int64_t length_of(const struct cell *c, uint64_t first, uint64_t q)
{
	const int32_t *lengths = row_in(c->a, LENGTHS, first + q / c->s.batch);
	int64_t length = lengths ? lengths[q % c->s.batch] : (int64_t)c->s.steps;

	return length < 0 ? 0 : length > (int64_t)c->s.steps ? (int64_t)c->s.steps : length;
}

static void write_step(
	const struct cell *c, uint64_t first, uint64_t q, uint64_t t, const float *h)
{
	const struct sizes *s = &c->s;
	float *y = (float *)row_out(c->a, 0, first + q / s->batch) +
		   ((t * s->directions + c->direction) * s->batch + q % s->batch) * s->hidden;

	if (h)
		memcpy(y, h, s->hidden * sizeof(*y));
	else
		memset(y, 0, s->hidden * sizeof(*y));
}

/* Step number `step` of all sequences; `base` is the first step from_x holds. */
static void advance(const struct cell *c, uint64_t first, uint64_t step, uint64_t base)
{
	const struct sizes *s = &c->s;
	const uint64_t sequences = c->rows * s->batch;
	const bool reverse = c->op->i[1] == 1 || c->direction == 1;
	const bool late = c->op->i[0] == CELL_GRU && !c->op->i[2]; /* reset before the product */

	multiply(c, c->from_h, c->h, c->r, c->r_bias, sequences, s->hidden);
	for (int phase = c->op->i[0] == CELL_GRU ? 0 : 1; phase < 2; phase++) {
		for (uint64_t q = 0; q < sequences; q++) {
			uint64_t length = (uint64_t)length_of(c, first, q);
			uint64_t t = !reverse ? step : step < length ? length - 1 - step : step;
			float *h = c->h + q * s->hidden, *x = at_step(c, q, t - base);
			float *from_h = c->from_h + q * s->wide;

			if (step >= length) {
				write_step(c, first, q, step, NULL);
				continue;
			}
			if (phase == 0) {
				gates_gru(c, x, from_h);
				if (late) /* from here on c->c, which GRU does not have */
					combine(c, VECTOR_MUL, c->c + q * s->hidden, h, x + s->hidden);
				continue;
			}
			if (c->op->i[0] == CELL_LSTM) {
				step_lstm(c, x, from_h, h, c->c + q * s->hidden);
			} else if (c->op->i[0] == CELL_GRU) {
				step_gru(c, x, from_h, h);
			} else {
				combine(c, VECTOR_ADD, x, x, from_h);
				activate(c, 0, h, x, s->hidden);
			}
			write_step(c, first, q, t, h);
		}
		if (phase == 0 && late)
			multiply(c, c->from_h, c->c, c->r, c->r_bias, sequences, s->hidden);
	}
}

static void load_states(const struct cell *c, uint64_t first)
{
	const struct sizes *s = &c->s;
	const size_t each = s->batch * s->hidden;

	for (uint64_t row = 0; row < c->rows; row++)
		for (int k = 0; k < 2; k++) {
			const float *from = row_in(c->a, k ? C0 : H0, first + row);
			float *to = (k ? c->c : c->h) + row * each;

			if (from)
				memcpy(to, from + c->direction * each, each * sizeof(*to));
			else
				memset(to, 0, each * sizeof(*to));
		}
}

static void store_states(const struct cell *c, uint64_t first)
{
	const size_t each = c->s.batch * c->s.hidden;

	for (uint64_t row = 0; row < c->rows; row++)
		for (uint32_t k = 1; k < c->op->n_out; k++)
			memcpy((float *)row_out(c->a, k, first + row) + c->direction * each,
				(k == 1 ? c->h : c->c) + row * each, each * sizeof(float));
}

/* Rows [first, first + c->rows) in one direction. */
static void run_block(const struct cell *c, uint64_t first)
{
	const struct sizes *s = &c->s;
	const bool reverse = c->op->i[1] == 1 || c->direction == 1;

	load_states(c, first);
	for (uint64_t step = 0; step < s->steps; step += s->block) {
		uint64_t n = s->steps - step < s->block ? s->steps - step : s->block;
		uint64_t base = reverse ? s->steps - step - n : step;

		for (uint64_t row = 0; row < c->rows; row++)
			multiply(c, c->from_x + row * s->block * s->batch * s->wide,
				(const float *)row_in(c->a, X, first + row) +
					base * s->batch * s->in,
				c->w, c->w_bias, n * s->batch, s->in);
		for (uint64_t k = 0; k < n; k++)
			advance(c, first, step + k, base);
	}
	store_states(c, first);
}

void recurrent_rows(const struct tensor_op *op, const struct tensor_args *a, size_t rows)
{
	struct cell c = {.op = op, .a = a, .v = a->kernels->v, .s = sizes_of(op)};
	/* Weights that are run-time tensors may differ from row to row. */
	const bool shared = !a->in_stride[W] && !a->in_stride[R] && !a->in_stride[B] &&
			    !a->in_stride[P];

	for (c.direction = 0; c.direction < c.s.directions; c.direction++) {
		const uint64_t most = shared ? c.s.rows : 1;

		for (uint64_t first = 0; first < rows; first += c.rows) {
			if (first == 0 || !shared)
				cell_init(&c, first);
			c.rows = rows - first < most ? rows - first : most;
			run_block(&c, first);
		}
	}
}
