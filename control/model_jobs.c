/* SPDX-License-Identifier: BSD-3-Clause
 * Operations on models: load, activate, roll back, unload. One at a time for each model.
 *
 *   LOAD: children -> VERIFIED -> (wait for a dataplane) -> offer, STAGE -> STAGED -> [ACTIVATE -> LIVE]
 *
 * A dataplane that dies in the middle does not end a job: it waits for the next one and goes on.
 */
#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/log.h"
#include "control/license.h"
#include "control/models_private.h"
#include "control/store.h"
#include "control/subscribers.h"

enum { WAIT_S = 30, AGAIN_MS = 5, TRIES = 40, FINISHED = 2 };

static void go_on(struct job *j);

static struct model *model_of(const struct job *j)
{
	return &j->ctl->models->all[j->index];
}

/* ---- end ------------------------------------------------------------------------------------- */

static void job_free(struct job *j)
{
	model_of(j)->job = NULL;
	if (j->compiled && j->held.fd >= 0) /* it got into no slot */
		model_forget_compiled(j->ctl, model_of(j), &j->held);
	model_load_cancel(j->load);
	if (j->timer)
		event_free(j->timer);
	fd_close(j->held.fd);
	free(j);
}

static void finish(struct job *j, int rc, const struct error *err)
{
	struct control *ctl = j->ctl;
	struct model *m = model_of(j);
	struct model_job user = j->user;
	bool named = j->named;

	if (rc)
		log_warn("model %s: %s", m->pub.name, err ? err->text : strerror(-rc));
	if (rc && j->kind == JOB_LOAD && m->next.v.state == MODEL_EMPTY && !j->dry_run &&
		m->current.v.state != MODEL_EMPTY) {
		/* What failed stays visible beside the version that goes on serving. */
		model_transition(&j->held.v, MODEL_EV_FAILED, m->pub.name);
		snprintf(j->held.v.note, sizeof(j->held.v.note), "%.255s", err ? err->text : "");
		m->next.v = j->held.v;
	}
	job_free(j);
	model_publish(m);
	if (!rc)
		subscribers_apply_all(ctl);
	if (user.done)
		user.done(rc, &m->pub, err, user.arg);
	if (named && !model_in_use(m))
		model_forget_name(ctl, m);
}

static void fail(struct job *j, int rc, const char *what)
{
	struct error err;

	error_set(&err, rc, "%s: %s", what, strerror(-rc));
	finish(j, rc, &err);
}

void model_jobs_cancel(struct control *ctl)
{
	struct error err;

	error_set(&err, -ECANCELED, "control is stopping");
	for (uint32_t i = 0; ctl->models && i < DP_MAX_MODELS; i++)
		if (ctl->models->all[i].job && !ctl->models->all[i].job->commanded)
			finish(ctl->models->all[i].job, -ECANCELED, &err);
}

/* ---- waiting --------------------------------------------------------------------------------- */

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct job *j = arg;

	(void)fd;
	(void)what;
	if (j->waiting)
		fail(j, -EAGAIN, "no dataplane took it in time");
	else
		go_on(j);
}

static void timer(struct job *j, uint32_t ms)
{
	struct timeval tv = {ms / 1000, (suseconds_t)(ms % 1000) * 1000};

	evtimer_add(j->timer, &tv);
}

static void wait_for_dataplane(struct job *j)
{
	j->waiting = true;
	timer(j, WAIT_S * 1000);
}

void model_jobs_resume(struct control *ctl)
{
	for (uint32_t i = 0; i < DP_MAX_MODELS; i++) {
		struct job *j = ctl->models->all[i].job;

		if (j && j->waiting) {
			j->waiting = false;
			evtimer_del(j->timer);
			go_on(j);
		}
	}
}

/* ---- commands -------------------------------------------------------------------------------- */

static const char *verb(const struct job *j)
{
	static const char *const verbs[] = {"load", "activate", "roll back", "unload", "change the cache of"};

	return verbs[j->kind];
}

/* The dataplane did what `cmd` of this job asked for. */
static void done_in_dataplane(struct job *j)
{
	struct control *ctl = j->ctl;
	struct model *m = model_of(j);
	struct error err = {0};

	switch (j->kind) {
	case JOB_LOAD:
		if (j->command == CMD_MODEL_ACTIVATE) {
			model_shift(ctl, m);
			break;
		}
		if (m->next.v.state == MODEL_VERIFIED) /* an attach may have confirmed it already */
			model_transition(&m->next.v, MODEL_EV_STAGED, m->pub.name);
		model_publish(m);
		if (j->activate) {
			go_on(j);
			return;
		}
		break;
	case JOB_ACTIVATE:
		model_shift(ctl, m);
		break;
	case JOB_ROLLBACK:
		model_unshift(ctl, m);
		break;
	case JOB_UNLOAD:
		model_clear(ctl, m);
		break;
	case JOB_CACHE:
		model_keep_cache(ctl, m, &j->cache, &err);
		break;
	}
	finish(j, err.code, &err);
}

/* "the dataplane did not load it: no room for ...". */
static void refused(struct job *j, int result)
{
	const char *why = dp_link_refusal(j->ctl);
	struct error err;

	if (result == -ETIMEDOUT)
		why = "no acknowledgement in time; asking it anew what it holds, see millrace show models";
	else if (result == -ECANCELED)
		why = "control is stopping";
	error_set(&err, result, "the dataplane did not %s it: %s", verb(j),
		why[0] ? why : strerror(-result));
	finish(j, result, &err);
}

static void acked(int result, void *arg)
{
	struct job *j = arg;
	struct control *ctl = j->ctl;

	j->commanded = false;
	if (!result) {
		done_in_dataplane(j);
	} else if (result == -ECONNRESET && j->ctl->models && j->ctl->supervisor) {
		wait_for_dataplane(j);
	} else if (result == -ENOENT && j->kind == JOB_LOAD && ++j->tries < TRIES) {
		timer(j, AGAIN_MS); /* the offer is still on its way through the socket */
	} else {
		refused(j, result);
		if (result == -ETIMEDOUT) /* it may have done it after all */
			dp_link_reattach(ctl, "a model command was not acknowledged");
	}
}

static int command(struct job *j, enum mailbox_command cmd, uint64_t b)
{
	int rc = dp_link_command(j->ctl, cmd, j->index, b, acked, j);

	j->commanded = !rc;
	j->command = cmd;
	return rc;
}

static int stage(struct job *j)
{
	struct held *h = &model_of(j)->next;
	struct link_artifact a = {.model_index = j->index, .model_slot = LINK_SLOT_NONE,
		.number = h->v.number};
	int rc = 0;

	memcpy(a.artifact_id, h->v.artifact_id, sizeof(a.artifact_id));
	if (!j->tries)
		rc = dp_link_offer_artifact(j->ctl, h->fd, &a);
	return rc ? rc : command(j, CMD_MODEL_STAGE, h->v.number);
}

/* The licence was asked when the job began; since then others may have gone live. */
static int activate_licensed(struct job *j)
{
	struct error err = {0};

	if (j->at_start || !model_licensed(j->ctl, model_of(j), &err))
		return command(j, CMD_MODEL_ACTIVATE, 0);
	finish(j, err.code, &err);
	return FINISHED;
}

/* 1 = nothing is left to do. */
static int go_on_loading(struct job *j)
{
	switch (model_of(j)->next.v.state) {
	case MODEL_VERIFIED:
		return stage(j);
	case MODEL_STAGED:
		return j->activate ? activate_licensed(j) : 1;
	default:
		return -ENOENT; /* the dataplane refused it while attaching */
	}
}

/* Send the next command of this job, or wait until one can be sent. */
static void go_on(struct job *j)
{
	int rc;

	if (j->dry_run) {
		finish(j, 0, NULL);
		return;
	}
	if (dp_link_state(j->ctl) < DP_ATTACHED) {
		wait_for_dataplane(j);
		return;
	}
	if (j->aim && model_of(j)->current.v.number == j->aim) { /* seen at an attach: it was done */
		finish(j, 0, NULL);
		return;
	}
	switch (j->kind) {
	case JOB_LOAD:
		rc = go_on_loading(j);
		break;
	case JOB_ACTIVATE:
		rc = activate_licensed(j);
		break;
	case JOB_ROLLBACK:
		rc = command(j, CMD_MODEL_ROLLBACK, 0);
		break;
	case JOB_CACHE:
		rc = command(j, CMD_MODEL_CACHE, mailbox_cache_pack(&j->cache));
		break;
	default:
		rc = command(j, CMD_MODEL_UNLOAD, 0);
	}
	if (rc == FINISHED)
		return;
	if (rc == 1)
		finish(j, 0, NULL);
	else if (rc == -EAGAIN || rc == -ENOTCONN)
		timer(j, AGAIN_MS);
	else if (rc)
		fail(j, rc, verb(j));
}

/* ---- load ------------------------------------------------------------------------------------ */

static void on_progress(uint64_t done, uint64_t total, const char *text, void *arg)
{
	struct job *j = arg;

	if (j->user.progress)
		j->user.progress(done, total, text, j->user.arg);
}

static void describe(struct held *h, int fd, const struct loader_reply *r, const char *path)
{
	double s = (double)r->elapsed_ns / 1e9;

	h->fd = fd;
	h->header = r->header;
	h->v.version = r->header.model_version;
	h->v.bytes = r->header.file_bytes;
	memcpy(h->v.artifact_id, r->artifact_id, sizeof(h->v.artifact_id));
	h->v.huge_pages = r->huge_pages;
	h->v.signed_ok = r->signed_by != 0;
	h->v.load_s = s;
	h->v.load_gb_s = s > 0 ? (double)r->header.file_bytes / s / 1e9 : 0;
	snprintf(h->v.note, sizeof(h->v.note), "%.255s", r->text);
	snprintf(h->v.path, sizeof(h->v.path), "%.255s", path);
}

static int acceptable(struct job *j, const struct loader_reply *r, struct error *err)
{
	struct license_info lic;
	struct model *m = model_of(j);

	if (strncmp(r->header.name, m->pub.name, sizeof(r->header.name)))
		return error_set(err, -EINVAL, "the artifact is named %.63s, not %s", r->header.name,
			m->pub.name);
	if (j->expect.known && memcmp(j->expect.artifact, r->artifact_id, MODEL_FILE_HASH_BYTES))
		return error_set(err, -ESTALE, "%s is not the artifact that was live; load it again if "
			"it is meant", j->held.v.path);
	license_info(j->ctl, &lic);
	if (j->activate && (!j->at_start || lic.state == LICENSE_VALID ||
		lic.state == LICENSE_GRACE))
		return model_licensed(j->ctl, m, err);
	return 0;
}

static void on_loaded(int rc, int fd, const struct loader_reply *r, const char *path,
	const struct error *why, void *arg)
{
	struct job *j = arg;
	struct model *m = model_of(j);
	struct error err = {0};

	j->load = NULL;
	if (rc) {
		finish(j, rc, why);
		return;
	}
	j->compiled = strcmp(j->held.v.path, path) != 0;
	describe(&j->held, fd, r, path);
	rc = acceptable(j, r, &err);
	if (rc) {
		finish(j, rc, &err);
		return;
	}
	model_transition(&j->held.v, MODEL_EV_VERIFIED, m->pub.name);
	if (j->dry_run) {
		finish(j, 0, NULL);
		return;
	}
	model_drop(j->ctl, m, &m->next);
	m->next = j->held;
	j->held.fd = -1;
	model_publish(m);
	go_on(j);
}

/* ---- beginning ------------------------------------------------------------------------------- */

static int job_new(struct control *ctl, struct model *m, enum job_kind kind,
	const struct model_job *user, struct job **out, struct error *err)
{
	struct job *j;

	if (m->job)
		return error_set(err, -EBUSY, "another operation on %s is not finished: %s",
			m->pub.name, verb(m->job));
	j = calloc(1, sizeof(*j));
	if (!j)
		return error_set(err, -ENOMEM, "out of memory");
	j->ctl = ctl;
	j->kind = kind;
	j->index = (uint32_t)(m - ctl->models->all);
	j->held.fd = -1;
	j->user = *user;
	j->timer = evtimer_new(ctl->base, on_timer, j);
	m->job = j;
	if (j->timer) {
		*out = j;
		return 0;
	}
	job_free(j);
	return error_set(err, -ENOMEM, "out of memory");
}

static int next_number(struct control *ctl, uint64_t *number, struct error *err)
{
	*number = ctl->models->last_number + 1;
	ctl->models->last_number = *number;
	return store_run(ctl->store, err, "INSERT INTO counter (name, value) VALUES ('artifact', ?1) "
		"ON CONFLICT (name) DO UPDATE SET value = ?1", "i", (int64_t)*number);
}

int model_job_load(struct control *ctl, const char *path, const char *name, bool activate,
	bool dry_run, const struct model_job *user, const struct model_at_start *start,
	struct error *err)
{
	char own[WIRE_MODEL_NAME_BYTES];
	struct model_load_spec spec = {.path = path, .progress = on_progress, .done = on_loaded};
	struct job *j;
	uint32_t index;
	int rc = model_load_name(path, own, sizeof(own), err);
	bool named;

	if (!name || !name[0])
		name = own;
	named = !rc && !model_by_name(ctl, name);
	if (!rc)
		rc = model_index_for(ctl, name, &index, err);
	if (!rc)
		rc = job_new(ctl, &ctl->models->all[index], JOB_LOAD, user, &j, err);
	if (rc)
		return rc;
	j->activate = activate;
	j->dry_run = dry_run;
	j->at_start = start != NULL;
	j->named = named;
	if (start)
		j->expect = *start;
	spec.name = model_of(j)->pub.name;
	spec.arg = j;
	rc = next_number(ctl, &spec.number, err);
	j->held.v.number = spec.number;
	j->aim = activate ? spec.number : 0;
	snprintf(j->held.v.path, sizeof(j->held.v.path), "%.255s", path);
	if (!rc) {
		if (model_of(j)->next.v.state == MODEL_FAILED)
			model_drop(ctl, model_of(j), &model_of(j)->next);
		model_transition(&j->held.v, MODEL_EV_LOAD, model_of(j)->pub.name);
		rc = model_load_start(&j->load, ctl, &spec, err);
	}
	if (rc)
		job_free(j);
	model_publish(&ctl->models->all[index]);
	if (rc && named)
		model_forget_name(ctl, &ctl->models->all[index]);
	return rc;
}

int models_load(struct control *ctl, const char *path, const char *name, bool activate,
	bool dry_run, const struct model_job *job, struct error *err)
{
	return model_job_load(ctl, path, name, activate, dry_run, job, NULL, err);
}

/* Begin a job without a load; what `needs` must be in its slot. */
static int begin(struct control *ctl, const char *name, enum job_kind kind, bool dry_run,
	const struct model_job *user, struct job **out, struct error *err)
{
	struct model *m = model_by_name(ctl, name);
	struct job *j;
	int rc;

	if (!m || !model_in_use(m))
		return error_set(err, -ENOENT, "no model %.63s is loaded", name);
	if (kind == JOB_ACTIVATE && m->next.v.state != MODEL_STAGED &&
		m->next.v.state != MODEL_VERIFIED)
		return error_set(err, -ENOENT, "model %s has no next version: load one first", name);
	if (kind == JOB_ROLLBACK && m->previous.v.state == MODEL_EMPTY)
		return error_set(err, -ENOENT, "model %s has no previous version", name);
	rc = kind == JOB_ACTIVATE ? model_licensed(ctl, m, err) : 0;
	if (!rc)
		rc = job_new(ctl, m, kind, user, &j, err);
	if (rc)
		return rc;
	j->dry_run = dry_run;
	if (kind == JOB_ACTIVATE)
		j->aim = m->next.v.number;
	else if (kind == JOB_ROLLBACK)
		j->aim = m->previous.v.number;
	timer(j, 0); /* from the loop: `done` never comes before we have returned */
	if (out)
		*out = j;
	return 0;
}

int models_activate(struct control *ctl, const char *name, bool dry_run, const struct model_job *job,
	struct error *err)
{
	return begin(ctl, name, JOB_ACTIVATE, dry_run, job, NULL, err);
}

int models_rollback(struct control *ctl, const char *name, bool dry_run, const struct model_job *job,
	struct error *err)
{
	return begin(ctl, name, JOB_ROLLBACK, dry_run, job, NULL, err);
}

int models_unload(struct control *ctl, const char *name, bool dry_run, const struct model_job *job,
	struct error *err)
{
	return begin(ctl, name, JOB_UNLOAD, dry_run, job, NULL, err);
}

int models_cache(struct control *ctl, const char *name, const struct mailbox_cache *cache, bool dry_run,
	const struct model_job *job, struct error *err)
{
	struct job *j;
	int rc = begin(ctl, name, JOB_CACHE, dry_run, job, &j, err);

	if (!rc)
		j->cache = *cache;
	return rc;
}
