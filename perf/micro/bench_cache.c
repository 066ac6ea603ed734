/* SPDX-License-Identifier: BSD-3-Clause
 * What the response cache costs a row of 128 bytes, beside a run of one row of the smallest model (fraud):
 * an answer found in a small cache, and in one much larger than the caches of the CPU, alone and in a burst
 * of 32; a row looked for in vain, then kept in a full cache, where another gives way. JSON rows, ns.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "cache.h"
#include "models/run/model.h"

enum { REPEAT = 400000, TRIES = 5, ROW_BYTES = 128, OUT_BYTES = 4, SMALL_KB = 256, LARGE_KB = 131072, BURST = 32 };

struct bench {
	struct text_hash hash;
	struct cache small, large;
	uint8_t row[ROW_BYTES] MR_ALIGNED(64);
	float out;
	uint64_t next;
	uint64_t found;
	struct run *run;
};

/* The next row of `n` different ones, in an order no prefetcher follows. */
static void another(struct bench *b, uint32_t n)
{
	b->next = b->next * 6364136223846793005ull + 1442695040888963407ull;
	*(uint64_t *)b->row = (b->next >> 33) % n;
}

static void look_up(struct bench *b, struct cache *c)
{
	const uint8_t *out = cache_find(c, 1, text_tag(&b->hash, b->row, ROW_BYTES), 1);

	if (out) {
		memcpy(&b->out, out, OUT_BYTES);
		b->found++;
	}
}

static void hit(struct bench *b)
{
	another(b, b->small.n);
	look_up(b, &b->small);
}

static void hit_large(struct bench *b)
{
	another(b, b->large.n);
	look_up(b, &b->large);
}

/* As a worker does with the rows of a burst. */
static void hit_burst(struct bench *b)
{
	struct text_tag tags[BURST];

	for (int i = 0; i < BURST; i++) {
		another(b, b->large.n);
		tags[i] = text_tag(&b->hash, b->row, ROW_BYTES);
		cache_fetch_bucket(&b->large, 1, tags[i]);
	}
	for (int i = 0; i < BURST; i++)
		cache_fetch_entry(&b->large, 1, tags[i]);
	for (int i = 0; i < BURST; i++) {
		const uint8_t *out = cache_find(&b->large, 1, tags[i], 1);

		if (out)
			memcpy(&b->out, out, OUT_BYTES);
		b->found += out != NULL;
	}
}

static void miss(struct bench *b)
{
	struct text_tag tag;

	*(uint64_t *)b->row = ++b->next | 1ull << 63;
	tag = text_tag(&b->hash, b->row, ROW_BYTES);
	b->found += cache_find(&b->small, 1, tag, 1) != NULL;
	cache_put(&b->small, 1, tag, (const uint8_t *)&b->out, 1);
}

static void run_one(struct bench *b)
{
	const void *rows[1] = {b->row};
	void *outs[1] = {&b->out};

	another(b, 1 << 20);
	run_start(b->run, 1, rows, outs);
	run_step(b->run, UINT64_MAX);
}

/* The best of several: the core may be shared. */
static double measure(struct bench *b, int rows_a_step, void (*step)(struct bench *b))
{
	double best = 1e18;

	for (int t = 0; t < TRIES; t++) {
		uint64_t begin = clock_now_ns();
		double ns;

		for (int i = 0; i < REPEAT; i += rows_a_step)
			step(b);
		ns = (double)(clock_now_ns() - begin) / REPEAT;
		best = ns < best ? ns : best;
	}
	return best;
}

static void fill(struct bench *b, struct cache *c)
{
	for (uint64_t i = 0; i < c->n; i++) {
		*(uint64_t *)b->row = i;
		cache_put(c, 1, text_tag(&b->hash, b->row, ROW_BYTES), (const uint8_t *)&b->out, 1);
	}
}

/* The smallest model of the zoo, beside this program. */
static struct run *smallest(struct error *err)
{
	static uint8_t image[1 << 20] MR_ALIGNED(4096);
	char path[PATH_MAX + 32];
	ssize_t n = readlink("/proc/self/exe", path, PATH_MAX);
	struct model *m;
	FILE *f;

	path[n > 0 ? n : 0] = 0;
	if (strrchr(path, '/'))
		snprintf(strrchr(path, '/'), 32, "/../models/fraud.mrm");
	f = fopen(path, "r");
	n = f ? (ssize_t)fread(image, 1, sizeof(image), f) : 0;
	if (f)
		fclose(f);
	if (n <= 0 || model_open(&m, image, (size_t)n, MODEL_BACKEND_AUTO, err)) {
		fprintf(stderr, "bench_cache: %s: %s\n", path, n > 0 ? err->text : "not there");
		return NULL;
	}
	return run_init(aligned_alloc(64, (run_bytes(m, 1) + 63) & ~(size_t)63), m, 1);
}

static void row(const char *id, double ns, double model_ns)
{
	printf("{\"id\": \"cache.%s_ns\", \"value\": %.1f, \"unit\": \"ns\", \"peer\": \"a run of fraud, one row\", "
		"\"peer_value\": %.1f, \"ratio\": %.3f}\n", id, ns, model_ns, ns / model_ns);
}

int main(void)
{
	static struct bench b;
	struct error err = {0};
	double model_ns;

	b.run = smallest(&err);
	if (!b.run)
		return 1;
	if (text_hash_init(&b.hash) ||
		cache_init(&b.small, &(struct mailbox_cache){.memory_kb = SMALL_KB}, OUT_BYTES) ||
		cache_init(&b.large, &(struct mailbox_cache){.memory_kb = LARGE_KB}, OUT_BYTES))
		return fprintf(stderr, "bench_cache: no memory\n"), 1;
	fill(&b, &b.small);
	fill(&b, &b.large);
	model_ns = measure(&b, 1, run_one);
	row("hit", measure(&b, 1, hit), model_ns);
	row("hit_128mb", measure(&b, 1, hit_large), model_ns);
	row("hit_128mb_burst32", measure(&b, BURST, hit_burst), model_ns);
	if (b.found != 3ull * TRIES * REPEAT)
		return fprintf(stderr, "bench_cache: %llu of %llu found\n", (unsigned long long)b.found,
			3ull * TRIES * REPEAT), 1;
	row("miss", measure(&b, 1, miss), model_ns);
	cache_uninit(&b.small);
	cache_uninit(&b.large);
	text_hash_uninit(&b.hash);
	return 0;
}
