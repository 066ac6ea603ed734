/* SPDX-License-Identifier: BSD-3-Clause
 * Every AES-256-GCM family against OpenSSL, for every length of a datagram.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <openssl/evp.h>

#include "base/aead.h"

enum { MAX_BYTES = 1300, GUARD = 32, ROOM = GUARD + 32 + MAX_BYTES + GUARD, KEYS = 8 };

struct state {
	struct aead aead;
	struct aead_key *key;
	struct wire_header header;
	uint8_t raw[WIRE_KEY_BYTES], iv[WIRE_IV_BYTES];
	uint8_t plain[MAX_BYTES + 16];
	uint64_t seed;
};

static uint8_t draw(struct state *s)
{
	s->seed = s->seed * 6364136223846793005ull + 1442695040888963407ull;
	return (uint8_t)(s->seed >> 56);
}

static void fill(struct state *s, uint8_t *out, size_t n)
{
	for (size_t i = 0; i < n; i++)
		out[i] = draw(s);
}

/* The judge: header, ciphertext and tag. */
static void openssl_seal(const struct state *s, size_t n, uint8_t *datagram)
{
	EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
	uint8_t nonce[WIRE_IV_BYTES], *text = datagram + WIRE_HEADER_BYTES;
	int len;

	memcpy(datagram, &s->header, sizeof(s->header));
	wire_nonce(nonce, s->iv, s->header.lane, s->header.counter);
	assert_int_equal(EVP_EncryptInit_ex(c, EVP_aes_256_gcm(), NULL, s->raw, nonce), 1);
	assert_int_equal(EVP_EncryptUpdate(c, NULL, &len, datagram, WIRE_HEADER_BYTES), 1);
	assert_int_equal(EVP_EncryptUpdate(c, text, &len, s->plain, (int)n), 1);
	assert_int_equal(EVP_EncryptFinal_ex(c, text, &len), 1);
	assert_int_equal(
		EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, WIRE_TAG_BYTES, text + n), 1);
	EVP_CIPHER_CTX_free(c);
}

static void begin(struct state *s, const char *family)
{
	*s = (struct state){.seed = 42};
	if (aead_init_family(&s->aead, family)) {
		print_message("this CPU cannot run %s\n", family);
		skip();
	}
	s->key = aligned_alloc(AEAD_KEY_ALIGN, aead_key_bytes(&s->aead));
	assert_non_null(s->key);
}

static void next_key(struct state *s)
{
	fill(s, s->raw, sizeof(s->raw));
	fill(s, s->iv, sizeof(s->iv));
	aead_expand(&s->aead, s->key, s->raw, s->iv);
}

static void end(struct state *s)
{
	free(s->key);
	aead_uninit(&s->aead);
}

/* Between guards: no byte beside the datagram may change. */
static void seal_matches(struct state *s, size_t n, const uint8_t *want, int in_place)
{
	uint8_t room[ROOM], *at = room + GUARD, *text = at + WIRE_HEADER_BYTES;
	size_t bytes = WIRE_HEADER_BYTES + n + WIRE_TAG_BYTES;

	memset(room, 0xa5, sizeof(room));
	if (in_place)
		memcpy(text, s->plain, n);
	aead_seal(&s->aead, s->key, s->header, at, in_place ? text : s->plain, n);
	assert_memory_equal(at, want, bytes);
	for (size_t i = 0; i < GUARD; i++)
		assert_true(room[i] == 0xa5 && at[bytes + i] == 0xa5);
}

/* Does a copy of `datagram` with bit `flip` changed (-1: none) open? */
static int opens(struct state *s, const uint8_t *datagram, size_t n, long flip)
{
	uint8_t room[ROOM], *at = room + GUARD;
	size_t bytes = WIRE_HEADER_BYTES + n + WIRE_TAG_BYTES;
	struct wire_header header;
	int ok;

	memset(room, 0xa5, sizeof(room));
	memcpy(at, datagram, bytes);
	if (flip >= 0)
		at[flip / 8] ^= (uint8_t)(1u << (flip % 8));
	memcpy(&header, at, sizeof(header));
	ok = aead_open(&s->aead, s->key, header, at, n);
	if (ok)
		assert_memory_equal(at + WIRE_HEADER_BYTES, s->plain, n);
	for (size_t i = 0; i < GUARD; i++)
		assert_true(room[i] == 0xa5 && at[bytes + i] == 0xa5);
	return ok;
}

static void open_matches(struct state *s, size_t n, const uint8_t *datagram)
{
	long bits = (long)(WIRE_HEADER_BYTES + n + WIRE_TAG_BYTES) * 8;

	assert_true(opens(s, datagram, n, -1));
	for (long tries = 0; tries < 4; tries++)
		assert_false(opens(s, datagram, n, ((long)draw(s) << 8 | draw(s)) % bits));
	if (n == 24 || n == 152) /* and every single bit of two usual sizes */
		for (long flip = 0; flip < bits; flip++)
			assert_false(opens(s, datagram, n, flip));
}

static void family_matches_openssl(const char *family)
{
	uint8_t want[ROOM];
	struct state s;

	begin(&s, family);
	for (int k = 0; k < KEYS; k++) {
		next_key(&s);
		for (size_t n = 1; n <= MAX_BYTES; n++) {
			fill(&s, (uint8_t *)&s.header, sizeof(s.header));
			fill(&s, s.plain, n);
			openssl_seal(&s, n, want);
			seal_matches(&s, n, want, k & 1);
			open_matches(&s, n, want);
		}
	}
	end(&s);
}

static void vaes512_is_openssl_for_every_length(void **state)
{
	(void)state;
	family_matches_openssl("vaes512");
}

static void vaes_is_openssl_for_every_length(void **state)
{
	(void)state;
	family_matches_openssl("vaes");
}

static void ipsec_is_openssl_for_every_length(void **state)
{
	(void)state;
	family_matches_openssl("ipsec-mb");
}

static void unknown_family_is_refused(void **state)
{
	struct aead a;

	(void)state;
	assert_int_not_equal(aead_init_family(&a, "rot13"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(vaes512_is_openssl_for_every_length),
		cmocka_unit_test(vaes_is_openssl_for_every_length),
		cmocka_unit_test(ipsec_is_openssl_for_every_length),
		cmocka_unit_test(unknown_family_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
