/* SPDX-License-Identifier: BSD-3-Clause
 * What models exist, in which slots, and what is persisted of them. See models.h; operations are in
 * model_jobs.c, the dataplane's side in model_link.c.
 */
#include <errno.h>
#include <event2/event.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "control/config.h"
#include "control/dp_link.h"
#include "control/license.h"
#include "control/models_private.h"
#include "control/store.h"
#include "control/subscribers.h"
#include "control/supervisor.h"
#include "control/traces.h"

enum { COLD_MS = 20 };

const struct model_keys *models_keys(const struct control *ctl)
{
	return &ctl->models->keys;
}

bool model_in_use(const struct model *m)
{
	return m->next.v.state != MODEL_EMPTY || m->current.v.state != MODEL_EMPTY ||
	       m->previous.v.state != MODEL_EMPTY || m->job;
}

void model_publish(struct model *m)
{
	m->pub.next = m->next.v;
	m->pub.current = m->current.v;
	m->pub.previous = m->previous.v;
	/* What is being loaded shows in `next`, unless something staged stands there. */
	if (m->job && m->job->kind == JOB_LOAD && m->next.v.state == MODEL_EMPTY)
		m->pub.next = m->job->held.v;
	if (m->current.v.state != MODEL_EMPTY)
		m->pub.header = m->current.header;
	else if (m->next.v.state != MODEL_EMPTY)
		m->pub.header = m->next.header;
}

struct model *model_by_name(struct control *ctl, const char *name)
{
	for (uint32_t i = 0; name && name[0] && i < DP_MAX_MODELS; i++)
		if (!strcmp(ctl->models->all[i].pub.name, name))
			return &ctl->models->all[i];
	return NULL;
}

const struct model_entry *models_find(struct control *ctl, const char *name)
{
	struct model *m = model_by_name(ctl, name);

	return m && model_in_use(m) ? &m->pub : NULL;
}

int models_each(struct control *ctl, int (*fn)(const struct model_entry *m, void *arg), void *arg)
{
	int rc = 0;

	for (uint32_t i = 0; !rc && i < DP_MAX_MODELS; i++)
		if (model_in_use(&ctl->models->all[i]))
			rc = fn(&ctl->models->all[i].pub, arg);
	return rc;
}

uint32_t models_live(struct control *ctl)
{
	uint32_t n = 0;

	for (uint32_t i = 0; ctl->models && i < DP_MAX_MODELS; i++)
		n += ctl->models->all[i].current.v.state != MODEL_EMPTY;
	return n;
}

int models_mask(struct control *ctl, const char *names, uint64_t *mask, struct error *err)
{
	*mask = names[0] ? 0 : ~0ull;
	while (*names) {
		char name[WIRE_MODEL_NAME_BYTES];
		size_t n = strcspn(names, ",");
		const struct model *m;

		if (n >= sizeof(name))
			return error_set(err, -ENOENT, "no model %.63s...", names);
		memcpy(name, names, n);
		name[n] = 0;
		m = model_by_name(ctl, name);
		if (!m)
			return error_set(err, -ENOENT, "no model '%s' was ever loaded", name);
		*mask |= 1ull << m->pub.index;
		names += n + (names[n] == ',');
	}
	return 0;
}

/* Other models whose first activation is on its way to the dataplane. */
static uint32_t going_live(struct control *ctl, const struct model *but)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < DP_MAX_MODELS; i++) {
		const struct model *m = &ctl->models->all[i];

		n += m != but && m->current.v.state == MODEL_EMPTY && m->job && m->job->commanded &&
		     m->job->command == CMD_MODEL_ACTIVATE;
	}
	return n;
}

int model_licensed(struct control *ctl, const struct model *m, struct error *err)
{
	if (m->current.v.state != MODEL_EMPTY)
		return 0;
	return license_allows(ctl, subscribers_count(ctl), models_live(ctl) + going_live(ctl, m) + 1,
		subscribers_total_rate(ctl), err);
}

/* ---- names ----------------------------------------------------------------------------------- */

static int check_name(const char *name, struct error *err)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789._-";
	size_t n = strnlen(name, WIRE_MODEL_NAME_BYTES);

	if (n && n < WIRE_MODEL_NAME_BYTES && strspn(name, allowed) == n)
		return 0;
	return error_set(err, -EINVAL, "'%.63s' is no model name: 1 to %d of a-z A-Z 0-9 . _ -", name,
		WIRE_MODEL_NAME_BYTES - 1);
}

static int assign(struct control *ctl, struct model *m, const char *name, struct error *err)
{
	uint32_t index = (uint32_t)(m - ctl->models->all);
	int rc;

	rc = store_run(ctl->store, err, "REPLACE INTO model (idx, name, id) VALUES (?1, ?2, ?3)",
		"isi", (int64_t)index, name, (int64_t)wire_model_id(name));
	if (rc)
		return rc;
	memset(&m->pub, 0, sizeof(m->pub));
	m->pub.index = index;
	m->pub.id = wire_model_id(name);
	snprintf(m->pub.name, sizeof(m->pub.name), "%s", name);
	model_send_cache(ctl, m);
	return 0;
}

int model_index_for(struct control *ctl, const char *name, uint32_t *index, struct error *err)
{
	struct models *s = ctl->models;
	struct model *m = model_by_name(ctl, name), *room = NULL;
	int rc = check_name(name, err);

	if (!rc && wire_model_id(name) == WIRE_PATH_MODEL)
		return error_set(err, -EEXIST, "the name %s has an id on the wire that no model may have: "
			"choose another", name);
	for (uint32_t i = 0; !rc && !m && i < DP_MAX_MODELS; i++)
		if (s->all[i].pub.name[0] && s->all[i].pub.id == wire_model_id(name))
			return error_set(err, -EEXIST, "the names %s and %s have the same id on the "
				"wire: choose another", name, s->all[i].pub.name);
	/* A fresh index, or that of a model that is not loaded any more. */
	for (uint32_t i = 0; !rc && !m && !room && i < DP_MAX_MODELS; i++)
		if (!s->all[i].pub.name[0])
			room = &s->all[i];
	for (uint32_t i = 0; !rc && !m && !room && i < DP_MAX_MODELS; i++)
		if (!model_in_use(&s->all[i]))
			room = &s->all[i];
	if (!rc && !m && !room)
		rc = error_set(err, -ENOSPC, "%d models are loaded, the most there may be",
			DP_MAX_MODELS);
	if (!rc && !m)
		rc = assign(ctl, m = room, name, err);
	if (!rc)
		*index = (uint32_t)(m - s->all);
	return rc;
}

void model_forget_name(struct control *ctl, struct model *m)
{
	struct error err = {0};

	if (store_run(ctl->store, &err, "DELETE FROM model WHERE idx = ?1", "i", (int64_t)m->pub.index))
		log_error("model %s: %s", m->pub.name, err.text);
	else
		memset(&m->pub, 0, sizeof(m->pub));
}

void model_remember(struct control *ctl, const struct model *m)
{
	bool live = m->current.v.state != MODEL_EMPTY && m->current.v.path[0];
	struct error err = {0};
	int rc = live ? store_run(ctl->store, &err, "UPDATE model SET live_path = ?1, "
			"live_artifact = ?2 WHERE idx = ?3", "sbi", m->current.v.path,
			m->current.v.artifact_id, (int)MODEL_FILE_HASH_BYTES, (int64_t)m->pub.index)
		      : store_run(ctl->store, &err, "UPDATE model SET live_path = '', "
			"live_artifact = NULL WHERE idx = ?1", "i", (int64_t)m->pub.index);

	if (rc)
		log_error("model %s will not be loaded at the next start: %s", m->pub.name, err.text);
}

/* ---- response caches ------------------------------------------------------------------------- */

int model_keep_cache(struct control *ctl, struct model *m, const struct mailbox_cache *cache, struct error *err)
{
	m->pub.cache = *cache;
	if (store_run(ctl->store, err, "UPDATE model SET cache_kb = ?1, cache_ttl_ms = ?2, cache_shared = ?3 "
			"WHERE idx = ?4", "iiii", (int64_t)cache->memory_kb, (int64_t)cache->ttl_ms,
			(int64_t)cache->shared, (int64_t)m->pub.index))
		return error_prefix(err, "the cache is in force, but only until the next restart");
	return 0;
}

/* Which model asked is in `arg` by index alone: the name may have changed hands. */
static void cache_sent(int result, void *arg)
{
	if (result && result != -ECONNRESET)
		log_error("the model of index %u has no response cache: %s", (uint32_t)(uintptr_t)arg,
			strerror(-result));
}

void model_send_cache(struct control *ctl, const struct model *m)
{
	dp_link_command(ctl, CMD_MODEL_CACHE, m->pub.index, mailbox_cache_pack(&m->pub.cache), cache_sent,
		(void *)(uintptr_t)m->pub.index);
}

static int path_row(struct sqlite3_stmt *st, void *arg)
{
	store_text(st, 0, arg, sizeof(((struct model_version *)0)->path));
	return 0;
}

void model_recall(struct control *ctl, const struct model *m, struct model_version *v)
{
	store_query(ctl->store, NULL, path_row, v->path, "SELECT live_path FROM model WHERE idx = ?1 "
		"AND live_artifact = ?2", "ib", (int64_t)m->pub.index, v->artifact_id,
		(int)MODEL_FILE_HASH_BYTES);
}

/* ---- slots ----------------------------------------------------------------------------------- */

void model_forget_compiled(const struct control *ctl, const struct model *m, const struct held *h)
{
	const struct held *slots[] = {&m->next, &m->current, &m->previous};
	char dir[300];
	int n = snprintf(dir, sizeof(dir), "%s/artifacts/", ctl->config->state_dir);

	if (n >= (int)sizeof(dir) || strncmp(h->v.path, dir, (size_t)n))
		return;
	for (int i = 0; i < 3; i++)
		if (slots[i] != h && !strcmp(slots[i]->v.path, h->v.path))
			return;
	unlink(h->v.path);
}

void model_drop(struct control *ctl, struct model *m, struct held *h)
{
	struct models *s = ctl->models;
	bool attached = dp_link_state(ctl) >= DP_ATTACHED;

	if (h->v.state == MODEL_EMPTY)
		return;
	model_transition(&h->v, MODEL_EV_DROPPED, m->pub.name);
	model_forget_compiled(ctl, m, h);
	for (uint32_t i = 0; attached && h->fd >= 0 && i < MODELS_RELEASING; i++)
		if (!s->releasing[i].number) {
			s->releasing[i].number = h->v.number;
			s->releasing[i].fd = h->fd;
			h->fd = -1;
		}
	fd_close(h->fd);
	memset(h, 0, sizeof(*h));
	h->fd = -1;
}

void model_shift(struct control *ctl, struct model *m)
{
	model_drop(ctl, m, &m->previous);
	m->previous = m->current;
	m->current = m->next;
	memset(&m->next, 0, sizeof(m->next));
	m->next.fd = -1;
	if (m->previous.v.state != MODEL_EMPTY)
		model_transition(&m->previous.v, MODEL_EV_REPLACED, m->pub.name);
	model_transition(&m->current.v, MODEL_EV_ACTIVATED, m->pub.name);
	model_publish(m);
	model_remember(ctl, m);
}

void model_unshift(struct control *ctl, struct model *m)
{
	model_drop(ctl, m, &m->current);
	m->current = m->previous;
	memset(&m->previous, 0, sizeof(m->previous));
	m->previous.fd = -1;
	model_transition(&m->current.v, MODEL_EV_ACTIVATED, m->pub.name);
	model_publish(m);
	model_remember(ctl, m);
}

void model_clear(struct control *ctl, struct model *m)
{
	model_drop(ctl, m, &m->next);
	model_drop(ctl, m, &m->current);
	model_drop(ctl, m, &m->previous);
	model_publish(m);
	model_remember(ctl, m);
}

/* ---- start ----------------------------------------------------------------------------------- */

struct cold_row {
	char path[256];
	struct model_at_start start;
};

static int load_row(struct sqlite3_stmt *st, void *arg)
{
	struct models *s = arg;
	int64_t index = sqlite3_column_int64(st, 0);
	struct model_entry *e;

	if (index < 0 || index >= DP_MAX_MODELS)
		return 0;
	e = &s->all[index].pub;
	e->index = (uint32_t)index;
	store_text(st, 1, e->name, sizeof(e->name));
	e->id = wire_model_id(e->name);
	e->cache = (struct mailbox_cache){.memory_kb = (uint32_t)sqlite3_column_int64(st, 2),
		.ttl_ms = (uint32_t)sqlite3_column_int64(st, 3), .shared = sqlite3_column_int64(st, 4)};
	return 0;
}

static int cold_row(struct sqlite3_stmt *st, void *arg)
{
	struct cold_row *rows = arg;
	int64_t index = sqlite3_column_int64(st, 0);
	const void *id = sqlite3_column_blob(st, 2);

	if (index < 0 || index >= DP_MAX_MODELS)
		return 0;
	store_text(st, 1, rows[index].path, sizeof(rows[index].path));
	if (id && sqlite3_column_bytes(st, 2) == MODEL_FILE_HASH_BYTES) {
		memcpy(rows[index].start.artifact, id, MODEL_FILE_HASH_BYTES);
		rows[index].start.known = true;
	}
	return 0;
}

static void cold_done(int rc, const struct model_entry *m, const struct error *err, void *arg)
{
	(void)arg;
	if (rc)
		log_error("model %s was not loaded at start: %s", m ? m->name : "?",
			err ? err->text : "?");
}

static void cold_load(struct control *ctl, const char *path, const struct model_at_start *start)
{
	static const struct model_job job = {.done = cold_done};
	struct error err = {0};

	if (model_job_load(ctl, path, NULL, true, false, &job, start, &err))
		log_error("%s was not loaded at start: %s", path, err.text);
}

/* Load what was live before, then what the file asks for; not what a dataplane still holds. */
static void cold_start(struct control *ctl)
{
	struct models *s = ctl->models;
	struct cold_row *rows = calloc(DP_MAX_MODELS, sizeof(*rows));
	struct error err = {0};

	s->cold_done = true;
	if (!rows || store_query(ctl->store, &err, cold_row, rows,
		"SELECT idx, live_path, live_artifact FROM model WHERE live_path != ''", ""))
		log_error("models of the last run: %s", rows ? err.text : "out of memory");
	for (uint32_t i = 0; rows && i < DP_MAX_MODELS; i++)
		if (rows[i].path[0] && s->all[i].current.v.state == MODEL_EMPTY)
			cold_load(ctl, rows[i].path, &rows[i].start);
	for (uint32_t i = 0; i < ctl->config->models.preload_count; i++) {
		const char *path = ctl->config->models.preload[i];
		char name[WIRE_MODEL_NAME_BYTES];

		if (model_load_name(path, name, sizeof(name), &err))
			log_error("models.preload: %s", err.text);
		else if (!models_find(ctl, name))
			cold_load(ctl, path, &(struct model_at_start){0});
	}
	free(rows);
}

static void on_cold(evutil_socket_t fd, short what, void *arg)
{
	struct control *ctl = arg;
	struct timeval tv = {0, COLD_MS * 1000};
	struct supervisor_info info = {0};

	(void)fd;
	(void)what;
	supervisor_info(ctl, &info);
	if (ctl->models->cold_done)
		return;
	if (info.adopted && dp_link_state(ctl) < DP_ATTACHED)
		evtimer_add(ctl->models->cold, &tv); /* it will say what it holds */
	else
		cold_start(ctl);
}

static int counter_row(struct sqlite3_stmt *st, void *arg)
{
	*(uint64_t *)arg = (uint64_t)sqlite3_column_int64(st, 0);
	return 0;
}

int models_init(struct control *ctl, struct error *err)
{
	struct models *s = calloc(1, sizeof(*s));
	struct timeval tv = {0, COLD_MS * 1000};
	int rc;

	if (!s)
		return error_set(err, -ENOMEM, "out of memory");
	ctl->models = s;
	for (uint32_t i = 0; i < DP_MAX_MODELS; i++)
		s->all[i].next.fd = s->all[i].current.fd = s->all[i].previous.fd = -1;
	rc = model_keys_read(&s->keys, ctl->config->models.trusted_keys,
		ctl->config->models.trusted_keys_count, err);
	if (!rc)
		rc = store_query(ctl->store, err, load_row, s, "SELECT idx, name, cache_kb, cache_ttl_ms, "
			"cache_shared FROM model", "");
	if (!rc)
		rc = store_query(ctl->store, err, counter_row, &s->last_number,
			"SELECT value FROM counter WHERE name = 'artifact'", "");
	if (rc)
		return rc;
	s->cold = evtimer_new(ctl->base, on_cold, ctl);
	return s->cold && evtimer_add(s->cold, &tv) == 0 ? 0 : error_set(err, -ENOMEM, "out of memory");
}

void models_uninit(struct control *ctl)
{
	struct models *s = ctl->models;

	if (!s)
		return;
	model_jobs_cancel(ctl);
	traces_cancel(ctl);
	for (uint32_t i = 0; i < DP_MAX_MODELS; i++) {
		fd_close(s->all[i].next.fd);
		fd_close(s->all[i].current.fd);
		fd_close(s->all[i].previous.fd);
	}
	for (uint32_t i = 0; i < MODELS_RELEASING; i++)
		if (s->releasing[i].number)
			fd_close(s->releasing[i].fd);
	if (s->cold)
		event_free(s->cold);
	free(s);
	ctl->models = NULL;
}
