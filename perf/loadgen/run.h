/* SPDX-License-Identifier: BSD-3-Clause
 * One load run: send as the plan says, match answers, retry, measure.
 */
#pragma once

#include <signal.h>
#include <stdint.h>

#include "base/histogram.h"
#include "perf/loadgen/flood.h"
#include "perf/loadgen/options.h"
#include "perf/loadgen/sessions.h"
#include "perf/loadgen/transport.h"
#include "perf/loadgen/workload.h"

struct run_report {
	uint64_t sent;             /* requests, first sends */
	uint64_t answered;         /* typed answers of any kind */
	uint64_t status[WIRE_STATUS_END];
	uint64_t unanswered;
	uint64_t first_try_losses;
	uint64_t retries;          /* requests sent again */
	uint64_t queue_full;       /* times our send queue did not take everything; what was left was sent later */
	uint64_t held_back;        /* open loop: times a request that was due waited for answers to others */
	uint64_t epochs;           /* steps of the key ratchet, of all sessions */
	uint64_t late;             /* answers to requests already answered */
	uint64_t refused[CHANNEL_VERDICTS]; /* datagrams that failed a check, by reason */
	uint64_t unknown;          /* datagrams of no session of ours, or with impossible content */
	uint64_t measured;         /* results after the warm-up: what rate and latency speak of */
	double seconds;            /* from the first measured send to the last answer */
	uint64_t latency_ns[HISTOGRAM_BUCKETS];
	double min_us, max_us, mean_us;
	double max_gap_ms; /* longest time between two results */
	/* The first session's share, when a flood names it: in none of the latencies. */
	uint64_t victim_sent, victim_results;
	struct flood_report flood;
	double cpu_user_s, cpu_system_s; /* of this process, while it ran */
};

/* *stop: send no new requests but wait for those outstanding; STOP_NOW: do not even wait. */
enum { STOP_SENDING = 1, STOP_NOW = 2 };

/* Run to the end, or until *stop; `flood` may be NULL. 0 with *report, or -errno with err. */
int bench_run(struct run_report *report, const struct options *o, struct bench_sessions *sessions,
	struct workload *workload, struct transport *transport, struct flood *flood,
	const volatile sig_atomic_t *stop,
	struct error *err);
