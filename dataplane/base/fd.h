/* SPDX-License-Identifier: BSD-3-Clause
 * File descriptors that carry the borders: memfds, their seals, and passing them over a socket.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

enum { FD_MAX_PASSED = 8 };

/* A memfd of `bytes`, zero-filled, close-on-exec, sealed against resizing (SHRINK|GROW|SEAL). With
 * `*map` non-NULL it is also mapped shared read-write, MADV_DONTFORK, and when `secret` also
 * MADV_DONTDUMP. Returns the fd, or -errno with err. Caller closes and unmaps. */
int fd_region_new(const char *name, size_t bytes, bool secret, void **map, struct error *err);

/* A memfd holding a copy of data[0..n), sealed against writing and resizing. Returns fd or -errno. */
int fd_sealed_copy(const char *name, const void *data, size_t n, struct error *err);

/* Map a received region after checking it is a memfd sealed against resizing (an unsealed region
 * could be shrunk under the reader: SIGBUS). `writable` false maps read-only. *bytes = its size.
 * 0 or -errno with err; unmap with munmap(*map, *bytes). */
int fd_region_map(int fd, bool writable, bool secret, void **map, size_t *bytes, struct error *err);

/* A second, read-only file description of the same memfd (through /proc/self/fd). fd or -errno. */
int fd_reopen_readonly(int fd);

/* A second read-write file description of the same memfd: needed before flock(), because a passed fd
 * shares its lock with the sender ([ran], shared/measured.md). fd or -errno. */
int fd_reopen(int fd);

/* Send one SOCK_SEQPACKET message with up to FD_MAX_PASSED fds. 0 or -errno. Never raises SIGPIPE. */
int fd_send(int sock, const void *msg, size_t n, const int *fds, size_t n_fds);

/* Receive one message and its fds (close-on-exec). Returns message bytes, 0 at end of stream, or
 * -errno (-EAGAIN, -EMSGSIZE when message or control data were truncated: everything is closed then).
 * *n_fds says how many of fds[FD_MAX_PASSED] now belong to the caller. */
ssize_t fd_recv(int sock, void *msg, size_t n, int fds[FD_MAX_PASSED], size_t *n_fds);

/* Listen on / connect to a SOCK_SEQPACKET (or SOCK_STREAM) Unix socket, close-on-exec and
 * non-blocking. listen replaces the socket file and sets `mode`: the caller holds a lock that says nobody
 * lives behind it. fd or -errno with err. */
int fd_unix_listen(const char *path, int type, mode_t mode, struct error *err);
int fd_unix_connect(const char *path, int type, struct error *err);

/* close() unless negative. */
void fd_close(int fd);
