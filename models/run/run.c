/* SPDX-License-Identifier: BSD-3-Clause
 * The executor: gather the rows, run the operators one after the other, scatter the answers. It
 * can stop between any two of these, and inside an operator after every slice of rows, and go on
 * later; it never allocates. A batch whose activations would leave L2 between two operators goes
 * through all of them in blocks of rows.
 *
 *   memory given to run_init():
 *   +------------+------------------+-------------------+-----------------------------------+
 *   | struct run | rows[max_rows]   | outs[max_rows]    | buffers of a block, then scratch  |
 *   +------------+------------------+-------------------+-----------------------------------+
 */
#include <string.h>

#include "base/clock.h"
#include "models/run/model_private.h"

/* Rows between two looks at the clock: four full tiles, so that slicing costs the kernels little.
 */
enum { SLICE_ROWS = 32 };

/* Half of the 1 MiB of L2 that current cores have at least. A convolution of few rows still has
 * many pixels. */
enum { BLOCK_BYTES = 512 << 10, LEAST_ROWS = 4 };

struct run {
	const struct model *m;
	uint32_t block; /* rows at once */
	uint32_t n;     /* rows of the current batch */
	uint32_t first; /* of them, of the current block */
	uint32_t next;  /* 0: gather; 1..n_ops: operator next - 1; n_ops + 1: scatter; then idle */
	uint32_t row;   /* rows of the block the current operator has done */
	const void **rows;
	void **outs;
	uint8_t *arena; /* 64-byte aligned */
};

static size_t align_up(size_t n)
{
	return (n + MODEL_FILE_ALIGN - 1) & ~(size_t)(MODEL_FILE_ALIGN - 1);
}

/* Bytes every block reads again (weights), and bytes all operators write for a row. */
static void traffic(const struct model *m, uint64_t *weights, uint64_t *row)
{
	for (uint32_t i = 0; i < m->program.n_ops; i++) {
		const struct step *s = &m->steps[i];

		if (s->op.kind != MODEL_OP_TENSOR) {
			*weights += s->op.constant_bytes[1];
			*row += m->buffers[s->op.dst].elements * sizeof(float);
			continue;
		}
		for (uint32_t k = 0; k < s->tensor->op.n_in; k++)
			if (s->tensor->constant[k])
				*weights += tensor_elements(&s->tensor->op.in[k]) * sizeof(float);
		*row += tensor_elements(&s->tensor->op.out[0]) * sizeof(float);
	}
}

/* Rows that go through all operators together: all, or as many as L2 holds beside the weights if
 * that moves fewer bytes (each block reads all weights again). */
static uint32_t block_rows(const struct model *m, uint32_t max_rows)
{
	const uint64_t each = m->program.row_arena_bytes, fit = BLOCK_BYTES / (each ? each : 1);
	const uint64_t rows = fit >= 8 ? fit & ~7ull : fit > LEAST_ROWS ? fit : LEAST_ROWS;
	uint64_t weights = 0, row = 0;

	if (rows >= max_rows)
		return max_rows;
	traffic(m, &weights, &row);
	return weights <= 2 * rows * row ? (uint32_t)rows : max_rows;
}

size_t run_bytes(const struct model *m, uint32_t max_rows)
{
	return align_up(sizeof(struct run)) + 2 * align_up(max_rows * sizeof(void *)) +
	       m->program.row_arena_bytes * block_rows(m, max_rows) + m->program.scratch_bytes;
}

struct run *run_init(void *memory, const struct model *m, uint32_t max_rows)
{
	struct run *r = memory;
	uint8_t *at = (uint8_t *)memory + align_up(sizeof(*r));

	*r = (struct run){
		.m = m, .block = block_rows(m, max_rows), .next = m->program.n_ops + 2};
	r->rows = (const void **)at;
	at += align_up(max_rows * sizeof(void *));
	r->outs = (void **)at;
	r->arena = at + align_up(max_rows * sizeof(void *));
	return r;
}

void run_start(struct run *r, uint32_t n, const void *const rows[], void *const outs[])
{
	memcpy(r->rows, rows, n * sizeof(*rows));
	memcpy(r->outs, outs, n * sizeof(*outs));
	r->n = n;
	r->first = r->next = r->row = 0;
}

static float *buffer(const struct run *r, uint32_t index)
{
	return (float *)(r->arena + r->m->buffers[index].row_offset * r->block);
}

/* Rows of the current block. */
static uint32_t rows_here(const struct run *r)
{
	return r->n - r->first < r->block ? r->n - r->first : r->block;
}

static void gather(struct run *r)
{
	const struct model *m = r->m;
	const uint32_t n = rows_here(r);
	size_t offset = 0;

	for (uint32_t i = 0; i < m->header.n_inputs; i++) {
		const struct model_file_io *io = &m->header.inputs[i];
		size_t bytes = (size_t)io->elements * wire_dtype_bytes(io->dtype);
		uint8_t *to = (uint8_t *)buffer(r, m->program.inputs[i]);

		for (uint32_t row = 0; row < n; row++)
			memcpy(to + row * bytes, (const uint8_t *)r->rows[r->first + row] + offset,
				bytes);
		offset += io->row_bytes;
	}
}

static void scatter(struct run *r)
{
	const struct model *m = r->m;
	const uint32_t n = rows_here(r);
	size_t offset = 0;

	for (uint32_t i = 0; i < m->header.n_outputs; i++) {
		const struct model_file_io *io = &m->header.outputs[i];
		size_t bytes = (size_t)io->elements * wire_dtype_bytes(io->dtype);
		const uint8_t *from = (const uint8_t *)buffer(r, m->program.outputs[i]);

		for (uint32_t row = 0; row < n; row++) {
			uint8_t *to = (uint8_t *)r->outs[r->first + row] + offset;

			memcpy(to, from + row * bytes, bytes);
			if (io->row_bytes > bytes)
				memset(to + bytes, 0, io->row_bytes - bytes);
		}
		offset += io->row_bytes;
	}
}

/* Rows of a dense layer at a time: they and their outputs stay in L2 while all panels go past and
 * the activation runs. Layers of many rows each (tokens) would stream both from memory. */
enum { DENSE_ROWS = 96 };

/* The operators below compute rows [from, from + n). */
static void run_dense(const struct run *r, const struct step *s, size_t from, size_t n)
{
	const struct model_op *op = &s->op;
	size_t first = from * op->m;
	struct dense d = {
		.x = buffer(r, op->src[0]) + first * op->k,
		.w = s->weights,
		.bias = s->bias,
		.y = buffer(r, op->dst) + first * op->n,
		.in = op->k,
		.out = op->n,
		.act = {op->activation, op->a, op->b},
		.low = op->low,
		.high = op->high,
		.scratch = r->arena + r->m->program.row_arena_bytes * r->block,
	};

	for (size_t left = n * op->m; left; left -= d.rows) {
		d.rows = left < DENSE_ROWS + DENSE_ROWS / 2 ? left : DENSE_ROWS;
		s->kernels->dense[op->layout](&d);
		d.x += d.rows * d.in;
		d.y += d.rows * d.out;
	}
}

static void run_softmax(const struct run *r, const struct step *s, size_t from, size_t n)
{
	const struct model_op *op = &s->op;
	size_t elements = r->m->buffers[op->dst].elements;
	const float *src = buffer(r, op->src[0]) + from * elements;
	float *dst = buffer(r, op->dst) + from * elements;

	if (op->k == 1)
		s->kernels->v->softmax(dst, src, n * op->m, op->n);
	else
		for (size_t row = 0; row < n; row++)
			softmax_strided_run(op, dst + row * elements, src + row * elements);
}

/* Bytes from one row of a buffer to the next. */
static size_t row_bytes(const struct run *r, uint32_t index)
{
	const struct model_buffer *b = &r->m->buffers[index];

	return (size_t)b->elements * wire_dtype_bytes(b->dtype);
}

/* The operands of row `from`, and the way to the rows after it. */
static struct tensor_args tensor_operands(const struct run *r, const struct step *s, size_t from)
{
	const struct tensor_step *t = s->tensor;
	struct tensor_args a = {.kernels = s->kernels,
		.scratch = r->arena + r->m->program.row_arena_bytes * r->block};

	for (uint32_t k = 0; k < t->op.n_in; k++) {
		a.in[k] = t->constant[k];
		if (t->in[k] == MODEL_NONE)
			continue;
		a.in_stride[k] = row_bytes(r, t->in[k]);
		a.in[k] = (const uint8_t *)buffer(r, t->in[k]) + from * a.in_stride[k];
	}
	for (uint32_t k = 0; k < t->op.n_out; k++) {
		a.out_stride[k] = row_bytes(r, t->out[k]);
		a.out[k] = (uint8_t *)buffer(r, t->out[k]) + from * a.out_stride[k];
	}
	return a;
}

static void run_tensor(const struct run *r, const struct step *s, size_t from, size_t n)
{
	const struct tensor_op *op = &s->tensor->op;
	const struct tensor_function *f = tensor_function_at(op->function);
	struct tensor_args a = tensor_operands(r, s, from);

	if (f->run_rows) {
		f->run_rows(op, &a, n);
		return;
	}
	for (size_t row = 0; row < n; row++, tensor_next_row(op, &a))
		f->run(op, &a);
}

static void run_op(const struct run *r, const struct step *s, size_t from, size_t n)
{
	const struct model_op *op = &s->op;

	switch (op->kind) {
	case MODEL_OP_DENSE:
		run_dense(r, s, from, n);
		break;
	case MODEL_OP_UNARY:
		s->kernels->v->unary((struct activation){op->activation, op->a, op->b},
			buffer(r, op->dst) + from * op->m, buffer(r, op->src[0]) + from * op->m,
			n * op->m);
		break;
	case MODEL_OP_SOFTMAX:
		run_softmax(r, s, from, n);
		break;
	default:
		run_tensor(r, s, from, n);
		break;
	}
}

const void *run_buffer(const struct run *r, uint32_t index)
{
	return buffer(r, index);
}

uint32_t run_block(const struct run *r)
{
	return r->block;
}

/* Gather, one slice of an operator, or scatter; moves the cursor on. */
static void advance(struct run *r, uint32_t slice)
{
	const uint32_t n_ops = r->m->program.n_ops;

	if (r->next > 0 && r->next <= n_ops) {
		uint32_t left = rows_here(r) - r->row, n = left < slice ? left : slice;

		run_op(r, &r->m->steps[r->next - 1], r->row, n);
		r->row += n;
		if (n < left)
			return;
	} else if (r->next == 0) {
		gather(r);
	} else {
		scatter(r);
		r->first += rows_here(r);
	}
	r->row = 0;
	r->next = r->next > n_ops && r->first < r->n ? 0 : r->next + 1;
}

bool run_part(struct run *r)
{
	advance(r, r->n);
	return r->next <= r->m->program.n_ops + 1;
}

int run_step(struct run *r, uint64_t deadline_tsc)
{
	const uint32_t last = r->m->program.n_ops + 1;
	const uint32_t slice = deadline_tsc == UINT64_MAX ? r->n : SLICE_ROWS;

	while (r->next <= last) {
		advance(r, slice);
		if (r->next <= last && deadline_tsc != UINT64_MAX && clock_tsc() >= deadline_tsc)
			return 0;
	}
	return 1;
}
