/* SPDX-License-Identifier: BSD-3-Clause
 * Candidates of TopK with AVX2: eight groups, or elements, at a time. The smallest are the largest
 * of the negated.
 */
#include "models/run/topk.h"

#ifndef __AVX2__ /* fuzzers build without */
size_t topk_candidates_avx2(const struct topk_line *l)
{
	return topk_candidates(l);
}
#else
#include <immintrin.h>
#include <math.h>

enum { LANES = 8 };

/* Best of each group j: x[j], x[j + groups], ... */
static void best_of_groups(const struct topk_line *l, __m256 sign)
{
	const size_t groups = l->n / l->group;

	for (size_t j = 0; j < groups; j += LANES) {
		size_t first = groups < LANES || j + LANES <= groups ? j : groups - LANES;
		__m256 best = _mm256_set1_ps(-INFINITY);

		/* max_ps(a, b) is b where either is NaN. */
		for (size_t i = 0; i < l->group; i++)
			best = _mm256_max_ps(
				_mm256_xor_ps(sign, _mm256_loadu_ps(l->x + i * groups + first)),
				best);
		_mm256_storeu_ps(l->best + first, best);
	}
}

static size_t reach(const float *values, size_t n, float bound)
{
	size_t count = 0;

	for (size_t i = 0; i < n; i += LANES) {
		size_t first = i + LANES <= n ? i : n - LANES;
		uint32_t bits = (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(
			_mm256_loadu_ps(values + first), _mm256_set1_ps(bound), _CMP_GE_OQ));

		count += (size_t)__builtin_popcount(bits >> (i - first));
	}
	return count;
}

size_t topk_candidates_avx2(const struct topk_line *l)
{
	const __m256 sign = _mm256_set1_ps(l->largest ? 0.0f : -0.0f);
	const size_t groups = l->n / l->group;
	size_t found = 0, i = 0;
	__m256 bound;

	if (groups < LANES)
		return topk_candidates(l);
	best_of_groups(l, sign);
	bound = _mm256_set1_ps(topk_bound(l->best, groups, l->k, reach));
	for (; i + 2 * LANES <= l->n; i += 2 * LANES) {
		__m256 a = _mm256_xor_ps(sign, _mm256_loadu_ps(l->x + i));
		__m256 b = _mm256_xor_ps(sign, _mm256_loadu_ps(l->x + i + LANES));
		uint32_t bits = (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(a, bound, _CMP_GE_OQ)) |
				(uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(b, bound, _CMP_GE_OQ))
					<< LANES;

		for (; bits; bits &= bits - 1)
			l->at[found++] = (uint32_t)i + (uint32_t)__builtin_ctz(bits);
	}
	for (; i < l->n; i++)
		if ((l->largest ? l->x[i] : -l->x[i]) >= _mm256_cvtss_f32(bound))
			l->at[found++] = (uint32_t)i;
	return found;
}
#endif
