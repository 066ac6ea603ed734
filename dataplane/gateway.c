/* SPDX-License-Identifier: BSD-3-Clause
 * HTTPS requests in the poll loop: see gateway.h.
 *
 * Slots are laid out as a burst of packets that auth has already opened; limit, batch and infer do not
 * know the difference. Only the answer goes back into the slot instead of a frame.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"
#include "gateway.h"
#include "stages.h"

enum { RETRY_SHOUTING_US = 1000000 };

int gateway_open(struct gateway_region **out, int fd, struct error *err)
{
	void *map;
	size_t bytes;
	struct gateway_region *g;
	int rc = fd_region_map(fd, true, true, &map, &bytes, err);

	if (rc)
		return error_prefix(err, "gateway");
	g = map;
	if (bytes >= sizeof(*g) && g->header.magic == GATEWAY_MAGIC &&
		g->header.version == GATEWAY_VERSION && g->header.slots == GATEWAY_SLOTS &&
		g->header.total_bytes == sizeof(*g)) {
		*out = g;
		return 0;
	}
	munmap(map, bytes);
	return error_set(err, -EPROTO, "gateway: %zu bytes are not a region of version %d", bytes,
		GATEWAY_VERSION);
}

void gateway_close(struct gateway_region *g)
{
	if (g)
		munmap(g, sizeof(*g));
}

/* Copy slot `s`, number `index`, into place `i` of the burst. False = the copy is no request. */
static bool take(struct worker *w, const struct gateway_slot *s, uint32_t index, uint32_t i)
{
	struct burst *b = &w->burst;
	uint8_t *text = w->gateway.text[index];
	/* Read once each: control could write them again behind the check. */
	uint32_t subscriber = __atomic_load_n(&s->subscriber, __ATOMIC_RELAXED);
	uint32_t bytes = __atomic_load_n(&s->request_bytes, __ATOMIC_RELAXED);

	if (bytes < WIRE_REQUEST_BYTES || bytes > GATEWAY_TEXT_BYTES)
		return false;
	memcpy(text + WIRE_HEADER_BYTES, s->request, bytes);
	b->buffers[i] = NULL;
	b->data[i] = text;
	b->room[i] = WIRE_MAX_PAYLOAD_BYTES;
	b->packets[i].payload = 0;
	b->packets[i].payload_bytes = (uint16_t)(WIRE_HEADER_BYTES + bytes + WIRE_TAG_BYTES);
	b->requests[i].cell = NULL; /* no session: one datagram's text each way */
	b->requests[i].limit = w->limits && subscriber < w->limits->n ?
		&w->limits->slots[subscriber] : NULL;
	b->state[i] = PKT_AUTHENTIC;
	return true;
}

/* Collect what is ours. Sets *more when a full burst left some behind. */
static uint32_t collect(struct worker *w, struct gateway_region *g, bool *more)
{
	uint32_t n = 0;

	for (uint32_t s = w->index; s < GATEWAY_SLOTS; s += w->shared->n_workers) {
		struct gateway_slot *slot = &g->slots[s];

		if (__atomic_load_n(&slot->state, __ATOMIC_ACQUIRE) != GATEWAY_SUBMITTED ||
			(w->gateway.waiting >> s & 1))
			continue;
		if (n == GATEWAY_BURST) {
			*more = true;
			break;
		}
		if (!take(w, slot, s, n)) { /* control's fault, and control's to report */
			slot->reply_bytes = 0;
			__atomic_store_n(&slot->state, GATEWAY_ANSWERED, __ATOMIC_RELEASE);
			continue;
		}
		w->gateway.slot[n++] = (uint8_t)s;
	}
	return n;
}

/* The typed answer. A subscriber who has used up even its refusals still gets one, HTTP is not silent;
 * it stays counted as dropped. */
static void answer(struct worker *w, struct gateway_slot *slot, uint32_t i)
{
	struct burst *b = &w->burst;

	if (b->state[i] == PKT_REPLY) {
		worker_count(w, STATS_COMPLETED, 1);
		worker_count(w, tx_reply_counter(b->requests[i].status), 1);
	} else {
		worker_answer(w, i, WIRE_RATE_LIMITED, 0, RETRY_SHOUTING_US);
	}
	slot->reply_bytes = reply_text(b, i);
	memcpy(slot->reply, b->reply[i], slot->reply_bytes);
	__atomic_store_n(&slot->state, GATEWAY_ANSWERED, __ATOMIC_RELEASE);
}

bool gateway_poll(struct worker *w, struct gateway_region *g)
{
	uint64_t submitted = __atomic_load_n(&g->header.submitted, __ATOMIC_ACQUIRE);
	struct burst *b = &w->burst;
	bool more = false;

	b->n = collect(w, g, &more);
	if (!more)
		w->gateway.seen = submitted;
	if (!b->n)
		return false;
	b->now_ns = w->clock.now_ns(w->clock.ctx);
	worker_count(w, STATS_GATEWAY, b->n);
	stage_limit(w);
	stage_batch(w);
	stage_infer(w);
	for (uint32_t i = 0; i < b->n; i++)
		if (b->state[i] != PKT_MOVED)
			answer(w, &g->slots[w->gateway.slot[i]], i);
	return true;
}

void gateway_answer_waiting(struct worker *w, struct gateway_region *g)
{
	struct burst *b = &w->burst;

	for (uint32_t i = 0; i < b->n; i++) {
		uint16_t slot = w->backlog.all[w->backlog.served[i]].gateway;

		if (!slot)
			continue;
		answer(w, &g->slots[slot - 1], i);
		w->gateway.waiting &= ~(1ull << (slot - 1));
		b->state[i] = PKT_MOVED;
	}
}
