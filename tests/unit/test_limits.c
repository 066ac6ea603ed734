/* SPDX-License-Identifier: BSD-3-Clause
 * The limiter in virtual time: what it admits against burst + rate x t, what it says about retrying,
 * what live changes do, and what garbage in a slot cannot do.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ebpf/limit_table.h"

#define SECOND LIMITS_TICKS_PER_S
/* Virtual time starts late enough for everything "before" to be representable. */
static const uint64_t epoch = 1000 * SECOND;

static struct limit_slot slot_of(double rate, uint64_t burst)
{
	struct limit_plan plan = {.rate_per_s = rate, .burst_units = burst, .flags = LIMIT_ACTIVE};
	struct limit_slot slot = {0};

	assert_int_equal(limits_set(&slot, &plan, epoch >> LIMITS_TICK_SHIFT, NULL), 0);
	return slot;
}

/* Offer `units` a time, `steps` times over `span` ticks. Returns the units admitted. */
static uint64_t offer(struct limit_slot *slot, uint64_t from, uint64_t span, uint64_t steps,
	uint32_t units)
{
	uint64_t admitted = 0;

	for (uint64_t i = 0; i <= steps; i++)
		if (limits_charge(slot, from + span / steps * i, units).verdict == LIMIT_ADMITTED)
			admitted += units;
	return admitted;
}

static void an_overload_is_admitted_at_the_plan_exactly(void **state)
{
	static const double rates[] = {1, 3, 7.5, 10, 333, 1000, 12345, 99999, 1e6, 3333333, 1e7, 3e7};

	(void)state;
	for (size_t i = 0; i < sizeof(rates) / sizeof(rates[0]); i++)
		for (uint64_t burst = 1; burst <= 1000; burst *= 10) {
			struct limit_slot slot = slot_of(rates[i], burst);
			/* 3x overload; about 200,000 units of the plan */
			uint64_t span = (uint64_t)(200000 / rates[i] * (double)SECOND / 600000) * 600000;
			uint64_t admitted = offer(&slot, epoch, span, 600000, 1);
			double due = (double)burst + rates[i] * (double)span / (double)SECOND;
			/* With a burst of one unit nothing makes up for a packet that comes late, by a
			 * third of an interval at most: every unit then takes 4/3 of its time. */
			double least = (burst == 1 ? 0.75 : 0.999) * due - 1;

			if ((double)admitted > due * 1.001 + 1 || (double)admitted < least)
				fail_msg("rate %g burst %lu: admitted %lu, due %.1f", rates[i], burst,
					admitted, due);
		}
}

static void costs_of_many_units_are_admitted_at_the_plan_too(void **state)
{
	static const uint32_t costs[] = {1, 2, 7, 64, 500};

	(void)state;
	for (size_t i = 0; i < 5; i++) {
		struct limit_slot slot = slot_of(1e5, 1000);
		uint64_t step = 50000ull * costs[i], steps = 20 * SECOND / step;
		uint64_t admitted = offer(&slot, epoch, step * steps, steps, costs[i]);

		/* The offer may end up to one request early, and one may be under way. */
		if (fabs((double)admitted - (1000 + 1e5 * 20)) > 2 * costs[i])
			fail_msg("cost %u: admitted %lu", costs[i], admitted);
	}
}

/* F3: 10,000 plans at once over ten seconds, at three times their rate, after an idle month. */
static void ten_thousand_subscribers_get_their_plans_within_a_percent(void **state)
{
	enum { SUBSCRIBERS = 10000, OFFERS = 600 };
	struct limit_slot *slots = calloc(SUBSCRIBERS, sizeof(*slots));
	uint32_t *admitted = calloc(SUBSCRIBERS, sizeof(*admitted));
	const uint64_t begin = epoch + 30ull * 86400 * SECOND, span = 10 * SECOND;

	(void)state;
	for (uint32_t s = 0; s < SUBSCRIBERS; s++)
		slots[s] = slot_of(10 + 10.0 * s / SUBSCRIBERS, 1 + s % 7);
	for (uint32_t i = 0; i < OFFERS; i++)
		for (uint32_t s = 0; s < SUBSCRIBERS; s++)
			admitted[s] += limits_charge(&slots[s], begin + span / OFFERS * i, 1).verdict ==
				       LIMIT_ADMITTED;
	for (uint32_t s = 0; s < SUBSCRIBERS; s++) {
		double rate = 10 + 10.0 * s / SUBSCRIBERS, burst = 1 + s % 7;
		double due = burst + rate * 10 * (OFFERS - 1) / OFFERS;

		/* A burst of one makes up for nothing that came late: see above. */
		if (admitted[s] > due + 1 || (burst > 1 && admitted[s] < due - 0.01 * due - 1))
			fail_msg("subscriber %u: admitted %u, due %.1f", s, admitted[s], due);
	}
	free(slots);
	free(admitted);
}

static void an_offer_within_the_plan_is_never_refused(void **state)
{
	struct limit_slot slot = slot_of(1000, 2);

	(void)state;
	/* One unit every 1.001 ms against 1 ms allowed. */
	assert_int_equal(offer(&slot, epoch, 16016000ull * 100000, 100000, 1), 100001);
}

static void an_idle_subscriber_may_send_exactly_its_burst_at_once(void **state)
{
	(void)state;
	for (uint64_t burst = 1; burst < 5000; burst = burst * 3 + 1) {
		struct limit_slot slot = slot_of(777, burst);
		uint64_t now = epoch + 3600 * SECOND, n = 0;

		while (limits_charge(&slot, now, 1).verdict == LIMIT_ADMITTED)
			n++;
		assert_int_equal(n, burst);
	}
}

static void waiting_exactly_the_retry_time_passes_and_a_tick_less_does_not(void **state)
{
	uint64_t now = epoch, random = 88172645463325252ull;
	struct limit_slot slot = slot_of(54321, 40);
	int refused = 0;

	(void)state;
	for (int i = 0; i < 100000; i++) {
		uint32_t units = 1 + (uint32_t)(random % 40);
		struct limit_result r = limits_charge(&slot, now, units);

		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		now += random % 5000000;
		if (r.verdict != LIMIT_REFUSED)
			continue;
		refused++;
		now -= random % 5000000; /* back to when it was refused */
		assert_int_equal(limits_charge(&slot, now + r.retry_ticks - 1, units).verdict,
			LIMIT_REFUSED);
		now += r.retry_ticks;
		assert_int_equal(limits_charge(&slot, now, units).verdict, LIMIT_ADMITTED);
	}
	assert_true(refused > 1000);
}

static void a_cost_above_the_burst_is_never_promised(void **state)
{
	struct limit_slot slot = slot_of(1000, 5), before = slot;

	(void)state;
	assert_int_equal(limits_charge(&slot, epoch, 6).verdict, LIMIT_REFUSED);
	assert_true(limits_charge(&slot, epoch, 6).retry_ticks == LIMITS_NEVER);
	assert_true(limits_charge(&slot, epoch, UINT32_MAX).retry_ticks == LIMITS_NEVER);
	assert_memory_equal(&slot, &before, sizeof(slot));
	assert_int_equal(limits_charge(&slot, epoch, 5).verdict, LIMIT_ADMITTED);
}

static void no_units_cost_one(void **state)
{
	struct limit_slot slot = slot_of(1, 1);

	(void)state;
	assert_int_equal(limits_charge(&slot, epoch, 0).verdict, LIMIT_ADMITTED);
	assert_int_equal(limits_charge(&slot, epoch, 0).verdict, LIMIT_REFUSED);
}

static void an_empty_slot_admits_nothing(void **state)
{
	struct limit_slot slot = {0};

	(void)state;
	assert_int_equal(limits_charge(&slot, epoch, 1).verdict, LIMIT_REFUSED);
	assert_true(limits_charge(&slot, epoch, 1).retry_ticks == LIMITS_NEVER);
	assert_false(limits_charge_refusal(&slot, epoch));
	assert_false(limits_shouting(&slot, epoch));
}

/* ---- refusals ---- */

static void refusals_run_out_and_come_back_at_their_rate(void **state)
{
	struct limit_slot slot = slot_of(10000, 1); /* 1 % of it is 100 refusals a second */
	uint64_t n = 0;

	(void)state;
	while (limits_charge_refusal(&slot, epoch))
		n++;
	assert_int_equal(n, LIMITS_REFUSED_BURST);
	for (uint64_t i = 1; i <= 100000; i++)
		n += (uint64_t)limits_charge_refusal(&slot, epoch + SECOND / 10000 * i);
	assert_in_range(n, LIMITS_REFUSED_BURST + 999, LIMITS_REFUSED_BURST + 1001);
}

/* The plan's rate must survive XDP's dropping: issue 2 asks for +-1 % under a tenfold overload. */
static void ten_times_overload_behind_xdp_still_gets_all_of_its_plan(void **state)
{
	static const double rates[] = {100, 1000, 20000, 200000};

	(void)state;
	for (size_t i = 0; i < 4; i++)
		for (uint64_t burst = 1; burst <= 100; burst *= 10) {
			struct limit_slot slot = slot_of(rates[i], burst);
			uint64_t step = (uint64_t)((double)SECOND / rates[i] / 10), admitted = 0, n = 500000;
			uint64_t dropped = 0;
			double due;

			for (uint64_t k = 0; k < n; k++) {
				uint64_t now = epoch + k * step;

				if (limits_shouting(&slot, now))
					dropped++;
				else if (limits_charge(&slot, now, 1).verdict == LIMIT_ADMITTED)
					admitted++;
				else
					limits_charge_refusal(&slot, now);
			}
			due = (double)burst + rates[i] * (double)(n * step) / (double)SECOND;
			assert_true(fabs((double)admitted - due) <= fmax(1, due * 0.001));
			assert_true(dropped > n / 2); /* and XDP did spare the worker most of it */
		}
}

static void who_keeps_to_the_plan_is_never_called_shouting(void **state)
{
	struct limit_slot slot = slot_of(1000, 10);

	(void)state;
	for (uint64_t k = 0; k < 10000; k++) {
		uint64_t now = epoch + k * SECOND / 999;

		assert_false(limits_shouting(&slot, now));
		assert_int_equal(limits_charge(&slot, now, 1).verdict, LIMIT_ADMITTED);
	}
}

/* ---- live changes ---- */

static void a_faster_plan_counts_from_now_on(void **state)
{
	struct limit_plan fast = {.rate_per_s = 1e6, .burst_units = 100, .flags = LIMIT_ACTIVE};
	struct limit_slot slot = slot_of(1, 100);
	uint64_t admitted;

	(void)state;
	assert_int_equal(offer(&slot, epoch, 10, 10, 100), 100); /* burst gone: 100 s of debt */
	assert_int_equal(limits_set(&slot, &fast, epoch >> LIMITS_TICK_SHIFT, NULL), 0);
	admitted = offer(&slot, epoch, SECOND, 2000000, 1);
	assert_in_range(admitted, 999900, 1000100);
}

static void a_slower_plan_counts_from_now_on_and_raises_no_alarm(void **state)
{
	struct limit_plan slow = {.rate_per_s = 10, .burst_units = 1, .flags = LIMIT_ACTIVE};
	struct limit_slot slot = slot_of(10, 100000); /* 10,000 s of burst */
	uint64_t admitted = 0;

	(void)state;
	assert_int_equal(offer(&slot, epoch, 1, 1, 100000), 100000);
	assert_int_equal(limits_set(&slot, &slow, epoch >> LIMITS_TICK_SHIFT, NULL), 0);
	for (uint64_t i = 0; i < 10000; i++) {
		struct limit_result r = limits_charge(&slot, epoch + i * SECOND / 1000, 1);

		assert_int_not_equal(r.verdict, LIMIT_CORRUPT);
		admitted += r.verdict == LIMIT_ADMITTED;
	}
	assert_in_range(admitted, 99, 101);
}

/* Whoever lost his core between reading the clock and charging must not find the plan's change in his future. */
static void a_change_of_plan_is_not_ahead_of_an_older_clock(void **state)
{
	struct limit_plan plan = {.rate_per_s = 500, .burst_units = 10, .flags = LIMIT_ACTIVE};
	struct limit_slot slot = slot_of(1000, 10);

	(void)state;
	assert_int_equal(limits_charge(&slot, epoch, 1).verdict, LIMIT_ADMITTED);
	assert_true(limits_charge_refusal(&slot, epoch));
	assert_int_equal(limits_set(&slot, &plan, (epoch + 10 * SECOND) >> LIMITS_TICK_SHIFT, NULL), 0);
	assert_false(limits_shouting(&slot, epoch + 9 * SECOND));
	assert_int_equal(limits_charge(&slot, epoch + 9 * SECOND, 10).verdict, LIMIT_ADMITTED);
	assert_int_equal(limits_charge(&slot, epoch + 9 * SECOND, 1).verdict, LIMIT_REFUSED);
}

static void what_was_used_of_the_burst_stays_used(void **state)
{
	struct limit_plan other = {.rate_per_s = 5000, .burst_units = 100, .flags = LIMIT_ACTIVE};
	struct limit_slot slot = slot_of(1000, 100);
	uint64_t left = 0;

	(void)state;
	offer(&slot, epoch, 1, 1, 35); /* two charges of 35 */
	assert_int_equal(limits_set(&slot, &other, epoch >> LIMITS_TICK_SHIFT, NULL), 0);
	while (limits_charge(&slot, epoch, 1).verdict == LIMIT_ADMITTED)
		left++;
	assert_int_equal(left, 30);
}

static void a_refused_plan_changes_nothing(void **state)
{
	static const struct limit_plan bad[] = {
		{.rate_per_s = -1, .burst_units = 1},
		{.rate_per_s = NAN, .burst_units = 1},
		{.rate_per_s = INFINITY, .burst_units = 1},
		{.rate_per_s = 1e-9, .burst_units = 1},
		{.rate_per_s = 2e9, .burst_units = 1},
		{.rate_per_s = 0.97e9, .burst_units = 1}, /* between 16 and 17 ticks */
		{.rate_per_s = 1, .burst_units = 0},
		{.rate_per_s = 0.001, .burst_units = UINT64_MAX},
		{.rate_per_s = 1, .burst_units = 1, .refused_per_s = -3},
	};
	struct limit_slot slot = slot_of(1000, 5), before = slot;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct error err = {0};

		assert_true(limits_set(&slot, &bad[i], 1, &err) < 0);
		assert_true(err.text[0]);
		assert_memory_equal(&slot, &before, sizeof(slot));
	}
}

static void tampering_is_noticed_and_cured(void **state)
{
	struct limit_plan plan = {.rate_per_s = 1000, .burst_units = 5, .model_mask = 6,
		.flags = LIMIT_ACTIVE};
	struct limit_slot slot = {0};

	(void)state;
	assert_int_equal(limits_set(&slot, &plan, 1, NULL), 0);
	assert_true(limits_intact(&slot, &plan));
	slot.interval_ticks = 1;
	assert_false(limits_intact(&slot, &plan));
	assert_int_equal(limits_set(&slot, &plan, 1, NULL), 0);
	assert_true(limits_intact(&slot, &plan));
	slot.generation |= 1; /* a control that died half-way */
	assert_false(limits_intact(&slot, &plan));
	assert_int_equal(limits_set(&slot, &plan, 1, NULL), 0);
	assert_true(limits_intact(&slot, &plan));
}

/* ---- garbage (B1) ---- */

static void an_impossible_tat_is_reset_and_reported(void **state)
{
	static const uint64_t far[] = {1ull << 62, ~0ull, ~0ull - 5};

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct limit_slot slot = slot_of(1000, 5);

		slot.tat_ticks = far[i];
		assert_false(limits_shouting(&slot, epoch));
		assert_int_equal(limits_charge(&slot, epoch, 1).verdict, LIMIT_CORRUPT);
		assert_int_equal(limits_charge(&slot, epoch, 4).verdict, LIMIT_ADMITTED);
		assert_int_equal(limits_charge(&slot, epoch, 1).verdict, LIMIT_REFUSED);
	}
}

static void a_clock_that_is_behind_another_workers_is_no_corruption(void **state)
{
	struct limit_slot slot = slot_of(1e9, 1); /* one unit is 1 ns */

	(void)state;
	assert_int_equal(limits_charge(&slot, epoch + SECOND, 1).verdict, LIMIT_ADMITTED);
	assert_int_equal(limits_charge(&slot, epoch, 1).verdict, LIMIT_REFUSED);
	assert_int_equal(limits_charge(&slot, epoch + 2 * SECOND, 1).verdict, LIMIT_ADMITTED);
}

/* Half of one plan and half of another admit more than either: six units here instead of one. */
static void nothing_is_admitted_while_the_limits_change(void **state)
{
	struct limit_slot slot = slot_of(1e6, 1);

	(void)state;
	slot.generation |= 1;
	slot.burst_ticks *= 6;
	assert_int_equal(limits_charge(&slot, epoch, 1).verdict, LIMIT_CONTENDED);
	assert_true(limits_charge_refusal(&slot, epoch)); /* and the client is told */
	slot.generation++;
	assert_int_equal(limits_charge(&slot, epoch, 1).verdict, LIMIT_ADMITTED);
}

static void during_a_change_a_far_tat_is_refused_briefly_and_kept(void **state)
{
	struct limit_slot slot = slot_of(1000, 5);
	struct limit_result r;

	(void)state;
	slot.generation |= 1;
	slot.tat_ticks = epoch + 100 * SECOND;
	r = limits_charge(&slot, epoch, 1);
	assert_int_equal(r.verdict, LIMIT_CONTENDED);
	assert_int_equal(r.retry_ticks, SECOND / 1000);
	assert_int_equal(slot.tat_ticks, epoch + 100 * SECOND);
}

/* Every pair of words set to extremes: answers stay in range and UBSan stays quiet. */
static void garbage_in_any_two_words_does_no_harm(void **state)
{
	static const uint64_t extremes[] = {0, 1, 15, 1ull << 32, LIMITS_MAX_TICKS - 1,
		LIMITS_MAX_TICKS, 1ull << 63, ~0ull};
	static const uint32_t units[] = {0, 1, 1000, 1u << 30, UINT32_MAX};
	enum { N = sizeof(extremes) / sizeof(extremes[0]), WORDS = 8 };

	(void)state;
	for (int a = 0; a < WORDS; a++)
		for (int b = 0; b < WORDS; b++)
			for (int i = 0; i < N * N * 5; i++) {
				struct limit_slot slot = slot_of(1000, 5);
				uint64_t words[WORDS];
				struct limit_result r;

				memcpy(words, &slot, sizeof(slot));
				words[a] = extremes[i % N];
				words[b] = extremes[i / N % N];
				memcpy(&slot, words, sizeof(slot));
				r = limits_charge(&slot, epoch, units[i / N / N]);
				assert_in_range(r.verdict, LIMIT_ADMITTED, LIMIT_CORRUPT);
				limits_charge_refusal(&slot, epoch);
				limits_shouting(&slot, epoch);
				if (r.verdict == LIMIT_ADMITTED || r.verdict == LIMIT_CORRUPT)
					assert_true(slot.tat_ticks - epoch <= LIMITS_MAX_TICKS);
			}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_overload_is_admitted_at_the_plan_exactly),
		cmocka_unit_test(costs_of_many_units_are_admitted_at_the_plan_too),
		cmocka_unit_test(ten_thousand_subscribers_get_their_plans_within_a_percent),
		cmocka_unit_test(an_offer_within_the_plan_is_never_refused),
		cmocka_unit_test(an_idle_subscriber_may_send_exactly_its_burst_at_once),
		cmocka_unit_test(waiting_exactly_the_retry_time_passes_and_a_tick_less_does_not),
		cmocka_unit_test(a_cost_above_the_burst_is_never_promised),
		cmocka_unit_test(no_units_cost_one),
		cmocka_unit_test(an_empty_slot_admits_nothing),
		cmocka_unit_test(refusals_run_out_and_come_back_at_their_rate),
		cmocka_unit_test(ten_times_overload_behind_xdp_still_gets_all_of_its_plan),
		cmocka_unit_test(who_keeps_to_the_plan_is_never_called_shouting),
		cmocka_unit_test(a_faster_plan_counts_from_now_on),
		cmocka_unit_test(a_slower_plan_counts_from_now_on_and_raises_no_alarm),
		cmocka_unit_test(a_change_of_plan_is_not_ahead_of_an_older_clock),
		cmocka_unit_test(what_was_used_of_the_burst_stays_used),
		cmocka_unit_test(a_refused_plan_changes_nothing),
		cmocka_unit_test(tampering_is_noticed_and_cured),
		cmocka_unit_test(an_impossible_tat_is_reset_and_reported),
		cmocka_unit_test(a_clock_that_is_behind_another_workers_is_no_corruption),
		cmocka_unit_test(nothing_is_admitted_while_the_limits_change),
		cmocka_unit_test(during_a_change_a_far_tat_is_refused_briefly_and_kept),
		cmocka_unit_test(garbage_in_any_two_words_does_no_harm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
