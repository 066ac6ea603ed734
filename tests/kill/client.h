/* SPDX-License-Identifier: BSD-3-Clause
 * The client of the kill matrix: it writes down every datagram it sends and every reply counter it sees,
 * repeats its own old datagrams as an attacker would, and retries until everything is answered.
 *
 * What it finds wrong it counts: a reply counter (key id, epoch, lane, counter) seen twice, a datagram
 * answered twice, a reply that is not genuine or wrong.
 */
#pragma once

#include "tests/pipeline/rig.h"

enum {
	CLIENT_SESSIONS = 4, /* live throughout, subscribers 0..3 */
	CLIENT_GUEST = 4,    /* comes and goes, subscriber 4 */
	CLIENT_WINDOW = 24,
	CLIENT_RECENT = 2048, /* datagrams kept to be repeated */
	CLIENT_MAX_FRAMES = 1 << 20,
	CLIENT_FRAME_BYTES = 192,
};

struct sent_frame {
	uint32_t request;
	uint8_t session;
	bool answered;
	uint64_t counter;
};

struct client {
	struct rig_client sessions[CLIENT_SESSIONS + 1];
	bool guest; /* may be used */
	/* key epochs, by session */
	uint64_t answered_ns[CLIENT_SESSIONS + 1]; /* first answer under the present epoch; 0 = none yet */
	uint32_t epochs;
	/* by request: its session, answered? */
	uint8_t *request_session;
	bool *request_answered;
	uint32_t n_requests, n_answered;
	uint32_t retry_from; /* no request before this one is open */
	uint32_t retry_next, retry_end; /* the open ones among these are still to be tried again */
	/* by frame; its number is its request id on the wire */
	struct sent_frame *frames;
	uint32_t n_frames, sent_by[CLIENT_SESSIONS + 1], repeats;
	uint8_t (*recent)[CLIENT_FRAME_BYTES];
	uint16_t recent_bytes[CLIENT_RECENT];
	/* every reply counter seen */
	struct nonce *nonces;
	uint32_t n_nonces;
	/* what must not be */
	uint32_t nonces_repeated, accepted_twice, not_genuine, wrong;
};

void client_init(struct client *c);
/* A new request of session `s`: its frame. */
size_t client_request(struct client *c, uint32_t s, uint8_t *frame);
/* Go through the requests that are open now: another frame for each of them, then 0. */
void client_retry_begin(struct client *c);
size_t client_retry(struct client *c, uint8_t *frame);
/* One of the recent datagrams again, bit by bit. 0 = none yet. */
size_t client_repeat(struct client *c, uint32_t random, uint8_t *frame);
void client_reply(struct client *c, const uint8_t *frame, size_t n);
/* Step the sessions that may: an answer under the present epoch is WIRE_EPOCH_MIN_S old. Slowly, over all the
 * kills there are, because the rig derives each key from the first. */
void client_ratchet(struct client *c, uint64_t now_ns, uint32_t kills);
/* The guest is gone: its open requests will not be answered. */
void client_forget_guest(struct client *c);
