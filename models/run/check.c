/* SPDX-License-Identifier: BSD-3-Clause
 * The checks between an artifact and the engine. The image is read once, into private memory, and
 * only the copy is checked and used: nothing a writer changes later can undo a check. Every offset
 * has one legal value (the format has no gaps), every index is compared with its table, every
 * product is overflow-checked in bytes. Refusals name field, value and limit.
 */
#include <errno.h>
#include <float.h>
#include <stdlib.h>
#include <string.h>

#include "models/run/model_private.h"

#define refuse(err, ...) error_set(err, -EINVAL, __VA_ARGS__)

static uint64_t round_up(uint64_t n, uint64_t to) /* callers cap n far below 2^63 */
{
	return (n + to - 1) / to * to;
}

static int check_section(const char *name, const struct model_file_section *s, uint64_t offset,
	uint64_t limit, struct error *err)
{
	if (s->offset != offset)
		return refuse(err, "section %s begins at %lu, must begin at %lu", name, s->offset,
			offset);
	if (s->bytes > limit)
		return refuse(err, "section %s has %lu bytes, at most %lu are possible", name,
			s->bytes, limit);
	return 0;
}

/* Sections follow each other without gaps; each has exactly one place it may begin. */
static int check_sections(const struct model_file_header *h, struct error *err)
{
	const uint64_t body = h->body_bytes;
	uint64_t at = MODEL_FILE_PAGE;
	int rc = check_section("program", &h->program, at, body - at, err);

	if (rc)
		return rc;
	at = round_up(at + h->program.bytes, MODEL_FILE_ALIGN);
	if (at > body)
		return refuse(err, "section program ends after the body");
	rc = check_section("metadata", &h->metadata, at, body - at, err);
	if (rc)
		return rc;
	if (h->metadata.bytes > MODEL_FILE_MAX_METADATA_BYTES)
		return refuse(err, "metadata has %lu bytes, limit %d", h->metadata.bytes,
			MODEL_FILE_MAX_METADATA_BYTES);
	at = round_up(at + h->metadata.bytes, MODEL_FILE_PAGE);
	if (at > body)
		return refuse(err, "section metadata ends after the body");
	rc = check_section("weights", &h->weights, at, body - at, err);
	if (rc)
		return rc;
	at = round_up(at + h->weights.bytes, MODEL_FILE_CHUNK);
	if (at != body)
		return refuse(err, "body_bytes is %lu, the sections need %lu", body, at);
	at = body / MODEL_FILE_CHUNK * MODEL_FILE_HASH_BYTES;
	if (h->hashes.offset != body || h->hashes.bytes != at)
		return refuse(err, "hash list at %lu (%lu bytes), must be at %lu (%lu bytes)",
			h->hashes.offset, h->hashes.bytes, body, at);
	if (h->signature.offset != body + at ||
		h->signature.bytes != sizeof(struct model_file_signature))
		return refuse(err, "signature at %lu (%lu bytes), must be at %lu (%zu bytes)",
			h->signature.offset, h->signature.bytes, body + at,
			sizeof(struct model_file_signature));
	if (h->file_bytes != body + at + h->signature.bytes)
		return refuse(err, "file_bytes is %lu, the sections need %lu", h->file_bytes,
			body + at + h->signature.bytes);
	return 0;
}

static int check_io(const char *what, uint32_t i, const struct model_file_io *io, struct error *err)
{
	const uint32_t size = wire_dtype_bytes(io->dtype);
	uint64_t elements = 1, bytes;

	if (!memchr(io->name, 0, sizeof(io->name)) || !io->name[0])
		return refuse(err, "%s %u has an empty or unterminated name", what, i);
	if (!size)
		return refuse(err, "%s %u has unknown dtype %u", what, i, io->dtype);
	if (io->rank > MODEL_FILE_MAX_RANK)
		return refuse(
			err, "%s %u has rank %u, limit %d", what, i, io->rank, MODEL_FILE_MAX_RANK);
	for (uint32_t d = 0; d < io->rank; d++)
		if (io->dims[d] == 0 || __builtin_mul_overflow(elements, io->dims[d], &elements) ||
			elements > MODEL_FILE_MAX_ROW_ELEMENTS)
			return refuse(err, "%s %u dimension %u is %u: a row has 1 to %d elements",
				what, i, d, io->dims[d], MODEL_FILE_MAX_ROW_ELEMENTS);
	bytes = round_up(elements * size, 4);
	if (io->elements != elements || io->row_bytes != bytes)
		return refuse(err,
			"%s %u has %u elements in %u bytes, its dimensions say %lu in %lu", what, i,
			io->elements, io->row_bytes, elements, bytes);
	return 0;
}

/* No input at all is a constant, which only `millrace-model test` runs: the loader refuses it. */
static int check_ios(const char *what, const struct model_file_io *io, uint32_t n, uint32_t lowest,
	uint32_t row_bytes, struct error *err)
{
	uint64_t sum = 0;

	if (n < lowest || n > MODEL_FILE_MAX_IO)
		return refuse(err, "%u %ss, must be %u to %d", n, what, lowest, MODEL_FILE_MAX_IO);
	for (uint32_t i = 0; i < n; i++) {
		int rc = check_io(what, i, &io[i], err);

		if (rc)
			return rc;
		sum += io[i].row_bytes;
	}
	if (sum != row_bytes)
		return refuse(err, "a row of all %ss has %lu bytes, the header says %u", what, sum,
			row_bytes);
	return 0;
}

static int check_header(const struct model_file_header *h, size_t size, struct error *err)
{
	int rc;

	if (h->magic != MODEL_FILE_MAGIC)
		return refuse(err, "magic is %016lx: this is no .mrm artifact", h->magic);
	if (h->version != MODEL_FILE_VERSION)
		return refuse(err,
			"format version %u, this engine reads %d: compile the model again",
			h->version, MODEL_FILE_VERSION);
	if (h->header_bytes != sizeof(*h))
		return refuse(err, "header_bytes is %u, must be %zu", h->header_bytes, sizeof(*h));
	if (h->body_bytes < MODEL_FILE_CHUNK || h->body_bytes % MODEL_FILE_CHUNK ||
		h->body_bytes >> MODEL_FILE_MAX_BYTES_LOG2)
		return refuse(err, "body_bytes is %lu: must be a multiple of %d below 2^%d",
			h->body_bytes, MODEL_FILE_CHUNK, MODEL_FILE_MAX_BYTES_LOG2);
	if (h->body_bytes > size)
		return refuse(err, "truncated: the body has %lu bytes, %zu are there",
			h->body_bytes, size);
	if (!memchr(h->name, 0, sizeof(h->name)) || !h->name[0])
		return refuse(err, "the model's name is empty or not terminated");
	if (h->model_version < 1)
		return refuse(err, "model_version is 0, must be at least 1");
	if (h->max_rows < 1 || h->max_rows > MODEL_FILE_MAX_ROWS)
		return refuse(
			err, "max_rows is %u, must be 1 to %d", h->max_rows, MODEL_FILE_MAX_ROWS);
	if (h->cost_units < 1)
		return refuse(err, "cost_units is 0, must be at least 1");
	if (h->flags)
		return refuse(err, "flags are 0x%x, none is defined", h->flags);
	rc = check_ios("input", h->inputs, h->n_inputs, 0, h->row_in_bytes, err);
	if (!rc)
		rc = check_ios("output", h->outputs, h->n_outputs, 1, h->row_out_bytes, err);
	return rc ? rc : check_sections(h, err);
}

static int check_buffer(const struct model *m, uint32_t i, uint64_t *used, struct error *err)
{
	const struct model_buffer *b = &m->buffers[i];
	uint64_t bytes, end;

	if (b->elements < 1 || b->elements > MODEL_FILE_MAX_ROW_ELEMENTS)
		return refuse(err, "buffer %u has %u elements, must be 1 to %d", i, b->elements,
			MODEL_FILE_MAX_ROW_ELEMENTS);
	if (!wire_dtype_bytes(b->dtype))
		return refuse(err, "buffer %u has unknown dtype %u: compile the model again", i,
			b->dtype);
	bytes = round_up((uint64_t)b->elements * wire_dtype_bytes(b->dtype), MODEL_FILE_ALIGN);
	if (b->row_offset % MODEL_FILE_ALIGN ||
		__builtin_add_overflow(b->row_offset, bytes, &end) ||
		end > m->program.row_arena_bytes)
		return refuse(err, "buffer %u at %lu needs %lu bytes, the arena has %lu", i,
			b->row_offset, bytes, m->program.row_arena_bytes);
	*used = end > *used ? end : *used;
	return 0;
}

/* Before the operators for the inputs, which the gather writes; after them for the outputs. */
static int check_ports(struct model *m, const char *what, const le32 *buffer,
	const struct model_file_io *io, uint32_t n, struct error *err)
{
	for (uint32_t i = 0; i < n; i++) {
		if (buffer[i] >= m->program.n_buffers)
			return refuse(err, "%s %u is buffer %u of %u", what, i, buffer[i],
				m->program.n_buffers);
		if (m->buffers[buffer[i]].elements != io[i].elements ||
			m->buffers[buffer[i]].dtype != io[i].dtype)
			return refuse(err, "%s %u has %u elements of dtype %u, its buffer %u of %u",
				what, i, io[i].elements, io[i].dtype,
				m->buffers[buffer[i]].elements, m->buffers[buffer[i]].dtype);
		if (buffer == m->program.inputs)
			m->written[buffer[i]] = 1;
		else if (!m->written[buffer[i]])
			return refuse(err, "%s %u is buffer %u, which nothing has written", what, i,
				buffer[i]);
	}
	return 0;
}

/* Constants lie in the order they are named, each at the next 64-byte border: one legal offset. */
int check_constant(struct model *m, uint32_t i, const char *what, uint64_t offset, uint64_t bytes,
	uint64_t expected, struct error *err)
{
	uint64_t at = round_up(m->weights_cursor, MODEL_FILE_ALIGN), end;

	if (bytes != expected)
		return refuse(err, "operator %u: %s has %lu bytes, its shape needs %lu", i, what,
			bytes, expected);
	if (offset != at)
		return refuse(
			err, "operator %u: %s at offset %lu, must be at %lu", i, what, offset, at);
	if (__builtin_add_overflow(offset, bytes, &end) || end > m->header.weights.bytes)
		return refuse(err, "operator %u: %s ends after the weights section (%lu bytes)", i,
			what, m->header.weights.bytes);
	m->weights_cursor = end;
	return 0;
}

/* Operand 0 is a written float32 buffer of exactly this many elements. */
static int check_source(struct model *m, uint32_t i, uint64_t elements, struct error *err)
{
	const struct model_op *op = &m->steps[i].op;
	uint32_t b = op->src[0];

	if (b >= m->program.n_buffers)
		return refuse(err, "operator %u reads buffer %u of %u", i, b, m->program.n_buffers);
	if (!m->written[b] || b == op->dst)
		return refuse(err, "operator %u reads buffer %u, which %s", i, b,
			b == op->dst ? "it also writes" : "nothing has written");
	if (op->constant_bytes[0] || op->constant[0])
		return refuse(err, "operator %u: operand 0 is both buffer and constant", i);
	if (m->buffers[b].dtype != WIRE_F32 || m->buffers[b].elements != elements)
		return refuse(err, "operator %u: operand 0 has %u elements, %lu float32 are needed",
			i, m->buffers[b].elements, elements);
	return 0;
}

static int check_absent(uint32_t i, const struct model_op *op, int which, struct error *err)
{
	if (op->src[which] != MODEL_NONE || op->constant[which] || op->constant_bytes[which])
		return refuse(
			err, "operator %u has an operand %d its kind does not take", i, which);
	return 0;
}

/* Product of m, n, k's given factors; 0 when it is 0 or too large to be one row's elements. */
static uint64_t elements3(uint64_t a, uint64_t b, uint64_t c)
{
	uint64_t n;

	if (__builtin_mul_overflow(a, b, &n) || __builtin_mul_overflow(n, c, &n) ||
		n > MODEL_FILE_MAX_ROW_ELEMENTS)
		return 0;
	return n;
}

static int check_dst(struct model *m, uint32_t i, uint64_t elements, struct error *err)
{
	uint32_t dst = m->steps[i].op.dst;

	if (dst >= m->program.n_buffers)
		return refuse(
			err, "operator %u writes buffer %u of %u", i, dst, m->program.n_buffers);
	if (m->buffers[dst].dtype != WIRE_F32)
		return refuse(err, "operator %u writes buffer %u, which is not float32", i, dst);
	if (!elements || m->buffers[dst].elements != elements)
		return refuse(err, "operator %u writes %lu elements into a buffer of %u", i,
			elements, m->buffers[dst].elements);
	m->written[dst] = 1;
	return 0;
}

/* Only INT8 layers have a range; it holds 0, or is empty. NaN fails every comparison. */
static int check_range(uint32_t i, const struct model_op *op, struct error *err)
{
	bool reduced = op->kind == MODEL_OP_DENSE && op->layout == MODEL_LAYOUT_PANELS_INT8;

	if (!(op->low <= 0 && op->high >= 0 && op->high - op->low <= FLT_MAX) ||
		(!reduced && op->high > op->low))
		return refuse(err, "operator %u has the input range %g to %g", i, (double)op->low,
			(double)op->high);
	return 0;
}

static int check_dense(struct model *m, uint32_t i, struct error *err)
{
	struct step *s = &m->steps[i];
	const struct model_op *op = &s->op;
	uint64_t in = elements3(op->m, op->k, 1), bytes, bias;
	int rc;

	if (op->layout == MODEL_LAYOUT_NONE || op->layout >= MODEL_LAYOUT_END)
		return refuse(err, "operator %u has unknown weight layout %u", i, op->layout);
	if (!in || op->src[0] == MODEL_NONE || op->src[1] != MODEL_NONE)
		return refuse(err, "operator %u: dense operands are a buffer and a constant", i);
	rc = check_source(m, i, in, err);
	if (rc)
		return rc;
	if (!dense_weight_bytes(op->layout, op->k, op->n, &bytes))
		return refuse(err, "operator %u: %u x %u weights overflow", i, op->k, op->n);
	rc = check_constant(m, i, "weights", op->constant[1], op->constant_bytes[1], bytes, err);
	if (rc)
		return rc;
	s->weights = m->weights + op->constant[1];
	bias = round_up(op->n, MODEL_FILE_PANEL) * sizeof(float);
	if (op->bias_bytes) {
		rc = check_constant(m, i, "bias", op->bias, op->bias_bytes, bias, err);
		if (rc)
			return rc;
		s->bias = (const float *)(m->weights + op->bias);
	}
	return check_dst(m, i, elements3(op->m, op->n, 1), err);
}

static int check_unary(struct model *m, uint32_t i, struct error *err)
{
	const struct model_op *op = &m->steps[i].op;
	uint64_t n = elements3(op->m, 1, 1);
	int rc = check_absent(i, op, 1, err);

	if (op->kind == MODEL_OP_SOFTMAX)
		n = elements3(op->m, op->n, op->k);
	if (op->src[0] == MODEL_NONE)
		return refuse(err, "operator %u has no input buffer", i);
	if (!rc)
		rc = check_source(m, i, n, err);
	return rc ? rc : check_dst(m, i, n, err);
}

static int check_op(struct model *m, uint32_t i, struct error *err)
{
	const struct model_op *op = &m->steps[i].op;

	if (op->activation >= MODEL_ACT_END)
		return refuse(err, "operator %u has unknown activation %u", i, op->activation);
	if (op->unused || op->reserved[0] || op->reserved[1] || op->reserved[2])
		return refuse(err, "operator %u has a reserved field set", i);
	if (check_range(i, op, err))
		return -EINVAL;
	switch (op->kind) {
	case MODEL_OP_DENSE:
		return check_dense(m, i, err);
	case MODEL_OP_UNARY:
	case MODEL_OP_SOFTMAX:
		return check_unary(m, i, err);
	case MODEL_OP_TENSOR:
		return check_tensor(m, i, err);
	default:
		return refuse(err, "operator %u has unknown kind %u", i, op->kind);
	}
}

/* Table sizes follow from two counts; they must fill the program section exactly. */
static int check_program(const struct model *m, struct error *err)
{
	const struct model_program *p = &m->program;
	uint64_t bytes;

	if (p->n_buffers < 1 || p->n_buffers > MODEL_FILE_MAX_BUFFERS)
		return refuse(err, "n_buffers is %u, must be 1 to %d", p->n_buffers,
			MODEL_FILE_MAX_BUFFERS);
	if (p->n_ops > MODEL_FILE_MAX_OPS)
		return refuse(err, "n_ops is %u, limit %d", p->n_ops, MODEL_FILE_MAX_OPS);
	if (p->n_states || p->n_scalars)
		return refuse(err, "%u states and %u scalars: this engine runs stateless models",
			p->n_states, p->n_scalars);
	if (p->n_tensor_ops > p->n_ops)
		return refuse(
			err, "n_tensor_ops is %lu of %u operators", p->n_tensor_ops, p->n_ops);
	bytes = sizeof(*p) +
		round_up(p->n_buffers * sizeof(struct model_buffer), MODEL_FILE_ALIGN) +
		p->n_ops * sizeof(struct model_op) +
		p->n_tensor_ops * sizeof(struct model_tensor_op);
	if (m->header.program.bytes != bytes)
		return refuse(err,
			"section program has %lu bytes, its %u buffers and %u operators "
			"need %lu",
			m->header.program.bytes, p->n_buffers, p->n_ops, bytes);
	if (p->row_arena_bytes % MODEL_FILE_ALIGN || p->row_arena_bytes >> 32)
		return refuse(err, "row_arena_bytes is %lu: must be a multiple of %d below 2^32",
			p->row_arena_bytes, MODEL_FILE_ALIGN);
	if (p->scratch_bytes % MODEL_FILE_ALIGN || p->scratch_bytes >> 32)
		return refuse(err, "scratch_bytes is %lu: must be a multiple of %d below 2^32",
			p->scratch_bytes, MODEL_FILE_ALIGN);
	return 0;
}

/* Copy all tables out of the image; returns -ENOMEM or 0. */
static int copy_tables(struct model *m, const uint8_t *image, struct error *err)
{
	const struct model_program *p = &m->program;
	const uint8_t *from = image + MODEL_FILE_PAGE + sizeof(*p);
	struct model_tensor_op *records;

	m->buffers = malloc(p->n_buffers * sizeof(*m->buffers));
	m->steps = calloc(p->n_ops ? p->n_ops : 1, sizeof(*m->steps));
	m->written = calloc(p->n_buffers, 1);
	m->tensors = calloc(p->n_tensor_ops ? p->n_tensor_ops : 1, sizeof(*m->tensors));
	m->records = records = malloc((p->n_tensor_ops + 1) * sizeof(*records));
	if (!m->tensors || !records || !m->buffers || !m->steps || !m->written)
		return error_set(err, -ENOMEM, "no memory for %u buffers and %u operators",
			p->n_buffers, p->n_ops);
	memcpy(m->buffers, from, p->n_buffers * sizeof(*m->buffers));
	from += round_up(p->n_buffers * sizeof(struct model_buffer), MODEL_FILE_ALIGN);
	for (uint32_t i = 0; i < p->n_ops; i++)
		memcpy(&m->steps[i].op, from + i * sizeof(struct model_op),
			sizeof(struct model_op));
	memcpy(records, from + p->n_ops * sizeof(struct model_op),
		p->n_tensor_ops * sizeof(*records));
	return 0;
}

static uint64_t check_scratch(const struct model *m)
{
	uint64_t most = 0;

	for (uint32_t i = 0; i < m->n_tensors; i++)
		if (m->tensors[i].op.scratch_bytes > most)
			most = m->tensors[i].op.scratch_bytes;
	for (uint32_t i = 0; i < m->program.n_ops; i++) {
		const struct model_op *op = &m->steps[i].op;
		uint64_t bytes = op->kind == MODEL_OP_DENSE
					 ? dense_scratch_bytes(op->layout, op->k)
					 : 0;

		most = bytes > most ? bytes : most;
	}
	return most;
}

static int check_tables(struct model *m, struct error *err)
{
	const struct model_file_header *h = &m->header;
	uint64_t used = 0;
	int rc = 0;

	for (uint32_t i = 0; !rc && i < m->program.n_buffers; i++)
		rc = check_buffer(m, i, &used, err);
	if (!rc && used != m->program.row_arena_bytes)
		rc = refuse(err, "row_arena_bytes is %lu, the buffers use %lu",
			m->program.row_arena_bytes, used);
	if (!rc)
		rc = check_ports(m, "input", m->program.inputs, h->inputs, h->n_inputs, err);
	for (uint32_t i = 0; !rc && i < m->program.n_ops; i++)
		rc = check_op(m, i, err);
	if (!rc)
		rc = check_ports(m, "output", m->program.outputs, h->outputs, h->n_outputs, err);
	if (!rc && m->n_tensors != m->program.n_tensor_ops)
		rc = refuse(err, "n_tensor_ops is %lu, the operators name %u",
			m->program.n_tensor_ops, m->n_tensors);
	if (!rc && check_scratch(m) != m->program.scratch_bytes)
		rc = refuse(err, "scratch_bytes is %lu, the operators need %lu",
			m->program.scratch_bytes, check_scratch(m));
	if (!rc && round_up(m->weights_cursor, MODEL_FILE_ALIGN) != h->weights.bytes)
		rc = refuse(err, "section weights has %lu bytes, the operators use %lu",
			h->weights.bytes, round_up(m->weights_cursor, MODEL_FILE_ALIGN));
	return rc;
}

int model_check(struct model *m, const void *image, size_t size, struct error *err)
{
	int rc;

	if (size < MODEL_FILE_CHUNK)
		return refuse(err, "truncated: %zu bytes, an artifact has at least %d", size,
			MODEL_FILE_CHUNK);
	if ((uintptr_t)image % MODEL_FILE_ALIGN)
		return refuse(err, "the artifact is mapped at %p, not on a %d-byte border", image,
			MODEL_FILE_ALIGN);
	memcpy(&m->header, image, sizeof(m->header));
	rc = check_header(&m->header, size, err);
	if (rc)
		return rc;
	if (m->header.program.bytes < sizeof(m->program))
		return refuse(err, "section program has %lu bytes, its head alone %zu",
			m->header.program.bytes, sizeof(m->program));
	memcpy(&m->program, (const uint8_t *)image + MODEL_FILE_PAGE, sizeof(m->program));
	rc = check_program(m, err);
	if (!rc)
		rc = copy_tables(m, image, err);
	m->weights = (const uint8_t *)image + m->header.weights.offset;
	return rc ? rc : check_tables(m, err);
}
