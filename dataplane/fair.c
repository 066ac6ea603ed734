/* SPDX-License-Identifier: BSD-3-Clause
 * Deficit round robin: see fair.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fair.h"

int fair_init(struct fair *f, uint32_t n_flows, uint32_t n_items, uint64_t limit_ns)
{
	memset(f, 0, sizeof(*f));
	if (n_flows > FAIR_NONE || n_items > FAIR_NONE)
		return -EINVAL;
	f->flows = calloc(n_flows, sizeof(*f->flows));
	f->items = calloc(n_items, sizeof(*f->items));
	f->n_flows = n_flows;
	f->n_items = n_items;
	f->limit_ns = limit_ns;
	for (int l = 0; l < FAIR_LISTS; l++)
		f->head[l] = f->tail[l] = FAIR_NONE;
	return f->flows && f->items ? 0 : -ENOMEM;
}

void fair_uninit(struct fair *f)
{
	free(f->flows);
	free(f->items);
	memset(f, 0, sizeof(*f));
}

/* ---- how much may wait ---- */

/* Work and items a flow that has some may have in all. */
static uint64_t work_allowed(const struct fair *f)
{
	return f->limit_ns > f->work_ns ? FAIR_ALPHA * (f->limit_ns - f->work_ns) : 0;
}

bool fair_has_room(const struct fair *f, uint32_t flow, uint64_t cost_ns)
{
	const struct fair_flow *q = &f->flows[flow];
	uint32_t free_items = f->n_items - f->n;

	if (!free_items)
		return false;
	if (!q->n) /* whoever has nothing waiting is let in until twice the bound, also with one dear item */
		return f->work_ns < 2 * f->limit_ns;
	return q->work_ns + cost_ns <= work_allowed(f) && q->n < FAIR_ALPHA * free_items;
}

static uint64_t weight_with(const struct fair *f, uint32_t flow, uint32_t weight)
{
	return f->weight + (f->flows[flow].n ? 0 : weight);
}

uint64_t fair_room_in_ns(const struct fair *f, uint32_t flow, uint32_t weight, uint64_t cost_ns)
{
	const struct fair_flow *q = &f->flows[flow];
	uint64_t total = weight_with(f, flow, weight), allowed = work_allowed(f), need;

	if (!q->n)
		return f->work_ns >= 2 * f->limit_ns ? f->work_ns - 2 * f->limit_ns + 1 : 1;
	if (q->work_ns + cost_ns <= allowed) /* items are short, not work: one has to go */
		return f->work_ns / f->n + 1;
	/* Served for t, all lose t and this flow its share of t: own - t w/W + cost = allowed + ALPHA t. */
	need = q->work_ns + cost_ns - allowed;
	return (uint64_t)((double)need * (double)total / (double)(FAIR_ALPHA * total + weight)) + 1;
}

uint64_t fair_served_in_ns(const struct fair *f, uint32_t flow, uint32_t weight, uint64_t cost_ns)
{
	uint64_t all = f->work_ns + cost_ns;
	double share = (double)weight_with(f, flow, weight) / (double)weight;
	double own = (double)(f->flows[flow].work_ns + cost_ns) * share;

	return own < (double)all ? (uint64_t)own : all;
}

/* ---- lists of flows ---- */

static void append(struct fair *f, enum fair_list list, uint32_t flow)
{
	f->flows[flow].next = FAIR_NONE;
	f->flows[flow].listed = (uint8_t)(list + 1);
	if (f->tail[list] == FAIR_NONE)
		f->head[list] = (uint16_t)flow;
	else
		f->flows[f->tail[list]].next = (uint16_t)flow;
	f->tail[list] = (uint16_t)flow;
}

static void remove_head(struct fair *f, enum fair_list list)
{
	struct fair_flow *q = &f->flows[f->head[list]];

	f->head[list] = q->next;
	if (q->next == FAIR_NONE)
		f->tail[list] = FAIR_NONE;
	q->listed = 0;
}

static int64_t quantum(const struct fair *f, const struct fair_flow *q)
{
	return (int64_t)(f->quantum_ns * q->weight);
}

void fair_put(struct fair *f, uint32_t flow, uint32_t weight, uint32_t item, uint64_t cost_ns)
{
	struct fair_flow *q = &f->flows[flow];

	if (!f->n) /* nothing waits: what was dear before does not matter */
		f->quantum_ns = FAIR_QUANTUM_NS;
	if (cost_ns > f->quantum_ns)
		f->quantum_ns = cost_ns;
	f->items[item] = (struct fair_item){.cost_ns = cost_ns, .next = FAIR_NONE, .flow = (uint16_t)flow};
	if (q->n) {
		f->weight -= q->weight;
		f->items[q->last].next = (uint16_t)item;
	} else {
		q->first = (uint16_t)item;
	}
	q->last = (uint16_t)item;
	q->weight = (uint16_t)weight;
	f->weight += weight;
	q->n++;
	q->work_ns += cost_ns;
	f->n++;
	f->work_ns += cost_ns;
	if (!q->listed) {
		q->deficit_ns = quantum(f, q);
		append(f, FAIR_FRESH, flow);
	}
}

/* The flow at the head of the list has had its turn: behind the others, with a new allowance. What an empty
 * one has not used is lost. */
static void turn_over(struct fair *f, enum fair_list list, uint32_t flow)
{
	struct fair_flow *q = &f->flows[flow];

	remove_head(f, list);
	q->deficit_ns = (q->n ? q->deficit_ns : 0) + quantum(f, q);
	append(f, FAIR_OLD, flow);
}

uint32_t fair_peek(struct fair *f)
{
	if (!f->n)
		return FAIR_NONE;
	for (;;) {
		enum fair_list list = f->head[FAIR_FRESH] != FAIR_NONE ? FAIR_FRESH : FAIR_OLD;
		uint32_t flow = f->head[list];
		struct fair_flow *q = &f->flows[flow];

		if (q->n && q->deficit_ns >= (int64_t)f->items[q->first].cost_ns)
			return q->first;
		/* One who came and went is not fresh again before the others had their turn. */
		if (q->n || list == FAIR_FRESH)
			turn_over(f, list, flow);
		else
			remove_head(f, list);
	}
}

uint32_t fair_take(struct fair *f)
{
	uint32_t item = fair_peek(f);
	struct fair_item *i;
	struct fair_flow *q;

	if (item == FAIR_NONE)
		return FAIR_NONE;
	i = &f->items[item];
	q = &f->flows[i->flow];
	q->first = i->next;
	q->n--;
	q->work_ns -= i->cost_ns;
	q->deficit_ns -= (int64_t)i->cost_ns;
	f->n--;
	f->work_ns -= i->cost_ns;
	if (!q->n)
		f->weight -= q->weight;
	return item;
}
