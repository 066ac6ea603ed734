/* SPDX-License-Identifier: BSD-3-Clause
 * Bump allocator of one compilation: everything is freed at once, and a cap bounds the total.
 */
#pragma once

#include <stddef.h>

struct arena_chunk;

struct arena {
	struct arena_chunk *chunks;
	size_t used_bytes, limit_bytes;
};

/* `n` x `size` zeroed bytes, 64-byte aligned. NULL when the product overflows, the cap is reached
 * or memory is out. */
void *arena_alloc(struct arena *a, size_t n, size_t size);
void arena_free(struct arena *a);
