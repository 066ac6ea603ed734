/* SPDX-License-Identifier: BSD-3-Clause
 * Log-linear histogram of nanoseconds: 32 buckets per power of two, so a value is known to 3.2 %
 * over the whole range of 0 to 2^40 ns (18 minutes). An array of counters and nothing else, so that
 * it can lie in shared memory (abi/stats.h) and be merged by adding.
 *
 * The idea of a fixed relative error from exponent plus mantissa bits: Gil Tene, HdrHistogram.
 */
#pragma once

#include <stdint.h>

enum {
	HISTOGRAM_SUB_BITS = 5,
	HISTOGRAM_SUB = 1 << HISTOGRAM_SUB_BITS, /* buckets per power of two */
	HISTOGRAM_OCTAVES = 36,
	HISTOGRAM_BUCKETS = HISTOGRAM_SUB * HISTOGRAM_OCTAVES, /* == STATS_HISTOGRAM_BUCKETS */
};

/* Bucket of `ns`. Values below 32 have a bucket each; values past the last bucket fall into it. */
static inline uint32_t histogram_bucket(uint64_t ns)
{
	uint32_t octave, bucket;

	if (ns < HISTOGRAM_SUB)
		return (uint32_t)ns;
	octave = 64 - HISTOGRAM_SUB_BITS - (uint32_t)__builtin_clzll(ns);
	bucket = octave * HISTOGRAM_SUB + ((uint32_t)(ns >> (octave - 1)) & (HISTOGRAM_SUB - 1));
	return bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1;
}

/* Count one value. Single writer. */
static inline void histogram_record(uint64_t buckets[HISTOGRAM_BUCKETS], uint64_t ns)
{
	buckets[histogram_bucket(ns)]++;
}

/* Largest value that falls into `bucket` (ns); the last bucket's is its nominal end. */
uint64_t histogram_bucket_end(uint32_t bucket);

/* dst[i] += src[i]. src may be written meanwhile by another thread: each counter is read once. */
void histogram_merge(uint64_t dst[HISTOGRAM_BUCKETS], const uint64_t src[HISTOGRAM_BUCKETS]);

/* Number of recorded values. */
uint64_t histogram_count(const uint64_t buckets[HISTOGRAM_BUCKETS]);

/* The value (ns) that `percent` of the recorded values do not exceed: the end of the bucket of the
 * ceil(percent/100 * n)-th smallest, so never below the exact percentile and at most 1/32 above.
 * 0 when nothing was recorded; percent is clamped to 0..100. */
uint64_t histogram_percentile(const uint64_t buckets[HISTOGRAM_BUCKETS], double percent);
