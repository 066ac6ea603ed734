/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
 * Maps of the XDP program: names, keys, values. Control creates and pins all of them (but the
 * XSKMAP, which is the AF_XDP driver's) before the dataplane starts; the driver loads the program,
 * which finds them by name at the bpffs root of the instance's private mount namespace.
 *
 * Sizes are compiled in, not configured: libbpf re-uses a pinned map only when type, key, value,
 * flags and max_entries all equal those in the object, and the driver loads the object as it is. The
 * configuration may use fewer slots, never more. Cost: limits 1 MiB, sessions about 11 MiB, the shield about 2 MiB.
 *
 * Any change of layout or size changes the name's version: control refuses a pinned map of another
 * shape by name (ebpf/xdp_load.h), and so does libbpf.
 */
#pragma once

#include "abi/limits.h"
#include "abi/shield.h"
#include "abi/types.h"

#define XDP_MAP_XSKS "xsks_map" /* XSKMAP: name fixed by the DPDK 22.11 af_xdp driver */
#define XDP_MAP_LIMITS "mr_limits_v1"     /* ARRAY, MMAPABLE: u32 subscriber -> limit_slot */
#define XDP_MAP_SESSIONS "mr_sessions_v1" /* HASH: le32 key id -> struct xdp_session */
#define XDP_MAP_PARAMS "mr_params_v1"     /* ARRAY[1], MMAPABLE: struct xdp_params */
#define XDP_MAP_COUNTERS "mr_xdp_count_v2" /* PERCPU_ARRAY[XDP_COUNTERS]: u64 */
#define XDP_MAP_FLOOD "mr_flood_v1" /* LRU_HASH: struct ip_addr -> u64 TAT of its flood bucket */
#define XDP_MAP_BOX "mr_box_v1"     /* LRU_HASH: struct ip_addr -> struct shield_term */
/* Where the AF_XDP driver looks for pinned maps: libbpf's default, no other directory works for it. */
#define XDP_BPFFS_DIR "/sys/fs/bpf"
#define XDP_PROGRAM_NAME "mr_xdp"         /* prefix by which we recognise our own program */

enum {
	XDP_PIN_VERSION = 1,
	XDP_MAX_QUEUES = 64,                /* entries of xsks_map: RX queue -> AF_XDP socket */
	XDP_LIMITS_SLOTS = LIMITS_MAX_SLOTS, /* entries of mr_limits_v1 */
	XDP_MAX_SESSIONS = 1 << 17,         /* entries of mr_sessions_v1, allocated at creation */
	XDP_FLOOD_SOURCES = 1 << 14,        /* entries of mr_flood_v1; the idlest makes room */
	/* Apart from the buckets: a flood from invented addresses churns those, and boxes nobody. */
	XDP_BOX_SOURCES = 1 << 12,
};

/* Who may use a key id. XDP looks this up without a lock while control replaces entries, so it is a
 * filter and never the authority: the worker checks the session table again. */
struct xdp_session {
	struct ip_addr source;
	uint32_t subscriber;
	uint32_t flags; /* 0 */
};

/* Where neighbour traffic (ARP, ICMP, ICMPv6) and foreign traffic goes. */
enum xdp_route { XDP_TO_KERNEL = 0, XDP_TO_DATAPLANE = 1, XDP_DISCARD = 2 };

struct xdp_params {
	uint32_t udp_port;        /* host byte order; the data port */
	uint32_t neighbour_route; /* enum xdp_route: ARP, ICMP echo, ICMPv6 */
	uint32_t other_route;     /* enum xdp_route: everything that is not the data port */
	uint32_t enabled;         /* 0 = drop all of the data port (no session table yet) */
};

/* Verdict counters: symbol, name, help. */
#define XDP_COUNTER_LIST(X)                                                                        \
	X(REDIRECTED, "redirected", "data-port packets of a live session handed to the dataplane") \
	X(NEIGHBOUR, "neighbour", "ARP, ICMP and ICMPv6 packets routed as configured")             \
	X(OTHER, "other", "packets of other ports or protocols routed as configured")              \
	X(MALFORMED, "malformed", "data-port packets dropped: bad L2, L3, L4 or datagram header")  \
	X(FRAGMENT, "fragment", "IP fragments dropped")                                            \
	X(UNKNOWN_KEY, "unknown_key", "dropped: no session has this key id")                       \
	X(WRONG_SOURCE, "wrong_source", "dropped: the session belongs to another address")         \
	X(FLOOD, "flood", "strays dropped: the source's flood bucket was empty, it is boxed")         \
	X(BOXED, "boxed", "strays dropped: the source is in the penalty box")                      \
	X(SHOUTING, "shouting", "dropped: kept sending after RATE_LIMITED replies ran out")        \
	X(DISABLED, "disabled", "dropped: the data port is not enabled yet")                       \
	X(NO_SOCKET, "no_socket", "dropped: no dataplane is bound to this queue")

enum xdp_counter {
#define X(sym, name, help) XDP_COUNT_##sym,
	XDP_COUNTER_LIST(X)
#undef X
		XDP_COUNTERS
};

STATIC_ASSERT(sizeof(struct xdp_session) == 24, "xdp_session");
STATIC_ASSERT(sizeof(struct xdp_params) == 16, "xdp_params");
