/* SPDX-License-Identifier: BSD-3-Clause
 * Requests that wait: see backlog.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/histogram.h"
#include "recall.h"
#include "stages.h"

/* ---- life ---- */

int backlog_init(struct backlog *b, const struct backlog_config *c)
{
	uint64_t limit_ns = c->queue_us * NS_PER_US;
	int rc;

	memset(b, 0, sizeof(*b));
	b->n_max = c->max_waiting ? c->max_waiting : BACKLOG_MAX;
	b->slice_ns = c->slice_us * NS_PER_US;
	b->turn_ns = b->slice_ns / BACKLOG_TURN_PARTS;
	b->step_tsc = c->tsc_hz / 1000000 * c->slice_us / BACKLOG_STEP_PARTS;
	b->dear_ns = b->turn_ns * (1u << COST_SHARE_BUCKET) / BURST_MAX;
	b->engines = c->engines;
	b->n_engines = c->n_engines;
	b->n_jobs = c->n_engines ? ENGINE_JOBS * c->n_engines : 1;
	rc = fair_init(&b->quick, LIMITS_MAX_SLOTS, b->n_max, limit_ns);
	rc = rc ? rc : fair_init(&b->slow, LIMITS_MAX_SLOTS, b->n_max,
		limit_ns * (c->n_engines ? c->n_engines : 1));
	b->all = calloc(b->n_max, sizeof(*b->all));
	b->unused = calloc(b->n_max, sizeof(*b->unused));
	b->busy = calloc(LIMITS_MAX_SLOTS, sizeof(*b->busy));
	b->jobs = aligned_alloc(64, b->n_jobs * sizeof(*b->jobs));
	if (rc || !b->all || !b->unused || !b->busy || !b->jobs) {
		backlog_uninit(b);
		return -ENOMEM;
	}
	memset(b->jobs, 0, b->n_jobs * sizeof(*b->jobs));
	for (uint32_t i = b->n_max; i > 0; i--)
		b->unused[b->n_unused++] = (uint16_t)(i - 1);
	return 0;
}

void backlog_uninit(struct backlog *b)
{
	fair_uninit(&b->quick);
	fair_uninit(&b->slow);
	free(b->all);
	free(b->unused);
	free(b->busy);
	free(b->jobs);
	memset(b, 0, sizeof(*b));
}

/* Does anything wait or run? And what that means for the next request. */
static void look(struct worker *w)
{
	struct backlog *b = &w->backlog;
	bool shared = b->quick.n || (!b->n_engines && (b->job || b->slow.n)); /* is our core wanted? */

	b->engaged = b->n_unused < b->n_max;
	b->dear_ns = shared ? 0 : b->turn_ns * (1u << COST_SHARE_BUCKET) / BURST_MAX;
	__atomic_store_n(&w->stats->waiting, b->n_max - b->n_unused, __ATOMIC_RELAXED);
	__atomic_store_n(&w->stats->queue_ns, b->quick.work_ns + b->slow.work_ns, __ATOMIC_RELAXED);
}

/* ---- coming ---- */

/* What a request would cost, and where it would wait. */
struct price {
	struct fair *f;
	uint64_t share_ns; /* of the core's time, charged */
	uint64_t alone_ns; /* its own run */
	uint32_t flow, weight, cap;
};

static struct model_use *use_of(const struct worker *w, const struct live_model *m)
{
	return &m->uses[w->index];
}

static struct price price_of(struct worker *w, const struct request *r)
{
	struct backlog *b = &w->backlog;
	const struct cost_table *t = &use_of(w, r->model)->cost;
	uint32_t flags = __atomic_load_n(&r->limit->flags, __ATOMIC_RELAXED);
	struct price p = {.f = &b->quick, .share_ns = cost_share_ns(t, r->n_rows),
		.alone_ns = cost_run_ns(t, r->n_rows), .flow = (uint32_t)(r->limit - w->limits->slots),
		.weight = limits_weight(flags), .cap = limits_concurrent(flags)};

	if (p.alone_ns > b->slice_ns && r->model->job_runs[0]) {
		p.f = &b->slow;
		p.share_ns = p.alone_ns;
	}
	return p;
}

static uint32_t retry_us(uint64_t ns)
{
	uint64_t us = ns / NS_PER_US + 1;

	return us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
}

static uint32_t least_engine(const struct backlog *b)
{
	uint32_t least = 0;

	for (uint32_t e = 1; e < b->n_engines; e++)
		if (b->engine_ns[e] < b->engine_ns[least])
			least = e;
	return least;
}

/* When will it have been computed, if it is let in? */
static uint64_t done_in_ns(const struct backlog *b, const struct price *p)
{
	uint64_t ns = fair_served_in_ns(p->f, p->flow, p->weight, p->share_ns) - p->share_ns;

	if (p->f == &b->quick)
		ns += b->pending_ns;
	else if (b->n_engines)
		ns = ns / b->n_engines + b->engine_ns[least_engine(b)];
	else /* what the quick have waiting comes between */
		ns += b->quick.work_ns + (b->job ? b->job->cost_ns : 0);
	return ns + p->alone_ns;
}

enum wire_status backlog_verdict(struct worker *w, uint32_t i)
{
	struct backlog *b = &w->backlog;
	struct request *r = &w->burst.requests[i];
	struct price p;
	uint64_t done_ns;

	if (!b->all)
		return WIRE_RESULT;
	p = price_of(w, r);
	done_ns = done_in_ns(b, &p);
	if (r->deadline_us && done_ns > r->deadline_us * NS_PER_US)
		return WIRE_DEADLINE_EXCEEDED;
	if (mr_unlikely(p.cap && b->busy[p.flow] >= p.cap)) {
		r->retry_after_us = retry_us(done_ns / b->busy[p.flow]);
		return WIRE_OVERLOADED;
	}
	if (b->n_unused && fair_has_room(p.f, p.flow, p.share_ns))
		return WIRE_RESULT;
	r->retry_after_us = retry_us(b->n_unused ?
		fair_room_in_ns(p.f, p.flow, p.weight, p.share_ns) :
		(b->quick.work_ns + b->slow.work_ns) / b->n_max);
	return WIRE_OVERLOADED;
}

static void move_out(struct worker *w, uint32_t i, const struct price *p)
{
	struct backlog *b = &w->backlog;
	struct burst *from = &w->burst;
	struct request *r = &from->requests[i];
	uint16_t item = b->unused[--b->n_unused];
	uint32_t *held = &use_of(w, r->model)->held;

	b->all[item] = (struct waiting){.packet = from->packets[i], .request = *r,
		.buffer = from->buffers[i], .data = from->data[i], .arrived_ns = from->now_ns,
		.session_id = r->cell ? r->cell->session_id : 0, .cost_ns = p->share_ns,
		.subscriber = p->flow, .bytes = from->bytes[i], .room = from->room[i],
		.reply_bytes = from->reply_bytes[i],
		.gateway = r->cell ? 0 : gateway_keep(&w->gateway, i)};
	r->in = r->out = 0;
	from->state[i] = PKT_MOVED;
	b->moved++;
	b->busy[p->flow]++;
	/* Before the next quiesce_tick(): whoever waits for that sees it. */
	__atomic_store_n(held, *held + 1, __ATOMIC_RELEASE);
	fair_put(p->f, p->flow, p->weight, item, p->share_ns);
	worker_count(w, STATS_QUEUED, 1);
	if (b->dear_ns)
		look(w);
}

bool backlog_put(struct worker *w, uint32_t i)
{
	struct backlog *b = &w->backlog;
	struct request *r = &w->burst.requests[i];
	struct price p;

	if (!b->all)
		return false;
	p = price_of(w, r);
	if (b->dear_ns && p.f == &b->quick && b->pending_ns + p.share_ns <= b->turn_ns) {
		b->pending_ns += p.share_ns;
		return false;
	}
	move_out(w, i, &p);
	return true;
}

/* ---- going ---- */

/* The session may have ended meanwhile, or the epoch whose key the reply needs. */
static bool session_lives(const struct waiting *x, uint64_t now_ns)
{
	const struct session_cell *c = x->request.cell;
	uint32_t ahead;

	if (x->gateway)
		return true;
	if (!__atomic_load_n(&c->ready, __ATOMIC_ACQUIRE) || c->key_id != x->packet.wire.key_id ||
		c->session_id != x->session_id)
		return false;
	ahead = (x->packet.wire.flags - __atomic_load_n(&c->epoch, __ATOMIC_ACQUIRE)) & WIRE_FLAG_EPOCH_MASK;
	return ahead == 0 || (ahead == WIRE_FLAG_EPOCH_MASK &&
		now_ns < __atomic_load_n(&c->previous_until_ns, __ATOMIC_RELAXED));
}

/* Put a request back into the burst, at its end, in PKT_RUN; or dropped, when its session is gone. */
static uint32_t move_in(struct worker *w, uint32_t item)
{
	struct backlog *b = &w->backlog;
	const struct waiting *x = &b->all[item];
	struct burst *to = &w->burst;
	uint32_t i = to->n++;

	to->buffers[i] = x->buffer;
	to->data[i] = x->data;
	to->bytes[i] = x->bytes;
	to->room[i] = x->room;
	to->reply_bytes[i] = x->reply_bytes;
	to->packets[i] = x->packet;
	to->requests[i] = x->request;
	to->state[i] = PKT_RUN;
	to->n_wide += x->request.in || x->request.out;
	b->served[i] = (uint16_t)item;
	if (!session_lives(x, to->now_ns))
		worker_drop(w, i, STATS_DROP_UNKNOWN_KEY);
	return i;
}

static void burst_begin(struct worker *w)
{
	w->burst.n = w->burst.n_wide = 0;
	w->burst.now_ns = w->clock.now_ns(w->clock.ctx);
}

/* Deadlines run from arrival. */
static void burst_expire(struct worker *w, uint32_t i)
{
	struct request *r = &w->burst.requests[i];
	uint64_t waited_us = (w->burst.now_ns - w->backlog.all[w->backlog.served[i]].arrived_ns) / NS_PER_US;

	if (!r->deadline_us || w->burst.state[i] != PKT_RUN)
		return;
	if (waited_us >= r->deadline_us)
		worker_answer(w, i, WIRE_DEADLINE_EXCEEDED, 0, 0);
	else
		r->deadline_us -= (uint32_t)waited_us;
}

/* The burst has gone to the port: nothing of its requests is needed any more. */
static void burst_end(struct worker *w)
{
	struct backlog *b = &w->backlog;
	uint64_t now_ns = w->clock.now_ns(w->clock.ctx);

	for (uint32_t i = 0; i < w->burst.n; i++) {
		uint16_t item = b->served[i];
		const struct waiting *x = &b->all[item];
		uint32_t *held = &use_of(w, x->request.model)->held;

		w->stats->service_ns[histogram_bucket(now_ns - x->arrived_ns)]++;
		b->busy[x->subscriber]--;
		b->unused[b->n_unused++] = item;
		__atomic_store_n(held, *held - 1, __ATOMIC_RELEASE);
	}
	__atomic_store_n(&w->stats->heartbeat_ns, now_ns, __ATOMIC_RELAXED);
}

/* ---- the quick ---- */

/* A burst of as many as fit one turn. Returns their cost. */
static uint64_t serve_quick(struct worker *w, void (*second_half)(struct worker *w))
{
	struct backlog *b = &w->backlog;
	uint64_t ns = 0;
	uint32_t item;

	if (!b->quick.n)
		return 0;
	burst_begin(w);
	while (w->burst.n < w->burst_max && (item = fair_peek(&b->quick)) != FAIR_NONE) {
		if (w->burst.n && ns + b->all[item].cost_ns > b->turn_ns)
			break;
		fair_take(&b->quick);
		ns += b->all[item].cost_ns;
		burst_expire(w, move_in(w, item));
	}
	second_half(w);
	burst_end(w);
	return ns;
}

/* ---- the slow ---- */

/* Those whose session or time is over are answered here instead. */
static bool is_over(const struct waiting *x, uint64_t now_ns)
{
	const struct request *r = &x->request;

	return !session_lives(x, now_ns) ||
	       (r->deadline_us && now_ns - x->arrived_ns >= r->deadline_us * NS_PER_US);
}

static bool fits(const struct worker *w, const struct job *j, const struct waiting *x)
{
	const struct cost_table *t = &use_of(w, x->request.model)->cost;

	if (!j->n_parts)
		return true;
	return j->model == x->request.model && j->n_parts < JOB_PARTS &&
	       cost_run_ns(t, j->n_rows + x->request.n_rows) <= BACKLOG_JOB_SLICES * w->backlog.slice_ns;
}

/* Make a job of the next requests of one model, in their fair order. One whose answer has come into the
 * response cache meanwhile needs none. */
static void fill(struct worker *w, struct job *j, void (*second_half)(struct worker *w))
{
	struct backlog *b = &w->backlog;
	uint32_t item, before = UINT32_MAX;

	burst_begin(w);
	j->n_parts = 0;
	while ((item = fair_peek(&b->slow)) != FAIR_NONE && w->burst.n < w->burst_max) {
		const struct waiting *x = &b->all[item];

		if (is_over(x, w->burst.now_ns) || recall_has(w, &x->request)) {
			fair_take(&b->slow);
			burst_expire(w, move_in(w, item));
			continue;
		}
		if (!fits(w, j, x))
			break;
		fair_take(&b->slow);
		if (!j->n_parts)
			job_begin(j, x->request.model);
		job_add(j, x->request.rows, x->request.out ? wide_rows(&w->wide, x->request.out) : NULL,
			x->request.n_rows, item);
		if (x->subscriber != before)
			j->weight += b->slow.flows[x->subscriber].weight;
		before = x->subscriber;
	}
	if (w->burst.n) {
		second_half(w);
		burst_end(w);
	}
	if (j->n_parts)
		j->cost_ns = cost_run_ns(&use_of(w, j->model)->cost, j->n_rows);
}

static void learn(struct worker *w, const struct job *j)
{
	uint64_t ns = worker_ns(w, j->spent_tsc);
	struct stats_model *stats = &w->stats->models[j->model->index];

	if (j->runs == 1)
		cost_observe(&use_of(w, j->model)->cost, j->n_rows, ns, w->learn_shift);
	worker_count(w, STATS_LONG_RUNS, 1);
	worker_count(w, STATS_BATCHES, j->runs);
	worker_count(w, STATS_ROWS, j->n_rows);
	stats->requests += j->n_parts;
	stats->rows += j->n_rows;
	stats->version = j->model->version;
	stats->infer_cycles += j->spent_tsc;
}

/* All is computed: answer. */
static void answer_job(struct worker *w, struct job *j, void (*second_half)(struct worker *w))
{
	struct burst *b = &w->burst;

	learn(w, j);
	burst_begin(w);
	for (uint32_t k = 0; k < j->n_parts; k++) {
		uint32_t i = move_in(w, j->parts[k].waiting);
		struct request *r = &b->requests[i];

		if (b->state[i] != PKT_RUN)
			continue;
		if (!r->out)
			memcpy(b->reply[i] + WIRE_REPLY_BYTES, j->reply[k], b->reply_bytes[i]);
		recall_keep_request(w, r, worker_reply_rows(w, i));
		r->status = WIRE_RESULT;
		r->detail = (uint16_t)j->model->version;
		b->state[i] = PKT_REPLY;
	}
	second_half(w);
	burst_end(w);
	j->model = NULL;
}

/* A step of the job, and its answers when that was the last. `until_tsc` 0 = the least step there is. */
static void step(struct worker *w, uint64_t for_tsc, void (*second_half)(struct worker *w))
{
	struct backlog *b = &w->backlog;
	struct job *j = b->job;
	uint64_t begin = clock_tsc();
	bool done = job_step(j, j->model->job_runs[w->index], begin + for_tsc);

	b->credit_ns -= (int64_t)worker_ns(w, clock_tsc() - begin);
	if (done) {
		answer_job(w, j, second_half);
		b->job = NULL;
	}
}

/* While the quick want the core as well, the slow get what their weights have earned them. */
static void serve_slow(struct worker *w, uint64_t quick_ns, uint32_t quick_weight, bool busy,
	void (*second_half)(struct worker *w))
{
	struct backlog *b = &w->backlog;
	uint64_t step_ns = worker_ns(w, b->step_tsc);

	if (!b->job && b->slow.n) {
		fill(w, &b->jobs[0], second_half);
		b->job = b->jobs[0].n_parts ? &b->jobs[0] : NULL;
	}
	if (!b->job) {
		b->credit_ns = 0;
		return;
	}
	if (!busy && !b->quick.n) {
		b->credit_ns = 0;
		step(w, b->step_tsc, second_half);
		return;
	}
	b->credit_ns += (int64_t)(quick_ns * (b->slow.weight + b->job->weight) /
		(quick_weight ? quick_weight : 1));
	if (b->credit_ns > (int64_t)b->slice_ns)
		b->credit_ns = (int64_t)b->slice_ns;
	if (b->credit_ns >= (int64_t)step_ns)
		step(w, b->step_tsc, second_half);
}

/* ---- the slow, on engine cores ---- */

static void take_answers(struct worker *w, uint32_t e, void (*second_half)(struct worker *w))
{
	struct backlog *b = &w->backlog;
	struct job *j;

	while ((j = engine_get(&b->engines[e].out[w->index]))) {
		b->engine_ns[e] -= j->cost_ns;
		worker_count(w, STATS_ENGINE_RUNS, 1);
		answer_job(w, j, second_half);
	}
}

static struct job *free_job(const struct backlog *b)
{
	for (uint32_t i = 0; i < b->n_jobs; i++)
		if (!b->jobs[i].model)
			return &b->jobs[i];
	return NULL;
}

/* One job that runs and, so that the engine does not idle between two, another if both are short. */
static bool engine_has_room(const struct worker *w, uint32_t e)
{
	const struct engine *engine = &w->backlog.engines[e];
	uint32_t there = engine->in[w->index].head - engine->out[w->index].tail;

	return !there || (there < ENGINE_JOBS &&
		w->backlog.engine_ns[e] <= BACKLOG_JOB_SLICES * w->backlog.slice_ns);
}

static void serve_engines(struct worker *w, void (*second_half)(struct worker *w))
{
	struct backlog *b = &w->backlog;
	struct job *j;

	for (uint32_t e = 0; e < b->n_engines; e++)
		take_answers(w, e, second_half);
	while (b->slow.n && (j = free_job(b))) {
		uint32_t e = least_engine(b);

		if (!engine_has_room(w, e))
			break;
		fill(w, j, second_half);
		if (!j->n_parts)
			continue;
		b->engine_ns[e] += j->cost_ns;
		engine_put(&b->engines[e].in[w->index], j);
	}
}

void backlog_serve(struct worker *w, bool busy, void (*second_half)(struct worker *w))
{
	struct backlog *b = &w->backlog;
	uint32_t quick_weight = b->quick.weight;
	uint64_t quick_ns = serve_quick(w, second_half);

	if (b->n_engines)
		serve_engines(w, second_half);
	else
		serve_slow(w, quick_ns, quick_weight, busy, second_half);
	look(w);
}
