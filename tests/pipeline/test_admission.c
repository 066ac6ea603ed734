/* SPDX-License-Identifier: BSD-3-Clause
 * The shield in the worker, on a port without XDP: who sends what belongs to nobody, and that no live
 * session ever pays for it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/clock.h"
#include "rig.h"

enum { KEY = 0x1001, NO_KEY = 0x2002 };

static const float sample[RIG_IN] = {1.0f, -2.0f, 0.5f, 3.0f};

/* A request under a key id that nobody has, from the address of `c`. */
static size_t stray(struct rig_client *c, uint8_t *frame)
{
	struct rig_client other = *c;

	other.key_id = NO_KEY;
	return rig_rows(&other, frame, "alpha", sample, 1);
}

static void send(struct rig *r, const uint8_t *frame, size_t n, int times)
{
	uint8_t a[RIG_FRAME];

	for (int i = 0; i < times; i++)
		assert_int_equal(rig_exchange(r, frame, n, a), 0);
}

static void expect_served(struct rig *r, struct rig_client *c)
{
	uint64_t before = rig_count(r, STATS_REPLY_RESULT);
	uint8_t f[RIG_FRAME], a[RIG_FRAME];
	size_t n = rig_rows(c, f, "alpha", sample, 1);

	assert_true(rig_exchange(r, f, n, a) > 0);
	assert_int_equal(rig_count(r, STATS_REPLY_RESULT), before + 1);
}

static void strays_of_a_source_empty_its_bucket_and_box_it_for_a_term(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	uint8_t f[RIG_FRAME];
	size_t n;

	rig_session(r, &c, KEY, 0, false);
	n = stray(&c, f);
	r->port->step_ns = 0;
	send(r, f, n, SHIELD_STRAY_BURST + 500);
	assert_int_equal(rig_count(r, STATS_DROP_UNKNOWN_KEY), SHIELD_STRAY_BURST);
	assert_int_equal(rig_count(r, STATS_DROP_FLOOD), 1);
	assert_int_equal(rig_count(r, STATS_DROP_BOXED), 499);
	/* F2: the victim behind the same address is served throughout. */
	for (int i = 0; i < 100; i++) {
		send(r, f, n, 5);
		expect_served(r, &c);
	}
	r->port->now_ns += SHIELD_BOX_NS - 1;
	send(r, f, n, 1);
	assert_int_equal(rig_count(r, STATS_DROP_BOXED), 1000);
	r->port->now_ns += 1; /* the term is over, and the bucket full again */
	send(r, f, n, SHIELD_STRAY_BURST);
	assert_int_equal(rig_count(r, STATS_DROP_UNKNOWN_KEY), 2 * SHIELD_STRAY_BURST);
	r->port->now_ns += 100 * (NS_PER_S / SHIELD_STRAYS_PER_S);
	send(r, f, n, 101);
	assert_int_equal(rig_count(r, STATS_DROP_UNKNOWN_KEY), 2 * SHIELD_STRAY_BURST + 100);
	assert_int_equal(rig_count(r, STATS_DROP_FLOOD), 2);
}

static void every_kind_of_stray_counts(void **state)
{
	static const enum stats_counter why[] = {STATS_DROP_UNKNOWN_KEY, STATS_DROP_SOURCE,
		STATS_DROP_VERSION, STATS_DROP_LENGTH, STATS_DROP_EXPIRED};
	struct rig *r = *state;
	struct rig_client c, stranger;

	r->port->step_ns = 0;
	rig_session(r, &c, KEY, 0, false);
	r->parse.skip_checksum = true;
	for (uint32_t i = 0; i < 5; i++) {
		uint8_t f[RIG_FRAME];
		size_t n;

		stranger = c;
		if (why[i] == STATS_DROP_UNKNOWN_KEY)
			stranger.key_id = NO_KEY;
		if (why[i] != STATS_DROP_EXPIRED)
			stranger.source.bytes[15] = (uint8_t)(100 + i);
		n = rig_rows(&stranger, f, "alpha", sample, 1);
		if (why[i] == STATS_DROP_VERSION)
			f[14 + 20 + 8] = 0xff;
		if (why[i] == STATS_DROP_LENGTH) {
			static const uint8_t long_row[1200];
			struct wire_request q = {0};

			n = rig_request(&stranger, f, &q, long_row, sizeof(long_row));
		}
		if (why[i] == STATS_DROP_EXPIRED)
			r->port->now_ns += 7200 * NS_PER_S;
		send(r, f, n, SHIELD_STRAY_BURST + 10);
		assert_int_equal(rig_count(r, why[i]), SHIELD_STRAY_BURST);
		assert_int_equal(rig_count(r, STATS_DROP_FLOOD), i + 1);
		assert_int_equal(rig_count(r, STATS_DROP_BOXED), 9 * (i + 1));
	}
}

/* Forgeries, replays and old epochs match a live pair: their names are others, and nobody is boxed. */
static void what_matches_a_live_pair_is_no_stray(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	uint8_t f[RIG_FRAME];
	size_t n;

	rig_session(r, &c, KEY, 0, false);
	n = rig_rows(&c, f, "alpha", sample, 1);
	r->parse.skip_checksum = true;
	f[n - 1] ^= 1;
	send(r, f, n, 3 * SHIELD_STRAY_BURST);
	assert_int_equal(rig_count(r, STATS_DROP_FLOOD) + rig_count(r, STATS_DROP_BOXED), 0);
	expect_served(r, &c);
}

/* K9: pings are answered as long as they are few; discovery goes on. */
static void pings_are_bounded(void **state)
{
	static const uint8_t ping[50] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x81, 0, 0x20, 5, 8, 0,
		0x45, 0, 0, 32, 0, 7, 0, 0, 64, 1, 0x66, 0x3a, 10, 77, 0, 2, 10, 77, 0, 1, 8, 0,
		0x21, 0x04, 0x12, 0x34, 0, 1, 'a', 'b', 'c', 'd'};
	static const uint8_t ask[60] = {255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 2, 8, 6, 0,
		1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 2, 10, 77, 0, 2, 0, 0, 0, 0, 0, 0, 10, 77, 0, 1};
	struct rig *r = *state;
	struct rig_client c;
	uint8_t a[RIG_FRAME];
	int answered = 0;

	rig_session(r, &c, KEY, 0, false);
	r->port->step_ns = 0;
	for (int i = 0; i < 3000; i++)
		answered += rig_exchange(r, ping, sizeof(ping), a) > 0;
	assert_int_equal(answered, SHIELD_STRAY_BURST);
	assert_true(rig_exchange(r, ask, sizeof(ask), a) > 0);
	expect_served(r, &c);
}

/* F6: more sources than the table holds. */
static void invented_addresses_free_nobody_from_the_box(void **state)
{
	struct rig *r = *state;
	struct rig_client c, other;
	uint8_t f[RIG_FRAME];
	size_t n;

	rig_session(r, &c, KEY, 0, false);
	r->port->step_ns = 0;
	n = stray(&c, f);
	send(r, f, n, SHIELD_STRAY_BURST + 1);
	for (uint32_t i = 0; i < 20 * ADMISSION_SETS; i++) {
		uint8_t g[RIG_FRAME];

		other = c;
		other.source.bytes[13] = (uint8_t)(i >> 16);
		other.source.bytes[14] = (uint8_t)(i >> 8);
		other.source.bytes[15] = (uint8_t)(i | 1);
		other.source.bytes[12] = 11;
		send(r, g, stray(&other, g), 1);
	}
	assert_int_equal(rig_count(r, STATS_DROP_FLOOD), 1);
	send(r, f, n, 1);
	assert_int_equal(rig_count(r, STATS_DROP_BOXED), 1);
	expect_served(r, &c);
}

static void boxings_are_reported_once_each_and_no_more_than_fit(void **state)
{
	struct rig *r = *state;
	struct admission_report report;
	struct rig_client c, other;
	uint8_t f[RIG_FRAME];

	rig_session(r, &c, KEY, 0, false);
	r->port->step_ns = 0;
	assert_false(admission_take_report(&r->worker->admission, &report));
	for (int i = 0; i < ADMISSION_REPORTS + 10; i++) {
		other = c;
		other.source.bytes[14] = 1;
		other.source.bytes[15] = (uint8_t)(i + 1);
		send(r, f, stray(&other, f), SHIELD_STRAY_BURST + 5);
	}
	for (int i = 0; i < ADMISSION_REPORTS; i++) {
		assert_true(admission_take_report(&r->worker->admission, &report));
		assert_int_equal(report.source.bytes[15], i + 1);
		assert_int_equal(report.until_ns, r->port->now_ns + SHIELD_BOX_NS);
	}
	assert_false(admission_take_report(&r->worker->admission, &report));
}

/* Whoever has used up plan and refusals is dropped before anything is opened: a broken tag is not even
 * looked at. */
static void who_shouts_is_dropped_unopened(void **state)
{
	struct rig *r = *state;
	struct rig_client c, quiet;
	uint8_t f[RIG_FRAME], a[RIG_FRAME];
	size_t n;

	rig_session(r, &c, KEY, 0, false);
	rig_session(r, &quiet, KEY + 1, 1, false);
	r->port->step_ns = 0;
	r->limits[0].burst_ticks = r->limits[0].interval_ticks = LIMITS_TICKS_PER_S; /* one a second */
	r->limits[0].refused_interval_ticks = LIMITS_TICKS_PER_S;
	for (int i = 0; i < 2 + LIMITS_REFUSED_BURST; i++) {
		n = rig_rows(&c, f, "alpha", sample, 1);
		rig_exchange(r, f, n, a);
	}
	assert_int_equal(rig_count(r, STATS_REPLY_RATE_LIMITED), LIMITS_REFUSED_BURST);
	assert_int_equal(rig_count(r, STATS_DROP_SHOUTING), 1);
	r->parse.skip_checksum = true;
	n = rig_rows(&c, f, "alpha", sample, 1);
	f[n - 1] ^= 1;
	send(r, f, n, 100);
	assert_int_equal(rig_count(r, STATS_DROP_SHOUTING), 101);
	assert_int_equal(rig_count(r, STATS_DROP_AUTH), 0);
	expect_served(r, &quiet);
	r->port->now_ns += NS_PER_S + 1; /* and still gets all of its plan */
	expect_served(r, &c);
}

#define T(f) cmocka_unit_test_setup_teardown(f, rig_set_up, rig_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(strays_of_a_source_empty_its_bucket_and_box_it_for_a_term),
		T(every_kind_of_stray_counts),
		T(what_matches_a_live_pair_is_no_stray),
		T(pings_are_bounded),
		T(invented_addresses_free_nobody_from_the_box),
		T(boxings_are_reported_once_each_and_no_more_than_fit),
		T(who_shouts_is_dropped_unopened),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
