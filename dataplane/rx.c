/* SPDX-License-Identifier: BSD-3-Clause
 * Stage rx: take what has arrived, and the time, once.
 */
#include "stages.h"

bool stage_rx(struct worker *w)
{
	struct burst *b = &w->burst;
	uint64_t bytes = 0;

	b->n = w->queue->ops->rx(w->queue, b, w->burst_max);
	if (!b->n)
		return false;
	b->now_ns = w->clock.now_ns(w->clock.ctx);
	for (uint32_t i = 0; i < b->n; i++)
		bytes += b->bytes[i];
	worker_count(w, STATS_RX, b->n);
	worker_count(w, STATS_RX_BYTES, bytes);
	return true;
}
