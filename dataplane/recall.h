/* SPDX-License-Identifier: BSD-3-Clause
 * Where the pipeline asks a model's response cache (cache.h). Rows that are found are answered by infer like
 * any others, only that they are not computed: whoever is answered from the cache has been checked, charged
 * and counted before and behind it as if it had been computed.
 *
 *   limit ─ a request all of whose rows are here needs no verdict and never waits (recall_has)
 *   infer ─ rows that are here leave the run, those that it computed are kept (recall_rows, recall_keep)
 *   backlog ─ so are the rows of a job; one that waited may be here by now
 *
 * A model without a cache costs one load and one branch a run. Worker thread only.
 */
#pragma once

#include "worker.h"

/* This worker's cache of `m`; NULL = it has none. May be another one after the next quiesce_tick(). */
static inline struct cache *recall_cache(const struct worker *w, const struct live_model *m)
{
	return __atomic_load_n(&m->uses[w->index].cache, __ATOMIC_ACQUIRE);
}

/* Is the answer to every row of the request here? It will not give way to another before this burst is
 * answered, unless a whole turn of the clock's hand comes between: then it is computed. */
bool recall_has(const struct worker *w, const struct request *r);

/* Whose rows packet `i` carries, to be set beside those that go into the piece. */
cache_owner recall_owner(const struct worker *w, const struct cache *c, const struct request *r);

/* Answer the rows of the piece that are here. The others stay, closed up. */
void recall_rows(struct worker *w, struct cache *c, const struct live_model *m);

/* Keep the rows of the piece, now that they are computed. */
void recall_keep(struct worker *w, struct cache *c);

/* Keep the answers `out` to the rows of a request that was computed elsewhere. */
void recall_keep_request(struct worker *w, const struct request *r, const uint8_t *out);
