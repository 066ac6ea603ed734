/* SPDX-License-Identifier: BSD-3-Clause
 * What the machine itself gives while the other rows are measured: how long a cache line takes between
 * its first two CPUs and back, how much of a CPU is taken away from a thread that only looks at the
 * time, and how many TSC ticks a one-cycle instruction takes. No latency measured in the same run can be
 * better than these; when they change, rates over memif change with them.
 *
 *   bench_machine [PREFIX]     rows PREFIX.*, default machine
 */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>

#include "abi/types.h"
#include "base/clock.h"

enum {
	ROUND_TRIPS = 200000,
	WATCH_MS = 1000,
	GAP_NS = 4000, /* shorter ones are cache misses of the kernel's, and reading the clock itself */
	ADDITIONS = 50000000,
};

struct ball {
	uint64_t there MR_ALIGNED(128); /* two lines: neighbours are fetched in pairs */
	uint64_t back MR_ALIGNED(128);
};

struct gaps {
	double lost_pct, a_second, longest_us;
};

static void pin(size_t cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static void *returner(void *arg)
{
	struct ball *b = arg;

	pin(1);
	for (uint64_t i = 1; i <= ROUND_TRIPS; i++) {
		while (__atomic_load_n(&b->there, __ATOMIC_ACQUIRE) != i)
			;
		__atomic_store_n(&b->back, i, __ATOMIC_RELEASE);
	}
	return NULL;
}

static double round_trip_ns(void)
{
	struct ball b = {0};
	uint64_t begin = 0;
	pthread_t t;

	pin(0);
	if (pthread_create(&t, NULL, returner, &b))
		return 0;
	for (uint64_t i = 1; i <= ROUND_TRIPS; i++) {
		if (i == 2) /* the other thread has started */
			begin = clock_now_ns();
		__atomic_store_n(&b.there, i, __ATOMIC_RELEASE);
		while (__atomic_load_n(&b.back, __ATOMIC_ACQUIRE) != i)
			;
	}
	begin = clock_now_ns() - begin;
	pthread_join(t, NULL);
	return (double)begin / (ROUND_TRIPS - 1);
}

static struct gaps watch(size_t cpu, double hz)
{
	uint64_t least = (uint64_t)(GAP_NS * hz / 1e9), n = 0, lost = 0, longest = 0;
	uint64_t begin, end, last;

	pin(cpu);
	begin = last = clock_tsc();
	end = begin + (uint64_t)(WATCH_MS * hz / 1e3);
	while (last < end) {
		uint64_t now = clock_tsc(), gap = now - last;

		last = now;
		if (gap < least)
			continue;
		n++;
		lost += gap;
		longest = gap > longest ? gap : longest;
	}
	return (struct gaps){100.0 * (double)lost / (double)(last - begin), (double)n * 1e3 / WATCH_MS,
		(double)longest / hz * 1e6};
}

static double add_tsc(void)
{
	uint64_t begin = clock_tsc(), x = 0;

	for (uint64_t i = 0; i < ADDITIONS; i++)
		__asm__ volatile("add $1, %0" : "+r"(x));
	return (double)(clock_tsc() - begin) / ADDITIONS;
}

static void row(const char *prefix, const char *name, double value, const char *unit)
{
	printf("{\"id\": \"%s.%s\", \"value\": %.4g, \"unit\": \"%s\"}\n", prefix, name, value, unit);
}

int main(int argc, char **argv)
{
	const char *prefix = argc > 1 ? argv[1] : "machine";
	double hz = (double)clock_tsc_hz();
	char name[32];

	row(prefix, "tsc", hz / 1e9, "GHz");
	for (size_t cpu = 0; cpu < 2; cpu++) {
		struct gaps g = watch(cpu, hz);

		snprintf(name, sizeof(name), "cpu%zu.lost", cpu);
		row(prefix, name, g.lost_pct, "% in gaps > 4 us");
		snprintf(name, sizeof(name), "cpu%zu.gaps", cpu);
		row(prefix, name, g.a_second, "gaps/s");
		snprintf(name, sizeof(name), "cpu%zu.longest", cpu);
		row(prefix, name, g.longest_us, "us");
	}
	row(prefix, "add", add_tsc(), "TSC ticks"); /* after two busy seconds: at its full clock */
	row(prefix, "round_trip", round_trip_ns(), "ns, CPU 0 to CPU 1 and back");
	return 0;
}
