/* SPDX-License-Identifier: BSD-3-Clause
 * The vector primitives vecmath.h and vector_body.h are written in, for AVX2 + FMA: 8 floats.
 * vec_avx512.h says what each means.
 */
#pragma once

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))

enum { LANES = 8 };

typedef __m256 vf;
typedef __m256 vm;

INLINE vf v_set(float x)
{
	return _mm256_set1_ps(x);
}

INLINE __m256i v_lanes(size_t n)
{
	const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);

	return _mm256_cmpgt_epi32(_mm256_set1_epi32(n < LANES ? (int)n : LANES), lane);
}

INLINE vf v_load(const float *p)
{
	return _mm256_loadu_ps(p);
}

INLINE void v_store(float *p, vf x)
{
	_mm256_storeu_ps(p, x);
}

/* Lanes from n on are `rest`. */
INLINE vf v_load_n(const float *p, size_t n, vf rest)
{
	__m256i lanes;

	if (n >= LANES)
		return _mm256_loadu_ps(p);
	lanes = v_lanes(n);
	return _mm256_blendv_ps(rest, _mm256_maskload_ps(p, lanes), _mm256_castsi256_ps(lanes));
}

INLINE void v_store_n(float *p, vf x, size_t n)
{
	if (n >= LANES)
		_mm256_storeu_ps(p, x);
	else
		_mm256_maskstore_ps(p, v_lanes(n), x);
}

/* x in the lanes below n, else `rest`. */
INLINE vf v_first(vf x, size_t n, vf rest)
{
	return _mm256_blendv_ps(rest, x, _mm256_castsi256_ps(v_lanes(n)));
}

INLINE vf v_add(vf a, vf b)
{
	return _mm256_add_ps(a, b);
}

INLINE vf v_sub(vf a, vf b)
{
	return _mm256_sub_ps(a, b);
}

INLINE vf v_mul(vf a, vf b)
{
	return _mm256_mul_ps(a, b);
}

INLINE vf v_div(vf a, vf b)
{
	return _mm256_div_ps(a, b);
}

/* a b + c */
INLINE vf v_fma(vf a, vf b, vf c)
{
	return _mm256_fmadd_ps(a, b, c);
}

/* c - a b */
INLINE vf v_fnma(vf a, vf b, vf c)
{
	return _mm256_fnmadd_ps(a, b, c);
}

INLINE vf v_min(vf a, vf b)
{
	return _mm256_min_ps(a, b);
}

INLINE vf v_max(vf a, vf b)
{
	return _mm256_max_ps(a, b);
}

INLINE vf v_sqrt(vf x)
{
	return _mm256_sqrt_ps(x);
}

/* To integers: nearest even, down, up. */
INLINE vf v_round(vf x)
{
	return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

INLINE vf v_floor(vf x)
{
	return _mm256_round_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
}

INLINE vf v_ceil(vf x)
{
	return _mm256_round_ps(x, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC);
}

INLINE vf v_abs(vf x)
{
	return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x);
}

INLINE vf v_neg(vf x)
{
	return _mm256_xor_ps(x, _mm256_set1_ps(-0.0f));
}

/* A non-negative magnitude with the sign of `of`. */
INLINE vf v_signed(vf magnitude, vf of)
{
	return _mm256_or_ps(magnitude, _mm256_and_ps(of, _mm256_set1_ps(-0.0f)));
}

INLINE vm v_less(vf a, vf b)
{
	return _mm256_cmp_ps(a, b, _CMP_LT_OQ);
}

INLINE vm v_is_nan(vf x)
{
	return _mm256_cmp_ps(x, x, _CMP_UNORD_Q);
}

INLINE vm v_equal(vf a, vf b)
{
	return _mm256_cmp_ps(a, b, _CMP_EQ_OQ);
}

INLINE vf v_select(vm m, vf yes, vf no)
{
	return _mm256_blendv_ps(no, yes, m);
}

/* As two factors, so that neither over- nor underflows. */
INLINE vf v_scale(vf x, vf n)
{
	__m256i whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1);
	__m256i rest = _mm256_sub_epi32(whole, half), bias = _mm256_set1_epi32(127);

	half = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
	rest = _mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23);
	return _mm256_mul_ps(
		_mm256_mul_ps(x, _mm256_castsi256_ps(half)), _mm256_castsi256_ps(rest));
}

/* Subnormal numbers are made normal first. */
INLINE vf v_normal(vf x, vf *shift)
{
	vm tiny = _mm256_cmp_ps(x, _mm256_set1_ps(0x1p-126f), _CMP_LT_OQ);

	*shift = _mm256_and_ps(tiny, _mm256_set1_ps(-24.0f));
	return _mm256_blendv_ps(x, _mm256_mul_ps(x, _mm256_set1_ps(0x1p24f)), tiny);
}

INLINE vf v_mantissa(vf x)
{
	vf shift, normal = v_normal(x, &shift);
	__m256i bits = _mm256_and_si256(_mm256_castps_si256(normal), _mm256_set1_epi32(0x7fffff));

	return _mm256_castsi256_ps(_mm256_or_si256(bits, _mm256_set1_epi32(0x3f800000)));
}

INLINE vf v_exponent(vf x)
{
	vf shift, normal = v_normal(x, &shift);
	__m256i bits = _mm256_srli_epi32(_mm256_castps_si256(normal), 23);

	return _mm256_add_ps(
		_mm256_cvtepi32_ps(_mm256_sub_epi32(bits, _mm256_set1_epi32(127))), shift);
}

INLINE float v_sum(vf x)
{
	__m128 s = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));

	s = _mm_add_ps(s, _mm_movehl_ps(s, s));
	return _mm_cvtss_f32(_mm_add_ss(s, _mm_shuffle_ps(s, s, 1)));
}

INLINE float v_top(vf x)
{
	__m128 s = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));

	s = _mm_max_ps(s, _mm_movehl_ps(s, s));
	return _mm_cvtss_f32(_mm_max_ss(s, _mm_shuffle_ps(s, s, 1)));
}
