/* SPDX-License-Identifier: BSD-3-Clause
 * The CLI's end of the control socket: one request, progress, one answer. Blocking.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "base/error.h"

struct client {
	int fd;
	json_int_t next_id;
	char *buffer; /* bytes received after the last line */
	size_t used, cap;
};

typedef void (*client_progress_fn)(uint64_t done, uint64_t total, const char *text, void *arg);

/* Connect to control.sock at `path`. 0 or -errno with err. */
int client_open(struct client *c, const char *path, struct error *err);
void client_close(struct client *c);

/* Send a command and wait for its answer. `args` is borrowed and may be NULL. 0 = *reply is the whole
 * answer line (new reference; look at "ok"), -errno when the socket failed. */
int client_call(struct client *c, const char *cmd, const json_t *args, bool dry_run,
	client_progress_fn progress, void *arg, json_t **reply, struct error *err);
