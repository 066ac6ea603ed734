/* SPDX-License-Identifier: BSD-3-Clause
 * The fixture table against the dataplane's parser, and every prefix of every base at a guard page.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "parse.h"
#include "tests/packets/fixtures.h"

static struct parse_config config(void)
{
	struct parse_config cfg = {.ipv4 = fixture_server4, .ipv6 = fixture_server6,
		.udp_port = FIXTURE_PORT, .lanes = WIRE_MAX_LANES};

	memcpy(cfg.mac, fixture_server_mac, 6);
	return cfg;
}

static void every_fixture_gets_its_verdict(void **state)
{
	struct parse_config cfg = config();
	int wrong = 0;

	(void)state;
	for (size_t i = 0; i < n_fixtures; i++) {
		struct packet p;
		struct frame f;
		int got;

		frame_build(&f, &fixtures[i]);
		got = parse_packet(&cfg, f.data, f.n, &p);
		if (got != fixtures[i].parse) {
			print_error("%s: parser says %d, expected %d\n", fixtures[i].what, got,
				fixtures[i].parse);
			wrong++;
		}
	}
	assert_int_equal(wrong, 0);
}

static void a_datagram_is_found_where_it_is(void **state)
{
	static const enum frame_base bases[] = {DATA4, DATA6, DATA4_VLAN, DATA6_VLAN};
	struct parse_config cfg = config();

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		struct packet p;
		struct frame f;

		frame_base(&f, bases[i]);
		assert_int_equal(parse_packet(&cfg, f.data, f.n, &p), PACKET_DATAGRAM);
		assert_int_equal(p.l3, f.at[L3]);
		assert_int_equal(p.l4, f.at[L4]);
		assert_int_equal(p.payload, f.at[PAYLOAD]);
		assert_int_equal(p.payload_bytes, 128);
		assert_int_equal(p.frame_bytes, f.n);
		assert_int_equal(p.wire.key_id, fixture_sessions[i & 1].key_id);
		assert_memory_equal(&p.source, i & 1 ? &fixture_client6 : &fixture_client4, 16);
	}
}

/* K1: the byte behind the frame is not mapped, so a read past the end kills the test. */
static void no_prefix_is_accepted_or_read_past_its_end(void **state)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	uint8_t *two = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct parse_config cfg = config();

	(void)state;
	assert_true(two != MAP_FAILED);
	assert_int_equal(mprotect(two + page, page, PROT_NONE), 0);
	for (int base = DATA4; base <= TCP4; base++) {
		struct frame f;

		frame_base(&f, base);
		for (size_t n = 0; n < f.n; n++) {
			struct packet p;
			uint8_t *at = two + page - n;

			memcpy(at, f.data, n);
			assert_true(parse_packet(&cfg, at, n, &p) >= 0);
		}
	}
	munmap(two, 2 * page);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_fixture_gets_its_verdict),
		cmocka_unit_test(a_datagram_is_found_where_it_is),
		cmocka_unit_test(no_prefix_is_accepted_or_read_past_its_end),
	};

	if (argc > 1 && strcmp(argv[1], "--hex") == 0)
		return parse_hex();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
