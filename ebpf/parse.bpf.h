/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
 * Header cursor and parse_* helpers of the XDP program.
 *
 * Contract of every parse_* function: it reads one header at the cursor. When the header is there
 * and sound it moves the cursor behind it and returns a value >= 0 (said at each function); else it
 * returns -1 and the packet is to be dropped. Nothing is read at or behind `end`.
 */
#pragma once

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>

#include "abi/types.h"
#include "abi/wire.h"

struct cursor {
	const uint8_t *pos;
	const uint8_t *end;
};

struct vlan_tag {
	be16 tci;
	be16 ethertype;
} MR_PACKED;

enum {
	IP_FRAGMENT_BITS = 0x3fff, /* more-fragments bit and offset of the IPv4 header */
	PARSE_FRAGMENT = 256,      /* answer of parse_ipv4/6: an IP fragment (protocols end at 255) */
};

/* What parse_ipv4/6 learn: the sender, and how many bytes the IP header says follow it. */
struct ip_info {
	struct ip_addr source;
	uint32_t payload_bytes;
};

MR_ALWAYS_INLINE int is_vlan(int ethertype)
{
	return ethertype == ETH_P_8021Q || ethertype == ETH_P_8021AD;
}

/* Ethernet and at most one 802.1Q tag (priority tags too). Returns the ethertype in host byte order;
 * service tags and two tags (QinQ) are an error, so that nobody parses at a wrong offset. */
MR_ALWAYS_INLINE int parse_ethernet(struct cursor *c)
{
	const struct ethhdr *eth = (const void *)c->pos;
	const struct vlan_tag *tag = (const void *)(eth + 1);
	uint16_t type;

	if ((const uint8_t *)(eth + 1) > c->end)
		return -1;
	type = be16_swap(eth->h_proto);
	c->pos = (const uint8_t *)(eth + 1);
	if (!is_vlan(type))
		return type;
	if (type == ETH_P_8021AD || (const uint8_t *)(tag + 1) > c->end)
		return -1;
	type = be16_swap(tag->ethertype);
	c->pos = (const uint8_t *)(tag + 1);
	return is_vlan(type) ? -1 : type;
}

/* IPv4 (RFC 791). Returns the protocol, or PARSE_FRAGMENT. Options are skipped by nobody: UDP with
 * options is an error; for other protocols the cursor is of no use and not needed. */
MR_ALWAYS_INLINE int parse_ipv4(struct cursor *c, struct ip_info *info)
{
	const struct iphdr *ip = (const void *)c->pos;
	uint32_t total;

	if ((const uint8_t *)(ip + 1) > c->end || ip->version != 4 || ip->ihl < 5)
		return -1;
	total = be16_swap(ip->tot_len);
	if (total < ip->ihl * 4u || c->pos + total > c->end)
		return -1;
	if (ip->frag_off & be16_swap(IP_FRAGMENT_BITS))
		return PARSE_FRAGMENT;
	if (ip->protocol == IPPROTO_UDP && ip->ihl != 5)
		return -1;
	info->payload_bytes = total - sizeof(*ip);
	__builtin_memset(info->source.bytes, 0, 10);
	__builtin_memset(info->source.bytes + 10, 0xff, 2);
	__builtin_memcpy(info->source.bytes + 12, &ip->saddr, 4);
	c->pos = (const uint8_t *)(ip + 1);
	return ip->protocol;
}

MR_ALWAYS_INLINE int is_ipv6_extension(uint8_t next)
{
	return next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_DSTOPTS ||
	       next == IPPROTO_AH || next == 135 /* mobility */ || next == 139 /* HIP */ ||
	       next == 140 /* shim6 */;
}

/* Multicast listener messages (RFC 3810): ICMPv6 behind one hop-by-hop header, on every network. */
MR_ALWAYS_INLINE int is_hop_by_hop_icmpv6(const struct ipv6hdr *ip, const uint8_t *end)
{
	const uint8_t *next = (const uint8_t *)(ip + 1);

	return ip->nexthdr == IPPROTO_HOPOPTS && next + 1 <= end && *next == IPPROTO_ICMPV6;
}

/* IPv6 (RFC 8200). Returns the protocol, or PARSE_FRAGMENT. Extension headers hide the port, so a
 * packet that has one is an error, whatever its protocol; but see is_hop_by_hop_icmpv6(). */
MR_ALWAYS_INLINE int parse_ipv6(struct cursor *c, struct ip_info *info)
{
	const struct ipv6hdr *ip = (const void *)c->pos;

	if ((const uint8_t *)(ip + 1) > c->end || ip->version != 6)
		return -1;
	info->payload_bytes = be16_swap(ip->payload_len);
	if (c->pos + sizeof(*ip) + info->payload_bytes > c->end)
		return -1;
	if (ip->nexthdr == IPPROTO_FRAGMENT)
		return PARSE_FRAGMENT;
	if (is_hop_by_hop_icmpv6(ip, c->end))
		return IPPROTO_ICMPV6;
	if (is_ipv6_extension(ip->nexthdr))
		return -1;
	__builtin_memcpy(info->source.bytes, &ip->saddr, 16);
	c->pos = (const uint8_t *)(ip + 1);
	return ip->nexthdr;
}

/* An ICMPv6 echo request (RFC 4443), seen from behind the IPv6 header? */
MR_ALWAYS_INLINE int is_echo6(const struct cursor *c)
{
	return c->pos + 1 <= c->end && *c->pos == 128;
}

/* UDP (RFC 768). Returns the destination port in host byte order; *length is the length field, for
 * the caller to check once it knows that the port is ours. */
MR_ALWAYS_INLINE int parse_udp(struct cursor *c, uint32_t *length)
{
	const struct udphdr *udp = (const void *)c->pos;

	if ((const uint8_t *)(udp + 1) > c->end)
		return -1;
	*length = be16_swap(udp->len);
	c->pos = (const uint8_t *)(udp + 1);
	return be16_swap(udp->dest);
}

/* The clear header of a request (abi/wire.h): type, flags and lane. Returns 0 and the key id. */
MR_ALWAYS_INLINE int parse_wire(struct cursor *c, uint32_t *key_id)
{
	const struct wire_header *h = (const void *)c->pos;

	if ((const uint8_t *)(h + 1) > c->end)
		return -1;
	if (h->type != WIRE_TYPE_REQUEST || (h->flags & ~WIRE_FLAG_EPOCH_MASK) ||
		h->lane >= WIRE_MAX_LANES)
		return -1;
	*key_id = h->key_id;
	return 0;
}
