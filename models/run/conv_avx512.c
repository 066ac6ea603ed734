/* SPDX-License-Identifier: BSD-3-Clause
 * Convolution and pooling with channels last, AVX-512: a panel is one vector, a tile 8 x 3 of the
 * thirty-two registers.
 */
#include <stdbool.h>

#include "models/run/conv.h"

#ifdef __AVX512F__ /* fuzzers build without: they use the scalar reference */
#include <immintrin.h>

enum { LANES = 16 };
typedef __m512 vec;
typedef __mmask16 vmask;

#define zero() _mm512_setzero_ps()
#define set1(x) _mm512_set1_ps(x)
#define load(p) _mm512_load_ps(p)
#define loadu(p) _mm512_loadu_ps(p)
#define storeu(p, v) _mm512_storeu_ps(p, v)
#define fma(a, b, c) _mm512_fmadd_ps(a, b, c)
#define add(a, b) _mm512_add_ps(a, b)
#define mul(a, b) _mm512_mul_ps(a, b)
#define max(a, b) _mm512_max_ps(a, b)
#define min(a, b) _mm512_min_ps(a, b)
#define nan_or(a, b) _mm512_mask_mov_ps(b, _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), a)
#define mask_load(p, m) _mm512_maskz_loadu_ps(m, p)
#define store_low(p, n, v) _mm512_mask_storeu_ps(p, mask_of(n), v)

static inline vmask mask_of(size_t n)
{
	uint32_t lanes = n >= LANES ? 0xffff : (1u << n) - 1;

	return (vmask)(lanes & 0xffff);
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
TILE(9, 1)
TILE(10, 1)
TILE(11, 1)
TILE(12, 1)
TILE(1, 2)
TILE(2, 2)
TILE(3, 2)
TILE(4, 2)
TILE(5, 2)
TILE(6, 2)
TILE(7, 2)
TILE(8, 2)
TILE(9, 2)
TILE(10, 2)
TILE(11, 2)
TILE(12, 2)
TILE(1, 3)
TILE(2, 3)
TILE(3, 3)
TILE(4, 3)
TILE(5, 3)
TILE(6, 3)
TILE(7, 3)
TILE(8, 3)
TILE(1, 4)
TILE(2, 4)
TILE(3, 4)

static const struct tile_table tiles = {
	.tile =
		{
			[1] = {NULL, tile_1x1, tile_2x1, tile_3x1, tile_4x1, tile_5x1, tile_6x1,
				tile_7x1, tile_8x1, tile_9x1, tile_10x1, tile_11x1, tile_12x1},
			[2] = {NULL, tile_1x2, tile_2x2, tile_3x2, tile_4x2, tile_5x2, tile_6x2,
				tile_7x2, tile_8x2, tile_9x2, tile_10x2, tile_11x2, tile_12x2},
			[3] = {NULL, tile_1x3, tile_2x3, tile_3x3, tile_4x3, tile_5x3, tile_6x3,
				tile_7x3, tile_8x3},
			[4] = {NULL, tile_1x4, tile_2x4, tile_3x4},
		},
	.most = {[1] = 12, [2] = 12, [3] = 8, [4] = 3},
	.wide = 3,
};

static void dense(const struct conv_block *b)
{
	dense_tiles(b, &tiles);
}

const struct conv_kernels conv_avx512 = {dense, depthwise, pool};
#endif
