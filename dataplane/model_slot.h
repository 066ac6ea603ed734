/* SPDX-License-Identifier: BSD-3-Clause
 * Models in the dataplane: artifacts mapped read-only, three slots a model (next, current,
 * previous), and the immutable set of current models that workers look at once a burst.
 *
 *   offer (fd) -> pending --stage--> next --activate--> current --activate--> previous --> released
 *                                              ^-------------rollback------------^
 *
 * Every change builds a new set and publishes it by one pointer store; the old set, and a model
 * that left its last slot, are freed when all workers have begun another burst (quiesce.h). All
 * functions: service thread. Workers only use model_set_find() on the published set.
 */
#pragma once

#include <stdbool.h>

#include "abi/config.h"
#include "abi/link.h"
#include "abi/model_file.h"
#include "abi/stats.h"
#include "base/error.h"
#include "cost.h"
#include "models/run/model.h"
#include "quiesce.h"

enum {
	MODEL_RUN_ROWS = 256, /* rows of one run; larger groups are run in pieces */
	MODEL_SET_BUCKETS = 4 * DP_MAX_MODELS,
	MODEL_PENDING = 16,   /* artifacts offered but not staged yet */
	MODEL_RETIRED = 64,
};

/* What one worker knows of a model, on a line of its own: written by that worker alone. */
struct model_use {
	struct cost_table cost;
	uint32_t held; /* requests it keeps across polls; the artifact stays while there are any */
} MR_ALIGNED(64);

/* One artifact, proven and ready to run on every worker. Read-only once published, but for the
 * runs. */
struct live_model {
	uint32_t model_id; /* wire_model_id(name) */
	uint32_t index;    /* bit of limit_slot.model_mask */
	uint32_t row_in_bytes, row_out_bytes;
	uint32_t max_rows; /* of the artifact: the largest batch a request may bring */
	uint32_t run_rows; /* of a run */
	uint32_t cost_units;
	uint32_t version;
	uint8_t dtype_in, dtype_out; /* of the first input, output */
	bool check_finite;
	uint32_t n_f32;    /* stretches of f32 elements in an input row */
	struct { uint32_t offset, n; } f32[MODEL_FILE_MAX_IO];
	struct run *runs[DP_MAX_WORKERS];
	struct model_use *uses; /* [workers] */
	/* service thread only */
	struct model *model;
	struct link_artifact artifact; /* number, id; model_slot unused */
	char name[WIRE_MODEL_NAME_BYTES];
	int fd; /* read-only description of the artifact, to offer it again */
	void *map;
	size_t map_bytes;
	void *run_memory;
	size_t run_memory_bytes;
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

struct model_retired {
	struct live_model *model; /* NULL = only the set */
	struct model_set *set;
	struct quiesce_snapshot since;
};

struct model_pending {
	int fd; /* -1 = free */
	struct link_artifact artifact;
};

struct model_table {
	struct model_set *published; /* atomic; never NULL after init */
	const struct quiesce *quiesce;
	uint32_t n_workers;
	enum model_backend backend;
	bool refuse_not_finite;
	struct model_entry entries[DP_MAX_MODELS];
	struct model_pending pending[MODEL_PENDING];
	struct model_retired retired[MODEL_RETIRED];
	/* called once for each released artifact */
	void (*released)(void *ctx, uint32_t index, uint64_t number);
	void *released_ctx;
};

int model_table_init(struct model_table *t, const struct quiesce *q, uint32_t n_workers,
	enum model_backend backend, bool refuse_not_finite);
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

/* Write down for control what runs cost, by slot; the mean of what the workers have seen. */
void model_table_costs(const struct model_table *t, struct stats_cost out[DP_MAX_MODELS][STATS_COST_SLOTS]);

/* Free what no worker uses any more. Call every millisecond or so. */
void model_table_reap(struct model_table *t);

/* Open an artifact on its own, for the table and for tests that need no table. `fd` is duplicated.
 */
int live_model_new(struct live_model **out, int fd, const struct link_artifact *a,
	uint32_t n_workers, enum model_backend backend, bool refuse_not_finite, struct error *err);
void live_model_free(struct live_model *m); /* NULL allowed */
