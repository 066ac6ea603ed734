/* SPDX-License-Identifier: BSD-3-Clause
 * In-memory port: see port_mem.h.
 */
#include <string.h>

#include "port_mem.h"

static struct port_mem_frame *take_first(struct port_mem_frame *list[], uint32_t *n)
{
	struct port_mem_frame *first = list[0];

	memmove(list, list + 1, --*n * sizeof(list[0]));
	return first;
}

/* `n` unused frames, all or none. */
static bool pool_take(struct port_mem_pool *p, struct port_mem_frame *frames[], uint32_t n)
{
	bool enough;

	pthread_mutex_lock(&p->lock);
	enough = p->n_unused >= n;
	for (uint32_t i = 0; enough && i < n; i++)
		frames[i] = p->unused[--p->n_unused];
	pthread_mutex_unlock(&p->lock);
	return enough;
}

static void pool_give(struct port_mem_pool *p, struct port_mem_frame *f)
{
	pthread_mutex_lock(&p->lock);
	p->unused[p->n_unused++] = f;
	pthread_mutex_unlock(&p->lock);
}

static uint32_t mem_rx(struct port_queue *q, struct burst *b, uint32_t max)
{
	struct port_mem *p = q->port;
	uint32_t n = 0;

	while (n < max && p->n_waiting) {
		struct port_mem_frame *f = take_first(p->waiting, &p->n_waiting);

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
		p->sent[p->n_sent++] = f;
		if (p->tx_room != UINT32_MAX)
			p->tx_room--;
	}
	return i;
}

static bool mem_take(struct port_queue *q, void *buffers[], uint8_t *data[], uint32_t n)
{
	struct port_mem *p = q->port;

	if (!pool_take(p->pool, (struct port_mem_frame **)buffers, n))
		return false;
	for (uint32_t i = 0; i < n; i++)
		data[i] = ((struct port_mem_frame *)buffers[i])->data;
	return true;
}

static void mem_release(struct port_queue *q, void *const buffers[], uint32_t n)
{
	struct port_mem *p = q->port;

	for (uint32_t i = 0; i < n; i++)
		pool_give(p->pool, buffers[i]);
}

static bool mem_starved(struct port_queue *q)
{
	return !port_mem_unused(q->port);
}

static const struct port_ops mem_ops = {mem_rx, mem_tx, mem_take, mem_release, mem_starved};

bool port_mem_put(struct port_mem *p, const void *frame, size_t n)
{
	struct port_mem_frame *f;

	if (n > PORT_MEM_ROOM || !pool_take(p->pool, &f, 1))
		return false;
	memcpy(f->data, frame, n);
	f->bytes = (uint16_t)n;
	p->waiting[p->n_waiting++] = f;
	return true;
}

size_t port_mem_get(struct port_mem *p, void *frame)
{
	struct port_mem_frame *f;
	size_t n;

	if (!p->n_sent)
		return 0;
	f = take_first(p->sent, &p->n_sent);
	n = f->bytes;
	memcpy(frame, f->data, n);
	pool_give(p->pool, f);
	return n;
}

uint32_t port_mem_unused(const struct port_mem *p)
{
	uint32_t n;

	pthread_mutex_lock(&p->pool->lock);
	n = p->pool->n_unused;
	pthread_mutex_unlock(&p->pool->lock);
	return n;
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
	p->queue = (struct port_queue){.ops = &mem_ops, .port = p, .parse = parse, .wait_fd = -1};
	p->tx_room = UINT32_MAX;
	p->pool = &p->own;
	pthread_mutex_init(&p->own.lock, NULL);
	for (uint32_t i = 0; i < PORT_MEM_FRAMES; i++)
		p->own.unused[p->own.n_unused++] = &p->own.frames[i];
}

void port_mem_share(struct port_mem *p, struct port_mem *first)
{
	p->pool = first->pool;
	p->queue.index = first->queue.index + 1;
	p->queue.port_number = first->queue.port_number;
}
