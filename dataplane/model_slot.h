/* SPDX-License-Identifier: BSD-3-Clause
 * Models in the dataplane: artifacts mapped read-only, three slots a model (next, current,
 * previous), and the immutable set of current models that workers look at once a burst.
 *
 *   offer (fd) -> pending --stage--> next --activate--> current --activate--> previous --> released
 *                                              ^-------------rollback------------^
 *
 * Every change builds a new set and publishes it by one pointer store; the old set, and a model
 * that left its last slot, are freed when all workers have begun another burst (quiesce.h) and none holds
 * a request for it (model_use.held). All
 * functions: service thread. Workers only use model_set_find() on the published set.
 */
#pragma once

#include <stdbool.h>

#include "abi/config.h"
#include "abi/link.h"
#include "abi/mailbox.h"
#include "abi/stats.h"
#include "base/error.h"
#include "live_model.h"
#include "quiesce.h"

enum {
	MODEL_SET_BUCKETS = 4 * DP_MAX_MODELS,
	MODEL_PENDING = 16,   /* artifacts offered but not staged yet */
	MODEL_RETIRED = 64,
};

/* Immutable: model id -> current model. */
struct model_set {
	uint32_t n;
	const struct live_model *buckets[MODEL_SET_BUCKETS]; /* linear probing */
};

static inline const struct live_model *model_set_find(const struct model_set *s, uint32_t model_id)
{
	for (uint32_t i = model_id;; i++) {
		const struct live_model *m = s->buckets[i % MODEL_SET_BUCKETS];

		if (!m || m->model_id == model_id)
			return m;
	}
}

struct model_entry {
	struct live_model *next, *current, *previous;
};

/* What workers may still look at: one of the three. */
struct model_retired {
	struct live_model *model;
	struct model_set *set;
	struct cache_set *caches;
	uint32_t index; /* of the model, or the caches' model */
	struct quiesce_snapshot since;
};

struct model_pending {
	int fd; /* -1 = free */
	struct link_artifact artifact;
};

struct model_table {
	struct model_set *published; /* atomic; never NULL after init */
	const struct quiesce *quiesce;
	struct live_model_options options;
	struct model_entry entries[DP_MAX_MODELS];
	struct model_pending pending[MODEL_PENDING];
	struct model_retired retired[MODEL_RETIRED];
	struct mailbox_cache cache[DP_MAX_MODELS]; /* what control wants of each model's response caches */
	struct cache_counters past[DP_MAX_MODELS]; /* of caches that are gone; entries 0 */
	/* called once for each released artifact */
	void (*released)(void *ctx, uint32_t index, uint64_t number);
	void *released_ctx;
};

int model_table_init(struct model_table *t, const struct quiesce *q, const struct live_model_options *o);
/* Frees everything; no worker may poll any more. */
void model_table_uninit(struct model_table *t);

/* Take note of an offered artifact (fd consumed, also on failure). One that names a slot we have
 * empty (a dataplane that is new) is staged into it at once. -EEXIST = we have it already (not an
 * error for the caller). */
int model_table_offer(
	struct model_table *t, int fd, const struct link_artifact *a, struct error *err);
bool model_table_has(const struct model_table *t, uint64_t number);

/* The commands of abi/mailbox.h. 0 or -errno with err; idempotent. The running model stays on
 * failure. */
int model_table_stage(struct model_table *t, uint64_t index, uint64_t number, struct error *err);
int model_table_activate(struct model_table *t, uint64_t index, struct error *err);
int model_table_rollback(struct model_table *t, uint64_t index, struct error *err);
int model_table_unload(struct model_table *t, uint64_t index, struct error *err);

/* The response caches of a model, of every version of it: from now on, and of versions to come. The same as
 * before changes nothing; anything else begins with empty ones. -EINVAL, -ENOMEM: nothing has changed. */
int model_table_cache(struct model_table *t, uint64_t index, const struct mailbox_cache *config,
	struct error *err);

/* Write down for control what the caches do, of all workers and versions together. */
void model_table_caches(const struct model_table *t, struct stats_cache out[DP_MAX_MODELS]);

/* Write down for control what runs cost, by slot; the mean of what the workers have seen. */
void model_table_costs(const struct model_table *t, struct stats_cost out[DP_MAX_MODELS][STATS_COST_SLOTS]);

/* Free what no worker uses any more. Call every millisecond or so. */
void model_table_reap(struct model_table *t);
