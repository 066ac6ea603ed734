/* SPDX-License-Identifier: BSD-3-Clause
 * A small artifact written field by field from abi/model_file.h, without the compiler.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "rig.h"

enum { PROGRAM_BYTES = 128 + 64 + sizeof(struct model_op), WEIGHTS_AT = 8192, PANEL_BYTES = RIG_IN * 16 * 4 };

static void put_io(struct model_file_io *io, const char *name, uint32_t n)
{
	snprintf(io->name, sizeof(io->name), "%s", name);
	io->dtype = WIRE_F32;
	io->rank = 1;
	io->dims[0] = n;
	io->elements = n;
	io->row_bytes = n * 4;
}

static void put_header(struct model_file_header *h, const char *name, uint32_t version,
	uint32_t cost, uint32_t max_rows)
{
	h->magic = MODEL_FILE_MAGIC;
	h->version = MODEL_FILE_VERSION;
	h->header_bytes = sizeof(*h);
	h->body_bytes = MODEL_FILE_CHUNK;
	h->file_bytes = MODEL_FILE_CHUNK + 32 + sizeof(struct model_file_signature);
	snprintf(h->name, sizeof(h->name), "%s", name);
	h->model_version = version;
	h->max_rows = max_rows;
	h->row_in_bytes = RIG_IN * 4;
	h->row_out_bytes = RIG_OUT * 4;
	h->cost_units = cost;
	h->n_inputs = h->n_outputs = 1;
	h->program = (struct model_file_section){4096, PROGRAM_BYTES};
	h->metadata = (struct model_file_section){4096 + PROGRAM_BYTES, 2};
	h->weights = (struct model_file_section){WEIGHTS_AT, PANEL_BYTES + 64};
	h->hashes = (struct model_file_section){MODEL_FILE_CHUNK, 32};
	h->signature = (struct model_file_section){MODEL_FILE_CHUNK + 32,
		sizeof(struct model_file_signature)};
	put_io(&h->inputs[0], "x", RIG_IN);
	put_io(&h->outputs[0], "y", RIG_OUT);
}

static void put_program(uint8_t *image)
{
	struct model_program *p = (struct model_program *)(image + 4096);
	struct model_buffer *b = (struct model_buffer *)(p + 1);
	struct model_op *op = (struct model_op *)(image + 4096 + 128 + 64);

	p->n_buffers = 2;
	p->n_ops = 1;
	p->row_arena_bytes = 128;
	p->inputs[0] = 0;
	p->outputs[0] = 1;
	b[0] = (struct model_buffer){0, RIG_IN, WIRE_F32};
	b[1] = (struct model_buffer){64, RIG_OUT, WIRE_F32};
	op->kind = MODEL_OP_DENSE;
	op->layout = MODEL_LAYOUT_PANELS;
	op->src[0] = 0;
	op->src[1] = MODEL_NONE;
	op->dst = 1;
	op->m = 1;
	op->k = RIG_IN;
	op->n = RIG_OUT;
	op->constant_bytes[1] = PANEL_BYTES;
	op->bias = PANEL_BYTES;
	op->bias_bytes = 64;
}

int rig_artifact(const char *name, uint32_t version, float scale, uint32_t cost, uint32_t max_rows)
{
	size_t n = MODEL_FILE_CHUNK + 32 + sizeof(struct model_file_signature);
	uint8_t *image = calloc(1, n);
	float *w = (float *)(image + WEIGHTS_AT), *bias = w + RIG_IN * 16;
	struct error err = {0};
	int fd;

	put_header((struct model_file_header *)image, name, version, cost, max_rows);
	put_program(image);
	memcpy(image + 4096 + PROGRAM_BYTES, "{}", 2);
	for (int k = 0; k < RIG_IN; k++)
		for (int j = 0; j < RIG_OUT; j++)
			w[k * 16 + j] = (float)((k + 1) * (j + 1)) * scale;
	for (int j = 0; j < RIG_OUT; j++)
		bias[j] = (float)j;
	fd = fd_sealed_copy("artifact", image, n, &err);
	free(image);
	if (fd < 0)
		fail_msg("%s", err.text);
	return fd;
}

void rig_expect(const float *row, float scale, float out[RIG_OUT])
{
	for (int j = 0; j < RIG_OUT; j++) {
		out[j] = (float)j;
		for (int k = 0; k < RIG_IN; k++)
			out[j] += (float)((k + 1) * (j + 1)) * scale * row[k];
	}
}

void rig_model(struct rig *r, uint32_t index, uint64_t number, int fd)
{
	struct link_artifact a = {.model_index = index, .number = number};
	struct error err = {0};

	if (model_table_offer(&r->models, fd, &a, &err) ||
		model_table_stage(&r->models, index, number, &err) ||
		model_table_activate(&r->models, index, &err))
		fail_msg("%s", err.text);
}
