/* SPDX-License-Identifier: BSD-3-Clause
 * Frame parser: see parse.h.
 */
#include <string.h>

#include "checksum.h"
#include "parse.h"

enum {
	ETH_BYTES = 14,
	VLAN_BYTES = 4,
	ARP_BYTES = 28,
	IPV4_BYTES = 20,
	IPV6_BYTES = 40,
	UDP_BYTES = 8,
	ICMP_BYTES = 8,
	NS_BYTES = 24,
	ND_HOP_LIMIT = 255,
};

enum { TYPE_IPV4 = 0x0800, TYPE_ARP = 0x0806, TYPE_VLAN = 0x8100, TYPE_IPV6 = 0x86dd };

enum { PROTO_ICMP = 1, PROTO_UDP = 17, PROTO_ICMPV6 = 58 };

static uint16_t get_be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static bool ip_is_zero(const struct ip_addr *a)
{
	static const struct ip_addr zero;

	return memcmp(a, &zero, sizeof(zero)) == 0;
}

static struct ip_addr mapped(const uint8_t v4[4])
{
	struct ip_addr a = {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}};

	memcpy(a.bytes + 12, v4, 4);
	return a;
}

static bool mac_is_group(const uint8_t *mac)
{
	return mac[0] & 1;
}

/* ---- IPv4 and IPv6 addresses that nobody can have ---- */

static bool ipv4_source_impossible(const struct parse_config *cfg, const uint8_t a[4])
{
	return a[0] == 0 || a[0] == 127 || a[0] >= 224 || memcmp(a, cfg->ipv4.bytes + 12, 4) == 0;
}

static bool ipv6_source_impossible(const struct parse_config *cfg, const uint8_t a[16])
{
	static const uint8_t first96[12]; /* ::, ::1 and the rest of ::/96 */
	static const uint8_t v4_mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

	return a[0] == 0xff || memcmp(a, first96, 12) == 0 || memcmp(a, v4_mapped, 12) == 0 ||
	       memcmp(a, cfg->ipv6.bytes, 16) == 0;
}

/* ff02::1:ffXX:XXXX of our own address (RFC 4291 2.7.1). */
static bool ipv6_is_our_solicited_node(const struct parse_config *cfg, const uint8_t a[16])
{
	static const uint8_t prefix[13] = {0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff};

	return memcmp(a, prefix, 13) == 0 && memcmp(a + 13, cfg->ipv6.bytes + 13, 3) == 0;
}

/* ---- layer 4 ---- */

/* l4[0..l4_bytes) is the IP payload; pseudo = sum of the pseudo header. */
static int parse_udp(const struct parse_config *cfg, const uint8_t *l4, size_t l4_bytes,
	uint64_t pseudo, struct packet *out)
{
	size_t payload_bytes;

	if (l4_bytes < UDP_BYTES || get_be16(l4 + 4) != l4_bytes)
		return STATS_DROP_L4;
	if (get_be16(l4 + 2) != cfg->udp_port || get_be16(l4) == 0)
		return STATS_DROP_L4;
	payload_bytes = l4_bytes - UDP_BYTES;
	if (payload_bytes < WIRE_MIN_PAYLOAD_BYTES || payload_bytes > WIRE_MAX_PAYLOAD_BYTES)
		return STATS_DROP_LENGTH;
	memcpy(&out->wire, l4 + UDP_BYTES, sizeof(out->wire));
	if (out->wire.type != WIRE_TYPE_REQUEST || (out->wire.flags & ~WIRE_FLAG_EPOCH_MASK) ||
		out->wire.lane >= cfg->lanes)
		return STATS_DROP_VERSION;
	if (l4[6] == 0 && l4[7] == 0) {
		if (out->ip_version == 6)
			return STATS_DROP_CHECKSUM;
	} else if (!cfg->skip_checksum && checksum_fold(checksum_add(pseudo, l4, l4_bytes)) != 0) {
		return STATS_DROP_CHECKSUM;
	}
	out->payload = (uint16_t)(out->l4 + UDP_BYTES);
	out->payload_bytes = (uint16_t)payload_bytes;
	return PACKET_DATAGRAM;
}

static int parse_icmp4(const struct parse_config *cfg, const uint8_t *l4, size_t l4_bytes,
	struct packet *out)
{
	if (l4_bytes < ICMP_BYTES || l4[0] != 8 || l4[1] != 0)
		return STATS_DROP_NEIGHBOUR;
	if (!cfg->skip_checksum && checksum_fold(checksum_add(0, l4, l4_bytes)) != 0)
		return STATS_DROP_CHECKSUM;
	out->payload = (uint16_t)(out->l4 + ICMP_BYTES);
	out->payload_bytes = (uint16_t)(l4_bytes - ICMP_BYTES);
	return PACKET_ECHO4;
}

static bool is_solicitation_for_us(const struct parse_config *cfg, const uint8_t *ip,
	const uint8_t *l4, size_t l4_bytes)
{
	return l4_bytes >= NS_BYTES && l4[0] == 135 && l4[1] == 0 && ip[7] == ND_HOP_LIMIT &&
	       memcmp(l4 + 8, cfg->ipv6.bytes, 16) == 0;
}

static int parse_icmp6(const struct parse_config *cfg, const uint8_t *ip, const uint8_t *l4,
	size_t l4_bytes, uint64_t pseudo, struct packet *out)
{
	int kind;

	if (l4_bytes < ICMP_BYTES)
		return STATS_DROP_NEIGHBOUR;
	if (l4[0] == 128 && l4[1] == 0)
		kind = PACKET_ECHO6;
	else if (is_solicitation_for_us(cfg, ip, l4, l4_bytes))
		kind = PACKET_ND;
	else
		return STATS_DROP_NEIGHBOUR;
	if (!cfg->skip_checksum && checksum_fold(checksum_add(pseudo, l4, l4_bytes)) != 0)
		return STATS_DROP_CHECKSUM;
	out->payload = (uint16_t)(out->l4 + ICMP_BYTES);
	out->payload_bytes = (uint16_t)(l4_bytes - ICMP_BYTES);
	return kind;
}

/* ---- layer 3 ---- */

static int parse_ipv4(const struct parse_config *cfg, const uint8_t *data, size_t n,
	struct packet *out)
{
	const uint8_t *ip = data + out->l3;
	size_t left = n - out->l3, total, l4_bytes;

	if (left < IPV4_BYTES || ip[0] >> 4 != 4 || (ip[0] & 15) < 5)
		return STATS_DROP_L3;
	total = get_be16(ip + 2);
	if (total < IPV4_BYTES || total > left)
		return STATS_DROP_L3;
	if ((ip[0] & 15) != 5)
		return STATS_DROP_EXTENSION;
	if (get_be16(ip + 6) & 0x3fff)
		return STATS_DROP_FRAGMENT;
	if (ip_is_zero(&cfg->ipv4) || memcmp(ip + 16, cfg->ipv4.bytes + 12, 4) != 0 ||
		mac_is_group(data) || ipv4_source_impossible(cfg, ip + 12))
		return STATS_DROP_ADDRESS;
	if (checksum_fold(checksum_add(0, ip, IPV4_BYTES)) != 0)
		return STATS_DROP_CHECKSUM;
	out->ip_version = 4;
	out->source = mapped(ip + 12);
	out->l4 = (uint16_t)(out->l3 + IPV4_BYTES);
	out->frame_bytes = (uint16_t)(out->l3 + total);
	l4_bytes = total - IPV4_BYTES;
	if (ip[9] == PROTO_UDP)
		return parse_udp(cfg, data + out->l4, l4_bytes,
			checksum_pseudo(ip + 12, 8, (uint16_t)l4_bytes, PROTO_UDP), out);
	if (ip[9] == PROTO_ICMP)
		return parse_icmp4(cfg, data + out->l4, l4_bytes, out);
	return STATS_DROP_L4;
}

/* 0, or the drop that this next-header value stands for. */
static int check_next_header(uint8_t next)
{
	switch (next) {
	case PROTO_UDP:
	case PROTO_ICMPV6:
		return 0;
	case 44:
		return STATS_DROP_FRAGMENT;
	case 0:   /* hop-by-hop */
	case 43:  /* routing */
	case 50:  /* ESP */
	case 51:  /* AH */
	case 60:  /* destination options */
	case 135: /* mobility */
	case 139: /* HIP */
	case 140: /* shim6 */
		return STATS_DROP_EXTENSION;
	default:
		return STATS_DROP_L4;
	}
}

/* Destination and source; a neighbour solicitation may use our group and the unspecified source. */
static bool ipv6_addresses_ok(const struct parse_config *cfg, const uint8_t *data,
	const uint8_t *ip, size_t payload_bytes)
{
	const uint8_t *l4 = ip + IPV6_BYTES;
	bool ns = ip[6] == PROTO_ICMPV6 && is_solicitation_for_us(cfg, ip, l4, payload_bytes);
	static const uint8_t unspecified[16];

	if (ip_is_zero(&cfg->ipv6))
		return false;
	if (ns && memcmp(ip + 8, unspecified, 16) == 0)
		return ipv6_is_our_solicited_node(cfg, ip + 24);
	if (ipv6_source_impossible(cfg, ip + 8))
		return false;
	if (memcmp(ip + 24, cfg->ipv6.bytes, 16) == 0)
		return !mac_is_group(data);
	return ns && ipv6_is_our_solicited_node(cfg, ip + 24);
}

static int parse_ipv6(const struct parse_config *cfg, const uint8_t *data, size_t n,
	struct packet *out)
{
	const uint8_t *ip = data + out->l3;
	size_t left = n - out->l3, l4_bytes;
	uint64_t pseudo;
	int drop;

	if (left < IPV6_BYTES || ip[0] >> 4 != 6)
		return STATS_DROP_L3;
	l4_bytes = get_be16(ip + 4);
	if (l4_bytes > left - IPV6_BYTES)
		return STATS_DROP_L3;
	drop = check_next_header(ip[6]);
	if (drop)
		return drop;
	if (!ipv6_addresses_ok(cfg, data, ip, l4_bytes))
		return STATS_DROP_ADDRESS;
	out->ip_version = 6;
	memcpy(out->source.bytes, ip + 8, 16);
	out->l4 = (uint16_t)(out->l3 + IPV6_BYTES);
	out->frame_bytes = (uint16_t)(out->l4 + l4_bytes);
	pseudo = checksum_pseudo(ip + 8, 32, (uint16_t)l4_bytes, ip[6]);
	if (ip[6] == PROTO_UDP)
		return parse_udp(cfg, data + out->l4, l4_bytes, pseudo, out);
	return parse_icmp6(cfg, ip, data + out->l4, l4_bytes, pseudo, out);
}

/* RFC 826 request for our address; a sender of 0.0.0.0 is an RFC 5227 probe and gets its answer. */
static int parse_arp(const struct parse_config *cfg, const uint8_t *data, size_t n,
	struct packet *out)
{
	static const uint8_t request[8] = {0, 1, 8, 0, 6, 4, 0, 1};
	const uint8_t *arp = data + out->l3;

	if (n - out->l3 < ARP_BYTES || memcmp(arp, request, sizeof(request)) != 0)
		return STATS_DROP_NEIGHBOUR;
	if (ip_is_zero(&cfg->ipv4) || memcmp(arp + 24, cfg->ipv4.bytes + 12, 4) != 0)
		return STATS_DROP_NEIGHBOUR;
	if (mac_is_group(arp + 8) || arp[14] == 127 || arp[14] >= 224 ||
		memcmp(arp + 14, cfg->ipv4.bytes + 12, 4) == 0)
		return STATS_DROP_NEIGHBOUR;
	out->ip_version = 0;
	out->source = mapped(arp + 14);
	out->l4 = out->payload = out->l3;
	out->payload_bytes = ARP_BYTES;
	out->frame_bytes = (uint16_t)(out->l3 + ARP_BYTES);
	return PACKET_ARP;
}

/* ---- layer 2 ---- */

/* Step over at most one 802.1Q tag. Returns the EtherType behind it, or 0 for a drop. */
static unsigned parse_tag(const struct parse_config *cfg, const uint8_t *data, size_t n,
	struct packet *out)
{
	unsigned type = get_be16(data + 12);

	out->l3 = ETH_BYTES;
	if (type != TYPE_VLAN)
		return cfg->vlan ? 0 : type;
	if (n < ETH_BYTES + VLAN_BYTES)
		return 0;
	if (cfg->vlan && (get_be16(data + 14) & 0xfff) != cfg->vlan)
		return 0;
	out->l3 = ETH_BYTES + VLAN_BYTES;
	return get_be16(data + 16);
}

int parse_packet(const struct parse_config *cfg, const uint8_t *data, size_t n, struct packet *out)
{
	unsigned type;

	if (n < ETH_BYTES || n > UINT16_MAX || mac_is_group(data + 6))
		return STATS_DROP_L2;
	type = parse_tag(cfg, data, n, out);
	if (type != TYPE_IPV4 && type != TYPE_IPV6 && type != TYPE_ARP)
		return STATS_DROP_L2;
	if (!mac_is_group(data) && !cfg->any_mac && memcmp(data, cfg->mac, 6) != 0)
		return STATS_DROP_ADDRESS;
	if (type == TYPE_IPV4)
		return parse_ipv4(cfg, data, n, out);
	if (type == TYPE_IPV6)
		return parse_ipv6(cfg, data, n, out);
	return parse_arp(cfg, data, n, out);
}
