/* SPDX-License-Identifier: BSD-3-Clause
 * AES-256-GCM by ipsec-mb: see aead.h.
 */
#include <errno.h>
#include <intel-ipsec-mb.h>

#include "base/aead.h"

int aead_init(struct aead *a)
{
	a->mgr = alloc_mb_mgr(0);
	if (!a->mgr)
		return -ENOMEM;
	init_mb_mgr_auto(a->mgr, NULL);
	if (imb_get_errno(a->mgr) != 0 || !(a->mgr->features & IMB_FEATURE_AESNI)) {
		aead_uninit(a);
		return -ENOTSUP;
	}
	return 0;
}

void aead_uninit(struct aead *a)
{
	if (a->mgr)
		free_mb_mgr(a->mgr);
	a->mgr = NULL;
}

size_t aead_key_bytes(void)
{
	return (sizeof(struct gcm_key_data) + AEAD_KEY_ALIGN - 1) & ~(size_t)(AEAD_KEY_ALIGN - 1);
}

void aead_expand(const struct aead *a, struct gcm_key_data *out, const uint8_t key[AEAD_KEY_BYTES])
{
	IMB_AES256_GCM_PRE(a->mgr, key, out);
}

void aead_seal(const struct aead *a, const struct gcm_key_data *key,
	const uint8_t nonce[AEAD_IV_BYTES], const uint8_t *aad, size_t aad_bytes, uint8_t *dst,
	const uint8_t *src, size_t n, uint8_t tag[AEAD_TAG_BYTES])
{
	struct gcm_context_data ctx;

	IMB_AES256_GCM_ENC(a->mgr, key, &ctx, dst, src, n, nonce, aad, aad_bytes, tag,
		AEAD_TAG_BYTES);
}

/* Difference of two tags without an early exit. */
static uint64_t tag_difference(const uint8_t *x, const uint8_t *y)
{
	uint64_t a[2], b[2];

	__builtin_memcpy(a, x, sizeof(a));
	__builtin_memcpy(b, y, sizeof(b));
	return (a[0] ^ b[0]) | (a[1] ^ b[1]);
}

int aead_open(const struct aead *a, const struct gcm_key_data *key,
	const uint8_t nonce[AEAD_IV_BYTES], const uint8_t *aad, size_t aad_bytes, uint8_t *dst,
	const uint8_t *src, size_t n, const uint8_t tag[AEAD_TAG_BYTES])
{
	struct gcm_context_data ctx;
	uint8_t computed[AEAD_TAG_BYTES];

	IMB_AES256_GCM_DEC(a->mgr, key, &ctx, dst, src, n, nonce, aad, aad_bytes, computed,
		AEAD_TAG_BYTES);
	return tag_difference(computed, tag) == 0;
}
