/* SPDX-License-Identifier: BSD-3-Clause
 * millrace-loader: one artifact from a descriptor to a sealed memfd, in a cage. See loader.h.
 */
#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/fd.h"
#include "base/log.h"
#include "control/loader/load.h"
#include "control/loader/sandbox.h"

/* Exactly one request with exactly one descriptor. 0 or -errno with err; *fd belongs to the caller. */
static int receive(struct loader_request *req, int *fd, struct error *err)
{
	int fds[FD_MAX_PASSED];
	size_t n_fds;
	ssize_t n = fd_recv(LOADER_FD, req, sizeof(*req), fds, &n_fds);

	if (n < 0)
		return error_set(err, (int)n, "request: %s", strerror((int)-n));
	for (size_t i = 1; i < n_fds; i++)
		fd_close(fds[i]);
	*fd = n_fds ? fds[0] : -1;
	if ((size_t)n != sizeof(*req) || req->magic != LOADER_MAGIC || n_fds != 1)
		return error_set(err, -EPROTO, "request of %zd bytes with %zu descriptors is not ours", n,
			n_fds);
	if (req->n_keys > sizeof(req->keys) / sizeof(req->keys[0]))
		return error_set(err, -EPROTO, "%u keys, at most %zu", req->n_keys,
			sizeof(req->keys) / sizeof(req->keys[0]));
	return 0;
}

static int answer(struct load *l, int rc, const struct error *err)
{
	struct loader_reply *reply = &l->reply;
	int fd = rc ? -1 : l->target.chosen->readonly;

	if (rc) {
		reply->magic = LOADER_MAGIC;
		reply->kind = LOADER_REFUSED;
		snprintf(reply->text, sizeof(reply->text), "%.*s", (int)sizeof(reply->text) - 1,
			err->text);
	}
	return fd_send(LOADER_FD, reply, sizeof(*reply), &fd, rc ? 0 : 1);
}

/* What opens files on first use (time zone, libcrypto's start) must do so before the cage closes. */
static void warm_up(void)
{
	tzset();
	OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_NO_ATEXIT, NULL);
}

int main(void)
{
	struct error err = {0}, cage = {0};
	struct loader_request req;
	struct load load;
	int fd = -1, rc;

	log_init("loader", LOG_LEVEL_INFO);
	warm_up();
	rc = load_init(&load, LOADER_FD, &err);
	if (sandbox_enter(&cage))
		log_warn("running without the system-call filter: %s", cage.text);
	if (!load.reader.uring && !rc)
		log_warn("no io_uring (%s): reading with pread", strerror(load.reader.uring_error));
	if (!rc)
		rc = receive(&req, &fd, &err);
	if (!rc)
		rc = load_run(&load, &req, fd, &err);
	if (rc)
		log_warn("refused: %s", err.text);
	if (answer(&load, rc, &err) < 0)
		rc = -EPIPE;
	fd_close(fd);
	load_uninit(&load);
	return rc ? 1 : 0;
}
