/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
 * The shield against strays: what a source may send that belongs to nobody, and when it is boxed.
 *
 * A *stray* is a packet that matches no live (key id, source) pair: a datagram for the data port with
 * an unknown key id, another session's key id, or a clear header that is none; or an echo request that a
 * worker would have to answer. Each source address has a flood bucket of strays (GCRA, abi/limits.h) and
 * at most one term in the penalty box:
 *
 *   stray ─ in the box? ─ yes ──────────────────────────────▶ BOXED
 *              │ no (or its term is over)
 *           bucket has room? ─ yes ─ charged ───────────────▶ STRAY: what it would be without a shield
 *              │ no
 *           into the box until now + SHIELD_BOX_NS ─────────▶ FLOOD
 *
 * A packet that does match a live pair never comes here, so no spoofed flood can have a victim's traffic
 * refused, neither by emptying a bucket nor by the box. A term is not extended from inside the box:
 * whoever stops is out after one term, whoever goes on pays one full bucket a term.
 *
 * The XDP program keeps buckets and box in LRU hashes (abi/xdp_maps.h), each worker in a small table of
 * its own (dataplane/admission.h) whose box it reports to XDP's. One text for both.
 */
#pragma once

#include "abi/limits.h"

enum {
	SHIELD_STRAYS_PER_S = 1000, /* of one source address, for as long as it likes */
	SHIELD_STRAY_BURST = 1024,  /* and at once */
	/* Sources that get a bucket, on one CPU of XDP. A flood from invented addresses brings a new one with every
	 * packet, and to remember it costs the kernel five times what dropping the packet does. */
	SHIELD_NEWCOMERS_PER_S = 20000,
	SHIELD_NEWCOMER_BURST = 4096,
};

#define SHIELD_BOX_NS 10000000000ull /* one term */
#define SHIELD_INTERVAL_TICKS (LIMITS_TICKS_PER_S / SHIELD_STRAYS_PER_S)
#define SHIELD_BURST_TICKS (SHIELD_INTERVAL_TICKS * SHIELD_STRAY_BURST)
#define SHIELD_NEWCOMER_TICKS (LIMITS_TICKS_PER_S / SHIELD_NEWCOMERS_PER_S)

/* Entry of the penalty box: value of XDP_MAP_BOX. */
struct shield_term {
	uint64_t until_ns; /* CLOCK_MONOTONIC */
	uint64_t packets;  /* refused in this term, as far as XDP saw them */
};

STATIC_ASSERT(sizeof(struct shield_term) == 16, "shield_term");

/* Does a term that ends at `until_ns` still run? One that ends later than any could is void. */
MR_ALWAYS_INLINE int shield_boxed(uint64_t until_ns, uint64_t now_ns)
{
	return until_ns > now_ns && until_ns - now_ns <= 2 * SHIELD_BOX_NS;
}

MR_ALWAYS_INLINE uint64_t shield_term_end(uint64_t now_ns)
{
	return now_ns + SHIELD_BOX_NS;
}

/* Bucket of a source never seen before that has just sent its first stray. */
MR_ALWAYS_INLINE uint64_t shield_first_tat(uint64_t now_ns)
{
	return limits_ticks(now_ns) + SHIELD_INTERVAL_TICKS;
}

/* Take one of `interval` from a bucket of `burst`. Returns 1 when it had room. Lock-free, any number of
 * callers: one that loses the race goes uncharged, which is at most one a core and a moment. */
MR_ALWAYS_INLINE int shield_take(uint64_t *tat_ticks, uint64_t now_ns, uint64_t interval, uint64_t burst)
{
	uint64_t now = limits_ticks(now_ns), tat = limits_load(tat_ticks), next = 0, retry;
	int corrupt = limits_corrupt(tat, now, interval, burst);

	if (!limits_gcra(corrupt ? now : tat, now, interval, burst, &next, &retry))
		return 0;
	__sync_val_compare_and_swap(tat_ticks, tat, next);
	return 1;
}

/* Charge one stray to the bucket of its source. Returns 1 when it had room. */
MR_ALWAYS_INLINE int shield_charge(uint64_t *tat_ticks, uint64_t now_ns)
{
	return shield_take(tat_ticks, now_ns, SHIELD_INTERVAL_TICKS, SHIELD_BURST_TICKS);
}

/* May one more new source be remembered? Without a bucket its strays are dropped under their own name. */
MR_ALWAYS_INLINE int shield_newcomer(uint64_t *tat_ticks, uint64_t now_ns)
{
	return shield_take(tat_ticks, now_ns, SHIELD_NEWCOMER_TICKS,
		SHIELD_NEWCOMER_TICKS * SHIELD_NEWCOMER_BURST);
}
