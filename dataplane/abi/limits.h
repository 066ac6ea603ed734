/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
 * The limiter: one 64-byte slot per subscriber, and GCRA as pure 64-bit arithmetic over it.
 *
 * One text for BPF (clang 14) and for the host. The slots are a BPF_MAP_TYPE_ARRAY with
 * BPF_F_MMAPABLE: control writes the limit fields, workers the state words, XDP only reads.
 *
 * Time is a "tick", 1/16 ns of CLOCK_MONOTONIC: whole nanoseconds over-admit 1 % at 30 M units/s
 * (shared/measured.md). A u64 of ticks wraps after 36 years of uptime.
 *
 * GCRA: ATM Forum TM 4.1 "virtual scheduling". TAT = theoretical arrival time of the next unit.
 */
#pragma once

#include "abi/types.h"

enum {
	LIMITS_TICK_SHIFT = 4, /* ticks = ns << 4 */
	LIMITS_CAS_TRIES = 8,
	LIMITS_DEFAULT_SLOTS = 16384, /* subscribers; the configuration may say otherwise */
};

/* limit_slot.flags */
enum {
	LIMIT_ACTIVE = 1u << 0,          /* the slot belongs to a subscriber */
	LIMIT_BLOCKED = 1u << 1,         /* suspended by the operator: answered QUOTA_EXHAUSTED */
	LIMIT_QUOTA_EXHAUSTED = 1u << 2, /* monthly quota used up (control decides) */
};

struct limit_slot {
	/* state: written by workers, read by XDP */
	uint64_t tat_ticks;
	uint64_t refused_tat_ticks; /* GCRA over RATE_LIMITED replies; XDP drops while it is exhausted */
	uint64_t units_admitted;    /* since the slot was handed out; control turns it into usage */
	/* limits: written by control with atomic stores through the mapping, never by map update */
	uint64_t interval_ticks; /* per unit = 16e9 / rate; 0 = nothing is admitted */
	uint64_t burst_ticks;    /* tolerance: interval x burst units */
	uint64_t refused_interval_ticks; /* per RATE_LIMITED reply; burst is LIMITS_REFUSED_BURST of it */
	uint64_t model_mask;             /* bit i: may use model index i (abi/link.h) */
	uint32_t flags;
	uint32_t generation; /* odd while control rewrites the limit fields; a hint for readers */
};

STATIC_ASSERT(sizeof(struct limit_slot) == 64, "one cache line a subscriber");
STATIC_ASSERT(offsetof(struct limit_slot, interval_ticks) == 24, "limits after state");

enum { LIMITS_REFUSED_BURST = 32 };

enum limit_verdict {
	LIMIT_ADMITTED,
	LIMIT_REFUSED,   /* over the plan; TAT unchanged */
	LIMIT_CONTENDED, /* lost LIMITS_CAS_TRIES races; treat as refused, count apart */
	LIMIT_CORRUPT,   /* the TAT was impossible and has been reset; admitted, raise an alarm */
};

struct limit_result {
	uint32_t verdict;       /* enum limit_verdict */
	uint64_t retry_ticks;   /* when refused: ticks until the same cost would pass */
};

MR_ALWAYS_INLINE uint64_t limits_load(const uint64_t *p)
{
	/* clang 14 for BPF knows no __atomic_load_n; an aligned 64-bit read is one instruction. */
	return *(const volatile uint64_t *)p;
}

MR_ALWAYS_INLINE uint64_t limits_ticks(uint64_t now_ns)
{
	return now_ns << LIMITS_TICK_SHIFT;
}

/* The decision alone: would `cost_ticks` pass at `now`, and what becomes of the TAT?
 * Pure, so it can be model-checked. A cost above the burst can never pass: refused. */
MR_ALWAYS_INLINE int limits_gcra(uint64_t tat, uint64_t now, uint64_t cost_ticks,
	uint64_t burst_ticks, uint64_t *next_tat, uint64_t *retry_ticks)
{
	uint64_t base = tat > now ? tat : now;
	uint64_t next = base + cost_ticks;

	if (next - now > burst_ticks) {
		*retry_ticks = next - now - burst_ticks;
		return 0;
	}
	*next_tat = next;
	return 1;
}

/* Charge `units` at `now` (ticks) to `slot`. Lock-free, any number of threads; one compare-and-swap
 * when uncontended. A refused charge changes nothing. */
MR_ALWAYS_INLINE struct limit_result limits_charge(struct limit_slot *slot, uint64_t now,
	uint32_t units)
{
	struct limit_result r = {LIMIT_CONTENDED, 0};
	uint64_t interval = limits_load(&slot->interval_ticks);
	uint64_t burst = limits_load(&slot->burst_ticks);
	uint64_t cost = interval * units;
	int i;

	if (!interval || cost / units != interval) {
		r.verdict = LIMIT_REFUSED;
		r.retry_ticks = ~0ull;
		return r;
	}
	for (i = 0; i < LIMITS_CAS_TRIES; i++) {
		uint64_t tat = limits_load(&slot->tat_ticks);
		int corrupt = tat > now && tat - now > burst + cost;
		uint64_t next = 0;

		if (!limits_gcra(corrupt ? now : tat, now, cost, burst, &next, &r.retry_ticks)) {
			r.verdict = LIMIT_REFUSED;
			return r;
		}
		if (__sync_val_compare_and_swap(&slot->tat_ticks, tat, next) == tat) {
			r.verdict = corrupt ? LIMIT_CORRUPT : LIMIT_ADMITTED;
			return r;
		}
	}
	return r;
}

/* Charge one RATE_LIMITED reply to the second bucket. Returns whether the reply may still be sent. */
MR_ALWAYS_INLINE int limits_charge_refusal(struct limit_slot *slot, uint64_t now)
{
	uint64_t interval = limits_load(&slot->refused_interval_ticks);
	uint64_t tat = limits_load(&slot->refused_tat_ticks);
	uint64_t next = 0, retry = 0;

	if (tat > now && tat - now > interval * (LIMITS_REFUSED_BURST + 1))
		tat = now; /* impossible value: start over */
	if (!limits_gcra(tat, now, interval, interval * LIMITS_REFUSED_BURST, &next, &retry))
		return 0;
	__sync_val_compare_and_swap(&slot->refused_tat_ticks, tat, next);
	return 1;
}

/* XDP's question: has this subscriber used up even its allowance of refusals? Read only. */
MR_ALWAYS_INLINE int limits_shouting(const struct limit_slot *slot, uint64_t now)
{
	uint64_t interval = limits_load(&slot->refused_interval_ticks);
	uint64_t tat = limits_load(&slot->refused_tat_ticks);

	return tat > now && tat - now > interval * (LIMITS_REFUSED_BURST - 1) &&
	       tat - now <= interval * (LIMITS_REFUSED_BURST + 1);
}
