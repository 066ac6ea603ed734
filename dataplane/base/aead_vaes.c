/* SPDX-License-Identifier: BSD-3-Clause
 * AES-256-GCM on 256-bit vectors (VAES, VPCLMULQDQ, AVX2): two lanes of aead_vaes.h a group, and one pass over a
 * datagram.
 */
#include <cpuid.h>

#include "base/aead_vaes.h"

enum {
	ROUNDS = VAES_ROUNDS,
	LANE = VAES_LANE_BYTES,
	GROUP = 2 * LANE, /* bytes */
	PART = VAES_POWERS / 2, /* groups between two reductions */
	FEWEST = 2, /* groups of a datagram */
};

/* ---- GHASH ---- */

/* The three parts of a sum of 256-bit products, two lanes side by side. */
struct product {
	__m256i low, middle, high;
};

MR_ALWAYS_INLINE __m256i reversed(__m256i x)
{
	return _mm256_shuffle_epi8(x, _mm256_broadcastsi128_si256(vaes_byte_order()));
}

MR_ALWAYS_INLINE void product_add(struct product *p, __m256i a, __m256i b)
{
	__m256i middle = _mm256_xor_si256(_mm256_clmulepi64_epi128(a, b, 0x01),
		_mm256_clmulepi64_epi128(a, b, 0x10));

	p->low = _mm256_xor_si256(p->low, _mm256_clmulepi64_epi128(a, b, 0x00));
	p->middle = _mm256_xor_si256(p->middle, middle);
	p->high = _mm256_xor_si256(p->high, _mm256_clmulepi64_epi128(a, b, 0x11));
}

/* The sum of both lanes. */
MR_ALWAYS_INLINE __m128i fold_lanes(__m256i x)
{
	return _mm_xor_si128(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
}

/* The sum of both lanes' products, reduced. */
MR_ALWAYS_INLINE __m128i product_reduce(const struct product *p)
{
	__m128i low = fold_lanes(p->low), middle = fold_lanes(p->middle), high = fold_lanes(p->high);

	return vaes_reduce(_mm_xor_si128(low, _mm_slli_si128(middle, 8)), _mm_xor_si128(high, _mm_srli_si128(middle, 8)));
}

/* ---- one datagram ---- */

struct message {
	const struct vaes_key *key;
	uint8_t *text;      /* in the datagram, what is next of it */
	const uint8_t *src; /* where it is read: there too, or the sealer's buffer */
	size_t n;
	size_t pad; /* 1: an unused lane in front */
	size_t groups;
	__m128i header, tag_mask;
	__m256i counter;      /* of the next group, last word little-endian */
	__m128i hash;         /* GHASH so far, byte-reversed */
};

MR_ALWAYS_INLINE void message_begin(struct message *m, struct wire_header header, uint8_t *text, const uint8_t *src,
	size_t n)
{
	size_t lanes = (n + LANE - 1) / LANE + 2;
	__m256i count;

	m->text = text;
	m->src = src;
	m->n = n;
	m->header = vaes_header(header);
	m->pad = lanes & 1;
	m->groups = (lanes + 1) / 2;
	count = _mm256_set_epi32(2 - (int)m->pad, 0, 0, 0, 1 - (int)m->pad, 0, 0, 0);
	m->counter = _mm256_add_epi32(
		_mm256_broadcastsi128_si256(vaes_nonce(m->key, m->header)), count);
	m->hash = _mm_setzero_si128();
}

/* H^(2k+2) and H^(2k+1): the factors of the group that k groups follow. */
MR_ALWAYS_INLINE __m256i powers(const struct vaes_key *key, size_t k)
{
	return _mm256_load_si256((const __m256i *)&key->h[2 * (PART - 1 - k)]);
}

MR_ALWAYS_INLINE __m256i round_key(const struct vaes_key *k, int round)
{
	return _mm256_broadcastsi128_si256(_mm_load_si128(&k->round[round]));
}

/* AES over the counters of `groups` groups, side by side. */
MR_ALWAYS_INLINE void key_stream(struct message *m, __m256i stream[PART], const size_t groups)
{
	const __m256i two = _mm256_set_epi32(2, 0, 0, 0, 2, 0, 0, 0);
	const __m256i big_endian = _mm256_broadcastsi128_si256(vaes_counter_order());
	__m256i k = round_key(m->key, 0);

#pragma GCC unroll 4
	for (size_t g = 0; g < groups; g++) {
		stream[g] = _mm256_xor_si256(_mm256_shuffle_epi8(m->counter, big_endian), k);
		m->counter = _mm256_add_epi32(m->counter, two);
	}
#pragma GCC unroll 16
	for (int r = 1; r < ROUNDS; r++) {
		k = round_key(m->key, r);
#pragma GCC unroll 4
		for (size_t g = 0; g < groups; g++)
			stream[g] = _mm256_aesenc_epi128(stream[g], k);
	}
	k = round_key(m->key, ROUNDS);
#pragma GCC unroll 4
	for (size_t g = 0; g < groups; g++)
		stream[g] = _mm256_aesenclast_epi128(stream[g], k);
}

/* One or two blocks of text at `m->text`; returns what the hash takes. */
MR_ALWAYS_INLINE __m128i crypt_lane(struct message *m, __m128i stream, const int seal)
{
	__m128i in = _mm_loadu_si128((const __m128i *)m->src);
	__m128i out = _mm_xor_si128(in, stream);

	_mm_storeu_si128((__m128i *)m->text, out);
	m->src += LANE;
	m->text += LANE;
	return seal ? out : in;
}

MR_ALWAYS_INLINE __m256i whole_group(struct message *m, __m256i stream, const int seal)
{
	__m256i in = _mm256_loadu_si256((const __m256i *)m->src);
	__m256i out = _mm256_xor_si256(in, stream);

	_mm256_storeu_si256((__m256i *)m->text, out);
	m->src += GROUP;
	m->text += GROUP;
	return seal ? out : in;
}

/* (pad | header) or (header | first block); the tag mask comes from the header's lane. */
MR_ALWAYS_INLINE __m256i first_group(struct message *m, __m256i stream, const int seal)
{
	__m128i low = _mm256_castsi256_si128(stream), high = _mm256_extracti128_si256(stream, 1);

	if (m->pad) {
		m->tag_mask = high;
		return _mm256_set_m128i(m->header, _mm_setzero_si128());
	}
	m->tag_mask = low;
	return _mm256_set_m128i(crypt_lane(m, high, seal), m->header);
}

/* (last block | lengths). What is written behind the text is overwritten by the tag, or was it. */
MR_ALWAYS_INLINE __m256i last_group(struct message *m, __m256i stream, const int seal)
{
	static const uint8_t ones_zeros[2 * LANE] = {255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
		255, 255, 255, 255, 255, 255};
	size_t left = (m->n - 1) % LANE + 1;
	__m128i keep = _mm_loadu_si128((const __m128i *)(ones_zeros + LANE - left));
	__m128i x = crypt_lane(m, _mm256_castsi256_si128(stream), seal);

	return _mm256_set_m128i(vaes_lengths(m->n), _mm_and_si128(x, keep));
}

/* The next `groups` groups: crypt, and add the ciphertext to the hash. All but `m` is constant, so that
 * the vectors stay in registers and only the group that is special pays for it. */
MR_ALWAYS_INLINE void part(struct message *m, const size_t groups, const int first, const int last,
	const int seal)
{
	struct product sum = {0};
	__m256i stream[PART];

	key_stream(m, stream, groups);
#pragma GCC unroll 4
	for (size_t k = 0; k < groups; k++) {
		__m256i x;

		if (first && k == 0)
			x = first_group(m, stream[k], seal);
		else if (last && k == groups - 1)
			x = last_group(m, stream[k], seal);
		else
			x = whole_group(m, stream[k], seal);
		x = reversed(x);
		if (!first && k == 0)
			x = _mm256_xor_si256(x, _mm256_zextsi128_si256(m->hash));
		product_add(&sum, x, powers(m->key, groups - 1 - k));
	}
	m->hash = product_reduce(&sum);
}

#include "base/aead_vaes_body.h"

int aead_vaes_supported(void)
{
	uint32_t a, b, c, d;

	__builtin_cpu_init();
	if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("pclmul"))
		return 0; /* AVX2's answer includes the operating system's */
	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_AES))
		return 0;
	return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (c & bit_VAES) && (c & bit_VPCLMULQDQ);
}

const struct aead_family aead_vaes = {
	.name = "vaes",
	.key_bytes = sizeof(struct vaes_key),
	.expand = vaes_expand,
	.seal = seal,
	.open = open,
};
