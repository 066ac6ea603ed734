/* SPDX-License-Identifier: BSD-3-Clause
 * Reassembly of requests: see segments.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "segments.h"

static struct assembly *at(const struct segments *s, uint16_t handle)
{
	return &s->assemblies[handle - 1];
}

static uint16_t handle_of(const struct segments *s, const struct assembly *a)
{
	return (uint16_t)(a - s->assemblies + 1);
}

/* ---- lists and buckets ---- */

static void list_add(const struct segments *s, struct assembly_list *l, struct assembly *a)
{
	uint16_t h = handle_of(s, a);

	a->older = l->youngest;
	a->younger = SEGMENTS_NONE;
	if (l->youngest)
		at(s, l->youngest)->younger = h;
	else
		l->oldest = h;
	l->youngest = h;
	l->n++;
}

static void list_remove(const struct segments *s, struct assembly_list *l, const struct assembly *a)
{
	if (a->older)
		at(s, a->older)->younger = a->younger;
	else
		l->oldest = a->younger;
	if (a->younger)
		at(s, a->younger)->older = a->older;
	else
		l->youngest = a->older;
	l->n--;
}

static uint16_t *bucket_of(const struct segments *s, uint64_t session_id)
{
	return &s->buckets[session_id * 0x9e3779b97f4a7c15ull >> 32 & s->mask];
}

static struct assembly_list *list_of(struct segments *s, const struct assembly *a)
{
	return a->state == ASSEMBLY_OPEN ? &s->open : &s->closed;
}

static void forget(struct segments *s, struct assembly *a)
{
	uint16_t *link = bucket_of(s, a->of.session_id), h = handle_of(s, a);

	list_remove(s, list_of(s, a), a);
	while (*link != h)
		link = &at(s, *link)->next;
	*link = a->next;
	wide_give(s->wide, a->buffer);
	*a = (struct assembly){.next = s->unused};
	s->unused = h;
}

/* A new one in `state`, or NULL: all names are taken. Closed names give way to open ones, never the
 * other way round. */
static struct assembly *begin(struct segments *s, enum assembly_state state, struct segment_of of,
	const struct wire_request *q, uint64_t now_ns)
{
	uint16_t *bucket = bucket_of(s, of.session_id);
	struct assembly *a;

	if (!s->unused && s->closed.oldest)
		forget(s, at(s, s->closed.oldest));
	if (!s->unused)
		return NULL;
	a = at(s, s->unused);
	s->unused = a->next;
	*a = (struct assembly){.head = *q, .of = of, .since_ns = now_ns, .state = (uint8_t)state,
		.next = *bucket};
	a->head.segment_index = 0;
	*bucket = handle_of(s, a);
	list_add(s, list_of(s, a), a);
	return a;
}

/* ---- start and end ---- */

static uint32_t buckets_for(uint32_t buffers)
{
	uint32_t n = 64;

	while (n < 2 * buffers)
		n *= 2;
	return n;
}

size_t segments_bytes(uint32_t buffers)
{
	return 2 * buffers * sizeof(struct assembly) + buckets_for(buffers) * sizeof(uint16_t);
}

int segments_init(struct segments *s, struct wide *wide)
{
	uint32_t n_buckets = buckets_for(wide->n);

	*s = (struct segments){.wide = wide, .n = 2 * wide->n, .mask = n_buckets - 1};
	if (s->n > UINT16_MAX)
		return -ENOMEM;
	s->assemblies = calloc(s->n, sizeof(*s->assemblies));
	s->buckets = calloc(n_buckets, sizeof(*s->buckets));
	if (!s->assemblies || !s->buckets) {
		segments_uninit(s);
		return -ENOMEM;
	}
	for (uint32_t i = s->n; i > 0; i--) {
		s->assemblies[i - 1].next = s->unused;
		s->unused = (uint16_t)i;
	}
	return 0;
}

void segments_uninit(struct segments *s)
{
	free(s->assemblies);
	free(s->buckets);
	memset(s, 0, sizeof(*s));
}

/* ---- the life of an assembly ---- */

void segments_expire(struct segments *s, uint64_t now_ns)
{
	while (s->open.oldest &&
		now_ns - at(s, s->open.oldest)->since_ns >= SEGMENTS_OPEN_MS * NS_PER_MS) {
		forget(s, at(s, s->open.oldest));
		s->expired++;
	}
	while (s->closed.oldest &&
		now_ns - at(s, s->closed.oldest)->since_ns >= SEGMENTS_CLOSED_MS * NS_PER_MS)
		forget(s, at(s, s->closed.oldest));
}

struct assembly *segments_find(const struct segments *s, struct segment_of of, uint64_t request_id)
{
	for (uint16_t h = *bucket_of(s, of.session_id); h; h = at(s, h)->next) {
		struct assembly *a = at(s, h);

		if (a->head.request_id == request_id && a->of.session_id == of.session_id &&
			a->of.lane == of.lane)
			return a;
	}
	return NULL;
}

uint16_t segments_buffer(struct segments *s)
{
	if (!s->wide->n_unused && s->open.oldest) {
		forget(s, at(s, s->open.oldest));
		s->evicted++;
	}
	return wide_take(s->wide);
}

/* Make room for one more of this session: buckets list the youngest first. */
static void keep_share(struct segments *s, uint64_t session_id)
{
	struct assembly *oldest = NULL;
	uint32_t n = 0;

	for (uint16_t h = *bucket_of(s, session_id); h; h = at(s, h)->next) {
		if (at(s, h)->of.session_id != session_id || at(s, h)->state != ASSEMBLY_OPEN)
			continue;
		oldest = at(s, h);
		n++;
	}
	if (n < SEGMENTS_PER_SESSION)
		return;
	forget(s, oldest);
	s->evicted++;
}

static struct assembly *open_one(struct segments *s, struct segment_of of, const struct wire_request *q,
	uint64_t now_ns)
{
	struct assembly *a;
	uint16_t buffer;

	keep_share(s, of.session_id);
	buffer = segments_buffer(s);
	a = buffer ? begin(s, ASSEMBLY_OPEN, of, q, now_ns) : NULL;
	if (a)
		a->buffer = buffer;
	else
		wide_give(s->wide, buffer);
	return a;
}

static void close_one(struct segments *s, struct assembly *a, uint64_t now_ns)
{
	list_remove(s, list_of(s, a), a);
	wide_give(s->wide, a->buffer);
	a->buffer = 0;
	a->state = ASSEMBLY_CLOSED;
	a->since_ns = now_ns;
	list_add(s, &s->closed, a);
}

void segments_close(struct segments *s, struct assembly *a, struct segment_of of,
	const struct wire_request *q, uint64_t now_ns)
{
	if (a && a->state == ASSEMBLY_OPEN)
		close_one(s, a, now_ns);
	else if (!a && s->closed.n < s->n / 2)
		begin(s, ASSEMBLY_CLOSED, of, q, now_ns);
}

static bool same_request(const struct wire_request *a, struct wire_request b)
{
	b.segment_index = 0;
	return memcmp(a, &b, sizeof(b)) == 0;
}

enum segment_verdict segments_take(struct segments *s, struct assembly *a, struct segment_of of,
	const struct wire_request *q, const uint8_t *rows, uint32_t row_bytes, uint64_t now_ns,
	struct segments_whole *whole)
{
	uint16_t bit = (uint16_t)(1u << q->segment_index);
	uint8_t *place;

	if (!a)
		a = open_one(s, of, q, now_ns);
	if (!a)
		return SEGMENT_NO_ROOM;
	if (!same_request(&a->head, *q)) {
		close_one(s, a, now_ns);
		return SEGMENT_CONFLICT;
	}
	place = wide_rows(s->wide, a->buffer) + (size_t)q->segment_index * WIRE_SEGMENT_ROW_BYTES;
	if (a->got & bit) {
		bool last = q->segment_index == q->segment_count - 1;

		if ((!last || row_bytes == a->last_bytes) && memcmp(place, rows, row_bytes) == 0)
			return SEGMENT_REPEATED;
		close_one(s, a, now_ns);
		return SEGMENT_OTHER;
	}
	memcpy(place, rows, row_bytes);
	a->got |= bit;
	if (q->segment_index == q->segment_count - 1)
		a->last_bytes = (uint16_t)row_bytes;
	if (a->got != (1u << q->segment_count) - 1)
		return SEGMENT_HELD;
	*whole = (struct segments_whole){.buffer = a->buffer, .since_ns = a->since_ns,
		.row_bytes = (q->segment_count - 1u) * WIRE_SEGMENT_ROW_BYTES + a->last_bytes};
	a->buffer = 0;
	close_one(s, a, now_ns);
	return SEGMENT_COMPLETES;
}
