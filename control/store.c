/* SPDX-License-Identifier: BSD-3-Clause
 * The SQLite database: see store.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "control/config.h"
#include "control/paths.h"
#include "control/store.h"

struct store {
	sqlite3 *db;
};

/* migrations[i] brings schema version i to i + 1. Never edit one that was released: append. */
static const char *const migrations[] = {
	"CREATE TABLE plan (name TEXT PRIMARY KEY, rate REAL NOT NULL, burst REAL NOT NULL,"
	" models TEXT NOT NULL DEFAULT '') STRICT;"
	"CREATE TABLE subscriber (slot INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,"
	" plan TEXT REFERENCES plan(name), rate REAL, burst REAL, models TEXT,"
	" suspended INTEGER NOT NULL DEFAULT 0, key_id TEXT NOT NULL UNIQUE, key_salt BLOB NOT NULL,"
	" key_hash BLOB NOT NULL, units INTEGER NOT NULL DEFAULT 0,"
	" last_seen INTEGER NOT NULL DEFAULT 0, created_wall_s INTEGER NOT NULL) STRICT;"
	"CREATE TABLE usage_record (id INTEGER PRIMARY KEY, name TEXT NOT NULL, plan TEXT,"
	" units INTEGER NOT NULL, created_wall_s INTEGER NOT NULL, removed_wall_s INTEGER NOT NULL)"
	" STRICT;"
	"CREATE TABLE model (idx INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,"
	" id INTEGER NOT NULL UNIQUE, live_path TEXT NOT NULL DEFAULT '',"
	" live_artifact BLOB) STRICT;"
	"CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;",
	"ALTER TABLE plan ADD COLUMN weight INTEGER NOT NULL DEFAULT 1;"
	"ALTER TABLE plan ADD COLUMN concurrent INTEGER NOT NULL DEFAULT 0;",
	"ALTER TABLE plan ADD COLUMN quota INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE subscriber ADD COLUMN month INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE subscriber ADD COLUMN month_base INTEGER NOT NULL DEFAULT 0;",
	"ALTER TABLE model ADD COLUMN cache_kb INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE model ADD COLUMN cache_ttl_ms INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE model ADD COLUMN cache_shared INTEGER NOT NULL DEFAULT 0;",
};
enum { SCHEMA_VERSION = sizeof(migrations) / sizeof(migrations[0]) };

static int db_error(struct store *s, int rc, struct error *err)
{
	int code = -EIO;

	if ((rc & 0xff) == SQLITE_CONSTRAINT)
		code = -EEXIST;
	else if ((rc & 0xff) == SQLITE_FULL)
		code = -ENOSPC;
	return error_set(err, code, "database: %s%s", sqlite3_errmsg(s->db),
		code == -ENOSPC ? "; nothing was changed: make room where state_dir lies" : "");
}

static int exec(struct store *s, const char *sql, struct error *err)
{
	int rc = sqlite3_exec(s->db, sql, NULL, NULL, NULL);

	return rc == SQLITE_OK ? 0 : db_error(s, rc, err);
}

static int bind_values(sqlite3_stmt *st, const char *types, va_list ap)
{
	int rc = SQLITE_OK;

	for (int i = 0; types[i] && rc == SQLITE_OK; i++) {
		const void *data;

		switch (types[i]) {
		case 'i':
			rc = sqlite3_bind_int64(st, i + 1, va_arg(ap, int64_t));
			break;
		case 'd':
			rc = sqlite3_bind_double(st, i + 1, va_arg(ap, double));
			break;
		case 's':
			rc = sqlite3_bind_text(st, i + 1, va_arg(ap, const char *), -1,
				SQLITE_TRANSIENT);
			break;
		default:
			data = va_arg(ap, const void *);
			rc = sqlite3_bind_blob(st, i + 1, data, va_arg(ap, int), SQLITE_TRANSIENT);
		}
	}
	return rc;
}

static int run(struct store *s, struct error *err, int (*row)(struct sqlite3_stmt *, void *),
	void *arg, const char *sql, const char *types, va_list ap)
{
	sqlite3_stmt *st;
	int rc = sqlite3_prepare_v2(s->db, sql, -1, &st, NULL);
	int stopped = 0;

	if (rc == SQLITE_OK)
		rc = bind_values(st, types, ap);
	if (rc == SQLITE_OK) {
		while (!stopped && (rc = sqlite3_step(st)) == SQLITE_ROW)
			if (row)
				stopped = row(st, arg);
	}
	if (!stopped && rc != SQLITE_DONE)
		stopped = db_error(s, rc, err);
	sqlite3_finalize(st);
	return stopped;
}

int store_run(struct store *s, struct error *err, const char *sql, const char *types, ...)
{
	va_list ap;
	int rc;

	va_start(ap, types);
	rc = run(s, err, NULL, NULL, sql, types, ap);
	va_end(ap);
	return rc;
}

int store_query(struct store *s, struct error *err, int (*row)(struct sqlite3_stmt *st, void *arg),
	void *arg, const char *sql, const char *types, ...)
{
	va_list ap;
	int rc;

	va_start(ap, types);
	rc = run(s, err, row, arg, sql, types, ap);
	va_end(ap);
	return rc;
}

void store_text(struct sqlite3_stmt *st, int column, char *out, uint32_t n)
{
	const unsigned char *text = sqlite3_column_text(st, column);

	snprintf(out, n, "%s", text ? (const char *)text : "");
}

int store_begin(struct store *s, struct error *err)
{
	return exec(s, "BEGIN IMMEDIATE", err);
}

int store_end(struct store *s, int rc, struct error *err)
{
	if (!rc)
		rc = exec(s, "COMMIT", err);
	if (rc)
		sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
	return rc;
}

static int first_int(struct sqlite3_stmt *st, void *arg)
{
	*(int64_t *)arg = sqlite3_column_int64(st, 0);
	return 0;
}

static int migrate(struct store *s, const char *path, struct error *err)
{
	int64_t version = 0;
	int rc = store_query(s, err, first_int, &version, "PRAGMA user_version", "");
	char sql[64];

	if (rc)
		return rc;
	if (version > SCHEMA_VERSION)
		return error_set(err, -EPROTO, "%s has schema version %lld, this program knows %d: "
			"install the newer program, or restore the older database", path,
			(long long)version, SCHEMA_VERSION);
	if (version == SCHEMA_VERSION)
		return 0;
	rc = store_begin(s, err);
	for (int64_t v = version; !rc && v < SCHEMA_VERSION; v++)
		rc = exec(s, migrations[v], err);
	snprintf(sql, sizeof(sql), "PRAGMA user_version = %d", SCHEMA_VERSION);
	if (!rc)
		rc = exec(s, sql, err);
	return store_end(s, rc, err);
}

int store_open(struct store **out, const char *path, struct error *err)
{
	struct store *s = calloc(1, sizeof(*s));
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	int rc = -ENOMEM;

	if (!s || fd < 0) {
		rc = error_set(err, fd < 0 ? -errno : -ENOMEM, "database %s: %s", path,
			strerror(fd < 0 ? errno : ENOMEM));
		goto fail;
	}
	close(fd); /* before SQLite opens it: closing drops every POSIX lock of this process on the file */
	fd = -1;
	if (sqlite3_open_v2(path, &s->db, SQLITE_OPEN_READWRITE, NULL) != SQLITE_OK) {
		rc = error_set(err, -EIO, "database %s: %s", path, sqlite3_errmsg(s->db));
		goto fail;
	}
	sqlite3_extended_result_codes(s->db, 1);
	sqlite3_busy_timeout(s->db, 200);
	/* FULL: an API key that was handed out is still known after a power cut. */
	rc = exec(s, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;", err);
	if (!rc)
		rc = migrate(s, path, err);
	if (rc) {
		error_prefix(err, "%s", path);
		goto fail;
	}
	*out = s;
	return 0;
fail:
	if (fd >= 0)
		close(fd);
	store_close(s);
	return rc;
}

void store_close(struct store *s)
{
	if (!s)
		return;
	sqlite3_close(s->db);
	free(s);
}

int store_init(struct control *ctl, struct error *err)
{
	char path[PATH_MAX];
	int rc = path_make_dir(ctl->config->state_dir, 0750, err);

	if (rc)
		return rc;
	snprintf(path, sizeof(path), "%s/millrace.db", ctl->config->state_dir);
	return store_open(&ctl->store, path, err);
}

void store_uninit(struct control *ctl)
{
	store_close(ctl->store);
	ctl->store = NULL;
}
