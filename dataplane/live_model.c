/* SPDX-License-Identifier: BSD-3-Clause
 * One artifact, ready to run: see live_model.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "live_model.h"
#include "wide.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* Linux 5.14; older headers */
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/* The service thread warms models up and measures them, and control takes one that is silent for hang_ms
 * for dead. */
enum { WARM_UP_MS = 100, MEASURE_MS = 100, TRIAL_RUNS = 8 };

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

/* Memory of `n` runs, each on pages of its own, placed in runs[]. */
static int runs_new(struct live_model *m, uint32_t n, struct run *runs[], void **memory, size_t *bytes,
	struct error *err)
{
	size_t each = (run_bytes(m->model, m->run_rows) + 4095) & ~(size_t)4095;
	void *p = mmap(NULL, each * n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return error_set(err, -ENOMEM, "model %s: no %zu bytes for %u runs", m->name, each * n, n);
	*memory = p;
	*bytes = each * n;
	madvise(p, each * n, MADV_HUGEPAGE);
	madvise(p, each * n, MADV_POPULATE_WRITE); /* no page fault later */
	for (uint32_t i = 0; i < n; i++)
		runs[i] = run_init((uint8_t *)p + i * each, m->model, m->run_rows);
	return 0;
}

static int uses_new(struct live_model *m, uint32_t n_workers, struct error *err)
{
	m->uses = aligned_alloc(64, n_workers * sizeof(*m->uses));
	if (!m->uses)
		return error_set(err, -ENOMEM, "out of memory");
	memset(m->uses, 0, n_workers * sizeof(*m->uses));
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

/* Runs that can be suspended, where the largest request takes about a slice. */
static int job_runs_new(struct live_model *m, const struct live_model_options *o, struct error *err)
{
	uint32_t rows = WIDE_ROW_BYTES / (m->row_in_bytes ? m->row_in_bytes : 1);

	rows = rows < m->max_rows ? rows : m->max_rows;
	if (!o->n_jobs || cost_run_ns(&m->uses[0].cost, rows ? rows : 1) * 2 < o->slice_ns)
		return 0;
	return runs_new(m, o->n_jobs, m->job_runs, &m->job_memory, &m->job_memory_bytes, err);
}

int live_model_new(struct live_model **out, int fd, const struct link_artifact *a,
	const struct live_model_options *o, struct error *err)
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
		rc = model_open(&m->model, m->map, m->map_bytes, o->backend, err);
	if (!rc) {
		describe(m, o->refuse_not_finite);
		rc = runs_new(m, o->n_workers, m->runs, &m->run_memory, &m->run_memory_bytes, err);
	}
	if (!rc)
		rc = uses_new(m, o->n_workers, err);
	if (!rc)
		rc = warm_up(m, o->n_workers, err);
	if (!rc)
		rc = job_runs_new(m, o, err);
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
	if (m->job_memory)
		munmap(m->job_memory, m->job_memory_bytes);
	free(m->uses);
	cache_set_free(m->caches);
	if (m->model)
		model_close(m->model);
	if (m->map)
		munmap(m->map, m->map_bytes);
	fd_close(m->fd);
	free(m);
}

int live_model_caches_new(struct cache_set **out, const struct live_model *m, const struct mailbox_cache *config,
	uint32_t n_workers, struct error *err)
{
	int rc;

	*out = NULL;
	if (!config->memory_kb)
		return 0;
	rc = cache_set_new(out, n_workers, config, m->row_out_bytes);
	if (rc == -EINVAL)
		return error_set(err, rc, "model %s: a cache of %u KiB does not hold %d answers of %u bytes: "
			"memory_kb %u is the least", m->name, config->memory_kb, CACHE_MIN_ENTRIES,
			m->row_out_bytes, cache_least_kb(m->row_out_bytes));
	return rc ? error_set(err, rc, "model %s: no memory for caches of %u KiB for %u workers", m->name,
		config->memory_kb, n_workers) : 0;
}

struct cache_set *live_model_caches_set(struct live_model *m, struct cache_set *caches, uint32_t n_workers)
{
	struct cache_set *old = m->caches;

	m->caches = caches;
	for (uint32_t i = 0; i < n_workers; i++)
		__atomic_store_n(&m->uses[i].cache, caches ? &caches->all[i] : NULL, __ATOMIC_SEQ_CST);
	return old;
}

bool live_model_held(const struct live_model *m, uint32_t n_workers)
{
	for (uint32_t i = 0; i < n_workers; i++)
		if (__atomic_load_n(&m->uses[i].held, __ATOMIC_ACQUIRE))
			return true;
	return false;
}
