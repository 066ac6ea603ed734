/* SPDX-License-Identifier: BSD-3-Clause
 * The unit of work of the poll loop: up to 64 packets taken from one queue at one moment, and what
 * every stage found out about each of them. One per worker, reused; no stage allocates.
 *
 * Each packet moves through the states below in order, or drops out. The buffer belongs to the
 * burst from rx to tx; tx either sends it or gives it back to the port.
 */
#pragma once

#include "abi/limits.h"
#include "abi/session.h"
#include "abi/wire.h"
#include "parse.h"
#include "sessions.h"

struct live_model;

enum {
	BURST_MAX = 64,
	/* Plaintext of a reply, built outside the packet: struct wire_reply, then rows. */
	BURST_REPLY_BYTES = 1216, /* of one datagram; longer ones are built in a wide buffer */
};

enum packet_state {
	PKT_DROPPED,   /* counted; tx gives the buffer back */
	PKT_DATAGRAM,  /* parse: well-formed datagram for us */
	PKT_OPENED,    /* rx: opened in place by another worker, which handed it over */
	PKT_HANDED,    /* auth: another worker's now, buffer and all */
	PKT_AUTHENTIC, /* auth: opened in place, replay window updated */
	PKT_RUN,       /* limit: charged and permitted, waits for its model */
	PKT_HELD,      /* limit: counted; its rows wait in an assembly (segments.h) */
	PKT_MOVED,     /* limit: waits outside the burst (backlog.h), its buffer too; or answered into a slot */
	PKT_REPLY,     /* typed answer decided; the rows of a result are at request_out() */
	PKT_SEND,      /* frame complete */
	PKT_SEND_NEIGHBOUR, /* ARP, ND or echo answer complete */
};

struct request {
	struct session_cell *cell;
	struct session_lane *lane;
	struct limit_slot *limit; /* NULL = no limits mapped */
	const struct live_model *model;
	const uint8_t *rows; /* in the packet, decrypted; of several segments: in `in` */
	uint64_t request_id;
	uint32_t model_id;
	uint32_t deadline_us;
	uint32_t retry_after_us;
	uint16_t n_rows;
	uint16_t detail; /* wire_reply.detail */
	uint8_t status;  /* enum wire_status */
	uint8_t next;    /* next packet of the same group + 1; 0 = last */
	uint16_t in, out; /* wide.h: rows of a request, of a reply that are larger than a datagram; 0 = not */
	uint8_t dtype_out; /* of the reply's first output */
	uint8_t keep;      /* 1 = a result goes into the reply store */
};

STATIC_ASSERT(sizeof(struct request) == 72, "request");

/* Packets of one model, in arrival order. */
struct group {
	const struct live_model *model;
	uint32_t rows;
	uint8_t first, last; /* packet + 1 */
};

struct burst {
	uint32_t n;
	uint32_t n_received; /* of them from the port; the others were handed over */
	uint32_t n_groups;
	uint32_t n_wide; /* requests that own a wide buffer: tx gives them back */
	uint64_t now_ns; /* when the burst was taken = arrival of its packets */
	void *buffers[BURST_MAX]; /* the port's handles */
	uint8_t *data[BURST_MAX]; /* first byte of the frame; NULL = frame in several segments */
	uint16_t bytes[BURST_MAX];
	uint16_t room[BURST_MAX]; /* bytes a reply may use from data */
	uint8_t state[BURST_MAX]; /* enum packet_state */
	uint16_t reply_bytes[BURST_MAX]; /* row bytes of the reply, should it be a result */
	struct packet packets[BURST_MAX];
	struct request requests[BURST_MAX];
	struct group groups[BURST_MAX];
	uint8_t reply[BURST_MAX][BURST_REPLY_BYTES] MR_ALIGNED(64);
};
