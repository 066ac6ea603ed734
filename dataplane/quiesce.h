/* SPDX-License-Identifier: BSD-3-Clause
 * When may a retired object be freed? When every worker has begun a new burst since it was
 * unpublished.
 *
 * Workers load shared pointers only after quiesce_tick() and forget them before the next one. The
 * service thread unpublishes, takes a snapshot, and frees once quiesce_passed(). (Quiescent-state
 * based reclamation; McKenney, "RCU Usage".)
 */
#pragma once

#include <stdbool.h>

#include "abi/config.h"
#include "abi/types.h"

struct quiesce_worker {
	uint64_t ticks MR_ALIGNED(64); /* 0 = holds nothing, not polling */
};

struct quiesce {
	struct quiesce_worker workers[DP_MAX_WORKERS];
};

struct quiesce_snapshot {
	uint64_t ticks[DP_MAX_WORKERS];
};

/* Worker: I hold no shared pointer at this moment. Sequentially consistent: the loads that follow
 * must not overtake the store (20 cycles a burst). */
static inline void quiesce_tick(struct quiesce_worker *w)
{
	__atomic_store_n(&w->ticks, w->ticks + 1, __ATOMIC_SEQ_CST);
}

/* Worker: I hold none and will load none until the next tick. */
static inline void quiesce_leave(struct quiesce_worker *w)
{
	__atomic_store_n(&w->ticks, 0, __ATOMIC_SEQ_CST);
}

/* Service thread, after it has unpublished something (with a sequentially consistent store). */
static inline void quiesce_mark(const struct quiesce *q, struct quiesce_snapshot *s)
{
	for (int i = 0; i < DP_MAX_WORKERS; i++)
		s->ticks[i] = __atomic_load_n(&q->workers[i].ticks, __ATOMIC_SEQ_CST);
}

static inline bool quiesce_passed(const struct quiesce *q, const struct quiesce_snapshot *s)
{
	for (int i = 0; i < DP_MAX_WORKERS; i++) {
		uint64_t now = __atomic_load_n(&q->workers[i].ticks, __ATOMIC_SEQ_CST);

		if (s->ticks[i] && now == s->ticks[i])
			return false;
	}
	return true;
}
