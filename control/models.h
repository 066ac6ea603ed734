/* SPDX-License-Identifier: BSD-3-Clause
 * Model life cycle: LOADING -> VERIFIED -> STAGED -> LIVE -> RETIRED, one transition function; three
 * slots a model (next, current, previous). Loads run in the sandboxed millrace-loader child (an .onnx
 * is compiled by a millrace-model child first). Loop thread only.
 */
#pragma once

#include "abi/link.h"
#include "abi/mailbox.h"
#include "abi/model_file.h"
#include "control/control.h"

enum model_state { MODEL_EMPTY, MODEL_LOADING, MODEL_VERIFIED, MODEL_STAGED, MODEL_LIVE, MODEL_RETIRED,
	MODEL_FAILED };
const char *model_state_name(enum model_state s);

/* One artifact of a model. */
struct model_version {
	enum model_state state;
	uint64_t number;   /* never reused */
	uint32_t version;
	uint8_t artifact_id[MODEL_FILE_HASH_BYTES];
	uint64_t bytes;
	bool huge_pages, signed_ok;
	double load_s, load_gb_s;
	char note[256]; /* fallbacks taken, or why it failed */
	char path[256];
};

struct model_entry {
	uint32_t index; /* < DP_MAX_MODELS */
	char name[WIRE_MODEL_NAME_BYTES];
	uint32_t id; /* wire_model_id(name) */
	struct model_version next, current, previous; /* state MODEL_EMPTY = slot is free */
	struct model_file_header header; /* of current, else of next */
	struct mailbox_cache cache; /* its response caches; outlives versions and restarts */
};

/* Progress and end of a long operation; `done` is called exactly once, from the loop. */
struct model_job {
	void (*progress)(uint64_t done, uint64_t total, const char *text, void *arg);
	void (*done)(int rc, const struct model_entry *m, const struct error *err, void *arg);
	void *arg;
};

int models_init(struct control *ctl, struct error *err);
void models_uninit(struct control *ctl);

/* Load `path` (.mrm, or .onnx) as `name` (NULL = the artifact's) into the next slot; with `activate`
 * also make it current. 0 = job->done will be called; -errno = refused now, it will not be. */
int models_load(struct control *ctl, const char *path, const char *name, bool activate,
	bool dry_run, const struct model_job *job, struct error *err);
/* next -> current -> previous; previous -> current; all slots. Same return rule. */
int models_activate(struct control *ctl, const char *name, bool dry_run, const struct model_job *job,
	struct error *err);
int models_rollback(struct control *ctl, const char *name, bool dry_run, const struct model_job *job,
	struct error *err);
int models_unload(struct control *ctl, const char *name, bool dry_run, const struct model_job *job,
	struct error *err);

/* Give the model response caches like `cache`, live; the dataplane decides whether it can. Same return rule. */
int models_cache(struct control *ctl, const char *name, const struct mailbox_cache *cache, bool dry_run,
	const struct model_job *job, struct error *err);

const struct model_entry *models_find(struct control *ctl, const char *name); /* NULL = none */
int models_each(struct control *ctl, int (*fn)(const struct model_entry *m, void *arg), void *arg);
uint32_t models_live(struct control *ctl); /* models with a LIVE version */
/* model_mask for a comma-separated list ("" = all). -ENOENT names the unknown one in err. */
int models_mask(struct control *ctl, const char *names, uint64_t *mask, struct error *err);
