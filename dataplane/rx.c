/* SPDX-License-Identifier: BSD-3-Clause
 * Stage rx: take what has arrived, and the time, once.
 */
#include "stages.h"

/* Packets that other workers opened for us, as far as the burst has room. */
static void take_over(struct worker *w)
{
	struct handover *h = w->shared->handover;
	struct burst *b = &w->burst;
	struct handed e;

	for (uint32_t from = 0; from < h->n_workers; from++) {
		while (b->n < BURST_MAX && from != w->index &&
			handover_get(h, from, w->index, &e)) {
			uint32_t i = b->n++;

			b->buffers[i] = e.buffer;
			b->data[i] = e.data;
			b->bytes[i] = e.bytes;
			b->room[i] = e.room;
			b->packets[i] = e.packet;
			b->requests[i].request_id = e.session_id; /* until auth has looked */
			b->state[i] = PKT_OPENED;
		}
	}
	if (b->n > b->n_received)
		worker_count(w, STATS_TAKEN_OVER, b->n - b->n_received);
}

bool stage_rx(struct worker *w)
{
	struct burst *b = &w->burst;
	uint64_t bytes = 0;

	b->n = b->n_received = w->queue->ops->rx(w->queue, b, w->burst_max);
	if (mr_unlikely(w->shared->handover != NULL))
		take_over(w);
	if (!b->n)
		return false;
	b->now_ns = w->clock.now_ns(w->clock.ctx);
	for (uint32_t i = 0; i < b->n_received; i++)
		bytes += b->bytes[i];
	worker_count(w, STATS_RX, b->n_received);
	worker_count(w, STATS_RX_BYTES, bytes);
	return true;
}
