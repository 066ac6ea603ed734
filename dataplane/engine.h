/* SPDX-License-Identifier: BSD-3-Clause
 * A core that only runs jobs (job.h): workers hand them over and take the answers back, so that a long model
 * never stands between a worker and its packets.
 *
 *   worker 0 ═in═▶ ┐                    ┌ ═out═▶ worker 0, which seals and sends
 *   worker 1 ═in═▶ ┴ engine: job_step ──┴ ═out═▶ worker 1
 *
 * Every ring has one producer and one consumer. A worker bounds by work, not by number, what it hands over:
 * fairness is decided in its own queue (fair.h), so an engine has only what keeps it from idling. No DPDK.
 */
#pragma once

#include "abi/stats.h"
#include "job.h"

enum { ENGINE_RING = 4, ENGINE_JOBS = 2 }; /* jobs of a worker at one engine: one runs, one waits */

struct engine_ring {
	uint32_t head MR_ALIGNED(64); /* producer's */
	uint32_t tail MR_ALIGNED(64); /* consumer's */
	struct job *slots[ENGINE_RING];
};

struct engine {
	struct engine_ring in[DP_MAX_WORKERS], out[DP_MAX_WORKERS];
	uint32_t index; /* of live_model.job_runs */
	uint32_t n_workers;
	uint32_t next;  /* worker to ask first */
	uint32_t stop;  /* atomic; 1 = return when the rings are empty */
	uint64_t slice_tsc; /* between signs of life */
	bool naps;      /* sleep a little when there has been nothing for long */
	struct stats_engine *stats;
};

STATIC_ASSERT((int)ENGINE_RING >= (int)ENGINE_JOBS, "a worker never finds a ring full");

/* Append one. 1 = done, 0 = full. */
static inline int engine_put(struct engine_ring *r, struct job *j)
{
	uint32_t head = r->head;

	if (head - __atomic_load_n(&r->tail, __ATOMIC_ACQUIRE) == ENGINE_RING)
		return 0;
	r->slots[head % ENGINE_RING] = j;
	__atomic_store_n(&r->head, head + 1, __ATOMIC_RELEASE);
	return 1;
}

/* Take the oldest; NULL = none. */
static inline struct job *engine_get(struct engine_ring *r)
{
	uint32_t tail = r->tail;
	struct job *j;

	if (tail == __atomic_load_n(&r->head, __ATOMIC_ACQUIRE))
		return NULL;
	j = r->slots[tail % ENGINE_RING];
	__atomic_store_n(&r->tail, tail + 1, __ATOMIC_RELEASE);
	return j;
}

/* Do one job, if there is any. */
bool engine_poll(struct engine *e);
/* Poll until e->stop and nothing is left. Engine's thread. */
void engine_run(struct engine *e);
