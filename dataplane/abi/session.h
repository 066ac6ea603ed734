/* SPDX-License-Identifier: BSD-3-Clause
 * The session table: raw keys, replay windows and reserved send counters in one sealed memfd, so
 * that a crashed dataplane resumes without anybody enrolling again. Everything in it is secret.
 *
 *   +--------------------+----------------------------+------------------------------------------+
 *   | session_table 4096 | slots[capacity]  512 each  | lanes[capacity x lanes]  1,088 each      |
 *   +--------------------+----------------------------+------------------------------------------+
 *
 * The slot of a key id is `key_id & (capacity - 1)`: control draws random key ids until that slot
 * is free, so look-up is one index and one compare. Session `s`, lane `l` uses lanes[s * lanes + l].
 *
 * Who writes: control fills a FREE slot (state last, release) and keeps the table unmapped
 * otherwise; the dataplane owns a LIVE slot and every lane. One dataplane at a time: it re-opens the
 * fd, takes flock(LOCK_EX|LOCK_NB), then bumps `generation`.
 *
 * Ratchet (protocol.md): `epoch` is the newest epoch whose successor's keys stand ready in keys[]. The
 * first authentic packet of that successor makes it current at once, in private memory and in `promoted`;
 * the service thread then derives the next keys, and moves `epoch` on when they are complete. After a
 * crash between the two the next dataplane does so at its start: a client that has had its answer may
 * step again without sending anything else under this epoch. Order of stores, each a release: promoted,
 * secrets[(e + 2) & 1], keys[(e + 2) % 3], epoch = e + 1; then the secret of e + 1 is wiped, and the
 * keys of e when their time is over.
 *
 * A lane belongs to the worker that saw its first authentic packet, for as long as that dataplane
 * lives; other workers open packets and hand them over.
 */
#pragma once

#include "abi/types.h"
#include "abi/wire.h"

#define SESSION_MAGIC 0x31534553524c494dull /* "MILRSES1" */

enum {
	SESSION_VERSION = 2,
	SESSION_TABLE_BYTES = 4096,
	SESSION_MIN_CAPACITY = 64,
	SESSION_MAX_CAPACITY = 1 << 20,
	SESSION_WINDOW_BITS = 8192,  /* ring of bits (RFC 6479) */
	SESSION_WINDOW = 8192 - 64,  /* counters older than highest - 8128 are refused */
	SESSION_WINDOW_WORDS = SESSION_WINDOW_BITS / 64,
	SESSION_RESERVE = 1 << 16, /* send counters a worker may reserve ahead */
	SESSION_EPOCHS = 3,
	SESSION_PREVIOUS_S = 3, /* how long packets of the epoch before are still accepted */
	SESSION_EPOCH_MAX_S = 2 * WIRE_EPOCH_S, /* twice the client's limits: the epoch is refused */
};

#define SESSION_EPOCH_MAX_DATAGRAMS (2 * WIRE_EPOCH_DATAGRAMS)

enum session_state {
	SESSION_FREE = 0,
	SESSION_LIVE = 1,
	SESSION_CLOSED = 2, /* control asked for removal; the dataplane wipes the keys, then FREE */
};

/* session_slot.flags */
enum { SESSION_PROVISIONAL = 1u << 0 /* source address not yet proven: wire.h, path challenge */ };

/* Keys of one epoch, as derived by base/hkdf.h. */
struct session_keys {
	uint8_t c2s_key[WIRE_KEY_BYTES];
	uint8_t s2c_key[WIRE_KEY_BYTES];
	uint8_t c2s_iv[WIRE_IV_BYTES];
	uint8_t s2c_iv[WIRE_IV_BYTES];
	uint32_t valid;
	uint32_t epoch;
};

struct session_slot {
	uint32_t key_id;
	uint32_t state; /* enum session_state; written last, with release */
	uint32_t subscriber;    /* index of the limit_slot */
	uint32_t flags;
	struct ip_addr source;  /* the only address whose packets count */
	uint64_t expires_ns;    /* CLOCK_MONOTONIC */
	uint64_t issued_ns;
	uint64_t session_id;    /* control's name for it, never reused */
	uint32_t epoch;
	uint32_t promoted; /* the newest epoch that was made current; epoch, or epoch + 1 for a moment */
	struct session_keys keys[SESSION_EPOCHS]; /* [epoch % 3]; previous, current, next */
	uint8_t secrets[2][32]; /* [(epoch + 1) & 1]: HKDF secret of epoch + 1; older ones are wiped */
	uint64_t challenge; /* random; proves a provisional source (wire.h, path challenge) */
	uint8_t pad2[88];
};

struct session_lane {
	uint64_t highest;    /* highest counter accepted + 1; 0 = none yet */
	uint64_t send_limit; /* send counters below this may have been used: a restart begins here */
	uint64_t send_next;  /* the present dataplane's, at most send_limit; means nothing to the next */
	uint64_t pad[5];
	uint64_t bits[SESSION_WINDOW_WORDS];
};

struct session_table {
	uint64_t magic;
	uint32_t version;
	uint32_t capacity; /* slots, a power of two */
	uint32_t lanes;    /* per session, 1..WIRE_MAX_LANES */
	uint32_t generation; /* bumped by each dataplane that takes the table over */
	uint64_t slots_offset;
	uint64_t lanes_offset;
	uint64_t total_bytes;
};

static inline uint64_t session_table_bytes(uint32_t capacity, uint32_t lanes)
{
	return SESSION_TABLE_BYTES + (uint64_t)capacity * sizeof(struct session_slot) +
	       (uint64_t)capacity * lanes * sizeof(struct session_lane);
}

STATIC_ASSERT(sizeof(struct session_keys) == 96, "session_keys");
STATIC_ASSERT(sizeof(struct session_slot) == 512, "session_slot");
STATIC_ASSERT(sizeof(struct session_lane) == 1088, "session_lane");
STATIC_ASSERT(sizeof(struct session_lane) % MR_CACHE_LINE == 0, "lanes do not share lines");
