/* SPDX-License-Identifier: BSD-3-Clause
 * The shield of the XDP program, run by the kernel: flood buckets, penalty box, and that neither can be
 * turned against a live session. Frames from the fixture table, sources of our choosing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include <time.h>

#include <bpf/bpf.h>

#include "base/clock.h"
#include "tests/ebpf/xdp_rig.h"

enum { UNKNOWN_KEY = 0x0eadbeef };

static struct ip_addr source4(uint32_t address)
{
	struct ip_addr a = {{[10] = 0xff, 0xff, (uint8_t)(address >> 24), (uint8_t)(address >> 16),
		(uint8_t)(address >> 8), (uint8_t)address}};

	return a;
}

/* The IPv4 request with this key id, from this address. */
static void request_from(struct frame *f, uint32_t address, uint32_t key_id)
{
	struct ip_addr a = source4(address);

	frame_base(f, DATA4);
	memcpy(f->data + f->at[L3] + 12, a.bytes + 12, 4);
	memcpy(f->data + f->at[PAYLOAD] + 4, &key_id, 4);
	frame_checksums(f);
}

/* Run the frame `n` times in one go; returns by how much `counter` grew. */
static uint64_t flood(struct xdp_rig *r, const struct frame *f, int n, int counter)
{
	uint64_t before[XDP_COUNTERS], after[XDP_COUNTERS];
	LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = f->data, .data_size_in = (uint32_t)f->n, .repeat = n);

	assert_int_equal(xdp_counters_read(&r->maps, before), 0);
	assert_int_equal(bpf_prog_test_run_opts(r->program, &o), 0);
	assert_int_equal(o.retval, XDP_DROP);
	assert_int_equal(xdp_counters_read(&r->maps, after), 0);
	return after[counter] - before[counter];
}

static void set_term(struct xdp_rig *r, uint32_t address, uint64_t until_ns)
{
	struct shield_term term = {until_ns, 0};
	struct ip_addr key = source4(address);

	assert_int_equal(bpf_map_update_elem(r->maps.box, &key, &term, BPF_ANY), 0);
}

static struct shield_term term_of(struct xdp_rig *r, uint32_t address)
{
	struct ip_addr key = source4(address);
	struct shield_term term = {0, 0};

	bpf_map_lookup_elem(r->maps.box, &key, &term);
	return term;
}

static uint64_t *tat_of(struct xdp_rig *r, uint32_t address, uint64_t *tat)
{
	struct ip_addr key = source4(address);

	return bpf_map_lookup_elem(r->maps.flood, &key, tat) ? NULL : tat;
}

enum { STRANGER = 0x0a4d0063, VICTIM = 0x0a4d0002 };

static void a_bucket_holds_its_burst_then_the_source_is_boxed(void **state)
{
	struct xdp_rig *r = *state;
	uint64_t t0 = clock_now_ns(), seconds_of_strays;
	uint64_t strays, floods, boxed, before[XDP_COUNTERS], after[XDP_COUNTERS];
	struct frame f;
	int counter;

	xdp_rig_world(r);
	request_from(&f, STRANGER, UNKNOWN_KEY);
	xdp_counters_read(&r->maps, before);
	flood(r, &f, 5000, XDP_COUNT_UNKNOWN_KEY);
	xdp_counters_read(&r->maps, after);
	seconds_of_strays = (clock_now_ns() - t0) / (NS_PER_S / SHIELD_STRAYS_PER_S) + 1;
	strays = after[XDP_COUNT_UNKNOWN_KEY] - before[XDP_COUNT_UNKNOWN_KEY];
	floods = after[XDP_COUNT_FLOOD] - before[XDP_COUNT_FLOOD];
	boxed = after[XDP_COUNT_BOXED] - before[XDP_COUNT_BOXED];
	assert_in_range(strays, SHIELD_STRAY_BURST, SHIELD_STRAY_BURST + seconds_of_strays);
	assert_int_equal(floods, 1);
	assert_int_equal(strays + floods + boxed, 5000);
	assert_int_equal(term_of(r, STRANGER).packets, boxed + 1);
	/* Somebody else's strays are counted as what they are. */
	request_from(&f, STRANGER + 1, UNKNOWN_KEY);
	assert_int_equal(xdp_rig_run(r, f.data, f.n, &counter), XDP_DROP);
	assert_int_equal(counter, XDP_COUNT_UNKNOWN_KEY);
}

static void a_bucket_refills_with_time(void **state)
{
	struct xdp_rig *r = *state;
	uint64_t tat, wanted = 0;
	struct ip_addr key = source4(STRANGER);
	struct frame f;
	int counter;

	xdp_rig_world(r);
	request_from(&f, STRANGER, UNKNOWN_KEY);
	xdp_rig_run(r, f.data, f.n, &counter);
	assert_non_null(tat_of(r, STRANGER, &tat));
	/* As if its burst had been used up `200` intervals ago: 200 strays have room again, no more. */
	wanted = limits_ticks(clock_now_ns()) + SHIELD_BURST_TICKS - 200 * SHIELD_INTERVAL_TICKS;
	assert_int_equal(bpf_map_update_elem(r->maps.flood, &key, &wanted, BPF_EXIST), 0);
	assert_in_range(flood(r, &f, 1000, XDP_COUNT_UNKNOWN_KEY), 199, 230);
	/* A bucket that no history can have left (a tampered map) starts anew instead of staying shut. */
	xdp_rig_empty(r->maps.box);
	wanted = ~0ull >> 1;
	assert_int_equal(bpf_map_update_elem(r->maps.flood, &key, &wanted, BPF_EXIST), 0);
	assert_in_range(flood(r, &f, 10, XDP_COUNT_UNKNOWN_KEY), 10, 10);
}

static void every_kind_of_stray_is_charged_to_its_source(void **state)
{
	static const int counters[] = {XDP_COUNT_UNKNOWN_KEY, XDP_COUNT_WRONG_SOURCE, XDP_COUNT_MALFORMED};
	struct xdp_rig *r = *state;
	struct frame kinds[3];
	int counter;

	request_from(&kinds[0], STRANGER, UNKNOWN_KEY);
	request_from(&kinds[1], STRANGER, fixture_sessions[0].key_id);
	request_from(&kinds[2], STRANGER, UNKNOWN_KEY);
	kinds[2].data[kinds[2].at[PAYLOAD]] = 0xff; /* no datagram of ours */
	for (int i = 0; i < 3; i++) {
		xdp_rig_world(r);
		xdp_rig_run(r, kinds[i].data, kinds[i].n, &counter);
		assert_int_equal(counter, counters[i]);
		flood(r, &kinds[i], 2000, counters[i]);
		for (int k = 0; k < 3; k++) { /* boxed for all of them */
			xdp_rig_run(r, kinds[k].data, kinds[k].n, &counter);
			assert_int_equal(counter, XDP_COUNT_BOXED);
		}
	}
}

/* F2: whatever is sent in its name, a victim's own packets pass. */
static void a_victim_that_shares_the_address_of_a_flood_is_not_harmed(void **state)
{
	struct xdp_rig *r = *state;
	struct frame flooding, own;
	int counter;

	xdp_rig_world(r);
	request_from(&flooding, VICTIM, UNKNOWN_KEY);
	frame_base(&own, DATA4);
	for (int i = 0; i < 200; i++) {
		flood(r, &flooding, 100, XDP_COUNT_BOXED);
		assert_int_equal(xdp_rig_run(r, own.data, own.n, &counter), XDP_REDIRECT);
		assert_int_equal(counter, XDP_COUNT_REDIRECTED);
	}
	assert_true(shield_boxed(term_of(r, VICTIM).until_ns, clock_now_ns()));
	/* Its neighbour traffic and its SSH still reach the kernel. */
	frame_base(&own, ECHO4);
	assert_int_equal(xdp_rig_run(r, own.data, own.n, &counter), XDP_PASS);
	frame_base(&own, TCP4);
	assert_int_equal(xdp_rig_run(r, own.data, own.n, &counter), XDP_PASS);
}

static void a_term_ends_and_one_that_was_put_there_by_the_dataplane_counts(void **state)
{
	struct xdp_rig *r = *state;
	struct timespec nap = {0, 60000000};
	struct frame f;
	int counter;

	xdp_rig_world(r);
	request_from(&f, STRANGER, UNKNOWN_KEY);
	set_term(r, STRANGER, clock_now_ns() + 50000000);
	xdp_rig_run(r, f.data, f.n, &counter);
	assert_int_equal(counter, XDP_COUNT_BOXED);
	nanosleep(&nap, NULL);
	xdp_rig_run(r, f.data, f.n, &counter);
	assert_int_equal(counter, XDP_COUNT_UNKNOWN_KEY);
	/* A term longer than any can be is void: nobody is boxed for ever by a bad entry. */
	set_term(r, STRANGER, ~0ull);
	xdp_rig_run(r, f.data, f.n, &counter);
	assert_int_equal(counter, XDP_COUNT_UNKNOWN_KEY);
	/* Boxed again in the entry that is there. */
	flood(r, &f, 2000, XDP_COUNT_BOXED);
	assert_true(shield_boxed(term_of(r, STRANGER).until_ns, clock_now_ns()));
}

/* Entries of an LRU map. */
static uint32_t entries(int map)
{
	struct ip_addr key, *previous = NULL;
	uint32_t n = 0;

	while (n <= XDP_MAX_SESSIONS && bpf_map_get_next_key(map, previous, &key) == 0) {
		previous = &key;
		n++;
	}
	return n;
}

/* F6: more sources than either map holds. */
static void invented_addresses_fill_the_buckets_and_free_nobody_from_the_box(void **state)
{
	struct xdp_rig *r = *state;
	struct frame f, own;
	int counter;

	xdp_rig_world(r);
	frame_base(&own, DATA4);
	request_from(&f, STRANGER, UNKNOWN_KEY);
	flood(r, &f, 2000, XDP_COUNT_BOXED);
	for (uint32_t i = 0; i < 3 * XDP_FLOOD_SOURCES; i++) {
		request_from(&f, 0x0b000000 + i, UNKNOWN_KEY);
		assert_int_equal(xdp_rig_run(r, f.data, f.n, &counter), XDP_DROP);
		assert_int_equal(counter, XDP_COUNT_UNKNOWN_KEY);
		if (i % 4096 == 0)
			assert_int_equal(xdp_rig_run(r, own.data, own.n, &counter), XDP_REDIRECT);
	}
	assert_in_range(entries(r->maps.flood), XDP_FLOOD_SOURCES / 2, XDP_FLOOD_SOURCES);
	assert_int_equal(entries(r->maps.box), 1);
	request_from(&f, STRANGER, UNKNOWN_KEY);
	xdp_rig_run(r, f.data, f.n, &counter);
	assert_int_equal(counter, XDP_COUNT_BOXED);
	for (uint32_t i = 0; i < 2 * XDP_BOX_SOURCES; i++)
		set_term(r, 0x0c000000 + i, clock_now_ns() + SHIELD_BOX_NS);
	assert_in_range(entries(r->maps.box), XDP_BOX_SOURCES / 2, XDP_BOX_SOURCES);
	assert_int_equal(xdp_rig_run(r, own.data, own.n, &counter), XDP_REDIRECT);
}

static void control_reads_the_box_busiest_first(void **state)
{
	struct xdp_rig *r = *state;
	struct xdp_boxed list[2];
	struct frame f;

	xdp_rig_world(r);
	assert_int_equal(xdp_box_read(&r->maps, clock_now_ns(), list, 2), 0);
	for (uint32_t i = 0; i < 3; i++) {
		request_from(&f, STRANGER + i, UNKNOWN_KEY);
		flood(r, &f, 2000 + 1000 * (int)i, XDP_COUNT_BOXED);
	}
	set_term(r, STRANGER + 9, clock_now_ns() - 1); /* over */
	assert_int_equal(xdp_box_read(&r->maps, clock_now_ns(), list, 2), 2);
	assert_int_equal(list[0].source.bytes[15], (STRANGER + 2) & 0xff);
	assert_int_equal(list[1].source.bytes[15], (STRANGER + 1) & 0xff);
	assert_true(list[0].packets > list[1].packets);
	assert_in_range(list[0].left_ns, SHIELD_BOX_NS - 2 * NS_PER_S, SHIELD_BOX_NS);
}

static void pings_to_a_dataplane_are_bounded_and_neighbour_discovery_is_not(void **state)
{
	struct xdp_rig *r = *state;
	struct frame f;
	int counter;

	xdp_rig_world(r);
	xdp_rig_params(r, XDP_TO_DATAPLANE, XDP_TO_DATAPLANE, 1);
	frame_base(&f, ECHO4);
	for (int i = 0; i < 2 * SHIELD_STRAY_BURST; i++)
		xdp_rig_run(r, f.data, f.n, &counter);
	assert_int_equal(counter, XDP_COUNT_BOXED);
	frame_base(&f, ECHO6);
	for (int i = 0; i < 2 * SHIELD_STRAY_BURST; i++)
		xdp_rig_run(r, f.data, f.n, &counter);
	assert_int_equal(counter, XDP_COUNT_BOXED);
	frame_base(&f, TCP4); /* the same source */
	assert_int_equal(xdp_rig_run(r, f.data, f.n, &counter), XDP_DROP);
	assert_int_equal(counter, XDP_COUNT_BOXED);
	frame_base(&f, ND);
	for (int i = 0; i < 2 * SHIELD_STRAY_BURST; i++)
		assert_int_equal(xdp_rig_run(r, f.data, f.n, &counter), XDP_REDIRECT);
	frame_base(&f, ARP);
	assert_int_equal(xdp_rig_run(r, f.data, f.n, &counter), XDP_REDIRECT);
	frame_base(&f, DATA4);
	assert_int_equal(xdp_rig_run(r, f.data, f.n, &counter), XDP_REDIRECT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_bucket_holds_its_burst_then_the_source_is_boxed),
		cmocka_unit_test(a_bucket_refills_with_time),
		cmocka_unit_test(every_kind_of_stray_is_charged_to_its_source),
		cmocka_unit_test(a_victim_that_shares_the_address_of_a_flood_is_not_harmed),
		cmocka_unit_test(a_term_ends_and_one_that_was_put_there_by_the_dataplane_counts),
		cmocka_unit_test(invented_addresses_fill_the_buckets_and_free_nobody_from_the_box),
		cmocka_unit_test(control_reads_the_box_busiest_first),
		cmocka_unit_test(pings_to_a_dataplane_are_bounded_and_neighbour_discovery_is_not),
	};

	return xdp_rig_main(tests, sizeof(tests) / sizeof(tests[0]));
}
