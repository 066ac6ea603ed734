/* SPDX-License-Identifier: BSD-3-Clause
 * Answers of one model version, kept by one worker so that the same input is not computed again. An entry
 * is one row: a request of many rows finds those that were asked before, in whatever company.
 *
 *   bucket(tag, owner) ─▶ entry ─▶ entry      entries: an array of equal slots, swept by the clock's hand
 *
 * Found by the row's tag (text_hash.h: 128 bits under the worker's secret key) and by its owner: the
 * subscriber who asked, compared exactly, or everybody where the operator said `shared`. So nobody is told,
 * by an answer or by its haste, what another has asked. The input itself is not kept. The version needs no
 * place in the key: every artifact has caches of its own, which go with it (live_model.h).
 *
 * Memory is taken once and never grows. When it is full the hand passes over entries that were found since
 * it came by last, and takes that mark from them; the first without it gives way (CLOCK, Corbato 1968). A
 * new entry has no mark yet, so inputs that are asked once drive out one another before what is asked often.
 * Counters are read by the service thread (relaxed); all else belongs to the worker.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "abi/mailbox.h"
#include "text_hash.h"

enum { CACHE_MIN_ENTRIES = 64 }; /* a cache that holds fewer is refused */

/* Whose row it is; 0 = nobody's. */
typedef uint64_t cache_owner;

struct cache_counters {
	uint64_t hits, misses; /* rows looked for */
	uint64_t expired;      /* of the misses: the row was here, but older than the TTL */
	uint64_t evicted;      /* entries that gave way */
	uint64_t entries;      /* in use, expired ones too until something replaces them */
};

struct cache {
	struct cache_counters count;
	uint64_t ttl_ns; /* 0 = until evicted */
	bool shared;
	uint32_t n;    /* entries, a multiple of 64 */
	uint32_t mask; /* buckets - 1 */
	uint32_t out_bytes, stride;
	uint32_t hand; /* the entry it points at */
	void *memory;  /* everything below is in it; neither dumped nor inherited */
	size_t bytes;
	uint8_t *entries;
	uint32_t *buckets; /* entry + 1; 0 = none */
	uint64_t *marks;   /* a bit an entry: found since the hand came by */
} MR_ALIGNED(64);

/* One model's caches, of each worker one. */
struct cache_set {
	uint32_t n;
	struct cache all[];
};

/* KiB that hold CACHE_MIN_ENTRIES rows of `out_bytes`. */
uint32_t cache_least_kb(uint32_t out_bytes);

/* A cache of c->memory_kb KiB in all for answers of out_bytes > 0 a row. 0, -EINVAL (less than
 * cache_least_kb()) or -ENOMEM. */
int cache_init(struct cache *c, const struct mailbox_cache *config, uint32_t out_bytes);
void cache_uninit(struct cache *c); /* zeroed is allowed */

/* Whose rows those are that come under limiter slot `subscriber` (below 2^32 - 1). `generation` is the slot's
 * (abi/limits.h): it changes with the slot's limits, so whoever gets the slot next finds nothing there. */
static inline cache_owner cache_owner_of(const struct cache *c, uint32_t subscriber, uint32_t generation)
{
	return c->shared ? UINT64_MAX : (uint64_t)generation << 32 | (subscriber + 1);
}

/* Is the row's answer here? Marks it, so that it stays for the request that asks; counts nothing. */
bool cache_holds(struct cache *c, cache_owner owner, struct text_tag tag, uint64_t now_ns);

/* For several rows at once: call the first for all of them, then the second, then look. Of rows that are in
 * no cache of the CPU it hides what memory takes (bench_cache). */
void cache_fetch_bucket(const struct cache *c, cache_owner owner, struct text_tag tag);
void cache_fetch_entry(const struct cache *c, cache_owner owner, struct text_tag tag);

/* The row's answer, out_bytes of it, or NULL. Valid until the next put. Marked and counted. */
const uint8_t *cache_find(struct cache *c, cache_owner owner, struct text_tag tag, uint64_t now_ns);

/* Keep a row's answer, in place of an older one to the same row. */
void cache_put(struct cache *c, cache_owner owner, struct text_tag tag, const uint8_t *out, uint64_t now_ns);

/* `n` caches alike. 0 or as cache_init(). Service thread. */
int cache_set_new(struct cache_set **out, uint32_t n, const struct mailbox_cache *config, uint32_t out_bytes);
void cache_set_free(struct cache_set *s); /* NULL allowed */
/* Add their counters to *sum. */
void cache_set_count(const struct cache_set *s, struct cache_counters *sum); /* NULL allowed */
