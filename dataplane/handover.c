/* SPDX-License-Identifier: BSD-3-Clause
 * Rings between workers: see handover.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "handover.h"

int handover_init(struct handover **out, uint32_t n_workers)
{
	size_t bytes = sizeof(struct handover) +
		       (size_t)n_workers * n_workers * sizeof(struct handover_ring);
	struct handover *h;

	*out = NULL;
	if (n_workers < 2)
		return 0;
	h = aligned_alloc(64, (bytes + 63) & ~(size_t)63);
	if (!h)
		return -ENOMEM;
	memset(h, 0, bytes);
	h->n_workers = n_workers;
	*out = h;
	return 0;
}

void handover_uninit(struct handover *h)
{
	free(h);
}

static struct handover_ring *ring(struct handover *h, uint32_t from, uint32_t to)
{
	return &h->rings[from * h->n_workers + to];
}

bool handover_put(struct handover *h, uint32_t from, uint32_t to, const struct handed *e)
{
	struct handover_ring *r = ring(h, from, to);
	uint64_t head = r->head;

	if (head - __atomic_load_n(&r->tail, __ATOMIC_ACQUIRE) >= HANDOVER_SLOTS)
		return false;
	r->slots[head % HANDOVER_SLOTS] = *e;
	__atomic_store_n(&r->head, head + 1, __ATOMIC_RELEASE);
	return true;
}

bool handover_get(struct handover *h, uint32_t from, uint32_t to, struct handed *e)
{
	struct handover_ring *r = ring(h, from, to);
	uint64_t tail = r->tail;

	if (tail == __atomic_load_n(&r->head, __ATOMIC_ACQUIRE))
		return false;
	*e = r->slots[tail % HANDOVER_SLOTS];
	__atomic_store_n(&r->tail, tail + 1, __ATOMIC_RELEASE);
	return true;
}
