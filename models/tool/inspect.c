/* SPDX-License-Identifier: BSD-3-Clause
 * millrace-model inspect: header, plan, memory plan and metadata of an artifact, for people or as JSON.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/compile/artifact.h"
#include "models/run/model_private.h"
#include "models/tool/steps.h"
#include "models/tool/tool.h"

static void print_dims(const struct model_file_io *io)
{
	printf("[");
	for (uint32_t d = 0; d < io->rank; d++)
		printf("%s%u", d ? "," : "", io->dims[d]);
	printf("]");
}

/* JSON string: names come from a model and may hold quotes. */
static void print_string(const char *s)
{
	putchar('"');
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			printf("\\%c", *s);
		else if ((unsigned char)*s < 0x20 || *s == 0x7f)
			printf("\\u%04x", (unsigned char)*s);
		else
			putchar(*s);
	}
	putchar('"');
}

static void json_ios(const char *what, const struct model_file_io *io, uint32_t n)
{
	printf(",\"%s\":[", what);
	for (uint32_t i = 0; i < n; i++) {
		printf("%s{\"name\":", i ? "," : "");
		print_string(io[i].name);
		printf(",\"dtype\":\"%s\",\"dims\":", wire_dtype_name(io[i].dtype));
		print_dims(&io[i]);
		printf(",\"row_bytes\":%u}", io[i].row_bytes);
	}
	printf("]");
}

/* ---- the plan ---- */

/* From the first step that writes a buffer to the last that reads it; inputs and outputs of the model are written
 * before the first (step -1) and read behind the last. */
struct life {
	int first, last;
};

static struct life buffer_life(const struct model *m, uint32_t buffer)
{
	const int n = (int)m->program.n_ops;
	struct life life = {n, -1};

	for (uint32_t i = 0; i < m->header.n_inputs; i++)
		if (m->program.inputs[i] == buffer)
			life.first = -1;
	for (int i = 0; i < n; i++) {
		struct step_buffers b = step_buffers(&m->steps[i]);

		for (uint32_t k = 0; k < b.n_out; k++)
			if (b.out[k] == buffer && i < life.first)
				life.first = i;
		for (uint32_t k = 0; k < b.n_in; k++)
			if (b.in[k] == buffer)
				life.last = i;
	}
	for (uint32_t i = 0; i < m->header.n_outputs; i++)
		if (m->program.outputs[i] == buffer)
			life.last = n;
	if (life.last < life.first)
		life.last = life.first; /* written, and nobody looks */
	return life;
}

static uint64_t buffer_bytes(const struct model_buffer *b)
{
	return (uint64_t)b->elements * wire_dtype_bytes(b->dtype);
}

/* Layout of its weights and family of its kernel: dense operators choose; the others have one form a CPU. */
static void print_kernel(const struct step *s, char *text, size_t bytes)
{
	if (s->op.kind == MODEL_OP_DENSE)
		snprintf(text, bytes, "%s, %s", model_layout_name(s->op.layout), s->kernels->name);
	else
		snprintf(text, bytes, "-");
}

static void print_buffers(const uint32_t *list, uint32_t n, char **at, const char *end)
{
	for (uint32_t k = 0; k < n && *at < end; k++)
		*at += snprintf(*at, (size_t)(end - *at), "%s%u", k ? " " : "", list[k]);
}

static void print_plan(const struct model *m)
{
	printf("plan       %4s %12s %12s  %-30s %-14s %s\n", "step", "FLOPs", "constants", "weights and kernel", "buffers",
		"operator, per row");
	for (uint32_t i = 0; i < m->program.n_ops; i++) {
		const struct step *s = &m->steps[i];
		struct step_buffers b = step_buffers(s);
		char kernel[80], buffers[160], *at = buffers;

		print_kernel(s, kernel, sizeof(kernel));
		print_buffers(b.in, b.n_in, &at, buffers + sizeof(buffers));
		at += snprintf(at, sizeof(buffers) - (size_t)(at - buffers), " > ");
		print_buffers(b.out, b.n_out, &at, buffers + sizeof(buffers));
		printf("           %4u %12.0f %12lu  %-30s %-14s ", i, step_flops(s), step_constant_bytes(s), kernel, buffers);
		step_print(s);
		printf("\n");
	}
}

static void print_memory(const struct model *m)
{
	printf("memory     %6s %10s %10s  %-9s %s\n", "buffer", "offset", "bytes", "steps", "elements, per row");
	for (uint32_t i = 0; i < m->program.n_buffers; i++) {
		const struct model_buffer *b = &m->buffers[i];
		struct life life = buffer_life(m, i);
		char steps[32], first[12] = "in", last[12] = "out";

		if (life.first >= 0)
			snprintf(first, sizeof(first), "%d", life.first);
		if (life.last < (int)m->program.n_ops)
			snprintf(last, sizeof(last), "%d", life.last);
		snprintf(steps, sizeof(steps), "%s-%s", first, last);
		printf("           %6u %10lu %10lu  %-9s %s[%u]\n", i, b->row_offset, buffer_bytes(b), steps, step_dtype(b->dtype),
			b->elements);
	}
}

static void json_numbers(const char *name, const uint32_t *list, uint32_t n)
{
	printf(",\"%s\":[", name);
	for (uint32_t k = 0; k < n; k++)
		printf("%s%u", k ? "," : "", list[k]);
	printf("]");
}

static void json_plan(const struct model *m)
{
	printf(",\"operators\":[");
	for (uint32_t i = 0; i < m->program.n_ops; i++) {
		const struct step *s = &m->steps[i];
		const struct model_op *op = &s->op;
		struct step_buffers b = step_buffers(s);

		printf("%s{\"kind\":\"%s\"", i ? "," : "", step_name(s));
		if (op->kind != MODEL_OP_TENSOR)
			printf(",\"m\":%u,\"k\":%u,\"n\":%u,\"layout\":\"%s\",\"kernels\":\"%s\",\"activation\":\"%s\"", op->m,
				op->k, op->n, model_layout_name(op->layout), s->kernels->name, step_activation(s));
		printf(",\"flops\":%.0f,\"constant_bytes\":%lu", step_flops(s), step_constant_bytes(s));
		json_numbers("in", b.in, b.n_in);
		json_numbers("out", b.out, b.n_out);
		printf("}");
	}
	printf("],\"buffers\":[");
	for (uint32_t i = 0; i < m->program.n_buffers; i++)
		printf("%s{\"row_offset\":%lu,\"bytes\":%lu,\"dtype\":\"%s\"}", i ? "," : "", m->buffers[i].row_offset,
			buffer_bytes(&m->buffers[i]), wire_dtype_name(m->buffers[i].dtype));
	printf("],\"scratch_bytes\":%lu", m->program.scratch_bytes);
}

/* ---- all of it ---- */

static void print_json(const struct tool_model *t, const char *id, bool is_signed)
{
	const struct model_file_header *h = model_header(t->model);

	printf("{\"name\":");
	print_string(h->name);
	printf(",\"version\":%u,\"id\":\"%s\",\"signed\":%s,\"max_rows\":%u,\"cost_units\":%u,"
	       "\"row_in_bytes\":%u,\"row_out_bytes\":%u,\"file_bytes\":%lu,\"weights_bytes\":%lu,"
	       "\"row_arena_bytes\":%lu,\"backend\":\"%s\"",
		h->model_version, id, is_signed ? "true" : "false", h->max_rows, h->cost_units,
		h->row_in_bytes, h->row_out_bytes, h->file_bytes, h->weights.bytes,
		t->model->program.row_arena_bytes, model_backend_name(t->model));
	json_ios("inputs", h->inputs, h->n_inputs);
	json_ios("outputs", h->outputs, h->n_outputs);
	json_plan(t->model);
	printf("}\n");
}

static void print_ios(const char *what, const struct model_file_io *io, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		printf("%-10s %s %s ", what, io[i].name, wire_dtype_name(io[i].dtype));
		print_dims(&io[i]);
		printf(", %u bytes a row\n", io[i].row_bytes);
	}
}

static void print_text(const struct tool_model *t, const char *id, bool is_signed)
{
	const struct model_file_header *h = model_header(t->model);

	printf("model      %s version %u, %s\nid         %s\n", h->name, h->model_version,
		is_signed ? "signed" : "unsigned", id);
	printf("batch      up to %u rows, %u cost unit%s a row\n", h->max_rows, h->cost_units, h->cost_units == 1 ? "" : "s");
	print_ios("input", h->inputs, h->n_inputs);
	print_ios("output", h->outputs, h->n_outputs);
	printf("size       %lu bytes, %lu of weights; %lu bytes of buffers a row, %lu of scratch\n", h->file_bytes,
		h->weights.bytes, t->model->program.row_arena_bytes, t->model->program.scratch_bytes);
	printf("kernels    %s\n", model_backend_name(t->model));
	print_plan(t->model);
	print_memory(t->model);
	/* Metadata is text of whoever made the artifact: controls must not reach a terminal. */
	printf("metadata   ");
	for (uint64_t i = 0; i < h->metadata.bytes; i++) {
		uint8_t c = t->image[h->metadata.offset + i];

		putchar(c < 0x20 || c >= 0x7f ? '?' : c);
	}
	printf("\n");
}

int cmd_inspect(int argc, char **argv)
{
	bool json = false, is_signed = false;
	const char *path = NULL;
	uint8_t id[MODEL_FILE_HASH_BYTES];
	char text[2 * sizeof(id) + 1];
	struct tool_model t;
	struct error err;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--json"))
			json = true;
		else if (path || argv[i][0] == '-')
			return tool_usage("inspect takes MODEL.mrm [--json]");
		else
			path = argv[i];
	}
	if (!path)
		return tool_usage("inspect takes MODEL.mrm [--json]");
	if (tool_model_open(&t, path, MODEL_BACKEND_AUTO, &err))
		return tool_refuse(&err);
	if (artifact_verify(t.image, t.size, NULL, &is_signed, &err)) {
		tool_model_close(&t);
		return tool_refuse(&err);
	}
	artifact_id(t.image, id);
	for (size_t i = 0; i < sizeof(id); i++)
		snprintf(text + 2 * i, 3, "%02x", id[i]);
	(json ? print_json : print_text)(&t, text, is_signed);
	tool_model_close(&t);
	return TOOL_OK;
}
