/* SPDX-License-Identifier: BSD-3-Clause
 * HTTPS inference -> workers: request and reply slots in a memfd of control, for clients that have no
 * datagram session. Control has authenticated the caller, so a slot names its subscriber; everything
 * after that (licence, plan, limiter, model, typed answer) is the same code as for datagrams.
 *
 *   +------------------+---------------+---------------+ ...
 *   | gateway_header   | slot [0]      | slot [1]      |
 *   +------------------+---------------+---------------+
 *
 *   FREE --control fills request, release--> SUBMITTED --worker writes reply, release--> ANSWERED
 *     ^------------------------------------control has read it---------------------------------+
 *
 * A slot holds what a datagram holds as plaintext: struct wire_request and rows; struct wire_reply and
 * rows. Slot i is served by worker i mod n_workers, its only writer while SUBMITTED. `submitted` grows
 * with every submission: it is the workers' doorbell. A dataplane that starts serves what its
 * predecessor left SUBMITTED; a control that starts frees what is ANSWERED.
 */
#pragma once

#include "abi/types.h"
#include "abi/wire.h"

#define GATEWAY_MAGIC 0x31574754524c494dull /* "MILRTGW1" */

enum {
	GATEWAY_VERSION = 1,
	GATEWAY_SLOTS = 64,
	GATEWAY_TEXT_BYTES = WIRE_MAX_PAYLOAD_BYTES - WIRE_HEADER_BYTES - WIRE_TAG_BYTES,
};

enum gateway_state { GATEWAY_FREE = 0, GATEWAY_SUBMITTED = 1, GATEWAY_ANSWERED = 2 };

struct gateway_slot {
	uint32_t state; /* enum gateway_state; every change is a release-store */
	uint32_t subscriber; /* index of the limit_slot */
	uint32_t request_bytes;
	uint32_t reply_bytes;
	uint8_t request[GATEWAY_TEXT_BYTES];
	uint8_t reply[GATEWAY_TEXT_BYTES];
} MR_ALIGNED(64);

struct gateway_header {
	uint64_t magic;
	uint32_t version;
	uint32_t slots; /* GATEWAY_SLOTS */
	uint64_t total_bytes;
	uint64_t submitted MR_ALIGNED(64);
} MR_ALIGNED(64);

struct gateway_region {
	struct gateway_header header;
	struct gateway_slot slots[GATEWAY_SLOTS];
};

STATIC_ASSERT(GATEWAY_TEXT_BYTES == WIRE_REQUEST_BYTES + WIRE_SEGMENT_ROW_BYTES, "one datagram's text");
STATIC_ASSERT(sizeof(struct gateway_header) == 128, "gateway_header");
STATIC_ASSERT(sizeof(struct gateway_slot) % 64 == 0, "slots do not share lines");
