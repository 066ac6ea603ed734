/* SPDX-License-Identifier: BSD-3-Clause
 * The server's side of the key ratchet (abi/wire.h, abi/session.h).
 *
 *   worker: first authentic packet of `next` ──▶ session_promote(): current = next, at once
 *                                                  │ promotions ring
 *   service thread: ratchet_promoted(): derives the epoch after, moves the table on
 *                   ratchet_turn(), 3.5 s later: wipes the epoch before, expands the one after: `next`
 *
 * A cell has room for two epochs' expanded keys, by the epoch's lowest bit: current and previous for
 * three seconds, current and next from then on. No worker ever sees a half-written key: `next_ready`
 * is stored after the keys, and the previous ones are overwritten half a second after the last burst
 * that may have accepted them began.
 */
#pragma once

#include "sessions.h"

enum { PROMOTIONS = 1024 };

/* Sessions a worker has promoted, for the service thread. Single producer, single consumer. */
struct promotions {
	uint64_t head MR_ALIGNED(64);
	uint64_t tail MR_ALIGNED(64);
	uint32_t slots[PROMOTIONS];
};

/* Send counters reserved so far, over all lanes: what a session has sealed, rounded up. Any thread. */
uint64_t sessions_reserved(const struct sessions *s, const struct session_cell *c);

/* A new end of the session; the end of the current epoch follows. Service thread. */
void session_renew(struct session_cell *c, uint64_t expires_ns);

/* A packet of epoch + 1 was authentic: make that epoch current. Nothing happens when another worker is
 * doing so, or while `p` is full (a later packet tries again). Worker thread. */
void session_promote(struct sessions *s, struct session_cell *c, struct promotions *p, uint64_t now_ns);

/* A new reservation of send counters: has this epoch sealed twice what a client should let it? Then it
 * is refused from now on. Worker thread, once in 65,536 replies of a lane. */
void session_check_spent(const struct sessions *s, struct session_cell *c);

/* ---- service thread ---- */

/* Room for the promotions of `capacity` sessions. 0 or -ENOMEM. */
int ratchet_new(struct ratchet **out, uint32_t capacity, struct error *err);
void ratchet_free(struct ratchet *r); /* NULL allowed */

/* Expand the keys of `epoch`, which stand in `slot`, into the cell's place for it. */
void ratchet_expand(const struct sessions *s, struct session_cell *c, const struct session_slot *slot,
	uint32_t epoch);

/* Finish a promotion that a crash interrupted. 0 or -EIO. */
int ratchet_recover(struct session_slot *slot);

/* Make the epoch after the current one ready: derive its keys into the slot unless they are there, and
 * expand them. Every older epoch's keys in the slot are wiped. 0 or -EIO. */
int ratchet_prepare(const struct sessions *s, struct session_cell *c, struct session_slot *slot);

/* Take what workers have promoted, and finish what was promoted three seconds ago. */
void ratchet_take(struct sessions *s, struct promotions *p);
void ratchet_turn(struct sessions *s, uint64_t now_ns);
