/* SPDX-License-Identifier: BSD-3-Clause
 * The poll loop: see worker.h.
 */
#include <stdlib.h>

#include "base/clock.h"
#include "base/denormals.h"
#include "base/histogram.h"
#include "stages.h"

enum {
	IDLE_CLOCK_POLLS = 64, /* an idle worker shows life, and looks after its buffers, this often */
	BUSY_GATEWAY_POLLS = 32, /* under load HTTPS requests are looked at, and caches warmed, this often */
	DRAIN_EMPTY_POLLS = 16,
	DRAIN_MAX_POLLS = 4096,
	DRAIN_WAITING_MS = 1500, /* control waits 3 s for an end */
	WIDE_BUFFERS = 256, /* 4.7 MB: a hundred requests of 16 datagrams in flight, and a burst of replies */
	STORE_KB = 16384,   /* 44,000 small replies */
	/* Keeping a reply costs 260 ns (bench_store, AMD Zen 3): at most 5 % of what the cheapest one kept
	 * cost to compute. A third of a core's worth of those, 65,000 a second, stays for 0.7 s by default,
	 * dearer ones for longer; a model like fraud (40 ns) never pays for the store. */
	STORE_OVER_NS = 5000,
};

static void heartbeat(struct worker *w, uint64_t now_ns)
{
	__atomic_store_n(&w->stats->heartbeat_ns, now_ns, __ATOMIC_RELAXED);
}

/* Load, once a burst, everything that the service thread may exchange. */
static void load_shared(struct worker *w)
{
	w->sessions = __atomic_load_n(&w->shared->sessions, __ATOMIC_ACQUIRE);
	w->limits = __atomic_load_n(&w->shared->limits, __ATOMIC_ACQUIRE);
	w->models = __atomic_load_n(&w->shared->models->published, __ATOMIC_ACQUIRE);
	w->trace = __atomic_load_n(&w->shared->trace, __ATOMIC_ACQUIRE);
	w->licensed_until_ns = __atomic_load_n(&w->shared->licensed_until_ns, __ATOMIC_RELAXED);
	if (mr_unlikely(w->models != w->seen_models)) {
		if (w->seen_models)
			worker_count(w, STATS_MODEL_SWAPS, 1);
		w->seen_models = w->models;
	}
}

/* A stage of a timed burst begins. */
static uint64_t begin(const struct worker *w)
{
	return mr_unlikely(w->timed) ? clock_tsc() : 0;
}

/* It ended: count it, also for the bursts that are not timed. The next one begins. */
static uint64_t end(struct worker *w, enum stats_stage stage, uint64_t since)
{
	uint64_t now;

	if (mr_likely(!w->timed))
		return 0;
	now = clock_tsc();
	w->stats->stage_cycles[stage] += (now - since) * WORKER_TIMED_EVERY;
	return now;
}

static void finish(struct worker *w)
{
	uint64_t ns;

	heartbeat(w, w->burst.now_ns);
	w->idle_polls = 0;
	if (mr_likely(!w->timed))
		return;
	ns = w->clock.now_ns(w->clock.ctx) - w->burst.now_ns;
	w->stats->service_ns[histogram_bucket(ns)] += (uint64_t)(w->burst.n - w->backlog.moved) * WORKER_TIMED_EVERY;
}

/* HTTPS requests take a turn of their own when the queue is empty, and every so often when it is not. */
static void gateway_turn(struct worker *w)
{
	struct gateway_region *g = __atomic_load_n(&w->shared->gateway, __ATOMIC_ACQUIRE);

	if (mr_likely(!gateway_rang(g, &w->gateway)))
		return;
	load_shared(w);
	gateway_poll(w, g);
}

/* Warm a response cache a little, if one is being warmed. True = there is more to do. */
static bool trace_turn(struct worker *w)
{
	if (mr_likely(!__atomic_load_n(&w->shared->trace, __ATOMIC_RELAXED)))
		return false;
	load_shared(w);
	return w->trace && trace_warm(w, w->trace);
}

/* From the requests that run to the port. */
static void second_half(struct worker *w)
{
	uint64_t t = begin(w);

	stage_batch(w);
	t = end(w, STATS_STAGE_BATCH, t);
	stage_infer(w);
	t = end(w, STATS_STAGE_INFER, t);
	stage_reply(w);
	t = end(w, STATS_STAGE_REPLY, t);
	stage_tx(w);
	end(w, STATS_STAGE_TX, t);
}

/* Those who wait for their share. Their requests may be answered over HTTPS. */
static void second_half_of_waiting(struct worker *w)
{
	struct gateway_region *g = __atomic_load_n(&w->shared->gateway, __ATOMIC_ACQUIRE);

	if (gateway_holds(&w->gateway)) {
		stage_batch(w);
		stage_infer(w);
		gateway_answer_waiting(w, g);
	}
	second_half(w);
}

/* Nothing has come for a while. */
static void doze(struct worker *w)
{
	uint64_t woke_after_ns = doze_sleep(&w->doze);

	worker_count(w, STATS_SLEEPS, 1);
	if (woke_after_ns)
		w->stats->wake_ns[histogram_bucket(woke_after_ns)]++;
}

static bool idle(struct worker *w)
{
	bool warming = trace_turn(w);

	gateway_turn(w);
	worker_count(w, STATS_POLLS_EMPTY, 1);
	if (++w->idle_polls % IDLE_CLOCK_POLLS == 0) {
		uint64_t now_ns = w->clock.now_ns(w->clock.ctx);

		heartbeat(w, now_ns);
		if (mr_unlikely(w->doze.on) && !w->backlog.engaged && !warming &&
			now_ns - w->burst.now_ns > DOZE_QUIET_US * NS_PER_US)
			doze(w);
		if (mr_unlikely(w->queue->ops->starved(w->queue)))
			worker_count(w, STATS_MBUF_EMPTY, 1);
	}
	if (mr_likely(!w->backlog.engaged))
		return false;
	load_shared(w);
	backlog_serve(w, false, second_half_of_waiting);
	return true;
}

bool worker_poll(struct worker *w)
{
	uint64_t t;

	/* By polls, not by bursts: one that finds no packet may serve those who wait. */
	w->timed = w->stats->counters[STATS_POLLS] % WORKER_TIMED_EVERY == 0;
	t = begin(w);
	quiesce_tick(w->quiesce);
	worker_count(w, STATS_POLLS, 1);
	if (!stage_rx(w))
		return idle(w);
	load_shared(w);
	t = end(w, STATS_STAGE_RX, t);
	stage_parse(w);
	t = end(w, STATS_STAGE_PARSE, t);
	stage_auth(w);
	t = end(w, STATS_STAGE_AUTH, t);
	stage_limit(w);
	end(w, STATS_STAGE_LIMIT, t);
	second_half(w);
	finish(w);
	if (mr_unlikely(w->backlog.engaged))
		backlog_serve(w, true, second_half_of_waiting);
	if (++w->busy_polls % BUSY_GATEWAY_POLLS == 0) {
		gateway_turn(w);
		trace_turn(w);
	}
	return true;
}

/* After a stop: answer what has already arrived, and then what waits, for a bounded time. */
static void drain(struct worker *w)
{
	uint64_t end_ns = w->clock.now_ns(w->clock.ctx) + DRAIN_WAITING_MS * NS_PER_MS;
	uint32_t empty = 0;

	for (uint32_t i = 0; i < DRAIN_MAX_POLLS && empty < DRAIN_EMPTY_POLLS; i++)
		empty = worker_poll(w) ? 0 : empty + 1;
	w->timed = false;
	while (w->backlog.engaged && w->clock.now_ns(w->clock.ctx) < end_ns) {
		load_shared(w);
		backlog_serve(w, false, second_half_of_waiting);
	}
}

void worker_run(struct worker *w)
{
	denormals_flush();
	heartbeat(w, w->clock.now_ns(w->clock.ctx));
	__atomic_store_n(&w->stats->state, 1, __ATOMIC_RELEASE);
	while (!__atomic_load_n(&w->shared->stop, __ATOMIC_RELAXED)) {
		worker_poll(w);
		w->stats->loops++;
	}
	drain(w);
	quiesce_leave(w->quiesce);
	__atomic_store_n(&w->stats->state, 2, __ATOMIC_RELEASE);
}

void worker_init(struct worker *w, uint32_t index, struct shared *shared, struct port_queue *queue,
	struct stats_worker *stats, struct clock_source clock, uint32_t burst_max,
	uint32_t slice_us, uint64_t tsc_hz)
{
	w->index = index;
	w->shared = shared;
	w->queue = queue;
	w->stats = stats;
	w->clock = clock;
	w->quiesce = &shared->quiesce.workers[index];
	w->burst_max = burst_max >= 1 && burst_max <= BURST_MAX ? burst_max : 32;
	w->ns_per_tsc_q24 = (uint64_t)((double)NS_PER_S * (1 << 24) / (double)tsc_hz);
	w->learn_shift = COST_LEARN_SHIFT;
	w->tsc_hz = tsc_hz;
	w->slice_us = slice_us ? slice_us : 100;
	w->slice_tsc = tsc_hz / 1000000 * w->slice_us;
	w->backlog.dear_ns = UINT64_MAX;
	admission_init(&w->admission, clock_tsc());
	shared->ports[index] = queue->port_number;
	stats->port = queue->port_number;
	stats->queue = queue->index;
}

int worker_take_memory(struct worker *w, const struct worker_memory *m)
{
	uint32_t kb = m->store_kb == UINT32_MAX ? 0 : m->store_kb ? m->store_kb : STORE_KB;
	int rc = wide_init(&w->wide, m->wide_buffers ? m->wide_buffers : WIDE_BUFFERS);

	rc = rc ? rc : segments_init(&w->segments, &w->wide);
	rc = rc ? rc : text_hash_init(&w->keeping.hash);
	rc = rc ? rc : reply_store_init(&w->keeping.store, kb);
	w->keeping.over_ns = m->store_over_ns ? m->store_over_ns : STORE_OVER_NS;
	w->stats->wide_bytes = (uint64_t)w->wide.n * WIDE_BUFFER_BYTES + segments_bytes(w->wide.n);
	w->stats->store_bytes = w->keeping.store.bytes;
	if (rc)
		worker_uninit(w);
	return rc;
}

int worker_backlog(struct worker *w, uint32_t queue_us, uint32_t max_waiting)
{
	return backlog_init(&w->backlog, &(struct backlog_config){.queue_us = queue_us,
		.slice_us = w->slice_us, .max_waiting = max_waiting, .tsc_hz = w->tsc_hz,
		.n_engines = w->shared->n_engines, .engines = w->shared->engines});
}

void worker_uninit(struct worker *w)
{
	reply_store_uninit(&w->keeping.store);
	text_hash_uninit(&w->keeping.hash);
	doze_uninit(&w->doze);
	backlog_uninit(&w->backlog);
	segments_uninit(&w->segments);
	wide_uninit(&w->wide);
}
