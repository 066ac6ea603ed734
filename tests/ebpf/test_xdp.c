/* SPDX-License-Identifier: BSD-3-Clause
 * The XDP program, run by the kernel (BPF_PROG_TEST_RUN) over the fixture table, its truncations and
 * random damage, with a real AF_XDP socket in the XSKMAP. After every frame exactly one counter must
 * have moved.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <bpf/bpf.h>

#include "base/clock.h"
#include "parse.h"
#include "tests/ebpf/xdp_rig.h"

static void expect(struct xdp_rig *r, enum frame_base base, int verdict, int counter)
{
	struct frame f;
	int moved;

	frame_base(&f, base);
	assert_int_equal(xdp_rig_run(r, f.data, f.n, &moved), verdict);
	assert_int_equal(moved, counter);
}

static void every_fixture_gets_its_verdict(void **state)
{
	struct xdp_rig *r = *state;
	int wrong = 0;

	xdp_rig_world(r);
	for (size_t i = 0; i < n_fixtures; i++) {
		const struct fixture *x = &fixtures[i];
		struct frame f;
		int verdict, counter;

		frame_build(&f, x);
		verdict = xdp_rig_run(r, f.data, f.n, &counter);
		if (verdict == x->xdp && counter == x->xdp_counter)
			continue;
		print_error("%s: XDP says %d (counter %d), expected %d (%d)\n", x->what, verdict,
			counter, x->xdp, x->xdp_counter);
		wrong++;
	}
	assert_int_equal(wrong, 0);
}

/* K1. The kernel refuses to run frames shorter than an Ethernet header. */
static void every_truncation_of_a_request_is_dropped_as_malformed(void **state)
{
	static const enum frame_base bases[] = {DATA4, DATA6, DATA4_VLAN, DATA6_VLAN};
	struct xdp_rig *r = *state;

	xdp_rig_world(r);
	for (size_t i = 0; i < 4; i++) {
		struct frame f;

		frame_base(&f, bases[i]);
		for (size_t n = 14; n < f.n; n++) {
			int counter;

			assert_int_equal(xdp_rig_run(r, f.data, n, &counter), XDP_DROP);
			assert_int_equal(counter, XDP_COUNT_MALFORMED);
		}
	}
}

/* May the parser refuse a frame for this reason although XDP let it through? XDP does not know our
 * addresses and does not sum; the worker does. */
static bool left_to_the_worker(int drop)
{
	return drop == STATS_DROP_CHECKSUM || drop == STATS_DROP_ADDRESS || drop == STATS_DROP_L2 ||
	       drop == STATS_DROP_L4 || drop == STATS_DROP_LENGTH;
}

static bool is_live(const struct packet *p)
{
	for (int i = 0; i < FIXTURE_SESSIONS; i++)
		if (fixture_sessions[i].key_id == p->wire.key_id && !fixture_sessions[i].shouting &&
			memcmp(fixture_sessions[i].source, &p->source, 16) == 0)
			return true;
	return false;
}

static void random_damage_never_splits_xdp_from_the_parser(void **state)
{
	struct xdp_rig *r = *state;
	unsigned seed = 20261123;
	int redirected = 0;

	xdp_rig_world(r);
	for (int i = 0; i < 20000; i++) {
		int base = rand_r(&seed) % (DATA6_VLAN + 1), edits = 1 + rand_r(&seed) % 2, counter;
		bool headers_whole = true;
		struct packet p;
		struct frame f;
		int parsed, verdict;

		frame_base(&f, base);
		while (edits--) {
			size_t at = (size_t)rand_r(&seed) % (f.at[PAYLOAD] + 16);

			f.data[at] = (uint8_t)(f.data[at] ^ 1 << rand_r(&seed) % 8);
			headers_whole = headers_whole && at >= f.at[L4] + 4;
		}
		if (rand_r(&seed) & 1)
			frame_checksums(&f);
		parsed = parse_packet(&r->parse, f.data, f.n, &p);
		verdict = xdp_rig_run(r, f.data, f.n, &counter);
		assert_int_not_equal(counter, -1);
		if (parsed == PACKET_DATAGRAM)
			assert_int_equal(verdict == XDP_REDIRECT, is_live(&p));
		else if (verdict == XDP_REDIRECT)
			assert_true(left_to_the_worker(parsed));
		if (headers_whole) /* UDP to the data port, whatever follows */
			assert_int_not_equal(verdict, XDP_PASS);
		redirected += verdict == XDP_REDIRECT;
	}
	assert_in_range(redirected, 2000, 18000); /* both outcomes were really exercised */
}

static void neighbours_and_foreign_traffic_go_where_the_operator_says(void **state)
{
	struct xdp_rig *r = *state;

	xdp_rig_world(r);
	xdp_rig_params(r, XDP_TO_DATAPLANE, XDP_DISCARD, 1);
	expect(r, ARP, XDP_REDIRECT, XDP_COUNT_NEIGHBOUR);
	expect(r, ND, XDP_REDIRECT, XDP_COUNT_NEIGHBOUR);
	expect(r, ECHO4, XDP_REDIRECT, XDP_COUNT_NEIGHBOUR);
	expect(r, ECHO6, XDP_REDIRECT, XDP_COUNT_NEIGHBOUR);
	expect(r, TCP4, XDP_DROP, XDP_COUNT_OTHER);
	xdp_rig_params(r, XDP_DISCARD, XDP_TO_DATAPLANE, 1);
	expect(r, ARP, XDP_DROP, XDP_COUNT_NEIGHBOUR);
	expect(r, TCP4, XDP_REDIRECT, XDP_COUNT_OTHER);
	xdp_rig_world(r);
}

static void a_disabled_data_port_drops_and_says_so(void **state)
{
	struct xdp_rig *r = *state;

	xdp_rig_world(r);
	xdp_rig_params(r, XDP_TO_KERNEL, XDP_TO_KERNEL, 0);
	expect(r, DATA4, XDP_DROP, XDP_COUNT_DISABLED);
	expect(r, DATA6_VLAN, XDP_DROP, XDP_COUNT_DISABLED);
	expect(r, ARP, XDP_PASS, XDP_COUNT_NEIGHBOUR);
	xdp_rig_world(r);
}

static void without_a_dataplane_the_data_port_drops_and_never_passes(void **state)
{
	struct xdp_rig *r = *state;
	uint32_t queue = 0;

	xdp_rig_world(r);
	assert_int_equal(bpf_map_delete_elem(r->xsks, &queue), 0);
	expect(r, DATA4, XDP_DROP, XDP_COUNT_NO_SOCKET);
	xdp_rig_params(r, XDP_TO_DATAPLANE, XDP_TO_DATAPLANE, 1);
	expect(r, ARP, XDP_DROP, XDP_COUNT_NO_SOCKET);
	assert_int_equal(bpf_map_update_elem(r->xsks, &queue, &r->socket, 0), 0);
	xdp_rig_world(r);
	expect(r, DATA4, XDP_REDIRECT, XDP_COUNT_REDIRECTED);
}

static void a_removed_session_is_unknown_at_once(void **state)
{
	struct xdp_rig *r = *state;

	xdp_rig_world(r);
	expect(r, DATA4, XDP_REDIRECT, XDP_COUNT_REDIRECTED);
	assert_int_equal(xdp_session_remove(&r->maps, fixture_sessions[0].key_id), 0);
	expect(r, DATA4, XDP_DROP, XDP_COUNT_UNKNOWN_KEY);
	xdp_rig_world(r);
}

static void a_session_of_an_impossible_subscriber_is_refused(void **state)
{
	struct xdp_rig *r = *state;
	struct xdp_session s = {fixture_client4, LIMITS_MAX_SLOTS, 0};

	xdp_rig_world(r);
	assert_int_equal(xdp_session_set(&r->maps, fixture_sessions[0].key_id, &s), 0);
	expect(r, DATA4, XDP_DROP, XDP_COUNT_UNKNOWN_KEY);
	xdp_rig_world(r);
}

static void limits_written_through_the_mapping_are_obeyed_live(void **state)
{
	struct xdp_rig *r = *state;
	struct limit_slot *slot = &r->limits.slots[fixture_sessions[0].subscriber];
	struct limit_plan plan = {.rate_per_s = 20, .burst_units = 1, .refused_per_s = 0.001,
		.flags = LIMIT_ACTIVE};
	struct timespec nap = {0, 70000000};

	xdp_rig_world(r);
	assert_int_equal(limits_set(slot, &plan, clock_now_ns(), NULL), 0);
	expect(r, DATA4, XDP_REDIRECT, XDP_COUNT_REDIRECTED);
	xdp_rig_exhaust(slot);
	expect(r, DATA4, XDP_DROP, XDP_COUNT_SHOUTING);
	/* Still out of refusals, but the next unit of the plan is due: it must get through. */
	nanosleep(&nap, NULL);
	expect(r, DATA4, XDP_REDIRECT, XDP_COUNT_REDIRECTED);
	/* Exhausted again, then a better plan lets it in at once. */
	xdp_rig_exhaust(slot);
	plan.rate_per_s = 1e6;
	plan.burst_units = 1000;
	assert_int_equal(limits_set(slot, &plan, clock_now_ns(), NULL), 0);
	expect(r, DATA4, XDP_REDIRECT, XDP_COUNT_REDIRECTED);
	xdp_rig_world(r);
}

/* B1: garbage in a slot may refuse or admit its own subscriber, nobody else. */
static void a_tampered_slot_harms_only_its_owner(void **state)
{
	static const uint64_t garbage[] = {0, 1, 1ull << 63, ~0ull, 0x5555555555555555ull};
	struct xdp_rig *r = *state;
	struct limit_slot *slot = &r->limits.slots[fixture_sessions[0].subscriber];

	xdp_rig_world(r);
	for (size_t i = 0; i < 5; i++)
		for (size_t word = 0; word < 6; word++) {
			struct frame f;
			int counter;

			((uint64_t *)(void *)slot)[word] = garbage[i];
			frame_base(&f, DATA4);
			xdp_rig_run(r, f.data, f.n, &counter);
			assert_true(counter == XDP_COUNT_REDIRECTED || counter == XDP_COUNT_SHOUTING);
			expect(r, DATA6, XDP_REDIRECT, XDP_COUNT_REDIRECTED);
		}
	xdp_rig_world(r);
	expect(r, DATA4, XDP_REDIRECT, XDP_COUNT_REDIRECTED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_fixture_gets_its_verdict),
		cmocka_unit_test(every_truncation_of_a_request_is_dropped_as_malformed),
		cmocka_unit_test(random_damage_never_splits_xdp_from_the_parser),
		cmocka_unit_test(neighbours_and_foreign_traffic_go_where_the_operator_says),
		cmocka_unit_test(a_disabled_data_port_drops_and_says_so),
		cmocka_unit_test(without_a_dataplane_the_data_port_drops_and_never_passes),
		cmocka_unit_test(a_removed_session_is_unknown_at_once),
		cmocka_unit_test(a_session_of_an_impossible_subscriber_is_refused),
		cmocka_unit_test(limits_written_through_the_mapping_are_obeyed_live),
		cmocka_unit_test(a_tampered_slot_harms_only_its_owner),
	};

	return xdp_rig_main(tests, sizeof(tests) / sizeof(tests[0]));
}
