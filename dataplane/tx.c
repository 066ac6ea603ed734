/* SPDX-License-Identifier: BSD-3-Clause
 * Stage tx: hand complete frames to the port, give every other buffer back, and count replies by
 * what really left.
 */
#include "stages.h"

enum { TX_TRIES = 64 };

static const enum stats_counter reply_counters[WIRE_STATUS_END] = {
	[WIRE_RESULT] = STATS_REPLY_RESULT,
	[WIRE_BAD_REQUEST] = STATS_REPLY_BAD_REQUEST,
	[WIRE_UNKNOWN_MODEL] = STATS_REPLY_UNKNOWN_MODEL,
	[WIRE_RATE_LIMITED] = STATS_REPLY_RATE_LIMITED,
	[WIRE_QUOTA_EXHAUSTED] = STATS_REPLY_QUOTA_EXHAUSTED,
	[WIRE_OVERLOADED] = STATS_REPLY_OVERLOADED,
	[WIRE_DEADLINE_EXCEEDED] = STATS_REPLY_DEADLINE_EXCEEDED,
	[WIRE_NOT_LICENSED] = STATS_REPLY_NOT_LICENSED,
	[WIRE_INTERNAL] = STATS_REPLY_INTERNAL,
};

enum stats_counter tx_reply_counter(uint32_t status)
{
	return reply_counters[status];
}

/* Bounded: a full queue costs replies (counted), never the poll loop. */
static uint32_t send_all(
	struct worker *w, void *const buffers[], const uint16_t bytes[], uint32_t n)
{
	uint32_t sent = 0;

	for (uint32_t i = 0; i < TX_TRIES && sent < n; i++)
		sent += w->queue->ops->tx(w->queue, buffers + sent, bytes + sent, n - sent);
	return sent;
}

/* A reply has left when all of its frames have: their order is that of the packets. */
static void count_sent(struct worker *w, const uint8_t order[], uint32_t n, uint32_t sent)
{
	struct burst *b = &w->burst;
	uint64_t by_status[WIRE_STATUS_END] = {0}, completed = 0, lost = 0, bytes = 0;

	for (uint32_t i = 0; i < n; i++) {
		bool last = i + 1 == n || order[i + 1] != order[i];
		bool reply = last && b->state[order[i]] == PKT_SEND;

		completed += reply;
		if (i < sent) {
			bytes += w->out.bytes[i];
			by_status[b->requests[order[i]].status] += reply;
		} else {
			lost += reply;
		}
	}
	worker_count(w, STATS_TX, sent);
	worker_count(w, STATS_TX_BYTES, bytes);
	worker_count(w, STATS_COMPLETED, completed);
	if (lost)
		worker_count(w, STATS_DROP_REPLY_TX, lost);
	for (uint32_t s = 0; s < WIRE_STATUS_END; s++)
		if (by_status[s])
			worker_count(w, reply_counters[s], by_status[s]);
}

static void give_wide_back(struct worker *w)
{
	struct burst *b = &w->burst;

	for (uint32_t i = 0; i < b->n; i++) {
		wide_give(&w->wide, b->requests[i].in);
		wide_give(&w->wide, b->requests[i].out);
		b->requests[i].in = b->requests[i].out = 0;
	}
}

void stage_tx(struct worker *w)
{
	struct burst *b = &w->burst;
	struct outgoing *o = &w->out;
	const struct extra *x = &w->extra;
	uint32_t n = 0, n_back = 0, sent = 0, at = 0;

	for (uint32_t i = 0; i < b->n; i++) {
		if (b->state[i] == PKT_SEND || b->state[i] == PKT_SEND_NEIGHBOUR) {
			o->order[n] = (uint8_t)i;
			o->bytes[n] = b->bytes[i];
			o->send[n++] = b->buffers[i];
		} else if (mr_likely(b->state[i] != PKT_HANDED) && b->state[i] != PKT_MOVED) {
			o->back[n_back++] = b->buffers[i];
		}
		for (; mr_unlikely(at < x->n && x->packet[at] == i); at++) {
			o->order[n] = (uint8_t)i;
			o->bytes[n] = x->bytes[at];
			o->send[n++] = x->buffers[at];
		}
	}
	if (n) {
		sent = send_all(w, o->send, o->bytes, n);
		count_sent(w, o->order, n, sent);
	}
	if (sent < n)
		w->queue->ops->release(w->queue, o->send + sent, n - sent);
	if (n_back)
		w->queue->ops->release(w->queue, o->back, n_back);
	if (mr_unlikely(b->n_wide))
		give_wide_back(w);
}
