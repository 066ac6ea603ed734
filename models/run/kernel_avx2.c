/* SPDX-License-Identifier: BSD-3-Clause
 * Dense layers with AVX2 + FMA: a panel is two vectors. Sixteen registers allow 6 rows x 1 panel or
 * 1 x 4. Also the conversion of rows for reduced layers, which AVX-512 families share.
 */
#include "models/run/conv.h"
#include "models/run/dense.h"

#ifdef __AVX2__ /* fuzzers build without: they use the scalar reference */
#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))
#define VECTORS vectors_avx2

enum { LANES = 8, MAX_ROWS = 6, MAX_PANELS = 4, MAX_CHAINS = 12, ALONE_CHAINS = 4, WIDEN_ROWS = 6 };

typedef __m256 vec;

/* Lanes below n. */
INLINE __m256i tail_mask(size_t n)
{
	const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);

	return _mm256_cmpgt_epi32(_mm256_set1_epi32(n < LANES ? (int)n : LANES), lane);
}

INLINE vec vec_load(const float *x)
{
	return _mm256_load_ps(x);
}

INLINE vec vec_load_upto(const float *x, size_t n)
{
	return n >= LANES ? _mm256_loadu_ps(x) : _mm256_maskload_ps(x, tail_mask(n));
}

INLINE vec vec_set1(float x)
{
	return _mm256_set1_ps(x);
}

INLINE vec vec_max(vec a, vec b)
{
	return _mm256_max_ps(a, b);
}

INLINE vec vec_mul(vec a, vec b)
{
	return _mm256_mul_ps(a, b);
}

INLINE vec vec_add(vec a, vec b)
{
	return _mm256_add_ps(a, b);
}

INLINE vec vec_fma(vec a, vec b, vec c)
{
	return _mm256_fmadd_ps(a, b, c);
}

/* The first n lanes. */
INLINE void vec_store(float *y, vec v, size_t n)
{
	if (n >= LANES)
		_mm256_storeu_ps(y, v);
	else
		_mm256_maskstore_ps(y, tail_mask(n), v);
}

INLINE float vec_total(vec v)
{
	__m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));

	s = _mm_add_ps(s, _mm_movehl_ps(s, s));
	return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

INLINE vec vec_lower(vec w)
{
	return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(w), 16));
}

INLINE vec vec_upper(vec w)
{
	return _mm256_and_ps(w, _mm256_castsi256_ps(_mm256_set1_epi32((int)0xffff0000)));
}

INLINE vec vec_zero_point(const int32_t *sums, int32_t zero)
{
	return _mm256_castsi256_ps(_mm256_mullo_epi32(
		_mm256_load_si256((const __m256i *)sums), _mm256_set1_epi32(zero)));
}

INLINE vec vec_from_int(vec v)
{
	return _mm256_cvtepi32_ps(_mm256_castps_si256(v));
}

/* Four u8 x s8 products of each word: vpmaddubsw saturates its pairs at 16 bits, which the packing
 * of the weights rules out (models/compile/pack.c). */
INLINE vec multiply_int8(vec sum, vec x, vec w)
{
	__m256i pairs = _mm256_maddubs_epi16(_mm256_castps_si256(x), _mm256_castps_si256(w));
	__m256i quads = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));

	return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(sum), quads));
}

#define vec_multiply(kind, sum, x, w)                                                              \
	((kind) == KIND_INT8 ? multiply_int8(sum, x, w) : vec_fma(x, w, sum))
#define vec_sum2(kind, a, b)                                                                       \
	((kind) == KIND_INT8 ? _mm256_castsi256_ps(_mm256_add_epi32(                               \
				       _mm256_castps_si256(a), _mm256_castps_si256(b)))            \
			     : vec_add(a, b))

/* What to do with (kind, rows, panels, ways to split the steps) of every tile. */
#define TILES(DO, kind)                                                                            \
	DO(kind, 1, 1, ALONE_CHAINS)                                                               \
	DO(kind, 1, 2, 2) DO(kind, 1, 3, 1) DO(kind, 1, 4, 1) DO(kind, 2, 1, 3) DO(kind, 2, 2, 1)  \
		DO(kind, 3, 1, 2) DO(kind, 4, 1, 1) DO(kind, 5, 1, 1) DO(kind, 6, 1, 1)

/* Panels side by side. Few rows are bound by reading: several streams are read faster than one. */
static inline size_t group_panels(const struct tiles *t, size_t left)
{
	size_t most = t->rows == 1 ? MAX_PANELS : t->rows == 2 ? 2 : 1;

	return left < most ? left : most;
}

/* Rows of the next tile: all of about the same height, low ones leave units idle. Four rows have
 * exactly the eight chains that hide the latency, 5 + 3 more than that: 8 x 256 x 256 at 95 GFLOP/s
 * against 91 of 4 + 4 and 88 of 6 + 2 (peak 104). */
static inline size_t tile_rows(size_t left)
{
	size_t rows = left / ((left + MAX_ROWS - 1) / MAX_ROWS);

	if (rows == 4 && left > 4)
		return left == 8 ? 5 : 6;
	return rows;
}

#include "models/run/dense_tiles.h"

TILES_OF(KIND_F32)
TILES_OF(KIND_BF16)
TILES_OF(KIND_INT8)

static void dense_panels(const struct dense *d)
{
	dense_float(d, tiles_of_KIND_F32);
}

static void dense_bf16(const struct dense *d)
{
	dense_converted(d, KIND_BF16, tiles_of_KIND_BF16, tiles_of_KIND_F32);
}

void dense_avx2_int8(const struct dense *d)
{
	dense_converted(d, KIND_INT8, tiles_of_KIND_INT8, NULL);
}

/* ---- converting rows ---- */

/* To nearest, ties to even; a NaN stays one. */
INLINE __m256i round_bf16(__m256 x)
{
	__m256i bits = _mm256_castps_si256(x);
	__m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
	__m256i up = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
	__m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
	__m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));

	return _mm256_blendv_epi8(_mm256_add_epi32(bits, up), quiet, nan);
}

void dense_avx2_round_bf16(float *to, const float *x, size_t n)
{
	size_t padded = (n + PANEL - 1) / PANEL * PANEL;

	for (size_t i = 0; i < padded; i += LANES) {
		__m256i v = round_bf16(i < n ? vec_load_upto(x + i, n - i) : vec_set1(0));

		_mm256_store_ps(to + i, vec_upper(_mm256_castsi256_ps(v)));
	}
}

void dense_avx2_pairs_bf16(uint16_t *to, const float *x, size_t n)
{
	size_t padded = (n + PANEL - 1) / PANEL * PANEL;

	for (size_t i = 0; i < padded; i += PANEL) {
		__m256i a = round_bf16(vec_load_upto(x + i, n - i));
		__m256i b = round_bf16(
			i + LANES < n ? vec_load_upto(x + i + LANES, n - i - LANES) : vec_set1(0));
		__m256i both =
			_mm256_packus_epi32(_mm256_srli_epi32(a, 16), _mm256_srli_epi32(b, 16));

		_mm256_store_si256(
			(__m256i *)(to + i), _mm256_permute4x64_epi64(both, 0xd8 /* 0 2 1 3 */));
	}
}

/* Least, most and "any NaN" of x[0..n) and 0. */
INLINE void range_of(const float *x, size_t n, float *low, float *high)
{
	__m256 least = vec_set1(0), most = least, nan = least;
	float lanes[2][LANES];

	for (size_t i = 0; i < n; i += LANES) {
		__m256 v = vec_load_upto(x + i, n - i);

		least = _mm256_min_ps(least, v);
		most = _mm256_max_ps(most, v);
		nan = _mm256_or_ps(nan, _mm256_cmp_ps(v, v, _CMP_UNORD_Q));
	}
	_mm256_storeu_ps(lanes[0], least);
	_mm256_storeu_ps(lanes[1], most);
	*low = *high = 0;
	for (int i = 0; i < LANES; i++) {
		*low = lanes[0][i] < *low ? lanes[0][i] : *low;
		*high = lanes[1][i] > *high ? lanes[1][i] : *high;
	}
	if (_mm256_movemask_ps(nan))
		*low = *high = __builtin_nanf("");
}

INLINE __m256i quantise(__m256 x, const struct dense_row *q)
{
	__m256 v = _mm256_mul_ps(x, _mm256_set1_ps(q->inverse));

	v = _mm256_min_ps(_mm256_set1_ps(512), _mm256_max_ps(_mm256_set1_ps(-512), v));
	return _mm256_add_epi32(_mm256_cvtps_epi32(v), _mm256_set1_epi32(q->zero));
}

struct dense_row dense_avx2_quantise(const struct dense *d, uint8_t *to, const float *x)
{
	const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
	size_t n = d->in, end = dense_row_bytes(MODEL_LAYOUT_PANELS_INT8, n);
	struct dense_row q;
	float low, high;

	range_of(x, n, &low, &high);
	if (d->high > d->low && low <= high)
		q = dense_row_from(d->low, d->high);
	else
		q = dense_row_from(low, high);
	for (size_t i = 0; i < end; i += 4 * LANES) {
		__m256i v[4];

#pragma GCC unroll 4
		for (size_t j = 0; j < 4; j++) {
			size_t at = i + j * LANES;

			v[j] = quantise(at < n ? vec_load_upto(x + at, n - at) : vec_set1(0), &q);
		}
		v[0] = _mm256_packs_epi32(v[0], v[1]);
		v[2] = _mm256_packs_epi32(v[2], v[3]);
		v[0] = _mm256_packus_epi16(v[0], v[2]);
		_mm256_store_si256((__m256i *)(to + i), _mm256_permutevar8x32_epi32(v[0], order));
	}
	return q;
}

static const struct kernels avx2 = {
	.name = "avx2",
	.dense =
		{
			[MODEL_LAYOUT_PANELS] = dense_panels,
			[MODEL_LAYOUT_COLUMNS] = dense_narrow,
			[MODEL_LAYOUT_PANELS_BF16] = dense_bf16,
			[MODEL_LAYOUT_PANELS_INT8] = dense_avx2_int8,
		},
	.v = &vectors_avx2,
	.conv = &conv_avx2,
};

const struct kernels *kernels_avx2(void)
{
	return &avx2;
}
#else
const struct kernels *kernels_avx2(void)
{
	return NULL;
}
#endif
