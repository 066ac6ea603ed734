/* SPDX-License-Identifier: BSD-3-Clause
 * JSON lines over control.sock: see client.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "control/cli/client.h"

enum { MAX_REPLY_BYTES = 64 << 20 };

int client_open(struct client *c, const char *path, struct error *err)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int rc;

	memset(c, 0, sizeof(*c));
	c->fd = -1;
	if (strlen(path) >= sizeof(sa.sun_path))
		return error_set(err, -ENAMETOOLONG, "%s: longer than a socket path may be", path);
	memcpy(sa.sun_path, path, strlen(path) + 1);
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd >= 0 && connect(c->fd, (struct sockaddr *)&sa, sizeof(sa)) == 0)
		return 0;
	rc = -errno;
	client_close(c);
	return error_set(err, rc, "%s: %s%s", path, strerror(-rc),
		rc == -ENOENT || rc == -ECONNREFUSED ? " (is millrace-control running?)" : "");
}

void client_close(struct client *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	free(c->buffer);
	c->buffer = NULL;
	c->used = c->cap = 0;
}

static int send_all(struct client *c, const char *data, size_t n, struct error *err)
{
	while (n) {
		ssize_t r = send(c->fd, data, n, MSG_NOSIGNAL);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0 && errno == EPIPE)
			return 0; /* turned away: the reason can still be read */
		if (r < 0)
			return error_set(err, -errno, "control socket: %s", strerror(errno));
		data += r;
		n -= (size_t)r;
	}
	return 0;
}

static int grow(struct client *c, struct error *err)
{
	size_t cap = c->cap ? c->cap * 2 : 65536;
	char *p;

	if (cap > MAX_REPLY_BYTES)
		return error_set(err, -EMSGSIZE, "control socket: answer too long");
	p = realloc(c->buffer, cap);
	if (!p)
		return error_set(err, -ENOMEM, "out of memory");
	c->buffer = p;
	c->cap = cap;
	return 0;
}

static int receive(struct client *c, struct error *err)
{
	ssize_t r;
	int rc = c->used == c->cap ? grow(c, err) : 0;

	if (rc)
		return rc;
	do {
		r = read(c->fd, c->buffer + c->used, c->cap - c->used);
	} while (r < 0 && errno == EINTR);
	if (r < 0)
		return error_set(err, -errno, "control socket: %s", strerror(errno));
	if (r == 0)
		return error_set(err, -ECONNRESET, "control socket: closed before an answer came");
	c->used += (size_t)r;
	return 0;
}

/* Next line as JSON. */
static int next_line(struct client *c, json_t **out, struct error *err)
{
	char *end;
	size_t n;
	int rc;

	while (!c->used || !(end = memchr(c->buffer, '\n', c->used))) {
		rc = receive(c, err);
		if (rc)
			return rc;
	}
	n = (size_t)(end - c->buffer);
	*out = json_loadb(c->buffer, n, 0, NULL);
	c->used -= n + 1;
	memmove(c->buffer, end + 1, c->used);
	return *out ? 0 : error_set(err, -EPROTO, "control socket: answer is not JSON");
}

static void report(json_t *p, client_progress_fn progress, void *arg)
{
	const char *text = json_string_value(json_object_get(p, "text"));

	if (progress)
		progress((uint64_t)json_integer_value(json_object_get(p, "done")),
			(uint64_t)json_integer_value(json_object_get(p, "total")), text ? text : "", arg);
}

int client_call(struct client *c, const char *cmd, const json_t *args, bool dry_run,
	client_progress_fn progress, void *arg, json_t **reply, struct error *err)
{
	json_int_t id = ++c->next_id;
	json_t *o = json_pack("{s:I, s:s, s:b, s:o}", "id", id, "cmd", cmd, "dry_run", dry_run, "args",
		args ? json_deep_copy(args) : json_object());
	char *line = o ? json_dumps(o, JSON_COMPACT) : NULL;
	int rc;

	json_decref(o);
	if (!line)
		return error_set(err, -EINVAL, "an argument is not UTF-8");
	rc = send_all(c, line, strlen(line), err);
	if (rc == 0)
		rc = send_all(c, "\n", 1, err);
	free(line);
	while (rc == 0 && (rc = next_line(c, &o, err)) == 0) {
		json_t *p = json_object_get(o, "progress"), *their = json_object_get(o, "id");

		if (!p && (json_is_null(their) || json_integer_value(their) == id)) {
			*reply = o;
			return 0;
		}
		report(p, progress, arg);
		json_decref(o);
	}
	return rc;
}
