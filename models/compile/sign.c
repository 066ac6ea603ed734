/* SPDX-License-Identifier: BSD-3-Clause
 * Verifying and signing whole artifacts with Ed25519 (RFC 8032) over the artifact id.
 */
#include <errno.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <string.h>

#include "models/compile/artifact.h"

enum { ALGORITHM_NONE = 0, ALGORITHM_ED25519 = 1 };

static int check_hashes(const uint8_t *image, const struct model_file_header *h, struct error *err)
{
	uint8_t hash[MODEL_FILE_HASH_BYTES];
	const uint8_t *want = image + h->hashes.offset;

	for (uint64_t at = 0; at < h->body_bytes; at += MODEL_FILE_CHUNK) {
		SHA256(image + at, MODEL_FILE_CHUNK, hash);
		if (memcmp(hash, want, sizeof(hash)))
			return error_set(
				err, -EBADMSG, "the chunk at byte %lu does not match its hash", at);
		want += MODEL_FILE_HASH_BYTES;
	}
	return 0;
}

static EVP_PKEY *read_key(const char *path, bool private, struct error *err)
{
	FILE *f = fopen(path, "r");
	EVP_PKEY *key = NULL;

	if (!f) {
		error_set(err, -errno, "%s: %s", path, strerror(errno));
		return NULL;
	}
	key = private ? PEM_read_PrivateKey(f, NULL, NULL, NULL)
		      : PEM_read_PUBKEY(f, NULL, NULL, NULL);
	fclose(f);
	if (!key || EVP_PKEY_get_base_id(key) != EVP_PKEY_ED25519) {
		error_set(err, -EINVAL, "%s is no Ed25519 %s key in PEM", path,
			private ? "private" : "public");
		EVP_PKEY_free(key);
		return NULL;
	}
	return key;
}

static bool signature_valid(const struct model_file_signature *s, const uint8_t *id)
{
	EVP_PKEY *key = EVP_PKEY_new_raw_public_key(
		EVP_PKEY_ED25519, NULL, s->public_key, sizeof(s->public_key));
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool ok = key && ctx && EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, key) == 1 &&
		  EVP_DigestVerify(
			  ctx, s->signature, sizeof(s->signature), id, MODEL_FILE_HASH_BYTES) == 1;

	EVP_MD_CTX_free(ctx);
	EVP_PKEY_free(key);
	return ok;
}

static int check_signer(
	const struct model_file_signature *s, const char *pem_path, struct error *err)
{
	EVP_PKEY *key = read_key(pem_path, false, err);
	uint8_t raw[MODEL_FILE_PUBLIC_KEY_BYTES];
	size_t n = sizeof(raw);
	int rc = 0;

	if (!key)
		return err->code;
	if (EVP_PKEY_get_raw_public_key(key, raw, &n) != 1 || memcmp(raw, s->public_key, n))
		rc = error_set(err, -EBADMSG, "signed, but not with the key in %s", pem_path);
	EVP_PKEY_free(key);
	return rc;
}

static int check_signature(const uint8_t *image, const struct model_file_header *h,
	const char *pem_path, bool *is_signed, struct error *err)
{
	static const struct model_file_signature none;
	struct model_file_signature s;
	uint8_t id[MODEL_FILE_HASH_BYTES];

	memcpy(&s, image + h->signature.offset, sizeof(s));
	*is_signed = s.algorithm != ALGORITHM_NONE;
	if (!*is_signed) {
		if (memcmp(&s, &none, sizeof(s)))
			return error_set(
				err, -EBADMSG, "unsigned, but the signature block is not zero");
		return pem_path ? error_set(err, -EBADMSG, "the artifact is not signed") : 0;
	}
	if (s.algorithm != ALGORITHM_ED25519 || s.reserved)
		return error_set(err, -EBADMSG, "signature algorithm %u is unknown", s.algorithm);
	artifact_id(image, id);
	if (!signature_valid(&s, id))
		return error_set(err, -EBADMSG, "the signature does not match the artifact");
	return pem_path ? check_signer(&s, pem_path, err) : 0;
}

int artifact_verify(
	const void *image, size_t size, const char *pem_path, bool *is_signed, struct error *err)
{
	struct model *m;
	struct model_file_header h;
	int rc = model_open(&m, image, size, MODEL_BACKEND_SCALAR, err);

	if (rc)
		return rc;
	h = *model_header(m);
	model_close(m);
	if (h.file_bytes != size)
		return error_set(err, -EINVAL, "%s: file_bytes is %lu, the file has %zu",
			h.file_bytes > size ? "truncated" : "trailing bytes", h.file_bytes, size);
	rc = check_hashes(image, &h, err);
	return rc ? rc : check_signature(image, &h, pem_path, is_signed, err);
}

static int sign_id(
	EVP_PKEY *key, const uint8_t *id, struct model_file_signature *s, struct error *err)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	size_t public_bytes = sizeof(s->public_key), bytes = sizeof(s->signature);
	bool ok = ctx && EVP_PKEY_get_raw_public_key(key, s->public_key, &public_bytes) == 1 &&
		  EVP_DigestSignInit(ctx, NULL, NULL, NULL, key) == 1 &&
		  EVP_DigestSign(ctx, s->signature, &bytes, id, MODEL_FILE_HASH_BYTES) == 1;

	EVP_MD_CTX_free(ctx);
	return ok ? 0 : error_set(err, -EIO, "libcrypto could not sign");
}

int artifact_sign(void *image, size_t size, const char *pem_path, struct error *err)
{
	struct model_file_signature s = {.algorithm = ALGORITHM_ED25519};
	struct model_file_header h;
	uint8_t id[MODEL_FILE_HASH_BYTES];
	EVP_PKEY *key;
	bool was_signed;
	int rc = artifact_verify(image, size, NULL, &was_signed, err);

	if (rc)
		return rc;
	key = read_key(pem_path, true, err);
	if (!key)
		return err->code;
	memcpy(&h, image, sizeof(h));
	artifact_id(image, id);
	rc = sign_id(key, id, &s, err);
	EVP_PKEY_free(key);
	if (!rc)
		memcpy((uint8_t *)image + h.signature.offset, &s, sizeof(s));
	return rc;
}
