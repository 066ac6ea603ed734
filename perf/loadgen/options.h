/* SPDX-License-Identifier: BSD-3-Clause
 * What the operator of millrace-bench asked for: one table makes parser and help.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

enum bench_order { ORDER_RANDOM, ORDER_RR, ORDER_ZIPF };

/* What floods the server beside the measured traffic: symbol, name, help. */
#define FLOOD_LIST(X)                                                                              \
	X(NONE, "none", "nothing")                                                                 \
	X(JUNK, "junk", "noise to the data port")                                                  \
	X(UNKNOWN, "unknown", "well-formed headers with random key ids")                           \
	X(FORGED, "forged", "the first session's key id, counters and address, without the key")   \
	X(REPLAY, "replay", "64 genuine requests, again and again")                                \
	X(OVERLIMIT, "overlimit", "genuine requests of the subscriber --flood-key")

enum flood_kind {
#define X(sym, name, help) FLOOD_##sym,
	FLOOD_LIST(X)
#undef X
		FLOOD_KINDS
};

/* Strings point into argv. */
struct options {
	const char *port;     /* udp | udp:ADDRESS | memif:SOCKET | af_xdp:INTERFACE */
	const char *address;  /* our address on the data network */
	const char *url;      /* control, to enrol */
	const char *key;
	const char *ca;
	const char *pin;
	bool insecure;
	const char *fixed;    /* KEY_ID:SECRET_HEX, for the measuring peers in perf/peers only */
	const char *artifact; /* with fixed: the model's shape and name */
	const char *server;   /* with fixed: ADDRESS:PORT of the peer */
	const char *model;
	const char *rows;     /* .npy inputs */
	const char *expect;   /* .npy outputs */
	const char *labels;   /* .npy classes */
	const char *json;
	const char *order_name;
	enum bench_order order;
	const char *flood_name;
	enum flood_kind flood;
	const char *flood_address; /* where the flood comes from; default: ours */
	const char *flood_key;     /* replay, overlimit: who floods */
	const char *flood_model;   /* replay, overlimit: what it asks */
	double flood_rate;
	uint64_t flood_count;
	const char *mac;      /* dpdk: the server's MAC; default: ask by ARP */
	const char *vdev;     /* dpdk: more device arguments */
	double rtol, atol;
	double rate;          /* requests a second, 0 = closed loop */
	double seconds;
	uint64_t count;
	uint64_t warmup;
	uint64_t seed;
	uint64_t epoch_datagrams;
	uint32_t sessions;
	uint32_t window;
	uint32_t rows_per_request;
	uint32_t attempts;
	uint32_t timeout_ms;
	uint32_t stuck_ms;
	int32_t core;         /* -1 = any */
	bool poisson;
	bool sleep;
	bool preseal;
	bool summary;
	bool quiet;
	bool huge;
	bool help;
};

/* Parse argv into *o, defaults first. 0, or -EINVAL with err naming the option. */
int options_parse(struct options *o, int argc, char **argv, struct error *err);

/* The help text, from the same table, on stdout. */
void options_help(void);
