/* SPDX-License-Identifier: BSD-3-Clause
 * HKDF-Expand with SHA-256 (RFC 5869 section 2.3) and the protocol's key schedule (abi/wire.h).
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "abi/wire.h"

/* The four values one epoch of a session uses. Secret: wipe after use. */
struct wire_keys {
	uint8_t c2s_key[WIRE_KEY_BYTES];
	uint8_t s2c_key[WIRE_KEY_BYTES];
	uint8_t c2s_iv[WIRE_IV_BYTES];
	uint8_t s2c_iv[WIRE_IV_BYTES];
};

/* out[0..n) = HKDF-Expand(prk, info); n <= 8160. 0 or -EINVAL/-EIO. */
int hkdf_expand(uint8_t *out, size_t n, const uint8_t prk[32], const void *info, size_t info_bytes);

/* Derive the keys of the epoch whose secret is `secret`. 0 or -EIO. */
int wire_keys_derive(struct wire_keys *out, const uint8_t secret[32], uint32_t key_id);

/* next = secret of the following epoch. next may equal secret. 0 or -EIO. */
int wire_secret_ratchet(uint8_t next[32], const uint8_t secret[32], uint32_t key_id);
