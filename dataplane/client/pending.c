/* SPDX-License-Identifier: BSD-3-Clause
 * Waiting requests: see pending.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/pending.h"

int pending_init(struct pending *p, uint32_t capacity, uint64_t first_id)
{
	memset(p, 0, sizeof(*p));
	p->capacity = 1;
	while (p->capacity < capacity)
		p->capacity *= 2;
	p->slots = calloc(p->capacity, sizeof(*p->slots));
	p->next_id = p->oldest = first_id;
	return p->slots ? 0 : -ENOMEM;
}

void pending_uninit(struct pending *p)
{
	for (uint32_t i = 0; p->slots && i < p->capacity; i++)
		free(p->slots[i].large);
	free(p->slots);
	memset(p, 0, sizeof(*p));
}

static struct pending_request *slot_of(const struct pending *p, uint64_t id)
{
	return &p->slots[id & (p->capacity - 1)];
}

struct pending_request *pending_add(struct pending *p)
{
	struct pending_request *r = slot_of(p, p->next_id);

	if (r->id)
		return NULL;
	r->id = p->next_id++;
	p->used++;
	return r;
}

int pending_fill(struct pending_request *r, const void *rows, uint32_t row_bytes, uint32_t reply_bytes)
{
	bool large = row_bytes > WIRE_SEGMENT_ROW_BYTES || reply_bytes > WIRE_SEGMENT_ROW_BYTES;

	r->large = large ? malloc(row_bytes + reply_bytes) : NULL;
	if (large && !r->large)
		return -ENOMEM;
	memcpy(large ? r->large : r->rows, rows, row_bytes);
	r->row_bytes = (uint16_t)row_bytes;
	r->segments = (uint16_t)((row_bytes + WIRE_SEGMENT_ROW_BYTES - 1) / WIRE_SEGMENT_ROW_BYTES);
	r->parts = (struct reply_parts){0};
	r->fetched = 0;
	return 0;
}

struct pending_request *pending_find(const struct pending *p, uint64_t id)
{
	struct pending_request *r = slot_of(p, id);

	return id && r->id == id ? r : NULL;
}

void pending_remove(struct pending *p, struct pending_request *r)
{
	free(r->large);
	r->large = NULL;
	r->id = 0;
	p->used--;
	while (p->oldest != p->next_id && !pending_find(p, p->oldest))
		p->oldest++;
}

struct pending_request *pending_due(const struct pending *p, uint64_t from, uint64_t now_ns)
{
	for (uint64_t id = from > p->oldest ? from : p->oldest; id != p->next_id; id++) {
		struct pending_request *r = pending_find(p, id);

		if (r && r->retry_ns <= now_ns)
			return r;
	}
	return NULL;
}

uint64_t pending_next_ns(const struct pending *p)
{
	uint64_t next = UINT64_MAX;

	for (uint64_t id = p->oldest; id != p->next_id; id++) {
		struct pending_request *r = pending_find(p, id);

		if (r && r->retry_ns < next)
			next = r->retry_ns;
	}
	return next;
}
