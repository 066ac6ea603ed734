/* SPDX-License-Identifier: BSD-3-Clause
 * What a run found: table for people, JSON for scripts, one line for `make run`.
 */
#pragma once

#include "perf/loadgen/run.h"

/* Table on stdout. */
void report_table(const struct run_report *r, const struct options *o, const struct workload *w);

/* "millrace: answered N/N requests, accuracy A, p50 X us, p99 Y us, Z req/s" on stdout. */
void report_summary(const struct run_report *r, const struct workload *w);

/* One JSON object. 0 or -errno with err. */
int report_json(const char *path, const struct run_report *r, const struct options *o,
	const struct workload *w, struct error *err);
