/* SPDX-License-Identifier: BSD-3-Clause
 * Keyed hash of a plaintext: see text_hash.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <intel-ipsec-mb.h>

#include "text_hash.h"

enum { BLOCK_BYTES = 16 };

int text_hash_init(struct text_hash *h, const struct aead *aead)
{
	uint8_t secret[BLOCK_BYTES];

	*h = (struct text_hash){.aead = aead, .key = aligned_alloc(AEAD_KEY_ALIGN, aead_key_bytes())};
	if (!h->key)
		return -ENOMEM;
	if (getrandom(secret, sizeof(secret), 0) != sizeof(secret)) {
		text_hash_uninit(h);
		return -EIO;
	}
	IMB_GHASH_PRE(aead->mgr, secret, h->key);
	explicit_bzero(secret, sizeof(secret));
	return 0;
}

void text_hash_uninit(struct text_hash *h)
{
	if (h->key)
		explicit_bzero(h->key, aead_key_bytes());
	free(h->key);
	memset(h, 0, sizeof(*h));
}

uint64_t text_hash(const struct text_hash *h, const struct wire_request *q, const uint8_t *rows, uint32_t n)
{
	struct {
		struct wire_request q;
		uint64_t row_bytes;
	} head = {*q, n};
	uint64_t tag[2] = {0};

	IMB_GHASH(h->aead->mgr, h->key, &head, sizeof(head), tag, sizeof(tag));
	if (n)
		IMB_GHASH(h->aead->mgr, h->key, rows, n, tag, sizeof(tag));
	return tag[0];
}
