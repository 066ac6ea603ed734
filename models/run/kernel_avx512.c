/* SPDX-License-Identifier: BSD-3-Clause
 * AVX-512 kernels. Dense layers are computed in register tiles of R rows x C panels: per k, C
 * weight vectors are loaded once and meet R broadcast inputs, so a tile of 8 x 3 does 24 FMAs for
 * 11 loads; bias and ReLU are applied before the only store. Figures: models/README.md.
 *
 *            panel p   p+1   p+2            acc[r][c] += x[r][k] * w[p + c][k][0..15]
 *   row r    [acc]    [acc]  [acc]
 *   ...                                     panels outside, rows inside: a weight panel is read
 *   row r+7  [acc]    [acc]  [acc]          from memory once and from L2 for every further tile
 */
#include "models/run/conv.h"
#include "models/run/kernels.h"

#ifdef __AVX512F__ /* fuzzers build without: they use the scalar reference */
#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))

enum { LANES = 16, MAX_ROWS = 8, MAX_PANELS = 4, SPLITS = 8, LARGE_WEIGHTS = 32768 };

/* Lanes below n. */
INLINE __mmask16 tail_mask(size_t n)
{
	uint32_t lanes = n >= LANES ? 0xffff : (1u << n) - 1;

	return (__mmask16)(lanes & 0xffff);
}

/* ReLU, or none, is one max before the only store; NaN passes. Other activations would put a copy
 * of themselves behind every tile: they run over the stored outputs, which are still in L1. */
INLINE __m512 floor_of(const struct dense *d)
{
	return _mm512_set1_ps(d->act.kind == MODEL_ACT_RELU ? 0.0f : -__builtin_inff());
}

static void activate_stored(const struct dense *d)
{
	if (d->act.kind > MODEL_ACT_RELU)
		vectors_avx512.unary(d->act, d->y, d->y, d->rows * d->out);
}

INLINE void tile_store(const struct dense *d, size_t row, size_t col, __m512 v)
{
	_mm512_mask_storeu_ps(
		d->y + row * d->out + col, tail_mask(d->out - col), _mm512_max_ps(floor_of(d), v));
}

/* R and C are constants at every call: the loops over them become straight-line code. */
INLINE void tile(const struct dense *d, size_t row, size_t panel, const int R, const int C)
{
	const size_t in = d->in, step = in * LANES;
	const float *x = d->x + row * in, *w = d->w + panel * step;
	__m512 acc[MAX_ROWS][MAX_PANELS], wv[MAX_PANELS];

#pragma GCC unroll 8
	for (int c = 0; c < C; c++) {
		__m512 start = d->bias ? _mm512_load_ps(d->bias + (panel + c) * LANES)
				       : _mm512_setzero_ps();
#pragma GCC unroll 8
		for (int r = 0; r < R; r++)
			acc[r][c] = start;
	}
	for (size_t k = 0; k < in; k++) {
#pragma GCC unroll 8
		for (int c = 0; c < C; c++)
			wv[c] = _mm512_load_ps(w + c * step + k * LANES);
#pragma GCC unroll 8
		for (int r = 0; r < R; r++) {
			__m512 xv = _mm512_set1_ps(x[r * in + k]);

#pragma GCC unroll 8
			for (int c = 0; c < C; c++)
				acc[r][c] = _mm512_fmadd_ps(xv, wv[c], acc[r][c]);
		}
	}
#pragma GCC unroll 8
	for (int r = 0; r < R; r++) {
#pragma GCC unroll 8
		for (int c = 0; c < C; c++)
			tile_store(d, row + r, (panel + c) * LANES, acc[r][c]);
	}
}

/* One row, C panels: the k loop is split S ways so that C x S >= 8 chains hide the FMA latency
 * while few memory streams are read, which the prefetchers follow better than eight. */
INLINE void tile_row(const struct dense *d, size_t row, size_t panel, const int C, const int S)
{
	const size_t in = d->in, step = in * LANES;
	const float *x = d->x + row * in, *w = d->w + panel * step;
	__m512 acc[MAX_PANELS][SPLITS];
	size_t k = 0;

#pragma GCC unroll 8
	for (int c = 0; c < C; c++) {
#pragma GCC unroll 8
		for (int s = 0; s < S; s++)
			acc[c][s] = _mm512_setzero_ps();
		if (d->bias)
			acc[c][0] = _mm512_load_ps(d->bias + (panel + c) * LANES);
	}
	for (; k + S <= in; k += S) {
#pragma GCC unroll 8
		for (int s = 0; s < S; s++) {
			__m512 xv = _mm512_set1_ps(x[k + s]);

#pragma GCC unroll 8
			for (int c = 0; c < C; c++)
				acc[c][s] = _mm512_fmadd_ps(xv,
					_mm512_load_ps(w + c * step + (k + s) * LANES), acc[c][s]);
		}
	}
	for (; k < in; k++) {
#pragma GCC unroll 8
		for (int c = 0; c < C; c++)
			acc[c][0] = _mm512_fmadd_ps(_mm512_set1_ps(x[k]),
				_mm512_load_ps(w + c * step + k * LANES), acc[c][0]);
	}
#pragma GCC unroll 8
	for (int c = 0; c < C; c++) {
#pragma GCC unroll 8
		for (int s = 1; s < S; s++)
			acc[c][0] = _mm512_add_ps(acc[c][0], acc[c][s]);
		tile_store(d, row, (panel + c) * LANES, acc[c][0]);
	}
}

static void tiles_row(const struct dense *d, size_t row, size_t panel, size_t panels)
{
	switch (panels) {
	case 1:
		tile_row(d, row, panel, 1, 8);
		break;
	case 2:
		tile_row(d, row, panel, 2, 4);
		break;
	case 3:
		tile_row(d, row, panel, 3, 3);
		break;
	default:
		tile_row(d, row, panel, 4, 2);
		break;
	}
}

static void tile_1(const struct dense *d, size_t row, size_t panel, size_t rows)
{
	switch (rows) {
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
	case 6:
		tile(d, row, panel, 6, 1);
		break;
	case 7:
		tile(d, row, panel, 7, 1);
		break;
	default:
		tile(d, row, panel, 8, 1);
		break;
	}
}

static void tile_2(const struct dense *d, size_t row, size_t panel, size_t rows)
{
	switch (rows) {
	case 2:
		tile(d, row, panel, 2, 2);
		break;
	case 3:
		tile(d, row, panel, 3, 2);
		break;
	case 4:
		tile(d, row, panel, 4, 2);
		break;
	case 5:
		tile(d, row, panel, 5, 2);
		break;
	case 6:
		tile(d, row, panel, 6, 2);
		break;
	case 7:
		tile(d, row, panel, 7, 2);
		break;
	default:
		tile(d, row, panel, 8, 2);
		break;
	}
}

static void tile_3(const struct dense *d, size_t row, size_t panel, size_t rows)
{
	switch (rows) {
	case 2:
		tile(d, row, panel, 2, 3);
		break;
	case 3:
		tile(d, row, panel, 3, 3);
		break;
	case 4:
		tile(d, row, panel, 4, 3);
		break;
	case 5:
		tile(d, row, panel, 5, 3);
		break;
	case 6:
		tile(d, row, panel, 6, 3);
		break;
	case 7:
		tile(d, row, panel, 7, 3);
		break;
	default:
		tile(d, row, panel, 8, 3);
		break;
	}
}

/* Rows of a group of up to three panels, in tiles of up to eight rows. */
static void panel_group(const struct dense *d, size_t row, size_t panel, size_t panels)
{
	while (row < d->rows) {
		size_t rows = d->rows - row < MAX_ROWS ? d->rows - row : MAX_ROWS;

		if (rows == 1)
			tiles_row(d, row, panel, panels);
		else if (panels == 1)
			tile_1(d, row, panel, rows);
		else if (panels == 2)
			tile_2(d, row, panel, rows);
		else
			tile_3(d, row, panel, rows);
		row += rows;
	}
}

/* 3 + 1 panels would leave a tile too small to hide latency: take 2 + 2. One row: layers that fit
 * L1 finish soonest with four panels at once (fraud 0.12 against 0.16 us), larger ones are bound by
 * reading and want one stream (256 x 256: 86 against 58 GFLOP/s). */
static size_t group_panels(const struct dense *d, size_t left)
{
	if (d->rows == 1 && d->in * d->out >= LARGE_WEIGHTS)
		return 1;
	if (d->rows == 1)
		return left < MAX_PANELS ? left : MAX_PANELS;
	if (left == 4)
		return 2;
	return left < 3 ? left : 3;
}

static void dense_panels(const struct dense *d)
{
	size_t panels = (d->out + LANES - 1) / LANES, n;

	for (size_t p = 0; p < panels; p += n) {
		n = group_panels(d, panels - p);
		panel_group(d, 0, p, n);
	}
	activate_stored(d);
}

/* R dot products of rows with one column; R is a constant at every call. */
INLINE void dots(const struct dense *d, size_t row, const float *w, float *y, const int R)
{
	const float *x = d->x + row * d->in;
	__m512 acc[MAX_ROWS];
	size_t k = 0;

#pragma GCC unroll 8
	for (int r = 0; r < R; r++)
		acc[r] = _mm512_setzero_ps();
	for (; k + LANES <= d->in; k += LANES) {
		__m512 wv = _mm512_load_ps(w + k);

#pragma GCC unroll 8
		for (int r = 0; r < R; r++)
			acc[r] = _mm512_fmadd_ps(_mm512_loadu_ps(x + r * d->in + k), wv, acc[r]);
	}
	if (k < d->in) {
		__mmask16 mask = tail_mask(d->in - k);
		__m512 wv = _mm512_load_ps(w + k);

#pragma GCC unroll 8
		for (int r = 0; r < R; r++)
			acc[r] = _mm512_fmadd_ps(
				_mm512_maskz_loadu_ps(mask, x + r * d->in + k), wv, acc[r]);
	}
#pragma GCC unroll 8
	for (int r = 0; r < R; r++)
		y[r * d->out] = _mm512_reduce_add_ps(acc[r]);
}

/* Narrow layers: the bias is added after, and the activation runs once over all rows. */
static void dense_columns(const struct dense *d)
{
	size_t padded = (d->in + LANES - 1) / LANES * LANES;

	for (size_t n = 0; n < d->out; n++) {
		const float *w = d->w + n * padded;
		float *y = d->y + n;
		size_t r = 0;

		for (; r + 8 <= d->rows; r += 8)
			dots(d, r, w, y + r * d->out, 8);
		for (; r < d->rows; r++)
			dots(d, r, w, y + r * d->out, 1);
		for (r = 0; d->bias && r < d->rows; r++)
			y[r * d->out] += d->bias[n];
	}
	if (d->act.kind != MODEL_ACT_NONE)
		vectors_avx512.unary(d->act, d->y, d->y, d->rows * d->out);
}

static const struct kernels avx512 = {
	.name = "avx512",
	.dense =
		{
			[MODEL_LAYOUT_PANELS] = dense_panels,
			[MODEL_LAYOUT_COLUMNS] = dense_columns,
		},
	.v = &vectors_avx512,
	.conv = &conv_avx512,
};

const struct kernels *kernels_avx512(void)
{
	return &avx512;
}
#else
const struct kernels *kernels_avx512(void)
{
	return NULL;
}
#endif
