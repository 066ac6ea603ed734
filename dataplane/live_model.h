/* SPDX-License-Identifier: BSD-3-Clause
 * One artifact in the dataplane: mapped read-only, proven, with memory to run it on every worker, and what
 * its runs cost. Made and freed by the service thread; workers read it.
 */
#pragma once

#include <stdbool.h>

#include "abi/config.h"
#include "abi/link.h"
#include "abi/model_file.h"
#include "base/error.h"
#include "cache.h"
#include "cost.h"
#include "models/run/model.h"

enum { MODEL_RUN_ROWS = 256 }; /* rows of one run; larger groups are run in pieces */

/* What one worker knows of a model, on a line of its own: written by that worker alone, but for the pointer. */
struct model_use {
	struct cost_table cost;
	struct cache *cache; /* atomic; of `caches` below, or NULL; exchanged by the service thread */
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
	struct model_use *uses; /* [workers] */
	uint32_t n_f32;    /* stretches of f32 elements in an input row */
	struct { uint32_t offset, n; } f32[MODEL_FILE_MAX_IO];
	struct run *runs[DP_MAX_WORKERS];
	/* of each worker, or engine where there are any, for runs that are suspended; NULL = no request of
	 * this model takes longer than a slice */
	struct run *job_runs[DP_MAX_WORKERS];
	/* service thread only */
	struct model *model;
	struct cache_set *caches; /* NULL = none */
	bool traced; /* its caches are being warmed (trace.h): it stays */
	struct link_artifact artifact; /* number, id; model_slot unused */
	char name[WIRE_MODEL_NAME_BYTES];
	int fd; /* read-only description of the artifact, to offer it again */
	void *map;
	size_t map_bytes;
	void *run_memory, *job_memory;
	size_t run_memory_bytes, job_memory_bytes;
};

struct live_model_options {
	uint32_t n_workers;
	enum model_backend backend;
	bool refuse_not_finite;
	uint64_t slice_ns; /* models whose largest request may run longer get job_runs ... */
	uint32_t n_jobs;   /* ... so many: one a worker, or one an engine; 0 = none */
};

/* Map, check, warm up and measure the artifact behind `fd` (duplicated). 0 or -errno with err. */
int live_model_new(struct live_model **out, int fd, const struct link_artifact *a,
	const struct live_model_options *o, struct error *err);
void live_model_free(struct live_model *m); /* NULL allowed */

/* New, empty response caches for `m`, not published yet; *out NULL when config->memory_kb is 0. 0; -EINVAL or
 * -ENOMEM with err. */
int live_model_caches_new(struct cache_set **out, const struct live_model *m, const struct mailbox_cache *config,
	uint32_t n_workers, struct error *err);
/* Show them to the workers. Returns those that were there before: to be freed when every worker has begun
 * another burst. */
struct cache_set *live_model_caches_set(struct live_model *m, struct cache_set *caches, uint32_t n_workers);

/* Does any worker hold a request for it? Once it is unpublished and every worker has begun another burst, a
 * no is final. */
bool live_model_held(const struct live_model *m, uint32_t n_workers);
