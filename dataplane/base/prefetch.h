/* SPDX-License-Identifier: BSD-3-Clause
 * Fetch a cache line ahead of its use.
 *
 * Not __builtin_prefetch: GCC 12 holds a function that does nothing but prefetch to be without effect,
 * and drops every call of it that it does not inline. Calls of helpers like "prefetch a key" vanish
 * silently that way; a volatile asm cannot.
 */
#pragma once

#include <stddef.h>

#include "abi/types.h"

/* The line is about to be read. `p` may point anywhere, even to unmapped memory. */
MR_ALWAYS_INLINE void prefetch_read(const void *p)
{
	__asm__ volatile("prefetcht0 %0" : : "m"(*(const char *)p));
}

/* The line is about to be written: fetched without leave for others to keep it. */
MR_ALWAYS_INLINE void prefetch_write(const void *p)
{
	__asm__ volatile("prefetchw %0" : : "m"(*(const char *)p));
}

/* The lines of `bytes` bytes from `p`, which begins a line. */
MR_ALWAYS_INLINE void prefetch_lines(const void *p, size_t bytes)
{
	for (size_t at = 0; at < bytes; at += MR_CACHE_LINE)
		prefetch_read((const char *)p + at);
}
