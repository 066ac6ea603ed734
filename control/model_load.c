/* SPDX-License-Identifier: BSD-3-Clause
 * Loads in sandboxed children: see model_load.h.
 */
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "control/child.h"
#include "control/config.h"
#include "control/model_load.h"
#include "control/models_private.h"
#include "control/paths.h"

enum {
	LOAD_BASE_S = 60,
	LOAD_SLOWEST_BYTES_S = 20 << 20, /* a disk slower than this is a broken disk */
	COMPILE_S = 600,
	COMPILE_MEMORY_GB = 16,
	MAX_ONNX_BYTES = 1 << 30,
};

struct model_load {
	struct control *ctl;
	struct model_load_spec spec;
	struct child child;
	struct event *event, *deadline;
	int file, sock, output; /* -1 = none */
	uint64_t bytes;
	bool compiling;
	char source[PATH_MAX], artifact[PATH_MAX], name[WIRE_MODEL_NAME_BYTES];
};

static bool is_onnx(const char *path)
{
	size_t n = strlen(path);

	return n > 5 && !strcmp(path + n - 5, ".onnx");
}

/* ---- files ----------------------------------------------------------------------------------- */

static int open_file(const char *path, uint64_t *bytes, struct error *err)
{
	struct stat st;
	int fd;

	if (path[0] != '/' || strlen(path) >= sizeof(((struct model_version *)0)->path))
		return error_set(err, -EINVAL, "%.200s: an absolute path of at most %zu bytes is "
			"needed", path, sizeof(((struct model_version *)0)->path) - 1);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return error_set(err, -errno, "%s: %s", path, strerror(errno));
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0) {
		*bytes = (uint64_t)st.st_size;
		return fd;
	}
	close(fd);
	return error_set(err, -EINVAL, "%s: not a regular file with contents", path);
}

/* digits.onnx and digits/model.onnx -> digits; what the name rules refuse is refused later by them. */
static void base_name(const char *path, char *out, size_t n)
{
	const char *end = path + strlen(path) - strlen(".onnx");
	const char *from = end;

	while (from > path && from[-1] != '/')
		from--;
	if (end - from == 5 && !strncmp(from, "model", 5) && from - path > 1) {
		end = --from;
		while (from > path && from[-1] != '/')
			from--;
	}
	snprintf(out, n, "%.*s", (int)(end - from), from);
}

int model_load_name(const char *path, char *out, size_t n, struct error *err)
{
	struct model_file_header h;
	uint64_t bytes;
	int fd = open_file(path, &bytes, err);
	ssize_t got;

	if (fd < 0)
		return fd;
	if (is_onnx(path)) {
		close(fd);
		base_name(path, out, n);
		return 0;
	}
	got = pread(fd, &h, sizeof(h), 0);
	close(fd);
	if (got != sizeof(h) || h.magic != MODEL_FILE_MAGIC)
		return error_set(err, -EINVAL, "%s: not a .mrm artifact (magic missing); compile a "
			"model with millrace-model compile", path);
	snprintf(out, n, "%.*s", (int)sizeof(h.name) - 1, h.name);
	return 0;
}

int model_keys_read(struct model_keys *k, const char *const *files, uint32_t n, struct error *err)
{
	memset(k, 0, sizeof(*k));
	for (uint32_t i = 0; i < n && i < 8; i++) {
		size_t len = MODEL_FILE_PUBLIC_KEY_BYTES;
		FILE *f = fopen(files[i], "re");
		EVP_PKEY *key = f ? PEM_read_PUBKEY(f, NULL, NULL, NULL) : NULL;
		int ok = key && EVP_PKEY_get_raw_public_key(key, k->keys[i], &len) == 1 &&
			EVP_PKEY_get_id(key) == EVP_PKEY_ED25519;

		EVP_PKEY_free(key);
		if (f)
			fclose(f);
		if (!ok)
			return error_set(err, -EINVAL, "models.trusted_keys: %s is no Ed25519 public "
				"key in PEM", files[i]);
		k->n++;
	}
	return 0;
}

/* ---- end ------------------------------------------------------------------------------------- */

void model_load_cancel(struct model_load *l)
{
	if (!l)
		return;
	if (l->event)
		event_free(l->event);
	if (l->deadline)
		event_free(l->deadline);
	child_kill(&l->child);
	fd_close(l->file);
	fd_close(l->sock);
	fd_close(l->output);
	free(l);
}

static void finish(struct model_load *l, int rc, int fd, const struct loader_reply *reply,
	const struct error *err)
{
	struct model_load_spec spec = l->spec;
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s", l->artifact);
	if (rc && l->artifact[0] && strcmp(l->artifact, l->source))
		unlink(l->artifact); /* compiled for nothing */
	if (l->child.pid)
		child_wait(&l->child, 100); /* it has said its last word */
	model_load_cancel(l);
	spec.done(rc, fd, reply, path, err, spec.arg);
}

static void fail(struct model_load *l, int code, const char *text)
{
	struct error err;

	error_set(&err, code, "%s: %s", l->source, text);
	finish(l, code, -1, NULL, &err);
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	fail(arg, -ETIMEDOUT, "took too long and was cancelled");
}

/* ---- loader ---------------------------------------------------------------------------------- */

static void on_reply(evutil_socket_t sock, short what, void *arg)
{
	struct model_load *l = arg;
	struct loader_reply r;
	int fds[FD_MAX_PASSED];
	size_t n_fds;
	ssize_t got = fd_recv(sock, &r, sizeof(r), fds, &n_fds);

	(void)what;
	if (got == -EAGAIN)
		return;
	while (n_fds > 1)
		close(fds[--n_fds]);
	if (got != sizeof(r) || r.magic != LOADER_MAGIC ||
		(n_fds != 0) != (r.kind == LOADER_DONE)) {
		fd_close(n_fds ? fds[0] : -1);
		fail(l, -EIO, "the loader died without an answer");
		return;
	}
	r.text[sizeof(r.text) - 1] = 0;
	if (r.kind == LOADER_DONE)
		finish(l, 0, fds[0], &r, NULL);
	else if (r.kind == LOADER_REFUSED)
		fail(l, -EINVAL, r.text);
	else if (l->spec.progress)
		l->spec.progress(r.bytes_done, r.bytes_total, "verifying", l->spec.arg);
}

static int arm(struct model_load *l, int fd, event_callback_fn fn, uint64_t seconds,
	struct error *err)
{
	struct timeval tv = {(time_t)seconds, 0};

	if (l->event)
		event_free(l->event);
	l->event = event_new(l->ctl->base, fd, EV_READ | EV_PERSIST, fn, l);
	if (l->event && event_add(l->event, NULL) == 0 && evtimer_add(l->deadline, &tv) == 0)
		return 0;
	return error_set(err, -ENOMEM, "out of memory");
}

static int send_request(struct model_load *l, struct error *err)
{
	const struct model_keys *keys = models_keys(l->ctl);
	struct loader_request rq = {.magic = LOADER_MAGIC, .n_keys = keys->n};
	int rc;

	rq.want_huge_pages = strcmp(l->ctl->config->dataplane.huge_pages, "off") != 0;
	rq.require_signature = l->ctl->config->models.require_signature;
	memcpy(rq.keys, keys->keys, sizeof(rq.keys));
	rc = fd_send(l->sock, &rq, sizeof(rq), &l->file, 1);
	return rc ? error_set(err, rc, "loader: %s", strerror(-rc)) : 0;
}

static int start_loader(struct model_load *l, struct error *err)
{
	char program[PATH_MAX];
	char *argv[] = {program, NULL};
	struct child_spec spec = {.path = program, .argv = argv, .output = -1};
	int pair[2], rc;

	l->file = open_file(l->artifact, &l->bytes, err);
	if (l->file < 0)
		return l->file;
	if (l->bytes < MODEL_FILE_PAGE || l->bytes >> MODEL_FILE_MAX_BYTES_LOG2)
		return error_set(err, -EINVAL, "%s: %llu bytes is no size of an artifact",
			l->artifact, (unsigned long long)l->bytes);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return error_set(err, -errno, "socketpair: %s", strerror(errno));
	path_of_program(program, sizeof(program), "", "millrace-loader");
	l->sock = pair[0];
	spec.fd3 = pair[1];
	rc = child_start(&l->child, &spec, err);
	close(pair[1]);
	if (!rc && fcntl(l->sock, F_SETFL, O_NONBLOCK) < 0)
		rc = error_set(err, -errno, "fcntl: %s", strerror(errno));
	if (!rc)
		rc = send_request(l, err);
	return rc ? rc : arm(l, l->sock, on_reply, LOAD_BASE_S + l->bytes / LOAD_SLOWEST_BYTES_S, err);
}

/* ---- compiler -------------------------------------------------------------------------------- */

/* What the compiler said last, one line. */
static void last_line(int fd, char *out, size_t n)
{
	char text[300];
	ssize_t got = pread(fd, text, sizeof(text) - 1, 0);
	char *line;

	while (got > 0 && text[got - 1] == '\n')
		got--;
	text[got > 0 ? got : 0] = 0;
	line = strrchr(text, '\n');
	snprintf(out, n, "%s", line ? line + 1 : text);
}

static void on_compiled(evutil_socket_t fd, short what, void *arg)
{
	struct model_load *l = arg;
	char how[64], said[300], text[400];
	struct error err = {0};

	(void)fd;
	(void)what;
	if (!child_wait(&l->child, 0))
		return;
	event_free(l->event); /* before the pidfd is closed */
	l->event = NULL;
	child_reap(&l->child, how, sizeof(how));
	if (!strcmp(how, "exit status 0")) {
		l->compiling = false;
		if (start_loader(l, &err))
			finish(l, err.code, -1, NULL, &err);
		return;
	}
	last_line(l->output, said, sizeof(said));
	snprintf(text, sizeof(text), "not compiled (%s): %s", how, said);
	fail(l, -EINVAL, text);
}

static int start_compiler(struct model_load *l, struct error *err)
{
	char program[PATH_MAX], command[] = "compile", name_option[] = "--name", out[] = "-o";
	char *argv[] = {program, command, l->source, out, l->artifact, name_option, l->name, NULL};
	struct child_spec spec = {.path = program, .argv = argv, .fd3 = -1, .sandbox = true,
		.memory_bytes = (uint64_t)COMPILE_MEMORY_GB << 30, .cpu_s = COMPILE_S};
	char dir[PATH_MAX];
	int rc;

	if (l->bytes > MAX_ONNX_BYTES)
		return error_set(err, -EFBIG, "%s: more than %d bytes", l->source, MAX_ONNX_BYTES);
	path_of_program(program, sizeof(program), "", "millrace-model");
	snprintf(dir, sizeof(dir), "%s/artifacts", l->ctl->config->state_dir);
	rc = path_make_dir(dir, 0750, err);
	if (rc)
		return rc;
	spec.file_bytes = 8 * l->bytes + (64 << 20);
	l->output = memfd_create("compile-output", MFD_CLOEXEC);
	spec.output = l->output;
	rc = child_start(&l->child, &spec, err);
	if (rc)
		return rc;
	l->compiling = true;
	if (l->spec.progress)
		l->spec.progress(0, l->bytes, "compiling", l->spec.arg);
	return arm(l, l->child.pidfd, on_compiled, COMPILE_S, err);
}

int model_load_start(struct model_load **out, struct control *ctl,
	const struct model_load_spec *spec, struct error *err)
{
	struct model_load *l = calloc(1, sizeof(*l));
	int fd, rc = 0;

	if (!l)
		return error_set(err, -ENOMEM, "out of memory");
	l->ctl = ctl;
	l->spec = *spec;
	l->file = l->sock = l->output = l->child.pidfd = -1;
	snprintf(l->name, sizeof(l->name), "%s", spec->name);
	snprintf(l->source, sizeof(l->source), "%s", spec->path);
	snprintf(l->artifact, sizeof(l->artifact), "%s", spec->path);
	l->deadline = evtimer_new(ctl->base, on_deadline, l);
	if (!l->deadline)
		rc = error_set(err, -ENOMEM, "out of memory");
	fd = rc ? -1 : open_file(spec->path, &l->bytes, err);
	if (!rc && fd < 0)
		rc = fd;
	fd_close(fd);
	if (!rc && is_onnx(spec->path)) {
		snprintf(l->artifact, sizeof(l->artifact), "%s/artifacts/%s-%llu.mrm",
			ctl->config->state_dir, l->name, (unsigned long long)spec->number);
		rc = start_compiler(l, err);
	} else if (!rc) {
		rc = start_loader(l, err);
	}
	if (rc)
		model_load_cancel(l);
	else
		*out = l;
	return rc;
}
