/* SPDX-License-Identifier: BSD-3-Clause
 * What the operator of millrace-bench asked for: one table makes parser and help.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

enum bench_order { ORDER_RANDOM, ORDER_RR, ORDER_ZIPF };

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
	const char *mac;      /* dpdk: the server's MAC; default: ask by ARP */
	const char *vdev;     /* dpdk: more device arguments */
	double rtol, atol;
	double rate;          /* requests a second, 0 = closed loop */
	double seconds;
	uint64_t count;
	uint64_t warmup;
	uint64_t seed;
	uint32_t sessions;
	uint32_t window;
	uint32_t rows_per_request;
	uint32_t attempts;
	uint32_t timeout_ms;
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
