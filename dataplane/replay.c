/* SPDX-License-Identifier: BSD-3-Clause
 * Replay window: see replay.h.
 */
#include "base/failpoint.h"
#include "replay.h"

/* Clear the words between that of `from` (kept) and that of `to` (cleared). Each store is a
 * release, so it stays behind the store of `highest`. */
static void clear_words(struct session_lane *lane, uint64_t from, uint64_t to)
{
	uint64_t n = to - from;

	if (n > SESSION_WINDOW_WORDS)
		n = SESSION_WINDOW_WORDS;
	for (uint64_t i = 0; i < n; i++) {
		__atomic_store_n(&lane->bits[(to - i) % SESSION_WINDOW_WORDS], 0, __ATOMIC_RELEASE);
		failpoint("replay.clear");
	}
}

bool replay_accept(struct session_lane *lane, uint64_t counter)
{
	uint64_t highest = lane->highest, *word, bit = 1ull << (counter % 64);

	if (!replay_check(lane, counter))
		return false;
	if (counter >= highest) {
		/* A lane that never accepted anything has every word clear already, so word 0 may
		 * stand for "before the first". */
		uint64_t from = highest ? (highest - 1) / 64 : 0;

		if (!failpoint_skips("replay.highest"))
			__atomic_store_n(&lane->highest, counter + 1, __ATOMIC_RELAXED);
		failpoint("replay.highest");
		clear_words(lane, from, counter / 64);
	}
	word = &lane->bits[counter / 64 % SESSION_WINDOW_WORDS];
	if (!failpoint_skips("replay.bit"))
		__atomic_store_n(word, *word | bit, __ATOMIC_RELEASE);
	failpoint("replay.bit");
	return true;
}
