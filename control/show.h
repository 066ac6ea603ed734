/* SPDX-License-Identifier: BSD-3-Clause
 * What the appliance says about itself, as JSON: the answers of `status` and `show.*` on the control
 * socket. Every function returns a new reference, or NULL when out of memory. Loop thread only.
 */
#pragma once

#include <jansson.h>

#include "abi/stats.h"
#include "control/control.h"
#include "control/models.h"
#include "control/subscribers.h"

/* Requests answered, sampled once a second by ctl_socket.c, so that `status` can name a rate. */
struct show_rate {
	uint64_t last_count, last_ns;
	double per_s;
};
void show_rate_sample(struct show_rate *r, struct control *ctl);

json_t *show_status(struct control *ctl, const struct show_rate *rate);
json_t *show_workers(struct control *ctl);
/* Raw counters since the dataplane started, for `millrace top`, which subtracts two of them. */
json_t *show_top(struct control *ctl);
json_t *show_models(struct control *ctl);
json_t *show_sessions(struct control *ctl, uint32_t limit);
json_t *show_subscribers(struct control *ctl);
json_t *show_plans(struct control *ctl);
json_t *show_limits(struct control *ctl);
json_t *show_drops(struct control *ctl);
json_t *show_license(struct control *ctl);

/* Building blocks, also used by the commands' answers and the HTTPS API. */
json_t *show_model(const struct model_entry *m);
/* How idle workers wait, how often they slept, and how long waking takes; null without a dataplane. */
json_t *show_poll(const struct stats_region *s);
/* What a run of artifact `number` costs, [[rows, ns], ...] as the workers have measured it; null when they
 * do not hold it. */
json_t *show_cost(struct control *ctl, uint32_t model_index, uint64_t number);
/* The kernels it runs on, "native avx512-vnni", by the same rule. */
json_t *show_kernels(struct control *ctl, uint32_t model_index, uint64_t number);
/* What the response caches of a model do: bytes, entries, hits, misses, hit_ratio (null before the first row),
 * expired, evicted; of all models together with SHOW_ALL_MODELS. Zeros without a dataplane. */
enum { SHOW_ALL_MODELS = DP_MAX_MODELS };
json_t *show_cache(struct control *ctl, uint32_t model_index);
json_t *show_model_ios(const struct model_file_io *io, uint32_t n, bool batch_dim);
json_t *show_subscriber(const struct subscriber *s);
json_t *show_plan(const struct plan *p);
const char *show_xdp_mode(uint32_t mode);
/* Sum of all DROP_* counters of the dataplane, and of XDP's. */
uint64_t show_drops_total(struct control *ctl);
