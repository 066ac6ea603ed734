/* SPDX-License-Identifier: BSD-3-Clause
 * Who changed what: one JSON line per mutation in state_dir/audit.log, each with the SHA-256 of the line
 * before (a removed or edited line shows). No secrets. Loop thread only.
 *
 * The chain is not keyed: whoever can write the file can make a new, consistent one. Copying the last
 * hash (`millrace doctor` prints it) off the box is what proves a tail was not cut.
 */
#pragma once

#include "control/control.h"

int audit_init(struct control *ctl, struct error *err);
void audit_uninit(struct control *ctl);
/* `actor`: "uid 0 via control.sock", "api key of acme"; `outcome`: "ok" or the refusal. */
void audit_write(struct control *ctl, const char *actor, const char *action, const char *subject,
	bool dry_run, const char *outcome);

struct audit_report {
	uint64_t lines;
	uint64_t bad_line; /* first line whose chain does not fit, 0 = none */
	char head[65];     /* SHA-256 of the last line, hex */
	char reason[128];
};

/* Walk the whole chain in `path`. 0 when intact (an absent file is an empty chain), -EBADMSG with
 * bad_line and reason, or -errno. Any thread. */
int audit_verify(const char *path, struct audit_report *out);
/* Path of the log; valid as long as ctl->audit. */
const char *audit_path(const struct control *ctl);
