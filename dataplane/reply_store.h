/* SPDX-License-Identifier: BSD-3-Clause
 * Replies kept for a while, so that a retry is answered without being computed or charged again.
 *
 * Keyed by session and request id; the hashes of the request's datagrams (text_hash.h) tell whether the
 * retry is the same request. One pool of a fixed size a worker, in blocks of STORE_BLOCK_BYTES; a reply's
 * hashes and rows lie in a chain of them. It does not survive a restart.
 *
 *   bucket(session, request) ─▶ entry ─▶ block ─▶ block      entries: all by age, and each session's by age
 *
 * Who gives way when the pool is full: the oldest reply of the session that wants in, if it holds its
 * share (1/STORE_SHARES) already; else the oldest of all. Alone, a session may use the whole pool. Replies
 * older than STORE_KEEP_S are dropped. Worker thread only.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "abi/wire.h"
#include "base/clock.h"

enum {
	STORE_BLOCK_BYTES = 256,
	STORE_SHARES = 8,
	STORE_KEEP_S = 10,
	STORE_EARLY_S = 1, /* a reply evicted before has been kept too short: counted */
	STORE_NONE = 0,    /* entries, owners and blocks are index + 1 */
	STORE_MIN_KB = 512, /* below, a share would not hold one reply of the largest size */
};

struct store_entry {
	uint64_t session_id, request_id;
	uint64_t since_ns;
	uint32_t model_id;
	uint32_t next;           /* in its bucket, or unused */
	uint32_t older, younger; /* of all */
	uint32_t older_own, younger_own; /* of the same session */
	uint32_t owner;
	uint32_t block;          /* first of the chain: hashes, then rows */
	uint32_t blocks;
	uint16_t row_bytes, rows;
	uint16_t detail; /* wire_reply.detail */
	uint8_t dtype;
	uint8_t segments; /* of the request: as many hashes */
};

/* A session that has replies here. */
struct store_owner {
	uint64_t session_id;
	uint32_t blocks;
	uint32_t oldest, youngest; /* entries */
	uint32_t next;             /* in its bucket, or unused */
};

struct reply_store {
	void *memory; /* everything below is in it */
	size_t bytes;
	uint32_t n;    /* blocks, and as many entries and owners; 0 = no store */
	uint32_t mask; /* buckets - 1 */
	uint8_t *blocks;
	uint32_t *next_block;
	struct store_entry *entries;
	struct store_owner *owners;
	uint32_t *entry_buckets, *owner_buckets;
	uint32_t unused_block, unused_entry, unused_owner;
	uint32_t n_used; /* blocks */
	uint32_t oldest, youngest;
	uint64_t evicted, evicted_early; /* since the start */
};

/* A reply, on its way in or out. */
struct stored_reply {
	uint64_t session_id, request_id;
	uint32_t model_id;
	uint16_t rows, detail;
	uint16_t row_bytes;
	uint8_t dtype;
	uint8_t segments; /* of the request, 1..WIRE_MAX_SEGMENTS */
};

/* A pool of at most `kb` KiB in all, 0 = no store. 0, -EINVAL (below STORE_MIN_KB) or -ENOMEM. */
int reply_store_init(struct reply_store *s, uint32_t kb);
void reply_store_uninit(struct reply_store *s); /* zeroed is allowed */

/* Drop what is too old. Once a burst. */
void reply_store_expire(struct reply_store *s, uint64_t now_ns);

/* The reply to this request, or NULL. Valid until the next put or expire. */
const struct store_entry *reply_store_find(const struct reply_store *s, uint64_t session_id,
	uint64_t request_id);

/* Is this the `index`-th of `count` datagrams of the request that the reply belongs to? */
bool reply_store_matches(const struct reply_store *s, const struct store_entry *e, uint32_t index,
	uint32_t count, uint64_t hash);

/* Copy the rows out: e->row_bytes of them. */
void reply_store_rows(const struct reply_store *s, const struct store_entry *e, uint8_t *rows);

/* Keep a reply (row_bytes of `rows`) to the request of these hashes, in place of an older one of the same
 * id. */
void reply_store_put(struct reply_store *s, const struct stored_reply *reply, const uint64_t *hashes,
	const uint8_t *rows, uint64_t now_ns);
