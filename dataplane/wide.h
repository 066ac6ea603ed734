/* SPDX-License-Identifier: BSD-3-Clause
 * Buffers for the rows of requests and replies larger than one datagram: a fixed number a worker,
 * allocated at start. In front of the rows there is room for a reply's header.
 *
 * One owner at a time: an assembly (segments.h), then the request it became; a reply's buffer belongs
 * to its request until tx has ended it. Worker thread only.
 */
#pragma once

#include <stddef.h>

#include "abi/wire.h"

enum {
	WIDE_ROW_BYTES = WIRE_MAX_SEGMENTS * WIRE_SEGMENT_ROW_BYTES, /* 18,304: the largest of either */
	WIDE_FRONT_BYTES = 64, /* rows begin on a cache line; the last 24 bytes are the header's */
	WIDE_BUFFER_BYTES = WIDE_FRONT_BYTES + WIDE_ROW_BYTES,
	WIDE_MAX_BUFFERS = UINT16_MAX,
};

STATIC_ASSERT(WIDE_BUFFER_BYTES % 64 == 0, "every buffer begins on a cache line");

struct wide {
	uint8_t *memory; /* n x WIDE_BUFFER_BYTES; neither dumped nor inherited: it holds plaintext */
	uint16_t *unused; /* stack of handles: the warmest buffer goes first */
	uint32_t n, n_unused;
};

/* Segments a reply (or request) of `row_bytes` needs: at least one. */
static inline uint32_t wide_segments(uint32_t row_bytes)
{
	return row_bytes ? (row_bytes + WIRE_SEGMENT_ROW_BYTES - 1) / WIRE_SEGMENT_ROW_BYTES : 1;
}

/* Row bytes of segment `index` out of `row_bytes`. */
static inline uint32_t wide_segment_bytes(uint32_t row_bytes, uint32_t index)
{
	uint32_t left = row_bytes - index * WIRE_SEGMENT_ROW_BYTES;

	return left < WIRE_SEGMENT_ROW_BYTES ? left : WIRE_SEGMENT_ROW_BYTES;
}

/* `n` buffers, touched now so that no packet waits for the kernel. 0 or -ENOMEM. */
int wide_init(struct wide *p, uint32_t n);
void wide_uninit(struct wide *p); /* zeroed is allowed */

/* A buffer's handle, or 0 when all are in use. */
static inline uint16_t wide_take(struct wide *p)
{
	return p->n_unused ? p->unused[--p->n_unused] : 0;
}

static inline void wide_give(struct wide *p, uint16_t handle)
{
	if (handle)
		p->unused[p->n_unused++] = handle;
}

/* The rows of buffer `handle`, which is not 0. */
static inline uint8_t *wide_rows(const struct wide *p, uint16_t handle)
{
	return p->memory + (size_t)(handle - 1) * WIDE_BUFFER_BYTES + WIDE_FRONT_BYTES;
}
