/* SPDX-License-Identifier: BSD-3-Clause
 * Child processes: started with chosen descriptors, watched by pidfd, reaped once.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

struct child {
	pid_t pid;  /* 0 = none */
	int pidfd;  /* -1 = none; readable when the process is gone */
	bool ours;  /* we are the parent: its status can be read */
};

struct child_spec {
	const char *path;
	char *const *argv;
	int fd3;         /* becomes descriptor 3, -1 = none */
	int output;      /* becomes stdout and stderr, -1 = inherit */
	bool group;      /* a process group of its own: our terminal's signals do not reach it */
	bool sandbox;    /* no_new_privs, limits, and a filter without sockets, exec-after-start, ptrace */
	uint64_t memory_bytes; /* sandbox: RLIMIT_AS */
	uint64_t file_bytes;   /* sandbox: RLIMIT_FSIZE */
	uint32_t cpu_s;        /* sandbox: RLIMIT_CPU */
};

/* Start a program. 0, or -errno with err (also when exec failed). */
int child_start(struct child *c, const struct child_spec *spec, struct error *err);
/* Watch a process we did not start. 0 or -errno. */
int child_adopt(struct child *c, pid_t pid, struct error *err);
/* Send a signal through the pidfd. 0 or -errno. */
int child_signal(const struct child *c, int sig);
/* Has it gone? True: *c is empty afterwards and how[n] says the way ("exit status 1"). Never waits. */
bool child_reap(struct child *c, char *how, size_t n);
/* Wait at most `ms` for it to go, without reaping. */
bool child_wait(const struct child *c, int ms);
/* SIGKILL, wait, reap. Nothing when it is empty. */
void child_kill(struct child *c);
