/* SPDX-License-Identifier: BSD-3-Clause
 * The dataplane's side of the session table (abi/session.h): the mapping, and one private cell per
 * slot with a checked copy of what the hot path needs and the expanded keys.
 *
 *   table slot (shared, raw keys) --CMD_SESSION_ADD / attach--> cell (private, expanded keys)
 *
 * Workers look only at cells and lanes. A cell belongs to the service thread while `ready` is 0; while
 * it is 1, that thread moves fresh_until_ns and expires_ns, and owns the keys of the epoch that is
 * neither current nor previous (ratchet.h). 1,664 private bytes a session with our AEAD, 512 and
 * 1,088 a lane in the table.
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
	SESSION_CELL_HEAD_BYTES = 128,
	SESSION_CELL_KEYS = 4, /* [epoch & 1][direction] */
};

enum session_direction { SESSION_C2S, SESSION_S2C };

/* The keys of epoch + 1. While one worker promotes them, others go on opening with them. */
enum session_next { SESSION_NEXT_NONE, SESSION_NEXT_READY, SESSION_NEXT_TAKEN };

struct session_cell {
	/* line 0 decides on a packet */
	uint32_t ready; /* release-stored last, 0-stored first */
	uint32_t key_id;
	uint32_t subscriber;
	uint32_t epoch; /* current: session_promote() moves it on, with release */
	struct ip_addr source;
	uint64_t fresh_until_ns; /* atomic: end of the session or of its current epoch; 0 = spent */
	uint64_t failed_tat_ns;  /* workers: GCRA over failed opens */
	uint64_t unproven;       /* atomic: 1 = the address is not proven yet (path.h) */
	uint8_t lane_owner[WIRE_MAX_LANES]; /* atomic: worker + 1; 0 = no authentic packet yet */
	/* line 1: where an epoch or the session itself changes */
	uint64_t expires_ns; /* atomic: a renewal moves it */
	uint64_t session_id;
	uint64_t epoch_began_ns;
	uint64_t previous_until_ns; /* 0 = the keys of epoch - 1 are gone */
	uint64_t sent_before;       /* send counters reserved when the epoch began, over all lanes */
	uint64_t challenge;         /* wire.h, path challenge */
	uint32_t next_ready;        /* atomic: enum session_next */
	uint32_t pad;
} MR_ALIGNED(64);

STATIC_ASSERT(sizeof(struct session_cell) == SESSION_CELL_HEAD_BYTES, "keys begin behind it");
STATIC_ASSERT(offsetof(struct session_cell, expires_ns) == 64, "one line decides on a packet");

struct ratchet; /* ratchet.h */

/* Private memory of one attached table. */
struct sessions {
	uint8_t *cells; /* capacity x stride, lazily backed, DONTDUMP, DONTFORK */
	size_t stride;
	size_t key_bytes;
	uint32_t mask; /* capacity - 1 */
	uint32_t lanes_per_session;
	struct session_lane *lanes; /* in the table */
	/* service thread only */
	struct session_table *table;
	struct session_slot *slots; /* workers clear one flag of theirs: path.c */
	const struct aead *aead;
	struct ratchet *ratchet;
	size_t table_bytes, cells_bytes;
	int fd; /* our own description: holds the flock */
	uint32_t live;
	uint32_t refused; /* LIVE slots found at attach that contradict themselves: not served */
	uint32_t generation;
};

static inline struct session_cell *sessions_cell_at(const struct sessions *s, uint64_t index)
{
	return (struct session_cell *)(s->cells + index * s->stride);
}

static inline struct session_cell *sessions_cell(const struct sessions *s, uint32_t key_id)
{
	return sessions_cell_at(s, key_id & s->mask);
}

/* The expanded key of an epoch: `epoch` is its number or the flags of a packet that was looked up. */
static inline struct aead_key *sessions_key(const struct sessions *s, const struct session_cell *c,
	uint32_t epoch, enum session_direction direction)
{
	return (struct aead_key *)((uintptr_t)c + SESSION_CELL_HEAD_BYTES +
		((epoch & 1) * 2 + direction) * s->key_bytes);
}

static inline struct session_lane *sessions_lane(const struct sessions *s, uint32_t key_id,
	uint32_t lane)
{
	return &s->lanes[(size_t)(key_id & s->mask) * s->lanes_per_session + lane];
}

/* Take over the table behind `fd` (not consumed): own description, exclusive flock, checks, bump of
 * `generation`, expansion of every LIVE slot, end of removals a crash interrupted. -EBUSY when another
 * dataplane holds it. Service thread. */
int sessions_attach(struct sessions **out, int fd, const struct aead *aead, uint64_t now_ns,
	struct error *err);
void sessions_detach(struct sessions *s); /* wipes private keys; the table stays. NULL allowed */

/* Expand the keys of LIVE slot `index`, or renew the expiry of a session that is already there. */
int sessions_add(struct sessions *s, uint64_t index, uint64_t now_ns, struct error *err);

/* Stop accepting slot `index` if it still is `session_id`: 0 = it was; -ESRCH = gone already. The
 * caller then waits until all workers have passed, and calls sessions_remove_finish(). */
int sessions_remove_begin(struct sessions *s, uint64_t index, uint64_t session_id);
/* Wipe keys and lanes; the slot becomes FREE. */
void sessions_remove_finish(struct sessions *s, uint64_t index);
