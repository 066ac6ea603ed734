/* SPDX-License-Identifier: BSD-3-Clause
 * Writing, hashing, signing and verifying .mrm artifacts (layout: abi/model_file.h).
 */
#pragma once

#include "models/compile/compile.h"
#include "models/compile/plan.h"

struct artifact_info {
	const void *source; /* the ONNX file: its SHA-256 goes into the metadata */
	size_t source_bytes;
	const char *producer;
};

/* Lay out header, program, metadata, weights, hash list and an empty signature block. */
int artifact_write(const struct plan *p, const struct compile_options *o,
	const struct artifact_info *info, struct artifact *out, struct error *err);

/* SHA-256 of the hash list, which is what a signature signs. `image` has been through
 * artifact_verify() or artifact_write(). */
void artifact_id(const void *image, uint8_t id[MODEL_FILE_HASH_BYTES]);

/* Is this whole file what it claims: structure (model_open), length, every chunk's hash, and the
 * signature if there is one; if `pem_path` is not NULL, signed by that public key. -EINVAL or
 * -EBADMSG with err->text naming what differs. */
int artifact_verify(
	const void *image, size_t size, const char *pem_path, bool *is_signed, struct error *err);

/* Sign in place with an Ed25519 private key (PEM). The artifact must verify first. */
int artifact_sign(void *image, size_t size, const char *pem_path, struct error *err);
