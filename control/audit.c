/* SPDX-License-Identifier: BSD-3-Clause
 * Hash-chained audit log: see audit.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>
#include <openssl/sha.h>

#include "base/clock.h"
#include "base/log.h"
#include "control/audit.h"
#include "control/config.h"

enum { AUDIT_MAX_LINE = 8192 };

struct audit {
	int fd;
	uint64_t seq;  /* of the next line */
	char head[65]; /* hash of the last line */
	char path[512];
};

static void hash_line(const char *line, size_t n, char hex[65])
{
	uint8_t digest[SHA256_DIGEST_LENGTH];

	SHA256((const uint8_t *)line, n, digest);
	for (size_t i = 0; i < sizeof(digest); i++)
		snprintf(hex + 2 * i, 3, "%02x", digest[i]);
}

static void zero_head(char head[65])
{
	memset(head, '0', 64);
	head[64] = 0;
}

/* One line against what the chain expects. NULL = fits, else what is wrong. */
static const char *check_line(const char *line, size_t n, uint64_t seq, const char *head)
{
	json_t *o = json_loadb(line, n, JSON_REJECT_DUPLICATES, NULL);
	const char *prev = json_string_value(json_object_get(o, "prev"));
	const char *bad = NULL;

	if (!json_is_object(o) || !prev)
		bad = "is not an audit record";
	else if ((uint64_t)json_integer_value(json_object_get(o, "seq")) != seq)
		bad = "is out of sequence: lines were removed or added before it";
	else if (strcmp(prev, head))
		bad = "does not fit the line before it: one of the two was edited";
	json_decref(o);
	return bad;
}

/* Walk the chain; *torn_at = offset of an unfinished last line, -1 = none. */
static int walk(FILE *f, struct audit_report *out, off_t *torn_at)
{
	char line[AUDIT_MAX_LINE];
	const char *bad = NULL;
	off_t at = 0;

	*torn_at = -1;
	while (!bad && fgets(line, sizeof(line), f)) {
		size_t n = strlen(line);

		if (n == 0 || line[n - 1] != '\n') {
			if (feof(f)) {
				*torn_at = at;
				break;
			}
			bad = "is too long or holds a zero byte";
		} else {
			bad = check_line(line, n - 1, out->lines + 1, out->head);
		}
		if (bad)
			break;
		hash_line(line, n - 1, out->head);
		out->lines++;
		at += (off_t)n;
	}
	if (!bad)
		return 0;
	out->bad_line = out->lines + 1;
	snprintf(out->reason, sizeof(out->reason), "line %llu %s", (unsigned long long)out->bad_line,
		bad);
	return -EBADMSG;
}

static int verify_path(const char *path, struct audit_report *out, off_t *torn_at)
{
	FILE *f = fopen(path, "re");
	int rc;

	memset(out, 0, sizeof(*out));
	zero_head(out->head);
	*torn_at = -1;
	if (!f && errno == ENOENT)
		return 0;
	if (!f) {
		rc = -errno;
		snprintf(out->reason, sizeof(out->reason), "cannot be read: %s", strerror(-rc));
		return rc;
	}
	rc = walk(f, out, torn_at);
	fclose(f);
	return rc;
}

int audit_verify(const char *path, struct audit_report *out)
{
	off_t torn_at;
	int rc = verify_path(path, out, &torn_at);

	if (rc == 0 && torn_at >= 0) {
		out->bad_line = out->lines + 1;
		snprintf(out->reason, sizeof(out->reason), "the last line is unfinished");
		rc = -EBADMSG;
	}
	return rc;
}

/* Take seq and head from the last complete line of a log whose chain is broken further up. */
static void resume_after_break(struct audit *a)
{
	char line[AUDIT_MAX_LINE];
	FILE *f = fopen(a->path, "re");
	size_t n;

	a->seq = 1;
	while (f && fgets(line, sizeof(line), f)) {
		n = strlen(line);
		if (n && line[n - 1] == '\n')
			n--;
		hash_line(line, n, a->head);
		a->seq++;
	}
	if (f)
		fclose(f);
}

int audit_init(struct control *ctl, struct error *err)
{
	struct audit *a = calloc(1, sizeof(*a));
	struct audit_report r;
	off_t torn_at;
	int rc;

	if (!a)
		return error_set(err, -ENOMEM, "audit: out of memory");
	snprintf(a->path, sizeof(a->path), "%s/audit.log", ctl->config->state_dir);
	a->fd = open(a->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (a->fd < 0) {
		rc = error_set(err, -errno, "audit log %s: %s", a->path, strerror(errno));
		free(a);
		return rc;
	}
	rc = verify_path(a->path, &r, &torn_at);
	a->seq = r.lines + 1;
	memcpy(a->head, r.head, sizeof(a->head));
	ctl->audit = a;
	if (rc) {
		log_error("audit log %s: %s; new entries follow what is there", a->path, r.reason);
		resume_after_break(a);
	} else if (torn_at >= 0) {
		log_warn("audit log %s: an unfinished last line (crash) was cut off", a->path);
		if (ftruncate(a->fd, torn_at))
			log_error("audit log %s: %s", a->path, strerror(errno));
		audit_write(ctl, "millrace-control", "audit.recover", "unfinished last line cut", false, "ok");
	}
	return 0;
}

void audit_uninit(struct control *ctl)
{
	if (!ctl->audit)
		return;
	close(ctl->audit->fd);
	free(ctl->audit);
	ctl->audit = NULL;
}

const char *audit_path(const struct control *ctl)
{
	return ctl->audit ? ctl->audit->path : "";
}

static void put_text(json_t *o, const char *name, const char *text)
{
	json_t *v = json_string(text ? text : "");

	json_object_set_new(o, name, v ? v : json_string("(not UTF-8)"));
}

static char *make_line(const struct audit *a, const char *actor, const char *action,
	const char *subject, bool dry_run, const char *outcome)
{
	json_t *o = json_object();
	time_t now = (time_t)clock_wall_s();
	char when[24] = "", *text;
	struct tm tm;

	if (gmtime_r(&now, &tm))
		strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
	json_object_set_new(o, "seq", json_integer((json_int_t)a->seq));
	put_text(o, "time", when);
	put_text(o, "actor", actor);
	put_text(o, "action", action);
	put_text(o, "subject", subject);
	json_object_set_new(o, "dry_run", json_boolean(dry_run));
	put_text(o, "outcome", outcome);
	put_text(o, "prev", a->head);
	text = json_dumps(o, JSON_COMPACT);
	json_decref(o);
	return text;
}

/* All of it or nothing: half a line would break the chain for everything after it. -1 with errno. */
static int append(struct audit *a, const char *line, size_t n)
{
	off_t end = lseek(a->fd, 0, SEEK_END);
	ssize_t done = end < 0 ? -1 : write(a->fd, line, n);
	int why = done < 0 ? errno : ENOSPC;

	if (done == (ssize_t)n && !fdatasync(a->fd))
		return 0;
	if (done == (ssize_t)n)
		why = errno;
	if (end >= 0 && ftruncate(a->fd, end))
		log_error("audit log %s: %s", a->path, strerror(errno));
	errno = why;
	return -1;
}

void audit_write(struct control *ctl, const char *actor, const char *action, const char *subject,
	bool dry_run, const char *outcome)
{
	struct audit *a = ctl->audit;
	char *line;
	size_t n;

	if (!a)
		return;
	line = make_line(a, actor, action, subject, dry_run, outcome);
	n = line ? strlen(line) : 0;
	if (!line || n + 2 > AUDIT_MAX_LINE) {
		log_error("audit: an entry for %s could not be made", action);
		free(line);
		return;
	}
	line[n] = '\n'; /* over the terminator: one write, so a line is whole or unfinished */
	if (append(a, line, n + 1)) { /* the disk is full: what happened is at least in our own log */
		log_error("audit log %s: %s; not written: %.*s", a->path, strerror(errno), (int)n, line);
	} else {
		hash_line(line, n, a->head);
		a->seq++;
	}
	free(line);
}
