/* SPDX-License-Identifier: BSD-3-Clause
 * The vector primitives vecmath.h and vector_body.h are written in, for AVX-512: 16 floats.
 *
 * Same names and meanings as vec_avx2.h. Minimum and maximum return the second operand when one is
 * NaN. n is a number of lanes to touch; n >= LANES means all.
 */
#pragma once

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))

enum { LANES = 16 };

typedef __m512 vf;
typedef uint16_t vm; /* __mmask16 */

INLINE vf v_set(float x)
{
	return _mm512_set1_ps(x);
}

INLINE vm v_lanes(size_t n)
{
	return (vm)(n >= LANES ? 0xffff : (1u << n) - 1);
}

INLINE vf v_load(const float *p)
{
	return _mm512_loadu_ps(p);
}

INLINE void v_store(float *p, vf x)
{
	_mm512_storeu_ps(p, x);
}

/* Lanes from n on are `rest`. */
INLINE vf v_load_n(const float *p, size_t n, vf rest)
{
	return _mm512_mask_loadu_ps(rest, v_lanes(n), p);
}

INLINE void v_store_n(float *p, vf x, size_t n)
{
	_mm512_mask_storeu_ps(p, v_lanes(n), x);
}

/* x in the lanes below n, else `rest`. */
INLINE vf v_first(vf x, size_t n, vf rest)
{
	return _mm512_mask_mov_ps(rest, v_lanes(n), x);
}

INLINE vf v_add(vf a, vf b)
{
	return _mm512_add_ps(a, b);
}

INLINE vf v_sub(vf a, vf b)
{
	return _mm512_sub_ps(a, b);
}

INLINE vf v_mul(vf a, vf b)
{
	return _mm512_mul_ps(a, b);
}

INLINE vf v_div(vf a, vf b)
{
	return _mm512_div_ps(a, b);
}

/* a b + c */
INLINE vf v_fma(vf a, vf b, vf c)
{
	return _mm512_fmadd_ps(a, b, c);
}

/* c - a b */
INLINE vf v_fnma(vf a, vf b, vf c)
{
	return _mm512_fnmadd_ps(a, b, c);
}

INLINE vf v_min(vf a, vf b)
{
	return _mm512_min_ps(a, b);
}

INLINE vf v_max(vf a, vf b)
{
	return _mm512_max_ps(a, b);
}

INLINE vf v_sqrt(vf x)
{
	return _mm512_sqrt_ps(x);
}

/* To integers: nearest even, down, up. */
INLINE vf v_round(vf x)
{
	return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

INLINE vf v_floor(vf x)
{
	return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
}

INLINE vf v_ceil(vf x)
{
	return _mm512_roundscale_ps(x, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC);
}

INLINE vf v_abs(vf x)
{
	return _mm512_abs_ps(x);
}

INLINE vf v_neg(vf x)
{
	return _mm512_xor_ps(x, _mm512_set1_ps(-0.0f));
}

/* A non-negative magnitude with the sign of `of`. */
INLINE vf v_signed(vf magnitude, vf of)
{
	return _mm512_or_ps(magnitude, _mm512_and_ps(of, _mm512_set1_ps(-0.0f)));
}

INLINE vm v_less(vf a, vf b)
{
	return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ);
}

INLINE vm v_is_nan(vf x)
{
	return _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
}

INLINE vm v_equal(vf a, vf b)
{
	return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ);
}

INLINE vf v_select(vm m, vf yes, vf no)
{
	return _mm512_mask_mov_ps(no, m, yes);
}

/* x 2^n for integral n in [-252, 254], rounding once. */
INLINE vf v_scale(vf x, vf n)
{
	return _mm512_scalef_ps(x, n);
}

/* Subnormal numbers are made normal first. */
INLINE vf v_normal(vf x, vf *shift)
{
	vm tiny = v_less(x, v_set(0x1p-126f));

	*shift = _mm512_maskz_mov_ps(tiny, v_set(-24.0f));
	return v_select(tiny, v_mul(x, v_set(0x1p24f)), x);
}

/* Positive finite x = mantissa 2^exponent, 1 <= mantissa < 2. */
INLINE vf v_mantissa(vf x)
{
	vf shift, normal = v_normal(x, &shift);
	__m512i bits = _mm512_and_si512(_mm512_castps_si512(normal), _mm512_set1_epi32(0x7fffff));

	return _mm512_castsi512_ps(_mm512_or_si512(bits, _mm512_set1_epi32(0x3f800000)));
}

INLINE vf v_exponent(vf x)
{
	vf shift, normal = v_normal(x, &shift);
	__m512i bits = _mm512_srli_epi32(_mm512_castps_si512(normal), 23);

	return v_add(_mm512_cvtepi32_ps(_mm512_sub_epi32(bits, _mm512_set1_epi32(127))), shift);
}

INLINE float v_sum(vf x)
{
	return _mm512_reduce_add_ps(x);
}

INLINE float v_top(vf x)
{
	return _mm512_reduce_max_ps(x);
}
