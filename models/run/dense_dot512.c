/* SPDX-License-Identifier: BSD-3-Clause
 * Reduced dense layers with AVX-512's dot-product instructions: vpdpbusd (AVX512-VNNI) adds four
 * u8 x s8 products to each lane without saturating, vdpbf16ps (AVX512-BF16) two of bfloat16. The
 * latter rounds as it likes and takes denormals for zero: it is as near to the reference as other
 * families, not equal to them.
 */
#ifdef __AVX512BF16__
#include "models/run/dense_avx512.h"

/* In place: between the intrinsic's integers and the tiles' floats GCC 12 keeps a second copy of every
 * sum and spills half of them (1024 x 1024, 128 rows: 398 Gop/s against 772; Zen 5). */
#ifndef DOT_BY_INTRINSICS
INLINE vec multiply_int8(vec sum, vec x, vec w)
{
	__asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(w));
	return sum;
}
#else /* tests, in software */
INLINE vec multiply_int8(vec sum, vec x, vec w)
{
	return _mm512_castsi512_ps(_mm512_dpbusd_epi32(
		_mm512_castps_si512(sum), _mm512_castps_si512(x), _mm512_castps_si512(w)));
}
#endif

INLINE vec multiply_bf16(vec sum, vec x, vec w)
{
	return _mm512_dpbf16_ps(sum, (__m512bh)x, (__m512bh)w);
}

#define vec_multiply(kind, sum, x, w)                                                              \
	((kind) == KIND_INT8 ? multiply_int8(sum, x, w) : multiply_bf16(sum, x, w))
#define vec_sum2(kind, a, b)                                                                       \
	((kind) == KIND_INT8 ? _mm512_castsi512_ps(_mm512_add_epi32(                               \
				       _mm512_castps_si512(a), _mm512_castps_si512(b)))            \
			     : vec_add(a, b))

#include "models/run/dense_tiles.h"

TILES_OF(KIND_BF16_DOT)
TILES_OF(KIND_INT8)

void dense_vnni_int8(const struct dense *d)
{
	dense_converted(d, KIND_INT8, tiles_of_KIND_INT8, NULL);
}

void dense_dot_bf16(const struct dense *d)
{
	dense_converted(d, KIND_BF16_DOT, tiles_of_KIND_BF16_DOT, NULL);
}
#endif
