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

/* 2^n for integral n in [-252, 254], as two factors so that neither over- nor underflows. */
INLINE __m256 scale2(__m256 x, __m256 n)
{
	__m256i whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1);
	__m256i rest = _mm256_sub_epi32(whole, half), bias = _mm256_set1_epi32(127);

	half = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
	rest = _mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23);
	return _mm256_mul_ps(
		_mm256_mul_ps(x, _mm256_castsi256_ps(half)), _mm256_castsi256_ps(rest));
}

/* e^x: x = n ln2 + r, |r| <= ln2/2, Cody-Waite reduction, Cephes expf polynomial (Moshier). */
INLINE __m256 exp256(__m256 x)
{
	__m256 n, r, p;

	x = _mm256_min_ps(_mm256_set1_ps(89.0f), _mm256_max_ps(_mm256_set1_ps(-104.0f), x));
	n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504088896341f)),
		_MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
	r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), x);
	r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), r);
	p = _mm256_set1_ps(1.9875691500e-4f);
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.3981999507e-3f));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(8.3334519073e-3f));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(4.1665795894e-2f));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.6666665459e-1f));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(5.0000001201e-1f));
	p = _mm256_fmadd_ps(_mm256_mul_ps(r, r), p, r);
	return scale2(_mm256_add_ps(p, _mm256_set1_ps(1.0f)), n);
}

INLINE __m256 sigmoid256(__m256 x)
{
	const __m256 one = _mm256_set1_ps(1.0f);

	return _mm256_div_ps(
		one, _mm256_add_ps(one, exp256(_mm256_sub_ps(_mm256_setzero_ps(), x))));
}

/* |x| < 0.625: odd polynomial (Cephes tanhf); else 1 - 2 / (e^2|x| + 1) with x's sign. */
INLINE __m256 tanh256(__m256 x)
{
	const __m256 one = _mm256_set1_ps(1.0f), two = _mm256_set1_ps(2.0f);
	const __m256 sign = _mm256_set1_ps(-0.0f);
	__m256 mag = _mm256_andnot_ps(sign, x), z = _mm256_mul_ps(x, x), p, big, small;

	small = _mm256_cmp_ps(mag, _mm256_set1_ps(0.625f), _CMP_LT_OQ);
	p = _mm256_set1_ps(-5.70498872745e-3f);
	p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(2.06390887954e-2f));
	p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(-5.37397155531e-2f));
	p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(1.33314422036e-1f));
	p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(-3.33332819422e-1f));
	p = _mm256_fmadd_ps(_mm256_mul_ps(p, z), x, x);
	big = exp256(_mm256_mul_ps(mag, two));
	big = _mm256_sub_ps(one, _mm256_div_ps(two, _mm256_add_ps(big, one)));
	big = _mm256_or_ps(big, _mm256_and_ps(x, sign));
	return _mm256_blendv_ps(big, p, small);
}

/* Constants come first in min and max: with a NaN the second operand, the data, is returned. */
INLINE __m256 activate(struct activation act, __m256 x)
{
	const __m256 zero = _mm256_setzero_ps(), sign = _mm256_set1_ps(-0.0f);

	switch (act.kind) {
	case MODEL_ACT_RELU:
		return _mm256_max_ps(zero, x);
	case MODEL_ACT_SIGMOID:
		return sigmoid256(x);
	case MODEL_ACT_TANH:
		return tanh256(x);
	case MODEL_ACT_LEAKY_RELU:
		return _mm256_blendv_ps(x, _mm256_mul_ps(x, _mm256_set1_ps(act.a)),
			_mm256_cmp_ps(x, zero, _CMP_LT_OQ));
	case MODEL_ACT_CLIP:
		return _mm256_min_ps(
			_mm256_set1_ps(act.b), _mm256_max_ps(_mm256_set1_ps(act.a), x));
	case MODEL_ACT_NEG:
		return _mm256_xor_ps(x, sign);
	case MODEL_ACT_ABS:
		return _mm256_andnot_ps(sign, x);
	case MODEL_ACT_EXP:
		return exp256(x);
	case MODEL_ACT_SQRT:
		return _mm256_sqrt_ps(x);
	default:
		return x;
	}
}

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

static void unary(struct activation act, float *y, const float *x, size_t n)
{
	size_t i = 0;

	for (; i + LANES <= n; i += LANES)
		_mm256_storeu_ps(y + i, activate(act, _mm256_loadu_ps(x + i)));
	if (i < n) {
		__m256i mask = tail_mask(n - i);

		_mm256_maskstore_ps(y + i, mask, activate(act, _mm256_maskload_ps(x + i, mask)));
	}
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
		unary(d->act, d->y, d->y, d->rows * d->out);
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
		unary(d->act, d->y, d->y, d->rows * d->out);
}

INLINE __m256 load_or(const float *x, size_t n, __m256 other)
{
	__m256i mask = tail_mask(n);

	return _mm256_blendv_ps(other, _mm256_maskload_ps(x, mask), _mm256_castsi256_ps(mask));
}

INLINE float max256(__m256 v)
{
	float lane[LANES], top;

	_mm256_storeu_ps(lane, v);
	top = lane[0];
	for (int i = 1; i < LANES; i++)
		top = lane[i] > top ? lane[i] : top;
	return top;
}

static void softmax_one(float *y, const float *x, size_t n)
{
	const __m256 low = _mm256_set1_ps(-__builtin_inff());
	__m256 top = low, sum = _mm256_setzero_ps(), peak, scale;

	for (size_t i = 0; i < n; i += LANES)
		top = _mm256_max_ps(top, load_or(x + i, n - i, low));
	peak = _mm256_set1_ps(max256(top));
	for (size_t i = 0; i < n; i += LANES) {
		__m256i mask = tail_mask(n - i);
		__m256 e = exp256(_mm256_sub_ps(_mm256_maskload_ps(x + i, mask), peak));

		e = _mm256_and_ps(e, _mm256_castsi256_ps(mask));
		sum = _mm256_add_ps(sum, e);
		_mm256_maskstore_ps(y + i, mask, e);
	}
	scale = _mm256_set1_ps(1.0f / sum256(sum));
	for (size_t i = 0; i < n; i += LANES) {
		__m256i mask = tail_mask(n - i);

		_mm256_maskstore_ps(
			y + i, mask, _mm256_mul_ps(_mm256_maskload_ps(y + i, mask), scale));
	}
}

static void softmax(float *y, const float *x, size_t rows, size_t n)
{
	for (size_t r = 0; r < rows; r++)
		softmax_one(y + r * n, x + r * n, n);
}

static const struct kernels avx2 = {
	.name = "avx2",
	.dense =
		{
			[MODEL_LAYOUT_PANELS] = dense_panels,
			[MODEL_LAYOUT_COLUMNS] = dense_columns,
		},
	.unary = unary,
	.softmax = softmax,
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
