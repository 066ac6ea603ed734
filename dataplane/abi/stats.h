/* SPDX-License-Identifier: BSD-3-Clause
 * Statistics of a running dataplane: one memfd, written by its workers with plain stores to lines of
 * their own, read by control through a read-only description. Numbers only grow; readers subtract.
 *
 *   +--------------+---------------------+---------------------+ ...
 *   | stats_header | stats_worker [0]    | stats_worker [1]    |
 *   +--------------+---------------------+---------------------+
 */
#pragma once

#include "abi/config.h"
#include "abi/types.h"
#include "abi/wire.h"

#define STATS_MAGIC 0x31415453524c494dull /* "MILRSTA1" */

enum { STATS_VERSION = 4 };

/* What became of every datagram that a worker received. The balance, always:
 *   RX + GATEWAY + TAKEN_OVER = COMPLETED (authentic requests) + HELD (segments that completed none)
 *        + NEIGHBOUR (questions answered) + HANDED_OVER + each DROP_* except DROP_REPLY_TX
 *        + stats_worker.waiting (requests that wait or run at this moment)
 * and COMPLETED = sum of the REPLY_* counters (replies the port took whole) + DROP_REPLY_TX.
 * One list: symbol, name, help. */
#define STATS_COUNTER_LIST(X)                                                                      \
	X(RX, "rx_packets", "packets received from the port")                                      \
	X(RX_BYTES, "rx_bytes", "bytes received from the port")                                    \
	X(TX, "tx_packets", "packets sent")                                                        \
	X(TX_BYTES, "tx_bytes", "bytes sent")                                                      \
	X(COMPLETED, "requests_completed", "authentic requests that got a typed answer")           \
	X(ROWS, "rows", "rows answered with a result")                                             \
	X(BATCHES, "batches", "batches run")                                                       \
	X(POLLS, "polls", "iterations of the poll loop")                                           \
	X(POLLS_EMPTY, "polls_empty", "iterations that found no packet")                           \
	X(REPLY_RESULT, "reply_result", "replies: RESULT")                                         \
	X(REPLY_BAD_REQUEST, "reply_bad_request", "replies: BAD_REQUEST")                          \
	X(REPLY_UNKNOWN_MODEL, "reply_unknown_model", "replies: UNKNOWN_MODEL")                    \
	X(REPLY_RATE_LIMITED, "reply_rate_limited", "replies: RATE_LIMITED")                       \
	X(REPLY_QUOTA_EXHAUSTED, "reply_quota_exhausted", "replies: QUOTA_EXHAUSTED")              \
	X(REPLY_OVERLOADED, "reply_overloaded", "replies: OVERLOADED")                             \
	X(REPLY_DEADLINE_EXCEEDED, "reply_deadline_exceeded", "replies: DEADLINE_EXCEEDED")        \
	X(REPLY_NOT_LICENSED, "reply_not_licensed", "replies: NOT_LICENSED")                       \
	X(REPLY_INTERNAL, "reply_internal", "replies: INTERNAL")                                   \
	X(HELD, "segments_held", "segments of requests, kept until the others came")               \
	X(NEIGHBOUR, "neighbour", "ARP, ND and ICMP echo answered")                                \
	X(GATEWAY, "gateway_requests", "requests that came over HTTPS instead of the port")         \
	X(HANDED_OVER, "handed_over", "packets handed to the worker that owns their lane")          \
	X(TAKEN_OVER, "taken_over", "packets that another worker opened and handed over")           \
	X(DROP_L2, "drop_l2", "dropped: Ethernet type or VLAN we do not serve, or truncated")      \
	X(DROP_L3, "drop_l3", "dropped: malformed IP header")                                      \
	X(DROP_FRAGMENT, "drop_fragment", "dropped: IP fragment")                                  \
	X(DROP_EXTENSION, "drop_extension", "dropped: IPv6 extension header or IPv4 options")      \
	X(DROP_ADDRESS, "drop_address", "dropped: not to us, or from an impossible address")       \
	X(DROP_L4, "drop_l4", "dropped: not UDP to the data port, or bad UDP length")              \
	X(DROP_CHECKSUM, "drop_checksum", "dropped: bad IP or UDP checksum")                       \
	X(DROP_LENGTH, "drop_length", "dropped: too short or too long for a datagram")             \
	X(DROP_VERSION, "drop_version", "dropped: unknown type, version, flag or lane")            \
	X(DROP_UNKNOWN_KEY, "drop_unknown_key", "dropped: no live session has this key id")        \
	X(DROP_SOURCE, "drop_source", "dropped: the session belongs to another address")           \
	X(DROP_FLOOD, "drop_flood", "dropped: stray of a source whose flood bucket was empty")      \
	X(DROP_BOXED, "drop_boxed", "dropped: stray of a source in the penalty box")               \
	X(DROP_EXPIRED, "drop_expired", "dropped: the session has expired")                        \
	X(DROP_REPLAY, "drop_replay", "dropped: counter seen before or too old")                   \
	X(DROP_EPOCH, "drop_epoch", "dropped: key epoch we do not hold")                           \
	X(DROP_FAILED_BUDGET, "drop_failed_budget", "dropped unopened: too many forgeries of this key id") \
	X(DROP_AUTH, "drop_auth", "dropped: authentication tag does not match")                    \
	X(DROP_SHOUTING, "drop_shouting", "dropped: over the plan, and RATE_LIMITED replies spent")  \
	X(DROP_REPLY_TX, "drop_reply_tx", "replies lost: transmit queue full, or no buffer for their segments")             \
	X(DROP_SEGMENT, "drop_segment", "dropped: segment that came before, or after the answer")  \
	X(DROP_NEIGHBOUR, "drop_neighbour", "dropped: ARP, ND or ICMP that asks nothing of us")    \
	X(DROP_OVERSIZE, "drop_oversize", "dropped: frame in several segments or over the MTU")    \
	X(DROP_HANDOVER, "drop_handover", "dropped: the lane's owner has a full ring, or is on another port")          \
	X(SEGMENTS_EXPIRED, "segments_expired", "requests whose other segments never came")        \
	X(SEGMENTS_EVICTED, "segments_evicted", "incomplete requests given up for want of room")   \
	X(REPEATED, "replies_repeated", "requests answered from the reply store")                  \
	X(STORE_EVICTED, "store_evicted", "kept replies that gave way to others")                  \
	X(STORE_EARLY, "store_evicted_early", "kept replies that gave way within a second: store too small") \
	X(LIMIT_CONTENDED, "limit_contended", "limiter charges that lost every race (refused)")    \
	X(LIMIT_CORRUPT, "limit_corrupt", "limiter slots with an impossible TAT, reset")           \
	X(MODEL_SWAPS, "model_swaps", "model activations seen by this worker")                     \
	X(MBUF_EMPTY, "mbuf_empty", "idle looks that found no free packet buffer: nothing can arrive") \
	X(QUEUED, "requests_queued", "requests that waited for their share of the core")           \
	X(LONG_RUNS, "long_runs", "runs longer than the slice, done between polls or on an engine core") \
	X(ENGINE_RUNS, "engine_runs", "of those, runs on an engine core")                          \
	X(SLEEPS, "sleeps", "times an idle worker slept (poll: adaptive)")

enum stats_counter {
#define X(sym, name, help) STATS_##sym,
	STATS_COUNTER_LIST(X)
#undef X
		STATS_COUNTERS
};

/* Stages of the poll loop, in flow order: cycles are summed per stage. */
#define STATS_STAGE_LIST(X)                                                                        \
	X(RX, "rx") X(PARSE, "parse") X(AUTH, "auth") X(LIMIT, "limit") X(BATCH, "batch")          \
	X(INFER, "infer") X(REPLY, "reply") X(TX, "tx")

enum stats_stage {
#define X(sym, name) STATS_STAGE_##sym,
	STATS_STAGE_LIST(X)
#undef X
		STATS_STAGES
};

/* Log-linear histogram of nanoseconds, 32 buckets per power of two (base/histogram.h). */
enum { STATS_HISTOGRAM_BUCKETS = 32 * 36 };

struct stats_model {
	uint64_t requests;
	uint64_t rows;
	uint64_t infer_cycles;
	uint64_t version; /* of the artifact that last answered */
};

/* What a run of an artifact costs by rows (dataplane/cost.h), as the workers have measured it. */
struct stats_cost {
	uint64_t number;    /* of the artifact (abi/link.h); 0 = none */
	uint32_t run_ns[8]; /* of 1, 2, 4 .. 128 rows */
	char kernels[64];   /* model_backend_name(); set before `number`, ends within */
};

enum { STATS_COST_SLOTS = 3 }; /* next, current, previous: link_model_slot - 1 */

/* A model's response caches, of all workers and loaded versions together. Written by the service thread four
 * times a second. */
struct stats_cache {
	uint64_t bytes;        /* taken; 0 = the model has none */
	uint64_t entries;      /* rows kept */
	uint64_t hits, misses; /* rows looked for since the start; a hit is in stats_model too */
	uint64_t expired;      /* of the misses: kept, but older than the TTL */
	uint64_t evicted;      /* rows that gave way to others */
};

struct stats_engine {
	uint64_t heartbeat_ns;
	uint64_t runs;
	uint64_t busy_cycles;
	uint32_t cpu;
	uint32_t state; /* as stats_worker.state */
} MR_ALIGNED(64);

struct stats_worker {
	uint64_t heartbeat_ns; /* CLOCK_MONOTONIC of the last clock read in the loop */
	uint64_t loops;
	uint32_t cpu;
	uint32_t port;
	uint32_t queue;
	uint32_t state; /* 0 starting, 1 polling, 2 stopped */
	uint64_t waiting;  /* requests that wait or run at this moment */
	uint64_t queue_ns; /* work that waits at this moment */
	uint64_t wide_bytes;  /* memory taken at start for requests and replies larger than a datagram */
	uint64_t store_bytes; /* the same for replies kept for retries, and how much of it is in use */
	uint64_t store_used_bytes;
	uint64_t counters[(STATS_COUNTERS + 7) & ~7];
	uint64_t stage_cycles[STATS_STAGES];
	uint64_t batch_rows[16]; /* batches by rows: bucket i = [2^i, 2^(i+1)) */
	struct stats_model models[DP_MAX_MODELS];
	uint64_t service_ns[STATS_HISTOGRAM_BUCKETS]; /* burst received -> reply queued */
	uint64_t wake_ns[STATS_HISTOGRAM_BUCKETS];    /* descriptor ready -> worker polls again */
} MR_ALIGNED(64);

struct stats_port {
	char device[64];
	uint8_t mac[8];
	uint32_t kind;
	uint32_t queues;
	uint32_t xdp_mode; /* 0 none, 1 native, 2 generic, 3 hardware, 4 unknown */
	uint32_t mtu;
};

struct stats_header {
	uint64_t magic;
	uint32_t version;
	uint32_t n_workers;
	uint64_t total_bytes;
	uint64_t tsc_hz;
	uint64_t started_ns;   /* CLOCK_MONOTONIC when the first worker polled */
	uint64_t service_heartbeat_ns;
	uint32_t pid;
	uint32_t generation;   /* of the session table */
	uint32_t licensed;     /* 1 = requests are answered */
	uint32_t huge_pages;   /* 1 = memory really is on huge pages */
	uint32_t n_ports;
	uint32_t limits_memfd; /* 1 = limits fallback in use */
	uint32_t n_engines;
	uint32_t poll;         /* enum dp_poll */
	struct stats_port ports[DP_MAX_PORTS];
	uint64_t pad[4];
} MR_ALIGNED(64);

struct stats_region {
	struct stats_header header;
	struct stats_worker workers[DP_MAX_WORKERS];
	struct stats_engine engines[DP_MAX_ENGINES];
	struct stats_cost costs[DP_MAX_MODELS][STATS_COST_SLOTS];
	struct stats_cache caches[DP_MAX_MODELS];
};
