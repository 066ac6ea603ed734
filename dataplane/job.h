/* SPDX-License-Identifier: BSD-3-Clause
 * A run longer than the slice: requests of one model whose answers are computed piece by piece, by the
 * worker between polls or by an engine core. It points into packets that the worker holds meanwhile; one
 * thread at a time touches it.
 */
#pragma once

#include <stdbool.h>

#include "burst.h"
#include "model_slot.h"

enum { JOB_PARTS = 32 };

/* One request of a job. */
struct job_part {
	const uint8_t *rows;
	uint8_t *out;
	uint16_t n_rows;
	uint16_t waiting; /* whose: backlog.h */
};

struct job {
	const struct live_model *model; /* NULL = the job is free */
	uint32_t n_parts, n_rows;
	uint32_t part, row; /* next row to be put into a run */
	uint32_t weight;    /* of the subscribers it works for */
	uint32_t runs;      /* runs of the model it took */
	bool running;       /* the run has been started and is not at its end */
	uint64_t cost_ns;   /* as estimated when it was made */
	uint64_t spent_tsc; /* so far */
	struct job_part parts[JOB_PARTS];
	uint8_t reply[JOB_PARTS][BURST_REPLY_BYTES] MR_ALIGNED(64); /* rows of answers of one datagram */
};

/* Make a free job one of `model`, without any request yet. */
void job_begin(struct job *j, const struct live_model *model);
/* Add a request of n_rows rows. `out` NULL = in front of the job's own memory for it. */
void job_add(struct job *j, const uint8_t *rows, uint8_t *out, uint32_t n_rows, uint32_t waiting);
/* Work on it in `run` until all is computed (true) or the TSC passes `deadline_tsc` (false). */
bool job_step(struct job *j, struct run *run, uint64_t deadline_tsc);
