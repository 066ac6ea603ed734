/* SPDX-License-Identifier: BSD-3-Clause
 * Three model slots, and the set workers look at: see model_slot.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/fd.h"
#include "model_slot.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* Linux 5.14; older headers */
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/* The service thread warms models up and measures them, and control takes one that is silent for hang_ms
 * for dead. */
enum { WARM_UP_MS = 100, MEASURE_MS = 100, TRIAL_RUNS = 8 };

/* ---- one artifact ---- */

static int artifact_map(struct live_model *m, int fd, struct error *err)
{
	int seals = fcntl(fd, F_GET_SEALS);
	int rc;

	if (seals < 0 || !(seals & F_SEAL_WRITE))
		return error_set(err, -EPERM, "artifact is not sealed against writing");
	m->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (m->fd < 0)
		return error_set(err, -errno, "artifact: %s", strerror(errno));
	rc = fd_region_map(fd, false, false, &m->map, &m->map_bytes, err);
	if (rc)
		return error_prefix(err, "artifact");
	madvise(m->map, m->map_bytes, MADV_POPULATE_READ); /* no page fault in the poll loop */
	return 0;
}

static void describe(struct live_model *m, bool refuse_not_finite)
{
	const struct model_file_header *h = model_header(m->model);
	uint32_t offset = 0;

	memcpy(m->name, h->name, sizeof(m->name));
	m->name[sizeof(m->name) - 1] = 0;
	m->model_id = wire_model_id(m->name);
	m->row_in_bytes = h->row_in_bytes;
	m->row_out_bytes = h->row_out_bytes;
	m->max_rows = h->max_rows;
	m->run_rows = h->max_rows < MODEL_RUN_ROWS ? h->max_rows : MODEL_RUN_ROWS;
	m->cost_units = h->cost_units;
	m->version = h->model_version;
	m->dtype_in = (uint8_t)h->inputs[0].dtype;
	m->dtype_out = (uint8_t)h->outputs[0].dtype;
	for (uint32_t i = 0; i < h->n_inputs; i++) {
		if (h->inputs[i].dtype == WIRE_F32) {
			m->f32[m->n_f32].offset = offset;
			m->f32[m->n_f32++].n = h->inputs[i].elements;
		}
		offset += h->inputs[i].row_bytes;
	}
	m->check_finite = refuse_not_finite && m->n_f32;
}

/* One run per worker, each on cache lines of its own. */
static int runs_new(struct live_model *m, uint32_t n_workers, struct error *err)
{
	size_t each = (run_bytes(m->model, m->run_rows) + 4095) & ~(size_t)4095;

	m->run_memory_bytes = each * n_workers;
	m->run_memory = mmap(NULL, m->run_memory_bytes, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (m->run_memory == MAP_FAILED) {
		m->run_memory = NULL;
		return error_set(err, -ENOMEM, "model %s: no %zu bytes to run it on %u workers",
			m->name, m->run_memory_bytes, n_workers);
	}
	m->uses = aligned_alloc(64, n_workers * sizeof(*m->uses));
	if (!m->uses)
		return error_set(err, -ENOMEM, "out of memory");
	memset(m->uses, 0, n_workers * sizeof(*m->uses));
	madvise(m->run_memory, m->run_memory_bytes, MADV_HUGEPAGE);
	madvise(m->run_memory, m->run_memory_bytes, MADV_POPULATE_WRITE); /* no page fault later */
	for (uint32_t i = 0; i < n_workers; i++)
		m->runs[i] = run_init((uint8_t *)m->run_memory + i * each, m->model, m->run_rows);
	return 0;
}

/* One full batch on each worker's run, or as much of it as the time allows. */
static void warm_up_runs(struct live_model *m, uint32_t n_workers, const void *const rows[],
	void *const outs[])
{
	for (uint32_t i = 0; i < n_workers; i++) {
		uint64_t end_ns = clock_now_ns() + WARM_UP_MS * NS_PER_MS / n_workers;

		run_start(m->runs[i], m->run_rows, rows, outs);
		while (!run_step(m->runs[i], 0) && clock_now_ns() < end_ns)
			;
	}
}

/* The rows a model is tried with, and where their answers go. */
struct trial {
	struct run *run;
	uint8_t *memory;
	const void *rows[MODEL_RUN_ROWS];
	void *outs[MODEL_RUN_ROWS];
};

/* Floats between -1 and 1 (nothing a model does with them is special), other types zero. */
static void trial_fill(const struct live_model *m, uint8_t *row)
{
	uint32_t seed = m->model_id | 1;

	for (uint32_t s = 0; s < m->n_f32; s++) {
		for (uint32_t i = 0; i < m->f32[s].n; i++) {
			float v = (float)(int32_t)seed / 2147483648.0f;

			memcpy(row + m->f32[s].offset + i * sizeof(v), &v, sizeof(v));
			seed = seed * 1664525u + 1013904223u;
		}
	}
}

/* Once, looking at the clock all the time: 0 = not within the limit. */
static uint64_t trial_probe(const struct trial *t, uint32_t rows, uint64_t limit_ns)
{
	uint64_t begin_ns = clock_now_ns();

	run_start(t->run, rows, t->rows, t->outs);
	while (!run_step(t->run, 0))
		if (clock_now_ns() - begin_ns > limit_ns)
			return 0;
	return clock_now_ns() - begin_ns;
}

/* Short ones again as a worker runs them, several to one look at the clock. */
static uint64_t trial_run(void *ctx, uint32_t rows, uint64_t limit_ns)
{
	const struct trial *t = ctx;
	uint64_t ns = trial_probe(t, rows, limit_ns);

	if (ns && ns < limit_ns / (4 * TRIAL_RUNS)) {
		ns = clock_now_ns();
		for (int i = 0; i < TRIAL_RUNS; i++) {
			run_start(t->run, rows, t->rows, t->outs);
			run_step(t->run, UINT64_MAX - 1); /* in slices, but to the end */
		}
		ns = (clock_now_ns() - ns) / TRIAL_RUNS;
		return ns ? ns : 1;
	}
	return ns;
}

/* Let caches fill and lazy set-up happen here rather than under the first request, and learn what a run
 * costs. */
static int warm_up(struct live_model *m, uint32_t n_workers, struct error *err)
{
	size_t in_bytes = m->row_in_bytes, out_bytes = m->row_out_bytes;
	struct trial t = {.run = m->runs[0], .memory = calloc(1, in_bytes + out_bytes)};

	if (!t.memory)
		return error_set(err, -ENOMEM, "model %s: no memory to try it", m->name);
	trial_fill(m, t.memory);
	for (uint32_t i = 0; i < m->run_rows; i++) {
		t.rows[i] = t.memory;
		t.outs[i] = t.memory + in_bytes;
	}
	warm_up_runs(m, n_workers, t.rows, t.outs);
	cost_measure(&m->uses[0].cost, m->run_rows, MEASURE_MS * NS_PER_MS, trial_run, &t);
	for (uint32_t i = 1; i < n_workers; i++)
		m->uses[i].cost = m->uses[0].cost;
	free(t.memory);
	return 0;
}

int live_model_new(struct live_model **out, int fd, const struct link_artifact *a,
	uint32_t n_workers, enum model_backend backend, bool refuse_not_finite, struct error *err)
{
	struct live_model *m = aligned_alloc(64, (sizeof(*m) + 63) & ~(size_t)63);
	int rc;

	if (!m)
		return error_set(err, -ENOMEM, "out of memory");
	memset(m, 0, sizeof(*m));
	m->fd = -1;
	m->artifact = *a;
	m->index = a->model_index;
	rc = artifact_map(m, fd, err);
	if (!rc)
		rc = model_open(&m->model, m->map, m->map_bytes, backend, err);
	if (!rc) {
		describe(m, refuse_not_finite);
		rc = runs_new(m, n_workers, err);
	}
	if (!rc)
		rc = warm_up(m, n_workers, err);
	if (rc) {
		live_model_free(m);
		return rc;
	}
	*out = m;
	return 0;
}

void live_model_free(struct live_model *m)
{
	if (!m)
		return;
	if (m->run_memory)
		munmap(m->run_memory, m->run_memory_bytes);
	free(m->uses);
	if (m->model)
		model_close(m->model);
	if (m->map)
		munmap(m->map, m->map_bytes);
	fd_close(m->fd);
	free(m);
}

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

static struct model_retired *retired_room(struct model_table *t, uint32_t needed)
{
	struct model_retired *first = NULL;
	uint32_t room = 0;

	model_table_reap(t);
	for (uint32_t i = 0; i < MODEL_RETIRED; i++) {
		if (!t->retired[i].model && !t->retired[i].set) {
			first = first ? first : &t->retired[i];
			room++;
		}
	}
	return room >= needed ? first : NULL;
}

/* Hand an object to the reaper. There is room: checked before the change began. */
static void retire(struct model_table *t, struct live_model *m, struct model_set *s)
{
	struct model_retired *r = retired_room(t, 1);

	r->model = m;
	r->set = s;
	quiesce_mark(t->quiesce, &r->since);
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
		retire(t, NULL, old);
	}
	for (int i = 0; i < 3; i++)
		if (were[i] && !in_a_slot(t, were[i]))
			retire(t, were[i], NULL);
	return 0;
}

void model_table_reap(struct model_table *t)
{
	for (uint32_t i = 0; i < MODEL_RETIRED; i++) {
		struct model_retired *r = &t->retired[i];

		if ((!r->model && !r->set) || !quiesce_passed(t->quiesce, &r->since))
			continue;
		if (r->model && t->released)
			t->released(t->released_ctx, r->model->index, r->model->artifact.number);
		live_model_free(r->model);
		free(r->set);
		r->model = NULL;
		r->set = NULL;
	}
}

static void costs_of(const struct live_model *m, uint32_t n_workers, struct stats_cost *out)
{
	if (!m) {
		__atomic_store_n(&out->number, 0, __ATOMIC_RELEASE);
		return;
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
		costs_of(t->entries[i].next, t->n_workers, &out[i][LINK_SLOT_NEXT - 1]);
		costs_of(t->entries[i].current, t->n_workers, &out[i][LINK_SLOT_CURRENT - 1]);
		costs_of(t->entries[i].previous, t->n_workers, &out[i][LINK_SLOT_PREVIOUS - 1]);
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
	int rc = live_model_new(m, fd, a, t->n_workers, t->backend, t->refuse_not_finite, err);

	if (rc)
		return rc;
	rc = check_id(t, *m, err);
	if (rc)
		live_model_free(*m);
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

/* ---- life ---- */

int model_table_init(struct model_table *t, const struct quiesce *q, uint32_t n_workers,
	enum model_backend backend, bool refuse_not_finite)
{
	memset(t, 0, sizeof(*t));
	for (uint32_t i = 0; i < MODEL_PENDING; i++)
		t->pending[i].fd = -1;
	t->quiesce = q;
	t->n_workers = n_workers;
	t->backend = backend;
	t->refuse_not_finite = refuse_not_finite;
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
		free(t->retired[i].set);
	}
	for (uint32_t i = 0; i < MODEL_PENDING; i++)
		pending_forget(&t->pending[i]);
	free(t->published);
	memset(t, 0, sizeof(*t));
}
