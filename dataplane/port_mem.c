/* SPDX-License-Identifier: BSD-3-Clause
 * In-memory port: see port_mem.h.
 */
#include <string.h>

#include "port_mem.h"

static uint16_t take_first(uint16_t list[], uint32_t *n)
{
	uint16_t first = list[0];

	memmove(list, list + 1, --*n * sizeof(list[0]));
	return first;
}

static uint16_t index_of(const struct port_mem *p, const void *buffer)
{
	return (uint16_t)((const struct port_mem_frame *)buffer - p->frames);
}

static uint32_t mem_rx(struct port_queue *q, struct burst *b, uint32_t max)
{
	struct port_mem *p = q->port;
	uint32_t n = 0;

	while (n < max && p->n_waiting) {
		struct port_mem_frame *f = &p->frames[take_first(p->waiting, &p->n_waiting)];

		b->buffers[n] = f;
		b->data[n] = f->data;
		b->bytes[n] = f->bytes;
		b->room[n++] = PORT_MEM_ROOM;
	}
	return n;
}

static uint32_t mem_tx(struct port_queue *q, void *const buffers[], const uint16_t bytes[],
	uint32_t n)
{
	struct port_mem *p = q->port;
	uint32_t i;

	for (i = 0; i < n && p->tx_room; i++) {
		struct port_mem_frame *f = buffers[i];

		f->bytes = bytes[i];
		p->sent[p->n_sent++] = index_of(p, f);
		if (p->tx_room != UINT32_MAX)
			p->tx_room--;
	}
	return i;
}

static bool mem_take(struct port_queue *q, void *buffers[], uint8_t *data[], uint32_t n)
{
	struct port_mem *p = q->port;

	if (p->n_unused < n)
		return false;
	for (uint32_t i = 0; i < n; i++) {
		struct port_mem_frame *f = &p->frames[p->unused[--p->n_unused]];

		buffers[i] = f;
		data[i] = f->data;
	}
	return true;
}

static void mem_release(struct port_queue *q, void *const buffers[], uint32_t n)
{
	struct port_mem *p = q->port;

	for (uint32_t i = 0; i < n; i++)
		p->unused[p->n_unused++] = index_of(p, buffers[i]);
}

static bool mem_starved(struct port_queue *q)
{
	return !((struct port_mem *)q->port)->n_unused;
}

static const struct port_ops mem_ops = {mem_rx, mem_tx, mem_take, mem_release, mem_starved};

bool port_mem_put(struct port_mem *p, const void *frame, size_t n)
{
	struct port_mem_frame *f;

	if (!p->n_unused || n > PORT_MEM_ROOM)
		return false;
	f = &p->frames[p->unused[--p->n_unused]];
	memcpy(f->data, frame, n);
	f->bytes = (uint16_t)n;
	p->waiting[p->n_waiting++] = index_of(p, f);
	return true;
}

size_t port_mem_get(struct port_mem *p, void *frame)
{
	struct port_mem_frame *f;
	uint16_t first;

	if (!p->n_sent)
		return 0;
	first = take_first(p->sent, &p->n_sent);
	f = &p->frames[first];
	memcpy(frame, f->data, f->bytes);
	p->unused[p->n_unused++] = first;
	return f->bytes;
}

uint32_t port_mem_unused(const struct port_mem *p)
{
	return p->n_unused;
}

static uint64_t mem_now(void *ctx)
{
	struct port_mem *p = ctx;

	p->now_ns += p->step_ns;
	return p->now_ns;
}

struct clock_source port_mem_clock(struct port_mem *p)
{
	return (struct clock_source){mem_now, p};
}

void port_mem_init(struct port_mem *p, const struct parse_config *parse)
{
	memset(p, 0, sizeof(*p));
	p->queue = (struct port_queue){.ops = &mem_ops, .port = p, .parse = parse};
	p->tx_room = UINT32_MAX;
	for (uint16_t i = 0; i < PORT_MEM_FRAMES; i++)
		p->unused[p->n_unused++] = i;
}
