/* SPDX-License-Identifier: BSD-3-Clause
 * The stages of the poll loop in flow order, one file each. A stage looks at the packets of
 * w->burst that are in its input state and moves each to the next state, to PKT_REPLY, or drops it
 * by name.
 */
#pragma once

#include "worker.h"

/* rx.c: queue -> burst. False when there was nothing. */
bool stage_rx(struct worker *w);
/* classify.c: -> PKT_DATAGRAM; neighbours are answered here (PKT_SEND_NEIGHBOUR). */
void stage_parse(struct worker *w);
/* auth.c: PKT_DATAGRAM -> PKT_AUTHENTIC. */
void stage_auth(struct worker *w);
/* limit.c: PKT_AUTHENTIC -> PKT_RUN, or a typed refusal. */
void stage_limit(struct worker *w);
/* batch.c: PKT_RUN -> groups by model. */
void stage_batch(struct worker *w);
/* infer.c: groups -> PKT_REPLY with rows in burst.reply[]. */
void stage_infer(struct worker *w);
/* reply.c: PKT_REPLY -> PKT_SEND, sealed in the request's own buffer. */
void stage_reply(struct worker *w);
/* reply.c: plaintext of packet `i`'s answer into burst.reply[i]. Returns its length. */
uint32_t reply_text(struct burst *b, uint32_t i);
/* gateway.c: answer those of the burst that came over HTTPS and have waited; they become PKT_MOVED. */
void gateway_answer_waiting(struct worker *w, struct gateway_region *g);
/* tx.c: the counter of a typed answer. */
enum stats_counter tx_reply_counter(uint32_t status);
/* tx.c: PKT_SEND* -> port; everything else back to the port. Ends the burst. */
void stage_tx(struct worker *w);
