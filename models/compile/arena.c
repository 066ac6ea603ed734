/* SPDX-License-Identifier: BSD-3-Clause
 * Bump allocator: see arena.h.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "models/compile/arena.h"

enum { ALIGN = 64, CHUNK_BYTES = 65536 };

struct arena_chunk {
	struct arena_chunk *next;
	size_t used_bytes, size_bytes;
};

static struct arena_chunk *chunk_new(struct arena *a, size_t bytes)
{
	size_t size = bytes + ALIGN > CHUNK_BYTES ? bytes + ALIGN : CHUNK_BYTES;
	struct arena_chunk *c = aligned_alloc(ALIGN, size);

	if (!c)
		return NULL;
	*c = (struct arena_chunk){.next = a->chunks, .used_bytes = ALIGN, .size_bytes = size};
	a->chunks = c;
	return c;
}

void *arena_alloc(struct arena *a, size_t n, size_t size)
{
	struct arena_chunk *c = a->chunks;
	size_t bytes;
	void *at;

	if (__builtin_mul_overflow(n, size, &bytes) || bytes > a->limit_bytes - a->used_bytes)
		return NULL;
	bytes = (bytes + ALIGN - 1) & ~(size_t)(ALIGN - 1);
	if (bytes > a->limit_bytes - a->used_bytes)
		return NULL;
	if (!c || bytes > c->size_bytes - c->used_bytes)
		c = chunk_new(a, bytes);
	if (!c)
		return NULL;
	at = (uint8_t *)c + c->used_bytes;
	c->used_bytes += bytes;
	a->used_bytes += bytes;
	return memset(at, 0, bytes);
}

void arena_free(struct arena *a)
{
	while (a->chunks) {
		struct arena_chunk *next = a->chunks->next;

		free(a->chunks);
		a->chunks = next;
	}
	a->used_bytes = 0;
}
