/* SPDX-License-Identifier: BSD-3-Clause
 * The load generator's loop: see run.h.
 *
 *   fill burst (live sealing, or from the pre-sealed frames) -> send -> receive -> match -> sweep
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/prefetch.h"
#include "client/parts.h"
#include "perf/loadgen/arrivals.h"
#include "perf/loadgen/run.h"

enum {
	LIVE_RING = 1 << 17, /* requests that can be waited for at once; pre-sealed: all of them */
	STAGE_BYTES = 1280,
	SWEEP_HZ = 500,
	DOUBLINGS = 5, /* of the time before a retry */
	PREFETCH_KEY_BYTES = 384,
	CLOCK_DATAGRAMS = 64, /* of a session, between two looks at the clock for its ratchet */
};

enum slot_state { SLOT_FREE = 0, SLOT_WAITING, SLOT_DEFERRED /* lost; retried after the run */ };

struct slot {
	uint64_t sent_tsc; /* intended time (open loop) or first send */
	uint64_t due_tsc;  /* lost when not answered by then */
	uint32_t attempts;
	uint32_t state;
};

/* A result of several datagrams being put together. */
struct assembly {
	struct reply_parts parts;
	uint8_t *rows; /* own memory when the rows will be looked at, else everybody's scratch */
};

struct run {
	const struct options *o;
	struct bench_sessions *sessions;
	struct workload *w;
	struct transport *t;
	struct flood *flood; /* NULL = none */
	struct run_report *r;
	uint64_t hz;
	uint64_t timeout_tsc, stuck_tsc;
	uint32_t in_bytes; /* rows of a request, which takes so many datagrams */
	uint32_t segments;
	uint32_t out_bytes, reply_segments; /* of a result */
	struct assembly *assemblies; /* beside slots; NULL when results fit a datagram */
	uint8_t *scratch;
	uint64_t window; /* requests that may be outstanding */
	uint64_t limit;  /* requests to send; UINT64_MAX = until end_tsc */
	uint64_t end_tsc;
	struct slot *slots; /* request i at i & mask */
	uint64_t mask;
	uint64_t next;   /* next request to stage */
	uint64_t oldest; /* no smaller one waits */
	uint64_t waiting; /* within the window */
	uint64_t deferred;
	uint64_t next_sweep_tsc, first_tsc, last_tsc, started_tsc;
	uint64_t moved_tsc; /* the port last took or brought something, or had nothing to take */
	uint64_t result_tsc, max_gap_tsc; /* last result; longest time between two */
	double sum_ns;
	struct arrivals arrivals;
	uint8_t *frames; /* pre-sealed: datagram k of request i at (i x segments + k) x stride + headroom */
	size_t frames_bytes, stride;
	struct datagram stage[TRANSPORT_BURST];
	uint32_t stage_at, stage_n;
	uint8_t stage_bytes[TRANSPORT_BURST][STAGE_BYTES];
};

/* ---- building requests --------------------------------------------------------------------- */

/* Row bytes of datagram `k` of a request. */
static uint32_t segment_bytes(const struct run *run, uint32_t k)
{
	uint32_t left = run->in_bytes - k * WIRE_SEGMENT_ROW_BYTES;

	return left < WIRE_SEGMENT_ROW_BYTES ? left : WIRE_SEGMENT_ROW_BYTES;
}

static uint32_t seal_segment(struct run *run, uint64_t i, uint32_t k, uint8_t *out)
{
	const struct mr_model *m = &run->w->model;
	struct wire_request request = {.request_id = i + 1, .model_id = m->id,
		.dtype = m->input_dtype, .segment_index = (uint8_t)k,
		.segment_count = (uint8_t)run->segments, .rows = (uint16_t)run->w->batch};
	struct channel *ch = &run->sessions->list[workload_session(run->w, i)].channel;

	if (!run->o->preseal && ch->sealed % CLOCK_DATAGRAMS == 0)
		channel_clock(ch, clock_now_ns());
	return (uint32_t)channel_seal_request(ch, &request,
		workload_input(run->w, i) + k * WIRE_SEGMENT_ROW_BYTES, segment_bytes(run, k), out,
		WIRE_MAX_PAYLOAD_BYTES);
}

static uint8_t *frame_of(const struct run *run, uint64_t i, uint32_t k)
{
	return run->frames + (i * run->segments + k) * run->stride + TRANSPORT_HEADROOM;
}

/* Sealed ahead, a session steps by count alone; but one that was enrolled long ago has to step now. */
static void clock_sessions(struct run *run)
{
	uint64_t now_ns = clock_now_ns();

	for (uint32_t i = 0; i < run->sessions->n; i++)
		if (run->sessions->list[i].channel.now_ns) /* the peers' have no clock */
			channel_clock(&run->sessions->list[i].channel, now_ns);
}

static int preseal(struct run *run, struct error *err)
{
	size_t payload = WIRE_MIN_PAYLOAD_BYTES + segment_bytes(run, 0); /* the largest */
	struct datagram d;

	run->stride = (TRANSPORT_HEADROOM + payload + 63) & ~(size_t)63;
	run->frames_bytes = run->stride * run->segments * run->limit;
	run->frames = mmap(NULL, run->frames_bytes, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (run->frames == MAP_FAILED) {
		run->frames = NULL;
		return error_set(err, -ENOMEM, "no memory for %llu sealed requests",
			(unsigned long long)run->limit);
	}
	madvise(run->frames, run->frames_bytes, MADV_HUGEPAGE);
	clock_sessions(run);
	for (uint64_t i = 0; i < run->limit; i++) {
		for (uint32_t k = 0; k < run->segments; k++) {
			d.data = frame_of(run, i, k);
			d.bytes = seal_segment(run, i, k, d.data);
			run->t->ops->frame(run->t, &d, 1);
		}
	}
	return 0;
}

static struct datagram make(struct run *run, uint64_t i, uint32_t k, uint32_t place, bool fresh)
{
	struct datagram d = {run->stage_bytes[place] + TRANSPORT_HEADROOM, 0};

	if (run->frames && fresh) {
		d.data = frame_of(run, i, k);
		d.bytes = (uint32_t)WIRE_MIN_PAYLOAD_BYTES + segment_bytes(run, k);
		return d;
	}
	d.bytes = seal_segment(run, i, k, d.data);
	run->t->ops->frame(run->t, &d, 1);
	return d;
}

/* ---- sending ------------------------------------------------------------------------------- */

static bool may_send(struct run *run, uint64_t now, uint64_t *sent_tsc)
{
	if (run->next >= run->limit || now >= run->end_tsc || run->next - run->oldest > run->mask)
		return false;
	if (run->waiting >= run->window) {
		run->r->held_back += run->o->rate > 0;
		return false; /* open loop: still due, and late from when it was meant to be sent */
	}
	if (run->o->rate > 0)
		return arrivals_take(&run->arrivals, now, sent_tsc);
	*sent_tsc = now;
	return true;
}

/* Is request `i` the victim's of a flood that names somebody? */
static bool is_victim(const struct run *run, uint64_t i)
{
	return run->o->flood == FLOOD_FORGED && workload_session(run->w, i) == 0;
}

static void stage_burst(struct run *run, uint64_t now)
{
	uint64_t sent_tsc;

	run->stage_at = run->stage_n = 0;
	while (run->stage_n + run->segments <= TRANSPORT_BURST && may_send(run, now, &sent_tsc)) {
		uint64_t i = run->next++;

		if (i == run->o->warmup)
			run->first_tsc = sent_tsc;
		run->slots[i & run->mask] = (struct slot){
			sent_tsc, now + run->timeout_tsc, 1, SLOT_WAITING};
		run->waiting++;
		run->r->sent++;
		run->r->victim_sent += is_victim(run, i);
		for (uint32_t k = 0; k < run->segments; k++, run->stage_n++)
			run->stage[run->stage_n] = make(run, i, k, run->stage_n, true);
	}
}

/* Push what is staged; the rest waits for the next turn. */
static int flush(struct run *run)
{
	int n = 0;

	if (run->stage_at < run->stage_n)
		n = run->t->ops->send(run->t, run->stage + run->stage_at,
			run->stage_n - run->stage_at);
	if (n < 0)
		return n;
	run->stage_at += (uint32_t)n;
	run->r->queue_full += run->stage_at < run->stage_n;
	return n;
}

/* ---- receiving ----------------------------------------------------------------------------- */

static void complete(struct run *run, uint64_t i, struct slot *slot, uint64_t now,
	const struct wire_reply *reply, const uint8_t *rows)
{
	uint64_t ns = (uint64_t)((double)(now - slot->sent_tsc) * 1e9 / (double)run->hz);

	if (slot->state == SLOT_WAITING)
		run->waiting--;
	else
		run->deferred--;
	slot->state = SLOT_FREE;
	run->last_tsc = now;
	if (reply->status == WIRE_RESULT) {
		if (run->result_tsc && now - run->result_tsc > run->max_gap_tsc)
			run->max_gap_tsc = now - run->result_tsc;
		run->result_tsc = now;
	}
	run->r->answered++;
	run->r->status[reply->status]++;
	if (reply->status == WIRE_RESULT && workload_compares(run->w))
		workload_check(run->w, i, rows);
	while (run->oldest < run->next && run->slots[run->oldest & run->mask].state == SLOT_FREE)
		run->oldest++;
	/* A refusal is quick and is no work done: it counts as answered, never as speed. */
	if (i < run->o->warmup || reply->status != WIRE_RESULT)
		return;
	if (mr_unlikely(is_victim(run, i))) {
		run->r->victim_results++;
		return;
	}
	histogram_record(run->r->latency_ns, ns);
	run->r->measured++;
	run->sum_ns += (double)ns;
	if ((double)ns / 1e3 > run->r->max_us)
		run->r->max_us = (double)ns / 1e3;
	if (run->r->measured == 1 || (double)ns / 1e3 < run->r->min_us)
		run->r->min_us = (double)ns / 1e3;
}

/* True when all datagrams of the result are here: *rows and *bytes are then the whole of it. */
static bool assemble(struct run *run, uint64_t i, const struct wire_reply *reply, const uint8_t **rows,
	size_t *bytes)
{
	struct assembly *a = &run->assemblies[i & run->mask];

	if (!a->rows)
		a->rows = workload_compares(run->w) ? malloc(run->out_bytes) : run->scratch;
	if (!a->rows) {
		run->r->unknown++;
		return false;
	}
	switch (reply_parts_add(&a->parts, *reply, *rows, *bytes, run->out_bytes, a->rows)) {
	case PARTS_COMPLETE:
		*rows = a->rows;
		*bytes = run->out_bytes;
		return true;
	case PARTS_WRONG:
		run->r->unknown++;
		return false;
	default:
		return false;
	}
}

static void assembly_reset(struct run *run, uint64_t i)
{
	struct assembly *a = &run->assemblies[i & run->mask];

	if (a->rows != run->scratch)
		free(a->rows);
	*a = (struct assembly){0};
}

static void take_reply(struct run *run, struct bench_session *session, struct datagram *d,
	uint64_t now)
{
	const struct mr_model *m = &run->w->model;
	enum channel_verdict verdict;
	struct wire_reply reply;
	const uint8_t *rows;
	size_t row_bytes;
	uint64_t i;

	verdict = session ? channel_open_reply(&session->channel, d->data, d->bytes, &reply, &rows,
				    &row_bytes)
			  : CHANNEL_KEY_ID;
	if (verdict != CHANNEL_OK) {
		run->r->refused[verdict]++;
		return;
	}
	i = reply.request_id - 1;
	if (i >= run->next || reply.model_id != m->id ||
		(reply.status == WIRE_RESULT &&
			(reply.rows != run->w->batch || reply.dtype != m->output_dtype))) {
		run->r->unknown++;
		return;
	}
	if (i < run->oldest || run->slots[i & run->mask].state == SLOT_FREE) {
		run->r->late++;
		return;
	}
	if (reply.status == WIRE_RESULT && run->assemblies && !assemble(run, i, &reply, &rows, &row_bytes))
		return;
	if (reply.status == WIRE_RESULT && row_bytes != run->out_bytes) {
		run->r->unknown++;
		return;
	}
	complete(run, i, &run->slots[i & run->mask], now, &reply, rows);
	if (run->assemblies)
		assembly_reset(run, i);
}

/* Look a burst's sessions up and start fetching their keys before any is used: with many sessions
 * every key is a cache miss. */
static void find_sessions(struct run *run, const struct datagram *d, int n,
	struct bench_session *found[TRANSPORT_BURST])
{
	struct wire_header h;

	for (int k = 0; k < n; k++) {
		found[k] = NULL;
		if (d[k].bytes < sizeof(h))
			continue;
		memcpy(&h, d[k].data, sizeof(h));
		found[k] = bench_sessions_find(run->sessions, h.key_id);
		if (found[k] && run->sessions->n > 1)
			prefetch_lines(found[k]->channel.keys[h.flags & 1].open, PREFETCH_KEY_BYTES);
	}
}

static int receive(struct run *run)
{
	struct bench_session *found[TRANSPORT_BURST];
	struct datagram d[TRANSPORT_BURST];
	int n = run->t->ops->receive(run->t, d);
	uint64_t now = clock_tsc();

	if (n > 0)
		find_sessions(run, d, n, found);
	for (int k = 0; k < n; k++)
		take_reply(run, found[k], &d[k], now);
	return n;
}

/* ---- losses -------------------------------------------------------------------------------- */

static int retry(struct run *run, uint64_t i, struct slot *slot, uint64_t now)
{
	struct datagram d[WIRE_MAX_SEGMENTS];
	int sent;

	/* The stage is free whenever a sweep runs: it runs after a complete flush. */
	for (uint32_t k = 0; k < run->segments; k++)
		d[k] = make(run, i, k, k, false);
	sent = run->t->ops->send(run->t, d, run->segments);
	if (sent >= 0 && (uint32_t)sent < run->segments) {
		run->r->queue_full++; /* and due again in the next sweep, whole */
		return 0;
	}
	slot->due_tsc = now + (run->timeout_tsc << (slot->attempts < DOUBLINGS ? slot->attempts : DOUBLINGS));
	slot->attempts++;
	run->r->retries++;
	return sent < 0 ? sent : 0;
}

/* A retry takes a newer counter than every pre-sealed request, which would push those out of the
 * server's replay window: so with --preseal losses wait for the end of the run. */
static int give_up_or_retry(struct run *run, uint64_t i, struct slot *slot, uint64_t now)
{
	if (slot->attempts == 1 && slot->state == SLOT_WAITING)
		run->r->first_try_losses++;
	if (run->frames && run->next < run->limit) {
		if (slot->state == SLOT_WAITING) {
			slot->state = SLOT_DEFERRED;
			run->waiting--;
			run->deferred++;
		}
		return 0;
	}
	if (slot->attempts < run->o->attempts)
		return retry(run, i, slot, now);
	if (slot->state == SLOT_WAITING)
		run->waiting--;
	else
		run->deferred--;
	slot->state = SLOT_FREE;
	if (run->assemblies)
		assembly_reset(run, i);
	run->r->unanswered++;
	return 0;
}

/* `got`: what the last receive() brought. An answer that waits in our own queue, because we were kept from
 * our core, is not lost: asking again for a whole window of them would flood that queue. */
static int sweep(struct run *run, uint64_t now, int got)
{
	int rc = 0;

	if (now < run->next_sweep_tsc || run->stage_at < run->stage_n || got == TRANSPORT_BURST)
		return 0;
	run->next_sweep_tsc = now + run->hz / SWEEP_HZ;
	for (uint64_t i = run->oldest; i < run->next && !rc; i++) {
		struct slot *slot = &run->slots[i & run->mask];

		if (slot->state == SLOT_FREE)
			continue;
		if (now < slot->due_tsc) {
			if (slot->attempts == 1)
				break; /* later ones are younger */
			continue;
		}
		rc = give_up_or_retry(run, i, slot, now);
	}
	while (run->oldest < run->next && run->slots[run->oldest & run->mask].state == SLOT_FREE)
		run->oldest++;
	return rc;
}

/* ---- loop ---------------------------------------------------------------------------------- */

static void progress(struct run *run, uint64_t now, uint64_t *next_tsc)
{
	double seconds = (double)(now - run->started_tsc) / (double)run->hz;

	if (now < *next_tsc)
		return;
	*next_tsc = now + run->hz;
	fprintf(stderr, "\r%10llu answered, %9.0f/s, p50 %.1f us, p99 %.1f us, retries %llu ",
		(unsigned long long)run->r->answered, (double)run->r->answered / seconds,
		(double)histogram_percentile(run->r->latency_ns, 50) / 1e3,
		(double)histogram_percentile(run->r->latency_ns, 99) / 1e3,
		(unsigned long long)run->r->retries);
}

static bool finished(const struct run *run, uint64_t now)
{
	return (run->next >= run->limit || now >= run->end_tsc) && !run->waiting && !run->deferred &&
	       run->stage_at == run->stage_n;
}

/* Nobody is at the other end of the port: what waits in front of a full queue would wait for ever. */
static bool stuck(struct run *run, uint64_t now, bool moved)
{
	if (moved || run->stage_at == run->stage_n)
		run->moved_tsc = now;
	return now - run->moved_tsc > run->stuck_tsc;
}

static int loop(struct run *run, const volatile sig_atomic_t *stop)
{
	bool show = !run->o->quiet && isatty(2);
	uint64_t next_progress = run->started_tsc + run->hz;
	int rc = 0, got = 0, sent = 0;

	while (rc >= 0 && *stop < STOP_NOW) {
		uint64_t now = clock_tsc();

		if (mr_unlikely(*stop) && run->limit > run->next)
			run->limit = run->next;
		if (run->stage_at == run->stage_n)
			stage_burst(run, now);
		sent = flush(run);
		if (run->flood && now < run->end_tsc && sent >= 0)
			rc = flood_turn(run->flood, now);
		got = receive(run);
		rc = rc < 0 ? rc : sent < 0 ? sent : got < 0 ? got : sweep(run, now, got);
		if (finished(run, now))
			break;
		if (mr_unlikely(stuck(run, now, sent || got)))
			rc = -ENOLINK;
		if (show)
			progress(run, now, &next_progress);
		if (run->o->sleep && !sent && !got)
			run->t->ops->wait(run->t, run->o->rate > 0 ? 50000 : 1000000);
	}
	if (show)
		fprintf(stderr, "\r%80s\r", "");
	return rc;
}

/* What may be outstanding: as asked in a closed loop, and never more than our queue can take answers of, even
 * when somebody else has our core. What waits longer than that waits here, not lost. */
static uint64_t window_of(const struct run *run)
{
	uint64_t window = run->o->rate > 0 ? UINT64_MAX : run->o->window, room = run->t->room / run->reply_segments;

	if (!run->t->room)
		return window;
	room = room ? room : 1;
	return window < room ? window : room;
}

static int prepare_replies(struct run *run, uint64_t ring)
{
	run->out_bytes = run->w->model.row_out_bytes * run->w->batch;
	run->reply_segments = (run->out_bytes + WIRE_SEGMENT_ROW_BYTES - 1) / WIRE_SEGMENT_ROW_BYTES;
	run->window = window_of(run);
	if (run->reply_segments <= 1)
		return 0;
	run->assemblies = calloc(ring, sizeof(*run->assemblies));
	run->scratch = malloc(run->out_bytes);
	return run->assemblies && run->scratch ? 0 : -ENOMEM;
}

static int prepare(struct run *run, struct error *err)
{
	const struct options *o = run->o;
	uint64_t ring = LIVE_RING;

	run->in_bytes = run->w->model.row_in_bytes * run->w->batch;
	run->segments = (run->in_bytes + WIRE_SEGMENT_ROW_BYTES - 1) / WIRE_SEGMENT_ROW_BYTES;
	run->limit = o->count ? o->count : UINT64_MAX;
	while (o->preseal && ring < o->count)
		ring *= 2;
	run->mask = ring - 1;
	run->slots = calloc(ring, sizeof(*run->slots));
	if (!run->slots || prepare_replies(run, ring))
		return error_set(err, -ENOMEM, "out of memory");
	memset(run->slots, 0, ring * sizeof(*run->slots)); /* touch the pages before the clock starts */
	run->hz = clock_tsc_hz();
	run->timeout_tsc = run->hz / 1000 * o->timeout_ms;
	run->stuck_tsc = o->stuck_ms ? run->hz / 1000 * o->stuck_ms : UINT64_MAX;
	return o->preseal ? preseal(run, err) : 0;
}

static double seconds_between(const struct timeval *a, const struct timeval *b)
{
	return (double)(b->tv_sec - a->tv_sec) + (double)(b->tv_usec - a->tv_usec) / 1e6;
}

static void release(struct run *run)
{
	for (uint64_t i = 0; run->assemblies && i <= run->mask; i++)
		assembly_reset(run, i);
	if (run->frames)
		munmap(run->frames, run->frames_bytes);
	free(run->assemblies);
	free(run->scratch);
	free(run->slots);
	free(run);
}

int bench_run(struct run_report *report, const struct options *o, struct bench_sessions *sessions,
	struct workload *workload, struct transport *transport, struct flood *flood,
	const volatile sig_atomic_t *stop, struct error *err)
{
	struct run *run = calloc(1, sizeof(*run));
	struct rusage before, after;
	int rc;

	memset(report, 0, sizeof(*report));
	if (!run)
		return error_set(err, -ENOMEM, "out of memory");
	run->o = o;
	run->sessions = sessions;
	run->w = workload;
	run->t = transport;
	run->flood = flood;
	run->r = report;
	rc = prepare(run, err);
	run->started_tsc = run->first_tsc = run->last_tsc = run->moved_tsc = clock_tsc();
	run->end_tsc = o->seconds > 0 ? run->started_tsc + (uint64_t)(o->seconds * (double)run->hz)
				      : UINT64_MAX;
	if (!rc) {
		arrivals_init(&run->arrivals, o->rate > 0 ? o->rate : 1, run->hz, o->poisson, o->seed,
			run->started_tsc);
		if (flood)
			flood_start(flood, run->started_tsc, run->hz);
		getrusage(RUSAGE_SELF, &before);
		rc = loop(run, stop);
		getrusage(RUSAGE_SELF, &after);
		report->cpu_user_s = seconds_between(&before.ru_utime, &after.ru_utime);
		report->cpu_system_s = seconds_between(&before.ru_stime, &after.ru_stime);
		if (rc == -ENOLINK)
			error_set(err, rc, "the port has taken nothing for %u ms: nobody is at its other end", o->stuck_ms);
		else if (rc < 0)
			error_set(err, rc, "transport: %s", strerror(-rc));
	}
	if (flood)
		flood_read(flood, &report->flood);
	report->unanswered += run->waiting + run->deferred; /* interrupted */
	report->seconds = (double)(run->last_tsc - run->first_tsc) / (double)run->hz;
	report->max_gap_ms = (double)run->max_gap_tsc * 1e3 / (double)run->hz;
	report->mean_us = report->measured ? run->sum_ns / (double)report->measured / 1e3 : 0;
	for (uint32_t i = 0; i < sessions->n; i++)
		report->epochs += sessions->list[i].channel.epoch;
	release(run);
	return rc < 0 ? rc : 0;
}
