/* SPDX-License-Identifier: BSD-3-Clause
 * Subscribers: see subscribers.h. Every change is checked, written to SQLite, then to memory and to the
 * limiter slot; a change that SQLite refuses changes nothing.
 */
#include <errno.h>
#include <event2/event.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "control/config.h"
#include "control/license.h"
#include "control/limits_table.h"
#include "control/models.h"
#include "control/sessions.h"
#include "control/store.h"
#include "control/subscribers_private.h"
#include "ebpf/limit_table.h"

struct member *member_find(struct subscribers *s, const char *name)
{
	for (uint32_t i = 0; name && name[0] && i < s->slots; i++)
		if (!strcmp(s->all[i].name, name))
			return &s->all[i];
	return NULL;
}

void member_effective(const struct subscribers *s, const struct member *m, double *rate,
	double *burst, const char **models)
{
	const struct plan *p = plan_find((struct subscribers *)(uintptr_t)s, m->plan);

	*rate = m->rate > 0 ? m->rate : p ? p->rate : 0;
	*burst = m->burst > 0 ? m->burst : p ? p->burst : 1;
	*models = m->own_models ? m->models : p ? p->models : "";
}

double members_rate(const struct subscribers *s, const char *plan, double rate)
{
	double total = 0;

	for (uint32_t i = 0; i < s->slots; i++) {
		const struct member *m = &s->all[i];
		double r, b;
		const char *models;

		if (!m->name[0])
			continue;
		member_effective(s, m, &r, &b, &models);
		total += plan && m->rate <= 0 && !strcmp(m->plan, plan) ? rate : r;
	}
	return total;
}

/* Mask of the names that exist now; a name whose model was never loaded gives no bit. */
static uint64_t known_mask(struct control *ctl, const char *names)
{
	uint64_t mask = 0, one;
	char name[WIRE_MODEL_NAME_BYTES];

	if (!names[0])
		return ~0ull;
	while (*names) {
		size_t n = strcspn(names, ",");

		snprintf(name, sizeof(name), "%.*s", (int)n, names);
		if (n && n < sizeof(name) && !models_mask(ctl, name, &one, NULL))
			mask |= one;
		names += n + (names[n] == ',');
	}
	return mask;
}

/* The plan's weight and cap as limit_slot.flags has them. */
static uint32_t plan_flags(struct subscribers *s, const struct member *m)
{
	const struct plan *p = plan_find(s, m->plan);

	if (!p)
		return 0;
	return (p->weight > 1 ? p->weight : 0) << LIMIT_WEIGHT_SHIFT |
	       p->concurrent << LIMIT_CONCURRENT_SHIFT;
}

void member_apply(struct control *ctl, uint32_t index)
{
	struct member *m = &ctl->subscribers->all[index];
	struct limit_slot *slot = limits_table_slot(ctl, index);
	struct limit_plan plan = {.flags = LIMIT_ACTIVE | (m->suspended ? LIMIT_BLOCKED : 0) |
					   (m->quota_spent ? LIMIT_QUOTA_EXHAUSTED : 0)};
	struct error err = {0};
	const char *models;
	double burst;

	if (!slot)
		return;
	member_effective(ctl->subscribers, m, &plan.rate_per_s, &burst, &models);
	plan.flags |= plan_flags(ctl->subscribers, m);
	plan.burst_units = (uint64_t)burst;
	plan.model_mask = known_mask(ctl, models);
	if (!limits_intact(slot, &plan) && limits_set(slot, &plan, clock_now_ns(), &err))
		log_error("limits of %s: %s", m->name, err.text);
}

void subscribers_apply_all(struct control *ctl)
{
	struct subscribers *s = ctl->subscribers;

	for (uint32_t i = 0; s && i < s->slots; i++)
		if (s->all[i].name[0])
			member_apply(ctl, i);
}

uint32_t subscribers_count(struct control *ctl)
{
	return ctl->subscribers ? ctl->subscribers->n : 0;
}

double subscribers_total_rate(struct control *ctl)
{
	return ctl->subscribers ? members_rate(ctl->subscribers, NULL, 0) : 0;
}

/* ---- questions ------------------------------------------------------------------------------- */

static void to_public(struct control *ctl, uint32_t index, struct subscriber *out)
{
	struct member *m = &ctl->subscribers->all[index];
	const struct plan *plan = plan_find(ctl->subscribers, m->plan);
	const char *models;

	usage_read(ctl, index);
	memset(out, 0, sizeof(*out));
	out->index = index;
	memcpy(out->name, m->name, sizeof(out->name));
	memcpy(out->plan, m->plan, sizeof(out->plan));
	member_effective(ctl->subscribers, m, &out->rate, &out->burst, &models);
	snprintf(out->models, sizeof(out->models), "%s", models);
	out->suspended = m->suspended;
	out->units = m->units;
	out->month_units = quota_used(m);
	out->quota_spent = m->quota_spent;
	out->quota = plan ? plan->quota : 0;
	out->created_wall_s = m->created_wall_s;
	out->sessions = sessions_count(ctl, index);
}

int subscribers_by_index(struct control *ctl, uint32_t index, struct subscriber *out)
{
	struct subscribers *s = ctl->subscribers;

	if (index >= s->slots || !s->all[index].name[0])
		return -ENOENT;
	to_public(ctl, index, out);
	return 0;
}

int subscribers_find(struct control *ctl, const char *name, struct subscriber *out)
{
	struct member *m = member_find(ctl->subscribers, name);

	if (!m)
		return -ENOENT;
	to_public(ctl, (uint32_t)(m - ctl->subscribers->all), out);
	return 0;
}

int subscribers_by_key(struct control *ctl, const char *api_key, struct subscriber *out)
{
	static const struct api_key_hash nobody;
	struct subscribers *s = ctl->subscribers;
	const struct api_key_hash *found = &nobody;
	uint32_t index = 0;
	char id[API_KEY_ID + 1];

	if (!api_key_id(api_key, id))
		return -EACCES;
	for (uint32_t i = 0; i < s->slots; i++)
		if (s->all[i].name[0] && !strcmp(s->all[i].key.id, id)) {
			found = &s->all[i].key;
			index = i;
		}
	if (!api_key_matches(api_key, found) || found == &nobody)
		return -EACCES; /* the same work and answer for an unknown id as for a wrong key */
	to_public(ctl, index, out);
	return 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp((*(struct member *const *)a)->name, (*(struct member *const *)b)->name);
}

int subscribers_each(struct control *ctl, int (*fn)(const struct subscriber *s, void *arg), void *arg)
{
	struct subscribers *s = ctl->subscribers;
	struct member **sorted = calloc(s->n + 1, sizeof(struct member *));
	uint32_t n = 0;
	int rc = sorted ? 0 : -ENOMEM;

	for (uint32_t i = 0; sorted && i < s->slots; i++)
		if (s->all[i].name[0])
			sorted[n++] = &s->all[i];
	if (n)
		qsort(sorted, n, sizeof(sorted[0]), by_name);
	for (uint32_t i = 0; !rc && i < n; i++) {
		struct subscriber out;

		to_public(ctl, (uint32_t)(sorted[i] - s->all), &out);
		rc = fn(&out, arg);
	}
	free(sorted);
	return rc;
}

/* ---- changes --------------------------------------------------------------------------------- */

static int change_member(struct control *ctl, struct member *m, const struct subscriber_change *c,
	struct error *err)
{
	if (c->has_plan && c->plan && c->plan[0] && !plan_find(ctl->subscribers, c->plan))
		return error_set(err, -ENOENT, "no plan %.63s", c->plan);
	if (c->has_plan) { /* a plan replaces own limits unless they are given with it */
		snprintf(m->plan, sizeof(m->plan), "%s", c->plan ? c->plan : "");
		if (m->plan[0])
			m->rate = m->burst = 0;
		if (m->plan[0])
			m->own_models = false;
	}
	if ((c->has_rate && limits_valid(c->rate, 1, err)) ||
		(c->has_burst && limits_valid(1, c->burst, err)))
		return err ? err->code : -EINVAL;
	if (c->has_rate)
		m->rate = c->rate;
	if (c->has_burst)
		m->burst = c->burst;
	if (c->has_models) {
		uint64_t mask;
		int rc = models_mask(ctl, c->models ? c->models : "", &mask, err);

		if (rc)
			return rc;
		if (strlen(c->models ? c->models : "") >= sizeof(m->models))
			return error_set(err, -EINVAL, "models: too many names");
		snprintf(m->models, sizeof(m->models), "%s", c->models ? c->models : "");
		m->own_models = true;
	}
	if (c->has_suspended)
		m->suspended = c->suspended;
	return 0;
}

/* Limits make sense together, and the licence allows them in place of what `old` has (NULL = a new
 * subscriber). */
static int check_member(struct control *ctl, const struct member *m, const struct member *old,
	struct error *err)
{
	struct subscribers *s = ctl->subscribers;
	double rate, burst, old_rate = 0, old_burst;
	const char *models;
	int rc;

	member_effective(s, m, &rate, &burst, &models);
	if (rate <= 0)
		return error_set(err, -EINVAL, "a subscriber needs a plan or a rate");
	rc = limits_valid(rate, burst, err);
	if (rc)
		return rc;
	if (old)
		member_effective(s, old, &old_rate, &old_burst, &models);
	if (old && rate <= old_rate)
		return 0; /* less is always allowed, also without a licence */
	return license_allows(ctl, s->n + !old, models_live(ctl),
		members_rate(s, NULL, 0) - old_rate + rate, err);
}

static int store_member(struct control *ctl, const struct member *m, uint32_t index, bool insert,
	struct error *err)
{
	const char *plan = m->plan[0] ? m->plan : NULL;
	const char *models = m->own_models ? m->models : NULL;

	if (!insert)
		return store_run(ctl->store, err, "UPDATE subscriber SET plan = ?1, rate = ?2, "
			"burst = ?3, models = ?4, suspended = ?5 WHERE slot = ?6", "sddsii", plan,
			m->rate, m->burst, models, (int64_t)m->suspended, (int64_t)index);
	return store_run(ctl->store, err, "INSERT INTO subscriber (slot, name, plan, rate, burst, "
		"models, suspended, key_id, key_salt, key_hash, last_seen, created_wall_s) VALUES "
		"(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)", "issddsisbbii",
		(int64_t)index, m->name, plan, m->rate, m->burst, models, (int64_t)m->suspended,
		m->key.id, m->key.salt, (int)sizeof(m->key.salt), m->key.hash,
		(int)sizeof(m->key.hash), (int64_t)m->last_seen, m->created_wall_s);
}

static int free_slot(const struct subscribers *s, uint32_t *index)
{
	for (*index = 0; *index < s->slots; (*index)++)
		if (!s->all[*index].name[0])
			return 0;
	return -ENOSPC;
}

static int prepare_new(struct control *ctl, const char *name, const struct subscriber_change *c,
	struct member *m, uint32_t *index, struct error *err)
{
	int rc = name_check("subscriber", name, err);

	if (rc)
		return rc;
	if (member_find(ctl->subscribers, name))
		return error_set(err, -EEXIST, "there is a subscriber %s already", name);
	memset(m, 0, sizeof(*m));
	snprintf(m->name, sizeof(m->name), "%s", name);
	m->created_wall_s = clock_wall_s();
	quota_begin(m, m->created_wall_s);
	rc = change_member(ctl, m, c, err);
	if (!rc)
		rc = check_member(ctl, m, NULL, err);
	if (!rc && free_slot(ctl->subscribers, index))
		rc = error_set(err, -ENOSPC, "all %u limiter slots are in use (limits.slots)",
			ctl->subscribers->slots);
	return rc;
}

int subscribers_add(struct control *ctl, const char *name, const struct subscriber_change *c,
	bool dry_run, struct subscriber *out, char api_key[API_KEY_BYTES], struct error *err)
{
	struct subscribers *s = ctl->subscribers;
	struct limit_slot *slot;
	struct member m;
	uint32_t index = 0;
	int rc = prepare_new(ctl, name, c, &m, &index, err);

	memset(api_key, 0, API_KEY_BYTES);
	memset(out, 0, sizeof(*out));
	if (rc)
		return rc;
	if (dry_run) {
		snprintf(out->name, sizeof(out->name), "%s", name);
		return 0;
	}
	slot = limits_table_slot(ctl, index);
	if (slot)
		limits_clear(slot); /* its last owner's bucket and usage end here */
	rc = api_key_new(api_key, &m.key);
	if (rc)
		return error_set(err, rc, "no random numbers");
	rc = store_member(ctl, &m, index, true, err);
	if (rc) {
		memset(api_key, 0, API_KEY_BYTES);
		return rc;
	}
	s->all[index] = m;
	s->n++;
	member_apply(ctl, index);
	to_public(ctl, index, out);
	return 0;
}

int subscribers_set(struct control *ctl, const char *name, const struct subscriber_change *c,
	bool dry_run, struct subscriber *out, struct error *err)
{
	struct member *m = member_find(ctl->subscribers, name);
	struct member changed;
	uint32_t index;
	int rc;

	if (!m)
		return error_set(err, -ENOENT, "no subscriber %.63s", name);
	index = (uint32_t)(m - ctl->subscribers->all);
	changed = *m;
	rc = change_member(ctl, &changed, c, err);
	if (!rc)
		rc = check_member(ctl, &changed, m, err);
	if (!rc && !dry_run) {
		rc = store_member(ctl, &changed, index, false, err);
		if (!rc) {
			*m = changed;
			member_apply(ctl, index);
		}
	}
	if (!rc)
		to_public(ctl, index, out);
	return rc;
}

int subscribers_remove(struct control *ctl, const char *name, bool dry_run, struct error *err)
{
	struct subscribers *s = ctl->subscribers;
	struct member *m = member_find(s, name);
	struct limit_slot *slot;
	uint32_t index;
	int rc;

	if (!m)
		return error_set(err, -ENOENT, "no subscriber %.63s", name);
	if (dry_run)
		return 0;
	index = (uint32_t)(m - s->all);
	usage_read(ctl, index);
	rc = store_begin(ctl->store, err);
	if (rc)
		return rc;
	rc = store_run(ctl->store, err, "INSERT INTO usage_record (name, plan, units, "
		"created_wall_s, removed_wall_s) VALUES (?1, ?2, ?3, ?4, ?5)", "ssiii", m->name,
		m->plan, (int64_t)m->units, m->created_wall_s, clock_wall_s());
	if (!rc)
		rc = store_run(ctl->store, err, "DELETE FROM subscriber WHERE slot = ?1", "i",
			(int64_t)index);
	rc = store_end(ctl->store, rc, err);
	if (rc)
		return rc;
	sessions_close(ctl, index, 0);
	slot = limits_table_slot(ctl, index);
	if (slot)
		limits_clear(slot);
	memset(m, 0, sizeof(*m));
	s->n--;
	return 0;
}

/* ---- start ----------------------------------------------------------------------------------- */

static void copy_blob(struct sqlite3_stmt *st, int column, uint8_t *out, int n)
{
	const void *data = sqlite3_column_blob(st, column);

	if (data && sqlite3_column_bytes(st, column) == n)
		memcpy(out, data, (size_t)n);
}

static int load_member(struct sqlite3_stmt *st, void *arg)
{
	struct subscribers *s = arg;
	int64_t slot = sqlite3_column_int64(st, 0);
	struct member *m;

	if (slot < 0 || slot >= s->slots)
		return -ERANGE;
	m = &s->all[slot];
	store_text(st, 1, m->name, sizeof(m->name));
	store_text(st, 2, m->plan, sizeof(m->plan));
	m->rate = sqlite3_column_double(st, 3);
	m->burst = sqlite3_column_double(st, 4);
	m->own_models = sqlite3_column_type(st, 5) != SQLITE_NULL;
	store_text(st, 5, m->models, sizeof(m->models));
	m->suspended = sqlite3_column_int(st, 6) != 0;
	store_text(st, 7, m->key.id, sizeof(m->key.id));
	copy_blob(st, 8, m->key.salt, sizeof(m->key.salt));
	copy_blob(st, 9, m->key.hash, sizeof(m->key.hash));
	m->units = m->stored = (uint64_t)sqlite3_column_int64(st, 10);
	m->last_seen = (uint64_t)sqlite3_column_int64(st, 11);
	m->created_wall_s = sqlite3_column_int64(st, 12);
	m->month = (uint32_t)sqlite3_column_int64(st, 13);
	m->month_base = (uint64_t)sqlite3_column_int64(st, 14);
	s->n++;
	return 0;
}

static void on_usage(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	usage_store(arg);
}

static void on_quota(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	quota_turn(arg, clock_wall_s());
}

/* Slots that no subscriber owns any more (a database restored, a crash between two writes) are shut. */
static void clear_orphans(struct control *ctl)
{
	for (uint32_t i = 0; i < LIMITS_MAX_SLOTS; i++) {
		struct limit_slot *slot = limits_table_slot(ctl, i);

		if (slot && (i >= ctl->subscribers->slots || !ctl->subscribers->all[i].name[0]) &&
			(slot->flags & LIMIT_ACTIVE))
			limits_clear(slot);
	}
}

int subscribers_init(struct control *ctl, struct error *err)
{
	struct subscribers *s = calloc(1, sizeof(*s));
	struct timeval tv = {USAGE_MS / 1000, 0}, quota_tv = {QUOTA_MS / 1000, 0};
	int rc;

	if (!s)
		return error_set(err, -ENOMEM, "out of memory");
	ctl->subscribers = s;
	s->slots = limits_table_slots(ctl);
	s->all = calloc(s->slots, sizeof(*s->all));
	s->plans = calloc(MAX_PLANS, sizeof(*s->plans));
	if (!s->all || !s->plans)
		return error_set(err, -ENOMEM, "out of memory");
	rc = plans_load(ctl, err);
	if (!rc)
		rc = store_query(ctl->store, err, load_member, s, "SELECT slot, name, plan, rate, "
			"burst, models, suspended, key_id, key_salt, key_hash, units, last_seen, "
			"created_wall_s, month, month_base FROM subscriber", "");
	if (rc == -ERANGE)
		error_set(err, rc, "limits.slots is %u but a subscriber has a higher slot", s->slots);
	if (rc)
		return rc;
	clear_orphans(ctl);
	quota_turn(ctl, clock_wall_s()); /* before anybody is served */
	subscribers_apply_all(ctl);
	s->quota = ctl->base ? event_new(ctl->base, -1, EV_PERSIST, on_quota, ctl) : NULL;
	s->usage = ctl->base ? event_new(ctl->base, -1, EV_PERSIST, on_usage, ctl) : NULL;
	if (ctl->base && (!s->usage || !s->quota || event_add(s->usage, &tv) < 0 ||
		event_add(s->quota, &quota_tv) < 0))
		return error_set(err, -ENOMEM, "out of memory");
	return 0;
}

void subscribers_uninit(struct control *ctl)
{
	struct subscribers *s = ctl->subscribers;

	if (!s)
		return;
	if (s->all && s->plans)
		usage_store(ctl);
	if (s->usage)
		event_free(s->usage);
	if (s->quota)
		event_free(s->quota);
	free(s->all);
	free(s->plans);
	free(s);
	ctl->subscribers = NULL;
}
