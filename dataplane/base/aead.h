/* SPDX-License-Identifier: BSD-3-Clause
 * AES-256-GCM (NIST SP 800-38D) by ipsec-mb, one datagram a call; both ends of the protocol use it.
 *
 * Keys are expanded once (about 126 ns) and used from any thread; an expanded key is secret and
 * belongs in memory that is neither dumped nor shared.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct IMB_MGR;
struct gcm_key_data;

struct aead {
	struct IMB_MGR *mgr; /* CPU-dispatched function table; read-only after aead_init() */
};

enum { AEAD_KEY_BYTES = 32, AEAD_IV_BYTES = 12, AEAD_TAG_BYTES = 16 };

/* Pick the fastest implementation for this CPU. 0, or -ENOTSUP where AES-NI is missing. */
int aead_init(struct aead *a);
void aead_uninit(struct aead *a);

/* Bytes of one expanded key, and its alignment: allocate with that alignment. */
size_t aead_key_bytes(void);
enum { AEAD_KEY_ALIGN = 64 };

/* Expand a 32-byte key into `out` (aead_key_bytes(), 64-byte aligned). */
void aead_expand(const struct aead *a, struct gcm_key_data *out, const uint8_t key[AEAD_KEY_BYTES]);

/* Seal: dst[0..n) = ciphertext of src[0..n), tag[16]. dst may equal src. */
void aead_seal(const struct aead *a, const struct gcm_key_data *key,
	const uint8_t nonce[AEAD_IV_BYTES], const uint8_t *aad, size_t aad_bytes, uint8_t *dst,
	const uint8_t *src, size_t n, uint8_t tag[AEAD_TAG_BYTES]);

/* Open: true when the tag matches (compared in constant time). dst may equal src; on false its
 * contents are undefined and must not be used. */
int aead_open(const struct aead *a, const struct gcm_key_data *key,
	const uint8_t nonce[AEAD_IV_BYTES], const uint8_t *aad, size_t aad_bytes, uint8_t *dst,
	const uint8_t *src, size_t n, const uint8_t tag[AEAD_TAG_BYTES]);
