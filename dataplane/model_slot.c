/* SPDX-License-Identifier: BSD-3-Clause
 * Three model slots, and the set workers look at: see model_slot.h.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/fd.h"
#include "model_slot.h"

/* ---- the published set ---- */

static void set_insert(struct model_set *s, const struct live_model *m)
{
	uint32_t i = m->model_id;

	while (s->buckets[i % MODEL_SET_BUCKETS])
		i++;
	s->buckets[i % MODEL_SET_BUCKETS] = m;
	s->n++;
}

static struct model_set *set_new(const struct model_table *t)
{
	struct model_set *s = calloc(1, sizeof(*s));

	for (uint32_t i = 0; s && i < DP_MAX_MODELS; i++)
		if (t->entries[i].current)
			set_insert(s, t->entries[i].current);
	return s;
}

static bool in_a_slot(const struct model_table *t, const struct live_model *m)
{
	const struct model_entry *e = &t->entries[m->index];

	return e->next == m || e->current == m || e->previous == m;
}

static bool is_used(const struct model_retired *r)
{
	return r->model || r->set || r->caches;
}

static struct model_retired *retired_room(struct model_table *t, uint32_t needed)
{
	struct model_retired *first = NULL;
	uint32_t room = 0;

	model_table_reap(t);
	for (uint32_t i = 0; i < MODEL_RETIRED; i++) {
		if (!is_used(&t->retired[i])) {
			first = first ? first : &t->retired[i];
			room++;
		}
	}
	return room >= needed ? first : NULL;
}

/* Hand an object to the reaper. There is room: checked before the change began. */
static void retire(struct model_table *t, struct model_retired what)
{
	struct model_retired *r = retired_room(t, 1);

	*r = what;
	quiesce_mark(t->quiesce, &r->since);
}

static void retire_model(struct model_table *t, struct live_model *m)
{
	retire(t, (struct model_retired){.model = m, .index = m->index});
}

/* Put `after` in place of entry `index`: publish the set that follows from it, retire the old set
 * and every model of the old entry that is in no slot any more. Refused: nothing has changed, and what
 * `after` brought in is still the caller's. */
static int change(
	struct model_table *t, uint64_t index, struct model_entry after, struct error *err)
{
	struct model_entry before = t->entries[index];
	struct live_model *were[3] = {before.next, before.current, before.previous};
	struct model_set *old = t->published, *new;

	if (!retired_room(t, 4))
		return error_set(
			err, -EBUSY, "too many models wait for the workers to let go of them");
	t->entries[index] = after;
	if (before.current != after.current) {
		new = set_new(t);
		if (!new) {
			t->entries[index] = before;
			return error_set(err, -ENOMEM, "out of memory");
		}
		failpoint("artifact.opened");
		__atomic_store_n(&t->published, new, __ATOMIC_SEQ_CST);
		failpoint("artifact.published");
		retire(t, (struct model_retired){.set = old});
	}
	for (int i = 0; i < 3; i++)
		if (were[i] && !in_a_slot(t, were[i]))
			retire_model(t, were[i]);
	return 0;
}

static const struct cache_set *caches_of(const struct model_retired *r)
{
	return r->model ? r->model->caches : r->caches;
}

void model_table_reap(struct model_table *t)
{
	for (uint32_t i = 0; i < MODEL_RETIRED; i++) {
		struct model_retired *r = &t->retired[i];

		if (!is_used(r) || !quiesce_passed(t->quiesce, &r->since) ||
			(r->model && (r->model->traced || live_model_held(r->model, t->options.n_workers))))
			continue;
		if (r->model && t->released)
			t->released(t->released_ctx, r->model->index, r->model->artifact.number);
		cache_set_count(caches_of(r), &t->past[r->index]);
		t->past[r->index].entries = 0;
		live_model_free(r->model);
		cache_set_free(r->caches);
		free(r->set);
		*r = (struct model_retired){0};
	}
}

static void costs_of(const struct live_model *m, uint32_t n_workers, struct stats_cost *out)
{
	if (!m) {
		__atomic_store_n(&out->number, 0, __ATOMIC_RELEASE);
		return;
	}
	if (out->number != m->artifact.number) {
		__atomic_store_n(&out->number, 0, __ATOMIC_RELEASE);
		snprintf(out->kernels, sizeof(out->kernels), "%s", model_backend_name(m->model));
	}
	for (int b = 0; b < COST_BUCKETS; b++) {
		uint64_t sum = 0;

		for (uint32_t i = 0; i < n_workers; i++)
			sum += __atomic_load_n(&m->uses[i].cost.ns[b], __ATOMIC_RELAXED);
		__atomic_store_n(&out->run_ns[b], (uint32_t)(sum / n_workers), __ATOMIC_RELAXED);
	}
	__atomic_store_n(&out->number, m->artifact.number, __ATOMIC_RELEASE);
}

void model_table_costs(const struct model_table *t, struct stats_cost out[DP_MAX_MODELS][STATS_COST_SLOTS])
{
	for (uint32_t i = 0; i < DP_MAX_MODELS; i++) {
		costs_of(t->entries[i].next, t->options.n_workers, &out[i][LINK_SLOT_NEXT - 1]);
		costs_of(t->entries[i].current, t->options.n_workers, &out[i][LINK_SLOT_CURRENT - 1]);
		costs_of(t->entries[i].previous, t->options.n_workers, &out[i][LINK_SLOT_PREVIOUS - 1]);
	}
}

/* ---- offers ---- */

static bool entry_has(const struct live_model *m, uint64_t number)
{
	return m && m->artifact.number == number;
}

static bool staged(const struct model_entry *e, uint64_t number)
{
	return entry_has(e->next, number) || entry_has(e->current, number) ||
	       entry_has(e->previous, number);
}

bool model_table_has(const struct model_table *t, uint64_t number)
{
	for (uint32_t i = 0; i < DP_MAX_MODELS; i++)
		if (staged(&t->entries[i], number))
			return true;
	for (uint32_t i = 0; i < MODEL_PENDING; i++)
		if (t->pending[i].fd >= 0 && t->pending[i].artifact.number == number)
			return true;
	return false;
}

/* Another model's current artifact must not answer to the same wire id. */
static int check_id(const struct model_table *t, const struct live_model *m, struct error *err)
{
	for (uint32_t i = 0; i < DP_MAX_MODELS; i++) {
		const struct live_model *other = t->entries[i].current ? t->entries[i].current :
								       t->entries[i].next;

		if (i != m->index && other && other->model_id == m->model_id)
			return error_set(err, -EEXIST,
				"model %s has the wire id of model %s (index %u)", m->name,
				other->name, i);
	}
	return 0;
}

static int open_checked(struct model_table *t, int fd, const struct link_artifact *a,
	struct live_model **m, struct error *err)
{
	struct cache_set *caches;
	int rc = live_model_new(m, fd, a, &t->options, err);

	if (rc)
		return rc;
	rc = check_id(t, *m, err);
	if (!rc)
		rc = live_model_caches_new(&caches, *m, &t->cache[a->model_index], t->options.n_workers, err);
	if (rc)
		live_model_free(*m);
	else
		live_model_caches_set(*m, caches, t->options.n_workers);
	return rc;
}

/* The slot of `e` that `slot` names; NULL for none. */
static struct live_model **slot_of(struct model_entry *e, uint32_t slot)
{
	switch (slot) {
	case LINK_SLOT_NEXT:
		return &e->next;
	case LINK_SLOT_CURRENT:
		return &e->current;
	case LINK_SLOT_PREVIOUS:
		return &e->previous;
	default:
		return NULL;
	}
}

static int keep_pending(struct model_table *t, int fd, const struct link_artifact *a,
	struct error *err)
{
	for (uint32_t i = 0; i < MODEL_PENDING; i++) {
		if (t->pending[i].fd < 0) {
			t->pending[i].fd = fd;
			t->pending[i].artifact = *a;
			return 0;
		}
	}
	fd_close(fd);
	return error_set(err, -ENOSPC, "%d artifacts are offered but not staged", MODEL_PENDING);
}

int model_table_offer(
	struct model_table *t, int fd, const struct link_artifact *a, struct error *err)
{
	struct model_entry after;
	struct live_model **slot;
	int rc = 0;

	if (a->model_index >= DP_MAX_MODELS) {
		rc = error_set(
			err, -ERANGE, "model index %u, limit %d", a->model_index, DP_MAX_MODELS);
		goto out;
	}
	if (model_table_has(t, a->number)) {
		rc = -EEXIST;
		goto out;
	}
	after = t->entries[a->model_index];
	slot = slot_of(&after, a->model_slot);
	if (!slot || *slot)
		return keep_pending(t, fd, a, err);
	rc = open_checked(t, fd, a, slot, err);
	if (!rc) {
		rc = change(t, a->model_index, after, err);
		if (rc)
			live_model_free(*slot);
	}
out:
	fd_close(fd);
	return rc;
}

/* ---- commands ---- */

static struct model_pending *pending_find(struct model_table *t, uint64_t index, uint64_t number)
{
	for (uint32_t i = 0; i < MODEL_PENDING; i++) {
		struct model_pending *p = &t->pending[i];

		if (p->fd >= 0 && p->artifact.number == number && p->artifact.model_index == index)
			return p;
	}
	return NULL;
}

static void pending_forget(struct model_pending *p)
{
	fd_close(p->fd);
	p->fd = -1;
}

static int check_index(uint64_t index, struct error *err)
{
	return index < DP_MAX_MODELS ? 0 : error_set(err, -ERANGE, "model index %lu, limit %d",
							 (unsigned long)index, DP_MAX_MODELS);
}

int model_table_stage(struct model_table *t, uint64_t index, uint64_t number, struct error *err)
{
	struct model_entry after;
	struct model_pending *p;
	int rc = check_index(index, err);

	if (rc || staged(&t->entries[index], number))
		return rc;
	p = pending_find(t, index, number);
	if (!p)
		return error_set(err, -ENOENT, "artifact %lu of model %lu was not offered",
			(unsigned long)number, (unsigned long)index);
	after = t->entries[index];
	rc = open_checked(t, p->fd, &p->artifact, &after.next, err);
	if (!rc) {
		rc = change(t, index, after, err);
		if (rc)
			live_model_free(after.next);
	}
	if (rc != -EBUSY) /* a busy table may have room for it in a moment */
		pending_forget(p);
	return rc;
}

int model_table_activate(struct model_table *t, uint64_t index, struct error *err)
{
	struct model_entry *e, after = {0};
	int rc = check_index(index, err);

	if (rc)
		return rc;
	e = &t->entries[index];
	if (!e->next)
		return error_set(
			err, -ENOENT, "model %lu has no next version", (unsigned long)index);
	after.current = e->next;
	after.previous = e->current;
	return change(t, index, after, err);
}

int model_table_rollback(struct model_table *t, uint64_t index, struct error *err)
{
	struct model_entry *e, after;
	int rc = check_index(index, err);

	if (rc)
		return rc;
	e = &t->entries[index];
	if (!e->previous)
		return error_set(err, -ENOENT, "model %lu has no previous version",
			(unsigned long)index);
	after = (struct model_entry){.next = e->next, .current = e->previous};
	return change(t, index, after, err);
}

int model_table_unload(struct model_table *t, uint64_t index, struct error *err)
{
	int rc = check_index(index, err);

	for (uint32_t i = 0; !rc && i < MODEL_PENDING; i++)
		if (t->pending[i].fd >= 0 && t->pending[i].artifact.model_index == index)
			pending_forget(&t->pending[i]);
	return rc ? rc : change(t, index, (struct model_entry){0}, err);
}

/* ---- response caches ---- */

static int check_cache(const struct model_table *t, const struct mailbox_cache *c, struct error *err)
{
	uint32_t most_kb = MAILBOX_CACHE_MAX_KB / t->options.n_workers;

	if (c->memory_kb > most_kb)
		return error_set(err, -EINVAL, "memory_kb %u: with %u workers %u is the most", c->memory_kb,
			t->options.n_workers, most_kb);
	if (c->ttl_ms > MAILBOX_CACHE_MAX_TTL_MS)
		return error_set(err, -EINVAL, "ttl_ms %u: %d is the most", c->ttl_ms, MAILBOX_CACHE_MAX_TTL_MS);
	return 0;
}

int model_table_cache(struct model_table *t, uint64_t index, const struct mailbox_cache *config, struct error *err)
{
	struct live_model *models[3];
	struct cache_set *caches[3] = {NULL}, *old;
	int rc = check_index(index, err);

	rc = rc ? rc : check_cache(t, config, err);
	if (rc || mailbox_cache_pack(config) == mailbox_cache_pack(&t->cache[index]))
		return rc;
	if (!retired_room(t, 3))
		return error_set(err, -EBUSY, "too many models wait for the workers to let go of them");
	memcpy(models, (struct live_model *[]){t->entries[index].next, t->entries[index].current,
		t->entries[index].previous}, sizeof(models));
	for (int i = 0; !rc && i < 3; i++)
		rc = models[i] ? live_model_caches_new(&caches[i], models[i], config, t->options.n_workers, err) : 0;
	for (int i = 0; i < 3; i++) {
		if (rc) {
			cache_set_free(caches[i]);
			continue;
		}
		old = models[i] ? live_model_caches_set(models[i], caches[i], t->options.n_workers) : NULL;
		if (old)
			retire(t, (struct model_retired){.caches = old, .index = (uint32_t)index});
	}
	if (!rc)
		t->cache[index] = *config;
	return rc;
}

static uint64_t memory_of(const struct cache_set *s)
{
	return s ? s->n * (uint64_t)s->all[0].bytes : 0;
}

static void caches_show(const struct model_table *t, uint32_t index, struct stats_cache *out)
{
	const struct live_model *models[] = {t->entries[index].next, t->entries[index].current,
		t->entries[index].previous};
	struct cache_counters sum = t->past[index], held = {0};
	uint64_t bytes = 0;

	for (int i = 0; i < 3; i++) {
		cache_set_count(models[i] ? models[i]->caches : NULL, &sum);
		bytes += memory_of(models[i] ? models[i]->caches : NULL);
	}
	for (uint32_t i = 0; i < MODEL_RETIRED; i++)
		if (is_used(&t->retired[i]) && t->retired[i].index == index && !t->retired[i].set)
			cache_set_count(caches_of(&t->retired[i]), &held);
	__atomic_store_n(&out->bytes, bytes, __ATOMIC_RELAXED);
	__atomic_store_n(&out->entries, sum.entries, __ATOMIC_RELAXED);
	__atomic_store_n(&out->hits, sum.hits + held.hits, __ATOMIC_RELAXED);
	__atomic_store_n(&out->misses, sum.misses + held.misses, __ATOMIC_RELAXED);
	__atomic_store_n(&out->expired, sum.expired + held.expired, __ATOMIC_RELAXED);
	__atomic_store_n(&out->evicted, sum.evicted + held.evicted, __ATOMIC_RELAXED);
}

void model_table_caches(const struct model_table *t, struct stats_cache out[DP_MAX_MODELS])
{
	for (uint32_t i = 0; i < DP_MAX_MODELS; i++)
		caches_show(t, i, &out[i]);
}

/* ---- life ---- */

int model_table_init(struct model_table *t, const struct quiesce *q, const struct live_model_options *o)
{
	memset(t, 0, sizeof(*t));
	for (uint32_t i = 0; i < MODEL_PENDING; i++)
		t->pending[i].fd = -1;
	t->quiesce = q;
	t->options = *o;
	t->published = calloc(1, sizeof(*t->published));
	return t->published ? 0 : -ENOMEM;
}

void model_table_uninit(struct model_table *t)
{
	for (uint32_t i = 0; i < DP_MAX_MODELS; i++) {
		live_model_free(t->entries[i].next);
		live_model_free(t->entries[i].current);
		live_model_free(t->entries[i].previous);
	}
	for (uint32_t i = 0; i < MODEL_RETIRED; i++) {
		live_model_free(t->retired[i].model);
		cache_set_free(t->retired[i].caches);
		free(t->retired[i].set);
	}
	for (uint32_t i = 0; i < MODEL_PENDING; i++)
		pending_forget(&t->pending[i]);
	free(t->published);
	memset(t, 0, sizeof(*t));
}
