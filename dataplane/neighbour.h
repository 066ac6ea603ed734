/* SPDX-License-Identifier: BSD-3-Clause
 * Good-neighbour answers, built in the frame that asked: ARP (RFC 826), neighbour advertisement
 * (RFC 4861), ICMP and ICMPv6 echo (RFC 792, RFC 4443). A VLAN tag stays as it came. Pure; no DPDK.
 */
#pragma once

#include "parse.h"

/* Turn the question in `data` (a packet of the given kind, at most `room` bytes long) into its
 * answer. Returns the frame's length, or 0 when it does not fit. */
size_t neighbour_answer(const struct parse_config *cfg, enum packet_kind kind, uint8_t *data,
	size_t room, const struct packet *p);
