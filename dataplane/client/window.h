/* SPDX-License-Identifier: BSD-3-Clause
 * Sliding window over counters that may arrive late but never twice (RFC 6479: a ring of words).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum {
	WINDOW_BITS = 8192,
	WINDOW_WORDS = WINDOW_BITS / 64,
	WINDOW_SIZE = WINDOW_BITS - 64, /* counters older than highest - WINDOW_SIZE are refused */
};

/* All zero = empty. */
struct window {
	uint64_t highest; /* highest counter accepted + 1; 0 = none yet */
	uint64_t bits[WINDOW_WORDS];
};

/* Would `counter` be accepted? Reads only. */
static inline bool window_fresh(const struct window *w, uint64_t counter)
{
	if (counter >= w->highest)
		return true;
	if (w->highest - counter > WINDOW_SIZE)
		return false;
	return !(w->bits[counter / 64 % WINDOW_WORDS] >> (counter % 64) & 1);
}

/* Check and mark in one step: true exactly once per counter, false when seen before or too old.
 * Call only with a counter whose datagram is authentic. */
static inline bool window_accept(struct window *w, uint64_t counter)
{
	if (!window_fresh(w, counter))
		return false;
	if (counter >= w->highest) {
		uint64_t word = w->highest ? (w->highest - 1) / 64 : 0, to = counter / 64;

		if (to - word > WINDOW_WORDS)
			word = to - WINDOW_WORDS;
		while (word < to)
			w->bits[++word % WINDOW_WORDS] = 0;
		w->highest = counter + 1;
	}
	w->bits[counter / 64 % WINDOW_WORDS] |= 1ull << (counter % 64);
	return true;
}
