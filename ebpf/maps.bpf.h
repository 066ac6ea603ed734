/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
 * The maps of the XDP program, as abi/xdp_maps.h describes them.
 *
 * libbpf takes a map's name from the variable's, so each variable is spelled as the header's string;
 * ebpf/xdp_load.c looks every map up by that string, and tests/ebpf compares all shapes.
 */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "abi/limits.h"
#include "abi/xdp_maps.h"

/* RX queue -> AF_XDP socket. The driver fills it; one per interface, hence not pinned. */
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, XDP_MAX_QUEUES);
	__type(key, uint32_t);
	__type(value, uint32_t);
} xsks_map SEC(".maps");

/* Subscriber -> limits and limiter state. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, XDP_LIMITS_SLOTS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, uint32_t);
	__type(value, struct limit_slot);
} mr_limits_v1 SEC(".maps");

/* Key id -> who may use it. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, XDP_MAX_SESSIONS);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, uint32_t);
	__type(value, struct xdp_session);
} mr_sessions_v1 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, uint32_t);
	__type(value, struct xdp_params);
} mr_params_v1 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, XDP_COUNTERS);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, uint32_t);
	__type(value, uint64_t);
} mr_xdp_count_v2 SEC(".maps");

/* Source -> TAT of its flood bucket. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, XDP_FLOOD_SOURCES);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct ip_addr);
	__type(value, uint64_t);
} mr_flood_v1 SEC(".maps");

/* TAT of the bucket of new sources. The program's alone, hence not pinned. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, uint32_t);
	__type(value, uint64_t);
} mr_newcomers SEC(".maps");

/* Source -> its term in the penalty box; the dataplane puts sources there too. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, XDP_BOX_SOURCES);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct ip_addr);
	__type(value, struct shield_term);
} mr_box_v1 SEC(".maps");
