/* SPDX-License-Identifier: BSD-3-Clause
 * Stage auth: whose packet is it, is it genuine, is it new? Nothing before the tag check costs the
 * session anything, and nothing is answered.
 *
 * Order (protocol.md): key id -> source -> epoch and expiry -> replay pre-check -> failed-open
 * budget -> AEAD open in place -> window check-and-update, one packet at a time, by the worker that
 * owns the lane.
 */
#include <string.h>

#include "base/clock.h"
#include "base/prefetch.h"
#include "replay.h"
#include "stages.h"

/* What a short datagram reads of an expanded key (aead.h). */
enum { SHORT_KEY_BYTES = 6 * MR_CACHE_LINE };

static bool same_address(const struct ip_addr *a, const struct ip_addr *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

/* Fetch the first line of every cell: the look-up is one dependent miss a packet. */
static void prefetch_cells(struct worker *w)
{
	struct burst *b = &w->burst;

	for (uint32_t i = 0; i < b->n; i++) {
		if (b->state[i] == PKT_DATAGRAM) {
			prefetch_read(sessions_cell(w->sessions, b->packets[i].wire.key_id));
		}
	}
}

/* May a packet of this epoch be opened? 0 or the drop. Current, next and previous are told apart by two
 * bits; the next one's keys are looked at only when they stand ready. Another worker may promote them
 * while we look: then once more. */
static int epoch_check(const struct session_cell *c, uint32_t flags, uint64_t now_ns)
{
	uint32_t epoch, ahead;

	do {
		epoch = __atomic_load_n(&c->epoch, __ATOMIC_ACQUIRE);
		ahead = (flags - epoch) & WIRE_FLAG_EPOCH_MASK;
		if (mr_likely(ahead == 0 && now_ns < __atomic_load_n(&c->fresh_until_ns, __ATOMIC_RELAXED)))
			return 0;
		if (now_ns >= __atomic_load_n(&c->expires_ns, __ATOMIC_RELAXED))
			return STATS_DROP_EXPIRED;
		if (ahead == 1 && __atomic_load_n(&c->next_ready, __ATOMIC_ACQUIRE) != SESSION_NEXT_NONE)
			return 0;
		if (ahead == 3 && now_ns < __atomic_load_n(&c->previous_until_ns, __ATOMIC_RELAXED))
			return 0;
	} while (__atomic_load_n(&c->epoch, __ATOMIC_RELAXED) != epoch);
	return STATS_DROP_EPOCH;
}

/* Key id, source, epoch and expiry against the private cell. 0 or the drop. */
static int look_up(struct worker *w, uint32_t i)
{
	const struct packet *p = &w->burst.packets[i];
	struct session_cell *c = sessions_cell(w->sessions, p->wire.key_id);

	if (!__atomic_load_n(&c->ready, __ATOMIC_ACQUIRE) || c->key_id != p->wire.key_id)
		return STATS_DROP_UNKNOWN_KEY;
	if (!same_address(&c->source, &p->source))
		return STATS_DROP_SOURCE;
	if (p->wire.lane >= w->sessions->lanes_per_session)
		return STATS_DROP_VERSION;
	w->burst.requests[i].cell = c;
	return epoch_check(c, p->wire.flags, w->burst.now_ns);
}

static void refuse(struct worker *w, uint32_t i, enum stats_counter why)
{
	if (why == STATS_DROP_UNKNOWN_KEY || why == STATS_DROP_SOURCE || why == STATS_DROP_EXPIRED)
		worker_stray(w, i, why);
	else
		worker_drop(w, i, why);
}

static void prefetch_key(const struct worker *w, const struct session_cell *c, uint32_t flags,
	enum session_direction direction)
{
	prefetch_lines(sessions_key(w->sessions, c, flags, direction), SHORT_KEY_BYTES);
}

static void find_state(struct worker *w, uint32_t i)
{
	const struct packet *p = &w->burst.packets[i];
	struct request *r = &w->burst.requests[i];

	r->lane = sessions_lane(w->sessions, p->wire.key_id, p->wire.lane);
	prefetch_write(r->lane);
	prefetch_write(&r->lane->bits[p->wire.counter / 64 % SESSION_WINDOW_WORDS]);
	if (i == 0 || r[-1].cell != r->cell) /* one client's run of packets: 4 cycles each (bench_worker 1) */
		prefetch_key(w, r->cell, p->wire.flags, SESSION_C2S);
	r->limit = NULL;
	if (w->limits && r->cell->subscriber < w->limits->n) {
		r->limit = &w->limits->slots[r->cell->subscriber];
		prefetch_write(r->limit);
	}
}

/* Forgeries under a victim's key id: when many opens failed lately, only counters that the real
 * client could be using are still opened. */
static bool budget_allows(const struct session_cell *c, const struct session_lane *lane,
	uint64_t counter, uint64_t now_ns)
{
	const uint64_t interval = NS_PER_S / SESSION_FAILED_PER_S;
	uint64_t tat = __atomic_load_n(&c->failed_tat_ns, __ATOMIC_RELAXED);
	uint64_t highest;

	if (mr_likely(tat <= now_ns + interval * (SESSION_FAILED_BURST - 1)))
		return true;
	highest = __atomic_load_n(&lane->highest, __ATOMIC_RELAXED);
	return counter < highest + SESSION_FAR_AHEAD && counter + SESSION_WINDOW >= highest;
}

static void budget_charge(struct session_cell *c, uint64_t now_ns)
{
	const uint64_t interval = NS_PER_S / SESSION_FAILED_PER_S;
	uint64_t tat = __atomic_load_n(&c->failed_tat_ns, __ATOMIC_RELAXED);

	if (tat < now_ns)
		tat = now_ns;
	if (tat <= now_ns + interval * SESSION_FAILED_BURST)
		__atomic_store_n(&c->failed_tat_ns, tat + interval, __ATOMIC_RELAXED);
}

static bool open_in_place(struct worker *w, uint32_t i)
{
	const struct packet *p = &w->burst.packets[i];
	const struct session_cell *c = w->burst.requests[i].cell;

	return aead_open(&w->shared->aead, sessions_key(w->sessions, c, p->wire.flags, SESSION_C2S),
		p->wire, w->burst.data[i] + p->payload,
		p->payload_bytes - (size_t)(WIRE_HEADER_BYTES + WIRE_TAG_BYTES));
}

/* 0 or the drop. */
static int open_packet(struct worker *w, uint32_t i)
{
	const struct packet *p = &w->burst.packets[i];
	struct request *r = &w->burst.requests[i];

	/* As XDP does, for ports without it: who shouts is not worth the opening. */
	if (mr_unlikely(r->limit && limits_shouting(r->limit, limits_ticks(w->burst.now_ns))))
		return STATS_DROP_SHOUTING;
	if (!replay_check(r->lane, p->wire.counter))
		return STATS_DROP_REPLAY;
	if (!budget_allows(r->cell, r->lane, p->wire.counter, w->burst.now_ns))
		return STATS_DROP_FAILED_BUDGET;
	if (!open_in_place(w, i)) {
		budget_charge(r->cell, w->burst.now_ns);
		return STATS_DROP_AUTH;
	}
	return 0;
}

/* The worker that owns the packet's lane: this one, if nobody did. */
static uint32_t lane_owner(struct worker *w, struct session_cell *c, uint32_t lane)
{
	uint8_t mine = (uint8_t)(w->index + 1), owner = 0;

	if (mr_likely(__atomic_load_n(&c->lane_owner[lane], __ATOMIC_RELAXED) == mine))
		return w->index;
	if (__atomic_compare_exchange_n(&c->lane_owner[lane], &owner, mine, false, __ATOMIC_ACQ_REL,
		    __ATOMIC_ACQUIRE))
		return w->index;
	return owner - 1u;
}

/* 0 = handed over; or the drop. */
static int hand_over(struct worker *w, uint32_t i, uint32_t owner)
{
	struct burst *b = &w->burst;
	struct handed e = {b->buffers[i], b->data[i], b->bytes[i], b->room[i],
		b->requests[i].cell->session_id, b->packets[i]};

	if (w->shared->ports[owner] != w->shared->ports[w->index] ||
		!handover_put(w->shared->handover, w->index, owner, &e))
		return STATS_DROP_HANDOVER;
	b->state[i] = PKT_HANDED;
	worker_count(w, STATS_HANDED_OVER, 1);
	return 0;
}

/* An authentic packet of a lane that is ours. 0 or the drop. */
static int accept(struct worker *w, uint32_t i)
{
	const struct packet *p = &w->burst.packets[i];
	struct request *r = &w->burst.requests[i];

	if (!replay_accept(r->lane, p->wire.counter))
		return STATS_DROP_REPLAY;
	prefetch_key(w, r->cell, p->wire.flags, SESSION_S2C);
	w->burst.state[i] = PKT_AUTHENTIC;
	return 0;
}

/* 0 or the drop. */
static int authenticate(struct worker *w, uint32_t i)
{
	const struct packet *p = &w->burst.packets[i];
	struct session_cell *c = w->burst.requests[i].cell;
	int drop = open_packet(w, i);
	uint32_t owner;

	if (drop)
		return drop;
	if (mr_unlikely(((p->wire.flags - __atomic_load_n(&c->epoch, __ATOMIC_RELAXED)) & WIRE_FLAG_EPOCH_MASK) == 1))
		session_promote(w->sessions, c, &w->promotions, w->burst.now_ns);
	owner = lane_owner(w, c, p->wire.lane);
	return mr_likely(owner == w->index) ? accept(w, i) : hand_over(w, i, owner);
}

/* Opened by another worker a moment ago: is it still that session's? */
static int take_opened(struct worker *w, uint32_t i)
{
	struct request *r = &w->burst.requests[i];
	struct session_cell *c = sessions_cell(w->sessions, w->burst.packets[i].wire.key_id);

	if (!__atomic_load_n(&c->ready, __ATOMIC_ACQUIRE) || c->session_id != r->request_id)
		return STATS_DROP_UNKNOWN_KEY;
	r->cell = c;
	find_state(w, i);
	return accept(w, i);
}

static void take_over(struct worker *w)
{
	for (uint32_t i = w->burst.n_received; i < w->burst.n; i++) {
		int drop = take_opened(w, i);

		if (drop)
			worker_drop(w, i, (enum stats_counter)drop);
	}
}

/* No table yet: nobody can be known. */
static void drop_all(struct worker *w)
{
	for (uint32_t i = 0; i < w->burst.n; i++)
		if (w->burst.state[i] == PKT_DATAGRAM)
			worker_stray(w, i, STATS_DROP_UNKNOWN_KEY);
		else if (w->burst.state[i] == PKT_OPENED)
			worker_drop(w, i, STATS_DROP_UNKNOWN_KEY);
}

void stage_auth(struct worker *w)
{
	struct burst *b = &w->burst;

	if (mr_unlikely(!w->sessions)) {
		drop_all(w);
		return;
	}
	prefetch_cells(w);
	for (uint32_t i = 0; i < b->n; i++) {
		int drop;

		if (b->state[i] != PKT_DATAGRAM)
			continue;
		drop = look_up(w, i);
		if (drop)
			refuse(w, i, (enum stats_counter)drop);
		else
			find_state(w, i);
	}
	for (uint32_t i = 0; i < b->n; i++) {
		int drop;

		if (b->state[i] != PKT_DATAGRAM)
			continue;
		drop = authenticate(w, i);
		if (drop)
			worker_drop(w, i, (enum stats_counter)drop);
	}
	if (mr_unlikely(b->n > b->n_received))
		take_over(w);
}
