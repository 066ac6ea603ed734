/* SPDX-License-Identifier: BSD-3-Clause
 * AVX2 + FMA kernels: the same tiles as kernel_avx512.c with a panel held in two registers. Sixteen
 * registers allow 6 rows x 1 panel, 3 x 2 or 1 x 4.
 */
#include "models/run/conv.h"
#include "models/run/kernels.h"

#ifdef __AVX2__ /* fuzzers build without: they use the scalar reference */
#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))

enum { LANES = 8, PANEL = MODEL_FILE_PANEL, MAX_ROWS = 6, MAX_PANELS = 4 };

/* Lanes below n. */
INLINE __m256i tail_mask(size_t n)
{
	const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);

	return _mm256_cmpgt_epi32(_mm256_set1_epi32(n < LANES ? (int)n : LANES), lane);
}

/* ReLU, or none, is one max before the only store; other activations run over what was stored. */
INLINE __m256 floor_of(const struct dense *d)
{
	return _mm256_set1_ps(d->act.kind == MODEL_ACT_RELU ? 0.0f : -__builtin_inff());
}

INLINE void tile_store(const struct dense *d, size_t row, size_t col, __m256 v)
{
	float *y = d->y + row * d->out + col;

	v = _mm256_max_ps(floor_of(d), v);
	if (col + LANES <= d->out)
		_mm256_storeu_ps(y, v);
	else if (col < d->out)
		_mm256_maskstore_ps(y, tail_mask(d->out - col), v);
}

/* R and C are constants at every call: the loops over them become straight-line code. */
INLINE void tile(const struct dense *d, size_t row, size_t panel, const int R, const int C)
{
	const size_t in = d->in, step = in * PANEL;
	const float *x = d->x + row * in, *w = d->w + panel * step;
	__m256 acc[MAX_ROWS][2 * MAX_PANELS], wv[2 * MAX_PANELS];

#pragma GCC unroll 8
	for (int c = 0; c < 2 * C; c++) {
		__m256 start = d->bias ? _mm256_load_ps(d->bias + panel * PANEL + c * LANES)
				       : _mm256_setzero_ps();
#pragma GCC unroll 8
		for (int r = 0; r < R; r++)
			acc[r][c] = start;
	}
	for (size_t k = 0; k < in; k++) {
#pragma GCC unroll 8
		for (int c = 0; c < 2 * C; c++)
			wv[c] = _mm256_load_ps(w + c / 2 * step + k * PANEL + c % 2 * LANES);
#pragma GCC unroll 8
		for (int r = 0; r < R; r++) {
			__m256 xv = _mm256_broadcast_ss(x + r * in + k);

#pragma GCC unroll 8
			for (int c = 0; c < 2 * C; c++)
				acc[r][c] = _mm256_fmadd_ps(xv, wv[c], acc[r][c]);
		}
	}
#pragma GCC unroll 8
	for (int r = 0; r < R; r++) {
#pragma GCC unroll 8
		for (int c = 0; c < 2 * C; c++)
			tile_store(d, row + r, panel * PANEL + c * LANES, acc[r][c]);
	}
}

static void tile_row(const struct dense *d, size_t panel, size_t panels)
{
	switch (panels) {
	case 1:
		tile(d, d->rows - 1, panel, 1, 1);
		break;
	case 2:
		tile(d, d->rows - 1, panel, 1, 2);
		break;
	case 3:
		tile(d, d->rows - 1, panel, 1, 3);
		break;
	default:
		tile(d, d->rows - 1, panel, 1, 4);
		break;
	}
}

static void tile_1(const struct dense *d, size_t row, size_t panel, size_t rows)
{
	switch (rows) {
	case 1:
		tile(d, row, panel, 1, 1);
		break;
	case 2:
		tile(d, row, panel, 2, 1);
		break;
	case 3:
		tile(d, row, panel, 3, 1);
		break;
	case 4:
		tile(d, row, panel, 4, 1);
		break;
	case 5:
		tile(d, row, panel, 5, 1);
		break;
	default:
		tile(d, row, panel, 6, 1);
		break;
	}
}

/* Up to three rows: two panels a tile, or the few accumulators could not hide the latency. */
static size_t tile_few(const struct dense *d, size_t panel, size_t left)
{
	if (left < 2) {
		tile_1(d, 0, panel, d->rows);
		return 1;
	}
	if (d->rows == 2)
		tile(d, 0, panel, 2, 2);
	else
		tile(d, 0, panel, 3, 2);
	return 2;
}

static size_t panel_group(const struct dense *d, size_t panel, size_t left)
{
	if (d->rows == 1) {
		size_t n = left < MAX_PANELS ? left : MAX_PANELS;

		tile_row(d, panel, n);
		return n;
	}
	if (d->rows <= 3)
		return tile_few(d, panel, left);
	for (size_t row = 0; row < d->rows; row += MAX_ROWS)
		tile_1(d, row, panel, d->rows - row);
	return 1;
}

static void dense_panels(const struct dense *d)
{
	size_t panels = (d->out + PANEL - 1) / PANEL;

	for (size_t p = 0; p < panels;)
		p += panel_group(d, p, panels - p);
	if (d->act.kind > MODEL_ACT_RELU)
		vectors_avx2.unary(d->act, d->y, d->y, d->rows * d->out);
}

INLINE float sum256(__m256 v)
{
	__m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));

	s = _mm_add_ps(s, _mm_movehl_ps(s, s));
	return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

static float dot(const float *x, const float *w, size_t n)
{
	__m256 acc = _mm256_setzero_ps();
	size_t k = 0;

	for (; k + LANES <= n; k += LANES)
		acc = _mm256_fmadd_ps(_mm256_loadu_ps(x + k), _mm256_load_ps(w + k), acc);
	if (k < n)
		acc = _mm256_fmadd_ps(
			_mm256_maskload_ps(x + k, tail_mask(n - k)), _mm256_load_ps(w + k), acc);
	return sum256(acc);
}

static void dense_columns(const struct dense *d)
{
	size_t padded = (d->in + PANEL - 1) / PANEL * PANEL;

	for (size_t r = 0; r < d->rows; r++)
		for (size_t n = 0; n < d->out; n++)
			d->y[r * d->out + n] = (d->bias ? d->bias[n] : 0) +
					       dot(d->x + r * d->in, d->w + n * padded, d->in);
	if (d->act.kind != MODEL_ACT_NONE)
		vectors_avx2.unary(d->act, d->y, d->y, d->rows * d->out);
}

static const struct kernels avx2 = {
	.name = "avx2",
	.dense =
		{
			[MODEL_LAYOUT_PANELS] = dense_panels,
			[MODEL_LAYOUT_COLUMNS] = dense_columns,
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
