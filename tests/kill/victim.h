/* SPDX-License-Identifier: BSD-3-Clause
 * Who is killed: a dataplane (worker, service commands, adoption; frames over a socket instead of a NIC),
 * and a control for the length of one change to what both share.
 */
#pragma once

#include <sys/types.h>

#include "abi/mailbox.h"
#include "base/failpoint.h"
#include "control/sessions_table.h"
#include "ebpf/limit_table.h"
#include "tests/pipeline/rig.h"

/* Time in all of this runs a hundred times as fast, for the sake of key epochs. */
uint64_t world_now_ns(void);

/* What outlives every victim: tables, and the orders to die. */
struct world {
	struct rig rig; /* without a dataplane in this process */
	struct sessions_table table; /* control's view of rig.sessions_fd */
	struct mailbox *mailbox;     /* shared with the dataplane of the day */
	struct failpoint_orders *dataplane_orders, *control_orders; /* shared */
	int artifact_fd;
	char licence_mark[256]; /* a file */
	uint32_t control_failed; /* changes that neither succeeded nor were killed */
};

void world_init(struct world *w);
void world_uninit(struct world *w);

struct dataplane {
	pid_t pid;
	int socket; /* frames in, frames out; ends with the process */
};

/* A new process on the world's tables. The mailbox is emptied first, as a new dataplane makes a new one. */
void dataplane_start(struct world *w, struct dataplane *d);
/* Wait for its end, killing it first when `now`. True when SIGKILL ended it, false when it failed. */
bool dataplane_end(struct dataplane *d, bool now);

/* One change by a control that may die in it: true when it was killed. */
bool control_fills(struct world *w, const struct session_slot *slot, const uint8_t secret[32]);
bool control_changes_limits(struct world *w, uint32_t subscriber, const struct limit_plan *plan);
bool control_marks(struct world *w, const char *text);
