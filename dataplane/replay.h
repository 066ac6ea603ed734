/* SPDX-License-Identifier: BSD-3-Clause
 * Replay window of one (session, lane): a ring of 8,192 bits in the session table, RFC 6479's
 * algorithm with an order of stores that survives a crash between any two of them.
 *
 * A crash may leave the window too strict (bits of the past standing for counters of the future),
 * never too lax: `highest` is published before words are cleared, and the bit of a counter is set
 * before its answer leaves. One writer at a time.
 */
#pragma once

#include <stdbool.h>

#include "abi/session.h"

/* No counter from here on is accepted, so that highest = counter + 1 cannot wrap. */
#define REPLAY_COUNTER_END (UINT64_MAX - SESSION_WINDOW)

/* Could `counter` still be accepted? Reads only; the answer is a hint until replay_accept(). */
static inline bool replay_check(const struct session_lane *lane, uint64_t counter)
{
	uint64_t highest = __atomic_load_n(&lane->highest, __ATOMIC_RELAXED);

	if (mr_unlikely(counter >= REPLAY_COUNTER_END))
		return false;
	if (counter >= highest)
		return true;
	if (highest - counter > SESSION_WINDOW)
		return false;
	return !(__atomic_load_n(
			 &lane->bits[counter / 64 % SESSION_WINDOW_WORDS], __ATOMIC_RELAXED) >>
			 (counter % 64) &
		 1);
}

/* Accept `counter` of an authentic packet: true exactly once per counter. */
bool replay_accept(struct session_lane *lane, uint64_t counter);
