/* SPDX-License-Identifier: BSD-3-Clause
 * dataplane.sock, the listening end (abi/link.h): one control at a time, a newer one replaces the
 * older, and its going away changes nothing. Service thread only.
 */
#pragma once

#include <stdbool.h>

#include "abi/link.h"
#include "base/error.h"

struct link_handler {
	void *ctx;
	/* Control offers a descriptor; `fd` now belongs to the handler. */
	void (*offered)(void *ctx, const struct link_message *m, int fd);
	/* Control has said HELLO: send every offer with link_offer(). */
	void (*attached)(void *ctx);
};

struct link {
	int lock_fd; /* the run directory, locked: one dataplane a directory */
	int listen_fd;
	int fd; /* the connection, -1 = none */
	bool greeted; /* HELLO received */
	struct link_handler handler;
	char path[128];
};

/* Lock `run_dir` and listen on `run_dir`/dataplane.sock. -EBUSY when another dataplane has the lock:
 * its socket is left alone. `l` is safe for link_uninit() afterwards, whatever the result. */
int link_init(struct link *l, const char *run_dir, struct error *err);
void link_uninit(struct link *l); /* removes the socket file */

/* Accept, receive and handle everything that waits; never blocks. */
void link_pump(struct link *l);

/* Offer one descriptor (stays the caller's). False = nobody is there, or the connection broke. */
bool link_offer(struct link *l, enum link_fd kind, int fd, uint64_t bytes,
	const struct link_artifact *artifact);
/* End of my offers. */
void link_offers_done(struct link *l);
