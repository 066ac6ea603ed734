/* SPDX-License-Identifier: BSD-3-Clause
 * Writing an artifact and its hash list: see artifact.h.
 */
#include <errno.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/compile/artifact.h"

static uint64_t round_up(uint64_t n, uint64_t to)
{
	return (n + to - 1) / to * to;
}

static void hex(const uint8_t *bytes, size_t n, char *text)
{
	for (size_t i = 0; i < n; i++)
		snprintf(text + 2 * i, 3, "%02x", bytes[i]);
}

/* Nothing here depends on when, where or by whom the compiler runs, but for what it was tuned for. */
static size_t write_metadata(const struct plan *p, const struct compile_options *o,
	const struct artifact_info *info, char *text, size_t bytes)
{
	uint8_t hash[MODEL_FILE_HASH_BYTES];
	char source[2 * sizeof(hash) + 1], producer[65];
	size_t n = 0;

	SHA256(info->source, info->source_bytes, hash);
	hex(hash, sizeof(hash), source);
	for (const char *c = info->producer; *c && n + 1 < sizeof(producer); c++)
		if ((uint8_t)*c >= 0x20 && (uint8_t)*c < 0x7f && *c != '"' && *c != '\\')
			producer[n++] = *c;
	producer[n] = 0;
	return (size_t)snprintf(text, bytes,
		"{\"source\":\"onnx\",\"source_sha256\":\"%s\",\"producer\":\"%s\","
		"\"compiler\":\"millrace-model %d\",\"parameters\":%lu,\"flops_per_row\":%lu,"
		"\"precision\":\"%s\"%s%s%s}",
		source, producer, MODEL_FILE_VERSION, p->parameters, p->flops,
		compile_precision_name(o->precision), o->tuned ? ",\"tuned_for\":\"" : "",
		o->tuned ? o->tuned : "", o->tuned ? "\"" : "");
}

static uint64_t program_bytes(const struct plan *p)
{
	return sizeof(p->program) +
	       round_up(p->program.n_buffers * sizeof(*p->buffers), MODEL_FILE_ALIGN) +
	       p->program.n_ops * sizeof(*p->ops) + p->program.n_tensor_ops * sizeof(*p->tensors);
}

static void fill_header(struct model_file_header *h, const struct plan *p,
	const struct compile_options *o, size_t metadata_bytes)
{
	*h = (struct model_file_header){
		.magic = MODEL_FILE_MAGIC,
		.version = MODEL_FILE_VERSION,
		.header_bytes = sizeof(*h),
		.model_version = o->version,
		.max_rows = o->max_rows,
		.cost_units = o->cost,
		.n_inputs = p->n_inputs,
		.n_outputs = p->n_outputs,
		.program = {MODEL_FILE_PAGE, program_bytes(p)},
	};
	snprintf(h->name, sizeof(h->name), "%s", o->name);
	memcpy(h->inputs, p->inputs, sizeof(h->inputs));
	memcpy(h->outputs, p->outputs, sizeof(h->outputs));
	for (uint32_t i = 0; i < p->n_inputs; i++)
		h->row_in_bytes += p->inputs[i].row_bytes;
	for (uint32_t i = 0; i < p->n_outputs; i++)
		h->row_out_bytes += p->outputs[i].row_bytes;
	h->metadata.offset = round_up(h->program.offset + h->program.bytes, MODEL_FILE_ALIGN);
	h->metadata.bytes = metadata_bytes;
	h->weights.offset = round_up(h->metadata.offset + metadata_bytes, MODEL_FILE_PAGE);
	h->weights.bytes = p->weights_bytes;
	h->body_bytes = round_up(h->weights.offset + h->weights.bytes, MODEL_FILE_CHUNK);
	h->hashes.offset = h->body_bytes;
	h->hashes.bytes = h->body_bytes / MODEL_FILE_CHUNK * MODEL_FILE_HASH_BYTES;
	h->signature.offset = h->hashes.offset + h->hashes.bytes;
	h->signature.bytes = sizeof(struct model_file_signature);
	h->file_bytes = h->signature.offset + h->signature.bytes;
}

static void write_program(uint8_t *to, const struct plan *p)
{
	size_t buffers = p->program.n_buffers * sizeof(*p->buffers);

	memcpy(to, &p->program, sizeof(p->program));
	to += sizeof(p->program);
	memcpy(to, p->buffers, buffers);
	to += round_up(buffers, MODEL_FILE_ALIGN);
	memcpy(to, p->ops, p->program.n_ops * sizeof(*p->ops));
	memcpy(to + p->program.n_ops * sizeof(*p->ops), p->tensors,
		p->program.n_tensor_ops * sizeof(*p->tensors));
}

static void write_hashes(uint8_t *image, const struct model_file_header *h)
{
	uint8_t *hash = image + h->hashes.offset;

	for (uint64_t at = 0; at < h->body_bytes; at += MODEL_FILE_CHUNK) {
		SHA256(image + at, MODEL_FILE_CHUNK, hash);
		hash += MODEL_FILE_HASH_BYTES;
	}
}

int artifact_write(const struct plan *p, const struct compile_options *o,
	const struct artifact_info *info, struct artifact *out, struct error *err)
{
	char metadata[1024];
	size_t metadata_bytes = write_metadata(p, o, info, metadata, sizeof(metadata));
	struct model_file_header h;
	uint8_t *image;
	struct model *check;
	uint64_t room;
	int rc;

	fill_header(&h, p, o, metadata_bytes);
	room = round_up(h.file_bytes, MODEL_FILE_PAGE);
	image = aligned_alloc(MODEL_FILE_PAGE, room);
	if (!image)
		return error_set(
			err, -ENOMEM, "no memory for an artifact of %lu bytes", h.file_bytes);
	memset(image, 0, room);
	memcpy(image, &h, sizeof(h));
	write_program(image + h.program.offset, p);
	memcpy(image + h.metadata.offset, metadata, metadata_bytes);
	if (p->weights_bytes)
		memcpy(image + h.weights.offset, p->weights, p->weights_bytes);
	write_hashes(image, &h);
	/* The engine's own checks are the last word on what leaves the compiler. */
	rc = model_open(&check, image, h.file_bytes, MODEL_BACKEND_SCALAR, err);
	if (rc) {
		free(image);
		return error_prefix(err, "the plan does not pass the engine's checks");
	}
	model_close(check);
	*out = (struct artifact){image, h.file_bytes};
	return 0;
}

void artifact_id(const void *image, uint8_t id[MODEL_FILE_HASH_BYTES])
{
	struct model_file_header h;

	memcpy(&h, image, sizeof(h));
	SHA256((const uint8_t *)image + h.hashes.offset, h.hashes.bytes, id);
}
