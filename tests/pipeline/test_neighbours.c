/* SPDX-License-Identifier: BSD-3-Clause
 * Neighbours of the data port: ARP, neighbour solicitation, echo. Frames are written down from the RFCs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "rig.h"

static const uint8_t ask_arp[60] = {255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 2, 8, 6, 0,
		1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 2, 10, 77, 0, 2, 0, 0, 0, 0, 0, 0, 10, 77, 0,
		1};

static void an_arp_request_is_answered(void **state)
{
	static const uint8_t answer[42] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6,
		4, 0, 2, 2, 0, 0, 0, 0, 1, 10, 77, 0, 1, 2, 0, 0, 0, 0, 2, 10, 77, 0, 2};
	struct rig *r = *state;
	uint8_t a[RIG_FRAME];

	assert_int_equal(rig_exchange(r, ask_arp, sizeof(ask_arp), a), sizeof(answer));
	assert_memory_equal(a, answer, sizeof(answer));
	assert_int_equal(rig_count(r, STATS_NEIGHBOUR), 1);
}

/* ICMP echo, id 0x1234, sequence 1, "abcd"; checksums worked out by hand */
static const uint8_t ping[50] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x81, 0, 0x20, 5, 8, 0,
	0x45, 0, 0, 32, 0, 7, 0, 0, 64, 1, 0x66, 0x3a, 10, 77, 0, 2, 10, 77, 0, 1, 8, 0,
	0x21, 0x04, 0x12, 0x34, 0, 1, 'a', 'b', 'c', 'd'};

static void a_tagged_ping_is_answered_with_its_tag(void **state)
{
	struct rig *r = *state;
	uint8_t a[RIG_FRAME];

	assert_int_equal(rig_exchange(r, ping, sizeof(ping), a), sizeof(ping));
	assert_memory_equal(a, ping + 6, 6);
	assert_memory_equal(a + 12, ping + 12, 6);
	assert_memory_equal(a + 30, ping + 34, 4);
	assert_memory_equal(a + 34, ping + 30, 4);
	assert_int_equal(a[38], 0);
	assert_int_equal(a[40] << 8 | a[41], 0x2904); /* type 8 -> 0 adds 0x0800 */
	assert_memory_equal(a + 42, ping + 42, 8);
}

/* from fd77::2 to ff02::1:ff00:1 for fd77::1, with source link-layer option */
static const uint8_t solicitation[86] = {0x33, 0x33, 0xff, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd,
	0x60, 0, 0, 0, 0, 32, 58, 255, 0xfd, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2,
	0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 1, 135, 0, 0x7c, 0xa9, 0, 0, 0,
	0, 0xfd, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 0, 0, 0, 0, 2};

static void a_neighbour_solicitation_is_answered(void **state)
{
	struct rig *r = *state;
	uint8_t a[RIG_FRAME];

	assert_int_equal(rig_exchange(r, solicitation, sizeof(solicitation), a), sizeof(solicitation));
	assert_memory_equal(a, solicitation + 6, 6);
	assert_memory_equal(a + 22, solicitation + 62, 16); /* from the target */
	assert_memory_equal(a + 38, solicitation + 22, 16); /* to the asker */
	assert_int_equal(a[21], 255);
	assert_int_equal(a[54], 136);
	assert_int_equal(a[58], 0x60);
	assert_memory_equal(a + 62, solicitation + 62, 16);
	assert_memory_equal(a + 78, ((uint8_t[]){2, 1, 2, 0, 0, 0, 0, 1}), 8);
}

/* Nobody unauthenticated gets more out of us than was put in; ND alone may add its one 8-byte option. */
static void no_answer_to_a_stranger_is_larger_than_the_question(void **state)
{
	static const struct { const uint8_t *frame; size_t n; } seeds[] = {{ask_arp, sizeof(ask_arp)},
		{ping, sizeof(ping)}, {solicitation, sizeof(solicitation)}};
	struct rig *r = *state;
	uint8_t f[RIG_FRAME], a[RIG_FRAME];
	uint64_t answered = 0;

	srand(16);
	r->parse.skip_checksum = true; /* let more of them through */
	for (int i = 0; i < 100000; i++) {
		size_t seed = (size_t)rand() % 3, n = seeds[seed].n, out;

		memset(f, 0, sizeof(f));
		memcpy(f, seeds[seed].frame, n);
		for (int k = rand() % 3; k > 0; k--)
			f[(size_t)rand() % n] ^= (uint8_t)(1 << rand() % 8);
		if (rand() % 4 == 0)
			n = (size_t)rand() % (n + 200);
		r->port->now_ns += 1000000; /* slowly: a quick pinger is not answered at all (admission.h) */
		out = rig_exchange(r, f, n, a);
		assert_true(out <= n + 8);
		answered += out != 0;
	}
	assert_true(answered > 10000);
}

#define T(f) cmocka_unit_test_setup_teardown(f, rig_set_up, rig_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(an_arp_request_is_answered),
		T(a_tagged_ping_is_answered_with_its_tag),
		T(a_neighbour_solicitation_is_answered),
		T(no_answer_to_a_stranger_is_larger_than_the_question),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
