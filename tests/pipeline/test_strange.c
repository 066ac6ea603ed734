/* SPDX-License-Identifier: BSD-3-Clause
 * Strange packets in bulk, at a whole worker: claims of neighbours, replays by the million, scans of key ids,
 * packets moved to another lane, and how much an answer may weigh.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "rig.h"

enum { KEY = 0x1001, ETH = 14, ETH_IP_UDP = 42 };

static const float sample[RIG_IN] = {1.0f, -2.0f, 0.5f, 3.0f};

/* K9: whatever ARP claims, an answer goes where its request came from, and only then. */
static void claims_of_neighbours_change_nothing(void **state)
{
	/* "10.77.0.2 is at 02:66:66:66:66:66", as a gratuitous request, as one for us, and as a reply; then the
	 * same of our own address and of a gateway. */
	static const uint8_t claim[42] = {255, 255, 255, 255, 255, 255, 2, 0x66, 0x66, 0x66, 0x66, 0x66, 8, 6,
		0, 1, 8, 0, 6, 4, 0, 1, 2, 0x66, 0x66, 0x66, 0x66, 0x66, 10, 77, 0, 2, 0, 0, 0, 0, 0, 0, 10, 77,
		0, 2};
	static const uint8_t who[] = {2, 1, 254}, whom[] = {2, 1, 254};
	struct rig *r = *state;
	struct rig_client c;
	uint8_t f[RIG_FRAME], a[RIG_FRAME], g[sizeof(claim)];

	rig_session(r, &c, KEY, 0, false);
	for (int i = 0; i < 18; i++) {
		size_t n;

		memcpy(g, claim, sizeof(g));
		g[21] = i % 2 ? 2 : 1; /* reply or request */
		g[31] = who[i / 2 % 3];
		g[41] = whom[i / 6];
		n = rig_exchange(r, g, sizeof(g), a);
		if (n) { /* a question for our address, answered to the asker */
			assert_int_equal(g[41], 1);
			assert_memory_equal(a, g + 6, 6);
		}
		n = rig_rows(&c, f, "alpha", sample, 1);
		assert_true(rig_exchange(r, f, n, a) > 0);
		assert_memory_equal(a, f + 6, 6); /* to the MAC it came from */
		assert_memory_equal(a + 6, f, 6);
	}
}

/* K11 */
static void a_million_replays_bring_one_answer(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	uint8_t f[RIG_FRAME], a[RIG_FRAME];
	size_t n;

	rig_session(r, &c, KEY, 0, false);
	n = rig_rows(&c, f, "alpha", sample, 1);
	assert_true(rig_exchange(r, f, n, a) > 0);
	for (int i = 0; i < 1000000; i += 64) {
		for (int k = 0; k < 64; k++)
			port_mem_put(r->port, f, n);
		while (worker_poll(r->worker))
			;
	}
	assert_int_equal(port_mem_get(r->port, a), 0);
	assert_int_equal(rig_count(r, STATS_DROP_REPLAY), 1000000);
	assert_int_equal(r->limits[0].units_admitted, 1);
}

/* K12: the lane is part of nonce and AAD. */
static void a_packet_of_one_lane_is_none_of_another(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	uint8_t f[RIG_FRAME], a[RIG_FRAME];
	size_t n;

	rig_session(r, &c, KEY, 0, false);
	r->parse.skip_checksum = true;
	n = rig_rows(&c, f, "alpha", sample, 1);
	for (uint16_t lane = 1; lane < RIG_LANES; lane++) {
		f[ETH_IP_UDP + 2] = (uint8_t)lane;
		assert_int_equal(rig_exchange(r, f, n, a), 0);
	}
	assert_int_equal(rig_count(r, STATS_DROP_AUTH), RIG_LANES - 1);
	f[ETH_IP_UDP + 2] = 0;
	assert_true(rig_exchange(r, f, n, a) > 0);
}

/* K13: a million ids, from one address and from many; one of them is live, and not theirs. */
static void a_scan_of_key_ids_is_silent_and_counted(void **state)
{
	struct rig *r = *state;
	struct rig_client c, scan;
	uint8_t f[RIG_FRAME], a[RIG_FRAME];
	uint64_t strays;
	size_t n;

	rig_session(r, &c, KEY, 0, false);
	r->parse.skip_checksum = true;
	scan = c;
	scan.source.bytes[15] = 99;
	n = rig_rows(&scan, f, "alpha", sample, 1);
	for (uint32_t i = 0; i < 1 << 20; i++) {
		uint32_t id = i < 1 << 19 ? i : i * 2654435761u;

		memcpy(f + ETH_IP_UDP + 4, &id, sizeof(id));
		port_mem_put(r->port, f, n);
		if (i % 64 == 63) {
			worker_poll(r->worker);
			worker_poll(r->worker);
			r->port->now_ns += NS_PER_MS;
		}
	}
	assert_int_equal(port_mem_get(r->port, a), 0);
	assert_int_equal(rig_count(r, STATS_DROP_SOURCE) + rig_count(r, STATS_DROP_UNKNOWN_KEY) +
				 rig_count(r, STATS_DROP_FLOOD) + rig_count(r, STATS_DROP_BOXED),
		1 << 20);
	strays = rig_count(r, STATS_DROP_UNKNOWN_KEY) + rig_count(r, STATS_DROP_SOURCE);
	assert_in_range(strays, SHIELD_STRAY_BURST, 5 * SHIELD_STRAY_BURST); /* 16 s: two terms */
	n = rig_rows(&c, f, "alpha", sample, 1);
	assert_true(rig_exchange(r, f, n, a) > 0);
}

/* K16: an answer that is no result weighs no more than its request, whatever that asks. */
static void a_refusal_is_never_larger_than_its_request(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	struct rig_reply got;
	uint32_t refused = 0;

	srand(17);
	rig_session(r, &c, KEY, 0, false);
	for (int i = 0; i < 20000; i++) {
		struct wire_request q = {.request_id = (uint64_t)i, .model_id = wire_model_id("alpha"),
			.dtype = WIRE_F32, .segment_count = 1, .rows = 1};
		uint8_t f[RIG_FRAME], a[RIG_FRAME], text[256] = {0};
		size_t n, answer;

		r->port->now_ns += NS_PER_MS;
		for (int k = rand() % 4; k > 0; k--)
			((uint8_t *)&q)[rand() % WIRE_REQUEST_BYTES] = (uint8_t)rand();
		n = rig_request(&c, f, &q, text, (size_t)rand() % sizeof(text));
		answer = rig_exchange(r, f, n, a);
		if (!answer)
			continue; /* a segment that is held */
		assert_true(rig_open(&c, a, answer, &got));
		if (got.reply.status == WIRE_RESULT)
			continue;
		refused++;
		assert_true(answer <= n);
	}
	assert_true(refused > 5000);
}

#define T(f) cmocka_unit_test_setup_teardown(f, rig_set_up, rig_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(claims_of_neighbours_change_nothing),
		T(a_million_replays_bring_one_answer),
		T(a_packet_of_one_lane_is_none_of_another),
		T(a_scan_of_key_ids_is_silent_and_counted),
		T(a_refusal_is_never_larger_than_its_request),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
