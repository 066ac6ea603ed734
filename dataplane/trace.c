/* SPDX-License-Identifier: BSD-3-Clause
 * Recording and warming: see trace.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/pool.h"
#include "recall.h"
#include "trace.h"

enum { WARM_ROWS = 16, STEP_PARTS = 16 };

/* What a worker is computing. */
struct warming {
	uint32_t next; /* row */
	uint32_t n;    /* rows of the run; 0 = none is under way */
	bool done;
	cache_owner owner;
	struct run *run;
	void *memory; /* the run, rows and answers */
	size_t bytes;
	uint8_t *rows[WARM_ROWS], *outs[WARM_ROWS]; /* copies: control could write the region meanwhile */
	struct text_tag tags[WARM_ROWS];
} MR_ALIGNED(64);

struct trace {
	struct trace_header *shared; /* the region: rows and counters */
	size_t bytes;
	struct trace_header head;    /* as it was checked */
	struct live_model *model;    /* warming: held */
	uint32_t n_workers;
	struct warming workers[];
};

static const uint8_t *row_at(const struct trace *t, uint32_t i)
{
	return (const uint8_t *)t->shared + TRACE_ROWS_AT + (size_t)i * t->head.row_bytes;
}

/* ---- service thread ---- */

static int check(const struct trace *t, const struct live_model *m, struct error *err)
{
	const struct trace_header *h = &t->head;

	if (t->bytes < TRACE_ROWS_AT || h->magic != TRACE_MAGIC || h->version != TRACE_VERSION ||
		(h->kind != TRACE_WARM && h->kind != TRACE_RECORD))
		return error_set(err, -EPROTO, "trace: %zu bytes are not a region of version %d", t->bytes,
			TRACE_VERSION);
	if (!m)
		return error_set(err, -ENOENT, "trace: model %u has no current version", h->model_index);
	if (h->row_bytes != m->row_in_bytes)
		return error_set(err, -EINVAL, "trace: rows of %u bytes, model %s takes %u", h->row_bytes, m->name,
			m->row_in_bytes);
	if (!h->n_rows || h->total_bytes != trace_bytes(h->n_rows, h->row_bytes) || h->total_bytes > t->bytes ||
		h->total_bytes > TRACE_ROWS_AT + (uint64_t)TRACE_MAX_BYTES)
		return error_set(err, -EINVAL, "trace: %u rows in %lu bytes, the region has %zu", h->n_rows,
			(unsigned long)h->total_bytes, t->bytes);
	if (h->kind == TRACE_WARM && !m->caches)
		return error_set(err, -EINVAL, "model %s has no response cache to warm", m->name);
	if (h->kind == TRACE_WARM && !m->caches->all[0].shared && h->subscriber >= LIMITS_MAX_SLOTS)
		return error_set(err, -EINVAL, "the cache of model %s is not shared: name the subscriber whose rows "
			"these are", m->name);
	return 0;
}

/* Memory of one worker's run of up to WARM_ROWS rows. */
static int warming_init(struct warming *x, const struct live_model *m)
{
	uint32_t n = m->run_rows < WARM_ROWS ? m->run_rows : WARM_ROWS;
	size_t run = (run_bytes(m->model, n) + 63) & ~(size_t)63, in = (m->row_in_bytes + 63) & ~63u;
	size_t out = (m->row_out_bytes + 63) & ~63u;
	uint8_t *at;

	x->bytes = run + n * (in + out);
	x->memory = at = pool_new(x->bytes);
	if (!at)
		return -ENOMEM;
	x->run = run_init(at, m->model, n);
	at += run;
	for (uint32_t i = 0; i < n; i++, at += in + out) {
		x->rows[i] = at;
		x->outs[i] = at + in;
	}
	return 0;
}

int trace_open(struct trace **out, int fd, struct model_table *models, uint32_t n_workers, struct error *err)
{
	struct trace *t = aligned_alloc(64, sizeof(*t) + n_workers * sizeof(t->workers[0]));
	struct live_model *m;
	void *map;
	int rc;

	if (!t)
		return error_set(err, -ENOMEM, "out of memory");
	memset(t, 0, sizeof(*t) + n_workers * sizeof(t->workers[0]));
	rc = fd_region_map(fd, true, true, &map, &t->bytes, err);
	if (rc) {
		free(t);
		return error_prefix(err, "trace");
	}
	t->shared = map;
	t->n_workers = n_workers;
	memcpy(&t->head, map, t->bytes < sizeof(t->head) ? t->bytes : sizeof(t->head));
	m = t->head.model_index < DP_MAX_MODELS ? models->entries[t->head.model_index].current : NULL;
	rc = check(t, m, err);
	for (uint32_t i = 0; !rc && t->head.kind == TRACE_WARM && i < n_workers; i++)
		if (warming_init(&t->workers[i], m))
			rc = error_set(err, -ENOMEM, "trace: no memory for runs of model %s", m->name);
	if (rc) {
		trace_close(t);
		return rc;
	}
	if (t->head.kind == TRACE_WARM) {
		t->model = m;
		m->traced = true;
	}
	*out = t;
	return 0;
}

void trace_close(struct trace *t)
{
	if (!t)
		return;
	if (t->model)
		t->model->traced = false;
	for (uint32_t i = 0; i < t->n_workers; i++)
		pool_free(t->workers[i].memory, t->workers[i].bytes);
	munmap(t->shared, t->bytes);
	free(t);
}

/* ---- recording ---- */

void trace_record(struct worker *w, struct trace *t, const struct request *r)
{
	const struct trace_header *h = &t->head;
	uint32_t subscriber = (uint32_t)(r->limit - w->limits->slots), bytes = h->row_bytes;

	if (h->kind != TRACE_RECORD || r->model->index != h->model_index || r->model->row_in_bytes != bytes ||
		(h->subscriber != TRACE_EVERYBODY && h->subscriber != subscriber))
		return;
	for (uint32_t i = 0; i < r->n_rows; i++) {
		uint64_t at;

		if (__atomic_load_n(&t->shared->taken, __ATOMIC_RELAXED) >= h->n_rows)
			return;
		at = __atomic_fetch_add(&t->shared->taken, 1, __ATOMIC_RELAXED);
		if (at < h->n_rows)
			memcpy((uint8_t *)row_at(t, (uint32_t)at), r->rows + i * bytes, bytes);
	}
}

/* ---- warming ---- */

static void end(struct trace *t, uint32_t index, enum trace_state state)
{
	t->workers[index].done = true;
	__atomic_store_n(&t->shared->workers[index].state, state, __ATOMIC_RELEASE);
}

/* Whose rows they are for this cache. */
static cache_owner owner_of(const struct worker *w, const struct trace *t, const struct cache *c)
{
	uint32_t s = t->head.subscriber, generation = 0;

	if (w->limits && s < w->limits->n)
		generation = __atomic_load_n(&w->limits->slots[s].generation, __ATOMIC_RELAXED);
	return cache_owner_of(c, s < LIMITS_MAX_SLOTS ? s : 0, generation);
}

/* Collect the next rows that are not here; a bounded number is looked at. */
static void collect(struct worker *w, struct trace *t, struct cache *c)
{
	const struct live_model *m = t->model;
	struct warming *x = &t->workers[w->index];
	uint32_t most = m->run_rows < WARM_ROWS ? m->run_rows : WARM_ROWS;
	uint64_t now_ns = w->clock.now_ns(w->clock.ctx);

	x->owner = owner_of(w, t, c);
	for (uint32_t i = 0; i < WARM_ROWS && x->n < most && x->next < t->head.n_rows; i++) {
		memcpy(x->rows[x->n], row_at(t, x->next++), t->head.row_bytes);
		x->tags[x->n] = text_tag(&w->keeping.hash, x->rows[x->n], t->head.row_bytes);
		x->n += !cache_holds(c, x->owner, x->tags[x->n], now_ns);
	}
	__atomic_store_n(&t->shared->workers[w->index].rows, x->next, __ATOMIC_RELAXED);
	if (x->n)
		run_start(x->run, x->n, (const void *const *)x->rows, (void *const *)x->outs);
	else if (x->next == t->head.n_rows)
		end(t, w->index, TRACE_DONE);
}

static void keep(struct worker *w, struct trace *t, struct cache *c)
{
	struct warming *x = &t->workers[w->index];
	struct trace_progress *p = &t->shared->workers[w->index];
	uint64_t now_ns = w->clock.now_ns(w->clock.ctx);

	for (uint32_t i = 0; i < x->n; i++)
		cache_put(c, x->owner, x->tags[i], x->outs[i], now_ns);
	__atomic_store_n(&p->kept, p->kept + x->n, __ATOMIC_RELAXED);
	x->n = 0;
}

bool trace_warm(struct worker *w, struct trace *t)
{
	struct warming *x = &t->workers[w->index];
	struct cache *c;

	if (t->head.kind != TRACE_WARM || x->done)
		return false;
	c = recall_cache(w, t->model);
	if (!c || model_set_find(w->models, t->model->model_id) != t->model) {
		end(t, w->index, TRACE_STALE);
		return false;
	}
	if (!x->n)
		collect(w, t, c);
	if (x->n && run_step(x->run, clock_tsc() + w->slice_tsc / STEP_PARTS))
		keep(w, t, c);
	return !x->done;
}
