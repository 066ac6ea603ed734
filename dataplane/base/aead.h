/* SPDX-License-Identifier: BSD-3-Clause
 * AES-256-GCM (NIST SP 800-38D) of one datagram of abi/wire.h; both ends of the protocol use it.
 *
 *   datagram:  | header 16 | text n | tag 16 |      header = additional data, and part of the nonce
 *
 * Keys are expanded once, together with their IV, and used from any thread; an expanded key is secret
 * and belongs in memory that is neither dumped nor shared. Families: our own for VAES and
 * VPCLMULQDQ, with AVX-512 and without, whose expanded key is six cache lines, and ipsec-mb (16 lines)
 * for other CPUs with AES instructions.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "abi/wire.h"

enum { AEAD_KEY_ALIGN = 64 };

struct IMB_MGR;
struct aead;
struct aead_key; /* aead_key_bytes() bytes, aligned to AEAD_KEY_ALIGN */

struct aead_family {
	const char *name;
	size_t key_bytes;
	void (*expand)(const struct aead *a, struct aead_key *out, const uint8_t *key,
		const uint8_t *iv);
	void (*seal)(const struct aead *a, const struct aead_key *key, struct wire_header header,
		uint8_t *datagram, const uint8_t *src, size_t n);
	int (*open)(const struct aead *a, const struct aead_key *key, struct wire_header header,
		uint8_t *datagram, size_t n);
};

struct aead {
	const struct aead_family *family; /* all read-only after aead_init() */
	struct IMB_MGR *mgr;              /* of the ipsec-mb family; NULL in others */
};

/* Pick the fastest family of this CPU. 0, -ENOMEM, or -ENOTSUP where AES instructions are missing. */
int aead_init(struct aead *a);
/* The family called `name` ("vaes512", "vaes", "ipsec-mb"): tests and benches compare them. -ENOTSUP where this
 * CPU cannot run it, -ENOENT for a name that is none. */
int aead_init_family(struct aead *a, const char *name);
void aead_uninit(struct aead *a);

/* Bytes of one expanded key, a multiple of AEAD_KEY_ALIGN. */
static inline size_t aead_key_bytes(const struct aead *a)
{
	return a->family->key_bytes;
}

/* Expand a key and its IV into `out`. */
static inline void aead_expand(const struct aead *a, struct aead_key *out,
	const uint8_t key[WIRE_KEY_BYTES], const uint8_t iv[WIRE_IV_BYTES])
{
	a->family->expand(a, out, key, iv);
}

/* Write header, ciphertext of src[0..n) and tag into `datagram`; n >= 1. `src` is either the text's
 * place in the datagram or does not overlap it, and is readable up to the next multiple of 16. */
static inline void aead_seal(const struct aead *a, const struct aead_key *key,
	struct wire_header header, uint8_t *datagram, const uint8_t *src, size_t n)
{
	a->family->seal(a, key, header, datagram, src, n);
}

/* Decrypt the text of `datagram`, which begins with `header`, in place; n >= 1. True when the tag
 * matches (compared in constant time); on false text is undefined and must not be used. The tag's
 * bytes are undefined afterwards. */
static inline int aead_open(const struct aead *a, const struct aead_key *key,
	struct wire_header header, uint8_t *datagram, size_t n)
{
	return a->family->open(a, key, header, datagram, n);
}
