/* SPDX-License-Identifier: BSD-3-Clause
 * Log-linear histograms: see histogram.h.
 */
#include <math.h>

#include "base/histogram.h"

uint64_t histogram_bucket_end(uint32_t bucket)
{
	uint32_t octave = bucket / HISTOGRAM_SUB, sub = bucket % HISTOGRAM_SUB;

	if (!octave)
		return sub;
	return ((uint64_t)(HISTOGRAM_SUB + sub + 1) << (octave - 1)) - 1;
}

void histogram_merge(uint64_t dst[HISTOGRAM_BUCKETS], const uint64_t src[HISTOGRAM_BUCKETS])
{
	for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++)
		dst[i] += __atomic_load_n(&src[i], __ATOMIC_RELAXED);
}

uint64_t histogram_count(const uint64_t buckets[HISTOGRAM_BUCKETS])
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++)
		n += buckets[i];
	return n;
}

uint64_t histogram_percentile(const uint64_t buckets[HISTOGRAM_BUCKETS], double percent)
{
	uint64_t n = histogram_count(buckets), rank, seen = 0;

	if (!n)
		return 0;
	percent = fmin(fmax(percent, 0.0), 100.0);
	rank = (uint64_t)ceil(percent / 100.0 * (double)n);
	if (!rank)
		rank = 1;
	for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
		seen += buckets[i];
		if (seen >= rank)
			return histogram_bucket_end(i);
	}
	return histogram_bucket_end(HISTOGRAM_BUCKETS - 1);
}
