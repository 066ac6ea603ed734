/* SPDX-License-Identifier: BSD-3-Clause
 * Nanoseconds to seal and to open one datagram: every family of base/aead.h, and OpenSSL's EVP, in
 * one run; then one request and its reply with the keys of many sessions, visited in random order, as
 * the worker does it: keys prefetched a burst ahead.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <openssl/evp.h>

#include "base/aead.h"
#include "base/clock.h"
#include "base/prefetch.h"

enum {
	REPEAT = 200000,
	ROUNDS = 50,
	MAX_BYTES = 1168,
	REQUEST_BYTES = 152, /* 32 floats behind the request's header */
	REPLY_BYTES = 28,
	BURST = 32,
};

struct bench {
	struct aead aead;
	struct aead_key *key;
	EVP_CIPHER_CTX *evp;
	struct wire_header header;
	uint8_t nonce[WIRE_IV_BYTES], src[MAX_BYTES + 16];
	/* As many as a burst has: none is read again while its bytes are still being stored. */
	uint8_t datagrams[BURST][WIRE_HEADER_BYTES + MAX_BYTES + WIRE_TAG_BYTES];
};

static uint8_t *datagram(struct bench *b)
{
	return b->datagrams[b->header.counter++ % BURST];
}

static void ours_seal(struct bench *b, size_t n)
{
	aead_seal(&b->aead, b->key, b->header, datagram(b), b->src, n);
}

static void ours_open(struct bench *b, size_t n)
{
	aead_open(&b->aead, b->key, b->header, datagram(b), n);
}

static void evp_seal(struct bench *b, size_t n)
{
	uint8_t *at = datagram(b), *text = at + WIRE_HEADER_BYTES;
	int len;

	memcpy(b->nonce, &b->header.counter, sizeof(b->header.counter));
	EVP_EncryptInit_ex(b->evp, NULL, NULL, NULL, b->nonce);
	EVP_EncryptUpdate(b->evp, NULL, &len, at, WIRE_HEADER_BYTES);
	EVP_EncryptUpdate(b->evp, text, &len, b->src, (int)n);
	EVP_EncryptFinal_ex(b->evp, text, &len);
	EVP_CIPHER_CTX_ctrl(b->evp, EVP_CTRL_AEAD_GET_TAG, WIRE_TAG_BYTES, text + n);
}

/* Fastest of the rounds, ns a call: the machine is shared, and only ever adds. */
static double measure(struct bench *b, void (*run)(struct bench *, size_t), size_t n)
{
	double best = 1e9;

	for (int r = 0; r < ROUNDS; r++) {
		uint64_t t0 = clock_now_ns();
		double ns;

		for (int i = 0; i < REPEAT / ROUNDS; i++)
			run(b, n);
		ns = (double)(clock_now_ns() - t0) / (REPEAT / ROUNDS);
		best = ns < best ? ns : best;
	}
	return best;
}

/* ---- many sessions ---- */

struct many {
	uint8_t *keys; /* per session: c2s, s2c */
	size_t bytes, stride;
	uint32_t *order;
	uint32_t sessions;
};

static int many_init(struct many *m, const struct bench *b, uint32_t sessions)
{
	uint64_t seed = 1;

	*m = (struct many){.sessions = sessions, .stride = 2 * aead_key_bytes(&b->aead)};
	m->bytes = m->stride * sessions;
	m->keys = mmap(NULL, m->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	m->order = malloc(REPEAT * sizeof(*m->order));
	if (m->keys == MAP_FAILED || !m->order)
		return -1;
	madvise(m->keys, m->bytes, MADV_HUGEPAGE);
	for (uint32_t i = 0; i < 2 * sessions; i++) {
		uint8_t raw[WIRE_KEY_BYTES] = {0};

		memcpy(raw, &i, sizeof(i));
		aead_expand(&b->aead, (struct aead_key *)(m->keys + i * (m->stride / 2)), raw, raw);
	}
	for (uint32_t i = 0; i < REPEAT; i++) {
		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		m->order[i] = (uint32_t)((seed >> 33) % sessions);
	}
	return 0;
}

static void many_uninit(struct many *m)
{
	munmap(m->keys, m->bytes);
	free(m->order);
}

static void prefetch(const uint8_t *key, size_t bytes)
{
	/* ipsec-mb reads its round keys and the powers of H that a short message needs. */
	prefetch_lines(key, bytes < 448 ? bytes : 448);
}

static double many_ns(struct bench *b, const struct many *m)
{
	size_t key_bytes = m->stride / 2;
	uint64_t t0 = clock_now_ns();

	for (uint32_t at = 0; at + BURST <= REPEAT; at += BURST) {
		for (uint32_t i = at; i < at + BURST; i++)
			prefetch(m->keys + m->order[i] * m->stride, key_bytes);
		for (uint32_t i = at; i < at + BURST; i++) {
			b->key = (struct aead_key *)(m->keys + m->order[i] * m->stride);
			ours_open(b, REQUEST_BYTES);
			prefetch((uint8_t *)b->key + key_bytes, key_bytes);
		}
		for (uint32_t i = at; i < at + BURST; i++) {
			b->key = (struct aead_key *)(m->keys + m->order[i] * m->stride + key_bytes);
			ours_seal(b, REPLY_BYTES);
		}
	}
	return (double)(clock_now_ns() - t0) / REPEAT;
}

/* ---- rows ---- */

static void row(const char *id, const char *family, size_t n, double ns, double peer_ns)
{
	printf("{\"id\": \"aead.%s.%s.%zu.ns\", \"value\": %.1f, \"unit\": \"ns\", "
	       "\"peer\": \"OpenSSL EVP, sealing\", \"peer_value\": %.1f, \"ratio\": %.2f}\n",
		family, id, n, ns, peer_ns, peer_ns / ns);
}

static int bench_family(struct bench *b, const char *family)
{
	static const size_t sizes[] = {REPLY_BYTES, 48, REQUEST_BYTES, 256, MAX_BYTES};
	static const uint32_t sessions[] = {1, 10000, 100000};
	struct aead_key *key;
	uint8_t raw[WIRE_KEY_BYTES] = {1, 2, 3};

	if (aead_init_family(&b->aead, family))
		return fprintf(stderr, "bench_aead: this CPU cannot run %s\n", family), 0;
	key = b->key = aligned_alloc(AEAD_KEY_ALIGN, aead_key_bytes(&b->aead));
	if (!key)
		return -1;
	aead_expand(&b->aead, b->key, raw, raw);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		double evp = measure(b, evp_seal, sizes[i]);

		row("seal", family, sizes[i], measure(b, ours_seal, sizes[i]), evp);
		row("open", family, sizes[i], measure(b, ours_open, sizes[i]), evp);
	}
	for (size_t i = 0; i < sizeof(sessions) / sizeof(sessions[0]); i++) {
		struct many m;
		double best = 1e9;

		if (many_init(&m, b, sessions[i]))
			return -1;
		for (int r = 0; r < 5; r++) {
			double ns = many_ns(b, &m);

			best = ns < best ? ns : best;
		}
		printf("{\"id\": \"aead.%s.s%u.ns\", \"value\": %.1f, \"unit\": \"ns a request\"}\n",
			family, sessions[i], best);
		many_uninit(&m);
	}
	free(key);
	aead_uninit(&b->aead);
	return 0;
}

int main(void)
{
	struct bench b = {.evp = EVP_CIPHER_CTX_new()};
	uint8_t raw[WIRE_KEY_BYTES] = {1, 2, 3};

	if (!b.evp)
		return 1;
	EVP_EncryptInit_ex(b.evp, EVP_aes_256_gcm(), NULL, raw, NULL);
	if (bench_family(&b, "vaes512") || bench_family(&b, "vaes") || bench_family(&b, "ipsec-mb"))
		return fprintf(stderr, "bench_aead: out of memory\n"), 1;
	EVP_CIPHER_CTX_free(b.evp);
	return 0;
}
