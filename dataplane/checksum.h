/* SPDX-License-Identifier: BSD-3-Clause
 * The Internet checksum (RFC 1071): sums in any byte order, so fields are used as they lie.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Add data[0..n) to a running one's-complement sum, eight bytes a step. */
static inline uint64_t checksum_add(uint64_t sum, const void *data, size_t n)
{
	const uint8_t *p = data;
	uint64_t v = 0;

	for (; n >= 8; n -= 8, p += 8) {
		memcpy(&v, p, 8);
		sum += v;
		sum += sum < v; /* end-around carry */
	}
	v = 0; /* what is left, without a call of memcpy() for up to seven bytes */
	if (n & 4) {
		uint32_t word;

		memcpy(&word, p, sizeof(word));
		v = word;
		p += 4;
	}
	for (size_t at = n & 4; at < n; at++, p++)
		v |= (uint64_t)*p << (8 * at);
	sum += v;
	return sum + (sum < v);
}

/* Fold to 16 bits and complement: the value to store; 0 when the data held its own checksum. */
static inline uint16_t checksum_fold(uint64_t sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

/* Pseudo header of UDP, ICMPv6: both addresses (as they lie in the IP header), length, protocol. */
static inline uint64_t checksum_pseudo(const uint8_t *addresses, size_t address_bytes,
	uint16_t l4_bytes, uint8_t protocol)
{
	uint64_t sum = (uint64_t)__builtin_bswap16(l4_bytes) + ((uint64_t)protocol << 8);

	return checksum_add(sum, addresses, address_bytes);
}
