/* SPDX-License-Identifier: BSD-3-Clause
 * What may be among the k best of a long line of floats: the step of TopK that has a vector form.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct topk_line {
	const float *x;
	size_t n, k, group; /* n / group >= 2 k groups, group >= 2 */
	bool largest;
	float *best;  /* room for n / group floats */
	uint32_t *at; /* room for n numbers */
};

/* Numbers of elements into l->at, in order: all of the k best and few others; NaN never. Returns
 * how many; fewer than k when too many are NaN. */
size_t topk_candidates(const struct topk_line *l);
/* The same for CPUs with AVX2 (where compiled in). */
size_t topk_candidates_avx2(const struct topk_line *l);
/* A bound that at least k of n values reach; `reach` counts how many reach one. */
float topk_bound(const float *values, size_t n, size_t k,
	size_t (*reach)(const float *values, size_t n, float bound));
