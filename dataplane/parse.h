/* SPDX-License-Identifier: BSD-3-Clause
 * Bytes of one Ethernet frame -> what it is: a datagram for us, a neighbour's question, or a named
 * drop. Pure: no I/O, no allocation, no globals, no DPDK; reads only data[0..n).
 *
 *   Ethernet II [one 802.1Q tag] -> ARP
 *                                -> IPv4 (no options, no fragments) -> UDP data port | ICMP echo
 *                                -> IPv6 (no extension headers)     -> UDP data port | ICMPv6 echo,
 * NS
 */
#pragma once

#include <stdbool.h>

#include "abi/stats.h"
#include "abi/types.h"
#include "abi/wire.h"

/* Who we are on this port. Filled once at start. */
struct parse_config {
	struct ip_addr ipv4; /* ::ffff:a.b.c.d, all zero = we have none */
	struct ip_addr ipv6; /* all zero = we have none */
	uint8_t mac[6];
	uint16_t udp_port;  /* the data port, host byte order */
	uint16_t vlan; /* 0 = untagged and any one tag; else only frames tagged with this VLAN */
	uint16_t lanes;     /* lanes of the session table: wire lane must be below */
	bool any_mac; /* point-to-point port (memif): do not compare unicast destination MACs */
	bool skip_checksum; /* UDP/ICMP checksums were verified by the NIC (none of our ports yet)
			     */
};

/* What parse_packet() returns: one of these (negative), else the enum stats_counter of the drop. */
enum packet_kind {
	PACKET_DATAGRAM = -1, /* UDP to the data port with a well-formed clear header */
	PACKET_ARP = -2,      /* ARP request for our IPv4 address */
	PACKET_ND = -3,       /* ICMPv6 neighbour solicitation for our IPv6 address */
	PACKET_ECHO4 = -4,    /* ICMP echo request to us */
	PACKET_ECHO6 = -5,    /* ICMPv6 echo request to us */
};

/* Where things are, in bytes from data. Valid when the result is a packet_kind. */
struct packet {
	uint16_t l3;            /* 14, or 18 behind a VLAN tag */
	uint16_t l4;            /* UDP/ICMP header; ARP: = l3 */
	uint16_t payload;       /* DATAGRAM: the wire header; ECHO: behind the 8-byte ICMP header */
	uint16_t payload_bytes; /* DATAGRAM: WIRE_MIN_PAYLOAD_BYTES..WIRE_MAX_PAYLOAD_BYTES */
	uint16_t frame_bytes;   /* end of the IP packet: Ethernet padding not included */
	uint8_t ip_version;     /* 4, 6; 0 for ARP */
	uint8_t pad[5];
	struct ip_addr source;   /* of IP packets; IPv4 as ::ffff:a.b.c.d */
	struct wire_header wire; /* DATAGRAM: copy of the clear header, checked */
};

/* Classify data[0..n). Checks run cheapest first, so a frame broken twice is named after the
 * cheaper check. In order:
 *   DROP_L2         n < 14, group source MAC, a tag that is not the configured one, a second tag
 *                   or 802.1ad, EtherType neither IPv4, IPv6 nor ARP (LLC included)
 *   DROP_ADDRESS    unicast destination MAC that is not ours (unless any_mac)
 *   IP: DROP_L3 (truncated header, wrong version, IHL < 5, length below the header or past the
 *       frame) · DROP_EXTENSION (IPv4 options, IPv6 extension header) · DROP_FRAGMENT (MF or
 * offset; IPv6 fragment header) · DROP_ADDRESS (destination IP not ours; group MAC on unicast
 * traffic; source unspecified, loopback, group, broadcast, our own, or IPv4-mapped inside IPv6) ·
 *       DROP_CHECKSUM (IPv4 header) · DROP_L4 (next protocol neither UDP nor ICMP)
 *   UDP: DROP_L4 (truncated, length field != IP payload, other port, source port 0) · DROP_LENGTH
 *       (payload outside MIN..MAX) · DROP_VERSION (type, flags, lane) · DROP_CHECKSUM (bad, or 0
 *       over IPv6; 0 over IPv4 means "none" and passes)
 *   ICMP, ICMPv6, ARP: DROP_CHECKSUM (bad), DROP_NEIGHBOUR (truncated, or asks nothing of us)
 * Neighbour solicitations may come from :: (RFC 4862 DAD) and to our solicited-node group; hop
 * limit must be 255 (RFC 4861 7.1.1). Trailing bytes after the IP packet are Ethernet padding,
 * allowed. `out` may be partly written on a drop. Any thread. */
int parse_packet(const struct parse_config *cfg, const uint8_t *data, size_t n, struct packet *out);

STATIC_ASSERT(sizeof(struct packet) == 48, "small enough for a burst to stay in L1");
