/* SPDX-License-Identifier: BSD-3-Clause
 * Stage batch: a batch is what the burst brought, grouped by model; nothing ever waits for a timer.
 */
#include "stages.h"

static struct group *group_of(struct burst *b, const struct live_model *m)
{
	struct group *g;

	for (uint32_t i = 0; i < b->n_groups; i++) /* nearly always one or two */
		if (b->groups[i].model == m)
			return &b->groups[i];
	g = &b->groups[b->n_groups++];
	*g = (struct group){.model = m};
	return g;
}

void stage_batch(struct worker *w)
{
	struct burst *b = &w->burst;

	b->n_groups = 0;
	for (uint32_t i = 0; i < b->n; i++) {
		struct group *g;

		if (b->state[i] != PKT_RUN)
			continue;
		g = group_of(b, b->requests[i].model);
		b->requests[i].next = 0;
		if (g->last)
			b->requests[g->last - 1].next = (uint8_t)(i + 1);
		else
			g->first = (uint8_t)(i + 1);
		g->last = (uint8_t)(i + 1);
		g->rows += b->requests[i].n_rows;
	}
}
