/* SPDX-License-Identifier: BSD-3-Clause
 * One lane of a datagram session, seen from either end: seal what we send, open what we receive.
 * Pure over raw buffers: no sockets, no DPDK, no allocation after channel_init(), no clock.
 *
 * A channel belongs to one thread. It never uses a counter twice: channel_seal_*() takes the next
 * one; when the counters run out (2^64) the caller is long dead. The client's end steps the key
 * ratchet while it seals (abi/wire.h); the server's end follows what it opens.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "abi/wire.h"
#include "base/aead.h"
#include "client/window.h"

enum channel_role { CHANNEL_CLIENT, CHANNEL_SERVER };

/* Keys of one epoch, expanded. */
struct channel_keys {
	struct aead_key *seal, *open;
	bool valid;
};

struct channel {
	const struct aead *aead;
	uint8_t *memory;              /* of all expanded keys: one allocation, secret */
	struct channel_keys keys[2];  /* [epoch & 1]: current, and previous or none */
	uint8_t next_secret[WIRE_KEY_BYTES]; /* of epoch + 1 */
	uint32_t epoch;
	enum channel_role role;
	uint64_t sealed;         /* datagrams of this epoch */
	uint64_t limit;          /* the client steps when it has sealed so many: first 100, then ... */
	uint64_t epoch_datagrams; /* ... so many: WIRE_EPOCH_DATAGRAMS, or what a test sets */
	uint64_t epoch_began_ns; /* 0 = at the first channel_clock() */
	bool answered;           /* under this epoch, and when first */
	uint64_t answered_ns;
	uint64_t now_ns;
	uint32_t key_id;
	uint16_t lane;
	uint8_t seal_type; /* enum wire_type of what this end sends */
	uint8_t open_type;
	uint64_t next_counter; /* of the next datagram sealed */
	struct window received;
};

/* Why channel_open_*() refused a datagram. */
enum channel_verdict {
	CHANNEL_OK = 0,
	CHANNEL_LENGTH,  /* shorter or longer than any datagram of this direction */
	CHANNEL_HEADER,  /* type, version, flags, lane or epoch is not ours */
	CHANNEL_KEY_ID,  /* another session's */
	CHANNEL_REPLAY,  /* counter seen before, or older than the window */
	CHANNEL_TAG,     /* not authentic; the buffer's contents are now undefined */
	CHANNEL_CONTENT, /* authentic, but the inner header contradicts the length */
	CHANNEL_VERDICTS
};

/* Short name of a verdict, for counters and messages. */
const char *channel_verdict_name(enum channel_verdict verdict);

/* What time it is, on a clock that only grows; for the ratchet's limits in seconds. A channel that is
 * never told steps by count alone. */
void channel_clock(struct channel *ch, uint64_t now_ns);

/* Derive the epoch-0 keys of (secret, key_id) and expand them. `aead` must outlive the channel.
 * 0, -ENOMEM or -EIO (libcrypto failed). The caller still owns and wipes `secret`. */
int channel_init(struct channel *ch, const struct aead *aead, const uint8_t secret[WIRE_KEY_BYTES],
	uint32_t key_id, uint16_t lane, enum channel_role role);

/* Wipe and free the keys. A zeroed channel is allowed. */
void channel_uninit(struct channel *ch);

/* Build one sealed request in out[0..cap): `request` as given, then rows[0..row_bytes). rows may
 * already stand at out + WIRE_HEADER_BYTES + WIRE_REQUEST_BYTES, else must not overlap out.
 * Returns the datagram's bytes, or -EMSGSIZE when it exceeds cap or WIRE_MAX_PAYLOAD_BYTES. */
int channel_seal_request(struct channel *ch, const struct wire_request *request, const void *rows,
	size_t row_bytes, uint8_t *out, size_t cap);

/* The same for a reply (server's end). */
int channel_seal_reply(struct channel *ch, const struct wire_reply *reply, const void *rows,
	size_t row_bytes, uint8_t *out, size_t cap);

/* Check and decrypt datagram[0..n) in place. On CHANNEL_OK *reply is a copy of the inner header and
 * (*rows, *row_bytes) the rows inside datagram. On any other verdict the outputs are not set. */
enum channel_verdict channel_open_reply(struct channel *ch, uint8_t *datagram, size_t n,
	struct wire_reply *reply, const uint8_t **rows, size_t *row_bytes);

/* The same for a request (server's end). */
enum channel_verdict channel_open_request(struct channel *ch, uint8_t *datagram, size_t n,
	struct wire_request *request, const uint8_t **rows, size_t *row_bytes);
