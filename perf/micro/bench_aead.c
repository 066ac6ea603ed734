/* SPDX-License-Identifier: BSD-3-Clause
 * Nanoseconds to seal and to open one datagram: base/aead.h against OpenSSL's EVP, same run.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/evp.h>

#include "base/aead.h"
#include "base/clock.h"

enum { REPEAT = 200000, AAD = 16, MAX_BYTES = 1168 };

struct bench {
	struct aead aead;
	struct gcm_key_data *key;
	EVP_CIPHER_CTX *evp;
	uint8_t nonce[AEAD_IV_BYTES], aad[AAD], buffer[MAX_BYTES], tag[AEAD_TAG_BYTES];
};

static void ours_seal(struct bench *b, size_t n)
{
	aead_seal(&b->aead, b->key, b->nonce, b->aad, AAD, b->buffer, b->buffer, n, b->tag);
}

static void ours_open(struct bench *b, size_t n)
{
	aead_open(&b->aead, b->key, b->nonce, b->aad, AAD, b->buffer, b->buffer, n, b->tag);
}

static void evp_seal(struct bench *b, size_t n)
{
	int len;

	EVP_EncryptInit_ex(b->evp, NULL, NULL, NULL, b->nonce);
	EVP_EncryptUpdate(b->evp, NULL, &len, b->aad, AAD);
	EVP_EncryptUpdate(b->evp, b->buffer, &len, b->buffer, (int)n);
	EVP_EncryptFinal_ex(b->evp, b->buffer, &len);
	EVP_CIPHER_CTX_ctrl(b->evp, EVP_CTRL_AEAD_GET_TAG, AEAD_TAG_BYTES, b->tag);
}

/* Median of 9 rounds, ns a call. */
static double measure(struct bench *b, void (*run)(struct bench *, size_t), size_t n)
{
	double round[9];

	for (int r = 0; r < 9; r++) {
		uint64_t t0 = clock_now_ns();

		for (int i = 0; i < REPEAT / 9; i++) {
			memcpy(b->nonce, &i, sizeof(i));
			run(b, n);
		}
		round[r] = (double)(clock_now_ns() - t0) / (REPEAT / 9);
		for (int k = r; k > 0 && round[k] < round[k - 1]; k--) {
			double swap = round[k];

			round[k] = round[k - 1];
			round[k - 1] = swap;
		}
	}
	return round[4];
}

int main(void)
{
	static const size_t sizes[] = {48, 152, 256, MAX_BYTES};
	struct bench b = {0};
	uint8_t key[AEAD_KEY_BYTES] = {1, 2, 3};

	b.key = aligned_alloc(AEAD_KEY_ALIGN, aead_key_bytes());
	b.evp = EVP_CIPHER_CTX_new();
	if (!b.key || !b.evp || aead_init(&b.aead))
		return fprintf(stderr, "bench_aead: this machine has no AES instructions\n"), 1;
	aead_expand(&b.aead, b.key, key);
	EVP_EncryptInit_ex(b.evp, EVP_aes_256_gcm(), NULL, key, NULL);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		double seal = measure(&b, ours_seal, sizes[i]), open = measure(&b, ours_open, sizes[i]);
		double evp = measure(&b, evp_seal, sizes[i]);

		printf("{\"id\": \"aead.seal.%zu.ns\", \"value\": %.1f, \"unit\": \"ns\", "
		       "\"peer\": \"OpenSSL EVP\", \"peer_value\": %.1f, \"ratio\": %.2f}\n",
			sizes[i], seal, evp, evp / seal);
		printf("{\"id\": \"aead.open.%zu.ns\", \"value\": %.1f, \"unit\": \"ns\"}\n", sizes[i],
			open);
	}
	EVP_CIPHER_CTX_free(b.evp);
	aead_uninit(&b.aead);
	free(b.key);
	return 0;
}
