/* SPDX-License-Identifier: BSD-3-Clause
 * millrace-model inspect: header, plan and metadata of an artifact, for people or as JSON.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/compile/artifact.h"
#include "models/run/model_private.h"
#include "models/tool/tool.h"

static const char *const kind_names[MODEL_OP_END] = {"?", "dense", "unary", "softmax", "tensor"};
static const char *const act_names[MODEL_ACT_END] = {
	"", "relu", "sigmoid", "tanh", "leaky-relu", "clip", "neg", "abs", "exp", "sqrt", "log",
	"erf", "reciprocal", "affine", "elu", "hard-sigmoid", "hard-swish", "softplus", "softsign",
	"gelu", "gelu-tanh", "silu", "mish", "floor", "ceil", "round"};

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
		printf(",\"dtype\":\"FP32\",\"dims\":");
		print_dims(&io[i]);
		printf(",\"row_bytes\":%u}", io[i].row_bytes);
	}
	printf("]");
}

/* "add f32[1,4] f32[4] -> f32[1,4]" */
static void print_operand(const struct tensor *t, const void *constant)
{
	static const char *const types[WIRE_DTYPE_END] = {
		"-", "f32", "f16", "bf16", "i8", "u8", "i32", "i64", "bool"};

	printf(" %s%s[", constant ? "const " : "", types[t->dtype]);
	for (uint32_t d = 0; d < t->rank; d++)
		printf("%s%u", d ? "," : "", t->dims[d]);
	printf("]");
}

static void print_tensor(const struct tensor_step *s)
{
	printf("%s", tensor_function_at(s->op.function)->name);
	for (uint32_t k = 0; k < s->op.n_in; k++)
		if (s->op.in[k].dtype)
			print_operand(&s->op.in[k], s->constant[k]);
	printf(" ->");
	for (uint32_t k = 0; k < s->op.n_out; k++)
		print_operand(&s->op.out[k], NULL);
	if (s->op.scratch_bytes)
		printf(", %lu scratch bytes", s->op.scratch_bytes);
	printf("\n");
}

static void json_ops(const struct model *m)
{
	printf(",\"operators\":[");
	for (uint32_t i = 0; i < m->program.n_ops; i++) {
		const struct model_op *op = &m->steps[i].op;

		if (op->kind == MODEL_OP_TENSOR) {
			printf("%s{\"kind\":\"%s\"}", i ? "," : "",
				tensor_function_at(m->steps[i].tensor->op.function)->name);
			continue;
		}
		printf("%s{\"kind\":\"%s\",\"m\":%u,\"k\":%u,\"n\":%u,\"layout\":\"%s\","
		       "\"kernels\":\"%s\",\"activation\":\"%s\"}",
			i ? "," : "", kind_names[op->kind], op->m, op->k, op->n,
			model_layout_name(op->layout), m->steps[i].kernels->name,
			act_names[op->activation]);
	}
	printf("]");
}

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
	json_ops(t->model);
	printf("}\n");
}

static void print_ios(const char *what, const struct model_file_io *io, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		printf("%-10s %s float32 ", what, io[i].name);
		print_dims(&io[i]);
		printf(", %u bytes a row\n", io[i].row_bytes);
	}
}

static void print_text(const struct tool_model *t, const char *id, bool is_signed)
{
	const struct model_file_header *h = model_header(t->model);

	printf("model      %s version %u, %s\nid         %s\n", h->name, h->model_version,
		is_signed ? "signed" : "unsigned", id);
	printf("batch      up to %u rows, %u cost units a row\n", h->max_rows, h->cost_units);
	print_ios("input", h->inputs, h->n_inputs);
	print_ios("output", h->outputs, h->n_outputs);
	printf("size       %lu bytes, %lu of weights; %lu activation bytes a row\n", h->file_bytes,
		h->weights.bytes, t->model->program.row_arena_bytes);
	printf("kernels    %s\n", model_backend_name(t->model));
	for (uint32_t i = 0; i < t->model->program.n_ops; i++) {
		const struct model_op *op = &t->model->steps[i].op;

		if (op->kind == MODEL_OP_TENSOR) {
			printf("%-10s ", i ? "" : "operators");
			print_tensor(t->model->steps[i].tensor);
			continue;
		}
		printf("%-10s %-8s m=%u k=%u n=%u %s %s", i ? "" : "operators",
			kind_names[op->kind], op->m, op->k, op->n, model_layout_name(op->layout),
			act_names[op->activation]);
		if (op->kind == MODEL_OP_DENSE)
			printf(" by %s", t->model->steps[i].kernels->name);
		if (op->high > op->low)
			printf(", inputs from %g to %g", (double)op->low, (double)op->high);
		printf("\n");
	}
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
