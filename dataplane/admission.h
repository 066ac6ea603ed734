/* SPDX-License-Identifier: BSD-3-Clause
 * The shield in a worker: abi/shield.h over a bounded table of sources, one a worker, for ports that have
 * no XDP program in front. A source that is boxed here is reported to the service thread, which puts
 * it into XDP's box too (XDP_MAP_BOX), so that other ports drop its strays before they cost a worker.
 *
 * Only strays are looked up: a packet of a live (key id, source) pair never touches this table.
 */
#pragma once

#include <stdbool.h>

#include "abi/shield.h"
#include "abi/stats.h"

enum {
	ADMISSION_SETS = 1024, /* x WAYS sources: 128 KiB a worker */
	ADMISSION_WAYS = 4,
	ADMISSION_REPORTS = 64, /* boxings that wait for the service thread; more are not reported */
};

struct admission_source {
	struct ip_addr source;
	uint64_t tat_ticks;
	uint64_t boxed_until_ns;
};

struct admission_report {
	struct ip_addr source;
	uint64_t until_ns;
};

struct admission {
	struct admission_source sets[ADMISSION_SETS][ADMISSION_WAYS] MR_ALIGNED(64);
	uint64_t seed; /* of the hash: nobody can aim at a set */
	/* Ring of one producer (worker) and one consumer (service thread). */
	struct admission_report reports[ADMISSION_REPORTS];
	uint32_t head MR_ALIGNED(64); /* written by the worker */
	uint32_t tail MR_ALIGNED(64); /* written by the service thread */
};

/* Prepare a zeroed table. */
void admission_init(struct admission *a, uint64_t seed);

/* One stray of `source`, which without a shield would count as `why`: returns `why`, or STATS_DROP_FLOOD,
 * or STATS_DROP_BOXED. The worker's thread. */
enum stats_counter admission_stray(struct admission *a, const struct ip_addr *source, uint64_t now_ns,
	enum stats_counter why);

/* The oldest boxing not taken yet. False = none. Service thread. */
bool admission_take_report(struct admission *a, struct admission_report *out);
