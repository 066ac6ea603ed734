/* SPDX-License-Identifier: BSD-3-Clause
 * The faces of control (HTTPS, control socket, licence, audit) for real, in a child process, in front of a
 * small in-memory machine, so that tests decide what the machine says and when.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { T_FACES_SESSION_DELAY_MS = 300 };

struct t_faces {
	pid_t pid;
	uint16_t port;
	char dir[64];    /* run_dir and state_dir; removed by t_faces_stop */
	char socket[96]; /* control.sock */
};

/* Start with a valid licence (or none). API key "mr_good" belongs to "acme"; model "digits" is live;
 * a session takes T_FACES_SESSION_DELAY_MS to stand. Fails the test when it cannot. */
void t_faces_start(struct t_faces *f, bool licensed);
/* SIGTERM, then check that the child ended by itself with status 0 (so no leak, under ASan). */
void t_faces_stop(struct t_faces *f);

/* A licence pair and file in `dir`, made by the real code. */
void t_license_make(const char *dir, const char *name, int64_t not_before, int64_t not_after);

/* Calls the machine got, in this process (tests that link it without t_faces_start). */
extern unsigned int t_applied, t_commands;
extern unsigned int t_loading; /* loads under way */
extern uint64_t t_last_command_a;
extern uint32_t t_subscribers; /* how many there are, 0 = as many as were added */

/* The gateway, and a worker that answers its slots from the same loop. */
struct control;
struct error;
int t_worker_init(struct control *ctl, struct error *err);
void t_worker_uninit(struct control *ctl);
