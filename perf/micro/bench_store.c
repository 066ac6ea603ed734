/* SPDX-License-Identifier: BSD-3-Clause
 * What keeping replies for retries costs: the keyed hash, a full store that evicts for every reply it
 * takes (16 MiB, 40-byte replies, 1,000 sessions), and fetching one again. JSON rows, ns.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "reply_store.h"
#include "text_hash.h"

enum { REPEAT = 400000, SESSIONS = 1000, STORE_KB = 16384, REPLY_BYTES = 40, IN_BYTES = 128 };

struct bench {
	struct text_hash hash;
	struct reply_store store;
	struct wire_request q;
	uint8_t rows[WIRE_SEGMENT_ROW_BYTES];
	uint64_t next; /* request id */
	uint64_t found;
};

static void hash_small(struct bench *b)
{
	b->q.request_id++;
	b->found += text_hash(&b->hash, &b->q, b->rows, IN_BYTES);
}

static void hash_full(struct bench *b)
{
	b->q.request_id++;
	b->found += text_hash(&b->hash, &b->q, b->rows, WIRE_SEGMENT_ROW_BYTES);
}

static uint64_t session_of(uint64_t id)
{
	return id * 2654435761u % SESSIONS;
}

/* All that a request of a dear model pays: looked for in vain, hashed, put, another evicted. */
static void keep(struct bench *b)
{
	struct stored_reply r = {.session_id = session_of(b->next), .request_id = b->next,
		.row_bytes = REPLY_BYTES, .segments = 1};
	uint64_t hash;

	b->found += reply_store_find(&b->store, r.session_id, r.request_id) != NULL;
	b->q.request_id = b->next++;
	hash = text_hash(&b->hash, &b->q, b->rows, IN_BYTES);
	reply_store_put(&b->store, &r, &hash, b->rows, b->next * 1000);
}

/* A retry of one of the 10,000 youngest. */
static void fetch(struct bench *b)
{
	uint64_t id = b->next - 1 - rand() % 10000u;
	const struct store_entry *e = reply_store_find(&b->store, session_of(id), id);
	uint8_t out[REPLY_BYTES];

	b->q.request_id = id;
	if (e && reply_store_matches(&b->store, e, 0, 1, text_hash(&b->hash, &b->q, b->rows, IN_BYTES))) {
		reply_store_rows(&b->store, e, out);
		b->found++;
	}
}

static void row(struct bench *b, const char *id, void (*run)(struct bench *))
{
	uint64_t t0 = clock_now_ns();

	for (int i = 0; i < REPEAT; i++)
		run(b);
	printf("{\"id\": \"store.%s_ns\", \"value\": %.1f, \"unit\": \"ns\"}\n", id,
		(double)(clock_now_ns() - t0) / REPEAT);
}

int main(void)
{
	static struct bench b;

	if (text_hash_init(&b.hash) || reply_store_init(&b.store, STORE_KB))
		return fprintf(stderr, "bench_store: no memory\n"), 1;
	for (int i = 0; i < REPEAT; i++) /* fill it */
		keep(&b);
	row(&b, "hash_128", hash_small);
	row(&b, "hash_1144", hash_full);
	row(&b, "keep", keep);
	b.found = 0;
	row(&b, "fetch", fetch);
	if (b.found != REPEAT)
		return fprintf(stderr, "bench_store: %llu of %d found again\n", (unsigned long long)b.found,
			REPEAT), 1;
	reply_store_uninit(&b.store);
	text_hash_uninit(&b.hash);
	return 0;
}
