/* SPDX-License-Identifier: BSD-3-Clause
 * The SQLite database state_dir/millrace.db: opened with WAL, brought to the newest schema in one
 * transaction, and small calls that bind and step. Loop thread only.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "control/control.h"

struct sqlite3_stmt;

int store_init(struct control *ctl, struct error *err);
void store_uninit(struct control *ctl);
/* Open (create) the database at `path` without a control around it (tests). */
int store_open(struct store **out, const char *path, struct error *err);
void store_close(struct store *s);

/* Run one statement. `types` has one letter per value: i int64_t, d double, s const char * (NULL
 * allowed), b const void * followed by int bytes. 0; -EEXIST for a broken UNIQUE; -ENOSPC; else -EIO. */
int store_run(struct store *s, struct error *err, const char *sql, const char *types, ...);
/* The same, calling `row` for each result; it stops when row returns non-zero and returns that. */
int store_query(struct store *s, struct error *err, int (*row)(struct sqlite3_stmt *st, void *arg),
	void *arg, const char *sql, const char *types, ...);
/* A text column copied into out[n], always terminated. */
void store_text(struct sqlite3_stmt *st, int column, char *out, uint32_t n);

int store_begin(struct store *s, struct error *err);
/* Commit when rc is 0, else roll back. Returns rc, or the commit's failure with err. */
int store_end(struct store *s, int rc, struct error *err);
