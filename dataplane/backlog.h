/* SPDX-License-Identifier: BSD-3-Clause
 * Requests that wait: when a worker's core has more to compute than one turn, requests leave their burst
 * and are served in fair shares (fair.h); those whose run is longer than the slice become jobs (job.h), on engine cores where there are any (engine.h).
 *
 *                                        ┌ bypass: nothing waits, cheap ─────────┐
 *   limit ─ verdict ─ charge ─ permit ───┼ quick: fair ─▶ a burst of one turn ───┼▶ batch ▸ infer ▸ reply ▸ tx
 *             │                          └ slow: fair ─▶ job, in slices ─────────┴──▶ reply ▸ tx
 *             └ OVERLOADED, DEADLINE_EXCEEDED: one unit, no model's cost
 *
 * A waiting request keeps its packet's buffer, its wide buffers and its model's artifact (model_use.held);
 * its session is looked at again before it is answered. Between quick and slow the core is shared by the
 * weights of those who use them while both want it; idle time belongs to the slow. Worker thread only.
 */
#pragma once

#include "abi/limits.h"
#include "engine.h"
#include "fair.h"
#include "job.h"

struct worker;

enum {
	BACKLOG_MAX = 1024, /* requests that may wait: a quarter of the fewest buffers a queue has */
	BACKLOG_TURN_PARTS = 4, /* a turn is a quarter of the slice */
	BACKLOG_STEP_PARTS = 16, /* a slow job holds an idle core for a 16th of the slice */
	BACKLOG_JOB_SLICES = 8, /* requests of a model that are short enough run together for so long */
};

/* A request outside its burst. */
struct waiting {
	struct packet packet;
	struct request request;
	void *buffer;
	uint8_t *data;
	uint64_t arrived_ns;
	uint64_t session_id;
	uint64_t cost_ns;
	uint32_t subscriber;
	uint16_t bytes, room, reply_bytes;
	uint16_t gateway; /* HTTPS slot + 1; 0 = a datagram */
};

struct backlog {
	uint64_t dear_ns;  /* 32 rows that cost less pass by; 0 while somebody waits for this core */
	uint64_t pending_ns; /* work of this burst that passed by */
	uint32_t moved;    /* requests of this burst that wait now */
	bool engaged;      /* something waits or runs */
	struct fair quick, slow;
	struct waiting *all; /* NULL = nothing ever waits (no memory was given) */
	uint16_t *unused;
	uint32_t n_unused, n_max;
	uint16_t *busy; /* [LIMITS_MAX_SLOTS] requests of each subscriber that wait or run */
	uint64_t turn_ns, slice_ns, step_tsc;
	int64_t credit_ns; /* time the slow have earned while the quick were served */
	struct job *job;   /* between polls; NULL where there are engines */
	struct job *jobs;  /* memory of all of them: one, or ENGINE_JOBS an engine */
	uint32_t n_jobs;
	struct engine *engines;
	uint32_t n_engines;
	uint64_t engine_ns[DP_MAX_ENGINES]; /* work of ours at each */
	uint16_t served[BURST_MAX]; /* of the burst being served */
};

struct backlog_config {
	uint32_t queue_us;    /* work that may wait for a core */
	uint32_t slice_us;
	uint32_t max_waiting; /* requests; 0 = BACKLOG_MAX */
	uint64_t tsc_hz;
	struct engine *engines; /* [n_engines]; none: jobs run between polls */
	uint32_t n_engines;
};

/* 0 or -ENOMEM. */
int backlog_init(struct backlog *b, const struct backlog_config *c);
void backlog_uninit(struct backlog *b); /* zeroed is allowed */

/* A burst begins. */
static inline void backlog_new_burst(struct backlog *b)
{
	b->pending_ns = 0;
	b->moved = 0;
}

/* Does request `r` of `model` need a verdict and perhaps a place? No in the usual case: nothing waits, it
 * is cheap and has no deadline. */
static inline bool backlog_concerns(const struct backlog *b, const struct request *r,
	const struct model_use *use)
{
	return (uint64_t)use->cost.ns[COST_SHARE_BUCKET] * r->n_rows > b->dear_ns || r->deadline_us;
}

/* Before it is charged: WIRE_RESULT, or why it cannot be computed in time; then r->retry_after_us says when
 * to come back. */
enum wire_status backlog_verdict(struct worker *w, uint32_t packet);

/* After it was charged: put packet's request aside unless it can pass by. True = it has left the burst. */
bool backlog_put(struct worker *w, uint32_t packet);

/* One turn: a burst of those who wait, and a step of a job. `second_half` brings w->burst from PKT_RUN to
 * the port. `busy`: packets keep coming. Between bursts. */
void backlog_serve(struct worker *w, bool busy, void (*second_half)(struct worker *w));
