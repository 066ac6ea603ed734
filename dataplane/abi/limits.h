/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
 * The limiter: one 64-byte slot per subscriber, and GCRA as pure 64-bit arithmetic over it.
 *
 * One text for BPF (clang 14) and for the host. The slots are a BPF_MAP_TYPE_ARRAY with
 * BPF_F_MMAPABLE: control writes the limit fields, workers the state words, XDP only reads.
 *
 * Time is a "tick", 1/16 ns of CLOCK_MONOTONIC: whole nanoseconds over-admit 1 % at 30 M units/s
 * (shared/measured.md). A u64 of ticks wraps after 36 years of uptime.
 *
 * GCRA: ITU-T I.371 / ATM Forum TM 4.1 annex, "virtual scheduling" form. TAT (theoretical arrival
 * time) is when the bucket will have drained; a charge moves it on by its cost, and conforms when it
 * is then at most the burst ahead of now. Seen as a bucket: an idle one admits exactly `burst` units
 * at once, and over any t at most burst + rate x t.
 *
 * Every field is read once a try, and every value is allowed: nothing here divides by zero, overflows or
 * loops longer than LIMITS_CAS_TRIES x LIMITS_CHANGE_TRIES, whatever another program with access to the
 * map writes.
 */
#pragma once

#include "abi/types.h"

enum {
	LIMITS_TICK_SHIFT = 4, /* ticks = ns << 4 */
	LIMITS_CAS_TRIES = 8,
	LIMITS_CHANGE_TRIES = 64, /* looks at a slot that control is changing: some microseconds */
	LIMITS_MAX_SLOTS = 16384, /* fixed size of the pinned map: libbpf compares it (abi/xdp_maps.h) */
	LIMITS_DEFAULT_SLOTS = LIMITS_MAX_SLOTS, /* subscribers; the configuration may use fewer */
	LIMITS_REFUSED_BURST = 32, /* RATE_LIMITED replies an idle subscriber may provoke at once */
};

#define LIMITS_TICKS_PER_S 16000000000ull
#define LIMITS_NEVER (~0ull) /* retry_ticks: this cost cannot pass under these limits */
/* Longest cost, interval or burst: 2.3 years. Sums of a few of them cannot overflow. */
#define LIMITS_MAX_TICKS (1ull << 60)
/* Workers read the clock once per burst, so a TAT may lie this far beyond what the slowest of them
 * calls now + burst without being corrupt. */
#define LIMITS_SKEW_TICKS (4 * LIMITS_TICKS_PER_S)

/* limit_slot.flags */
enum {
	LIMIT_ACTIVE = 1u << 0,          /* the slot belongs to a subscriber */
	LIMIT_BLOCKED = 1u << 1,         /* suspended by the operator: answered QUOTA_EXHAUSTED */
	LIMIT_QUOTA_EXHAUSTED = 1u << 2, /* monthly quota used up (control decides) */
	LIMIT_CONCURRENT_SHIFT = 8, /* bits 8..15: requests that may wait or run at once; 0 = any number */
	LIMIT_CONCURRENT_MAX = 255,
	LIMIT_WEIGHT_SHIFT = 16, /* bits 16..31: share of the core under overload; 0 = 1 */
	LIMIT_WEIGHT_MAX = 1000,
};

struct limit_slot {
	/* state: written by workers, read by XDP */
	uint64_t tat_ticks;
	uint64_t refused_tat_ticks; /* GCRA over RATE_LIMITED replies; see limits_shouting() */
	uint64_t units_admitted;    /* since the slot was handed out; limits_account() adds to it */
	/* limits: written by control with atomic stores through the mapping, never by map update */
	uint64_t interval_ticks; /* per unit = 16e9 / rate; 0 = nothing is admitted */
	uint64_t burst_ticks;    /* tolerance: interval x burst units */
	uint64_t refused_interval_ticks; /* per RATE_LIMITED reply, burst LIMITS_REFUSED_BURST; 0 = none */
	uint64_t model_mask;             /* bit i: may use model index i (abi/link.h) */
	uint32_t flags;
	uint32_t generation; /* odd while control rewrites the limit fields and moves the TAT along: closed */
};

STATIC_ASSERT(sizeof(struct limit_slot) == 64, "one cache line a subscriber");
STATIC_ASSERT(offsetof(struct limit_slot, interval_ticks) == 24, "limits after state");
STATIC_ASSERT(offsetof(struct limit_slot, flags) == 56, "flags and generation share a word");

enum limit_verdict {
	LIMIT_ADMITTED,
	LIMIT_REFUSED,   /* over the plan; TAT unchanged */
	LIMIT_CONTENDED, /* lost LIMITS_CAS_TRIES races, or one against control; treat as refused */
	LIMIT_CORRUPT,   /* the TAT was impossible and has been reset; admitted, raise an alarm */
};

struct limit_result {
	uint32_t verdict;     /* enum limit_verdict */
	uint64_t retry_ticks; /* refused: ticks until the same cost would pass, or LIMITS_NEVER */
};

/* clang 14 for BPF knows no __atomic builtins; an aligned load is one instruction there. */
#ifdef __bpf__
#define limits_load(p) (*(const volatile __typeof__(*(p)) *)(p))
#else
#define limits_load(p) __atomic_load_n(p, __ATOMIC_ACQUIRE)
#endif

MR_ALWAYS_INLINE uint32_t limits_weight(uint32_t flags)
{
	uint32_t weight = flags >> LIMIT_WEIGHT_SHIFT;

	return weight < 1 ? 1 : weight > LIMIT_WEIGHT_MAX ? LIMIT_WEIGHT_MAX : weight;
}

MR_ALWAYS_INLINE uint32_t limits_concurrent(uint32_t flags)
{
	return flags >> LIMIT_CONCURRENT_SHIFT & LIMIT_CONCURRENT_MAX;
}

MR_ALWAYS_INLINE uint64_t limits_ticks(uint64_t now_ns)
{
	return now_ns << LIMITS_TICK_SHIFT;
}

MR_ALWAYS_INLINE uint64_t limits_at_most(uint64_t v, uint64_t max)
{
	return v < max ? v : max;
}

/* interval x units; LIMITS_NEVER when nothing is admitted or the product is past LIMITS_MAX_TICKS.
 * No units count as one: an authentic datagram is never free. Divides only for slow plans (under
 * 7.5 units/s) and absurd costs. */
MR_ALWAYS_INLINE uint64_t limits_cost(uint64_t interval, uint32_t units)
{
	if (!units)
		units = 1;
	if (!interval)
		return LIMITS_NEVER;
	if (mr_unlikely((interval | units) >> 30) && interval > LIMITS_MAX_TICKS / units)
		return LIMITS_NEVER;
	return interval * units;
}

/* The decision alone: would `cost` pass at `now`, and what becomes of the TAT? Returns 1 and sets
 * *next_tat, or returns 0 and sets *retry_ticks. Pure, so it can be model-checked. Needs
 * burst <= LIMITS_MAX_TICKS and a TAT that is not corrupt. A cost above the burst never passes. */
MR_ALWAYS_INLINE int limits_gcra(uint64_t tat, uint64_t now, uint64_t cost, uint64_t burst,
	uint64_t *next_tat, uint64_t *retry_ticks)
{
	uint64_t ahead = tat > now ? tat - now : 0;

	if (mr_unlikely(cost > burst)) {
		*retry_ticks = LIMITS_NEVER;
		return 0;
	}
	if (ahead + cost > burst) {
		*retry_ticks = ahead + cost - burst;
		return 0;
	}
	*next_tat = now + ahead + cost;
	return 1;
}

/* Can no sequence of charges under these limits have led to this TAT? */
MR_ALWAYS_INLINE int limits_corrupt(uint64_t tat, uint64_t now, uint64_t cost, uint64_t burst)
{
	return tat > now && tat - now > burst + cost + LIMITS_SKEW_TICKS;
}

/* Charge `cost` to `word`, one of the slot's TATs: the compare-and-swap loop around limits_gcra().
 * `generation` was read before the limits that cost and burst come from. While control changes them, or
 * when it has done so since, a TAT that does not fit them is no corruption: the charge just fails. */
MR_ALWAYS_INLINE struct limit_result limits_take(struct limit_slot *slot, uint64_t *word,
	uint32_t generation, uint64_t now, uint64_t cost, uint64_t burst)
{
	struct limit_result r = {LIMIT_CONTENDED, cost};
	int i;

	for (i = 0; i < LIMITS_CAS_TRIES; i++) {
		uint64_t tat = limits_load(word), next = 0;
		int corrupt = limits_corrupt(tat, now, cost, burst);

		r.retry_ticks = cost;
		if (mr_unlikely(limits_load(&slot->generation) != generation) ||
			(corrupt && (generation & 1)))
			return r;
		if (!limits_gcra(corrupt ? now : tat, now, cost, burst, &next, &r.retry_ticks)) {
			r.verdict = LIMIT_REFUSED;
			return r;
		}
		if (__sync_val_compare_and_swap(word, tat, next) == tat) {
			r.verdict = corrupt ? LIMIT_CORRUPT : LIMIT_ADMITTED;
			r.retry_ticks = 0;
			return r;
		}
	}
	r.retry_ticks = cost;
	return r;
}

/* One try of limits_charge(), under the limits of `generation`. */
MR_ALWAYS_INLINE struct limit_result limits_charge_once(struct limit_slot *slot,
	uint32_t generation, uint64_t now, uint32_t units)
{
	struct limit_result never = {LIMIT_REFUSED, LIMITS_NEVER};
	uint64_t burst = limits_at_most(limits_load(&slot->burst_ticks), LIMITS_MAX_TICKS);
	uint64_t cost = limits_cost(limits_load(&slot->interval_ticks), units);

	if (mr_unlikely(generation & 1))
		return (struct limit_result){LIMIT_CONTENDED, limits_at_most(cost, LIMITS_TICKS_PER_S)};
	if (mr_unlikely(cost > burst))
		return never;
	return limits_take(slot, &slot->tat_ticks, generation, now, cost, burst);
}

/* Charge `units` at `now` (ticks) to `slot`. Lock-free, any number of threads, one compare-and-swap
 * when uncontended. A refused charge changes nothing. Admitted units are not added to
 * units_admitted here: that is limits_account().
 *
 * While control changes the limits nothing is admitted: one half of the old limits with one half of the
 * new ones, or the old TAT under new limits, would let more through than either plan
 * (tests/spin/limiter.pml). That lasts some stores, for which it is worth waiting; when control is
 * stopped or dies between them, it is refused until control, or the next one's start, has finished. */
MR_ALWAYS_INLINE struct limit_result limits_charge(struct limit_slot *slot, uint64_t now,
	uint32_t units)
{
	struct limit_result r = {LIMIT_CONTENDED, 0};
	int i;

	for (i = 0; i < LIMITS_CHANGE_TRIES; i++) {
		uint32_t generation = limits_load(&slot->generation);

		r = limits_charge_once(slot, generation, now, units);
		if (mr_likely(r.verdict != LIMIT_CONTENDED) ||
			(!(generation & 1) && limits_load(&slot->generation) == generation))
			break;
	}
	return r;
}

/* Add admitted units to the subscriber's usage. Any thread. */
MR_ALWAYS_INLINE void limits_account(struct limit_slot *slot, uint64_t units)
{
	__sync_fetch_and_add(&slot->units_admitted, units);
}

MR_ALWAYS_INLINE uint64_t limits_refused_interval(const struct limit_slot *slot)
{
	return limits_at_most(limits_load(&slot->refused_interval_ticks),
		LIMITS_MAX_TICKS / (2 * LIMITS_REFUSED_BURST));
}

/* Charge one RATE_LIMITED reply to the second bucket. Returns whether the reply may still be sent. */
MR_ALWAYS_INLINE int limits_charge_refusal(struct limit_slot *slot, uint64_t now)
{
	uint32_t generation = limits_load(&slot->generation);
	uint64_t interval = limits_refused_interval(slot);
	struct limit_result r;

	if (!interval)
		return 0;
	r = limits_take(slot, &slot->refused_tat_ticks, generation, now, interval,
		interval * LIMITS_REFUSED_BURST);
	return r.verdict == LIMIT_ADMITTED || r.verdict == LIMIT_CORRUPT;
}

/* Is the bucket so full that a charge of `interval` would be refused now? A corrupt TAT says no. */
MR_ALWAYS_INLINE int limits_exhausted(uint64_t tat, uint64_t now, uint64_t interval, uint64_t burst)
{
	return tat > now && tat - now + interval > burst &&
	       !limits_corrupt(tat, now, interval, burst);
}

/* XDP's question: would another packet of this subscriber be useless? Yes, when its allowance of
 * refusals is used up *and* not even one unit would be admitted. The second half matters: a client
 * that offers ten times its plan is always out of refusals, and must still get all of its plan even
 * with a burst far shorter than the pause until the next refusal is allowed. Read only. */
MR_ALWAYS_INLINE int limits_shouting(const struct limit_slot *slot, uint64_t now)
{
	uint64_t refused = limits_refused_interval(slot);
	uint64_t interval, burst;

	if (!refused || !limits_exhausted(limits_load(&slot->refused_tat_ticks), now, refused,
				refused * LIMITS_REFUSED_BURST))
		return 0;
	interval = limits_at_most(limits_load(&slot->interval_ticks), LIMITS_MAX_TICKS);
	burst = limits_at_most(limits_load(&slot->burst_ticks), LIMITS_MAX_TICKS);
	if (!interval || interval > burst)
		return 1;
	return limits_exhausted(limits_load(&slot->tat_ticks), now, interval, burst);
}
