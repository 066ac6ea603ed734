/* SPDX-License-Identifier: BSD-3-Clause
 * Replies kept for retries: see reply_store.h.
 */
#include <errno.h>
#include <string.h>

#include "base/pool.h"
#include "reply_store.h"

enum {
	LARGEST_BYTES = WIRE_MAX_SEGMENTS * (WIRE_SEGMENT_ROW_BYTES + (int)sizeof(uint64_t)),
	BUCKETS_PER_BLOCK = 2,
	/* What a block costs with its share of everything else. */
	EACH_BYTES = STORE_BLOCK_BYTES + (int)sizeof(uint32_t) + (int)sizeof(struct store_entry) +
		(int)sizeof(struct store_owner) + 2 * BUCKETS_PER_BLOCK * (int)sizeof(uint32_t),
};

STATIC_ASSERT((STORE_MIN_KB * 1024 / EACH_BYTES - 1) / STORE_SHARES * STORE_BLOCK_BYTES >= LARGEST_BYTES,
	"a share holds the largest reply");

static struct store_entry *entry_at(const struct reply_store *s, uint32_t i)
{
	return &s->entries[i - 1];
}

static struct store_owner *owner_at(const struct reply_store *s, uint32_t i)
{
	return &s->owners[i - 1];
}

static uint8_t *block_at(const struct reply_store *s, uint32_t i)
{
	return s->blocks + (size_t)(i - 1) * STORE_BLOCK_BYTES;
}

static uint64_t mix(uint64_t x)
{
	x *= 0x9e3779b97f4a7c15ull;
	return x ^ x >> 32;
}

static uint32_t *owner_bucket(const struct reply_store *s, uint64_t session_id)
{
	return &s->owner_buckets[mix(session_id) & s->mask];
}

static uint32_t *entry_bucket(const struct reply_store *s, uint64_t session_id, uint64_t request_id)
{
	return &s->entry_buckets[mix(mix(session_id) + request_id) & s->mask];
}

/* ---- start and end ---- */

/* The next `bytes` of the pool; every part begins on a cache line. */
static void *carve(uint8_t **at, size_t bytes)
{
	void *part = *at;

	*at += (bytes + 63) & ~(size_t)63;
	return part;
}

static void chain_all(struct reply_store *s)
{
	for (uint32_t i = s->n; i > 0; i--) {
		s->next_block[i - 1] = s->unused_block;
		entry_at(s, i)->next = s->unused_entry;
		owner_at(s, i)->next = s->unused_owner;
		s->unused_block = s->unused_entry = s->unused_owner = i;
	}
}

int reply_store_init(struct reply_store *s, uint32_t kb)
{
	uint32_t n = (uint32_t)((uint64_t)kb * 1024 / EACH_BYTES), buckets = 1;
	uint8_t *at;

	memset(s, 0, sizeof(*s));
	if (!kb)
		return 0;
	if (kb < STORE_MIN_KB)
		return -EINVAL;
	while (2 * buckets <= BUCKETS_PER_BLOCK * n)
		buckets *= 2;
	s->bytes = (size_t)kb * 1024;
	s->memory = at = pool_new(s->bytes);
	if (!s->memory)
		return -ENOMEM;
	s->n = n - 1; /* the parts' alignment */
	s->mask = buckets - 1;
	s->blocks = carve(&at, (size_t)s->n * STORE_BLOCK_BYTES);
	s->entries = carve(&at, s->n * sizeof(*s->entries));
	s->owners = carve(&at, s->n * sizeof(*s->owners));
	s->next_block = carve(&at, s->n * sizeof(*s->next_block));
	s->entry_buckets = carve(&at, buckets * sizeof(*s->entry_buckets));
	s->owner_buckets = carve(&at, buckets * sizeof(*s->owner_buckets));
	chain_all(s);
	return 0;
}

void reply_store_uninit(struct reply_store *s)
{
	pool_free(s->memory, s->bytes);
	memset(s, 0, sizeof(*s));
}

/* ---- blocks ---- */

static uint32_t blocks_take(struct reply_store *s, uint32_t n)
{
	uint32_t first = s->unused_block, last = first;

	for (uint32_t i = 1; i < n; i++)
		last = s->next_block[last - 1];
	s->unused_block = s->next_block[last - 1];
	s->next_block[last - 1] = STORE_NONE;
	s->n_used += n;
	return first;
}

static void blocks_give(struct reply_store *s, uint32_t first, uint32_t n)
{
	uint32_t last = first;

	while (s->next_block[last - 1])
		last = s->next_block[last - 1];
	s->next_block[last - 1] = s->unused_block;
	s->unused_block = first;
	s->n_used -= n;
}

/* A place in a chain of blocks. */
struct cursor {
	uint32_t block;
	uint32_t at;
};

static void blocks_write(const struct reply_store *s, struct cursor *c, const void *data, size_t n)
{
	const uint8_t *from = data;

	while (n) {
		size_t room = STORE_BLOCK_BYTES - c->at, part = n < room ? n : room;

		memcpy(block_at(s, c->block) + c->at, from, part);
		from += part;
		n -= part;
		c->at += (uint32_t)part;
		if (c->at == STORE_BLOCK_BYTES)
			*c = (struct cursor){s->next_block[c->block - 1], 0};
	}
}

static void blocks_read(const struct reply_store *s, uint32_t block, uint32_t skip, uint8_t *to, size_t n)
{
	for (; skip >= STORE_BLOCK_BYTES; skip -= STORE_BLOCK_BYTES)
		block = s->next_block[block - 1];
	for (; n; block = s->next_block[block - 1], skip = 0) {
		size_t room = STORE_BLOCK_BYTES - skip, part = n < room ? n : room;

		memcpy(to, block_at(s, block) + skip, part);
		to += part;
		n -= part;
	}
}

/* ---- owners ---- */

static uint32_t owner_find(const struct reply_store *s, uint64_t session_id)
{
	uint32_t i = *owner_bucket(s, session_id);

	while (i && owner_at(s, i)->session_id != session_id)
		i = owner_at(s, i)->next;
	return i;
}

static uint32_t owner_new(struct reply_store *s, uint64_t session_id)
{
	uint32_t *bucket = owner_bucket(s, session_id), i = s->unused_owner;

	s->unused_owner = owner_at(s, i)->next;
	*owner_at(s, i) = (struct store_owner){.session_id = session_id, .next = *bucket};
	*bucket = i;
	return i;
}

static void owner_end(struct reply_store *s, uint32_t i)
{
	uint32_t *link = owner_bucket(s, owner_at(s, i)->session_id);

	while (*link != i)
		link = &owner_at(s, *link)->next;
	*link = owner_at(s, i)->next;
	owner_at(s, i)->next = s->unused_owner;
	s->unused_owner = i;
}

/* ---- entries ---- */

static void leave_owner(struct reply_store *s, uint32_t i)
{
	const struct store_entry *e = entry_at(s, i);
	struct store_owner *o = owner_at(s, e->owner);

	if (e->older_own)
		entry_at(s, e->older_own)->younger_own = e->younger_own;
	else
		o->oldest = e->younger_own;
	if (e->younger_own)
		entry_at(s, e->younger_own)->older_own = e->older_own;
	else
		o->youngest = e->older_own;
	o->blocks -= e->blocks;
	if (!o->oldest)
		owner_end(s, e->owner);
}

static void drop(struct reply_store *s, uint32_t i)
{
	struct store_entry *e = entry_at(s, i);
	uint32_t *link = entry_bucket(s, e->session_id, e->request_id);

	while (*link != i)
		link = &entry_at(s, *link)->next;
	*link = e->next;
	if (e->older)
		entry_at(s, e->older)->younger = e->younger;
	else
		s->oldest = e->younger;
	if (e->younger)
		entry_at(s, e->younger)->older = e->older;
	else
		s->youngest = e->older;
	leave_owner(s, i);
	blocks_give(s, e->block, e->blocks);
	e->next = s->unused_entry;
	s->unused_entry = i;
}

static void evict(struct reply_store *s, uint32_t i, uint64_t now_ns)
{
	s->evicted++;
	s->evicted_early += now_ns - entry_at(s, i)->since_ns < STORE_EARLY_S * NS_PER_S;
	drop(s, i);
}

void reply_store_expire(struct reply_store *s, uint64_t now_ns)
{
	while (s->oldest && now_ns - entry_at(s, s->oldest)->since_ns >= STORE_KEEP_S * NS_PER_S)
		drop(s, s->oldest);
}

static uint32_t find(const struct reply_store *s, uint64_t session_id, uint64_t request_id)
{
	uint32_t i = *entry_bucket(s, session_id, request_id);

	while (i && (entry_at(s, i)->request_id != request_id || entry_at(s, i)->session_id != session_id))
		i = entry_at(s, i)->next;
	return i;
}

const struct store_entry *reply_store_find(const struct reply_store *s, uint64_t session_id,
	uint64_t request_id)
{
	uint32_t i = s->n ? find(s, session_id, request_id) : STORE_NONE;

	return i ? entry_at(s, i) : NULL;
}

bool reply_store_matches(const struct reply_store *s, const struct store_entry *e, uint32_t index,
	uint32_t count, uint64_t hash)
{
	uint64_t kept;

	if (count != e->segments || index >= count)
		return false;
	memcpy(&kept, block_at(s, e->block) + index * sizeof(kept), sizeof(kept));
	return kept == hash;
}

STATIC_ASSERT(WIRE_MAX_SEGMENTS * sizeof(uint64_t) <= STORE_BLOCK_BYTES, "hashes lie in the first block");

void reply_store_rows(const struct reply_store *s, const struct store_entry *e, uint8_t *rows)
{
	blocks_read(s, e->block, e->segments * (uint32_t)sizeof(uint64_t), rows, e->row_bytes);
}

/* Room for `n` blocks and an entry of this session. */
static void make_room(struct reply_store *s, uint64_t session_id, uint32_t n, uint64_t now_ns)
{
	while (s->n - s->n_used < n) { /* every entry has a block: when there is one, there is an entry */
		uint32_t owner = owner_find(s, session_id);
		bool full = owner && owner_at(s, owner)->blocks + n > s->n / STORE_SHARES;

		evict(s, full ? owner_at(s, owner)->oldest : s->oldest, now_ns);
	}
}

static void join_lists(struct reply_store *s, uint32_t i)
{
	struct store_entry *e = entry_at(s, i);
	uint32_t *bucket = entry_bucket(s, e->session_id, e->request_id);
	struct store_owner *o = owner_at(s, e->owner);

	e->next = *bucket;
	*bucket = i;
	e->older = s->youngest;
	if (s->youngest)
		entry_at(s, s->youngest)->younger = i;
	else
		s->oldest = i;
	s->youngest = i;
	e->older_own = o->youngest;
	if (o->youngest)
		entry_at(s, o->youngest)->younger_own = i;
	else
		o->oldest = i;
	o->youngest = i;
	o->blocks += e->blocks;
}

void reply_store_put(struct reply_store *s, const struct stored_reply *reply, const uint64_t *hashes,
	const uint8_t *rows, uint64_t now_ns)
{
	uint32_t bytes = reply->segments * (uint32_t)sizeof(*hashes) + reply->row_bytes;
	uint32_t n = (bytes + STORE_BLOCK_BYTES - 1) / STORE_BLOCK_BYTES, i, owner;
	struct cursor c;

	i = find(s, reply->session_id, reply->request_id);
	if (i)
		drop(s, i);
	make_room(s, reply->session_id, n, now_ns);
	i = s->unused_entry;
	s->unused_entry = entry_at(s, i)->next;
	owner = owner_find(s, reply->session_id);
	*entry_at(s, i) = (struct store_entry){.session_id = reply->session_id,
		.request_id = reply->request_id, .since_ns = now_ns, .model_id = reply->model_id,
		.owner = owner ? owner : owner_new(s, reply->session_id), .block = blocks_take(s, n),
		.blocks = n, .row_bytes = reply->row_bytes, .rows = reply->rows,
		.detail = reply->detail, .dtype = reply->dtype, .segments = reply->segments};
	join_lists(s, i);
	c = (struct cursor){entry_at(s, i)->block, 0};
	blocks_write(s, &c, hashes, reply->segments * sizeof(*hashes));
	blocks_write(s, &c, rows, reply->row_bytes);
}
