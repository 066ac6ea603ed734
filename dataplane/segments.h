/* SPDX-License-Identifier: BSD-3-Clause
 * Requests of 2..16 datagrams, put together in whatever order they come. Pure: authentic plaintext and
 * a time in, a verdict out. One of these a worker; nothing is allocated after segments_init().
 *
 *   nothing --first segment--> OPEN --all there--> CLOSED --20 ms--> nothing
 *                               |  --conflict, refusal--^
 *                               +--100 ms, or evicted--> nothing (counted)
 *
 * An OPEN assembly owns a wide buffer and collects rows in their final place. A CLOSED one owns nothing
 * but its name: it stays so that segments that come late, or twice, do not begin the same request again
 * and nobody is answered twice. Time runs from the first segment, so nobody can keep an assembly open.
 *
 * A request belongs to one session and one lane; a segment on another lane is another request. At most
 * SEGMENTS_PER_SESSION are open per session: one more evicts that session's oldest. When all buffers are
 * taken the oldest of all is evicted. Whoever calls has charged a limiter unit for the segment before.
 *
 * Names are found by a keyed hash of all of them: CLOSED ones are many when a session is fast. In one bucket a
 * session they cost 2,600 ns a request of two datagrams: 269,000 against 889,000 a second (AMD Zen 5, `make bench`,
 * in.memif.in2048).
 */
#pragma once

#include <stdbool.h>

#include "abi/wire.h"
#include "base/clock.h"
#include "wide.h"

enum {
	SEGMENTS_PER_SESSION = 4,
	SEGMENTS_NONE = 0, /* no assembly: handles are index + 1 */
	SEGMENTS_OPEN_MS = 100,  /* one retry of libmillrace (50 ms) still finds what came before it */
	SEGMENTS_CLOSED_MS = 20, /* longer than a datagram is late, shorter than a client waits */
};

/* Whose segment it is. */
struct segment_of {
	uint64_t session_id; /* control's name for the session, never reused */
	uint16_t lane;
};

enum assembly_state { ASSEMBLY_UNUSED, ASSEMBLY_OPEN, ASSEMBLY_CLOSED };

enum segments_index {
	SEGMENTS_BY_NAME,    /* session, lane and request id: whose segment is this? */
	SEGMENTS_BY_SESSION, /* how many has it open, and which is the oldest? */
	SEGMENTS_INDEXES,
};

struct assembly {
	struct wire_request head; /* of the first that came, segment_index 0 */
	struct segment_of of;
	uint64_t since_ns;   /* first segment, or closed */
	uint16_t got;        /* bit i: segment i is here */
	uint16_t last_bytes; /* row bytes of the last segment, once it is here */
	uint16_t buffer;     /* wide.h; 0 unless OPEN */
	uint8_t state;       /* enum assembly_state */
	uint16_t next[SEGMENTS_INDEXES]; /* in its buckets; by session only while OPEN */
	uint16_t older, younger; /* in the list of its state */
};

struct assembly_list {
	uint16_t oldest, youngest;
	uint32_t n;
};

struct segments {
	struct wide *wide;
	struct assembly *assemblies;
	uint16_t *buckets[SEGMENTS_INDEXES], *memory;
	uint64_t factor; /* secret: segments.c */
	uint32_t n, shift;
	uint16_t unused; /* chained by `next` */
	struct assembly_list open, closed;
	/* since the start: assemblies that ended without an answer */
	uint64_t expired, evicted;
};

enum segment_verdict {
	SEGMENT_HELD,
	SEGMENT_COMPLETES, /* assembly now CLOSED; its buffer is the caller's */
	SEGMENT_REPEATED,  /* the very same datagram text again: nothing to do */
	SEGMENT_CONFLICT,  /* contradicts an earlier one: assembly CLOSED, say so once */
	SEGMENT_OTHER,     /* same place, other rows: the same */
	SEGMENT_NO_ROOM,   /* no buffer although nothing is left to evict */
};

/* What a completed request is made of. */
struct segments_whole {
	uint16_t buffer;   /* wide.h; the caller gives it back */
	uint32_t row_bytes;
	uint64_t since_ns; /* when its first segment came */
};

/* `wide` must outlive it. Room for wide->n open assemblies and as many closed ones. 0, -ENOMEM or -EIO
 * (no random numbers). */
int segments_init(struct segments *s, struct wide *wide);
void segments_uninit(struct segments *s); /* zeroed is allowed */
/* Memory in bytes besides the buffers. */
size_t segments_bytes(uint32_t buffers);

/* Drop what has been open, forget what has been closed for too long. Once a burst. */
void segments_expire(struct segments *s, uint64_t now_ns);

/* The assembly of this request, OPEN or CLOSED, or NULL. */
struct assembly *segments_find(const struct segments *s, struct segment_of of, uint64_t request_id);

/* Take one segment: q->segment_count is 2..WIRE_MAX_SEGMENTS, q->segment_index below it, row_bytes is
 * WIRE_SEGMENT_ROW_BYTES for all but the last and 1..WIRE_SEGMENT_ROW_BYTES for that one (the caller has
 * checked). `a` is what segments_find() returned and not CLOSED. The rows are copied. *whole is set on
 * SEGMENT_COMPLETES. */
enum segment_verdict segments_take(struct segments *s, struct assembly *a, struct segment_of of,
	const struct wire_request *q, const uint8_t *rows, uint32_t row_bytes, uint64_t now_ns,
	struct segments_whole *whole);

/* The request has been answered: give up what is held of it and remember its name for a while. `a` as
 * segments_find() returned it; when nothing was held and no name is free, nothing is remembered: closing
 * costs no memory that others could need. */
void segments_close(struct segments *s, struct assembly *a, struct segment_of of,
	const struct wire_request *q, uint64_t now_ns);

/* A wide buffer for something else (a reply), evicting the oldest open assembly when none is free.
 * 0 = none. Give back with wide_give(). */
uint16_t segments_buffer(struct segments *s);
