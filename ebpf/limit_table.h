/* SPDX-License-Identifier: BSD-3-Clause
 * The limiter slots as control maps them, and changing a subscriber's limits while workers charge.
 *
 * The slots live in the pinned BPF array, or in a sealed memfd of the same layout where BPF is not
 * available (then no XDP looks at them, and the worker's own check is all there is).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "abi/limits.h"
#include "base/error.h"

struct limit_table {
	struct limit_slot *slots; /* LIMITS_MAX_SLOTS of them, shared with workers and XDP */
	size_t bytes;
	int fd;        /* offer as LINK_FD_LIMITS */
	bool is_memfd; /* owned; a map's fd belongs to struct xdp_maps */
};

/* What a subscriber may do. Exactly these units are what `millrace subscriber set` takes. */
struct limit_plan {
	double rate_per_s;         /* units a second; 0 = nothing is admitted */
	uint64_t burst_units;      /* admitted at once by an idle subscriber; at least 1. Below about
				    * 100 us of the rate (several workers, jitter) the rate itself is not reached */
	double refused_per_s;      /* RATE_LIMITED replies a second; 0 = the default below */
	uint64_t model_mask;
	uint32_t flags; /* LIMIT_ACTIVE and so on */
};

/* Rates are 0, or LIMIT_RATE_MIN..LIMIT_RATE_MAX. The interval is a whole number of 1/16 ns, rounded
 * to nearest: the admitted rate is off by at most rate / 32e9 of itself (0.003 % at 1 M/s, 0.1 % at
 * 30 M/s), always by the same factor, so it does not depend on how long one watches; a plan knows
 * the exact rate by limit_plan_rate(). A rate that would be off by more than 1 % (some above 320 M/s) is
 * refused. */
#define LIMIT_RATE_MIN 0.001
#define LIMIT_RATE_MAX 1e9

/* Map the slots of the BPF map `map_fd` (struct xdp_maps.limits), which stays the caller's. */
int limit_table_map(struct limit_table *t, int map_fd, struct error *err);

/* Make the fallback memfd: same layout, sealed against resizing. */
int limit_table_memfd(struct limit_table *t, struct error *err);

/* Unmap; closes the memfd, not a map's fd. Zeroed or failed tables may be passed. */
void limit_table_uninit(struct limit_table *t);

/* Give the slot new limits, live. Workers that charge meanwhile see the old limits or the new ones.
 * What the subscriber has used of its burst stays used, measured in units: the TAT is scaled to the
 * new interval and kept within the new burst, so a new rate counts from now on, up or down. `now_ns`
 * is CLOCK_MONOTONIC. -EINVAL/-ERANGE with the reason, and then nothing has changed. One caller a
 * slot at a time (control's loop). */
int limits_set(struct limit_slot *slot, const struct limit_plan *plan, uint64_t now_ns,
	struct error *err);

/* Would limits_set() take it? Changes nothing. */
int limits_check(const struct limit_plan *plan, struct error *err);

/* Empty the slot for its next owner: nothing admitted, bucket and usage at zero, not active. */
void limits_clear(struct limit_slot *slot);

/* Does the slot still hold the limits that limits_set(plan) stored? False after tampering: call
 * limits_set() again and raise an alarm. */
bool limits_intact(const struct limit_slot *slot, const struct limit_plan *plan);

/* Units a second that the slot's interval really admits; 0 for an empty slot. */
double limits_rate(const struct limit_slot *slot);
