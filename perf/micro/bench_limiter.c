/* SPDX-License-Identifier: BSD-3-Clause
 * The limiter: nanoseconds a decision, and how exactly 10,000 subscribers get their plans. One JSON row
 * a line on stdout.
 */
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "ebpf/limit_table.h"

enum { DECISIONS = 4000000, ROUNDS = 7, SUBSCRIBERS = 10000, STEPS = 5000000 };

struct racer {
	struct limit_slot *slots;
	uint32_t mask; /* slots used: a power of two, minus 1 */
	atomic_int *waiting;
	double ns;
	uint64_t verdicts[4];
};

static uint64_t random64(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s;
}

static void give_plan(struct limit_slot *slot, double rate, uint64_t burst)
{
	struct limit_plan plan = {.rate_per_s = rate, .burst_units = burst, .flags = LIMIT_ACTIVE};

	if (limits_set(slot, &plan, clock_now_ns(), NULL))
		abort();
}

/* As the worker does it: one clock for a burst of 32, then a charge per request. */
static void *race(void *arg)
{
	struct racer *r = arg;
	uint64_t seed = 88172645463325252ull, t0, now = 0;

	atomic_fetch_sub(r->waiting, 1);
	while (atomic_load(r->waiting) > 0)
		;
	t0 = clock_now_ns();
	for (uint32_t i = 0; i < DECISIONS; i++) {
		uint32_t at = r->mask ? (uint32_t)random64(&seed) & r->mask : 0;

		if (i % 32 == 0)
			now = limits_ticks(clock_now_ns());
		r->verdicts[limits_charge(&r->slots[at], now, 1).verdict]++;
	}
	r->ns = (double)(clock_now_ns() - t0) / DECISIONS;
	return NULL;
}

static double median(double *v, int n)
{
	for (int i = 1; i < n; i++)
		for (int k = i; k > 0 && v[k] < v[k - 1]; k--) {
			double swap = v[k];

			v[k] = v[k - 1];
			v[k - 1] = swap;
		}
	return v[n / 2];
}

/* Median ns a decision over ROUNDS, with `threads` at it. *lost = share of LIMIT_CONTENDED. */
static double time_decisions(struct limit_slot *slots, uint32_t mask, int threads, double *lost)
{
	double round[ROUNDS];
	uint64_t contended = 0;

	for (int k = 0; k < ROUNDS; k++) {
		atomic_int waiting = threads;
		struct racer r[2] = {{slots, mask, &waiting, 0, {0}}, {slots, mask, &waiting, 0, {0}}};
		pthread_t t[2];

		for (int i = 0; i < threads; i++)
			pthread_create(&t[i], NULL, race, &r[i]);
		round[k] = 0;
		for (int i = 0; i < threads; i++) {
			pthread_join(t[i], NULL);
			round[k] += r[i].ns / threads;
			contended += r[i].verdicts[LIMIT_CONTENDED];
		}
	}
	*lost = (double)contended / ((double)ROUNDS * DECISIONS * threads);
	return median(round, ROUNDS);
}

struct subscriber {
	double rate;
	uint64_t burst, admitted;
};

/* 10,000 plans of 10 to 10^6 units a second, offered 5,000 charges of 1 to 8 units each in
 * virtual time, by two callers whose clocks are up to 50 us apart. Each subscriber is offered about
 * three times its plan; bursts are 64 units and 1 to 10 ms of the rate (a burst shorter than the callers'
 * skew cannot be used in full). Returns the worst error in percent beyond one request. */
static double worst_error(struct limit_slot *slots, uint32_t *worst)
{
	struct subscriber *all = calloc(SUBSCRIBERS, sizeof(*all));
	uint64_t seed = 42, start = limits_ticks(clock_now_ns() + 3600 * NS_PER_S); /* an idle hour on */
	double worst_pct = 0;

	for (uint32_t s = 0; s < SUBSCRIBERS; s++) {
		uint64_t now = start, skew[2] = {0, random64(&seed) % (50 * NS_PER_US * 16)};
		uint64_t steps = STEPS / SUBSCRIBERS * 10, step;
		double due;

		all[s].rate = pow(10, 1 + 5 * (double)s / SUBSCRIBERS);
		all[s].burst = 64 + (uint64_t)(all[s].rate / 1000) * (1 + random64(&seed) % 10);
		give_plan(&slots[s], all[s].rate, all[s].burst);
		step = (uint64_t)(LIMITS_TICKS_PER_S / all[s].rate * 4.5 / 3);
		for (uint64_t i = 0; i < steps; i++) {
			uint32_t units = 1 + (uint32_t)(random64(&seed) % 8);

			if (limits_charge(&slots[s], now + skew[i & 1], units).verdict == LIMIT_ADMITTED)
				all[s].admitted += units;
			now += random64(&seed) % (2 * step);
		}
		due = (double)all[s].burst + all[s].rate * (double)(now - start) / (double)LIMITS_TICKS_PER_S;
		due = fabs((double)all[s].admitted - due);
		due = 100 * fmax(0, due - 8) /
		      (all[s].rate * (double)(now - start) / (double)LIMITS_TICKS_PER_S);
		if (due > worst_pct) {
			worst_pct = due;
			*worst = s;
		}
	}
	free(all);
	return worst_pct;
}

static void row(const char *id, double value, const char *unit)
{
	printf("{\"id\": \"%s\", \"value\": %.4g, \"unit\": \"%s\"}\n", id, value, unit);
}

int main(void)
{
	struct limit_table t;
	struct error err = {0};
	uint32_t worst = 0;
	double lost, pct;

	if (limit_table_memfd(&t, &err))
		return fprintf(stderr, "bench_limiter: %s\n", err.text), 1;
	for (uint32_t i = 0; i < LIMITS_MAX_SLOTS; i++)
		give_plan(&t.slots[i], 1e9, 1000000000);
	row("limiter.ns", time_decisions(t.slots, 0, 1, &lost), "ns");
	row("limiter.random16k.ns", time_decisions(t.slots, LIMITS_MAX_SLOTS - 1, 1, &lost), "ns");
	row("limiter.contended2.ns", time_decisions(t.slots, 0, 2, &lost), "ns");
	row("limiter.contended2.lost_pct", 100 * lost, "%");
	give_plan(&t.slots[0], 1, 1);
	row("limiter.refused.ns", time_decisions(t.slots, 0, 1, &lost), "ns");
	pct = worst_error(t.slots, &worst);
	row("limiter.error_pct", pct, "%");
	fprintf(stderr, "limiter.error_pct: worst of %d is subscriber %u, beyond one request of 8 units\n",
		SUBSCRIBERS, worst);
	limit_table_uninit(&t);
	return 0;
}
