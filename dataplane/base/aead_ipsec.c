/* SPDX-License-Identifier: BSD-3-Clause
 * AES-256-GCM by ipsec-mb, for CPUs without VAES: see aead.h.
 */
#include <errno.h>
#include <string.h>
#include <intel-ipsec-mb.h>

#include "base/aead_family.h"

int aead_ipsec_init(struct aead *a)
{
	a->mgr = alloc_mb_mgr(0);
	if (!a->mgr)
		return -ENOMEM;
	init_mb_mgr_auto(a->mgr, NULL);
	if (imb_get_errno(a->mgr) != 0 || !(a->mgr->features & IMB_FEATURE_AESNI)) {
		aead_ipsec_uninit(a);
		return -ENOTSUP;
	}
	return 0;
}

void aead_ipsec_uninit(struct aead *a)
{
	if (a->mgr)
		free_mb_mgr(a->mgr);
	a->mgr = NULL;
}

struct ipsec_key {
	struct gcm_key_data gcm;
	uint8_t iv[WIRE_IV_BYTES];
} MR_ALIGNED(AEAD_KEY_ALIGN);

static void expand(const struct aead *a, struct aead_key *out, const uint8_t *key, const uint8_t *iv)
{
	struct ipsec_key *k = (struct ipsec_key *)out;

	IMB_AES256_GCM_PRE(a->mgr, key, &k->gcm);
	memcpy(k->iv, iv, sizeof(k->iv));
}

static void seal(const struct aead *a, const struct aead_key *key, struct wire_header header,
	uint8_t *datagram, const uint8_t *src, size_t n)
{
	const struct ipsec_key *k = (const struct ipsec_key *)key;
	uint8_t nonce[WIRE_IV_BYTES], *text = datagram + WIRE_HEADER_BYTES;
	struct gcm_context_data ctx;

	memcpy(datagram, &header, sizeof(header));
	wire_nonce(nonce, k->iv, header.lane, header.counter);
	IMB_AES256_GCM_ENC(a->mgr, &k->gcm, &ctx, text, src, n, nonce, datagram, WIRE_HEADER_BYTES,
		text + n, WIRE_TAG_BYTES);
}

/* Difference of two tags without an early exit. */
static uint64_t tag_difference(const uint8_t *x, const uint8_t *y)
{
	uint64_t a[2], b[2];

	memcpy(a, x, sizeof(a));
	memcpy(b, y, sizeof(b));
	return (a[0] ^ b[0]) | (a[1] ^ b[1]);
}

static int open(const struct aead *a, const struct aead_key *key, struct wire_header header,
	uint8_t *datagram, size_t n)
{
	const struct ipsec_key *k = (const struct ipsec_key *)key;
	uint8_t nonce[WIRE_IV_BYTES], tag[WIRE_TAG_BYTES], *text = datagram + WIRE_HEADER_BYTES;
	struct gcm_context_data ctx;

	wire_nonce(nonce, k->iv, header.lane, header.counter);
	IMB_AES256_GCM_DEC(a->mgr, &k->gcm, &ctx, text, text, n, nonce, datagram, WIRE_HEADER_BYTES,
		tag, WIRE_TAG_BYTES);
	return tag_difference(tag, text + n) == 0;
}

const struct aead_family aead_ipsec = {
	.name = "ipsec-mb",
	.key_bytes = sizeof(struct ipsec_key),
	.expand = expand,
	.seal = seal,
	.open = open,
};
