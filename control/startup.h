/* SPDX-License-Identifier: BSD-3-Clause
 * What main() does before and around the modules: options, the single-instance lock, the service
 * manager's notification.
 */
#pragma once

#include <stdbool.h>

#include "control/config.h"

struct options {
	const char *config;
	bool check, json;
	int exit; /* -1 = go on, else exit with this status */
};

/* Usage errors and --help, --version are answered here; see `exit`. */
struct options startup_options(int argc, char **argv);
/* --check: 0 and "configuration OK" (or the effective configuration), or 1 with the refusal. */
int startup_check(const struct config *c, bool json);
/* Create run_dir and state_dir and take control.lock in both: one control for each. 0 with fds that are held
 * until exit (-1 = none), or -errno with err. */
int startup_lock(const struct config *c, int fds[2], struct error *err);
/* One datagram to $NOTIFY_SOCKET ("READY=1"), when there is one. */
void startup_notify(const char *state);
