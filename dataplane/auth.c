/* SPDX-License-Identifier: BSD-3-Clause
 * Stage auth: whose packet is it, is it genuine, is it new? Nothing before the tag check costs the
 * session anything, and nothing is answered.
 *
 * Order (protocol.md): key id -> expiry -> source -> epoch -> replay pre-check -> failed-open
 * budget -> AEAD open in place -> window check-and-update, one packet at a time.
 */
#include <string.h>

#include "base/clock.h"
#include "replay.h"
#include "stages.h"

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
			const uint8_t *c = (const uint8_t *)sessions_cell(w->sessions,
				b->packets[i].wire.key_id);

			__builtin_prefetch(c);
			__builtin_prefetch(c + 64);
		}
	}
}

/* Key id, expiry, source, epoch against the private cell. 0 or the drop. */
static int look_up(struct worker *w, uint32_t i)
{
	const struct packet *p = &w->burst.packets[i];
	struct session_cell *c = sessions_cell(w->sessions, p->wire.key_id);

	if (!__atomic_load_n(&c->ready, __ATOMIC_ACQUIRE) || c->key_id != p->wire.key_id)
		return STATS_DROP_UNKNOWN_KEY;
	if (w->burst.now_ns >= __atomic_load_n(&c->expires_ns, __ATOMIC_RELAXED))
		return STATS_DROP_EXPIRED;
	if (!same_address(&c->source, &p->source))
		return STATS_DROP_SOURCE;
	if (p->wire.flags != (c->epoch & WIRE_FLAG_EPOCH_MASK))
		return STATS_DROP_EPOCH;
	if (p->wire.lane >= w->sessions->lanes_per_session)
		return STATS_DROP_VERSION;
	w->burst.requests[i].cell = c;
	return 0;
}

static void refuse(struct worker *w, uint32_t i, enum stats_counter why)
{
	if (why == STATS_DROP_UNKNOWN_KEY || why == STATS_DROP_SOURCE || why == STATS_DROP_EXPIRED)
		worker_stray(w, i, why);
	else
		worker_drop(w, i, why);
}

static void prefetch_keys(struct worker *w, uint32_t i)
{
	const struct packet *p = &w->burst.packets[i];
	struct request *r = &w->burst.requests[i];
	const uint8_t *key = (const uint8_t *)sessions_c2s_key(r->cell);
	const uint64_t *word;

	r->lane = sessions_lane(w->sessions, p->wire.key_id, p->wire.lane);
	word = &r->lane->bits[p->wire.counter / 64 % SESSION_WINDOW_WORDS];
	__builtin_prefetch(r->lane, 1);
	__builtin_prefetch(word, 1);
	for (uint32_t line = 0; line < 4; line++) /* the round keys; hash keys follow by hardware */
		__builtin_prefetch(key + line * 64);
	r->limit = NULL;
	if (w->limits && r->cell->subscriber < w->limits->n) {
		r->limit = &w->limits->slots[r->cell->subscriber];
		__builtin_prefetch(r->limit, 1);
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

	return aead_open(&w->shared->aead, sessions_c2s_key(c), p->wire,
		w->burst.data[i] + p->payload,
		p->payload_bytes - (size_t)(WIRE_HEADER_BYTES + WIRE_TAG_BYTES));
}

/* 0 or the drop. */
static int authenticate(struct worker *w, uint32_t i)
{
	const struct packet *p = &w->burst.packets[i];
	struct request *r = &w->burst.requests[i];
	bool fresh;

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
	sessions_lane_lock(w->sessions, r->cell, p->wire.lane);
	fresh = replay_accept(r->lane, p->wire.counter);
	sessions_lane_unlock(w->sessions, r->cell, p->wire.lane);
	return fresh ? 0 : STATS_DROP_REPLAY;
}

/* No table yet: nobody can be known. */
static void drop_all(struct worker *w)
{
	for (uint32_t i = 0; i < w->burst.n; i++)
		if (w->burst.state[i] == PKT_DATAGRAM)
			worker_stray(w, i, STATS_DROP_UNKNOWN_KEY);
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
			prefetch_keys(w, i);
	}
	for (uint32_t i = 0; i < b->n; i++) {
		int drop;

		if (b->state[i] != PKT_DATAGRAM)
			continue;
		drop = authenticate(w, i);
		if (drop)
			worker_drop(w, i, (enum stats_counter)drop);
		else
			b->state[i] = PKT_AUTHENTIC;
	}
}
