/* SPDX-License-Identifier: BSD-3-Clause
 * Checks of an artifact's header, tail and signature: pure functions of bytes, no I/O.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "abi/model_file.h"
#include "base/error.h"

/* Is `h` the header of a well-formed artifact that is exactly `file_bytes` long? Every field is
 * checked on its own and against the others, with checked arithmetic. 0, or -EINVAL with err->text
 * naming field, value and limit. */
int artifact_check_header(const struct model_file_header *h, uint64_t file_bytes,
	struct error *err);

/* id = SHA-256(hash list). 0 or -EIO. */
int artifact_id(const uint8_t *hashes, size_t bytes, uint8_t id[MODEL_FILE_HASH_BYTES]);

/* Check the signature block `s` (not trusted) over `id` against n_keys trusted keys. Returns the
 * index of the key + 1, 0 for an unsigned artifact when `required` is 0, or -EPERM/-EINVAL with err.
 * A signature that is present but wrong, or by a key that is not trusted, is refused when a signature
 * is required; without that duty a stranger's signature counts as none, a wrong one never passes. */
int artifact_check_signature(const struct model_file_signature *s,
	const uint8_t id[MODEL_FILE_HASH_BYTES],
	const uint8_t keys[][MODEL_FILE_PUBLIC_KEY_BYTES], uint32_t n_keys, int required,
	struct error *err);
