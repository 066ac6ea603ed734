/* SPDX-License-Identifier: BSD-3-Clause
 * Sleep for idle workers (dataplane.poll: adaptive): after a quiet while a worker waits for its queue's
 * descriptor instead of looking at the queue, and the service thread can wake it as well (HTTPS requests, and
 * to measure how long a wake-up takes).
 *
 * An AF_XDP queue has a descriptor. DPDK's memif driver has none (it masks its rings' interrupts) and this
 * code uses no instruction that waits for memory: such a queue is looked at every DOZE_NAP_US.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum {
	DOZE_QUIET_US = 200,  /* without a packet before the first sleep */
	DOZE_SLEEP_US = 5000, /* at most at once: the worker still shows life and lets models go */
	DOZE_NAP_US = 50,     /* the same where only the clock tells of work */
};

struct doze {
	bool on;
	int queue_fd; /* -1 = the queue has none */
	int wake_fd;  /* eventfd */
	long most_ns; /* of one sleep */
	uint32_t asleep;     /* atomic */
	uint64_t pinged_ns;  /* atomic: when the service thread rang to measure; 0 = it did not */
};

/* `alone`: no other worker hands packets over. 0 or -errno. A zeroed one never sleeps. */
int doze_init(struct doze *d, int queue_fd, bool alone);
void doze_uninit(struct doze *d);

/* Worker thread: sleep until the queue has something, somebody rings, or the time is over. Returns how long
 * after the ring it woke, 0 = nobody rang to measure. */
uint64_t doze_sleep(struct doze *d);

/* Any thread: wake it if it sleeps. `measure`: it shall say how long that took. */
void doze_ring(struct doze *d, bool measure);
