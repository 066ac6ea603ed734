/* SPDX-License-Identifier: BSD-3-Clause
 * Fair service against what it promises: shares by weight, the bound of deficit round robin between any two
 * backlogged flows (Shreedhar and Varghese, theorem 4.1), order within a flow, no item lost, room for
 * newcomers, and estimates against what then really happens.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "dataplane/fair.h"

enum { FLOWS = 64, ITEMS = 1024, STEPS = 200000, NO_LIMIT_MS = 1000 };

static uint64_t seed = 88172645463325252ull;

static uint32_t chance(uint32_t n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed >> 32) % n;
}

/* The caller's side: which items are free, and what each flow has been given. */
struct book {
	struct fair f;
	uint16_t spare[ITEMS], flow[ITEMS];
	uint32_t order[ITEMS]; /* when put */
	uint64_t cost[ITEMS];
	uint32_t n_spare, puts, next_order[FLOWS], waiting[FLOWS], weight[FLOWS];
	uint64_t served[FLOWS];
};

static void book_init(struct book *b, uint64_t limit_ns)
{
	memset(b, 0, sizeof(*b));
	assert_int_equal(fair_init(&b->f, FLOWS, ITEMS, limit_ns), 0);
	for (uint32_t i = 0; i < ITEMS; i++)
		b->spare[b->n_spare++] = (uint16_t)i;
	for (uint32_t i = 0; i < FLOWS; i++)
		b->weight[i] = 1;
}

static bool put(struct book *b, uint32_t flow, uint64_t cost)
{
	uint32_t item;

	if (!b->n_spare)
		return false;
	item = b->spare[--b->n_spare];
	b->flow[item] = (uint16_t)flow;
	b->cost[item] = cost;
	b->order[item] = b->puts++;
	b->waiting[flow]++;
	fair_put(&b->f, flow, b->weight[flow], item, cost);
	return true;
}

/* Take one; FIFO within its flow. Its flow, or FLOWS. */
static uint32_t take(struct book *b)
{
	uint32_t peeked = fair_peek(&b->f), item = fair_take(&b->f), flow;

	assert_int_equal(peeked, item);
	if (item == FAIR_NONE)
		return FLOWS;
	flow = b->flow[item];
	assert_true(b->waiting[flow]-- > 0);
	assert_true(b->order[item] >= b->next_order[flow]);
	b->next_order[flow] = b->order[item];
	b->served[flow] += b->cost[item];
	b->spare[b->n_spare++] = (uint16_t)item;
	return flow;
}

static void shares_follow_weights_whatever_the_items_cost(void **state)
{
	static const uint32_t weights[] = {1, 1, 2, 5, 10};
	static const uint64_t costs[] = {300, 200000, 5000, 700, 90000};
	static struct book b;
	uint64_t total = 0, weight = 0;

	(void)state;
	book_init(&b, 1ull << 40);
	memcpy(b.weight, weights, sizeof(weights));
	for (int i = 0; i < STEPS; i++) {
		for (uint32_t f = 0; f < 5; f++)
			while (b.waiting[f] < 4)
				put(&b, f, costs[f] / 2 + chance((uint32_t)costs[f]));
		assert_true(take(&b) < 5);
	}
	for (int f = 0; f < 5; f++) {
		total += b.served[f];
		weight += weights[f];
	}
	for (int f = 0; f < 5; f++) {
		double share = (double)b.served[f] / (double)total, fair = weights[f] / (double)weight;

		if (share < 0.95 * fair || share > 1.05 * fair)
			fail_msg("flow %d: %.4f of the service, %.4f is fair", f, share, fair);
	}
	fair_uninit(&b.f);
}

/* Theorem 4.1: over any stretch in which both have items, |S_i / w_i - S_j / w_j| <= 2 quanta and an item. */
static void any_two_backlogged_flows_stay_within_the_bound(void **state)
{
	enum { N = 6, DEAREST = 40000 };
	static struct book b;
	uint64_t at[N][N][2] = {{{0}}};

	(void)state;
	book_init(&b, 1ull << 40);
	for (uint32_t f = 0; f < N; f++)
		b.weight[f] = 1 + f;
	for (int step = 0; step < STEPS; step++) {
		for (uint32_t n = chance(4); n; n--)
			put(&b, chance(N), 100 + chance(DEAREST - 100));
		for (uint32_t n = chance(4); n; n--)
			take(&b);
		for (int i = 0; i < N; i++) {
			for (int j = 0; j < i; j++) {
				uint64_t *s = at[i][j];
				double d;

				if (!b.waiting[i] || !b.waiting[j]) {
					s[0] = b.served[i];
					s[1] = b.served[j];
					continue;
				}
				d = (double)(b.served[i] - s[0]) / b.weight[i] -
				    (double)(b.served[j] - s[1]) / b.weight[j];
				if (d > 3 * DEAREST || d < -3 * DEAREST)
					fail_msg("step %d: flows %d and %d are %.0f ns apart", step, i, j, d);
			}
		}
	}
	fair_uninit(&b.f);
}

static void nothing_is_lost_and_the_sums_hold(void **state)
{
	static struct book b;

	(void)state;
	book_init(&b, 1ull << 40);
	for (int step = 0; step < STEPS; step++) {
		uint64_t work = 0;
		uint32_t n = 0;

		if (chance(2))
			put(&b, chance(FLOWS), 1 + chance(1000));
		else
			take(&b);
		if (step % 1000)
			continue;
		for (uint32_t f = 0; f < FLOWS; f++) {
			n += b.waiting[f];
			work += b.f.flows[f].work_ns;
			assert_int_equal(b.f.flows[f].n, b.waiting[f]);
		}
		assert_int_equal(n, b.f.n);
		assert_int_equal(work, b.f.work_ns);
	}
	while (take(&b) != FLOWS)
		;
	assert_int_equal(b.n_spare, ITEMS);
	assert_int_equal(b.f.work_ns, 0);
	assert_int_equal(b.f.weight, 0);
	fair_uninit(&b.f);
}

/* A hundredfold shouter does not delay one who asks seldom by more than the item in service. */
static void who_asks_seldom_is_served_next(void **state)
{
	static struct book b;

	(void)state;
	book_init(&b, 1ull << 40);
	for (int round = 0; round < 1000; round++) {
		uint32_t waited = 0;

		while (b.waiting[0] < 200)
			put(&b, 0, 1000);
		put(&b, 1, 1000);
		while (take(&b) != 1)
			waited++;
		/* Right away when it is fresh; behind one quantum of the other's when it came back early. */
		assert_true(waited <= 3);
		for (int i = 0; i < 5; i++)
			take(&b);
	}
	fair_uninit(&b.f);
}

static void a_newcomer_has_room_while_others_shout(void **state)
{
	enum { LIMIT = 1000000, COST = 2000 };
	static struct book b;

	(void)state;
	book_init(&b, LIMIT);
	while (fair_has_room(&b.f, 0, COST))
		put(&b, 0, COST);
	assert_in_range(b.f.work_ns, 0.79 * LIMIT, 0.81 * LIMIT);
	for (uint32_t f = 1; f < FLOWS; f++) {
		assert_true(fair_has_room(&b.f, f, COST));
		while (fair_has_room(&b.f, f, COST) && b.n_spare)
			put(&b, f, COST);
		assert_true(b.waiting[f] >= 1);
	}
	assert_true(b.f.work_ns <= 2 * LIMIT);
	fair_uninit(&b.f);
}

static void an_item_dearer_than_the_bound_is_let_in_alone(void **state)
{
	static struct book b;

	(void)state;
	book_init(&b, 1000);
	assert_true(fair_has_room(&b.f, 0, 1000000));
	put(&b, 0, 1000000);
	assert_false(fair_has_room(&b.f, 0, 1));
	assert_false(fair_has_room(&b.f, 1, 1)); /* and then the core is taken */
	assert_true(fair_room_in_ns(&b.f, 1, 1, 1) <= 1000000);
	fair_uninit(&b.f);
}

/* What refusals and deadlines are told from is what then happens. */
static void estimates_are_honest(void **state)
{
	enum { LIMIT = 1000000, COST = 1000 };
	static struct book b;
	uint64_t estimate, passed = 0;
	uint32_t flow;

	(void)state;
	book_init(&b, LIMIT);
	b.weight[0] = 3;
	for (uint32_t f = 0; f < 3; f++)
		while (b.waiting[f] < 200)
			put(&b, f, COST);
	estimate = fair_served_in_ns(&b.f, 0, 3, COST);
	put(&b, 0, COST);
	while (b.waiting[0]) {
		flow = take(&b);
		assert_true(flow < FLOWS);
		passed += COST;
	}
	assert_in_range(passed, 0.95 * (double)estimate, 1.05 * (double)estimate);

	while (fair_has_room(&b.f, 1, COST))
		put(&b, 1, COST);
	while (fair_has_room(&b.f, 2, COST))
		put(&b, 2, COST);
	while (fair_has_room(&b.f, 1, 50 * COST))
		put(&b, 1, 50 * COST);
	estimate = fair_room_in_ns(&b.f, 1, 1, 50 * COST);
	for (passed = 0; !fair_has_room(&b.f, 1, 50 * COST); passed += COST)
		take(&b);
	assert_in_range(passed, 0.5 * (double)estimate, 1.5 * (double)estimate + 2 * COST);
	fair_uninit(&b.f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shares_follow_weights_whatever_the_items_cost),
		cmocka_unit_test(any_two_backlogged_flows_stay_within_the_bound),
		cmocka_unit_test(nothing_is_lost_and_the_sums_hold),
		cmocka_unit_test(who_asks_seldom_is_served_next),
		cmocka_unit_test(a_newcomer_has_room_while_others_shout),
		cmocka_unit_test(an_item_dearer_than_the_bound_is_let_in_alone),
		cmocka_unit_test(estimates_are_honest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
