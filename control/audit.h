/* SPDX-License-Identifier: BSD-3-Clause
 * Who changed what: one JSON line per mutation in state_dir/audit.log, each with the SHA-256 of the line
 * before (a removed or edited line shows). No secrets. Loop thread only.
 */
#pragma once

#include "control/control.h"

int audit_init(struct control *ctl, struct error *err);
void audit_uninit(struct control *ctl);
/* `actor`: "uid 0 via control.sock", "api key of acme"; `outcome`: "ok" or the refusal. */
void audit_write(struct control *ctl, const char *actor, const char *action, const char *subject,
	bool dry_run, const char *outcome);
