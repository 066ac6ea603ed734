/* SPDX-License-Identifier: BSD-3-Clause
 * Two things every answer does to a header: store in network byte order, and turn addresses round.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The low 16 bits of v, big-endian, at any address. */
static inline void put_be16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

/* Exchange a[0..n) and b[0..n), n <= 16: MAC and IP addresses, ports. */
static inline void swap_bytes(uint8_t *a, uint8_t *b, size_t n)
{
	uint8_t t[16];

	memcpy(t, a, n);
	memcpy(a, b, n);
	memcpy(b, t, n);
}
