/* SPDX-License-Identifier: BSD-3-Clause
 * Engine cores: see engine.h.
 */
#include <immintrin.h>

#include "base/clock.h"
#include "base/denormals.h"
#include "engine.h"

enum { NAP_AFTER_POLLS = 1 << 16, NAP_US = 50, ALIVE_EVERY_POLLS = 1 << 10 };

static void alive(struct engine *e)
{
	__atomic_store_n(&e->stats->heartbeat_ns, clock_now_ns(), __ATOMIC_RELAXED);
}

/* Workers take turns. */
static struct job *next_job(struct engine *e, uint32_t *worker)
{
	for (uint32_t i = 0; i < e->n_workers; i++) {
		uint32_t w = (e->next + i) % e->n_workers;
		struct job *j = engine_get(&e->in[w]);

		if (j) {
			e->next = w + 1;
			*worker = w;
			return j;
		}
	}
	return NULL;
}

bool engine_poll(struct engine *e)
{
	struct stats_engine *s = e->stats;
	uint32_t worker;
	struct job *j = next_job(e, &worker);

	if (!j)
		return false;
	while (!job_step(j, j->model->job_runs[e->index], clock_tsc() + e->slice_tsc))
		alive(e);
	__atomic_store_n(&s->runs, s->runs + 1, __ATOMIC_RELAXED);
	__atomic_store_n(&s->busy_cycles, s->busy_cycles + j->spent_tsc, __ATOMIC_RELAXED);
	engine_put(&e->out[worker], j); /* has room: a worker has only ENGINE_JOBS here */
	alive(e);
	return true;
}

static void rest(const struct engine *e, uint32_t idle)
{
	const struct timespec nap = {.tv_nsec = NAP_US * (long)NS_PER_US};

	if (e->naps && idle > NAP_AFTER_POLLS)
		nanosleep(&nap, NULL);
	else
		_mm_pause();
}

void engine_run(struct engine *e)
{
	uint32_t idle = 0;

	denormals_flush();
	alive(e);
	__atomic_store_n(&e->stats->state, 1, __ATOMIC_RELEASE);
	for (;;) {
		if (engine_poll(e)) {
			idle = 0;
			continue;
		}
		if (__atomic_load_n(&e->stop, __ATOMIC_ACQUIRE))
			break;
		if (idle++ % ALIVE_EVERY_POLLS == 0)
			alive(e);
		rest(e, idle);
	}
	__atomic_store_n(&e->stats->state, 2, __ATOMIC_RELEASE);
}
