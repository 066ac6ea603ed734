/* SPDX-License-Identifier: BSD-3-Clause
 * API keys: "mr_" + 8 characters that find the subscriber + 33 characters of secret (196 bits), base62.
 * Only a salted HMAC-SHA-256 is kept; a look-up by id is followed by a constant-time compare.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "control/subscribers.h"

enum { API_KEY_ID = 8, API_KEY_SECRET = 33, API_KEY_LENGTH = 3 + API_KEY_ID + API_KEY_SECRET,
	API_KEY_SALT = 16, API_KEY_HASH = 32 };

struct api_key_hash {
	char id[API_KEY_ID + 1];
	uint8_t salt[API_KEY_SALT];
	uint8_t hash[API_KEY_HASH];
};

/* A new random key and what is stored of it. 0 or -EIO. */
int api_key_new(char key[API_KEY_BYTES], struct api_key_hash *out);
/* Well-formed? Then its id is copied. */
bool api_key_id(const char *key, char id[API_KEY_ID + 1]);
/* Constant time in the hash. Also called with a dummy when no id matches. */
bool api_key_matches(const char *key, const struct api_key_hash *h);
