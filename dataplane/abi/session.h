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
 * A lane has one user at a time. protocol.md gives each lane to the queue of its first authentic
 * packet and hands the others' packets over; for now any worker may use any lane, under a lock of that
 * lane that is private to the dataplane (none with a single worker). The layout is the same either
 * way, and so is what a crash may lose.
 */
#pragma once

#include "abi/types.h"
#include "abi/wire.h"

#define SESSION_MAGIC 0x31534553524c494dull /* "MILRSES1" */

enum {
	SESSION_VERSION = 1,
	SESSION_TABLE_BYTES = 4096,
	SESSION_MIN_CAPACITY = 64,
	SESSION_MAX_CAPACITY = 1 << 20,
	SESSION_WINDOW_BITS = 8192,  /* ring of bits (RFC 6479) */
	SESSION_WINDOW = 8192 - 64,  /* counters older than highest - 8128 are refused */
	SESSION_WINDOW_WORDS = SESSION_WINDOW_BITS / 64,
	SESSION_RESERVE = 1 << 16, /* send counters a worker may reserve ahead */
	SESSION_EPOCHS = 3,
};

enum session_state {
	SESSION_FREE = 0,
	SESSION_LIVE = 1,
	SESSION_CLOSED = 2, /* control asked for removal; the dataplane wipes the keys, then FREE */
};

/* session_slot.flags */
enum { SESSION_PROVISIONAL = 1u << 0 /* source address not yet proven (issue 4) */ };

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
	uint32_t epoch;         /* current epoch number */
	uint32_t pad;
	struct session_keys keys[SESSION_EPOCHS]; /* [epoch % 3]; previous, current, next */
	uint8_t next_secret[32]; /* HKDF secret of epoch + 1; older secrets are wiped */
	uint8_t pad2[128];
};

struct session_lane {
	uint64_t highest;    /* highest counter accepted + 1; 0 = none yet */
	uint64_t send_limit; /* send counters below this may have been used: a restart begins here */
	uint64_t bits[SESSION_WINDOW_WORDS];
	uint64_t pad[6];
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
