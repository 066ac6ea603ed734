/* SPDX-License-Identifier: BSD-3-Clause
 * Path challenge: see path.h.
 */
#include <string.h>

#include "path.h"

/* The source is proven: for this dataplane and, in the table, for the next. */
static void prove(struct worker *w, struct session_cell *c)
{
	struct session_slot *slot = &w->sessions->slots[c->key_id & w->sessions->mask];

	__atomic_and_fetch(&slot->flags, ~(uint32_t)SESSION_PROVISIONAL, __ATOMIC_RELAXED);
	__atomic_store_n(&c->unproven, 0, __ATOMIC_RELAXED);
}

void path_answer(struct worker *w, uint32_t i, const struct wire_request *q, uint32_t row_bytes)
{
	struct request *r = &w->burst.requests[i];
	uint64_t echo;

	if (q->reserved || q->reserved2 || q->dtype != WIRE_U8 || q->rows != 1 ||
		q->segment_count != 1 || q->segment_index || row_bytes != WIRE_PATH_BYTES) {
		worker_answer(w, i, WIRE_BAD_REQUEST, WIRE_REASON_SIZE, 0);
		return;
	}
	memcpy(&echo, r->rows, sizeof(echo));
	if (echo == r->cell->challenge)
		prove(w, r->cell);
	memcpy(worker_reply_rows(w, i), &r->cell->challenge, WIRE_PATH_BYTES);
	r->status = WIRE_RESULT;
	r->detail = echo == r->cell->challenge;
	r->dtype_out = WIRE_U8;
	r->keep = 0;
	w->burst.reply_bytes[i] = WIRE_PATH_BYTES;
	w->burst.state[i] = PKT_REPLY;
}
