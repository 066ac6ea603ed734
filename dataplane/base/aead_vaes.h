/* SPDX-License-Identifier: BSD-3-Clause
 * What the VAES families share: the expanded key and the arithmetic on single blocks. Private to aead_vaes*.c.
 *
 * A datagram is a row of 16-byte lanes, several to a vector ("group"), with lanes of padding in front that fill the
 * first group:
 *
 *   lane      (pad)      header       text blocks         last text block, lengths
 *   GHASH     zero       as it is     ciphertext          zero-padded, in bits
 *   AES       unused     tag mask     key stream          key stream, unused
 *
 * The row ends with a full group, so every group is multiplied by consecutive powers of H that end at a multiple of
 * the group (leading zeros do not change GHASH); counters count lanes; and only the first and the last group are
 * special.
 *
 * GHASH works on byte-reversed blocks with H multiplied by x beforehand, so that a product needs no shift, and
 * reduces with two multiplications by the folded polynomial: Gueron and Kounavis, "Intel Carry-Less Multiplication
 * Instruction and its Usage for Computing the GCM Mode" (2014). Eight powers are stored, so that a request of 32
 * floats reduces twice: with many sessions every further cache line of a key costs more than it saves
 * (perf/micro/bench_aead.c).
 */
#pragma once

#include <immintrin.h>

#include "base/aead_family.h"

enum { VAES_ROUNDS = 14, VAES_LANE_BYTES = 16, VAES_POWERS = 8 };

struct vaes_key {
	__m128i h[VAES_POWERS]; /* H^8 .. H^1, each times x */
	__m128i round[VAES_ROUNDS + 1];
	__m128i iv; /* four zero bytes behind it */
} MR_ALIGNED(AEAD_KEY_ALIGN);

STATIC_ASSERT(sizeof(struct vaes_key) == 384, "six cache lines");

MR_ALWAYS_INLINE __m128i vaes_byte_order(void)
{
	return _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}

/* Turns the counter, the last word of a nonce, from little-endian to big-endian. */
MR_ALWAYS_INLINE __m128i vaes_counter_order(void)
{
	return _mm_set_epi8(12, 13, 14, 15, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
}

MR_ALWAYS_INLINE __m128i vaes_header(struct wire_header header)
{
	uint64_t words[2];

	__builtin_memcpy(words, &header, sizeof(words));
	return _mm_set_epi64x((int64_t)words[1], (int64_t)words[0]);
}

/* Nonce = IV xor (lane | 0 | counter): abi/wire.h. */
MR_ALWAYS_INLINE __m128i vaes_nonce(const struct vaes_key *k, __m128i header)
{
	const __m128i pick = _mm_set_epi8(-1, -1, -1, -1, 15, 14, 13, 12, 11, 10, 9, 8, -1, -1, 3, 2);

	return _mm_xor_si128(k->iv, _mm_shuffle_epi8(header, pick));
}

/* GHASH's last block. */
MR_ALWAYS_INLINE __m128i vaes_lengths(size_t text_bytes)
{
	return _mm_set_epi64x((int64_t)__builtin_bswap64(text_bytes * 8),
		(int64_t)__builtin_bswap64(WIRE_HEADER_BYTES * 8));
}

/* high * 2^128 + low modulo x^128 + x^7 + x^2 + x + 1. */
MR_ALWAYS_INLINE __m128i vaes_reduce(__m128i low, __m128i high)
{
	const __m128i fold = _mm_set1_epi64x((int64_t)0xc200000000000000ull);

	low = _mm_xor_si128(_mm_shuffle_epi32(low, 0x4e), _mm_clmulepi64_si128(low, fold, 0x00));
	low = _mm_xor_si128(_mm_shuffle_epi32(low, 0x4e), _mm_clmulepi64_si128(low, fold, 0x00));
	return _mm_xor_si128(low, high);
}

void vaes_expand(const struct aead *a, struct aead_key *out, const uint8_t *key, const uint8_t *iv);
