/* SPDX-License-Identifier: BSD-3-Clause
 * A port without a NIC, for tests: frames are put into one end and taken from the other, in one
 * process and one thread. Time is a number the test sets. Queues of one port share its buffers, and may
 * then belong to different threads.
 */
#pragma once

#include <pthread.h>

#include "port.h"
#include "worker.h"

enum { PORT_MEM_FRAMES = 256, PORT_MEM_ROOM = 2048 };

struct port_mem_frame {
	uint16_t bytes;
	uint8_t data[PORT_MEM_ROOM];
};

struct port_mem_pool {
	pthread_mutex_t lock;
	struct port_mem_frame frames[PORT_MEM_FRAMES];
	struct port_mem_frame *unused[PORT_MEM_FRAMES];
	uint32_t n_unused;
};

struct port_mem {
	struct port_queue queue; /* what the worker polls */
	struct port_mem_pool own, *pool;
	struct port_mem_frame *waiting[PORT_MEM_FRAMES]; /* to be received, in order */
	struct port_mem_frame *sent[PORT_MEM_FRAMES];    /* by the worker, in order */
	uint32_t n_waiting, n_sent;
	uint32_t tx_room; /* frames the transmit queue still takes; UINT32_MAX = any number */
	uint64_t now_ns;  /* the clock of port_mem_clock() */
	uint64_t step_ns; /* added at each reading */
};

/* `parse` must outlive the port. */
void port_mem_init(struct port_mem *p, const struct parse_config *parse);
/* Make `p` another queue of the port whose first queue is `first`. Before any frame. */
void port_mem_share(struct port_mem *p, struct port_mem *first);
/* Queue a frame for the worker. False when all buffers are in use or n > PORT_MEM_ROOM. */
bool port_mem_put(struct port_mem *p, const void *frame, size_t n);
/* Copy out the oldest frame the worker sent (room PORT_MEM_ROOM). Its length, 0 = none. */
size_t port_mem_get(struct port_mem *p, void *frame);
/* Buffers neither waiting nor sent: all of them when nothing leaks. */
uint32_t port_mem_unused(const struct port_mem *p);
struct clock_source port_mem_clock(struct port_mem *p);
