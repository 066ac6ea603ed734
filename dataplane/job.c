/* SPDX-License-Identifier: BSD-3-Clause
 * Long runs in pieces: see job.h.
 */
#include "base/clock.h"
#include "job.h"

void job_begin(struct job *j, const struct live_model *model)
{
	j->model = model;
	j->n_parts = j->n_rows = j->part = j->row = j->weight = j->runs = 0;
	j->running = false;
	j->cost_ns = j->spent_tsc = 0;
}

void job_add(struct job *j, const uint8_t *rows, uint8_t *out, uint32_t n_rows, uint32_t waiting)
{
	struct job_part *p = &j->parts[j->n_parts];

	*p = (struct job_part){rows, out ? out : j->reply[j->n_parts], (uint16_t)n_rows,
		(uint16_t)waiting};
	j->n_parts++;
	j->n_rows += n_rows;
}

/* Start a run of the rows that come next. */
static void start(struct job *j, struct run *run)
{
	const struct live_model *m = j->model;
	const void *rows[MODEL_RUN_ROWS];
	void *outs[MODEL_RUN_ROWS];
	uint32_t n = 0;

	while (n < m->run_rows && j->part < j->n_parts) {
		const struct job_part *p = &j->parts[j->part];

		rows[n] = p->rows + (size_t)j->row * m->row_in_bytes;
		outs[n++] = p->out + (size_t)j->row * m->row_out_bytes;
		if (++j->row == p->n_rows) {
			j->row = 0;
			j->part++;
		}
	}
	run_start(run, n, rows, outs);
	j->running = true;
	j->runs++;
}

bool job_step(struct job *j, struct run *run, uint64_t deadline_tsc)
{
	uint64_t begin = clock_tsc();
	bool more = true;

	do {
		if (!j->running && j->part == j->n_parts) {
			more = false;
			break;
		}
		if (!j->running)
			start(j, run);
		j->running = !run_step(run, deadline_tsc);
	} while (clock_tsc() < deadline_tsc);
	j->spent_tsc += clock_tsc() - begin;
	return !more || (!j->running && j->part == j->n_parts);
}
