/* SPDX-License-Identifier: BSD-3-Clause
 * Convolution and pooling with channels last, AVX-512: a panel is one vector, a tile 8 x 3 of the
 * thirty-two registers.
 */
#include <stdbool.h>

#include "models/run/conv.h"

#ifdef __AVX512F__ /* fuzzers build without: they use the scalar reference */
#include <immintrin.h>

enum { LANES = 16, WIDE = 3, WIDE_ROWS = 8 };
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
#define mask_store(p, m, v) _mm512_mask_storeu_ps(p, m, v)

static inline vmask mask_of(size_t n)
{
	uint32_t lanes = n >= LANES ? 0xffff : (1u << n) - 1;

	return (vmask)(lanes & 0xffff);
}

#include "models/run/conv_vector.h"

const struct conv_kernels conv_avx512 = {dense, depthwise, pool};
#endif
