/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
 * Fixed-width types, byte order in the type's name, and checks shared by every abi header.
 *
 * Builds for the host (GCC 12) and for BPF (clang 14, -target bpf -ffreestanding).
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Little-endian on the wire. Every supported CPU is little-endian, so they are read directly. */
typedef uint16_t le16;
typedef uint32_t le32;
typedef uint64_t le64;

/* Big-endian on the wire (IP and Ethernet fields): convert before use. */
typedef uint16_t be16;
typedef uint32_t be32;

#define be16_swap(x) ((uint16_t)__builtin_bswap16(x))
#define be32_swap(x) ((uint32_t)__builtin_bswap32(x))

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "wire structs are read in place");

#define STATIC_ASSERT(cond, what) _Static_assert(cond, what)
#define MR_PACKED __attribute__((packed))
#define MR_ALIGNED(n) __attribute__((aligned(n)))
#define MR_ALWAYS_INLINE static inline __attribute__((always_inline))
#define MR_CACHE_LINE 64

#define mr_likely(x) __builtin_expect(!!(x), 1)
#define mr_unlikely(x) __builtin_expect(!!(x), 0)

/* An IP address as 16 bytes; IPv4 is stored as ::ffff:a.b.c.d, so one compare serves both. */
struct ip_addr {
	uint8_t bytes[16];
};

STATIC_ASSERT(sizeof(struct ip_addr) == 16, "ip_addr");
