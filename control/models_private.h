/* SPDX-License-Identifier: BSD-3-Clause
 * Models inside control: entries, slots, jobs. Shared by models.c (state and questions), model_jobs.c
 * (operations), model_link.c (what the dataplane holds) and model_state.c.
 */
#pragma once

#include "control/attach.h"
#include "control/model_load.h"
#include "control/models.h"

struct event;

enum model_event { MODEL_EV_LOAD, MODEL_EV_VERIFIED, MODEL_EV_STAGED, MODEL_EV_ACTIVATED,
	MODEL_EV_REPLACED, MODEL_EV_LOST, MODEL_EV_FAILED, MODEL_EV_DROPPED, MODEL_EVENTS };

/* The transition function: false = the event means nothing in this state. */
bool model_transition(struct model_version *v, enum model_event e, const char *name);

/* An artifact we hold: what is shown of it, its memfd, its header. */
struct held {
	struct model_version v;
	int fd; /* -1 = none */
	struct model_file_header header;
};

/* A load of what was live before control started, or of models.preload (`known` false). */
struct model_at_start {
	bool known;
	uint8_t artifact[MODEL_FILE_HASH_BYTES];
};

enum job_kind { JOB_LOAD, JOB_ACTIVATE, JOB_ROLLBACK, JOB_UNLOAD, JOB_CACHE };

struct job {
	struct control *ctl;
	enum job_kind kind;
	uint32_t index;
	bool activate, dry_run, at_start;
	bool named; /* the model's name came with this job: it goes when nothing was loaded */
	bool compiled; /* held.v.path is a file we made */
	bool waiting;  /* for a dataplane; models_attached() goes on */
	enum mailbox_command command; /* sent last */
	bool commanded; /* a command's acknowledgement is outstanding */
	uint32_t tries;
	uint64_t aim; /* the artifact that shall be current in the end, 0 = none */
	struct held held; /* LOAD: what is being loaded */
	struct mailbox_cache cache; /* CACHE: what is wanted */
	struct model_load *load;
	struct event *timer; /* deadline of a wait, or the next try */
	struct model_job user;
	struct model_at_start expect;
};

struct model {
	struct model_entry pub; /* what models_find() returns: rebuilt by model_publish() */
	struct held next, current, previous;
	struct job *job; /* one at a time */
};

enum { MODELS_RELEASING = 256 };

struct models {
	struct model all[DP_MAX_MODELS]; /* an empty pub.name = the index is free */
	uint64_t last_number;
	struct model_keys keys;
	struct { uint64_t number; int fd; } releasing[MODELS_RELEASING]; /* number 0 = free */
	struct event *cold; /* tries the cold start until it is known what a dataplane holds */
	bool cold_done;
	struct trace_run *trace; /* traces.c; NULL = none */
};

const struct model_keys *models_keys(const struct control *ctl);
/* Rebuild the public entry after any change. */
void model_publish(struct model *m);
bool model_in_use(const struct model *m);
struct model *model_by_name(struct control *ctl, const char *name);
/* The index of `name`, persisted; assigned when it is new. -EEXIST (wire id collides), -ENOSPC. */
int model_index_for(struct control *ctl, const char *name, uint32_t *index, struct error *err);
/* An artifact that control compiled itself: its file goes with the last slot that holds it. */
void model_forget_compiled(const struct control *ctl, const struct model *m, const struct held *h);
/* Give a slot's artifact up; its memfd is closed when the dataplane has let go of it. */
void model_drop(struct control *ctl, struct model *m, struct held *h);
/* next -> current -> previous, previous -> current, nothing: after the dataplane said so. */
void model_shift(struct control *ctl, struct model *m);
void model_unshift(struct control *ctl, struct model *m);
void model_clear(struct control *ctl, struct model *m);
/* A name that nothing was ever loaded under: its index is free again. */
void model_forget_name(struct control *ctl, struct model *m);
/* Persist which artifact is current. */
void model_remember(struct control *ctl, const struct model *m);
/* Persist and publish the response caches the dataplane has agreed to. 0 or -errno with err. */
int model_keep_cache(struct control *ctl, struct model *m, const struct mailbox_cache *cache, struct error *err);
/* Tell a dataplane that attaches, or one that knows another model under this index. */
void model_send_cache(struct control *ctl, const struct model *m);
/* Where an adopted artifact was loaded from, if it is the one remembered. */
void model_recall(struct control *ctl, const struct model *m, struct model_version *v);
/* The licence has room for `m` going live. 0 or -errno with err. */
int model_licensed(struct control *ctl, const struct model *m, struct error *err);

/* model_jobs.c */
void model_jobs_resume(struct control *ctl);
void model_jobs_cancel(struct control *ctl);
int model_job_load(struct control *ctl, const char *path, const char *name, bool activate,
	bool dry_run, const struct model_job *user, const struct model_at_start *start,
	struct error *err);
