/* SPDX-License-Identifier: BSD-3-Clause
 * Sequences of segments through the whole worker: whatever is sent in whatever order, every answer is
 * genuine and whole, the books balance, buffers come back, and nothing is computed, held or fetched again
 * without having been charged.
 *
 * An input is a list of steps of STEP_BYTES: who, which request and segment, what is wrong with it, when.
 * Two sessions on two lanes each; the worker and its models live on from input to input.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "dataplane/base/aead_family.h"
#include "tests/pipeline/rig_wide.h"

/* Fuzzers are built without vector flags: ipsec-mb does it. */
const struct aead_family aead_vaes = {.name = "vaes"}, aead_vaes512 = {.name = "vaes512"};

int aead_vaes_supported(void)
{
	return 0;
}

int aead_vaes512_supported(void)
{
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { STEP_BYTES = 3, STEPS_MAX = 96, SESSIONS = 2, LANES = 2, PAYLOAD_AT = 14 + 20 + 8 };

enum wrong { /* low nibble of the third byte */
	WRONG_NOTHING, WRONG_ROWS, WRONG_DTYPE, WRONG_DEADLINE, WRONG_RESERVED, WRONG_MODEL, WRONG_SHORT,
	WRONG_LONG, WRONG_TEXT, WRONG_COUNT_0, WRONG_COUNT_17, WRONG_INDEX, WRONG_CHEAP, WRONG_DEAR,
	WRONG_PLAN, WRONG_EMPTY,
};

struct world {
	struct rig *r;
	struct rig_client clients[SESSIONS][LANES];
	uint32_t key_id;
};

/* An assertion of the rig that fails outside a cmocka test is a finding. */
static void must(int ok)
{
	if (!ok)
		abort();
}

static void start(struct world *w)
{
	void *state;

	must(t_set_up(&state) == 0);
	w->r = state;
	w->key_id = 0x1000;
}

/* New sessions under new ids: an input finds nothing of the last one. */
static void enrol(struct world *w)
{
	struct rig *r = w->r;

	for (int s = 0; s < SESSIONS; s++) {
		struct rig_client *c = w->clients[s];

		if (c[0].key_id) {
			must(sessions_remove_begin(r->shared.sessions, c[0].slot, c[0].key_id * 10ull) == 0);
			sessions_remove_finish(r->shared.sessions, c[0].slot);
		}
		rig_session(r, &c[0], w->key_id + (uint32_t)s, 0, false);
		c[1] = c[0];
		c[1].lane = 1;
	}
	w->key_id += RIG_CAPACITY;
	if (w->key_id > 1u << 28)
		w->key_id = 0x1000;
}

/* ---- what comes back ---- */

static struct rig_client *client_of(struct world *w, const uint8_t *frame)
{
	struct wire_header h;

	memcpy(&h, frame + PAYLOAD_AT, sizeof(h));
	for (int s = 0; s < SESSIONS; s++)
		if (w->clients[s][0].key_id == h.key_id && h.lane < LANES)
			return &w->clients[s][h.lane];
	abort();
}

/* Segments of one reply follow each other; each is full but the last. */
static void drain(struct world *w)
{
	uint8_t frame[RIG_FRAME];
	struct rig_reply got;
	uint32_t expect = 0, bytes = 0;
	size_t n;

	while ((n = port_mem_get(w->r->port, frame))) {
		must(rig_open(client_of(w, frame), frame, n, &got));
		must(got.reply.status < WIRE_STATUS_END && got.reply.segment_index == expect);
		bytes = (expect ? bytes : 0) + got.row_bytes;
		if (++expect < got.reply.segment_count) {
			must(got.row_bytes == WIRE_SEGMENT_ROW_BYTES);
			continue;
		}
		must(bytes == got.reply.rows * (uint32_t)ROW_OUT);
		must((got.reply.status == WIRE_RESULT) == (got.reply.rows > 0));
		expect = 0;
	}
	must(expect == 0);
}

/* Every counted datagram of these kinds cost a unit, and every row what its model says. */
static void check_charges(const struct rig *r)
{
	const struct stats_model *m = r->stats->models;
	uint64_t least = m[0].rows + m[1].rows * WIDE_COST + rig_count(r, STATS_HELD) +
		rig_count(r, STATS_DROP_SEGMENT) + rig_count(r, STATS_REPLY_BAD_REQUEST) +
		rig_count(r, STATS_REPLY_UNKNOWN_MODEL) + rig_count(r, STATS_REPEATED);

	must(t_units(r) >= least);
	must(t_units(r) <= m[0].rows + m[1].rows * WIDE_COST + rig_count(r, STATS_RX));
}

static void check(struct world *w)
{
	const struct rig *r = w->r;
	uint32_t open[SESSIONS] = {0};

	drain(w);
	rig_balance(w->r);
	check_charges(r);
	for (uint16_t h = r->worker->segments.open.oldest; h;) {
		const struct assembly *a = &r->worker->segments.assemblies[h - 1];

		for (int s = 0; s < SESSIONS; s++)
			open[s] += a->of.session_id == w->clients[s][0].key_id * 10ull;
		h = a->younger;
	}
	must(open[0] <= SEGMENTS_PER_SESSION && open[1] <= SEGMENTS_PER_SESSION);
}

/* ---- what goes in ---- */

static uint32_t segment_bytes(const struct wire_request *q)
{
	uint32_t bytes = q->rows * (uint32_t)ROW_IN, at = q->segment_index * WIRE_SEGMENT_ROW_BYTES;

	if (at >= bytes)
		return 0;
	return bytes - at < WIRE_SEGMENT_ROW_BYTES ? bytes - at : WIRE_SEGMENT_ROW_BYTES;
}

static void spoil(struct rig *r, struct wire_request *q, uint8_t *rows, uint32_t *n, enum wrong what)
{
	switch (what) {
	case WRONG_ROWS: q->rows--; break;
	case WRONG_DTYPE: q->dtype = WIRE_I64; break;
	case WRONG_DEADLINE: q->deadline_us = 30000; break;
	case WRONG_RESERVED: q->reserved = 1; break;
	case WRONG_MODEL: q->model_id++; break;
	case WRONG_SHORT: *n -= *n > 0; break;
	case WRONG_LONG: *n += *n < WIRE_SEGMENT_ROW_BYTES; break;
	case WRONG_TEXT: rows[*n / 2] ^= 0x10; break;
	case WRONG_COUNT_0: q->segment_count = 0; break;
	case WRONG_COUNT_17: q->segment_count = 17; break;
	case WRONG_INDEX: q->segment_index |= 0x80; break;
	case WRONG_CHEAP: r->worker->keeping.over_ns = NS_PER_S; break;
	case WRONG_DEAR: r->worker->keeping.over_ns = 0; break;
	case WRONG_PLAN: r->limits[0].interval_ticks = r->limits[0].interval_ticks ? 0 : 1; break;
	case WRONG_EMPTY: *n = 0; break;
	default: break;
	}
}

static void put_step(struct world *w, const uint8_t step[STEP_BYTES])
{
	static const uint64_t waits_ms[] = {0, 1, 30, 110};
	struct rig_client *c = &w->clients[step[0] & 1][step[0] >> 1 & 1];
	struct wire_request q = t_wide(1 + (step[0] >> 2 & 7), 1 + (step[1] & 15));
	uint8_t rows[WIRE_SEGMENT_ROW_BYTES + 1] = {0}, f[RIG_FRAME];
	uint32_t n;

	q.segment_index = step[1] >> 4;
	n = segment_bytes(&q);
	memcpy(rows, (const uint8_t *)t_rows + q.segment_index * WIRE_SEGMENT_ROW_BYTES, n);
	spoil(w->r, &q, rows, &n, step[2] & 15);
	must(port_mem_put(w->r->port, f, rig_request(c, f, &q, rows, n)));
	if (!(step[0] & 0x20) && w->r->port->n_waiting < 16)
		return;
	w->r->port->now_ns += waits_ms[step[0] >> 6] * NS_PER_MS;
	worker_poll(w->r->worker);
	check(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct world w;
	struct rig *r;

	if (!w.r)
		start(&w);
	r = w.r;
	r->port->now_ns += (STORE_KEEP_S + 1) * NS_PER_S;
	r->limits[0].interval_ticks = 1;
	r->limits[0].burst_ticks = 1ull << 40;
	r->limits[0].refused_tat_ticks = 0;
	enrol(&w);
	for (size_t i = 0; i < STEPS_MAX && (i + 1) * STEP_BYTES <= size; i++)
		put_step(&w, data + i * STEP_BYTES);
	worker_poll(r->worker);
	check(&w);
	return 0;
}
