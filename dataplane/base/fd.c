/* SPDX-License-Identifier: BSD-3-Clause
 * Memfds, seals and descriptor passing: see fd.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.h"

enum { SIZE_SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL };

void fd_close(int fd)
{
	if (fd >= 0)
		close(fd);
}

/* Map `fd` shared with the advice every border region gets. */
static int map_region(int fd, size_t bytes, bool writable, bool secret, void **map)
{
	int prot = PROT_READ | (writable ? PROT_WRITE : 0);
	void *p = mmap(NULL, bytes, prot, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		return -errno;
	madvise(p, bytes, MADV_DONTFORK);
	if (secret)
		madvise(p, bytes, MADV_DONTDUMP);
	*map = p;
	return 0;
}

int fd_region_new(const char *name, size_t bytes, bool secret, void **map, struct error *err)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int rc = 0;

	if (fd < 0)
		return error_set(err, -errno, "memfd %s: %s", name, strerror(errno));
	if (ftruncate(fd, (off_t)bytes) < 0 || fcntl(fd, F_ADD_SEALS, SIZE_SEALS) < 0)
		rc = -errno;
	if (!rc && map)
		rc = map_region(fd, bytes, true, secret, map);
	if (!rc)
		return fd;
	close(fd);
	return error_set(err, rc, "memfd %s of %zu bytes: %s", name, bytes, strerror(-rc));
}

int fd_sealed_copy(const char *name, const void *data, size_t n, struct error *err)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	size_t done = 0;

	if (fd < 0)
		return error_set(err, -errno, "memfd %s: %s", name, strerror(errno));
	while (done < n) {
		ssize_t w = write(fd, (const char *)data + done, n - done);

		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			goto fail;
		done += (size_t)w;
	}
	if (fcntl(fd, F_ADD_SEALS, SIZE_SEALS | F_SEAL_WRITE) == 0)
		return fd;
fail:
	error_set(err, -errno, "memfd %s: %s", name, strerror(errno));
	close(fd);
	return err && err->code ? err->code : -EIO;
}

int fd_region_map(int fd, bool writable, bool secret, void **map, size_t *bytes, struct error *err)
{
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat st;
	int rc;

	if (seals < 0)
		return error_set(err, -EINVAL, "fd %d is no sealable memfd", fd);
	if ((seals & SIZE_SEALS) != SIZE_SEALS)
		return error_set(err, -EPERM, "region is not sealed against resizing (seals %#x)",
			seals);
	if (fstat(fd, &st) < 0 || st.st_size <= 0)
		return error_set(err, -EINVAL, "region is empty");
	rc = map_region(fd, (size_t)st.st_size, writable, secret, map);
	if (rc)
		return error_set(err, rc, "mapping a region of %lld bytes: %s",
			(long long)st.st_size, strerror(-rc));
	*bytes = (size_t)st.st_size;
	return 0;
}

static int reopen(int fd, int flags)
{
	char path[32];
	int copy;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	copy = open(path, flags | O_CLOEXEC);
	return copy < 0 ? -errno : copy;
}

int fd_reopen_readonly(int fd)
{
	return reopen(fd, O_RDONLY);
}

int fd_reopen(int fd)
{
	return reopen(fd, O_RDWR);
}

int fd_send(int sock, const void *msg, size_t n, const int *fds, size_t n_fds)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * FD_MAX_PASSED)];
	} control = {0};
	struct iovec iov = {(void *)(uintptr_t)msg, n};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t sent;

	if (n_fds > FD_MAX_PASSED)
		return -E2BIG;
	if (n_fds) {
		struct cmsghdr *c;

		mh.msg_control = control.bytes;
		mh.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		c = CMSG_FIRSTHDR(&mh);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * n_fds);
	}
	do
		sent = sendmsg(sock, &mh, MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	if (sent < 0)
		return -errno;
	return (size_t)sent == n ? 0 : -EMSGSIZE;
}

static size_t take_fds(struct msghdr *mh, int fds[FD_MAX_PASSED])
{
	size_t n_fds = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(mh); c; c = CMSG_NXTHDR(mh, c)) {
		size_t count;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (n_fds < FD_MAX_PASSED)
				fds[n_fds++] = fd;
			else
				close(fd);
		}
	}
	return n_fds;
}

ssize_t fd_recv(int sock, void *msg, size_t n, int fds[FD_MAX_PASSED], size_t *n_fds)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * FD_MAX_PASSED)];
	} control;
	struct iovec iov = {msg, n};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes)};
	ssize_t got;

	*n_fds = 0;
	do
		got = recvmsg(sock, &mh, MSG_CMSG_CLOEXEC);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return -errno;
	*n_fds = take_fds(&mh, fds);
	if (mh.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
		while (*n_fds)
			close(fds[--*n_fds]);
		return -EMSGSIZE;
	}
	return got;
}

static int unix_address(struct sockaddr_un *sa, const char *path, struct error *err)
{
	memset(sa, 0, sizeof(*sa));
	sa->sun_family = AF_UNIX;
	if (strlen(path) >= sizeof(sa->sun_path))
		return error_set(err, -ENAMETOOLONG, "socket path %s is longer than %zu bytes",
			path, sizeof(sa->sun_path) - 1);
	memcpy(sa->sun_path, path, strlen(path) + 1);
	return 0;
}

int fd_unix_listen(const char *path, int type, mode_t mode, struct error *err)
{
	struct sockaddr_un sa;
	mode_t old;
	int fd, rc = unix_address(&sa, path, err);

	if (rc)
		return rc;
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return error_set(err, -errno, "socket: %s", strerror(errno));
	unlink(path);
	old = umask(~mode & 0777); /* no moment at which others could connect */
	rc = bind(fd, (struct sockaddr *)&sa, sizeof(sa));
	umask(old);
	if (rc == 0 && listen(fd, 64) == 0)
		return fd;
	rc = error_set(err, -errno, "listen on %s: %s", path, strerror(errno));
	close(fd);
	return rc;
}

int fd_unix_connect(const char *path, int type, struct error *err)
{
	struct sockaddr_un sa;
	int fd, rc = unix_address(&sa, path, err);

	if (rc)
		return rc;
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return error_set(err, -errno, "socket: %s", strerror(errno));
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0)
		return fd;
	rc = error_set(err, -errno, "connect to %s: %s", path, strerror(errno));
	close(fd);
	return rc;
}
