/* SPDX-License-Identifier: BSD-3-Clause
 * Stage limit: may this request run, and does the plan still have room for it?
 *
 * Every authentic datagram is charged at least one unit, also one that will be refused; a request
 * that can run is charged rows x the model's cost. The plan is charged exactly once, here
 * (protocol.md).
 */
#include <string.h>

#include "base/clock.h"
#include "stages.h"

enum {
	RETRY_NOT_READY_US = 100000, /* limits not mapped yet: control is attaching */
	RETRY_QUOTA_US = 1000000,
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

/* Exponent all ones = Inf or NaN. */
static bool all_finite(const uint8_t *floats, uint32_t n)
{
	uint32_t bad = 0;

	for (uint32_t i = 0; i < n; i++) {
		uint32_t bits;

		memcpy(&bits, floats + i * sizeof(bits), sizeof(bits));
		bad |= (bits & 0x7f800000u) == 0x7f800000u;
	}
	return !bad;
}

static bool rows_finite(const struct live_model *m, const uint8_t *rows, uint32_t n_rows)
{
	for (uint32_t r = 0; r < n_rows; r++)
		for (uint32_t s = 0; s < m->n_f32; s++)
			if (!all_finite(rows + r * m->row_in_bytes + m->f32[s].offset, m->f32[s].n))
				return false;
	return true;
}

/* Which rule of the model does the request break? WIRE_REASON_NONE = none. */
static enum wire_reason request_check(const struct worker *w, uint32_t i,
	const struct wire_request *q, const struct live_model *m)
{
	const struct packet *p = &w->burst.packets[i];
	uint32_t reply_bytes = (uint32_t)WIRE_HEADER_BYTES + WIRE_REPLY_BYTES + WIRE_TAG_BYTES;

	if (q->reserved || q->reserved2)
		return WIRE_REASON_RESERVED;
	if (q->segment_count != 1 || q->segment_index != 0)
		return WIRE_REASON_SEGMENTS;
	if (q->dtype != m->dtype_in)
		return WIRE_REASON_DTYPE;
	if (q->rows == 0 || q->rows > m->max_rows)
		return WIRE_REASON_ROWS;
	if ((uint64_t)q->rows * m->row_in_bytes != row_bytes(p))
		return WIRE_REASON_SIZE;
	if ((uint64_t)q->rows * m->row_out_bytes > WIRE_MAX_PAYLOAD_BYTES - reply_bytes ||
		p->payload + reply_bytes + q->rows * m->row_out_bytes > w->burst.room[i])
		return WIRE_REASON_REPLY_SIZE;
	if (m->check_finite && !rows_finite(m, w->burst.requests[i].rows, q->rows))
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

/* True when `units` were charged; otherwise the packet has been answered or dropped. */
static bool charge(struct worker *w, uint32_t i, uint32_t units)
{
	struct request *r = &w->burst.requests[i];
	uint64_t now = limits_ticks(w->burst.now_ns);
	struct limit_result got = limits_charge(r->limit, now, units);

	if (mr_likely(got.verdict == LIMIT_ADMITTED || got.verdict == LIMIT_CORRUPT)) {
		limits_account(r->limit, units);
		if (mr_unlikely(got.verdict == LIMIT_CORRUPT)) {
			worker_count(w, STATS_LIMIT_CORRUPT, 1);
			__atomic_store_n(&w->corrupt_subscriber, (uint64_t)(r->limit - w->limits->slots) + 1,
				__ATOMIC_RELAXED);
		}
		return true;
	}
	if (got.verdict == LIMIT_CONTENDED)
		worker_count(w, STATS_LIMIT_CONTENDED, 1);
	if (limits_charge_refusal(r->limit, now))
		worker_answer(w, i, WIRE_RATE_LIMITED, 0, retry_us(got.retry_ticks));
	else
		worker_drop(w, i, STATS_DROP_SHOUTING);
	return false;
}

static uint32_t cost(const struct request *r)
{
	uint64_t units = (uint64_t)r->n_rows * r->model->cost_units;

	return units > UINT32_MAX ? UINT32_MAX : (uint32_t)units;
}

static void limit_packet(struct worker *w, uint32_t i)
{
	struct request *r = &w->burst.requests[i];
	struct wire_request q;
	enum wire_status status;

	request_decode(w, i, &q);
	if (mr_unlikely(!r->limit)) {
		if (w->limits)
			worker_answer(w, i, WIRE_INTERNAL, 0, 0); /* subscriber out of range */
		else
			worker_answer(w, i, WIRE_OVERLOADED, 0, RETRY_NOT_READY_US);
		return;
	}
	status = triage(w, i, &q);
	if (!charge(w, i, status == WIRE_RESULT ? cost(r) : 1))
		return;
	if (status == WIRE_RESULT)
		w->burst.state[i] = PKT_RUN;
	else
		worker_answer(w, i, status, r->detail, r->retry_after_us);
}

void stage_limit(struct worker *w)
{
	for (uint32_t i = 0; i < w->burst.n; i++)
		if (w->burst.state[i] == PKT_AUTHENTIC)
			limit_packet(w, i);
}
