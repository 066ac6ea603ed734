/* SPDX-License-Identifier: BSD-3-Clause
 * Convolution and pooling with channels last, AVX2 + FMA: a panel is two vectors, a tile 6 x 2 of
 * the sixteen registers, or 8 x 1.
 */
#include <stdbool.h>

#include "models/run/conv.h"

#ifdef __AVX2__ /* fuzzers build without: they use the scalar reference */
#include <immintrin.h>

enum { LANES = 8 };
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

static inline vmask mask_of(size_t n)
{
	const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);

	return _mm256_cmpgt_epi32(_mm256_set1_epi32(n < LANES ? (int)n : LANES), lane);
}

/* vmaskmovps stores take some twenty cycles on AMD before Zen 4: store 4, 2 and 1 instead. */
static inline void store_low(float *to, size_t n, vec v)
{
	__m128 part = _mm256_castps256_ps128(v);

	if (n & 4) {
		_mm_storeu_ps(to, part);
		part = _mm256_extractf128_ps(v, 1);
		to += 4;
	}
	if (n & 2) {
		_mm_storel_pi((__m64 *)to, part);
		part = _mm_movehl_ps(part, part);
		to += 2;
	}
	if (n & 1)
		_mm_store_ss(to, part);
}

#include "models/run/conv_vector.h"

TILE(1, 1)
TILE(2, 1)
TILE(3, 1)
TILE(4, 1)
TILE(5, 1)
TILE(6, 1)
TILE(7, 1)
TILE(8, 1)
TILE(1, 2)
TILE(2, 2)
TILE(3, 2)
TILE(4, 2)
TILE(5, 2)
TILE(6, 2)
TILE(1, 4)
TILE(2, 4)
TILE(3, 4)

static const struct tile_table tiles = {
	.tile =
		{
			[1] = {NULL, tile_1x1, tile_2x1, tile_3x1, tile_4x1, tile_5x1, tile_6x1,
				tile_7x1, tile_8x1},
			[2] = {NULL, tile_1x2, tile_2x2, tile_3x2, tile_4x2, tile_5x2, tile_6x2},
			[4] = {NULL, tile_1x4, tile_2x4, tile_3x4},
		},
	.most = {[1] = 8, [2] = 6, [4] = 3},
	.wide = 2,
};

static void dense(const struct conv_block *b)
{
	dense_tiles(b, &tiles);
}

const struct conv_kernels conv_avx2 = {dense, depthwise, pool};
#endif
