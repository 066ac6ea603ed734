/* SPDX-License-Identifier: BSD-3-Clause
 * Convolution and pooling with channels last, AVX2 + FMA: a panel is two vectors, a tile 6 x 2 of
 * the sixteen registers, or 8 x 1.
 */
#include <stdbool.h>

#include "models/run/conv.h"

#ifdef __AVX2__ /* fuzzers build without: they use the scalar reference */
#include <immintrin.h>

enum { LANES = 8, WIDE = 2, WIDE_ROWS = 6 };
typedef __m256 vec;
typedef __m256i vmask;

#define zero() _mm256_setzero_ps()
#define set1(x) _mm256_set1_ps(x)
#define load(p) _mm256_load_ps(p)
#define loadu(p) _mm256_loadu_ps(p)
#define storeu(p, v) _mm256_storeu_ps(p, v)
#define fma(a, b, c) _mm256_fmadd_ps(a, b, c)
#define add(a, b) _mm256_add_ps(a, b)
#define mul(a, b) _mm256_mul_ps(a, b)
#define max(a, b) _mm256_max_ps(a, b)
#define min(a, b) _mm256_min_ps(a, b)
#define nan_or(a, b) _mm256_blendv_ps(b, a, _mm256_cmp_ps(a, a, _CMP_UNORD_Q))
#define mask_load(p, m) _mm256_maskload_ps(p, m)
#define mask_store(p, m, v) _mm256_maskstore_ps(p, m, v)

static inline vmask mask_of(size_t n)
{
	const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);

	return _mm256_cmpgt_epi32(_mm256_set1_epi32(n < LANES ? (int)n : LANES), lane);
}

#include "models/run/conv_vector.h"

const struct conv_kernels conv_avx2 = {dense, depthwise, pool};
#endif
