/* SPDX-License-Identifier: BSD-3-Clause
 * Path challenge (abi/wire.h): does the client receive at the data address it named? Until it has shown
 * so, no result is much larger than what asked for it, so that nobody is flooded with our answers.
 */
#pragma once

#include "worker.h"

/* May packet `i` be answered with `row_bytes` of result? Typed refusals always may: no request is
 * smaller than a third of one. */
static inline bool path_allows(const struct worker *w, uint32_t i, uint32_t row_bytes)
{
	const struct session_cell *c = w->burst.requests[i].cell; /* NULL: it came over HTTPS */

	if (mr_likely(!c || !__atomic_load_n(&c->unproven, __ATOMIC_RELAXED)))
		return true;
	return WIRE_MIN_PAYLOAD_BYTES + row_bytes <=
	       WIRE_UNPROVEN_FACTOR * (uint32_t)w->burst.packets[i].payload_bytes;
}

/* Answer a request to WIRE_PATH_MODEL whose unit has been charged. Worker thread. */
void path_answer(struct worker *w, uint32_t i, const struct wire_request *q, uint32_t row_bytes);
