/* SPDX-License-Identifier: BSD-3-Clause
 * Key epochs and lanes: no request is lost when keys change, no key outlives its time, a crash between
 * any two steps loses nothing, and a lane has one owner.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "client/channel.h"
#include "rig.h"

static const float sample[RIG_IN] = {1.0f, -2.0f, 0.5f, 3.0f};

static struct session_slot *slot_of(const struct rig *r, const struct rig_client *c)
{
	return (struct session_slot *)((uint8_t *)r->table + r->table->slots_offset) + c->slot;
}

/* One request of the client's present epoch. True when it got a result, sealed in that epoch. */
static bool served(struct rig *r, struct rig_client *c)
{
	uint8_t f[RIG_FRAME], a[RIG_FRAME];
	struct rig_reply got;
	size_t n = rig_exchange(r, f, rig_rows(c, f, "alpha", sample, 1), a);

	rig_balance(r);
	if (!n)
		return false;
	assert_true(rig_open(c, a, n, &got));
	assert_int_equal(got.head.flags, c->epoch & 3);
	assert_int_equal(got.reply.status, WIRE_RESULT);
	return true;
}

static bool served_in(struct rig *r, struct rig_client *c, uint8_t epoch)
{
	uint8_t now = c->epoch;
	bool ok;

	c->epoch = epoch;
	ok = served(r, c);
	c->epoch = now;
	return ok;
}

static void pass(struct rig *r, uint64_t ms)
{
	r->port->now_ns += ms * NS_PER_MS;
	rig_ratchet(r);
}

/* The client steps, and the three and a half seconds until the next step pass. */
static void step_and_settle(struct rig *r, struct rig_client *c)
{
	c->epoch++;
	assert_true(served(r, c));
	rig_ratchet(r);
	pass(r, 3600);
}

static void restart(struct rig *r)
{
	rig_crash(r);
	rig_model(r, 0, 1, rig_artifact("alpha", 1, 1.0f, 1, 64));
}

static void the_first_packet_of_the_next_epoch_makes_it_current(void **state)
{
	struct rig *r = *state;
	struct rig_client c;

	rig_session(r, &c, 0x1001, 0, false);
	assert_true(served(r, &c));
	c.epoch = 1;
	assert_true(served(r, &c)); /* no round trip, no service thread in between */
	assert_true(served_in(r, &c, 0)); /* reordered: the epoch before */
	assert_true(served(r, &c));
	assert_false(served_in(r, &c, 2)); /* the next keys are not ready */
	assert_false(served_in(r, &c, 3));
	assert_int_equal(rig_count(r, STATS_DROP_EPOCH), 2);
}

static void the_epoch_before_ends_after_three_seconds_and_its_keys_are_wiped(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	uint8_t zero[sizeof(struct session_keys)] = {0};

	rig_session(r, &c, 0x1001, 0, false);
	c.epoch = 1;
	assert_true(served(r, &c));
	rig_ratchet(r);
	pass(r, 2900);
	assert_true(served_in(r, &c, 0));
	pass(r, 200);
	assert_false(served_in(r, &c, 0));
	assert_memory_not_equal(&slot_of(r, &c)->keys[0], zero, sizeof(zero));
	pass(r, 500);
	assert_memory_equal(&slot_of(r, &c)->keys[0], zero, sizeof(zero));
	assert_true(served(r, &c));
	assert_int_equal(slot_of(r, &c)->epoch, 1);
	assert_memory_equal(slot_of(r, &c)->secrets[1], zero, 32); /* the secret of epoch 1 is gone */
	c.epoch = 2;
	assert_true(served(r, &c)); /* and the next one was ready */
}

/* Its client had the answer and says nothing more under that epoch before it steps again. */
static void a_crash_right_after_a_promotion_does_not_forget_it(void **state)
{
	struct rig *r = *state;
	struct rig_client c;

	rig_session(r, &c, 0x1001, 0, false);
	c.epoch = 1;
	assert_true(served(r, &c));
	restart(r); /* before the service thread has looked */
	c.epoch = 2;
	assert_true(served(r, &c));
	rig_ratchet(r);
	assert_int_equal(slot_of(r, &c)->epoch, 2);
}

static void a_hundred_epochs_lose_nothing_and_repeat_no_reply_nonce(void **state)
{
	struct rig *r = *state;
	struct rig_client c;

	rig_session(r, &c, 0x1001, 0, false); /* rig_open() sees to the nonces: counters only grow */
	for (int e = 0; e < 100; e++) {
		step_and_settle(r, &c);
		for (int i = 0; i < 3; i++)
			assert_true(served(r, &c));
	}
	assert_int_equal(slot_of(r, &c)->epoch, 100);
}

static void a_forged_epoch_changes_nothing(void **state)
{
	struct rig *r = *state;
	struct rig_client c, forger;

	rig_session(r, &c, 0x1001, 0, false);
	assert_true(served(r, &c));
	forger = c, forger.secret[0] ^= 1, forger.epoch = 1;
	assert_false(served(r, &forger));
	assert_int_equal(rig_count(r, STATS_DROP_AUTH), 1);
	rig_ratchet(r);
	c.counter++;
	assert_true(served(r, &c));
	assert_int_equal(sessions_cell(r->shared.sessions, c.key_id)->epoch, 0);
	assert_int_equal(slot_of(r, &c)->epoch, 0);
}

/* A crash before, between and after the service thread's part; then the client goes on as it was. */
static void a_crash_anywhere_in_a_key_change_loses_no_request(void **state)
{
	struct rig *r = *state;
	struct rig_client c;

	for (int when = 0; when < 4; when++) {
		rig_session(r, &c, 0x1001 + (uint32_t)when, 0, false);
		for (int e = 0; e < 5; e++) {
			c.epoch++;
			if (when != 0)
				assert_true(served(r, &c));
			if (when >= 2)
				rig_ratchet(r);
			if (when == 3)
				pass(r, 3600);
			restart(r);
			c.replies = 0; /* the next check is the reservation's, in test_replay */
			assert_true(served(r, &c));
			rig_ratchet(r);
			pass(r, 3600);
			assert_int_equal(slot_of(r, &c)->epoch, c.epoch);
		}
	}
}

static void an_epoch_past_twice_its_time_or_count_is_refused_until_the_client_steps(void **state)
{
	struct rig *r = *state;
	struct session_lane *lane;
	struct rig_client c;

	rig_session(r, &c, 0x1001, 0, false);
	assert_true(served(r, &c));
	pass(r, SESSION_EPOCH_MAX_S * 1000 + 1);
	assert_false(served(r, &c));
	assert_int_equal(rig_count(r, STATS_DROP_EPOCH), 1);
	step_and_settle(r, &c);
	assert_true(served(r, &c));

	/* As if 2^28 replies had been sealed: at the next reservation the epoch is spent. */
	lane = sessions_lane(r->shared.sessions, c.key_id, c.lane);
	lane->send_limit += SESSION_EPOCH_MAX_DATAGRAMS;
	lane->send_next = lane->send_limit;
	assert_true(served(r, &c));
	assert_false(served(r, &c));
	assert_int_equal(rig_count(r, STATS_DROP_EPOCH), 2);
	step_and_settle(r, &c);
	assert_true(served(r, &c));
}

static void a_renewed_session_keeps_its_epochs_limits(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	struct error err;

	rig_session(r, &c, 0x1001, 0, false);
	pass(r, 200000);
	slot_of(r, &c)->expires_ns += 3600 * NS_PER_S;
	assert_int_equal(sessions_add(r->shared.sessions, c.slot, r->port->now_ns, &err), 0);
	assert_true(served(r, &c));
	pass(r, 40001);
	assert_false(served(r, &c));
	step_and_settle(r, &c);
	assert_true(served(r, &c));
}

static void a_slot_used_again_does_not_inherit_a_key_change(void **state)
{
	struct rig *r = *state;
	struct rig_client c, d;

	rig_session(r, &c, 0x1001, 0, false);
	c.epoch = 1;
	assert_true(served(r, &c)); /* promoted; the service thread has not looked yet */
	assert_int_equal(sessions_remove_begin(r->shared.sessions, c.slot, 0x1001 * 10ull), 0);
	sessions_remove_finish(r->shared.sessions, c.slot);
	rig_session(r, &d, 0x2001, 0, false);
	assert_int_equal(d.slot, c.slot);
	rig_ratchet(r);
	assert_int_equal(slot_of(r, &d)->epoch, 0);
	assert_true(served(r, &d));
	d.epoch = 1;
	assert_true(served(r, &d));
	assert_int_equal(sessions_remove_begin(r->shared.sessions, d.slot, 0x2001 * 10ull), 0);
	rig_ratchet(r); /* not ready: nothing to do */
	sessions_remove_finish(r->shared.sessions, d.slot);
}

/* libmillrace's own ratchet against the worker, on the test's clock: 100 datagrams, then every 50. */
static void the_client_librarys_steps_are_followed(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	struct channel ch;
	struct wire_request q = {.model_id = wire_model_id("alpha"), .dtype = WIRE_F32,
		.segment_count = 1, .rows = 1};

	rig_session(r, &c, 0x1001, 0, false);
	assert_int_equal(channel_init(&ch, &r->shared.aead, c.secret, c.key_id, 0, CHANNEL_CLIENT), 0);
	ch.epoch_datagrams = 50;
	for (uint32_t i = 0; i < 3000; i++) {
		uint8_t f[RIG_FRAME], a[RIG_FRAME], *payload;
		struct wire_reply reply;
		const uint8_t *rows;
		size_t n, bytes;

		n = rig_rows(&c, f, "alpha", sample, 1); /* for its headers */
		payload = f + 42;
		q.request_id = i;
		channel_clock(&ch, r->port->now_ns);
		assert_int_equal(channel_seal_request(&ch, &q, sample, sizeof(sample), payload,
			RIG_FRAME - 42), n - 42);
		f[40] = f[41] = 0; /* UDP over IPv4 may go without a checksum */
		n = rig_exchange(r, f, n, a);
		assert_true(n > 42);
		assert_int_equal(channel_open_reply(&ch, a + 42, n - 42, &reply, &rows, &bytes),
			CHANNEL_OK);
		assert_int_equal(reply.status, WIRE_RESULT);
		pass(r, 20);
	}
	assert_in_range(ch.epoch, 13, 16); /* 60 s, never within 4 s of the last */
	channel_uninit(&ch);
	assert_int_equal(rig_count(r, STATS_COMPLETED), 3000);
}

/* However long nothing comes back, it stays where the server can follow. */
static void the_client_library_steps_no_second_time_without_an_answer(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	struct channel ch;
	struct wire_request q = {.segment_count = 1, .rows = 1};
	uint8_t payload[RIG_FRAME];

	rig_session(r, &c, 0x1001, 0, false);
	assert_int_equal(channel_init(&ch, &r->shared.aead, c.secret, c.key_id, 0, CHANNEL_CLIENT), 0);
	for (uint32_t i = 0; i < 300; i++) {
		channel_clock(&ch, r->port->now_ns + i * 10 * NS_PER_S);
		assert_true(channel_seal_request(&ch, &q, sample, sizeof(sample), payload, sizeof(payload)) > 0);
	}
	assert_int_equal(ch.epoch, 1);
	channel_uninit(&ch);
}

/* ---- lanes, on two workers ---- */

static void hand_over_rig(struct rig *r, struct rig_client *c)
{
	rig_init(r, 2);
	rig_model(r, 0, 1, rig_artifact("alpha", 1, 1.0f, 1, 64));
	rig_session(r, c, 0x1001, 0, false);
}

static void put_to(struct rig *r, uint32_t worker, struct rig_client *c)
{
	uint8_t f[RIG_FRAME];

	r->ports[1]->now_ns = r->ports[0]->now_ns;
	assert_true(port_mem_put(r->ports[worker], f, rig_rows(c, f, "alpha", sample, 1)));
	worker_poll(r->workers[worker]);
}

static uint64_t count_of(const struct rig *r, uint32_t worker, enum stats_counter which)
{
	return r->all_stats[worker]->counters[which];
}

static void a_packet_on_the_wrong_worker_is_opened_there_and_answered_by_the_owner(void **state)
{
	static struct rig r;
	struct rig_client c;
	uint8_t a[RIG_FRAME];

	(void)state;
	hand_over_rig(&r, &c);
	put_to(&r, 0, &c);
	assert_true(port_mem_get(r.ports[0], a) > 0);
	put_to(&r, 1, &c);
	assert_int_equal(port_mem_get(r.ports[1], a), 0);
	worker_poll(r.workers[0]);
	assert_true(port_mem_get(r.ports[0], a) > 0);
	c.epoch = 1; /* a key change is seen by whoever opens */
	put_to(&r, 1, &c);
	worker_poll(r.workers[0]);
	assert_true(port_mem_get(r.ports[0], a) > 0);
	assert_int_equal(a[42 + 1], 1);
	c.lane = 1; /* another lane is free for the other worker */
	c.counter = 0;
	put_to(&r, 1, &c);
	assert_true(port_mem_get(r.ports[1], a) > 0);
	assert_int_equal(count_of(&r, 1, STATS_HANDED_OVER), 2);
	assert_int_equal(count_of(&r, 0, STATS_TAKEN_OVER), 2);
	assert_int_equal(count_of(&r, 1, STATS_RX), 3);
	assert_int_equal(count_of(&r, 1, STATS_COMPLETED), 1);
	assert_int_equal(port_mem_unused(r.ports[0]), PORT_MEM_FRAMES);
	rig_uninit(&r);
}

static void a_replay_through_another_worker_is_found_by_the_owner(void **state)
{
	static struct rig r;
	struct rig_client c;
	uint8_t a[RIG_FRAME];

	(void)state;
	hand_over_rig(&r, &c);
	put_to(&r, 0, &c);
	assert_true(port_mem_get(r.ports[0], a) > 0);
	c.counter--;
	put_to(&r, 1, &c); /* its read-only check finds it first */
	assert_int_equal(count_of(&r, 1, STATS_DROP_REPLAY), 1);
	put_to(&r, 1, &c);
	c.counter--;
	put_to(&r, 1, &c); /* both were fresh when they were opened */
	worker_poll(r.workers[0]);
	assert_int_equal(count_of(&r, 0, STATS_DROP_REPLAY), 1);
	assert_true(port_mem_get(r.ports[0], a) > 0);
	assert_int_equal(port_mem_get(r.ports[0], a), 0);
	rig_uninit(&r);
}

static void an_owner_on_another_port_and_an_ended_session_are_counted_drops(void **state)
{
	static struct rig r;
	struct rig_client c;
	uint8_t a[RIG_FRAME];

	(void)state;
	hand_over_rig(&r, &c);
	put_to(&r, 0, &c);
	assert_true(port_mem_get(r.ports[0], a) > 0);
	put_to(&r, 1, &c);
	assert_int_equal(sessions_remove_begin(r.shared.sessions, c.slot, 0x1001 * 10ull), 0);
	worker_poll(r.workers[0]);
	assert_int_equal(count_of(&r, 0, STATS_DROP_UNKNOWN_KEY), 1);
	sessions_remove_finish(r.shared.sessions, c.slot);

	rig_session(&r, &c, 0x1001, 0, false);
	put_to(&r, 0, &c);
	assert_true(port_mem_get(r.ports[0], a) > 0);
	for (int i = 0; i < PORT_MEM_FRAMES - 1; i++)
		put_to(&r, 1, &c);
	r.shared.ports[0] = 1; /* the owner's queue is another port's */
	put_to(&r, 1, &c);
	assert_int_equal(count_of(&r, 1, STATS_DROP_HANDOVER), 1);
	r.shared.ports[0] = 0;
	for (int i = 0; i < 8; i++)
		worker_poll(r.workers[0]);
	while (port_mem_get(r.ports[0], a))
		;
	assert_int_equal(count_of(&r, 0, STATS_TAKEN_OVER), PORT_MEM_FRAMES);
	assert_int_equal(port_mem_unused(r.ports[0]), PORT_MEM_FRAMES);
	rig_uninit(&r);
}

static void a_ring_takes_so_many_and_no_more(void **state)
{
	struct handover *h;
	struct handed e = {.session_id = 0};
	uint64_t next = 0;

	(void)state;
	assert_int_equal(handover_init(&h, 1), 0);
	assert_null(h);
	assert_int_equal(handover_init(&h, 3), 0);
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < HANDOVER_SLOTS; i++, e.session_id++)
			assert_true(handover_put(h, 2, 1, &e));
		assert_false(handover_put(h, 2, 1, &e));
		assert_true(handover_put(h, 1, 2, &e)); /* the other way is another ring */
		for (int i = 0; i < HANDOVER_SLOTS; i++) {
			struct handed got;

			assert_true(handover_get(h, 2, 1, &got));
			assert_int_equal(got.session_id, next++);
		}
		assert_false(handover_get(h, 2, 1, &(struct handed){0}));
	}
	handover_uninit(h);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, rig_set_up, rig_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_first_packet_of_the_next_epoch_makes_it_current),
		TEST(the_epoch_before_ends_after_three_seconds_and_its_keys_are_wiped),
		TEST(a_crash_right_after_a_promotion_does_not_forget_it),
		TEST(a_hundred_epochs_lose_nothing_and_repeat_no_reply_nonce),
		TEST(a_forged_epoch_changes_nothing),
		TEST(a_crash_anywhere_in_a_key_change_loses_no_request),
		TEST(an_epoch_past_twice_its_time_or_count_is_refused_until_the_client_steps),
		TEST(a_renewed_session_keeps_its_epochs_limits),
		TEST(a_slot_used_again_does_not_inherit_a_key_change),
		TEST(the_client_librarys_steps_are_followed),
		TEST(the_client_library_steps_no_second_time_without_an_answer),
		cmocka_unit_test(a_packet_on_the_wrong_worker_is_opened_there_and_answered_by_the_owner),
		cmocka_unit_test(a_replay_through_another_worker_is_found_by_the_owner),
		cmocka_unit_test(an_owner_on_another_port_and_an_ended_session_are_counted_drops),
		cmocka_unit_test(a_ring_takes_so_many_and_no_more),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
