/* SPDX-License-Identifier: BSD-3-Clause
 * AVX-512 intrinsics done in software by SIMDe: a test includes this and then a kernel's source, so
 * that the kernel is tested on CPUs that lack the instructions. Compiled without AVX: GCC's own
 * intrinsics must stay out.
 */
#pragma once

#include <math.h>

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#include <simde/x86/fma.h>

/* What SIMDe 0.7.4 does not have. */
static __m512 _mm512_mask_loadu_ps(__m512 rest, unsigned short mask, const float *p)
{
	float lane[16];

	_mm512_storeu_ps(lane, rest);
	for (int i = 0; i < 16; i++)
		if (mask >> i & 1)
			lane[i] = p[i];
	return _mm512_loadu_ps(lane);
}

typedef unsigned short __mmask16;

static __m512 _mm512_maskz_loadu_ps(unsigned short mask, const float *p)
{
	return _mm512_mask_loadu_ps(_mm512_setzero_ps(), mask, p);
}

static void _mm512_mask_storeu_ps(float *p, unsigned short mask, __m512 x)
{
	float lane[16];

	_mm512_storeu_ps(lane, x);
	for (int i = 0; i < 16; i++)
		if (mask >> i & 1)
			p[i] = lane[i];
}

static __m512 _mm512_cvtepi32_ps(__m512i x)
{
	int32_t whole[16];
	float lane[16];

	_mm512_storeu_si512(whole, x);
	for (int i = 0; i < 16; i++)
		lane[i] = (float)whole[i];
	return _mm512_loadu_ps(lane);
}

static float _mm512_reduce_add_ps(__m512 x)
{
	float lane[16], sum = 0;

	_mm512_storeu_ps(lane, x);
	for (int i = 0; i < 16; i++)
		sum += lane[i];
	return sum;
}

static float _mm512_reduce_max_ps(__m512 x)
{
	float lane[16], top;

	_mm512_storeu_ps(lane, x);
	top = lane[0];
	for (int i = 1; i < 16; i++)
		top = lane[i] > top ? lane[i] : top;
	return top;
}

/* What it does otherwise than the instructions: 2^128 alone overflows, NaN in min and max, rounding
 * to halves. */
#define LANE_BY_LANE(name, expression)                                                             \
	static __m512 name(__m512 x, __m512 y)                                                     \
	{                                                                                          \
		float a[16], b[16];                                                                \
                                                                                                   \
		_mm512_storeu_ps(a, x);                                                            \
		_mm512_storeu_ps(b, y);                                                            \
		for (int i = 0; i < 16; i++)                                                       \
			a[i] = expression;                                                         \
		return _mm512_loadu_ps(a);                                                         \
	}
#undef _mm512_scalef_ps
#undef _mm512_max_ps
#undef _mm512_min_ps
LANE_BY_LANE(_mm512_scalef_ps, b[i] == b[i] ? ldexpf(a[i], (int)b[i]) : b[i])
LANE_BY_LANE(_mm512_max_ps, a[i] > b[i] ? a[i] : b[i])
LANE_BY_LANE(_mm512_min_ps, a[i] < b[i] ? a[i] : b[i])

static __m512 round_by(__m512 x, int mode)
{
	float lane[16];

	_mm512_storeu_ps(lane, x);
	for (int i = 0; i < 16; i++)
		lane[i] = mode & 1 ? floorf(lane[i]) : mode & 2 ? ceilf(lane[i]) : rintf(lane[i]);
	return _mm512_loadu_ps(lane);
}
#undef _mm512_roundscale_ps
#define _mm512_roundscale_ps(x, mode) round_by(x, mode)

#define _MM_FROUND_NO_EXC SIMDE_MM_FROUND_NO_EXC
#define _IMMINTRIN_H_INCLUDED
#define __AVX512F__ 1
#define __AVX512BF16__ 1
