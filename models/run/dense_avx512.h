/* SPDX-License-Identifier: BSD-3-Clause
 * What dense_avx512.c and dense_dot512.c share: a panel is one vector; 32 registers allow 8 rows x
 * 3 panels.
 */
#include <immintrin.h>

#include "models/run/dense.h"

#define INLINE static inline __attribute__((always_inline))
#define VECTORS vectors_avx512

enum {
	LANES = 16,
	MAX_ROWS = 8,
	MAX_PANELS = 4,
	MAX_CHAINS = 24,
	ALONE_CHAINS = 8, /* of a tile of one row and one panel */
	WIDEN_ROWS = 6,
	LARGE_BYTES = 131072
};

typedef __m512 vec;

INLINE __mmask16 tail_mask(size_t n)
{
	uint32_t lanes = n >= LANES ? 0xffff : (1u << n) - 1;

	return (__mmask16)(lanes & 0xffff);
}

INLINE vec vec_load(const float *x)
{
	return _mm512_load_ps(x);
}

INLINE vec vec_load_upto(const float *x, size_t n)
{
	return _mm512_maskz_loadu_ps(tail_mask(n), x);
}

INLINE vec vec_set1(float x)
{
	return _mm512_set1_ps(x);
}

INLINE vec vec_max(vec a, vec b)
{
	return _mm512_max_ps(a, b);
}

INLINE vec vec_mul(vec a, vec b)
{
	return _mm512_mul_ps(a, b);
}

INLINE vec vec_add(vec a, vec b)
{
	return _mm512_add_ps(a, b);
}

INLINE vec vec_fma(vec a, vec b, vec c)
{
	return _mm512_fmadd_ps(a, b, c);
}

/* The first n lanes. */
INLINE void vec_store(float *y, vec v, size_t n)
{
	_mm512_mask_storeu_ps(y, tail_mask(n), v);
}

INLINE float vec_total(vec v)
{
	return _mm512_reduce_add_ps(v);
}

INLINE vec vec_lower(vec w)
{
	return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(w), 16));
}

INLINE vec vec_upper(vec w)
{
	return _mm512_castsi512_ps(
		_mm512_and_si512(_mm512_castps_si512(w), _mm512_set1_epi32((int)0xffff0000)));
}

INLINE vec vec_zero_point(const int32_t *sums, int32_t zero)
{
	return _mm512_castsi512_ps(
		_mm512_mullo_epi32(_mm512_load_si512(sums), _mm512_set1_epi32(zero)));
}

INLINE vec vec_from_int(vec v)
{
	return _mm512_cvtepi32_ps(_mm512_castps_si512(v));
}

/* What to do with (kind, rows, panels, ways to split the steps) of every tile. */
#define TILES(DO, kind)                                                                            \
	DO(kind, 1, 1, ALONE_CHAINS)                                                               \
	DO(kind, 1, 2, 4) DO(kind, 1, 3, 3) DO(kind, 1, 4, 2) DO(kind, 2, 1, 1) DO(kind, 3, 1, 1)  \
		DO(kind, 4, 1, 1) DO(kind, 5, 1, 1) DO(kind, 6, 1, 1) DO(kind, 7, 1, 1)            \
			DO(kind, 8, 1, 1) DO(kind, 2, 2, 1) DO(kind, 3, 2, 1) DO(kind, 4, 2, 1)    \
				DO(kind, 5, 2, 1) DO(kind, 6, 2, 1) DO(kind, 7, 2, 1)              \
					DO(kind, 8, 2, 1) DO(kind, 2, 3, 1) DO(kind, 3, 3, 1)      \
						DO(kind, 4, 3, 1) DO(kind, 5, 3, 1)                \
							DO(kind, 6, 3, 1) DO(kind, 7, 3, 1)        \
								DO(kind, 8, 3, 1)

/* 3 + 1 panels would leave a tile too small to hide latency: take 2 + 2. One row: layers that fit
 * L1 finish soonest with four panels at once (fraud 0.12 against 0.16 us), larger ones are bound by
 * reading and want one stream (256 x 256: 86 against 58 GFLOP/s). */
static inline size_t group_panels(const struct tiles *t, size_t left)
{
	bool large = t->steps * DENSE_STEP_BYTES * dense_panels_of(t->out) >= LARGE_BYTES;
	size_t most = t->rows > 1 ? left == 4 ? 2 : 3 : large ? 1 : MAX_PANELS;

	return left < most ? left : most;
}

/* Rows of the next tile: all of about the same height, low ones leave units idle. */
static inline size_t tile_rows(size_t left)
{
	return left / ((left + MAX_ROWS - 1) / MAX_ROWS);
}
