/* SPDX-License-Identifier: BSD-3-Clause
 * Neighbour answers: see neighbour.h.
 */
#include <string.h>

#include "bytes.h"
#include "checksum.h"
#include "neighbour.h"

enum { IPV4_BYTES = 20, IPV6_BYTES = 40, NA_BYTES = 32, PROTO_ICMPV6 = 58, TTL = 64 };

/* Ethernet: back to who asked, from our own address (the question may have been sent to a group).
 */
static void turn_ethernet(const struct parse_config *cfg, uint8_t *data)
{
	memcpy(data, data + 6, 6);
	memcpy(data + 6, cfg->mac, 6);
}

static size_t answer_arp(const struct parse_config *cfg, uint8_t *data, const struct packet *p)
{
	uint8_t *arp = data + p->l3;

	turn_ethernet(cfg, data);
	put_be16(arp + 6, 2);
	memcpy(arp + 18, arp + 8, 10); /* sender becomes target: MAC and IP */
	memcpy(arp + 8, cfg->mac, 6);
	memcpy(arp + 14, cfg->ipv4.bytes + 12, 4);
	return p->frame_bytes;
}

static void put_icmp6_checksum(uint8_t *ip, size_t l4_bytes)
{
	uint8_t *l4 = ip + IPV6_BYTES;
	uint16_t sum;

	memset(l4 + 2, 0, 2);
	sum = checksum_fold(checksum_add(
		checksum_pseudo(ip + 8, 32, (uint16_t)l4_bytes, PROTO_ICMPV6), l4, l4_bytes));
	memcpy(l4 + 2, &sum, 2);
}

static size_t answer_nd(const struct parse_config *cfg, uint8_t *data, size_t room,
	const struct packet *p)
{
	static const uint8_t unspecified[16], all_nodes[16] = {0xff, 2, [15] = 1};
	uint8_t *ip = data + p->l3, *l4 = data + p->l4;
	bool dad = memcmp(ip + 8, unspecified, 16) == 0;

	if (p->l4 + (size_t)NA_BYTES > room)
		return 0;
	turn_ethernet(cfg, data);
	if (dad)
		memcpy(data, (const uint8_t[6]){0x33, 0x33, 0, 0, 0, 1}, 6);
	put_be16(ip + 4, NA_BYTES);
	memcpy(ip + 24, dad ? all_nodes : ip + 8, 16);
	memcpy(ip + 8, cfg->ipv6.bytes, 16);
	l4[0] = 136;
	l4[1] = 0;
	memset(l4 + 4, 0, 4);
	l4[4] = dad ? 0x20 : 0x60; /* override; solicited unless the asker has no address */
	l4[24] = 2;                /* option: target link-layer address, one unit of 8 bytes */
	l4[25] = 1;
	memcpy(l4 + 26, cfg->mac, 6);
	put_icmp6_checksum(ip, NA_BYTES);
	return p->l4 + (size_t)NA_BYTES;
}

static size_t answer_echo4(const struct parse_config *cfg, uint8_t *data, const struct packet *p)
{
	uint8_t *ip = data + p->l3, *l4 = data + p->l4;
	size_t l4_bytes = p->frame_bytes - (size_t)p->l4;
	uint16_t sum;

	turn_ethernet(cfg, data);
	swap_bytes(ip + 12, ip + 16, 4);
	ip[8] = TTL;
	memset(ip + 10, 0, 2);
	sum = checksum_fold(checksum_add(0, ip, IPV4_BYTES));
	memcpy(ip + 10, &sum, 2);
	l4[0] = 0;
	memset(l4 + 2, 0, 2);
	sum = checksum_fold(checksum_add(0, l4, l4_bytes));
	memcpy(l4 + 2, &sum, 2);
	return p->frame_bytes;
}

static size_t answer_echo6(const struct parse_config *cfg, uint8_t *data, const struct packet *p)
{
	uint8_t *ip = data + p->l3;

	turn_ethernet(cfg, data);
	swap_bytes(ip + 8, ip + 24, 16);
	ip[7] = TTL;
	data[p->l4] = 129;
	put_icmp6_checksum(ip, p->frame_bytes - (size_t)p->l4);
	return p->frame_bytes;
}

size_t neighbour_answer(const struct parse_config *cfg, enum packet_kind kind, uint8_t *data,
	size_t room, const struct packet *p)
{
	switch (kind) {
	case PACKET_ARP:
		return answer_arp(cfg, data, p);
	case PACKET_ND:
		return answer_nd(cfg, data, room, p);
	case PACKET_ECHO4:
		return answer_echo4(cfg, data, p);
	case PACKET_ECHO6:
		return answer_echo6(cfg, data, p);
	default:
		return 0;
	}
}
