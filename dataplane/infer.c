/* SPDX-License-Identifier: BSD-3-Clause
 * Stage infer: run each group on its model. Rows are read where they lie in the request; answers go
 * to burst.reply[] or a wide buffer, not into the packet, because a run may read its inputs again until
 * it has finished (and a reply can be longer than its request). The reply stage seals from there into
 * the packet.
 */
#include "base/clock.h"
#include "recall.h"
#include "stages.h"

/* Reading the TSC takes 39 cycles (AMD Zen 5 in a virtual machine), and run_step() reads it after every
 * operator: not for runs that are expected to be over before any slice is. Every 16th of them is watched as
 * well, so that the expectation stays true. */
enum { LEARN_EVERY = 16, SHORT_RUN_NS = 10000 };

static bool is_long(const struct worker *w, const struct live_model *m, uint32_t rows)
{
	return cost_run_ns(&m->uses[w->index].cost, rows) > SHORT_RUN_NS;
}

/* To the end, but with a sign of life after every slice. */
static void run_rows(struct worker *w, const struct live_model *m)
{
	const struct piece *piece = &w->piece;
	struct run *run = m->runs[w->index];
	uint32_t bucket = 31 - (uint32_t)__builtin_clz(piece->n);
	bool learns = ++w->runs % LEARN_EVERY == 0, watched = learns || is_long(w, m, piece->n);
	uint64_t begin = mr_unlikely(watched) ? clock_tsc() : 0;

	run_start(run, piece->n, piece->rows, piece->outs);
	while (!run_step(run, watched ? clock_tsc() + w->slice_tsc : UINT64_MAX))
		__atomic_store_n(&w->stats->heartbeat_ns, w->clock.now_ns(w->clock.ctx),
			__ATOMIC_RELAXED);
	if (mr_unlikely(learns))
		cost_observe(&m->uses[w->index].cost, piece->n, worker_ns(w, clock_tsc() - begin), w->learn_shift);
	worker_count(w, STATS_BATCHES, 1);
	w->stats->batch_rows[bucket < 15 ? bucket : 15]++;
}

/* The rows collected, those apart that `cache` (NULL = none) has the answers to. */
static void run_piece(struct worker *w, const struct live_model *m, struct cache *cache)
{
	if (mr_unlikely(cache != NULL))
		recall_rows(w, cache, m);
	if (mr_likely(w->piece.n)) {
		run_rows(w, m);
		if (mr_unlikely(cache != NULL))
			recall_keep(w, cache);
	}
	w->piece.n = 0;
}

static void add_rows(struct worker *w, uint32_t i, struct cache *cache)
{
	struct piece *piece = &w->piece;
	struct burst *b = &w->burst;
	const struct request *r = &b->requests[i];
	const struct live_model *m = r->model;
	cache_owner owner = mr_unlikely(cache != NULL) ? recall_owner(w, cache, r) : 0;
	uint8_t *out = worker_reply_rows(w, i);

	for (uint32_t row = 0; row < r->n_rows; row++) {
		piece->rows[piece->n] = r->rows + row * m->row_in_bytes;
		piece->outs[piece->n] = out + row * m->row_out_bytes;
		if (mr_unlikely(cache != NULL))
			piece->owners[piece->n] = owner;
		if (++piece->n == m->run_rows)
			run_piece(w, m, cache);
	}
}

/* Answer those whose time is over; the clock is read only when somebody set a deadline. */
static void expire(struct worker *w, const struct group *g)
{
	struct burst *b = &w->burst;
	uint64_t now_ns = 0;

	for (uint32_t i = g->first; i; i = b->requests[i - 1].next) {
		const struct request *r = &b->requests[i - 1];

		if (!r->deadline_us)
			continue;
		if (!now_ns)
			now_ns = w->clock.now_ns(w->clock.ctx);
		if (now_ns - b->now_ns >= r->deadline_us * NS_PER_US)
			worker_answer(w, i - 1, WIRE_DEADLINE_EXCEEDED, 0, 0);
	}
}

static void run_group(struct worker *w, const struct group *g)
{
	struct burst *b = &w->burst;
	const struct live_model *m = g->model;
	struct cache *cache = recall_cache(w, m);
	struct stats_model *stats = &w->stats->models[m->index];
	bool always = is_long(w, m, m->run_rows < g->rows ? m->run_rows : g->rows);
	uint64_t begin = w->timed || always ? clock_tsc() : 0, rows = 0, requests = 0;

	w->piece.n = 0;
	expire(w, g);
	for (uint32_t i = g->first; i; i = b->requests[i - 1].next) {
		struct request *r = &b->requests[i - 1];

		if (b->state[i - 1] != PKT_RUN)
			continue;
		add_rows(w, i - 1, cache);
		r->status = WIRE_RESULT;
		r->detail = (uint16_t)m->version;
		b->state[i - 1] = PKT_REPLY;
		rows += r->n_rows;
		requests++;
	}
	if (w->piece.n)
		run_piece(w, m, cache);
	worker_count(w, STATS_ROWS, rows);
	stats->requests += requests;
	stats->rows += rows;
	stats->version = m->version;
	if (mr_unlikely(begin))
		stats->infer_cycles += (clock_tsc() - begin) * (always ? 1 : WORKER_TIMED_EVERY);
}

void stage_infer(struct worker *w)
{
	for (uint32_t i = 0; i < w->burst.n_groups; i++)
		run_group(w, &w->burst.groups[i]);
}
