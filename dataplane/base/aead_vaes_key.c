/* SPDX-License-Identifier: BSD-3-Clause
 * The expanded key of the VAES families: see aead_vaes.h.
 */
#include "base/aead_vaes.h"

/* FIPS 197 section 5.2: four words from the four eight words before and one transformed word. */
MR_ALWAYS_INLINE __m128i spread(__m128i key, __m128i assist)
{
	key = _mm_xor_si128(key, _mm_slli_si128(key, 4));
	key = _mm_xor_si128(key, _mm_slli_si128(key, 8));
	return _mm_xor_si128(key, assist);
}

/* Round keys i and i + 1; a macro because the round constant is part of the instruction. */
#define EXPAND_PAIR(k, i, constant)                                                                \
	((k)[i] = spread((k)[(i) - 2],                                                             \
		 _mm_shuffle_epi32(_mm_aeskeygenassist_si128((k)[(i) - 1], constant), 0xff)),      \
		(k)[(i) + 1] = spread((k)[(i) - 1],                                                \
			_mm_shuffle_epi32(_mm_aeskeygenassist_si128((k)[i], 0), 0xaa)))

static void expand_rounds(__m128i k[VAES_ROUNDS + 2], const uint8_t *key)
{
	k[0] = _mm_loadu_si128((const __m128i *)key);
	k[1] = _mm_loadu_si128((const __m128i *)(key + VAES_LANE_BYTES));
	EXPAND_PAIR(k, 2, 0x01);
	EXPAND_PAIR(k, 4, 0x02);
	EXPAND_PAIR(k, 6, 0x04);
	EXPAND_PAIR(k, 8, 0x08);
	EXPAND_PAIR(k, 10, 0x10);
	EXPAND_PAIR(k, 12, 0x20);
	EXPAND_PAIR(k, 14, 0x40);
}

/* x times a byte-reversed block: a shift by one bit, with the carry folded back. */
static __m128i times_x(__m128i h)
{
	__m128i carry = _mm_slli_si128(_mm_srli_epi64(h, 63), 8);
	__m128i top = _mm_shuffle_epi32(_mm_srai_epi32(h, 31), 0xff);
	__m128i fold = _mm_set_epi64x((int64_t)0xc200000000000000ull, 1);

	return _mm_xor_si128(_mm_or_si128(_mm_add_epi64(h, h), carry), _mm_and_si128(top, fold));
}

static __m128i multiply(__m128i a, __m128i b)
{
	__m128i middle = _mm_xor_si128(_mm_clmulepi64_si128(a, b, 0x01), _mm_clmulepi64_si128(a, b, 0x10));

	return vaes_reduce(_mm_xor_si128(_mm_clmulepi64_si128(a, b, 0x00), _mm_slli_si128(middle, 8)),
		_mm_xor_si128(_mm_clmulepi64_si128(a, b, 0x11), _mm_srli_si128(middle, 8)));
}

void vaes_expand(const struct aead *a, struct aead_key *out, const uint8_t *key, const uint8_t *iv)
{
	struct vaes_key *k = (struct vaes_key *)out;
	__m128i rounds[VAES_ROUNDS + 2], h;

	(void)a;
	expand_rounds(rounds, key);
	h = rounds[0]; /* H = AES(0) */
	for (int r = 1; r < VAES_ROUNDS; r++)
		h = _mm_aesenc_si128(h, rounds[r]);
	h = _mm_aesenclast_si128(h, rounds[VAES_ROUNDS]);
	h = times_x(_mm_shuffle_epi8(h, vaes_byte_order()));
	k->h[VAES_POWERS - 1] = h;
	for (int i = VAES_POWERS - 2; i >= 0; i--)
		k->h[i] = multiply(k->h[i + 1], h);
	for (int r = 0; r <= VAES_ROUNDS; r++)
		k->round[r] = rounds[r];
	k->iv = _mm_setzero_si128();
	__builtin_memcpy(&k->iv, iv, WIRE_IV_BYTES);
}
