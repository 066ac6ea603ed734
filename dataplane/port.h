/* SPDX-License-Identifier: BSD-3-Clause
 * A port's queue as a worker sees it: take frames, send frames, give buffers back. Called once a
 * burst, never once a packet. One worker owns one queue.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "burst.h"

struct port_queue;

struct port_ops {
	/* Take up to `max` frames into b->buffers/data/bytes/room; returns how many. */
	uint32_t (*rx)(struct port_queue *q, struct burst *b, uint32_t max);
	/* Send frames of `bytes[i]` that were built in received or taken buffers. Returns how many
	 * were taken, from the front; the rest stays the caller's. */
	uint32_t (*tx)(
		struct port_queue *q, void *const buffers[], const uint16_t bytes[], uint32_t n);
	/* Take `n` empty buffers to build frames in, all of them or none (false): replies of several
	 * datagrams. data[i] has as much room as a received frame's. Sent and released like those. */
	bool (*take)(struct port_queue *q, void *buffers[], uint8_t *data[], uint32_t n);
	/* Give buffers back unsent. */
	void (*release)(struct port_queue *q, void *const buffers[], uint32_t n);
	/* Is there no buffer left to receive into? Asked now and then while nothing arrives. */
	bool (*starved)(struct port_queue *q);
};

struct port_queue {
	const struct port_ops *ops;
	void *port;     /* the implementation's */
	uint16_t index; /* queue of that port */
	uint16_t port_number;
	const struct parse_config *parse;
	int wait_fd; /* readable when a frame has arrived, for poll(2); -1 = there is no such descriptor */
};
