/* SPDX-License-Identifier: BSD-3-Clause
 * Time. CLOCK_MONOTONIC nanoseconds everywhere two processes (or XDP) compare times; the TSC only
 * for cycles inside one process.
 */
#pragma once

#include <stdint.h>
#include <time.h>
#include <x86intrin.h>

#define NS_PER_S 1000000000ull
#define NS_PER_MS 1000000ull
#define NS_PER_US 1000ull

/* CLOCK_MONOTONIC in nanoseconds: what bpf_ktime_get_ns() returns to XDP. About 23 ns a call. */
static inline uint64_t clock_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* CLOCK_REALTIME in seconds since 1970: for certificates, licences and audit lines only. */
static inline int64_t clock_wall_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec;
}

/* Time-stamp counter, not serialised. */
static inline uint64_t clock_tsc(void)
{
	return __rdtsc();
}

/* TSC ticks per second, measured against CLOCK_MONOTONIC over about 20 ms; cached by the caller. */
uint64_t clock_tsc_hz(void);
