/* SPDX-License-Identifier: BSD-3-Clause
 * Datagram sessions: issued over TLS, written into the session table, the XDP map and the dataplane, in
 * that order; answered only when all three hold them. Loop thread only.
 */
#pragma once

#include "abi/session.h"
#include "control/control.h"

struct session_info {
	uint64_t session_id;
	uint32_t key_id;
	uint32_t subscriber;
	struct ip_addr source;
	int64_t expires_in_s;
};

/* What the client gets. `secret` is wiped by the caller after it has been sent. */
struct session_grant {
	struct session_info info;
	uint8_t secret[32];
	uint32_t lanes;
};

/* Called once from the loop: rc 0 with a grant, or -errno with err (-ETIMEDOUT: dataplane silent). */
typedef void (*session_done_fn)(int rc, const struct session_grant *grant, const struct error *err,
	void *arg);

int sessions_init(struct control *ctl, struct error *err);
void sessions_uninit(struct control *ctl);

/* Issue a session for `subscriber` bound to `source`, which the client has still to prove when
 * `provisional` (abi/wire.h, path challenge). 0 = `done` will be called; else -errno and it will
 * not: -EAGAIN dataplane unavailable, -EDQUOT too many sessions, -ENOSPC table full, -EPERM licence. */
int sessions_issue(struct control *ctl, uint32_t subscriber, const struct ip_addr *source, bool provisional,
	session_done_fn done, void *arg, struct error *err);
/* Extend by the configured time. 0 with *expires_in_s, or -ENOENT (also for another subscriber's). */
int sessions_renew(struct control *ctl, uint32_t subscriber, uint64_t session_id,
	int64_t *expires_in_s, struct error *err);
/* Close one, or all of a subscriber's (session_id 0). */
int sessions_close(struct control *ctl, uint32_t subscriber, uint64_t session_id);
int sessions_each(struct control *ctl, int (*fn)(const struct session_info *s, void *arg), void *arg);
uint32_t sessions_count(struct control *ctl, uint32_t subscriber); /* UINT32_MAX = all */
