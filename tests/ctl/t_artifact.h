/* SPDX-License-Identifier: BSD-3-Clause
 * Test artifacts made from abi/model_file.h alone, without the compiler in models/compile.
 */
#pragma once

#include <openssl/evp.h>
#include <stddef.h>
#include <stdint.h>

#include "abi/model_file.h"

/* A whole artifact in memory. */
struct t_artifact {
	uint8_t *bytes;
	size_t n;
	struct model_file_header *header; /* inside bytes */
};

/* Identity-like artifact of `chunks` (>= 2) body chunks with pseudo-random weights from `seed`. */
void t_artifact_make(struct t_artifact *a, size_t chunks, uint32_t seed);

/* Recompute the hash list after the body was changed on purpose. */
void t_artifact_rehash(struct t_artifact *a);

/* Sign the id with an Ed25519 key; public key goes to `pub` when not NULL. */
void t_artifact_sign(struct t_artifact *a, EVP_PKEY *key, uint8_t pub[MODEL_FILE_PUBLIC_KEY_BYTES]);

void t_artifact_free(struct t_artifact *a);
