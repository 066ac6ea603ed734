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

enum { DECISIONS = 4000000, ROUNDS = 7, SUBSCRIBERS = 10000, STEPS = 5000, OVERLOAD = 10 };

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

	limits_clear(slot); /* no charge of an earlier measurement */
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

/* 10,000 plans of 10 to 10^`decades` units a second; bursts are 64 units and up to `burst_s` of the rate. */
static struct subscriber *make_plans(struct limit_slot *slots, double decades, double burst_s)
{
	struct subscriber *all = calloc(SUBSCRIBERS, sizeof(*all));
	uint64_t seed = 42;

	for (uint32_t s = 0; all && s < SUBSCRIBERS; s++) {
		double share = (double)(random64(&seed) % 1000) / 1000;

		all[s].rate = pow(10, 1 + (decades - 1) * (double)s / SUBSCRIBERS);
		all[s].burst = 64 + (uint64_t)(all[s].rate * burst_s * (0.1 + 0.9 * share));
		give_plan(&slots[s], all[s].rate, all[s].burst);
	}
	return all;
}

/* |admitted - burst - rate x t| beyond `free` units, in percent of rate x t. */
static double error_pct(const struct subscriber *s, double seconds, double free_units)
{
	double off = fabs((double)s->admitted - (double)s->burst - s->rate * seconds);

	return 100 * fmax(0, off - free_units) / (s->rate * seconds);
}

/* Virtual time: 5,000 charges of 1 to 8 units each, ten times the plan, by two callers that take turns and
 * whose clocks are up to 50 us apart (so a burst is 1 ms of the rate at least). Returns the worst error, of all that was due. */
static double virtual_error(struct limit_slot *slots, uint32_t *worst)
{
	struct subscriber *all = make_plans(slots, 6, 0.01);
	uint64_t seed = 7, start = limits_ticks(clock_now_ns() + 3600 * NS_PER_S); /* an idle hour on */
	double worst_pct = 0;

	for (uint32_t s = 0; all && s < SUBSCRIBERS; s++) {
		uint64_t now = start, skew[2] = {0, random64(&seed) % (50 * NS_PER_US * 16)};
		uint64_t step = (uint64_t)(LIMITS_TICKS_PER_S / all[s].rate * 4.5 / OVERLOAD);
		double pct;

		for (uint64_t i = 0; i < STEPS; i++) {
			uint32_t units = 1 + (uint32_t)(random64(&seed) % 8);

			if (limits_charge(&slots[s], now + skew[i & 1], units).verdict == LIMIT_ADMITTED)
				all[s].admitted += units;
			now += random64(&seed) % (2 * step);
		}
		pct = error_pct(&all[s], (double)(now - start) / (double)LIMITS_TICKS_PER_S, 0);
		if (pct > worst_pct) {
			worst_pct = pct;
			*worst = s;
		}
	}
	free(all);
	return worst_pct;
}

/* ---- two threads in real time -------------------------------------------------------------- */

struct charger {
	struct limit_slot *slots;
	uint32_t n;
	uint64_t end_ns;
	atomic_int *waiting;
	uint64_t last_ns;
	uint32_t *admitted; /* of each slot */
};

/* Sweep over the slots until the time is over, as fast as it goes. */
static void *charge_all(void *arg)
{
	struct charger *c = arg;
	uint64_t now_ns;

	atomic_fetch_sub(c->waiting, 1);
	while (atomic_load(c->waiting) > 0)
		;
	for (now_ns = clock_now_ns(); now_ns < c->end_ns;) {
		for (uint32_t s = 0; s < c->n; s += 32) {
			uint32_t end = s + 32 < c->n ? s + 32 : c->n;

			now_ns = clock_now_ns(); /* once a burst, as the worker */
			for (uint32_t k = s; k < end; k++)
				c->admitted[k] += limits_charge(&c->slots[k], limits_ticks(now_ns), 1)
							  .verdict == LIMIT_ADMITTED;
		}
		c->last_ns = now_ns;
	}
	return NULL;
}

/* Both threads charge every one of the first `n` slots for `seconds`. Returns the worst error beyond one request. */
static double realtime_error(struct limit_slot *slots, struct subscriber *all, uint32_t n, double seconds,
	uint32_t *worst)
{
	atomic_int waiting = 2;
	uint64_t start_ns = clock_now_ns();
	struct charger c[2];
	pthread_t t[2];
	double worst_pct = 0, ran;

	for (int i = 0; i < 2; i++) {
		c[i] = (struct charger){slots, n, start_ns + (uint64_t)(seconds * 1e9), &waiting, 0,
			calloc(n, sizeof(uint32_t))};
		pthread_create(&t[i], NULL, charge_all, &c[i]);
	}
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	ran = (double)((c[0].last_ns > c[1].last_ns ? c[0].last_ns : c[1].last_ns) - start_ns) / 1e9;
	for (uint32_t s = 0; s < n; s++) {
		double pct;

		all[s].admitted = (uint64_t)c[0].admitted[s] + c[1].admitted[s];
		pct = error_pct(&all[s], ran, 1);
		if (pct > worst_pct) {
			worst_pct = pct;
			*worst = s;
		}
	}
	free(c[0].admitted);
	free(c[1].admitted);
	return worst_pct;
}

static double race_for_plans(struct limit_slot *slots, uint32_t *worst)
{
	/* A thread that the kernel stops may miss up to a burst's time without losing any of the plan. */
	struct subscriber *all = make_plans(slots, 2.7, 0.5);
	struct subscriber one = {.rate = 1e6, .burst = 500000};
	uint32_t ignored;
	double many, single;

	if (!all)
		return NAN;
	many = realtime_error(slots, all, SUBSCRIBERS, 10, worst);
	free(all);
	give_plan(&slots[0], one.rate, one.burst);
	single = realtime_error(slots, &one, 1, 2, &ignored);
	fprintf(stderr, "limiter.realtime2: %d slots %.3f %%, one slot %.3f %%\n", SUBSCRIBERS, many, single);
	return fmax(many, single);
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
	pct = virtual_error(t.slots, &worst);
	row("limiter.virtual.error_pct", pct, "%");
	fprintf(stderr, "limiter.virtual.error_pct: worst of %d is subscriber %u; one request is up to 0.4 %%\n",
		SUBSCRIBERS, worst);
	pct = race_for_plans(t.slots, &worst);
	row("limiter.realtime2.error_pct", pct, "%");
	fprintf(stderr, "limiter.realtime2.error_pct: worst of %d is subscriber %u\n", SUBSCRIBERS, worst);
	limit_table_uninit(&t);
	return 0;
}
