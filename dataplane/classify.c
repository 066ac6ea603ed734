/* SPDX-License-Identifier: BSD-3-Clause
 * Stage parse: what is each frame? Neighbours are answered on the spot; who sends junk or pings too much
 * meets the shield (admission.h).
 */
#include "base/prefetch.h"
#include "neighbour.h"
#include "stages.h"

static void answer_neighbour(struct worker *w, uint32_t i, enum packet_kind kind)
{
	struct burst *b = &w->burst;
	bool echo = kind == PACKET_ECHO4 || kind == PACKET_ECHO6;
	enum stats_counter verdict = echo ? admission_stray(&w->admission, &b->packets[i].source,
						    b->now_ns, STATS_NEIGHBOUR)
					  : STATS_NEIGHBOUR;
	size_t n;

	if (verdict != STATS_NEIGHBOUR) {
		worker_drop(w, i, verdict);
		return;
	}
	n = neighbour_answer(w->queue->parse, kind, b->data[i], b->room[i], &b->packets[i]);
	if (!n) {
		worker_drop(w, i, STATS_DROP_OVERSIZE);
		return;
	}
	b->bytes[i] = (uint16_t)n;
	b->state[i] = PKT_SEND_NEIGHBOUR;
	worker_count(w, STATS_NEIGHBOUR, 1);
}

void stage_parse(struct worker *w)
{
	struct burst *b = &w->burst;

	for (uint32_t i = 0; i < b->n_received; i++)
		prefetch_read(b->data[i]);
	for (uint32_t i = 0; i < b->n_received; i++) {
		int kind;

		if (mr_unlikely(!b->data[i])) {
			worker_drop(w, i, STATS_DROP_OVERSIZE);
			continue;
		}
		kind = parse_packet(w->queue->parse, b->data[i], b->bytes[i], &b->packets[i]);
		if (mr_likely(kind == PACKET_DATAGRAM))
			b->state[i] = PKT_DATAGRAM;
		else if (kind < 0)
			answer_neighbour(w, i, (enum packet_kind)kind);
		else if (kind == STATS_DROP_LENGTH || kind == STATS_DROP_VERSION)
			worker_stray(w, i, (enum stats_counter)kind); /* for the data port, but no datagram */
		else
			worker_drop(w, i, (enum stats_counter)kind);
	}
}
