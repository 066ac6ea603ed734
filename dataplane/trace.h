/* SPDX-License-Identifier: BSD-3-Clause
 * A trace of input rows (abi/trace.h) in the workers: recording what is permitted, and warming the response
 * caches of the current version. Warming is a run of its own, suspended between polls, in memory of its own;
 * no plan is charged and nothing is counted, because nobody asked.
 *
 *   idle poll, or every 32nd busy one ─▶ 16 rows that are not here yet ─▶ run_step ... ─▶ kept
 *
 * The service thread opens it, shows it to the workers (shared.trace) and closes it when all of them have
 * begun another burst since it was taken away.
 */
#pragma once

#include "abi/trace.h"
#include "model_slot.h"

struct worker;
struct request;
struct trace;

/* Check and map the region behind `fd` (not consumed); for warming, also take memory for a run on every worker
 * and hold the model. 0 or -errno with err. Service thread. */
int trace_open(struct trace **out, int fd, struct model_table *models, uint32_t n_workers, struct error *err);
void trace_close(struct trace *t); /* NULL allowed */

/* Record the rows of a request, if it is one of those. Any worker. */
void trace_record(struct worker *w, struct trace *t, const struct request *r);

/* Warm this worker's cache a little: a 16th of a slice, or the least step there is. True = there is more to
 * do. Between bursts; w->models and w->limits are loaded. */
bool trace_warm(struct worker *w, struct trace *t);
