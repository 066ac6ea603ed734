/* SPDX-License-Identifier: BSD-3-Clause
 * The workers' end of abi/gateway.h: requests that came over HTTPS join the pipeline after auth.
 */
#pragma once

#include <stdbool.h>

#include "abi/gateway.h"
#include "base/error.h"

struct worker;

enum { GATEWAY_BURST = 16 }; /* taken at once, so that datagrams never wait for long */

/* A worker's place: what it has seen of the doorbell, and private copies of the requests it runs
 * (copy, check the copy, use the copy). */
struct gateway_worker {
	uint64_t seen;
	uint64_t waiting; /* bit s: the request of slot s has been taken and is not answered yet */
	uint8_t slot[GATEWAY_BURST];
	uint8_t text[GATEWAY_SLOTS][WIRE_MAX_PAYLOAD_BYTES];
};

STATIC_ASSERT(GATEWAY_SLOTS <= 64, "a bit for each");

/* Map and check the region behind `fd` (not consumed). 0 or -errno with err. Service thread. */
int gateway_open(struct gateway_region **out, int fd, struct error *err);
void gateway_close(struct gateway_region *g); /* NULL allowed */

/* Serve up to GATEWAY_BURST of the slots that are ours. True when there were any. Uses w->burst, so it
 * runs between bursts. Worker thread. */
bool gateway_poll(struct worker *w, struct gateway_region *g);

/* Has anything been submitted since we last looked? One load. */
static inline bool gateway_rang(const struct gateway_region *g, const struct gateway_worker *gw)
{
	return g && __atomic_load_n(&g->header.submitted, __ATOMIC_ACQUIRE) != gw->seen;
}

static inline bool gateway_holds(const struct gateway_worker *gw)
{
	return gw->waiting != 0;
}

/* Place `i` of this burst's requests is not answered now. Its slot + 1. */
static inline uint16_t gateway_keep(struct gateway_worker *gw, uint32_t i)
{
	gw->waiting |= 1ull << gw->slot[i];
	return (uint16_t)(gw->slot[i] + 1);
}
