/* SPDX-License-Identifier: BSD-3-Clause
 * Fuzz the frame parser: whatever the bytes are, its answer is one of the named ones, every offset
 * it reports lies inside the frame, and a neighbour's answer fits the room it was given.
 *
 * First byte = options (any_mac, VLAN); the rest is the frame, copied so that ASan sees its exact
 * end.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/neighbour.h"

enum { ROOM = 4096 };

static void check(const struct packet *p, int kind, size_t n)
{
	if (kind >= 0)
		return;
	if (p->l3 > n || p->l4 > n || p->frame_bytes > n || p->l4 < p->l3 ||
		(size_t)p->payload + p->payload_bytes > p->frame_bytes)
		abort();
	if (kind == PACKET_DATAGRAM && (p->payload_bytes < WIRE_MIN_PAYLOAD_BYTES ||
		p->payload_bytes > WIRE_MAX_PAYLOAD_BYTES || p->wire.type != WIRE_TYPE_REQUEST))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct parse_config base = {.ipv4 = {{[10] = 0xff, 0xff, 10, 77, 0, 1}},
		.ipv6 = {{0xfd, 0x77, [15] = 1}},
		.mac = {2, 0, 0, 0, 0, 1},
		.udp_port = 4433,
		.lanes = 1};
	struct parse_config cfg = base;
	struct packet p;
	uint8_t *frame;
	size_t n;
	int kind;

	if (size < 1 || size > ROOM)
		return 0;
	n = size - 1;
	cfg.any_mac = data[0] & 1;
	cfg.skip_checksum = data[0] & 2; /* lets the fuzzer past the checksums */
	cfg.vlan = data[0] & 4 ? 5 : 0;
	frame = malloc(n ? n : 1);
	memcpy(frame, data + 1, n);
	kind = parse_packet(&cfg, frame, n, &p);
	if (kind < PACKET_ECHO6 || kind == 0 || kind >= STATS_COUNTERS)
		abort();
	check(&p, kind, n);
	free(frame);
	if (kind < PACKET_DATAGRAM) {
		uint8_t room[ROOM];

		memcpy(room, data + 1, n);
		if (neighbour_answer(&cfg, (enum packet_kind)kind, room, n, &p) > n)
			abort();
	}
	return 0;
}
