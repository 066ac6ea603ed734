/* SPDX-License-Identifier: BSD-3-Clause
 * Send counters of one (session, lane): no nonce is ever used twice, not even across a crash.
 *
 * The limit in the session table is published before any counter below it is used; a dataplane that
 * takes the table over begins at the published limit (protocol.md, counter reservation). The lane's
 * owner only.
 */
#pragma once

#include <stdbool.h>

#include "abi/session.h"
#include "base/failpoint.h"

static inline void send_counter_attach(struct session_lane *lane)
{
	lane->send_next = __atomic_load_n(&lane->send_limit, __ATOMIC_ACQUIRE);
}

/* Is the next counter the first of a new reservation? */
static inline bool send_counter_spent(const struct session_lane *lane)
{
	return lane->send_next == lane->send_limit;
}

/* The next counter to seal with. */
static inline uint64_t send_counter_take(struct session_lane *lane)
{
	if (mr_unlikely(send_counter_spent(lane))) {
		failpoint("send_counter.due");
		if (!failpoint_skips("send_counter.publish"))
			__atomic_store_n(&lane->send_limit, lane->send_limit + SESSION_RESERVE,
				__ATOMIC_RELEASE);
		failpoint("send_counter.published");
	}
	return lane->send_next++;
}
