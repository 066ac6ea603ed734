/* SPDX-License-Identifier: BSD-3-Clause
 * Fair service of one core: requests wait in a queue per subscriber, and the queues are served by deficit
 * round robin, in nanoseconds of measured cost times the plan's weight (Shreedhar, Varghese: "Efficient
 * Fair Queueing using Deficit Round Robin", 1995; with a list of its own for those who have just come, as
 * MacGregor and Shi's DRR++ and RFC 8290, so that whoever asks seldom does not wait for whoever asks much).
 *
 *     put ─▶ flow of the subscriber: item ▸ item ▸ item      fresh: flow ▸ flow      ─▶ take
 *            work, deficit, weight                           old:   flow ▸ flow ▸ ..
 *
 * Constant time an item, amortised: a quantum is never smaller than the dearest item, so a flow gives an item
 * away at its second visit at the latest. Memory is bounded by the number of items and of subscribers. One
 * thread; no DPDK.
 *
 * How much may wait is bounded by work, not by number, and shared by dynamic thresholds (Choudhury, Hahne:
 * "Dynamic Queue Length Thresholds for Shared-Memory Packet Switches", 1998): a subscriber may have at most
 * FAIR_ALPHA times what is still free, so there is always room for one who has nothing waiting.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum {
	FAIR_NONE = 0xffff,
	FAIR_ALPHA = 4,
	FAIR_QUANTUM_NS = 2000, /* at least, times the weight */
};

struct fair_flow {
	uint64_t work_ns;   /* of its items */
	int64_t deficit_ns; /* what it may still spend in this turn */
	uint16_t first, last; /* items */
	uint16_t n;
	uint16_t weight;
	uint16_t next; /* flow behind it in its list */
	uint8_t listed; /* enum fair_list + 1; 0 = in none */
	uint8_t pad[5];
};

struct fair_item {
	uint64_t cost_ns;
	uint16_t next;
	uint16_t flow;
	uint32_t pad;
};

enum fair_list { FAIR_FRESH, FAIR_OLD, FAIR_LISTS };

struct fair {
	struct fair_flow *flows; /* [n_flows], by subscriber */
	struct fair_item *items; /* [n_items], by the caller's number */
	uint32_t n_flows, n_items;
	uint32_t n;          /* items that wait */
	uint32_t weight;     /* sum over flows that have items */
	uint64_t work_ns;    /* sum over items */
	uint64_t limit_ns;   /* work that may wait */
	uint64_t quantum_ns; /* >= the dearest item since the queue was last empty */
	uint16_t head[FAIR_LISTS], tail[FAIR_LISTS];
};

/* Items are numbers 0 .. n_items - 1 that the caller hands out; at most FAIR_NONE of them and of flows. The
 * flows' memory is touched as subscribers come. 0 or -ENOMEM. */
int fair_init(struct fair *f, uint32_t n_flows, uint32_t n_items, uint64_t limit_ns);
void fair_uninit(struct fair *f); /* zeroed or failed ones may be passed */

/* May `flow` have `cost_ns` more waiting? */
bool fair_has_room(const struct fair *f, uint32_t flow, uint64_t cost_ns);

/* When it may not: nanoseconds until it might, if nothing else comes. At least 1. */
uint64_t fair_room_in_ns(const struct fair *f, uint32_t flow, uint32_t weight, uint64_t cost_ns);

/* How long until an item of `cost_ns` put now would have been served: all that waits, or less where the
 * flow's share of the core serves it sooner. */
uint64_t fair_served_in_ns(const struct fair *f, uint32_t flow, uint32_t weight, uint64_t cost_ns);

/* Append `item`, which is in no queue, to `flow`. `weight` >= 1 counts from now on. */
void fair_put(struct fair *f, uint32_t flow, uint32_t weight, uint32_t item, uint64_t cost_ns);

/* The item whose turn it is, without or with removing it; FAIR_NONE when nothing waits. A take after a peek
 * takes what was peeked. */
uint32_t fair_peek(struct fair *f);
uint32_t fair_take(struct fair *f);
