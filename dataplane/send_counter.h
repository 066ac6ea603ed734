/* SPDX-License-Identifier: BSD-3-Clause
 * Send counters of one (session, lane): no nonce is ever used twice, not even across a crash.
 *
 * The limit in the session table is published before any counter below it is used; a dataplane that
 * takes the table over begins at the published limit (protocol.md, counter reservation).
 */
#pragma once

#include "abi/session.h"

/* Private to one dataplane; one user at a time. */
struct send_counter {
	uint64_t next;
	uint64_t limit; /* what this dataplane has published */
};

static inline void send_counter_attach(struct send_counter *c, const struct session_lane *lane)
{
	c->next = c->limit = __atomic_load_n(&lane->send_limit, __ATOMIC_ACQUIRE);
}

/* The next counter to seal with. */
static inline uint64_t send_counter_take(struct send_counter *c, struct session_lane *lane)
{
	if (mr_unlikely(c->next == c->limit)) {
		c->limit += SESSION_RESERVE;
		__atomic_store_n(&lane->send_limit, c->limit, __ATOMIC_RELEASE);
	}
	return c->next++;
}
