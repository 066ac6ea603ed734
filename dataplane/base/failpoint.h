/* SPDX-License-Identifier: BSD-3-Clause
 * Places where a test may kill this process, or have it leave a step out: at every border of state that
 * has to survive a crash. In a build with FAILPOINTS=1 only; otherwise they compile to nothing.
 *
 *   failpoint("send_counter.published");                  dies here when it is ordered to
 *   if (!failpoint_skips("send_counter.publish")) ...     a mutation, to see that a test notices
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* What is ordered, in memory that the one who orders shares with the processes: 128 bytes, zeroed. */
struct failpoint_orders {
	char kill[48];    /* name of a failpoint; "" = none */
	int64_t passes;   /* counted down by each pass; the process that makes it 0 dies by SIGKILL */
	char skip[48];    /* name of a step */
	uint64_t killed;  /* processes so far */
	uint64_t pad[2];
};

#ifdef MILLRACE_FAILPOINTS
/* Any thread. The orders are those of failpoint_obey(), else the file $MILLRACE_FAILPOINTS, else none. */
void failpoint(const char *name);
bool failpoint_skips(const char *name);
void failpoint_obey(struct failpoint_orders *orders);
#else
static inline void failpoint(const char *name)
{
	(void)name;
}

static inline bool failpoint_skips(const char *name)
{
	(void)name;
	return false;
}
#endif
