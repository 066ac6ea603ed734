/* SPDX-License-Identifier: BSD-3-Clause
 * The dataplane's end of the link: see link.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "link.h"

enum { MESSAGES_PER_PUMP = 256 };

static void drop_connection(struct link *l, const char *why)
{
	if (l->fd < 0)
		return;
	log_info("control disconnected: %s", why);
	close(l->fd);
	l->fd = -1;
	l->greeted = false;
}

static bool send_message(struct link *l, const struct link_message *m, int fd)
{
	int rc;

	if (l->fd < 0)
		return false;
	rc = fd_send(l->fd, m, sizeof(*m), &fd, fd >= 0);
	if (rc)
		drop_connection(l, strerror(-rc));
	return rc == 0;
}

static struct link_message message(enum link_kind kind)
{
	return (struct link_message){.magic = LINK_MAGIC, .version = LINK_VERSION,
		.kind = (uint16_t)kind, .pid = (uint32_t)getpid()};
}

static void refuse(struct link *l, const char *why)
{
	struct link_message m = message(LINK_REFUSED);

	snprintf(m.text, sizeof(m.text), "%s", why);
	send_message(l, &m, -1);
	drop_connection(l, why);
}

/* Root, or whoever runs us. */
static bool peer_allowed(int fd, struct ucred *peer)
{
	socklen_t len = sizeof(*peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, peer, &len) == 0 &&
	       (peer->uid == 0 || peer->uid == geteuid());
}

static void accept_one(struct link *l, int fd)
{
	struct link_message hello = message(LINK_HELLO);
	struct ucred peer = {0};

	if (!peer_allowed(fd, &peer)) {
		log_warn("refused a connection from uid %u", peer.uid);
		close(fd);
		return;
	}
	drop_connection(l, "a newer control connected");
	l->fd = fd;
	log_info("control connected, pid %d", peer.pid);
	snprintf(hello.text, sizeof(hello.text), "millrace-dataplane");
	send_message(l, &hello, -1);
}

static void handle(struct link *l, const struct link_message *m, int fd)
{
	if (m->magic != LINK_MAGIC || m->version != LINK_VERSION) {
		fd_close(fd);
		refuse(l, "this is not the link protocol, or another version of it");
		return;
	}
	switch (m->kind) {
	case LINK_HELLO:
		fd_close(fd);
		l->greeted = true;
		l->handler.attached(l->handler.ctx);
		return;
	case LINK_OFFER:
		if (fd < 0)
			refuse(l, "an offer came without a descriptor");
		else if (!l->greeted) {
			close(fd);
			refuse(l, "an offer came before HELLO");
		} else {
			l->handler.offered(l->handler.ctx, m, fd);
		}
		return;
	case LINK_OFFERED:
		fd_close(fd);
		return;
	case LINK_REFUSED:
		fd_close(fd);
		log_warn("control refused us: %.*s", (int)sizeof(m->text), m->text);
		drop_connection(l, "refused");
		return;
	default:
		fd_close(fd);
		refuse(l, "unknown kind of message");
	}
}

/* True when a message was handled. */
static bool receive_one(struct link *l)
{
	struct link_message m;
	int fds[FD_MAX_PASSED];
	size_t n_fds;
	ssize_t got = fd_recv(l->fd, &m, sizeof(m), fds, &n_fds);

	if (got == -EAGAIN)
		return false;
	if (got <= 0) {
		drop_connection(l, got ? strerror((int)-got) : "it closed the connection");
		return false;
	}
	for (size_t i = 1; i < n_fds; i++)
		close(fds[i]);
	if (got != sizeof(m)) {
		if (n_fds)
			close(fds[0]);
		refuse(l, "a message has the wrong length");
		return false;
	}
	handle(l, &m, n_fds ? fds[0] : -1);
	return true;
}

void link_pump(struct link *l)
{
	int fd;

	while ((fd = accept4(l->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0)
		accept_one(l, fd);
	for (int i = 0; i < MESSAGES_PER_PUMP && l->fd >= 0; i++)
		if (!receive_one(l))
			break;
}

bool link_offer(struct link *l, enum link_fd kind, int fd, uint64_t bytes,
	const struct link_artifact *artifact)
{
	struct link_message m = message(LINK_OFFER);

	if (fd < 0 || !l->greeted)
		return false;
	m.fd_kind = kind;
	m.bytes = bytes;
	if (artifact)
		m.artifact = *artifact;
	return send_message(l, &m, fd);
}

void link_offers_done(struct link *l)
{
	struct link_message m = message(LINK_OFFERED);

	send_message(l, &m, -1);
}

/* On the directory itself, so that nothing is left behind. The kernel drops it with the process. Asking
 * the socket instead would take the living dataplane's control away from it. */
static int lock_directory(const char *run_dir, struct error *err)
{
	int fd = open(run_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int rc;

	if (fd < 0)
		return error_set(err, -errno, "run directory %s: %s", run_dir, strerror(errno));
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return fd;
	rc = errno == EWOULDBLOCK ? -EBUSY : -errno;
	close(fd);
	return error_set(err, rc, rc == -EBUSY ? "another millrace-dataplane runs in %s; stop it first, or "
		"give this one a run directory of its own" : "run directory %s cannot be locked", run_dir);
}

int link_init(struct link *l, const char *run_dir, struct error *err)
{
	memset(l, 0, sizeof(*l));
	l->fd = l->listen_fd = l->lock_fd = -1;
	if ((size_t)snprintf(l->path, sizeof(l->path), "%s/dataplane.sock", run_dir) >=
		sizeof(l->path))
		return error_set(err, -ENAMETOOLONG, "the run directory's path is too long");
	l->lock_fd = lock_directory(run_dir, err);
	if (l->lock_fd < 0)
		return l->lock_fd;
	l->listen_fd = fd_unix_listen(l->path, SOCK_SEQPACKET, 0600, err);
	return l->listen_fd < 0 ? l->listen_fd : 0;
}

void link_uninit(struct link *l)
{
	if (l->listen_fd >= 0)
		unlink(l->path); /* while the lock says that it is ours */
	fd_close(l->fd);
	fd_close(l->listen_fd);
	fd_close(l->lock_fd);
	l->fd = l->listen_fd = l->lock_fd = -1;
}
