/* SPDX-License-Identifier: BSD-3-Clause
 * AES-256-GCM on 512-bit vectors (VAES, VPCLMULQDQ, AVX-512): four lanes of aead_vaes.h a group. Masks let every
 * group be read and written alike, whatever lanes of it are text.
 */
#include "base/aead_vaes.h"

enum {
	LANES = 4,
	GROUP = LANES * VAES_LANE_BYTES,
	PART = 4,   /* groups whose key stream is made side by side; GHASH reduces every second one */
	FEWEST = 1, /* groups of a datagram */
};

STATIC_ASSERT(VAES_POWERS == 2 * LANES, "two groups between two reductions");

struct message {
	const struct vaes_key *key;
	uintptr_t text, src; /* of the next group's first lane: the first group's may lie in front of the text */
	uint32_t pad;        /* unused lanes in front: 0..3 */
	uint32_t groups;
	uint32_t last_bytes; /* of text in its last lane: 1..16 */
	__m128i header, tag_mask, lengths;
	__m512i counter; /* of the next group, last word little-endian */
	__m128i hash;    /* GHASH so far, byte-reversed */
};

/* ---- GHASH ---- */

MR_ALWAYS_INLINE __m512i reversed(__m512i x)
{
	return _mm512_shuffle_epi8(x, _mm512_broadcast_i32x4(vaes_byte_order()));
}

MR_ALWAYS_INLINE __m512i xor3(__m512i a, __m512i b, __m512i c)
{
	return _mm512_ternarylogic_epi64(a, b, c, 0x96);
}

/* The three parts of a sum of products, four lanes side by side. */
struct product {
	__m512i low, middle, high;
};

MR_ALWAYS_INLINE struct product multiplied(__m512i a, __m512i b)
{
	return (struct product){.low = _mm512_clmulepi64_epi128(a, b, 0x00),
		.middle = _mm512_xor_si512(_mm512_clmulepi64_epi128(a, b, 0x01), _mm512_clmulepi64_epi128(a, b, 0x10)),
		.high = _mm512_clmulepi64_epi128(a, b, 0x11)};
}

/* The sum of all lanes. */
MR_ALWAYS_INLINE __m128i fold_lanes(__m512i x)
{
	__m256i half = _mm256_xor_si256(_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64(x, 1));

	return _mm_xor_si128(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

MR_ALWAYS_INLINE __m128i product_reduce(const struct product *p)
{
	return vaes_reduce(fold_lanes(_mm512_xor_si512(p->low, _mm512_bslli_epi128(p->middle, 8))),
		fold_lanes(_mm512_xor_si512(p->high, _mm512_bsrli_epi128(p->middle, 8))));
}

/* Add one group, or two, byte-reversed, to the hash. */
MR_ALWAYS_INLINE void absorb(struct message *m, const __m512i *x, const int two)
{
	const __m512i *h = (const __m512i *)m->key->h;
	__m512i first = _mm512_xor_si512(x[0], _mm512_zextsi128_si512(m->hash));
	struct product p = multiplied(first, two ? h[0] : h[1]);

	if (two) {
		struct product q = multiplied(x[1], h[1]);

		p.low = _mm512_xor_si512(p.low, q.low);
		p.middle = _mm512_xor_si512(p.middle, q.middle);
		p.high = _mm512_xor_si512(p.high, q.high);
	}
	m->hash = product_reduce(&p);
}

/* ---- one datagram ---- */

MR_ALWAYS_INLINE void message_begin(struct message *m, struct wire_header header, uint8_t *text, const uint8_t *src,
	size_t n)
{
	uint32_t lanes = (uint32_t)((n + VAES_LANE_BYTES - 1) / VAES_LANE_BYTES) + 2;
	__m512i count;

	m->groups = (lanes + LANES - 1) / LANES;
	m->pad = LANES * m->groups - lanes;
	m->last_bytes = ((uint32_t)n - 1) % VAES_LANE_BYTES + 1;
	m->text = (uintptr_t)text - VAES_LANE_BYTES * (m->pad + 1);
	m->src = (uintptr_t)src - VAES_LANE_BYTES * (m->pad + 1);
	m->header = vaes_header(header);
	m->lengths = vaes_lengths(n);
	count = _mm512_sub_epi32(_mm512_set_epi32(4, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0),
		_mm512_maskz_set1_epi32(0x8888, (int)m->pad));
	m->counter = _mm512_add_epi32(_mm512_broadcast_i32x4(vaes_nonce(m->key, m->header)), count);
	m->hash = _mm_setzero_si128();
}

MR_ALWAYS_INLINE __m512i round_key(const struct vaes_key *k, int round)
{
	return _mm512_broadcast_i32x4(_mm_load_si128(&k->round[round]));
}

/* AES over the counters of `groups` groups, side by side. */
MR_ALWAYS_INLINE void key_stream(struct message *m, __m512i stream[PART], const uint32_t groups)
{
	const __m512i four = _mm512_maskz_set1_epi32(0x8888, LANES);
	const __m512i big_endian = _mm512_broadcast_i32x4(vaes_counter_order());
	__m512i k = round_key(m->key, 0);

#pragma GCC unroll 4
	for (uint32_t g = 0; g < groups; g++) {
		stream[g] = _mm512_xor_si512(_mm512_shuffle_epi8(m->counter, big_endian), k);
		m->counter = _mm512_add_epi32(m->counter, four);
	}
#pragma GCC unroll 16
	for (int r = 1; r < VAES_ROUNDS; r++) {
		k = round_key(m->key, r);
#pragma GCC unroll 4
		for (uint32_t g = 0; g < groups; g++)
			stream[g] = _mm512_aesenc_epi128(stream[g], k);
	}
	k = round_key(m->key, VAES_ROUNDS);
#pragma GCC unroll 4
	for (uint32_t g = 0; g < groups; g++)
		stream[g] = _mm512_aesenclast_epi128(stream[g], k);
}

/* The next group: crypt; returns what the hash takes. Only whole lanes are written: what is written behind the text
 * is overwritten by the tag, or was it. */
MR_ALWAYS_INLINE __m512i take_group(struct message *m, __m512i stream, const int first, const int last, const int seal)
{
	__mmask64 bytes = ~0ull;
	__mmask8 halves = 0xff; /* of lanes */
	__m512i in, out, x;

	if (first) {
		bytes = bytes << VAES_LANE_BYTES * m->pad << VAES_LANE_BYTES;
		halves = (__mmask8)(0xff << 2 * m->pad << 2);
		m->tag_mask = _mm512_castsi512_si128(_mm512_maskz_compress_epi64((__mmask8)(3 << 2 * m->pad), stream));
	}
	if (last) {
		bytes &= ~0ull >> (2 * VAES_LANE_BYTES - m->last_bytes);
		halves &= 0x3f;
	}
	in = first || last ? _mm512_maskz_loadu_epi8(bytes, (const void *)m->src) : _mm512_loadu_si512((const void *)m->src);
	out = _mm512_xor_si512(in, stream);
	if (first || last)
		_mm512_mask_storeu_epi64((void *)m->text, halves, out);
	else
		_mm512_storeu_si512((void *)m->text, out);
	x = !seal ? in : first || last ? _mm512_maskz_mov_epi8(bytes, out) : out;
	if (first)
		x = _mm512_mask_broadcast_i64x2(x, (__mmask8)(3 << 2 * m->pad), m->header);
	if (last)
		x = _mm512_inserti64x2(x, m->lengths, LANES - 1);
	m->src += GROUP;
	m->text += GROUP;
	return reversed(x);
}

/* The next `groups` groups: crypt, and add the ciphertext to the hash. All but `m` is constant, so that the vectors
 * stay in registers and only the group that is special pays for it. */
MR_ALWAYS_INLINE void part(struct message *m, const uint32_t groups, const int first, const int last, const int seal)
{
	__m512i stream[PART];

	key_stream(m, stream, groups);
#pragma GCC unroll 4
	for (uint32_t g = 0; g < groups; g++)
		stream[g] = take_group(m, stream[g], first && g == 0, last && g == groups - 1, seal);
	if (groups & 1)
		absorb(m, stream, 0);
#pragma GCC unroll 2
	for (uint32_t g = groups & 1; g < groups; g += 2)
		absorb(m, stream + g, 1);
}

#include "base/aead_vaes_body.h"

int aead_vaes512_supported(void)
{
	return aead_vaes_supported() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
	       __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

const struct aead_family aead_vaes512 = {
	.name = "vaes512",
	.key_bytes = sizeof(struct vaes_key),
	.expand = vaes_expand,
	.seal = seal,
	.open = open,
};
