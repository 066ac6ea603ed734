/* SPDX-License-Identifier: BSD-3-Clause
 * A flood beside the measured traffic: packets built before the clock starts, sent at a given rate by the same
 * thread, bounded in count and, with the run, in time. For our own appliances in private namespaces only.
 */
#pragma once

#include "perf/loadgen/options.h"
#include "perf/loadgen/sessions.h"
#include "perf/loadgen/transport.h"

struct flood;

struct flood_report {
	uint64_t sent;
	uint64_t replies; /* kernel sockets: datagrams that came back; DPDK: not looked at */
	double seconds;   /* from the start to the last packet */
};

/* Enrol what the kind needs, build the packets, and take a second sender over `t`. `ours` are the sessions of
 * the measured traffic: a forger names the first of them. 0 or -errno with err. */
int flood_open(struct flood **out, const struct options *o, const struct bench_sessions *ours,
	struct transport *t, struct error *err);
void flood_close(struct flood *f); /* NULL allowed */

/* The clock starts. */
void flood_start(struct flood *f, uint64_t now_tsc, uint64_t tsc_hz);

/* Send what is due by now, a few packets at most, so that the measured traffic waits for no more than those.
 * 0 or -errno. */
int flood_turn(struct flood *f, uint64_t now_tsc);

void flood_read(const struct flood *f, struct flood_report *out);
