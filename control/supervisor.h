/* SPDX-License-Identifier: BSD-3-Clause
 * Keeps one dataplane running: starts it (config on fd 3), notices death (pidfd) and hangs (heartbeats),
 * removes our stale XDP program, restarts with back-off; adopts one that is already there. Never
 * waitpid as the sign of death, never PDEATHSIG: the dataplane outlives control. Loop thread only.
 */
#pragma once

#include "control/control.h"

struct supervisor_info {
	uint32_t starts;     /* dataplanes started or adopted since control started */
	uint32_t crashes;
	uint32_t hangs;
	double last_restart_ms; /* death noticed -> all workers polling again; 0 = never */
	bool adopted;        /* the present one was running before us */
	bool brake;          /* crash loop: waiting longer before the next start */
	char last_exit[384]; /* "killed by signal 9", "exit status 1: ..." */
};

int supervisor_init(struct control *ctl, struct error *err);
/* Leaves the dataplane running unless `stop_dataplane` was asked for. */
void supervisor_uninit(struct control *ctl);
void supervisor_info(const struct control *ctl, struct supervisor_info *out);
/* Stop (CMD_STOP, then SIGTERM, then SIGKILL by pidfd) and start again. */
int supervisor_restart(struct control *ctl, struct error *err);
/* Called by dp_link when the attached dataplane went away / became ready. */
void supervisor_dataplane_gone(struct control *ctl);
void supervisor_dataplane_ready(struct control *ctl);
