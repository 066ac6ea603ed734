/* SPDX-License-Identifier: BSD-3-Clause
 * Keyed hashes of plaintexts: see text_hash.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <intel-ipsec-mb.h>

#include "text_hash.h"

enum { BLOCK_BYTES = 16, KEY_ALIGN = 64, KEY_BYTES = (sizeof(struct gcm_key_data) + 63) & ~63 };

int text_hash_init(struct text_hash *h)
{
	uint8_t secret[BLOCK_BYTES];

	*h = (struct text_hash){.mgr = alloc_mb_mgr(0), .key = aligned_alloc(KEY_ALIGN, KEY_BYTES)};
	if (!h->mgr || !h->key) {
		text_hash_uninit(h);
		return -ENOMEM;
	}
	init_mb_mgr_auto(h->mgr, NULL);
	if (getrandom(secret, sizeof(secret), 0) != sizeof(secret)) {
		text_hash_uninit(h);
		return -EIO;
	}
	IMB_GHASH_PRE(h->mgr, secret, h->key);
	explicit_bzero(secret, sizeof(secret));
	return 0;
}

void text_hash_uninit(struct text_hash *h)
{
	if (h->key)
		explicit_bzero(h->key, KEY_BYTES);
	free(h->key);
	if (h->mgr)
		free_mb_mgr(h->mgr);
	memset(h, 0, sizeof(*h));
}

uint64_t text_hash(const struct text_hash *h, const struct wire_request *q, const uint8_t *rows, uint32_t n)
{
	struct {
		struct wire_request q;
		uint64_t row_bytes;
	} head = {*q, n};
	uint64_t tag[2] = {0};

	IMB_GHASH(h->mgr, h->key, &head, sizeof(head), tag, sizeof(tag));
	if (n)
		IMB_GHASH(h->mgr, h->key, rows, n, tag, sizeof(tag));
	return tag[0];
}

struct text_tag text_tag(const struct text_hash *h, const uint8_t *row, uint32_t n)
{
	struct text_tag tag = {{0}};

	IMB_GHASH(h->mgr, h->key, row, n, tag.word, sizeof(tag.word));
	return tag;
}
