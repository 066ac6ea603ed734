/* SPDX-License-Identifier: BSD-3-Clause
 * The response cache: see cache.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/pool.h"
#include "base/prefetch.h"
#include "cache.h"

enum {
	LINE_BYTES = 64,
	WORD_BITS = 64,
	BUCKETS_PER_ENTRY = 2, /* at most */
};

/* In front of its answer. Zeroed = unused. */
struct entry {
	struct text_tag tag;
	cache_owner owner; /* 0 = unused */
	uint64_t since_ns; /* when it was computed */
	uint32_t next;     /* in its bucket, + 1 */
	uint8_t out[];
};

STATIC_ASSERT(offsetof(struct entry, out) == 36, "an answer of up to 28 bytes shares the entry's line");

static struct entry *entry_at(const struct cache *c, uint32_t i)
{
	return (struct entry *)(c->entries + (size_t)i * c->stride);
}

/* Tags are uniform already; the multiplication spreads owners. */
static uint32_t *bucket_of(const struct cache *c, cache_owner owner, struct text_tag tag)
{
	return &c->buckets[(tag.word[0] ^ owner * 0x9e3779b97f4a7c15ull) & c->mask];
}

/* Single writer; the service thread reads. */
static void count(uint64_t *counter)
{
	__atomic_store_n(counter, *counter + 1, __ATOMIC_RELAXED);
}

/* ---- start and end ---- */

static uint32_t stride_of(uint32_t out_bytes)
{
	return (uint32_t)(offsetof(struct entry, out) + out_bytes + LINE_BYTES - 1) & ~(uint32_t)(LINE_BYTES - 1);
}

/* What WORD_BITS entries take with their buckets and marks. */
static size_t group_bytes(uint32_t out_bytes)
{
	return WORD_BITS * (stride_of(out_bytes) + BUCKETS_PER_ENTRY * sizeof(uint32_t)) + sizeof(uint64_t);
}

uint32_t cache_least_kb(uint32_t out_bytes)
{
	return (uint32_t)((group_bytes(out_bytes) * (CACHE_MIN_ENTRIES / WORD_BITS) + 1023) / 1024);
}

int cache_init(struct cache *c, const struct mailbox_cache *config, uint32_t out_bytes)
{
	size_t bytes = (size_t)config->memory_kb * 1024;
	uint64_t groups = bytes / group_bytes(out_bytes);
	uint32_t buckets = 1;

	memset(c, 0, sizeof(*c));
	if (config->memory_kb < cache_least_kb(out_bytes) || groups > UINT32_MAX / WORD_BITS / BUCKETS_PER_ENTRY)
		return -EINVAL;
	c->memory = pool_new(bytes);
	if (!c->memory)
		return -ENOMEM;
	c->bytes = bytes;
	c->n = (uint32_t)groups * WORD_BITS;
	while (2 * buckets <= BUCKETS_PER_ENTRY * c->n)
		buckets *= 2;
	c->mask = buckets - 1;
	c->ttl_ns = config->ttl_ms * NS_PER_MS;
	c->shared = config->shared;
	c->out_bytes = out_bytes;
	c->stride = stride_of(out_bytes);
	c->entries = c->memory;
	c->marks = (uint64_t *)(c->entries + (size_t)c->n * c->stride);
	c->buckets = (uint32_t *)(c->marks + c->n / WORD_BITS);
	return 0;
}

void cache_uninit(struct cache *c)
{
	pool_free(c->memory, c->bytes);
	memset(c, 0, sizeof(*c));
}

int cache_set_new(struct cache_set **out, uint32_t n, const struct mailbox_cache *config, uint32_t out_bytes)
{
	struct cache_set *s = aligned_alloc(LINE_BYTES, sizeof(*s) + n * sizeof(s->all[0]));
	int rc = 0;

	if (!s)
		return -ENOMEM;
	for (s->n = 0; s->n < n; s->n++) {
		rc = cache_init(&s->all[s->n], config, out_bytes);
		if (rc) {
			cache_set_free(s);
			return rc;
		}
	}
	*out = s;
	return 0;
}

void cache_set_free(struct cache_set *s)
{
	for (uint32_t i = 0; s && i < s->n; i++)
		cache_uninit(&s->all[i]);
	free(s);
}

void cache_set_count(const struct cache_set *s, struct cache_counters *sum)
{
	for (uint32_t i = 0; s && i < s->n; i++) {
		const struct cache_counters *c = &s->all[i].count;

		sum->hits += __atomic_load_n(&c->hits, __ATOMIC_RELAXED);
		sum->misses += __atomic_load_n(&c->misses, __ATOMIC_RELAXED);
		sum->expired += __atomic_load_n(&c->expired, __ATOMIC_RELAXED);
		sum->evicted += __atomic_load_n(&c->evicted, __ATOMIC_RELAXED);
		sum->entries += __atomic_load_n(&c->entries, __ATOMIC_RELAXED);
	}
}

/* ---- finding ---- */

void cache_fetch_bucket(const struct cache *c, cache_owner owner, struct text_tag tag)
{
	prefetch_read(bucket_of(c, owner, tag));
}

void cache_fetch_entry(const struct cache *c, cache_owner owner, struct text_tag tag)
{
	uint32_t i = *bucket_of(c, owner, tag);

	if (i)
		prefetch_read(entry_at(c, i - 1));
}

/* Entry + 1 of this row, however old; 0 = none. */
static uint32_t find(const struct cache *c, cache_owner owner, struct text_tag tag)
{
	uint32_t i = *bucket_of(c, owner, tag);

	while (i) {
		const struct entry *e = entry_at(c, i - 1);

		if (e->tag.word[0] == tag.word[0] && e->tag.word[1] == tag.word[1] && e->owner == owner)
			return i;
		i = e->next;
	}
	return 0;
}

static bool fresh(const struct cache *c, const struct entry *e, uint64_t now_ns)
{
	return !c->ttl_ns || now_ns - e->since_ns < c->ttl_ns;
}

static void mark(struct cache *c, uint32_t i)
{
	c->marks[i / WORD_BITS] |= 1ull << i % WORD_BITS;
}

bool cache_holds(struct cache *c, cache_owner owner, struct text_tag tag, uint64_t now_ns)
{
	uint32_t i = find(c, owner, tag);

	if (!i || !fresh(c, entry_at(c, i - 1), now_ns))
		return false;
	mark(c, i - 1);
	return true;
}

const uint8_t *cache_find(struct cache *c, cache_owner owner, struct text_tag tag, uint64_t now_ns)
{
	uint32_t i = find(c, owner, tag);

	if (i && fresh(c, entry_at(c, i - 1), now_ns)) {
		mark(c, i - 1);
		count(&c->count.hits);
		return entry_at(c, i - 1)->out;
	}
	count(&c->count.misses);
	if (i)
		count(&c->count.expired);
	return NULL;
}

/* ---- keeping ---- */

/* The next entry without a mark; those passed over lose theirs. A word at a time: a full turn over a million
 * marked entries, the worst there is, reads and writes 128 KiB. */
static uint32_t sweep(struct cache *c)
{
	for (;;) {
		uint64_t *word = &c->marks[c->hand / WORD_BITS];
		uint64_t ahead = ~0ull << c->hand % WORD_BITS, without = ~*word & ahead;
		uint32_t first = c->hand & ~(uint32_t)(WORD_BITS - 1), at;

		if (without) {
			at = (uint32_t)__builtin_ctzll(without);
			*word &= ~(ahead & ((1ull << at) - 1));
			c->hand = (first + at + 1) % c->n;
			return first + at;
		}
		*word &= ~ahead;
		c->hand = (first + WORD_BITS) % c->n;
	}
}

/* Out of its bucket. */
static void leave(struct cache *c, uint32_t i)
{
	const struct entry *e = entry_at(c, i);
	uint32_t *link = bucket_of(c, e->owner, e->tag);

	while (*link != i + 1)
		link = &entry_at(c, *link - 1)->next;
	*link = e->next;
}

/* An entry of its own for this row, in its bucket. */
static struct entry *enter(struct cache *c, cache_owner owner, struct text_tag tag)
{
	uint32_t i = sweep(c), *bucket;
	struct entry *e = entry_at(c, i);

	if (e->owner) {
		leave(c, i);
		count(&c->count.evicted);
	} else {
		count(&c->count.entries);
	}
	bucket = bucket_of(c, owner, tag);
	e->tag = tag;
	e->owner = owner;
	e->next = *bucket;
	*bucket = i + 1;
	return e;
}

void cache_put(struct cache *c, cache_owner owner, struct text_tag tag, const uint8_t *out, uint64_t now_ns)
{
	uint32_t i = find(c, owner, tag);
	struct entry *e = i ? entry_at(c, i - 1) : enter(c, owner, tag);

	e->since_ns = now_ns;
	memcpy(e->out, out, c->out_bytes);
}
