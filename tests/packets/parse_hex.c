/* SPDX-License-Identifier: BSD-3-Clause
 * Frames as hex lines on stdin, parse_packet()'s verdict on each on stdout: the C half of
 * test_scapy.py, which starts `test_parse --hex`.
 */
#include <stdio.h>
#include <string.h>

#include "parse.h"
#include "tests/packets/fixtures.h"

static const char *name_of(int verdict)
{
	static const char *const kinds[] = {"?", "DATAGRAM", "ARP", "ND", "ECHO4", "ECHO6"};
	static const char *const drops[] = {
#define X(sym, name, help) #sym,
		STATS_COUNTER_LIST(X)
#undef X
	};

	return verdict < 0 ? kinds[-verdict] : drops[verdict];
}

static size_t from_hex(uint8_t *out, size_t max, const char *hex)
{
	size_t n = 0;
	unsigned v;

	while (n < max && sscanf(hex + 2 * n, "%2x", &v) == 1)
		out[n++] = (uint8_t)v;
	return n;
}

int parse_hex(void)
{
	struct parse_config cfg = {.ipv4 = fixture_server4, .ipv6 = fixture_server6,
		.udp_port = FIXTURE_PORT, .lanes = WIRE_MAX_LANES};
	static char line[2 * FRAME_MAX + 16];

	memcpy(cfg.mac, fixture_server_mac, 6);
	while (fgets(line, sizeof(line), stdin)) {
		uint8_t frame[FRAME_MAX];
		struct packet p;
		size_t n = from_hex(frame, sizeof(frame), line);
		int verdict = parse_packet(&cfg, frame, n, &p);

		printf("%s %u\n", name_of(verdict), verdict == PACKET_DATAGRAM ? p.payload_bytes : 0);
	}
	return 0;
}
