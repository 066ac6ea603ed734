/* SPDX-License-Identifier: BSD-3-Clause
 * Open-loop arrivals: when each request was meant to be sent, whatever the server does. Latency is
 * measured from that time, so a stall is charged to every request it delayed (no coordinated
 * omission).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct arrivals {
	double next_tsc;
	double gap_tsc; /* mean */
	bool poisson;
	uint64_t random;
};

/* `rate` requests a second from start_tsc on; constant gaps, or exponential ones. */
void arrivals_init(struct arrivals *a, double rate, uint64_t tsc_hz, bool poisson, uint64_t seed,
	uint64_t start_tsc);

/* If a request is due at now_tsc: true, and *intended_tsc is when. */
bool arrivals_take(struct arrivals *a, uint64_t now_tsc, uint64_t *intended_tsc);
