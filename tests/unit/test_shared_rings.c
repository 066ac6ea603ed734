/* SPDX-License-Identifier: BSD-3-Clause
 * Two threads at once on what two processes share: the mailbox ring and one limiter slot. No DPDK, so
 * it runs under SAN=thread.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "abi/mailbox.h"
#include "base/clock.h"
#include "ebpf/limit_table.h"

enum { MESSAGES = 300000, CHARGES = 400000 };

static void *produce(void *arg)
{
	struct mailbox_ring *r = arg;

	for (uint64_t i = 0; i < MESSAGES;) {
		struct mailbox_message m = {.seq = i, .a = i * 3, .b = ~i};

		if (mailbox_put(r, &m))
			i++;
		else
			sched_yield();
	}
	return NULL;
}

static void a_ring_loses_reorders_and_tears_nothing(void **state)
{
	static struct mailbox_ring r;
	pthread_t t;

	(void)state;
	assert_int_equal(pthread_create(&t, NULL, produce, &r), 0);
	for (uint64_t i = 0; i < MESSAGES;) {
		struct mailbox_message m;

		if (!mailbox_get(&r, &m)) {
			sched_yield();
			continue;
		}
		assert_true(m.seq == i && m.a == i * 3 && m.b == ~i);
		i++;
	}
	pthread_join(t, NULL);
}

static void a_full_ring_refuses_and_an_empty_one_has_nothing(void **state)
{
	static struct mailbox_ring r;
	struct mailbox_message m = {0};

	(void)state;
	r.head = r.tail = UINT64_MAX - 3; /* the counters may wrap */
	assert_false(mailbox_get(&r, &m));
	for (uint64_t i = 0; i < MAILBOX_SLOTS; i++) {
		m.seq = i;
		assert_true(mailbox_put(&r, &m));
	}
	assert_false(mailbox_put(&r, &m));
	for (uint64_t i = 0; i < MAILBOX_SLOTS; i++) {
		assert_true(mailbox_get(&r, &m));
		assert_int_equal(m.seq, i);
	}
	assert_false(mailbox_get(&r, &m));
}

/* The other side is not trusted: a wild tail or head must not make us read outside the ring. */
static void wild_indices_stay_inside_the_ring(void **state)
{
	static struct mailbox_ring r;
	struct mailbox_message m = {0};

	(void)state;
	r.head = 5;
	r.tail = UINT64_MAX / 2;
	mailbox_get(&r, &m);
	mailbox_put(&r, &m);
}

struct charger {
	struct limit_slot *slot;
	uint64_t start, admitted, contended, corrupt, refusals;
};

static void *charge(void *arg)
{
	struct charger *c = arg;

	/* Virtual time, the same for all: CHARGES steps of 1 us, each tried 3 times. */
	for (uint64_t i = 0; i < CHARGES; i++) {
		struct limit_result r = limits_charge(c->slot, c->start + (i / 3) * 16000, 1);

		c->admitted += r.verdict == LIMIT_ADMITTED;
		c->contended += r.verdict == LIMIT_CONTENDED;
		c->corrupt += r.verdict == LIMIT_CORRUPT;
		c->refusals += (uint64_t)limits_charge_refusal(c->slot, c->start);
		if (r.verdict == LIMIT_ADMITTED)
			limits_account(c->slot, 1);
	}
	return NULL;
}

static void two_workers_on_one_slot_admit_the_plan_once(void **state)
{
	struct limit_plan plan = {.rate_per_s = 500000, .burst_units = 100, .flags = LIMIT_ACTIVE};
	static struct limit_slot slot MR_ALIGNED(64);
	uint64_t start = 100 * LIMITS_TICKS_PER_S;
	struct charger c[2] = {{.slot = &slot, .start = start}, {.slot = &slot, .start = start}};
	pthread_t t[2];
	double due;

	(void)state;
	assert_int_equal(limits_set(&slot, &plan, start >> LIMITS_TICK_SHIFT, NULL), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&t[i], NULL, charge, &c[i]), 0);
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	/* Two threads run through the same virtual time, perhaps one after the other: then the second
	 * finds nothing left. Never more than the plan, never less either. */
	due = 100 + plan.rate_per_s * (CHARGES / 3) / 1e6;
	assert_true(fabs((double)(c[0].admitted + c[1].admitted) - due) <= due * 0.001 + 1);
	assert_int_equal(slot.units_admitted, c[0].admitted + c[1].admitted);
	assert_int_equal(c[0].refusals + c[1].refusals, LIMITS_REFUSED_BURST);
	assert_int_equal(c[0].corrupt + c[1].corrupt, 0);
	assert_true(c[0].contended + c[1].contended < CHARGES / 100);
}

static void limits_changed_under_fire_never_look_corrupt(void **state)
{
	struct limit_plan plans[2] = {
		{.rate_per_s = 10, .burst_units = 1000000, .flags = LIMIT_ACTIVE},
		{.rate_per_s = 1e6, .burst_units = 1, .flags = LIMIT_ACTIVE}};
	static struct limit_slot slot MR_ALIGNED(64);
	struct charger c = {.slot = &slot, .start = 100 * LIMITS_TICKS_PER_S};
	pthread_t t;

	(void)state;
	limits_set(&slot, &plans[0], c.start >> LIMITS_TICK_SHIFT, NULL);
	assert_int_equal(pthread_create(&t, NULL, charge, &c), 0);
	for (int i = 0; i < 20000; i++)
		limits_set(&slot, &plans[i & 1], c.start >> LIMITS_TICK_SHIFT, NULL);
	pthread_join(t, NULL);
	assert_int_equal(c.corrupt, 0);
}

enum { CHANGES = 1500, BURST_UNITS = 8 };

struct rush {
	struct limit_slot slot MR_ALIGNED(64);
	pthread_barrier_t gate;
	uint64_t now;
	uint64_t admitted, corrupt;
};

static uint64_t drain(struct rush *r, uint64_t now)
{
	uint64_t n = 0;

	for (int tries = 0; tries < 3 * BURST_UNITS; tries++) {
		struct limit_result got = limits_charge(&r->slot, now, 1);

		n += got.verdict == LIMIT_ADMITTED;
		if (got.verdict == LIMIT_CORRUPT)
			__atomic_fetch_add(&r->corrupt, 1, __ATOMIC_RELAXED);
	}
	return n;
}

static void *rush(void *arg)
{
	struct rush *r = arg;

	for (int i = 0; i < CHANGES; i++) {
		uint64_t n;

		pthread_barrier_wait(&r->gate);
		n = drain(r, r->now);
		__atomic_fetch_add(&r->admitted, n, __ATOMIC_RELAXED);
		pthread_barrier_wait(&r->gate);
	}
	return NULL;
}

/* Time stands still while two workers charge all they can and control changes the plan under them, to a
 * much faster or a much slower one of the same burst: exactly one burst is admitted, however they meet
 * (tests/spin/limiter.pml says why it would be more if a slot were open during the change). */
static void a_change_of_plan_lets_not_one_unit_more_through(void **state)
{
	static const double rates[2] = {1, 1e6};
	static struct rush r;
	pthread_t t[2];

	(void)state;
	pthread_barrier_init(&r.gate, NULL, 3);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&t[i], NULL, rush, &r), 0);
	for (int i = 0; i < CHANGES; i++) {
		struct limit_plan plan = {.burst_units = BURST_UNITS, .flags = LIMIT_ACTIVE};

		limits_clear(&r.slot);
		r.now = (100 + (uint64_t)i) * LIMITS_TICKS_PER_S;
		r.admitted = 0;
		plan.rate_per_s = rates[i & 1];
		limits_set(&r.slot, &plan, (r.now >> LIMITS_TICK_SHIFT) - 1, NULL);
		plan.rate_per_s = rates[!(i & 1)];
		pthread_barrier_wait(&r.gate);
		limits_set(&r.slot, &plan, r.now >> LIMITS_TICK_SHIFT, NULL);
		pthread_barrier_wait(&r.gate);
		/* A changed word is a tick ahead at most. */
		assert_int_equal(r.admitted + drain(&r, r.now + 16), BURST_UNITS);
	}
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(r.corrupt, 0);
	pthread_barrier_destroy(&r.gate);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_ring_loses_reorders_and_tears_nothing),
		cmocka_unit_test(a_full_ring_refuses_and_an_empty_one_has_nothing),
		cmocka_unit_test(wild_indices_stay_inside_the_ring),
		cmocka_unit_test(two_workers_on_one_slot_admit_the_plan_once),
		cmocka_unit_test(limits_changed_under_fire_never_look_corrupt),
		cmocka_unit_test(a_change_of_plan_lets_not_one_unit_more_through),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
