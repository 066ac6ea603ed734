/* SPDX-License-Identifier: BSD-3-Clause
 * Control's side of the session table (abi/session.h). The table is mapped for the length of one call
 * and unmapped again: keys stay out of this address space. Loop thread only.
 */
#pragma once

#include "abi/session.h"
#include "base/error.h"

struct sessions_table {
	int fd; /* -1 = none */
	uint32_t capacity, lanes;
};

/* A new, empty, sealed table. 0 or -errno with err. */
int sessions_table_new(struct sessions_table *t, uint32_t capacity, uint32_t lanes,
	struct error *err);
/* Take over an existing one (fd consumed also on failure): size, magic and geometry are checked. */
int sessions_table_take(struct sessions_table *t, int fd, uint32_t capacity, uint32_t lanes,
	struct error *err);
void sessions_table_close(struct sessions_table *t);

/* Fill slot key_id & (capacity - 1) for a new session; its keys are derived from `secret`. -EBUSY when
 * the slot is not free. `fill` needs key_id, subscriber, flags, source, expires_ns, issued_ns and
 * session_id. */
int sessions_table_fill(const struct sessions_table *t, const struct session_slot *fill,
	const uint8_t secret[32]);
/* Move the expiry of slot `index`, if it still is `session_id`. 0 or -ESRCH. */
int sessions_table_expire(const struct sessions_table *t, uint32_t index, uint64_t session_id,
	uint64_t expires_ns);
/* Mark slot `index` CLOSED if it still is `session_id`, so that the next dataplane wipes it. */
int sessions_table_mark(const struct sessions_table *t, uint32_t index, uint64_t session_id);
/* Wipe slot `index` to FREE: only while no dataplane has been told of it. */
int sessions_table_wipe(const struct sessions_table *t, uint32_t index, uint64_t session_id);
/* Copies without keys of all slots that are not FREE. Stops when fn returns non-zero. */
int sessions_table_each(const struct sessions_table *t,
	int (*fn)(uint32_t index, const struct session_slot *public_part, void *arg), void *arg);
