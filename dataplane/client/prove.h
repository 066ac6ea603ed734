/* SPDX-License-Identifier: BSD-3-Clause
 * The client's part of the path challenge (abi/wire.h): show that we receive where we said.
 */
#pragma once

#include "base/error.h"
#include "client/channel.h"

enum { PROOF_BYTES = WIRE_MIN_PAYLOAD_BYTES + WIRE_PATH_BYTES };

/* One session's; zeroed at first. */
struct proof {
	uint8_t echo[WIRE_PATH_BYTES]; /* what to send: the challenge once it is known */
	uint64_t id;
};

/* Seal the next question into out[PROOF_BYTES]. Returns its bytes, or -errno. */
int proof_ask(struct proof *p, struct channel *ch, uint8_t *out);
/* Look at a received datagram, which is decrypted in place: 1 = proven, 0 = ask (again), -EPROTO = the
 * server refuses. Whatever is no answer to a question counts as lost. */
int proof_take(struct proof *p, struct channel *ch, uint8_t *datagram, size_t n);

/* Both in turns through `fd`, a connected UDP socket with nothing else in flight, for at most `timeout_ms`.
 * 0, -ETIMEDOUT when nothing came back, -EPROTO when the server refuses. */
int prove_address(struct channel *ch, int fd, uint32_t timeout_ms, struct error *err);
