/* SPDX-License-Identifier: BSD-3-Clause
 * One reply put together from its segments, in whatever order they come. Pure.
 */
#pragma once

#include <string.h>

#include "abi/wire.h"

/* All zero = nothing yet. */
struct reply_parts {
	struct wire_reply head; /* of the first that came, segment_index 0 */
	uint16_t got;           /* bit i: segment i is here */
};

enum parts_verdict {
	PARTS_COMPLETE,
	PARTS_MORE,     /* taken; others are missing */
	PARTS_REPEATED, /* was here already */
	PARTS_WRONG,    /* no segment of a reply of so many bytes */
};

/* Take the segment that carries `reply` and rows[0..n) into `to`, which has room for the `total` bytes
 * (> 0) of the reply's rows. A segment of another reply to the same request (computed again by another
 * version) starts over: the newest wins. */
static inline enum parts_verdict reply_parts_add(struct reply_parts *p, struct wire_reply reply,
	const uint8_t *rows, size_t n, size_t total, uint8_t *to)
{
	size_t count = (total + WIRE_SEGMENT_ROW_BYTES - 1) / WIRE_SEGMENT_ROW_BYTES;
	size_t at = (size_t)reply.segment_index * WIRE_SEGMENT_ROW_BYTES;
	uint16_t bit = (uint16_t)(1u << (reply.segment_index & 15));

	if (reply.segment_count != count || count > WIRE_MAX_SEGMENTS || reply.segment_index >= count ||
		n != (total - at < WIRE_SEGMENT_ROW_BYTES ? total - at : WIRE_SEGMENT_ROW_BYTES))
		return PARTS_WRONG;
	reply.segment_index = 0;
	if (memcmp(&p->head, &reply, sizeof(reply)) != 0)
		*p = (struct reply_parts){.head = reply};
	if (p->got & bit)
		return PARTS_REPEATED;
	memcpy(to + at, rows, n);
	p->got |= bit;
	return p->got == (1u << count) - 1 ? PARTS_COMPLETE : PARTS_MORE;
}
