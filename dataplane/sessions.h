/* SPDX-License-Identifier: BSD-3-Clause
 * The dataplane's side of the session table (abi/session.h): the mapping, and one private cell per
 * slot with a checked copy of what the hot path needs and the expanded keys.
 *
 *   table slot (shared, raw keys) --CMD_SESSION_ADD / attach--> cell (private, expanded keys)
 *
 * Workers look only at cells and lanes. A cell belongs to the service thread while `ready` is 0 and
 * is read-only to it (but for expires_ns) while `ready` is 1.
 */
#pragma once

#include <stdbool.h>

#include "abi/session.h"
#include "base/aead.h"
#include "base/error.h"
#include "quiesce.h"
#include "send_counter.h"

enum {
	/* Failed opens a key id is granted before only counters near its window are opened. */
	SESSION_FAILED_BURST = 256,
	SESSION_FAILED_PER_S = 1000,
	SESSION_FAR_AHEAD = 1 << 20,
	SESSION_CELL_HEAD_BYTES = 256,
};

struct session_cell {
	/* line 0: read by every packet; written by the service thread */
	uint32_t ready; /* release-stored last, 0-stored first */
	uint32_t key_id;
	uint32_t subscriber;
	uint32_t epoch;
	struct ip_addr source;
	uint64_t expires_ns;    /* atomic: a renewal moves it */
	uint64_t session_id;
	uint64_t failed_tat_ns; /* workers: GCRA over failed opens */
	uint64_t pad;
	/* line 1 and on: written by workers, under lane_lock where there are several */
	uint8_t lane_lock[WIRE_MAX_LANES];
	struct send_counter send[WIRE_MAX_LANES];
} MR_ALIGNED(64);

STATIC_ASSERT(sizeof(struct session_cell) <= SESSION_CELL_HEAD_BYTES, "keys begin behind it");
STATIC_ASSERT(offsetof(struct session_cell, lane_lock) == 64, "one line decides on a packet");

/* Private memory of one attached table. */
struct sessions {
	uint8_t *cells; /* capacity x stride, lazily backed, DONTDUMP, DONTFORK */
	size_t stride;
	size_t key_bytes;
	uint32_t mask; /* capacity - 1 */
	uint32_t lanes_per_session;
	struct session_lane *lanes; /* in the table */
	bool locked;                /* several workers: lanes are locked while they are used */
	/* service thread only */
	struct session_table *table;
	struct session_slot *slots;
	const struct aead *aead;
	size_t table_bytes, cells_bytes;
	int fd; /* our own description: holds the flock */
	uint32_t live;
	uint32_t refused; /* LIVE slots found at attach that contradict themselves: not served */
	uint32_t generation;
};

static inline struct session_cell *sessions_cell(const struct sessions *s, uint32_t key_id)
{
	return (struct session_cell *)(s->cells + (size_t)(key_id & s->mask) * s->stride);
}

static inline struct aead_key *sessions_c2s_key(const struct session_cell *c)
{
	return (struct aead_key *)((uintptr_t)c + SESSION_CELL_HEAD_BYTES);
}

static inline struct aead_key *sessions_s2c_key(const struct sessions *s,
	const struct session_cell *c)
{
	return (struct aead_key *)((uintptr_t)c + SESSION_CELL_HEAD_BYTES + s->key_bytes);
}

static inline struct session_lane *sessions_lane(const struct sessions *s, uint32_t key_id,
	uint32_t lane)
{
	return &s->lanes[(size_t)(key_id & s->mask) * s->lanes_per_session + lane];
}

/* A lane has one user at a time. With one worker there is nothing to lock. */
static inline void sessions_lane_lock(
	const struct sessions *s, struct session_cell *c, uint32_t lane)
{
	if (s->locked)
		while (__atomic_exchange_n(&c->lane_lock[lane], 1, __ATOMIC_ACQUIRE))
			__builtin_ia32_pause();
}

static inline void sessions_lane_unlock(const struct sessions *s, struct session_cell *c,
	uint32_t lane)
{
	if (s->locked)
		__atomic_store_n(&c->lane_lock[lane], 0, __ATOMIC_RELEASE);
}

/* Take over the table behind `fd` (not consumed): own description, exclusive flock, checks, bump of
 * `generation`, expansion of every LIVE slot, end of removals a crash interrupted. -EBUSY when another
 * dataplane holds it. Service thread. */
int sessions_attach(struct sessions **out, int fd, const struct aead *aead, uint32_t n_workers,
	struct error *err);
void sessions_detach(struct sessions *s); /* wipes private keys; the table stays. NULL allowed */

/* Expand the keys of LIVE slot `index`, or renew the expiry of a session that is already there. */
int sessions_add(struct sessions *s, uint64_t index, struct error *err);

/* Stop accepting slot `index` if it still is `session_id`: 0 = it was; -ESRCH = gone already. The
 * caller then waits until all workers have passed, and calls sessions_remove_finish(). */
int sessions_remove_begin(struct sessions *s, uint64_t index, uint64_t session_id);
/* Wipe keys and lanes; the slot becomes FREE. */
void sessions_remove_finish(struct sessions *s, uint64_t index);
