/* SPDX-License-Identifier: BSD-3-Clause
 * The sealing core against an independent implementation of the protocol page: OpenSSL's HKDF and
 * AES-256-GCM, nonce and offsets written out from abi/wire.h's drawing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

#include "client/channel.h"

enum { KEY_ID = 0x01020304, ROW_BYTES = 40 };

static uint8_t secret[32];
static struct aead aead;

static void t_hkdf(uint8_t *out, size_t n, const char *label)
{
	uint8_t info[64];
	size_t len = strlen(label);
	int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
	EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(kdf);

	memcpy(info, label, len);
	memcpy(info + len, "\x04\x03\x02\x01", 4);
	OSSL_PARAM params[] = {OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
		OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)"SHA256", 0),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, secret, sizeof(secret)),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info, len + 4),
		OSSL_PARAM_construct_end()};
	assert_int_equal(EVP_KDF_derive(ctx, out, n, params), 1);
	EVP_KDF_CTX_free(ctx);
	EVP_KDF_free(kdf);
}

/* data[0..n) = header 16 | body | tag 16; sealed or opened in place. Returns whether the tag fits. */
static int t_gcm(uint8_t *data, size_t n, const char *direction, int seal)
{
	uint8_t key[32], iv[12];
	char label[64];
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	int len, ok;

	snprintf(label, sizeof(label), "millrace v1 %s key", direction);
	t_hkdf(key, sizeof(key), label);
	snprintf(label, sizeof(label), "millrace v1 %s iv", direction);
	t_hkdf(iv, sizeof(iv), label);
	iv[0] ^= data[2]; /* lane */
	iv[1] ^= data[3];
	for (int i = 0; i < 8; i++) /* counter */
		iv[4 + i] ^= data[8 + i];
	EVP_CipherInit_ex(ctx, EVP_aes_256_gcm(), NULL, key, iv, seal);
	EVP_CipherUpdate(ctx, NULL, &len, data, 16);
	EVP_CipherUpdate(ctx, data + 16, &len, data + 16, (int)n - 32);
	if (!seal)
		EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, 16, data + n - 16);
	ok = EVP_CipherFinal_ex(ctx, data + n - 16, &len);
	if (seal)
		EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, 16, data + n - 16);
	EVP_CIPHER_CTX_free(ctx);
	return ok;
}

/* A result reply of one row (bytes 0, 1, 2, ...) as a server would send it. */
static size_t t_reply(uint8_t out[WIRE_MAX_PAYLOAD_BYTES], uint64_t counter)
{
	struct wire_header h = {.type = 0x12, .key_id = KEY_ID, .counter = counter};
	struct wire_reply r = {.request_id = 77, .model_id = 5, .dtype = WIRE_F32,
		.segment_count = 1, .rows = 1, .detail = 3};
	size_t n = 16 + 24 + ROW_BYTES + 16;

	memcpy(out, &h, 16);
	memcpy(out + 16, &r, 24);
	for (uint8_t i = 0; i < ROW_BYTES; i++)
		out[40 + i] = i;
	t_gcm(out, n, "s2c", 1);
	return n;
}

static enum channel_verdict t_open(struct channel *ch, const uint8_t *datagram, size_t n)
{
	uint8_t copy[WIRE_MAX_PAYLOAD_BYTES + 64];
	struct wire_reply reply;
	const uint8_t *rows;
	size_t bytes;

	memcpy(copy, datagram, n);
	return channel_open_reply(ch, copy, n, &reply, &rows, &bytes);
}

static int set_up(void **state)
{
	static struct channel ch;

	for (uint8_t i = 0; i < 32; i++)
		secret[i] = i;
	assert_int_equal(channel_init(&ch, &aead, secret, KEY_ID, 0, CHANNEL_CLIENT), 0);
	*state = &ch;
	return 0;
}

static int tear_down(void **state)
{
	channel_uninit(*state);
	return 0;
}

static void a_sealed_request_opens_with_openssl(void **state)
{
	struct wire_request q = {.request_id = 9, .model_id = 5, .dtype = WIRE_F32,
		.segment_count = 1, .rows = 1};
	uint8_t rows[ROW_BYTES] = {1, 2, 3}, d[WIRE_MAX_PAYLOAD_BYTES];

	for (uint64_t counter = 0; counter < 3; counter++) {
		int n = channel_seal_request(*state, &q, rows, sizeof(rows), d, sizeof(d));

		assert_int_equal(n, 16 + 24 + ROW_BYTES + 16);
		assert_int_equal(d[0], 0x11);
		assert_memory_equal(d + 8, &counter, 8);
		assert_true(t_gcm(d, (size_t)n, "c2s", 0));
		assert_memory_equal(d + 16, &q, 24);
		assert_memory_equal(d + 40, rows, sizeof(rows));
	}
}

static void a_request_longer_than_a_payload_is_refused(void **state)
{
	static uint8_t rows[WIRE_SEGMENT_ROW_BYTES + 1], d[2048];
	struct wire_request q = {.rows = 1};

	assert_int_equal(channel_seal_request(*state, &q, rows, sizeof(rows), d, sizeof(d)), -EMSGSIZE);
	assert_int_equal(channel_seal_request(*state, &q, rows, 100, d, 100), -EMSGSIZE);
	assert_int_equal(channel_seal_request(*state, &q, rows, sizeof(rows) - 1, d, sizeof(d)),
		WIRE_MAX_PAYLOAD_BYTES);
}

static void a_reply_sealed_by_openssl_opens_once(void **state)
{
	uint8_t d[WIRE_MAX_PAYLOAD_BYTES];
	size_t n = t_reply(d, 4), bytes;
	struct wire_reply reply;
	const uint8_t *rows;

	assert_int_equal(channel_open_reply(*state, d, n, &reply, &rows, &bytes), CHANNEL_OK);
	assert_int_equal(reply.request_id, 77);
	assert_int_equal(bytes, ROW_BYTES);
	assert_int_equal(rows[ROW_BYTES - 1], ROW_BYTES - 1);
	t_reply(d, 4);
	assert_int_equal(t_open(*state, d, n), CHANNEL_REPLAY);
}

static void every_flipped_bit_and_every_length_is_refused(void **state)
{
	uint8_t d[WIRE_MAX_PAYLOAD_BYTES + 64];
	size_t n = t_reply(d, 1);

	for (size_t bit = 0; bit < n * 8; bit++) {
		d[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_int_not_equal(t_open(*state, d, n), CHANNEL_OK);
		d[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	for (size_t shorter = 0; shorter < n; shorter++)
		assert_int_not_equal(t_open(*state, d, shorter), CHANNEL_OK);
	assert_int_equal(t_open(*state, d, WIRE_MAX_PAYLOAD_BYTES + 1), CHANNEL_LENGTH);
	assert_int_equal(t_open(*state, d, n), CHANNEL_OK);
}

static void another_type_key_lane_or_epoch_is_named(void **state)
{
	uint8_t d[WIRE_MAX_PAYLOAD_BYTES];
	size_t n = t_reply(d, 1);

	d[0] = 0x11;
	assert_int_equal(t_open(*state, d, n), CHANNEL_HEADER);
	d[0] = 0x12;
	d[1] = 1;
	assert_int_equal(t_open(*state, d, n), CHANNEL_HEADER);
	d[1] = 0;
	d[2] = 1;
	assert_int_equal(t_open(*state, d, n), CHANNEL_HEADER);
	d[2] = 0;
	d[4] ^= 1;
	assert_int_equal(t_open(*state, d, n), CHANNEL_KEY_ID);
}

static void the_window_takes_late_counters_once_and_refuses_old_ones(void **state)
{
	static const struct {
		uint64_t counter;
		enum channel_verdict verdict;
	} steps[] = {{10000, CHANNEL_OK}, {9999, CHANNEL_OK}, {9999, CHANNEL_REPLAY},
		{10001 - WINDOW_SIZE, CHANNEL_OK}, {10000 - WINDOW_SIZE, CHANNEL_REPLAY},
		{10000, CHANNEL_REPLAY}, {1ull << 40, CHANNEL_OK}, {10001, CHANNEL_REPLAY},
		{(1ull << 40) - 1, CHANNEL_OK}, {(1ull << 40) + 8192, CHANNEL_OK},
		{(1ull << 40) + 1, CHANNEL_REPLAY}, {(1ull << 40) + 66, CHANNEL_OK}};
	uint8_t d[WIRE_MAX_PAYLOAD_BYTES];

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		size_t n = t_reply(d, steps[i].counter);

		assert_int_equal(t_open(*state, d, n), steps[i].verdict);
	}
}

static void client_and_server_ends_understand_each_other(void **state)
{
	struct wire_request q = {.request_id = 1, .rows = 1, .segment_count = 1}, got;
	struct wire_reply r = {.request_id = 1, .status = WIRE_OVERLOADED, .segment_count = 1,
		.retry_after_us = 50}, back;
	uint8_t d[WIRE_MAX_PAYLOAD_BYTES];
	struct channel server;
	const uint8_t *rows;
	size_t bytes;
	int n;

	assert_int_equal(channel_init(&server, &aead, secret, KEY_ID, 0, CHANNEL_SERVER), 0);
	n = channel_seal_request(*state, &q, "abcd", 4, d, sizeof(d));
	assert_int_equal(channel_open_request(&server, d, (size_t)n, &got, &rows, &bytes), CHANNEL_OK);
	assert_memory_equal(&got, &q, sizeof(q));
	assert_memory_equal(rows, "abcd", 4);
	n = channel_seal_reply(&server, &r, NULL, 0, d, sizeof(d));
	assert_int_equal(channel_open_reply(*state, d, (size_t)n, &back, &rows, &bytes), CHANNEL_OK);
	assert_int_equal(back.retry_after_us, 50);
	assert_int_equal(bytes, 0);
	channel_uninit(&server);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_sealed_request_opens_with_openssl),
		TEST(a_request_longer_than_a_payload_is_refused),
		TEST(a_reply_sealed_by_openssl_opens_once),
		TEST(every_flipped_bit_and_every_length_is_refused),
		TEST(another_type_key_lane_or_epoch_is_named),
		TEST(the_window_takes_late_counters_once_and_refuses_old_ones),
		TEST(client_and_server_ends_understand_each_other),
	};
	int rc;

	if (aead_init(&aead))
		return 1;
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	aead_uninit(&aead);
	return rc;
}
