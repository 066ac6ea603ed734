/* SPDX-License-Identifier: BSD-3-Clause
 * The checks of general operators (struct model_tensor_op): every operand is a written buffer or a
 * constant of exactly its shape, outputs touch no input's bytes, and the function itself, from
 * inputs and attributes alone, arrives at the stored output shapes. Then run() may trust the
 * record.
 */
#include <errno.h>
#include <string.h>

#include "models/run/model_private.h"

#define refuse(err, ...) error_set(err, -EINVAL, __VA_ARGS__)

/* Copy the shape; refuses unknown dtypes and ranks, and fields set beyond the rank. */
static int operand_shape(
	uint32_t i, const struct model_operand *o, struct tensor *t, struct error *err)
{
	static const struct model_operand absent;

	*t = (struct tensor){o->dtype, o->rank, {0}};
	if (!o->dtype && memcmp(o, &absent, sizeof(absent)))
		return refuse(err, "operator %u: an absent operand has fields set", i);
	if (!o->dtype)
		return 0;
	if (!wire_dtype_bytes(o->dtype) || o->rank > TENSOR_MAX_RANK || o->reserved)
		return refuse(
			err, "operator %u: an operand has dtype %u, rank %u", i, o->dtype, o->rank);
	for (uint32_t d = 0; d < TENSOR_MAX_RANK; d++) {
		if (d >= o->rank && o->dims[d])
			return refuse(err, "operator %u: dimensions beyond the rank", i);
		t->dims[d] = o->dims[d];
	}
	return 0;
}

/* The buffer holds exactly this tensor. */
static int operand_buffer(const struct model *m, uint32_t i, const struct model_operand *o,
	const struct tensor *t, struct error *err)
{
	if (o->buffer >= m->program.n_buffers)
		return refuse(err, "operator %u names buffer %u of %u", i, o->buffer,
			m->program.n_buffers);
	if (o->constant || m->buffers[o->buffer].dtype != t->dtype ||
		m->buffers[o->buffer].elements != tensor_elements(t))
		return refuse(err, "operator %u: buffer %u has %u elements, its operand %lu", i,
			o->buffer, m->buffers[o->buffer].elements, tensor_elements(t));
	return 0;
}

static int check_input(struct model *m, uint32_t i, uint32_t k, struct error *err)
{
	struct tensor_step *s = &m->tensors[m->n_tensors];
	const struct model_operand *o = &m->records[m->n_tensors].in[k];
	const struct tensor *t = &s->op.in[k];
	int rc;

	s->in[k] = MODEL_NONE;
	if (!t->dtype)
		return 0;
	if (o->buffer == MODEL_NONE) {
		uint64_t bytes = tensor_elements(t) * wire_dtype_bytes(t->dtype);

		rc = check_constant(m, i, "constant", o->constant, bytes, bytes, err);
		if (!rc)
			s->constant[k] = m->weights + o->constant;
		return rc;
	}
	rc = operand_buffer(m, i, o, t, err);
	if (!rc && !m->written[o->buffer])
		rc = refuse(err, "operator %u reads buffer %u, which nothing has written", i,
			o->buffer);
	s->in[k] = o->buffer;
	return rc;
}

static uint64_t buffer_end(const struct model_buffer *b)
{
	return b->row_offset + (uint64_t)b->elements * wire_dtype_bytes(b->dtype);
}

static bool buffers_meet(const struct model *m, uint32_t a, uint32_t b)
{
	return b != MODEL_NONE && m->buffers[a].row_offset < buffer_end(&m->buffers[b]) &&
	       m->buffers[b].row_offset < buffer_end(&m->buffers[a]);
}

/* Is writing output k of `s` into its buffer harmless to operand j (inputs first, then outputs before k)? */
static bool spares(const struct model *m, const struct tensor_step *s, uint32_t k, uint32_t j)
{
	uint32_t other = j < s->op.n_in ? s->in[j] : s->out[j - s->op.n_in];

	return !buffers_meet(m, s->out[k], other) ||
	       (j < s->op.n_in && tensor_in_place(&s->op, j) &&
		       m->buffers[s->out[k]].row_offset == m->buffers[other].row_offset);
}

static int check_output(struct model *m, uint32_t i, uint32_t k, struct error *err)
{
	struct tensor_step *s = &m->tensors[m->n_tensors];
	const struct model_operand *o = &m->records[m->n_tensors].out[k];
	struct tensor stored;
	int rc = operand_shape(i, o, &stored, err);

	if (!rc &&
		(stored.dtype != s->op.out[k].dtype || !tensor_same_shape(&stored, &s->op.out[k])))
		rc = refuse(
			err, "operator %u: output %u is stored with another dtype or shape", i, k);
	if (!rc)
		rc = operand_buffer(m, i, o, &stored, err);
	if (rc)
		return rc;
	s->out[k] = o->buffer;
	for (uint32_t j = 0; j < s->op.n_in + k; j++)
		if (!spares(m, s, k, j))
			return refuse(err, "operator %u writes buffer %u over its other operands",
				i, o->buffer);
	return 0;
}

/* Take over what infer() reads; everything not used must be 0. */
static int record_read(struct model *m, uint32_t i, struct error *err)
{
	const struct model_tensor_op *r = &m->records[m->n_tensors];
	struct tensor_op *op = &m->tensors[m->n_tensors].op;
	int rc = 0;

	if (r->n_in > TENSOR_MAX_IN || r->n_out > TENSOR_MAX_OUT || r->reserved)
		return refuse(
			err, "operator %u has %u inputs and %u outputs", i, r->n_in, r->n_out);
	op->function = r->function;
	op->n_in = r->n_in;
	op->n_out = r->n_out;
	memcpy(op->i, r->ints, sizeof(op->i));
	memcpy(op->f, r->floats, sizeof(op->f));
	for (uint32_t k = 0; !rc && k < TENSOR_MAX_IN; k++) {
		rc = operand_shape(i, &r->in[k], &op->in[k], err);
		if (!rc && k >= r->n_in && op->in[k].dtype)
			rc = refuse(err, "operator %u has more inputs than it says", i);
	}
	for (uint32_t k = r->n_out; !rc && k < TENSOR_MAX_OUT; k++)
		if (r->out[k].dtype)
			rc = refuse(err, "operator %u has more outputs than it says", i);
	if (!rc && tensor_infer(op, err))
		rc = error_prefix(err, "operator %u", i);
	return rc;
}

static int check_row(const struct model *m, uint32_t i, struct error *err)
{
	const struct model_op want = {.kind = MODEL_OP_TENSOR,
		.src = {MODEL_NONE, MODEL_NONE},
		.dst = MODEL_NONE,
		.n = m->n_tensors};

	if (m->n_tensors >= m->program.n_tensor_ops)
		return refuse(err, "operator %u has no record: there are %lu", i,
			m->program.n_tensor_ops);
	if (memcmp(&m->steps[i].op, &want, sizeof(want)))
		return refuse(
			err, "operator %u: fields set that a tensor operator does not take", i);
	return 0;
}

int check_tensor(struct model *m, uint32_t i, struct error *err)
{
	struct tensor_step *s = &m->tensors[m->n_tensors];
	int rc = check_row(m, i, err);

	if (!rc)
		rc = record_read(m, i, err);
	for (uint32_t k = 0; !rc && k < s->op.n_in; k++)
		rc = check_input(m, i, k, err);
	if (!rc && tensor_function_at(s->op.function)->check &&
		tensor_function_at(s->op.function)->check(&s->op, s->constant, err))
		rc = error_prefix(err, "operator %u", i);
	for (uint32_t k = 0; !rc && k < s->op.n_out; k++)
		rc = check_output(m, i, k, err);
	for (uint32_t k = 0; !rc && k < s->op.n_out; k++)
		m->written[s->out[k]] = 1;
	m->steps[i].tensor = s;
	m->n_tensors++;
	return rc;
}
