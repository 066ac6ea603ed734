/* SPDX-License-Identifier: BSD-3-Clause
 * The dataplane's part of the configuration: a fixed struct in a write-sealed memfd. Control checks
 * the operator's YAML and writes it; the dataplane takes it from fd 3 or over dataplane.sock, checks
 * it again, and starts EAL from it. No EAL argument is ever typed by a person.
 */
#pragma once

#include "abi/types.h"

#define DP_CONFIG_MAGIC 0x31464e43524c494dull /* "MILRCNF1" */

enum {
	DP_CONFIG_VERSION = 2,
	DP_MAX_PORTS = 4,
	DP_MAX_WORKERS = 16,
	DP_MAX_MODELS = 64,
	DP_MAX_ENGINES = 8,
	DP_QUEUE_US_MAX = 1000000,
};

enum dp_port_kind {
	DP_PORT_AF_XDP = 1, /* kernel NIC with our XDP program in front */
	DP_PORT_MEMIF = 2,  /* shared memory: performance runs and containers */
	DP_PORT_PMD = 3,    /* any other DPDK device by its EAL name and arguments */
	DP_PORT_MEM = 4,    /* in-process: tests only, refused by the program */
};

enum dp_backend { DP_BACKEND_AUTO = 0, DP_BACKEND_NATIVE = 1, DP_BACKEND_OPENBLAS = 2,
	DP_BACKEND_SCALAR = 3 };

/* What a worker does when nothing arrives. */
enum dp_poll {
	DP_POLL_BUSY = 0,     /* look again, always */
	DP_POLL_ADAPTIVE = 1, /* after a quiet while sleep on the queue's descriptor */
};

struct dp_port_config {
	uint32_t kind;         /* enum dp_port_kind */
	uint32_t queues;       /* RX/TX queue pairs = workers of this port, >= 1 */
	char device[64];       /* af_xdp: interface; memif: socket path; pmd: EAL device name */
	char args[192];        /* memif: extra device arguments; pmd: device arguments; else empty */
	char xdp_object[160];  /* af_xdp: path of xdp_filter.bpf.o */
	struct ip_addr ipv4;   /* ::ffff:a.b.c.d, all zero = none */
	struct ip_addr ipv6;   /* all zero = none */
	uint32_t udp_port;     /* the data port */
	uint32_t mtu;          /* 0 = leave */
	uint32_t rx_descriptors; /* 0 = driver default */
	uint32_t tx_descriptors;
	uint32_t busy_budget;  /* af_xdp: SO_BUSY_POLL budget, 0 = off */
	uint32_t xdp_generic_allowed; /* 1 = generic (skb) mode is acceptable */
	uint32_t vlan_tag;     /* 0 = accept untagged and one tag; else only this VLAN */
	uint32_t cores[DP_MAX_WORKERS]; /* CPU of each queue's worker */
};

struct dp_config {
	uint64_t magic;
	uint32_t version;
	uint32_t bytes; /* sizeof(struct dp_config) */
	char instance[32];  /* shows in logs and as EAL file prefix */
	char run_dir[96];   /* dataplane.sock lives here */
	uint32_t n_ports;
	uint32_t service_core; /* CPU of the service thread (link, mailbox, model staging); ~0 = any */
	uint32_t memory_mb;    /* EAL memory */
	uint32_t huge_pages;   /* 1 = required, 0 = run on normal pages (the status says so) */
	uint32_t mbufs;        /* per port, 0 = 16384, or 8192 a queue where that is more */
	uint32_t burst;        /* packets taken per poll, 1..64, 0 = 32 */
	uint32_t sessions;     /* capacity of the session table, power of two */
	uint32_t lanes;        /* per session */
	uint32_t backend;      /* enum dp_backend */
	uint32_t slice_us;     /* longest time a model may hold the poll loop before it is resumed */
	uint32_t refuse_not_finite; /* 1 = NaN/Inf input rows get BAD_REQUEST */
	uint32_t limits_fallback; /* 1 = limits live in a memfd because BPF is not available */
	uint32_t log_level;
	uint32_t queue_us;     /* work that may wait for a worker; more is refused as OVERLOADED */
	uint32_t poll;         /* enum dp_poll */
	uint32_t n_engines;    /* cores that only run models longer than the slice */
	uint32_t engine_cores[DP_MAX_ENGINES];
	/* a worker's memory besides packets, taken at start */
	uint32_t wide_buffers;        /* of 18 KiB: requests and replies larger than a datagram; 0 = 256 */
	uint32_t reply_store_kb;      /* replies kept for retries; 0 = 16384, ~0 = none, else >= 512 */
	uint32_t reply_store_over_ns; /* those that took less to compute are not kept; 0 = 5000 */
	struct dp_port_config ports[DP_MAX_PORTS];
};

STATIC_ASSERT(sizeof(struct dp_port_config) == 4 + 4 + 64 + 192 + 160 + 32 + 28 + 64, "no holes");
STATIC_ASSERT(sizeof(struct dp_config) % 8 == 0, "dp_config");
