/* SPDX-License-Identifier: BSD-3-Clause
 * Traces of a model's input rows: recorded from traffic into state_dir/traces/MODEL.npy (mode 0600: it holds
 * what subscribers sent), and read to warm the model's response caches. At most one at a time. Files are
 * NumPy arrays [rows][input...] of the input's type; of a model with several inputs, [rows][bytes of a row]
 * of uint8, as rows travel (protocol). Loop thread only.
 */
#pragma once

#include "control/control.h"

enum {
	TRACES_MAX_SECONDS = 3600,
};

struct trace_result {
	uint64_t rows; /* recorded, or looked at on each worker */
	uint64_t kept; /* warming: answers computed and kept, of all workers together */
	char path[320];
};

struct trace_user {
	void (*progress)(uint64_t done, uint64_t total, const char *text, void *arg);
	/* Exactly once, from the loop. */
	void (*done)(int rc, const struct trace_result *r, const struct error *err, void *arg);
	void *arg;
};

/* Warm the caches of `name`'s current version with the rows of `path` (NULL: what was recorded), as questions of
 * `subscriber` (NULL: nobody's, for shared caches only). 0 = user->done will be called; 1 = it was a dry run
 * and nothing is in the way; -errno with err = refused. */
int traces_warm(struct control *ctl, const char *name, const char *path, const char *subscriber, bool dry_run,
	const struct trace_user *user, struct error *err);

/* Record the next `rows` that are permitted to run on `name`, of `subscriber` (NULL: of all), for at most
 * `seconds`. Same return rule. */
int traces_record(struct control *ctl, const char *name, uint32_t rows, uint32_t seconds, const char *subscriber,
	bool dry_run, const struct trace_user *user, struct error *err);

/* The dataplane went away. */
void traces_detached(struct control *ctl);
void traces_cancel(struct control *ctl);
