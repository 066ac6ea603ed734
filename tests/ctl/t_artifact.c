/* SPDX-License-Identifier: BSD-3-Clause
 * Test artifacts: see t_artifact.h. Hashes come from libcrypto, not from the loader's engine.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/ctl/t_artifact.h"

static void fill_io(struct model_file_io *io, const char *name, uint32_t elements)
{
	snprintf(io->name, sizeof(io->name), "%s", name);
	io->dtype = WIRE_F32;
	io->rank = 1;
	io->dims[0] = io->elements = elements;
	io->row_bytes = elements * 4;
}

/* Program: one buffer in, one RELU, one buffer out. */
static void fill_program(uint8_t *at)
{
	struct model_program p = {.n_buffers = 2, .n_ops = 1, .row_arena_bytes = 128};
	struct model_buffer buffers[2] = {{.elements = 4}, {.row_offset = 64, .elements = 4}};
	struct model_op op = {.kind = MODEL_OP_UNARY, .activation = MODEL_ACT_RELU,
		.src = {0, MODEL_NONE}, .dst = 1, .n = 4};

	p.outputs[0] = 1;
	memcpy(at, &p, sizeof(p));
	memcpy(at + 128, buffers, sizeof(buffers));
	memcpy(at + 192, &op, sizeof(op));
}

void t_artifact_rehash(struct t_artifact *a)
{
	size_t body = a->n - sizeof(struct model_file_signature);

	body = body / (MODEL_FILE_CHUNK + MODEL_FILE_HASH_BYTES) * MODEL_FILE_CHUNK;
	for (size_t c = 0; c < body / MODEL_FILE_CHUNK; c++)
		EVP_Digest(a->bytes + c * MODEL_FILE_CHUNK, MODEL_FILE_CHUNK,
			a->bytes + body + c * MODEL_FILE_HASH_BYTES, NULL, EVP_sha256(), NULL);
}

void t_artifact_make(struct t_artifact *a, size_t chunks, uint32_t seed)
{
	size_t body = chunks * MODEL_FILE_CHUNK;
	struct model_file_header *h;

	a->n = body + chunks * MODEL_FILE_HASH_BYTES + sizeof(struct model_file_signature);
	a->bytes = calloc(1, a->n);
	a->header = h = (struct model_file_header *)a->bytes;
	*h = (struct model_file_header){.magic = MODEL_FILE_MAGIC, .version = MODEL_FILE_VERSION,
		.header_bytes = sizeof(*h), .body_bytes = body, .file_bytes = a->n, .name = "tiny",
		.model_version = 1, .max_rows = 8, .row_in_bytes = 16, .row_out_bytes = 16,
		.cost_units = 1, .n_inputs = 1, .n_outputs = 1,
		.program = {MODEL_FILE_PAGE, 384}, .metadata = {MODEL_FILE_PAGE + 384, 2},
		.weights = {2 * MODEL_FILE_PAGE, body - 2 * MODEL_FILE_PAGE},
		.hashes = {body, chunks * MODEL_FILE_HASH_BYTES},
		.signature = {body + chunks * MODEL_FILE_HASH_BYTES,
			sizeof(struct model_file_signature)}};
	fill_io(&h->inputs[0], "x", 4);
	fill_io(&h->outputs[0], "y", 4);
	fill_program(a->bytes + MODEL_FILE_PAGE);
	memcpy(a->bytes + MODEL_FILE_PAGE + 384, "{}", 2);
	for (size_t i = 2 * MODEL_FILE_PAGE; i < body; i += 4) {
		seed = seed * 1664525u + 1013904223u;
		memcpy(a->bytes + i, &seed, 4);
	}
	t_artifact_rehash(a);
}

void t_artifact_sign(struct t_artifact *a, EVP_PKEY *key, uint8_t pub[MODEL_FILE_PUBLIC_KEY_BYTES])
{
	struct model_file_signature s = {.algorithm = 1};
	uint8_t id[MODEL_FILE_HASH_BYTES];
	size_t n = sizeof(s.signature);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();

	EVP_Digest(a->bytes + a->header->hashes.offset, a->header->hashes.bytes, id, NULL,
		EVP_sha256(), NULL);
	EVP_DigestSignInit(ctx, NULL, NULL, NULL, key);
	EVP_DigestSign(ctx, s.signature, &n, id, sizeof(id));
	EVP_MD_CTX_free(ctx);
	n = sizeof(s.public_key);
	EVP_PKEY_get_raw_public_key(key, s.public_key, &n);
	memcpy(a->bytes + a->n - sizeof(s), &s, sizeof(s));
	if (pub)
		memcpy(pub, s.public_key, sizeof(s.public_key));
}

void t_artifact_free(struct t_artifact *a)
{
	free(a->bytes);
	a->bytes = NULL;
}
