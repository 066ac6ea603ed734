/* SPDX-License-Identifier: BSD-3-Clause
 * Stage limit: may this request run, and does the plan still have room for it?
 *
 * Every authentic datagram is charged at least one unit, also one that will be refused; a request
 * that can run is charged rows x the model's cost. The plan is charged exactly once, here
 * (protocol.md). One that cannot be computed in time, or would wait too long, is refused before that and
 * costs one unit (backlog.h).
 *
 * A request of several datagrams is charged one unit for each when it comes, before anything is kept
 * of it, and the model's cost when it is complete. Refused then, nothing of it is kept or computed.
 */
#include <string.h>

#include "base/clock.h"
#include "path.h"
#include "recall.h"
#include "stages.h"

enum {
	RETRY_NOT_READY_US = 100000, /* limits not mapped yet: control is attaching */
	RETRY_QUOTA_US = 1000000,
	RETRY_NO_BUFFER_US = 1000, /* large requests in hand have taken all buffers: soon over */
};

static void request_decode(struct worker *w, uint32_t i, struct wire_request *out)
{
	const struct packet *p = &w->burst.packets[i];
	struct request *r = &w->burst.requests[i];
	const uint8_t *text = w->burst.data[i] + p->payload + WIRE_HEADER_BYTES;

	memcpy(out, text, sizeof(*out));
	r->rows = text + WIRE_REQUEST_BYTES;
	r->request_id = out->request_id;
	r->model_id = out->model_id;
	r->deadline_us = out->deadline_us;
	r->n_rows = out->rows;
	r->retry_after_us = 0;
	r->detail = 0;
}

static uint32_t row_bytes(const struct packet *p)
{
	return p->payload_bytes - (uint32_t)WIRE_MIN_PAYLOAD_BYTES;
}

typedef uint32_t bits4 __attribute__((vector_size(16)));

/* Exponent all ones = Inf or NaN: one more in its place, and only these reach the top bit. */
static bits4 not_finite(bits4 x)
{
	return (x & 0x7f800000u) + 0x00800000u;
}

static bool all_finite(const uint8_t *floats, uint32_t n)
{
	bits4 bad = {0}, x;

	for (; n >= 4; n -= 4, floats += sizeof(x)) {
		memcpy(&x, floats, sizeof(x));
		bad |= not_finite(x);
	}
	x = (bits4){0};
	for (uint32_t i = 0; i < n; i++)
		memcpy((uint8_t *)&x + i * sizeof(uint32_t), floats + i * sizeof(uint32_t), sizeof(uint32_t));
	bad |= not_finite(x);
	return !((bad[0] | bad[1] | bad[2] | bad[3]) >> 31);
}

static bool rows_finite(const struct live_model *m, const uint8_t *rows, uint32_t n_rows)
{
	for (uint32_t r = 0; r < n_rows; r++)
		for (uint32_t s = 0; s < m->n_f32; s++)
			if (!all_finite(rows + r * m->row_in_bytes + m->f32[s].offset, m->f32[s].n))
				return false;
	return true;
}

/* Does the datagram carry the rows its place in the request calls for? The size of all rows decides
 * how many segments there are, and how many bytes each carries. */
static enum wire_reason size_check(const struct worker *w, uint32_t i, const struct wire_request *q,
	const struct live_model *m)
{
	const struct packet *p = &w->burst.packets[i];
	bool several = w->segments.n && w->burst.requests[i].cell; /* HTTPS has none */
	uint64_t in = (uint64_t)q->rows * m->row_in_bytes, out = (uint64_t)q->rows * m->row_out_bytes;
	uint32_t first = wide_segment_bytes((uint32_t)out, 0), count = q->segment_count;

	if (!count || count > (several ? WIRE_MAX_SEGMENTS : 1) || q->segment_index >= count)
		return WIRE_REASON_SEGMENTS;
	if (in > WIDE_ROW_BYTES || count != wide_segments((uint32_t)in))
		return count > 1 ? WIRE_REASON_SEGMENTS : WIRE_REASON_SIZE;
	if (row_bytes(p) != wide_segment_bytes((uint32_t)in, q->segment_index))
		return WIRE_REASON_SIZE;
	if (out > (several ? WIDE_ROW_BYTES : WIRE_SEGMENT_ROW_BYTES) ||
		p->payload + WIRE_HEADER_BYTES + WIRE_REPLY_BYTES + first + WIRE_TAG_BYTES >
			w->burst.room[i])
		return WIRE_REASON_REPLY_SIZE;
	return WIRE_REASON_NONE;
}

/* Which rule of the model does the request break? WIRE_REASON_NONE = none. */
static enum wire_reason request_check(const struct worker *w, uint32_t i,
	const struct wire_request *q, const struct live_model *m)
{
	enum wire_reason size;

	if (q->reserved || q->reserved2)
		return WIRE_REASON_RESERVED;
	if (q->dtype != m->dtype_in)
		return WIRE_REASON_DTYPE;
	if (q->rows == 0 || q->rows > m->max_rows)
		return WIRE_REASON_ROWS;
	size = size_check(w, i, q, m);
	if (size)
		return size;
	if (q->segment_count == 1 && m->check_finite &&
		!rows_finite(m, w->burst.requests[i].rows, q->rows))
		return WIRE_REASON_NOT_FINITE;
	return WIRE_REASON_NONE;
}

/* The answer this request would get if its plan has room: WIRE_RESULT = it may run. */
static enum wire_status triage(struct worker *w, uint32_t i, const struct wire_request *q)
{
	struct request *r = &w->burst.requests[i];
	uint32_t flags = __atomic_load_n(&r->limit->flags, __ATOMIC_RELAXED);
	uint64_t mask = __atomic_load_n(&r->limit->model_mask, __ATOMIC_RELAXED);

	if (w->burst.now_ns >= w->licensed_until_ns)
		return WIRE_NOT_LICENSED;
	if (!(flags & LIMIT_ACTIVE) || (flags & (LIMIT_BLOCKED | LIMIT_QUOTA_EXHAUSTED))) {
		r->retry_after_us = RETRY_QUOTA_US;
		return WIRE_QUOTA_EXHAUSTED;
	}
	r->model = model_set_find(w->models, r->model_id);
	if (!r->model || !(mask >> r->model->index & 1)) /* not yours = not there */
		return WIRE_UNKNOWN_MODEL;
	r->detail = request_check(w, i, q, r->model);
	return r->detail ? WIRE_BAD_REQUEST : WIRE_RESULT;
}

static uint32_t retry_us(uint64_t ticks)
{
	uint64_t us = (ticks >> LIMITS_TICK_SHIFT) / NS_PER_US + 1;

	return us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
}

/* Usage of neighbours in the burst is added up: an atomic addition for each costs 6 cycles more (perf/micro/
 * bench_worker.c, AMD Zen 5). */
static void meter_flush(struct meter *m)
{
	if (m->units)
		limits_account(m->slot, m->units);
	m->units = 0;
}

static void meter(struct worker *w, struct limit_slot *slot, uint32_t units)
{
	struct meter *m = &w->meter;

	if (mr_unlikely(m->slot != slot)) {
		meter_flush(m);
		m->slot = slot;
	}
	m->units += units;
}

/* True when `units` were charged; else *retry_ticks says when they could be. */
static bool admit(struct worker *w, const struct request *r, uint32_t units, uint64_t *retry_ticks)
{
	struct limit_result got = limits_charge(r->limit, limits_ticks(w->burst.now_ns), units);

	*retry_ticks = got.retry_ticks;
	if (mr_likely(got.verdict == LIMIT_ADMITTED || got.verdict == LIMIT_CORRUPT)) {
		meter(w, r->limit, units);
		if (mr_unlikely(got.verdict == LIMIT_CORRUPT)) {
			worker_count(w, STATS_LIMIT_CORRUPT, 1);
			__atomic_store_n(&w->corrupt_subscriber, (uint64_t)(r->limit - w->limits->slots) + 1,
				__ATOMIC_RELAXED);
		}
		return true;
	}
	if (got.verdict == LIMIT_CONTENDED)
		worker_count(w, STATS_LIMIT_CONTENDED, 1);
	return false;
}

/* Over the plan: say so, or say nothing when that has been said too often. True when it was said. */
static bool refuse(struct worker *w, uint32_t i, uint64_t retry_ticks)
{
	bool said = limits_charge_refusal(w->burst.requests[i].limit, limits_ticks(w->burst.now_ns));

	if (said)
		worker_answer(w, i, WIRE_RATE_LIMITED, 0, retry_us(retry_ticks));
	else
		worker_drop(w, i, STATS_DROP_SHOUTING);
	return said;
}

static uint32_t cost(const struct request *r)
{
	uint64_t units = (uint64_t)r->n_rows * r->model->cost_units;

	return units > UINT32_MAX ? UINT32_MAX : (uint32_t)units;
}

/* Where the rows of a reply of `bytes` are built: larger than a datagram, in a buffer of their own. False =
 * there is none, and the packet has been answered. */
static bool reply_place(struct worker *w, uint32_t i, uint32_t bytes)
{
	struct request *r = &w->burst.requests[i];

	if (mr_unlikely(!path_allows(w, i, bytes))) {
		worker_answer(w, i, WIRE_BAD_REQUEST, WIRE_REASON_UNPROVEN, 0);
		return false;
	}
	w->burst.reply_bytes[i] = (uint16_t)bytes;
	if (mr_likely(bytes <= WIRE_SEGMENT_ROW_BYTES))
		return true;
	r->out = segments_buffer(&w->segments);
	if (!r->out) {
		worker_answer(w, i, WIRE_OVERLOADED, 0, RETRY_NO_BUFFER_US);
		return false;
	}
	w->burst.n_wide++;
	return true;
}

/* Is this request's result worth keeping? Of several datagrams it always is: what is lost of them is asked
 * for again by one datagram. Else it is when it costs enough in a batch; alone is dearer, and looked at
 * first because that takes one multiplication. */
static bool keeps(const struct worker *w, const struct request *r, uint32_t reply_bytes)
{
	const struct cost_table *cost = &r->model->uses[w->index].cost;

	if (!w->keeping.store.n || !r->cell)
		return false;
	if (r->in || reply_bytes > WIRE_SEGMENT_ROW_BYTES)
		return true;
	return (uint64_t)cost->ns[0] * r->n_rows >= w->keeping.over_ns &&
	       cost_share_ns(cost, r->n_rows) >= w->keeping.over_ns;
}

/* Is there more to decide than the plan? Not about what need not be computed. */
static bool waits(const struct worker *w, const struct request *r)
{
	return mr_unlikely(backlog_concerns(&w->backlog, r, &r->model->uses[w->index])) && !recall_has(w, r);
}

/* Charged: into the batch, or among those who wait. */
static void permit(struct worker *w, uint32_t i)
{
	struct request *r = &w->burst.requests[i];
	uint32_t bytes = r->n_rows * r->model->row_out_bytes;

	if (!reply_place(w, i, bytes))
		return;
	r->dtype_out = r->model->dtype_out;
	r->keep = keeps(w, r, bytes);
	if (mr_unlikely(w->trace != NULL))
		trace_record(w, w->trace, r);
	if (mr_likely(!waits(w, r)) || !backlog_put(w, i))
		w->burst.state[i] = PKT_RUN;
}

/* ---- retries ---- */

/* The same datagram of the same request: the first one fetches the reply again, however long that is; the
 * others have nothing to add. Any other text under this id is refused. One unit has been charged. */
static void repeat(struct worker *w, uint32_t i, const struct wire_request *q, const struct store_entry *e)
{
	const struct keeping *k = &w->keeping;
	struct request *r = &w->burst.requests[i];
	uint64_t hash = text_hash(&k->hash, q, r->rows, row_bytes(&w->burst.packets[i]));

	if (!reply_store_matches(&k->store, e, q->segment_index, q->segment_count, hash)) {
		worker_answer(w, i, WIRE_BAD_REQUEST, WIRE_REASON_OTHER_TEXT, 0);
		return;
	}
	if (q->segment_index) {
		worker_drop(w, i, STATS_DROP_SEGMENT);
		return;
	}
	if (!reply_place(w, i, e->row_bytes))
		return;
	reply_store_rows(&k->store, e, worker_reply_rows(w, i));
	r->status = WIRE_RESULT;
	r->n_rows = e->rows;
	r->detail = e->detail;
	r->dtype_out = e->dtype;
	r->keep = 0;
	w->burst.state[i] = PKT_REPLY;
	worker_count(w, STATS_REPEATED, 1);
}

/* What the store holds of a request that may run, or NULL. Only those that it could hold are looked for. */
static const struct store_entry *kept_reply(const struct worker *w, const struct request *r,
	const struct wire_request *q)
{
	if (q->segment_count == 1 && !keeps(w, r, q->rows * r->model->row_out_bytes))
		return NULL;
	return reply_store_find(&w->keeping.store, r->cell->session_id, q->request_id);
}

/* ---- requests of several datagrams ---- */

/* All segments are here: what a single datagram is checked for and charged at once, now. False = it has
 * been answered, or dropped. */
static void run_whole(struct worker *w, uint32_t i, const struct segments_whole *whole)
{
	struct request *r = &w->burst.requests[i];
	uint64_t waited_us = (w->burst.now_ns - whole->since_ns) / NS_PER_US, retry;
	bool late = r->deadline_us && r->deadline_us <= waited_us;
	enum wire_status status = WIRE_RESULT;

	if (r->deadline_us) /* it runs from the first segment */
		r->deadline_us -= (uint32_t)waited_us;
	r->in = whole->buffer;
	r->rows = wide_rows(&w->wide, r->in);
	w->burst.n_wide++;
	if ((uint64_t)r->n_rows * r->model->row_in_bytes != whole->row_bytes) /* swapped meanwhile */
		worker_answer(w, i, WIRE_BAD_REQUEST, WIRE_REASON_SIZE, 0);
	else if (r->model->check_finite && !rows_finite(r->model, r->rows, r->n_rows))
		worker_answer(w, i, WIRE_BAD_REQUEST, WIRE_REASON_NOT_FINITE, 0);
	else if (late)
		worker_answer(w, i, WIRE_DEADLINE_EXCEEDED, 0, 0);
	else if (waits(w, r) && (status = backlog_verdict(w, i)) != WIRE_RESULT)
		worker_answer(w, i, status, 0, r->retry_after_us);
	else if (!admit(w, r, cost(r), &retry))
		refuse(w, i, retry);
	else
		permit(w, i);
}

/* A segment that may be kept: charged, well-formed, of a model we serve. */
static void keep_segment(struct worker *w, uint32_t i, const struct wire_request *q,
	struct segment_of of, struct assembly *a)
{
	struct segments_whole whole;

	switch (segments_take(&w->segments, a, of, q, w->burst.requests[i].rows,
		row_bytes(&w->burst.packets[i]), w->burst.now_ns, &whole)) {
	case SEGMENT_HELD:
		w->burst.state[i] = PKT_HELD;
		worker_count(w, STATS_HELD, 1);
		return;
	case SEGMENT_COMPLETES:
		run_whole(w, i, &whole);
		return;
	case SEGMENT_REPEATED:
		worker_drop(w, i, STATS_DROP_SEGMENT);
		return;
	case SEGMENT_CONFLICT:
		worker_answer(w, i, WIRE_BAD_REQUEST, WIRE_REASON_SEGMENTS, 0);
		return;
	case SEGMENT_OTHER:
		worker_answer(w, i, WIRE_BAD_REQUEST, WIRE_REASON_OTHER_TEXT, 0);
		return;
	case SEGMENT_NO_ROOM:
		worker_answer(w, i, WIRE_OVERLOADED, 0, RETRY_NO_BUFFER_US);
		segments_close(&w->segments, NULL, of, q, w->burst.now_ns);
		return;
	}
}

/* One unit first, whatever it is. A request that has been answered is not answered again: its late
 * segments are dropped. */
static void limit_segment(struct worker *w, uint32_t i, const struct wire_request *q)
{
	struct request *r = &w->burst.requests[i];
	struct segment_of of = {r->cell->session_id, w->burst.packets[i].wire.lane};
	struct assembly *a = segments_find(&w->segments, of, q->request_id);
	bool closed = a && a->state == ASSEMBLY_CLOSED;
	const struct store_entry *kept;
	enum wire_status status;
	uint64_t retry;

	if (!admit(w, r, 1, &retry)) {
		if (closed)
			worker_drop(w, i, STATS_DROP_SHOUTING);
		else if (refuse(w, i, retry))
			segments_close(&w->segments, a, of, q, w->burst.now_ns);
		return;
	}
	status = triage(w, i, q);
	kept = status == WIRE_RESULT ? kept_reply(w, r, q) : NULL;
	if (kept) {
		repeat(w, i, q, kept);
	} else if (closed) {
		worker_drop(w, i, STATS_DROP_SEGMENT);
	} else if (status == WIRE_RESULT) {
		keep_segment(w, i, q, of, a);
	} else {
		segments_close(&w->segments, a, of, q, w->burst.now_ns);
		worker_answer(w, i, status, r->detail, r->retry_after_us);
	}
}

static void limit_packet(struct worker *w, uint32_t i)
{
	struct request *r = &w->burst.requests[i];
	const struct store_entry *kept;
	struct wire_request q;
	enum wire_status status;
	uint64_t retry;

	request_decode(w, i, &q);
	if (mr_unlikely(!r->limit)) {
		if (w->limits)
			worker_answer(w, i, WIRE_INTERNAL, 0, 0); /* subscriber out of range */
		else
			worker_answer(w, i, WIRE_OVERLOADED, 0, RETRY_NOT_READY_US);
		return;
	}
	if (mr_unlikely(q.segment_count > 1) && r->cell && w->segments.n) {
		limit_segment(w, i, &q);
		return;
	}
	if (mr_unlikely(q.model_id == WIRE_PATH_MODEL) && r->cell) {
		if (admit(w, r, 1, &retry))
			path_answer(w, i, &q, row_bytes(&w->burst.packets[i]));
		else
			refuse(w, i, retry);
		return;
	}
	status = triage(w, i, &q);
	kept = status == WIRE_RESULT ? kept_reply(w, r, &q) : NULL;
	if (mr_likely(status == WIRE_RESULT) && mr_unlikely(waits(w, r)) && !kept)
		status = backlog_verdict(w, i);
	if (!admit(w, r, status == WIRE_RESULT && !kept ? cost(r) : 1, &retry))
		refuse(w, i, retry);
	else if (mr_unlikely(kept))
		repeat(w, i, &q, kept);
	else if (status == WIRE_RESULT)
		permit(w, i);
	else
		worker_answer(w, i, status, r->detail, r->retry_after_us);
}

/* Time passes for what is held and what is kept. */
static void expire(struct worker *w)
{
	struct segments *s = &w->segments;
	uint64_t expired = s->expired;

	segments_expire(s, w->burst.now_ns);
	if (mr_unlikely(s->expired != expired))
		worker_count(w, STATS_SEGMENTS_EXPIRED, s->expired - expired);
	reply_store_expire(&w->keeping.store, w->burst.now_ns);
}

void stage_limit(struct worker *w)
{
	uint64_t evicted = w->segments.evicted;

	w->burst.n_wide = 0;
	backlog_new_burst(&w->backlog);
	expire(w);
	for (uint32_t i = 0; i < w->burst.n; i++)
		if (w->burst.state[i] == PKT_AUTHENTIC)
			limit_packet(w, i);
	meter_flush(&w->meter); /* before anything is answered */
	if (mr_unlikely(w->segments.evicted != evicted))
		worker_count(w, STATS_SEGMENTS_EVICTED, w->segments.evicted - evicted);
}
