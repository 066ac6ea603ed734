/* SPDX-License-Identifier: BSD-3-Clause
 * One worker: a queue, a core, a burst, and the poll loop over the stages.
 *
 *   port ─▶ rx ▸ parse ▸ auth ▸ limit ▸ batch ▸ infer ▸ reply ▸ tx ─▶ port
 */
#pragma once

#include <stdbool.h>

#include "abi/stats.h"
#include "admission.h"
#include "backlog.h"
#include "base/aead.h"
#include "burst.h"
#include "doze.h"
#include "gateway.h"
#include "handover.h"
#include "limits_view.h"
#include "model_slot.h"
#include "port.h"
#include "quiesce.h"
#include "ratchet.h"
#include "reply_store.h"
#include "segments.h"
#include "sessions.h"
#include "text_hash.h"
#include "trace.h"

/* Where a worker's time comes from: the kernel, or a test. */
struct clock_source {
	uint64_t (*now_ns)(void *ctx);
	void *ctx;
};

/* What all workers share. Written by the service thread (atomic pointers and words), read once a
 * burst. */
struct shared {
	struct sessions *sessions;   /* NULL until control has offered the table */
	struct limits_view *limits;  /* NULL until control has offered them */
	struct model_table *models;
	struct gateway_region *gateway; /* NULL until control has offered it */
	struct trace *trace;         /* NULL but while rows are recorded or a cache is warmed */
	uint64_t licensed_until_ns;  /* 0 = not licensed */
	uint32_t stop;               /* 1 = drain and return */
	uint32_t n_workers;
	struct handover *handover; /* NULL with a single worker; as ports[] fixed at start */
	uint16_t ports[DP_MAX_WORKERS]; /* of each worker */
	uint32_t n_engines;
	struct engine *engines; /* cores for long runs; set before a worker is made */
	struct aead aead;
	struct quiesce quiesce;
};

/* Rows collected for one run. */
struct piece {
	uint32_t n;
	const void *rows[MODEL_RUN_ROWS];
	void *outs[MODEL_RUN_ROWS];
	/* of a model with a response cache */
	cache_owner owners[MODEL_RUN_ROWS];
	struct text_tag tags[MODEL_RUN_ROWS];
};

enum {
	WORKER_MAX_FRAMES = BURST_MAX * WIRE_MAX_SEGMENTS,
	/* Bursts of which one is timed, standing for all: reading the TSC before and after each stage takes 390
	 * cycles (AMD Zen 5 in a virtual machine), as much as a request alone in its burst. */
	WORKER_TIMED_EVERY = 16,
};

/* Frames of replies behind their first, in buffers taken from the port: reply -> tx. */
struct extra {
	uint32_t n;
	void *buffers[WORKER_MAX_FRAMES];
	uint16_t bytes[WORKER_MAX_FRAMES];
	uint8_t packet[WORKER_MAX_FRAMES]; /* whose, ascending */
};

/* What the reply store is asked to keep: replies that cost more to compute than to keep. */
struct keeping {
	struct reply_store store;
	struct text_hash hash; /* also of the response caches' rows */
	uint64_t over_ns; /* what a result must have cost to be kept */
};

/* tx's lists. */
struct outgoing {
	void *send[WORKER_MAX_FRAMES], *back[BURST_MAX];
	uint16_t bytes[WORKER_MAX_FRAMES];
	uint8_t order[WORKER_MAX_FRAMES]; /* packet of send[i] */
};

/* Units admitted in this burst that are not yet in the slot. */
struct meter {
	struct limit_slot *slot;
	uint64_t units;
};

struct worker {
	/* this burst's view of `shared` */
	struct sessions *sessions;
	struct limits_view *limits;
	const struct model_set *models;
	struct trace *trace;
	uint64_t licensed_until_ns;

	struct shared *shared;
	struct port_queue *queue;
	struct stats_worker *stats;
	struct quiesce_worker *quiesce;
	struct clock_source clock;
	uint32_t index;
	uint32_t burst_max;
	uint64_t ns_per_tsc_q24;   /* 2^24 ns a TSC tick */
	uint32_t learn_shift;      /* COST_LEARN_SHIFT; more = costs hold still (tests) */
	uint32_t runs;
	uint64_t tsc_hz;
	uint32_t slice_us;
	uint64_t slice_tsc;        /* longest stretch of one model between heartbeats */
	uint64_t corrupt_subscriber; /* + 1; taken by the service thread for EVENT_LIMIT_CORRUPT */
	const struct model_set *seen_models; /* to count swaps; never dereferenced */
	uint32_t idle_polls;
	uint32_t busy_polls;
	bool timed; /* this burst's stages are */
	struct piece piece; /* here, because the stack would be zeroed anew at each burst */
	struct wide wide;         /* none: requests and replies of one datagram only */
	struct segments segments;
	struct keeping keeping;
	struct meter meter; /* empty between bursts */
	struct extra extra;
	struct outgoing out;
	struct gateway_worker gateway;
	struct promotions promotions; /* taken by the service thread */
	struct admission admission;
	struct doze doze;         /* none: an idle worker polls */
	struct backlog backlog;   /* none: nothing waits */
	struct burst burst;
};

/* Fill a zeroed worker. `slice_us` 0 = 100. */
void worker_init(struct worker *w, uint32_t index, struct shared *shared, struct port_queue *queue,
	struct stats_worker *stats, struct clock_source clock, uint32_t burst_max,
	uint32_t slice_us, uint64_t tsc_hz);

/* What a worker takes at start besides itself. Zero means the default. */
struct worker_memory {
	uint32_t wide_buffers;   /* for requests and replies larger than a datagram */
	uint32_t store_kb;       /* replies kept for retries; UINT32_MAX = none */
	uint32_t store_over_ns;  /* replies that took less are not kept, unless of several datagrams */
};

/* Take it. Without this call large requests are refused, no reply is kept and no model may have a response
 * cache. 0 or -errno; undo with
 * worker_uninit(). Before the first poll. */
int worker_take_memory(struct worker *w, const struct worker_memory *m);
void worker_uninit(struct worker *w);

/* Let requests wait: up to `max_waiting` (0 = BACKLOG_MAX) and queue_us of work. Without this call everything
 * is computed in the burst that brought it. 0 or -ENOMEM. Before the first poll. */
int worker_backlog(struct worker *w, uint32_t queue_us, uint32_t max_waiting);

/* One iteration of the loop. True when it found packets, or something waits. Worker thread. */
bool worker_poll(struct worker *w);

/* Poll until shared->stop, then drain what has already arrived. Worker thread. */
void worker_run(struct worker *w);

/* TSC ticks as nanoseconds. */
static inline uint64_t worker_ns(const struct worker *w, uint64_t tsc)
{
	return (uint64_t)((unsigned __int128)tsc * w->ns_per_tsc_q24 >> 24);
}

static inline void worker_count(struct worker *w, enum stats_counter c, uint64_t n)
{
	uint64_t *p = &w->stats->counters[c];

	/* Single writer; relaxed atomics because other processes read it. Compiles to add. */
	__atomic_store_n(p, __atomic_load_n(p, __ATOMIC_RELAXED) + n, __ATOMIC_RELAXED);
}

static inline void worker_drop(struct worker *w, uint32_t packet, enum stats_counter why)
{
	w->burst.state[packet] = PKT_DROPPED;
	worker_count(w, why, 1);
}

/* Drop a packet that matches no live (key id, source) pair: by name, or as the shield says. */
static inline void worker_stray(struct worker *w, uint32_t packet, enum stats_counter why)
{
	worker_drop(w, packet, admission_stray(&w->admission, &w->burst.packets[packet].source,
				       w->burst.now_ns, why));
}

/* Decide on a typed answer without a result. */
static inline void worker_answer(struct worker *w, uint32_t packet, enum wire_status status,
	uint16_t detail, uint32_t retry_after_us)
{
	struct request *r = &w->burst.requests[packet];

	r->status = (uint8_t)status;
	r->detail = detail;
	r->retry_after_us = retry_after_us;
	r->n_rows = 0;
	w->burst.state[packet] = PKT_REPLY;
}

/* Where the rows of packet `i`'s reply are built; in front of them there is room for the header. */
static inline uint8_t *worker_reply_rows(struct worker *w, uint32_t i)
{
	uint16_t out = w->burst.requests[i].out;

	return mr_unlikely(out) ? wide_rows(&w->wide, out) : w->burst.reply[i] + WIRE_REPLY_BYTES;
}
