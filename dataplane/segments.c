/* SPDX-License-Identifier: BSD-3-Clause
 * Reassembly of requests: see segments.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

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

/* Multiply-shift with a secret odd factor (Dietzfelbinger et al., A Reliable Randomized Algorithm for the
 * Closest-Pair Problem, 1997): two names share a bucket with a chance of at most 2 in the number of buckets,
 * whatever request ids a client chooses. */
static uint16_t *bucket_of(const struct segments *s, enum segments_index by, struct segment_of of, uint64_t request_id)
{
	uint64_t name = of.session_id * 0x9e3779b97f4a7c15ull;

	if (by == SEGMENTS_BY_NAME)
		name ^= request_id ^ (uint64_t)of.lane << 48;
	return &s->buckets[by][name * s->factor >> s->shift];
}

static void chain(const struct segments *s, enum segments_index by, struct assembly *a)
{
	uint16_t *bucket = bucket_of(s, by, a->of, a->head.request_id);

	a->next[by] = *bucket;
	*bucket = handle_of(s, a);
}

static void unchain(const struct segments *s, enum segments_index by, const struct assembly *a)
{
	uint16_t *link = bucket_of(s, by, a->of, a->head.request_id), h = handle_of(s, a);

	while (*link != h)
		link = &at(s, *link)->next[by];
	*link = a->next[by];
}

static struct assembly_list *list_of(struct segments *s, const struct assembly *a)
{
	return a->state == ASSEMBLY_OPEN ? &s->open : &s->closed;
}

static void forget(struct segments *s, struct assembly *a)
{
	list_remove(s, list_of(s, a), a);
	unchain(s, SEGMENTS_BY_NAME, a);
	if (a->state == ASSEMBLY_OPEN)
		unchain(s, SEGMENTS_BY_SESSION, a);
	wide_give(s->wide, a->buffer);
	*a = (struct assembly){.next = {s->unused}};
	s->unused = handle_of(s, a);
}

/* A new one in `state`, or NULL: all names are taken. Closed names give way to open ones, never the
 * other way round. */
static struct assembly *begin(struct segments *s, enum assembly_state state, struct segment_of of,
	const struct wire_request *q, uint64_t now_ns)
{
	struct assembly *a;

	if (!s->unused && s->closed.oldest)
		forget(s, at(s, s->closed.oldest));
	if (!s->unused)
		return NULL;
	a = at(s, s->unused);
	s->unused = a->next[SEGMENTS_BY_NAME];
	*a = (struct assembly){.head = *q, .of = of, .since_ns = now_ns, .state = (uint8_t)state};
	a->head.segment_index = 0;
	chain(s, SEGMENTS_BY_NAME, a);
	if (state == ASSEMBLY_OPEN)
		chain(s, SEGMENTS_BY_SESSION, a);
	list_add(s, list_of(s, a), a);
	return a;
}

/* ---- start and end ---- */

static uint32_t bucket_bits(uint32_t buffers)
{
	uint32_t bits = 6;

	while (1u << bits < 2 * buffers)
		bits++;
	return bits;
}

size_t segments_bytes(uint32_t buffers)
{
	return 2 * buffers * sizeof(struct assembly) + (SEGMENTS_INDEXES * sizeof(uint16_t) << bucket_bits(buffers));
}

int segments_init(struct segments *s, struct wide *wide)
{
	uint32_t bits = bucket_bits(wide->n);

	*s = (struct segments){.wide = wide, .n = 2 * wide->n, .shift = 64 - bits};
	if (s->n > UINT16_MAX)
		return -ENOMEM;
	if (getrandom(&s->factor, sizeof(s->factor), 0) != sizeof(s->factor))
		return -EIO;
	s->factor |= 1;
	s->assemblies = calloc(s->n, sizeof(*s->assemblies));
	s->memory = calloc((size_t)SEGMENTS_INDEXES << bits, sizeof(*s->memory));
	if (!s->assemblies || !s->memory) {
		segments_uninit(s);
		return -ENOMEM;
	}
	for (uint32_t by = 0; by < SEGMENTS_INDEXES; by++)
		s->buckets[by] = s->memory + ((size_t)by << bits);
	for (uint32_t i = s->n; i > 0; i--) {
		s->assemblies[i - 1].next[SEGMENTS_BY_NAME] = s->unused;
		s->unused = (uint16_t)i;
	}
	return 0;
}

void segments_uninit(struct segments *s)
{
	free(s->assemblies);
	free(s->memory);
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
	for (uint16_t h = *bucket_of(s, SEGMENTS_BY_NAME, of, request_id); h; h = at(s, h)->next[SEGMENTS_BY_NAME]) {
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
static void keep_share(struct segments *s, struct segment_of of)
{
	struct assembly *oldest = NULL;
	uint32_t n = 0;

	for (uint16_t h = *bucket_of(s, SEGMENTS_BY_SESSION, of, 0); h; h = at(s, h)->next[SEGMENTS_BY_SESSION]) {
		if (at(s, h)->of.session_id != of.session_id)
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

	keep_share(s, of);
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
	unchain(s, SEGMENTS_BY_SESSION, a);
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
