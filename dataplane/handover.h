/* SPDX-License-Identifier: BSD-3-Clause
 * Hand-over between workers: a lane has one owner (abi/session.h), and a packet that lands on another
 * worker is opened there and handed to the owner as authentic plaintext in its own buffer.
 *
 *   worker a ─ring[a][b]▶ worker b        one producer, one consumer a ring; a full ring is a drop
 *
 * Within one port only: the owner sends the reply on its own queue, and buffers belong to a port. Not
 * there with a single worker.
 */
#pragma once

#include <stdbool.h>

#include "abi/config.h"
#include "parse.h"

enum { HANDOVER_SLOTS = 256 };

struct handed {
	void *buffer; /* the port's; the taker's from now on */
	uint8_t *data;
	uint16_t bytes, room;
	uint64_t session_id; /* of the cell that authenticated it: the session may end on the way */
	struct packet packet;
};

struct handover_ring {
	uint64_t head MR_ALIGNED(64);
	uint64_t tail MR_ALIGNED(64);
	struct handed slots[HANDOVER_SLOTS] MR_ALIGNED(64);
};

struct handover {
	uint32_t n_workers;
	struct handover_ring rings[]; /* [from * n_workers + to] */
};

/* Rings between `n_workers` workers; *out stays NULL for one. 0 or -ENOMEM. */
int handover_init(struct handover **out, uint32_t n_workers);
void handover_uninit(struct handover *h); /* NULL allowed */

/* Worker `from`: copy *e for worker `to`. False when its ring is full. */
bool handover_put(struct handover *h, uint32_t from, uint32_t to, const struct handed *e);
/* Worker `to`: the next from worker `from`, if any. */
bool handover_get(struct handover *h, uint32_t from, uint32_t to, struct handed *e);
