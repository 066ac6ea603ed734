/* SPDX-License-Identifier: BSD-3-Clause
 * API keys: see api_key.h.
 */
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>
#include <sys/random.h>

#include "control/api_key.h"

static const char alphabet[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/* n characters, each of the 62 equally likely: bytes above 62 x 4 are thrown away. */
static int random_text(char *out, uint32_t n)
{
	uint32_t have = 0;

	while (have < n) {
		uint8_t bytes[64];

		if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes))
			return -EIO;
		for (uint32_t i = 0; i < sizeof(bytes) && have < n; i++)
			if (bytes[i] < 248)
				out[have++] = alphabet[bytes[i] % 62];
		OPENSSL_cleanse(bytes, sizeof(bytes));
	}
	return 0;
}

static int hash_key(const char *key, const uint8_t salt[API_KEY_SALT], uint8_t out[API_KEY_HASH])
{
	unsigned int n = API_KEY_HASH;

	return HMAC(EVP_sha256(), salt, API_KEY_SALT, (const unsigned char *)key, API_KEY_LENGTH, out,
		&n) ? 0 : -EIO;
}

int api_key_new(char key[API_KEY_BYTES], struct api_key_hash *out)
{
	int rc;

	memset(key, 0, API_KEY_BYTES);
	memset(out, 0, sizeof(*out));
	memcpy(key, "mr_", 3);
	rc = random_text(key + 3, API_KEY_ID + API_KEY_SECRET);
	if (!rc && getrandom(out->salt, sizeof(out->salt), 0) != sizeof(out->salt))
		rc = -EIO;
	memcpy(out->id, key + 3, API_KEY_ID);
	return rc ? rc : hash_key(key, out->salt, out->hash);
}

bool api_key_id(const char *key, char id[API_KEY_ID + 1])
{
	if (strnlen(key, API_KEY_BYTES) != API_KEY_LENGTH || memcmp(key, "mr_", 3) ||
		strspn(key + 3, alphabet) != API_KEY_ID + API_KEY_SECRET)
		return false;
	memcpy(id, key + 3, API_KEY_ID);
	id[API_KEY_ID] = 0;
	return true;
}

bool api_key_matches(const char *key, const struct api_key_hash *h)
{
	uint8_t hash[API_KEY_HASH];

	return !hash_key(key, h->salt, hash) && !CRYPTO_memcmp(hash, h->hash, sizeof(hash));
}
