/* SPDX-License-Identifier: BSD-3-Clause
 * HKDF and the session key schedule: see hkdf.h.
 */
#include <errno.h>
#include <string.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/hkdf.h"

enum { SHA256_BYTES = 32, INFO_MAX = 128 };

int hkdf_expand(uint8_t *out, size_t n, const uint8_t prk[32], const void *info, size_t info_bytes)
{
	uint8_t block[SHA256_BYTES + INFO_MAX + 1], t[SHA256_BYTES];
	size_t have = 0, done = 0;
	int rc = 0;

	if (info_bytes > INFO_MAX || n > 255 * SHA256_BYTES)
		return -EINVAL;
	for (uint8_t i = 1; done < n; i++) {
		size_t take = n - done < SHA256_BYTES ? n - done : SHA256_BYTES;

		memcpy(block, t, have);
		memcpy(block + have, info, info_bytes);
		block[have + info_bytes] = i;
		if (!HMAC(EVP_sha256(), prk, SHA256_BYTES, block, have + info_bytes + 1, t, NULL)) {
			rc = -EIO;
			break;
		}
		memcpy(out + done, t, take);
		done += take;
		have = SHA256_BYTES;
	}
	explicit_bzero(t, sizeof(t));
	explicit_bzero(block, sizeof(block));
	return rc;
}

static int expand_label(uint8_t *out, size_t n, const uint8_t secret[32], const char *label,
	uint32_t key_id)
{
	uint8_t info[64];
	size_t len = strlen(label);

	memcpy(info, label, len);
	memcpy(info + len, &key_id, sizeof(key_id));
	return hkdf_expand(out, n, secret, info, len + sizeof(key_id));
}

int wire_keys_derive(struct wire_keys *out, const uint8_t secret[32], uint32_t key_id)
{
	int rc = expand_label(out->c2s_key, WIRE_KEY_BYTES, secret, WIRE_LABEL_C2S_KEY, key_id);

	if (!rc)
		rc = expand_label(out->c2s_iv, WIRE_IV_BYTES, secret, WIRE_LABEL_C2S_IV, key_id);
	if (!rc)
		rc = expand_label(out->s2c_key, WIRE_KEY_BYTES, secret, WIRE_LABEL_S2C_KEY, key_id);
	if (!rc)
		rc = expand_label(out->s2c_iv, WIRE_IV_BYTES, secret, WIRE_LABEL_S2C_IV, key_id);
	return rc;
}

int wire_secret_ratchet(uint8_t next[32], const uint8_t secret[32], uint32_t key_id)
{
	return expand_label(next, 32, secret, WIRE_LABEL_RATCHET, key_id);
}
