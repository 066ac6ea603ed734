/* SPDX-License-Identifier: BSD-3-Clause
 * What an artifact may say about itself: see artifact.h.
 */
#include <errno.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <string.h>

#include "control/loader/artifact.h"

#define MAX_FILE_BYTES (1ull << MODEL_FILE_MAX_BYTES_LOG2)

/* One scalar field and the range it must lie in. */
struct range {
	const char *name;
	uint64_t value, min, max;
};

static int check_ranges(const struct range *r, size_t n, struct error *err)
{
	for (size_t i = 0; i < n; i++)
		if (r[i].value < r[i].min || r[i].value > r[i].max)
			return error_set(err, -EINVAL,
				"%s is %" PRIu64 ", allowed are %" PRIu64 " to %" PRIu64, r[i].name,
				r[i].value, r[i].min, r[i].max);
	return 0;
}

static int check_equal(const char *name, uint64_t value, uint64_t want, struct error *err)
{
	if (value == want)
		return 0;
	return error_set(err, -EINVAL, "%s is %" PRIu64 ", must be %" PRIu64, name, value, want);
}

/* A name is not empty, ends inside its field, has no byte below `lowest` and no DEL (it will stand in
 * logs and on terminals), and the rest of the field is zero. */
static int check_name(const char *what, const char *name, size_t field, uint8_t lowest,
	struct error *err)
{
	size_t n = strnlen(name, field);

	if (n == 0 || n == field)
		return error_set(err, -EINVAL, "%s is %s", what,
			n ? "not terminated" : "empty");
	for (size_t i = 0; i < n; i++)
		if ((uint8_t)name[i] < lowest || name[i] == 0x7f)
			return error_set(err, -EINVAL, "%s has byte %#x at %zu", what,
				(unsigned int)(uint8_t)name[i], i);
	for (size_t i = n; i < field; i++)
		if (name[i])
			return error_set(err, -EINVAL, "%s has bytes after its end", what);
	return 0;
}

static int all_zero(const void *p, size_t n)
{
	const uint8_t *b = p;

	for (size_t i = 0; i < n; i++)
		if (b[i])
			return 0;
	return 1;
}

/* One input or output; adds its row_bytes to *row. */
static int check_io(const char *kind, uint32_t i, const struct model_file_io *io, uint64_t *row,
	struct error *err)
{
	uint64_t elements = 1, bytes;
	uint32_t size = wire_dtype_bytes(io->dtype);
	int rc = check_name("name", io->name, sizeof(io->name), ' ', err);

	if (!rc && !size)
		rc = error_set(err, -EINVAL, "dtype %u is unknown", io->dtype);
	if (!rc && io->rank > MODEL_FILE_MAX_RANK)
		rc = error_set(err, -EINVAL, "rank %u, at most %d", io->rank, MODEL_FILE_MAX_RANK);
	for (uint32_t d = 0; !rc && d < MODEL_FILE_MAX_RANK; d++) {
		if (d >= io->rank)
			rc = check_equal("dimension past the rank", io->dims[d], 0, err);
		else if (!io->dims[d] || __builtin_mul_overflow(elements, io->dims[d], &elements) ||
			elements > MODEL_FILE_MAX_ROW_ELEMENTS)
			rc = error_set(err, -EINVAL, "dims[%u] = %u makes more than %d elements or none", d,
				io->dims[d], MODEL_FILE_MAX_ROW_ELEMENTS);
	}
	if (!rc)
		rc = check_equal("elements", io->elements, elements, err);
	bytes = (elements * size + 3) & ~3ull; /* at most 2^27: cannot wrap */
	if (!rc)
		rc = check_equal("row_bytes", io->row_bytes, bytes, err);
	if (!rc && !all_zero(io->reserved, sizeof(io->reserved)))
		rc = error_set(err, -EINVAL, "reserved fields are not zero");
	*row += bytes;
	return rc ? error_prefix(err, "%s %u", kind, i) : 0;
}

static int check_ios(const char *kind, const struct model_file_io *io, uint32_t n, uint32_t row_bytes,
	struct error *err)
{
	uint64_t row = 0;
	int rc = 0;

	for (uint32_t i = 0; !rc && i < n; i++)
		rc = check_io(kind, i, &io[i], &row, err);
	for (uint32_t i = n; !rc && i < MODEL_FILE_MAX_IO; i++)
		if (!all_zero(&io[i], sizeof(io[i])))
			rc = error_set(err, -EINVAL, "%s %u is not zero but only %u are used", kind, i, n);
	return rc ? rc : check_equal(kind[0] == 'i' ? "row_in_bytes" : "row_out_bytes", row_bytes, row,
			    err);
}

/* `s` begins at or after *end, at most a page later, and lies inside `limit`. Moves *end. */
static int check_section(const char *name, const struct model_file_section *s, uint64_t align,
	uint64_t limit, uint64_t *end, struct error *err)
{
	uint64_t after;

	if (s->offset % align)
		return error_set(err, -EINVAL, "%s offset %" PRIu64 " is not a multiple of %" PRIu64,
			name, s->offset, align);
	if (s->offset < *end)
		return error_set(err, -EINVAL,
			"%s begins at %" PRIu64 ", inside what ends at %" PRIu64, name, s->offset, *end);
	if (s->offset - *end >= MODEL_FILE_PAGE)
		return error_set(err, -EINVAL, "%s leaves a gap of %" PRIu64 " bytes", name,
			s->offset - *end);
	if (__builtin_add_overflow(s->offset, s->bytes, &after) || after > limit)
		return error_set(err, -EINVAL,
			"%s of %" PRIu64 " bytes at %" PRIu64 " passes its limit %" PRIu64, name,
			s->bytes, s->offset, limit);
	*end = after;
	return 0;
}

static int check_tail(const struct model_file_header *h, struct error *err)
{
	uint64_t list = h->body_bytes / MODEL_FILE_CHUNK * MODEL_FILE_HASH_BYTES;
	int rc = check_equal("hashes.offset", h->hashes.offset, h->body_bytes, err);

	if (!rc)
		rc = check_equal("hashes.bytes", h->hashes.bytes, list, err);
	if (!rc)
		rc = check_equal("signature.offset", h->signature.offset, h->body_bytes + list, err);
	if (!rc)
		rc = check_equal("signature.bytes", h->signature.bytes,
			sizeof(struct model_file_signature), err);
	if (!rc)
		rc = check_equal("file_bytes", h->file_bytes,
			h->body_bytes + list + sizeof(struct model_file_signature), err);
	return rc;
}

static int check_sections(const struct model_file_header *h, struct error *err)
{
	uint64_t end = MODEL_FILE_PAGE;
	int rc = check_section("program", &h->program, MODEL_FILE_ALIGN, h->body_bytes, &end, err);

	if (!rc)
		rc = check_section("metadata", &h->metadata, 1, h->body_bytes, &end, err);
	if (!rc)
		rc = check_section("weights", &h->weights, MODEL_FILE_PAGE, h->body_bytes, &end, err);
	if (!rc && h->body_bytes - end >= MODEL_FILE_CHUNK)
		rc = error_set(err, -EINVAL, "%" PRIu64 " bytes after the weights belong to nothing",
			h->body_bytes - end);
	return rc ? rc : check_tail(h, err);
}

int artifact_check_header(const struct model_file_header *h, uint64_t file_bytes, struct error *err)
{
	const struct range ranges[] = {
		{"header_bytes", h->header_bytes, sizeof(*h), sizeof(*h)},
		{"body_bytes", h->body_bytes, MODEL_FILE_CHUNK, MAX_FILE_BYTES},
		{"model_version", h->model_version, 1, UINT32_MAX},
		{"max_rows", h->max_rows, 1, MODEL_FILE_MAX_ROWS},
		{"cost_units", h->cost_units, 1, UINT32_MAX},
		{"n_inputs", h->n_inputs, 1, MODEL_FILE_MAX_IO},
		{"n_outputs", h->n_outputs, 1, MODEL_FILE_MAX_IO},
		{"flags", h->flags, 0, 0},
		{"program.bytes", h->program.bytes, sizeof(struct model_program), MAX_FILE_BYTES},
		{"metadata.bytes", h->metadata.bytes, 0, MODEL_FILE_MAX_METADATA_BYTES},
	};
	int rc;

	if (h->magic != MODEL_FILE_MAGIC)
		return error_set(err, -EINVAL, "not a Millrace artifact: magic is %#" PRIx64, h->magic);
	if (h->version != MODEL_FILE_VERSION)
		return error_set(err, -EINVAL, "artifact version %u, this loader reads %d", h->version,
			MODEL_FILE_VERSION);
	if (h->file_bytes != file_bytes)
		return error_set(err, -EINVAL,
			"the file has %" PRIu64 " bytes, its header says %" PRIu64
			": truncated or not completely copied?",
			file_bytes, h->file_bytes);
	rc = check_ranges(ranges, sizeof(ranges) / sizeof(ranges[0]), err);
	if (!rc && h->body_bytes % MODEL_FILE_CHUNK)
		rc = error_set(err, -EINVAL, "body_bytes is %" PRIu64 ", not a multiple of %d",
			h->body_bytes, MODEL_FILE_CHUNK);
	if (!rc)
		rc = check_sections(h, err);
	if (!rc)
		rc = check_name("model name", h->name, sizeof(h->name), '!', err);
	if (!rc)
		rc = check_ios("input", h->inputs, h->n_inputs, h->row_in_bytes, err);
	return rc ? rc : check_ios("output", h->outputs, h->n_outputs, h->row_out_bytes, err);
}

int artifact_id(const uint8_t *hashes, size_t bytes, uint8_t id[MODEL_FILE_HASH_BYTES])
{
	return EVP_Digest(hashes, bytes, id, NULL, EVP_sha256(), NULL) == 1 ? 0 : -EIO;
}

/* Ed25519 (RFC 8032) over the 32 bytes of the artifact id. */
static int signature_good(const struct model_file_signature *s,
	const uint8_t id[MODEL_FILE_HASH_BYTES])
{
	EVP_PKEY *key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, s->public_key,
		sizeof(s->public_key));
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	int good = key && ctx && EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, key) == 1 &&
		EVP_DigestVerify(ctx, s->signature, sizeof(s->signature), id,
			MODEL_FILE_HASH_BYTES) == 1;

	EVP_MD_CTX_free(ctx);
	EVP_PKEY_free(key);
	return good;
}

int artifact_check_signature(const struct model_file_signature *s,
	const uint8_t id[MODEL_FILE_HASH_BYTES], const uint8_t keys[][MODEL_FILE_PUBLIC_KEY_BYTES],
	uint32_t n_keys, int required, struct error *err)
{
	if (s->algorithm == 0 && !all_zero(s, sizeof(*s)))
		return error_set(err, -EINVAL, "signature block: algorithm 0 but not all zero");
	if (s->algorithm == 0)
		return required ? error_set(err, -EPERM,
					  "the artifact is not signed and a signature is required")
				: 0;
	if (s->algorithm != 1 || s->reserved)
		return error_set(err, -EINVAL, "signature block: algorithm %u is unknown", s->algorithm);
	if (!signature_good(s, id))
		return error_set(err, -EPERM, "the signature does not match the artifact");
	for (uint32_t i = 0; i < n_keys; i++)
		if (!memcmp(keys[i], s->public_key, MODEL_FILE_PUBLIC_KEY_BYTES))
			return (int)i + 1;
	return required ? error_set(err, -EPERM, "signed by key %02x%02x%02x%02x..., which is not trusted",
				  s->public_key[0], s->public_key[1], s->public_key[2],
				  s->public_key[3])
			: 0;
}
