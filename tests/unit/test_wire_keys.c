/* SPDX-License-Identifier: BSD-3-Clause
 * HKDF against RFC 5869, and the protocol's key schedule against constants that Python's hmac and
 * `openssl kdf` computed (both agree): the test vector abi/wire.h refers to.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/hkdf.h"

static void assert_hex(const uint8_t *got, size_t n, const char *hex)
{
	char text[2 * 256 + 1];

	assert_true(n <= 256);
	for (size_t i = 0; i < n; i++)
		snprintf(text + 2 * i, 3, "%02x", got[i]);
	assert_string_equal(text, hex);
}

static void from_hex(uint8_t *out, size_t n, const char *hex)
{
	for (size_t i = 0; i < n; i++) {
		unsigned v = 0;

		sscanf(hex + 2 * i, "%2x", &v);
		out[i] = (uint8_t)v;
	}
}

static void expand_agrees_with_rfc_5869(void **state)
{
	static const struct {
		const char *prk;
		uint8_t info_first;
		size_t info_bytes;
		const char *okm;
	} vectors[] = {
		{"077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5", 0xf0, 10,
			"3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"},
		{"06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244", 0xb0, 80,
			"b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb"
			"41c65e590e09da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87"},
		{"19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04", 0, 0,
			"8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"},
	};

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		size_t n = strlen(vectors[i].okm) / 2;
		uint8_t prk[32], info[80], okm[128];

		from_hex(prk, 32, vectors[i].prk);
		for (size_t k = 0; k < sizeof(info); k++)
			info[k] = (uint8_t)(vectors[i].info_first + k);
		assert_int_equal(hkdf_expand(okm, n, prk, info, vectors[i].info_bytes), 0);
		assert_hex(okm, n, vectors[i].okm);
	}
}

static void expand_knows_its_limits(void **state)
{
	uint8_t prk[32] = {0}, out[8161], info[129] = {0};

	(void)state;
	assert_int_equal(hkdf_expand(out, 8161, prk, info, 0), -EINVAL);
	assert_int_equal(hkdf_expand(out, 8160, prk, info, 0), 0);
	assert_int_equal(hkdf_expand(out, 32, prk, info, 129), -EINVAL);
	assert_int_equal(hkdf_expand(out, 0, prk, info, 0), 0);
}

static void the_key_schedule_is_the_recorded_one(void **state)
{
	uint8_t secret[32], next[32];
	struct wire_keys k;

	(void)state;
	for (int i = 0; i < 32; i++)
		secret[i] = (uint8_t)i;
	assert_int_equal(wire_keys_derive(&k, secret, 0x01020304), 0);
	assert_hex(k.c2s_key, 32, "3271b7489a36a8fe4d1f5e38ce5f0ae4f6fdc69e64c5ce6412af7ab21c150a43");
	assert_hex(k.c2s_iv, 12, "b7fb87980def01b07decba76");
	assert_hex(k.s2c_key, 32, "03264c60328dbdd71c7a8bfebecb0c62417305277b5416e2d3b598f59f8a2888");
	assert_hex(k.s2c_iv, 12, "58a2c089f765bbb7eddbd8d5");
	assert_int_equal(wire_secret_ratchet(next, secret, 0x01020304), 0);
	assert_hex(next, 32, "e3ecf3b4befb3144d7b1c7fa10917bec772e60ead4e5848e343c710af5658c26");
	assert_int_equal(wire_secret_ratchet(secret, secret, 0x01020304), 0); /* in place */
	assert_memory_equal(secret, next, 32);
	assert_int_equal(wire_keys_derive(&k, next, 0x01020304), 0);
	assert_hex(k.c2s_key, 32, "3170253e523e547e693447401349d3f2c47301f057a39040cbf262d58cd3a421");
}

static void the_nonce_is_the_recorded_one(void **state)
{
	uint8_t iv[12], nonce[12];

	(void)state;
	from_hex(iv, 12, "b7fb87980def01b07decba76");
	wire_nonce(nonce, iv, 7, 0x1122334455667788);
	assert_hex(nonce, 12, "b0fb8798859867e539df9867");
}

static void different_key_ids_give_different_keys(void **state)
{
	uint8_t secret[32] = {0};
	struct wire_keys a, b;

	(void)state;
	assert_int_equal(wire_keys_derive(&a, secret, 1), 0);
	assert_int_equal(wire_keys_derive(&b, secret, 2), 0);
	assert_memory_not_equal(a.c2s_key, b.c2s_key, 32);
	assert_memory_not_equal(a.c2s_key, a.s2c_key, 32);
}

/* Reference values of 32-bit FNV-1a (Landon Curt Noll's test vectors). */
static void model_ids_are_fnv_1a(void **state)
{
	(void)state;
	assert_int_equal(wire_model_id(""), 0x811c9dc5);
	assert_int_equal(wire_model_id("a"), 0xe40c292c);
	assert_int_equal(wire_model_id("foobar"), 0xbf9cf968);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(expand_agrees_with_rfc_5869),
		cmocka_unit_test(expand_knows_its_limits),
		cmocka_unit_test(the_key_schedule_is_the_recorded_one),
		cmocka_unit_test(the_nonce_is_the_recorded_one),
		cmocka_unit_test(different_key_ids_give_different_keys),
		cmocka_unit_test(model_ids_are_fnv_1a),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
