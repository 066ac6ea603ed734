/* SPDX-License-Identifier: BSD-3-Clause
 * Cycles of each stage of a whole worker, without a port: bursts of one-row requests of many sessions,
 * visited in random order, go through worker_poll() over port_mem. What a NIC and a client on the same
 * caches add is not in these rows; `make bench` has them in fraud.memif.*.
 *
 *   bench_worker [SESSIONS...]     default 1 10000 100000
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/pipeline/rig.h"

enum { BURST = 32, ROUNDS = 12, KEY_FIRST = 0x10000, FRAME_BYTES = 256, IN_BYTES = RIG_IN * sizeof(float) };

struct bench {
	struct rig rig;
	struct rig_client *clients;
	uint32_t sessions;
	uint32_t requests; /* of a round */
	uint32_t *order;
	uint8_t *frames; /* of a round */
	uint16_t *bytes;
	uint64_t seed;
};

static const char *const stage_names[STATS_STAGES] = {
#define X(sym, name) [STATS_STAGE_##sym] = name,
	STATS_STAGE_LIST(X)
#undef X
};

static uint32_t draw(struct bench *b, uint32_t below)
{
	b->seed = b->seed * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)((b->seed >> 33) % below);
}

static void set_up(struct bench *b, uint32_t sessions)
{
	uint32_t capacity = RIG_CAPACITY;

	while (capacity < sessions)
		capacity *= 2;
	memset(b, 0, sizeof(*b));
	b->sessions = sessions;
	b->requests = 65536;
	rig_init_sessions(&b->rig, 1, capacity);
	rig_model(&b->rig, 0, 1, rig_artifact("alpha", 1, 1.0f, 1, 16));
	b->clients = calloc(sessions, sizeof(*b->clients));
	b->order = calloc(b->requests, sizeof(*b->order));
	b->bytes = calloc(b->requests, sizeof(*b->bytes));
	b->frames = calloc(b->requests, FRAME_BYTES);
	if (!b->clients || !b->order || !b->bytes || !b->frames)
		exit(1);
	for (uint32_t s = 0; s < sessions; s++)
		rig_session(&b->rig, &b->clients[s], KEY_FIRST + s, 0, false);
}

static void tear_down(struct bench *b)
{
	free(b->frames);
	free(b->bytes);
	free(b->order);
	free(b->clients);
	rig_uninit(&b->rig);
}

static void seal_round(struct bench *b)
{
	static const float row[RIG_IN] = {1, 2, 3, 4};

	for (uint32_t i = 0; i < b->requests; i++) {
		b->order[i] = draw(b, b->sessions);
		b->bytes[i] = (uint16_t)rig_rows(&b->clients[b->order[i]], b->frames + (size_t)i * FRAME_BYTES,
			"alpha", row, 1);
	}
}

static void run_round(struct bench *b)
{
	uint8_t answer[PORT_MEM_ROOM];

	for (uint32_t i = 0; i + BURST <= b->requests; i += BURST) {
		b->rig.port->now_ns += 10000;
		for (uint32_t k = i; k < i + BURST; k++)
			port_mem_put(b->rig.port, b->frames + (size_t)k * FRAME_BYTES, b->bytes[k]);
		worker_poll(b->rig.worker);
		while (port_mem_get(b->rig.port, answer))
			;
	}
}

/* The best of the rounds by all stages together: the machine is shared, and only ever adds. */
static int measure(uint32_t sessions)
{
	uint64_t best[STATS_STAGES] = {0}, best_sum = UINT64_MAX, results;
	struct bench b;

	set_up(&b, sessions);
	for (int r = 0; r < ROUNDS; r++) {
		uint64_t before[STATS_STAGES], sum = 0;

		seal_round(&b);
		memcpy(before, b.rig.stats->stage_cycles, sizeof(before));
		run_round(&b);
		for (int s = 0; s < STATS_STAGES; s++)
			sum += b.rig.stats->stage_cycles[s] - before[s];
		if (r == 0 || sum >= best_sum)
			continue;
		best_sum = sum;
		for (int s = 0; s < STATS_STAGES; s++)
			best[s] = b.rig.stats->stage_cycles[s] - before[s];
	}
	results = rig_count(&b.rig, STATS_REPLY_RESULT);
	if (results != (uint64_t)b.requests * ROUNDS)
		fprintf(stderr, "bench_worker: %lu of %u requests had a result\n", (unsigned long)results, b.requests * ROUNDS);
	for (int s = 0; s < STATS_STAGES; s++)
		printf("{\"id\": \"worker.s%u.cycles.%s\", \"value\": %.1f, \"unit\": \"cycles/request\"}\n", sessions,
			stage_names[s], (double)best[s] / b.requests);
	printf("{\"id\": \"worker.s%u.cycles\", \"value\": %.1f, \"unit\": \"cycles/request\"}\n", sessions,
		(double)best_sum / b.requests);
	tear_down(&b);
	return results != (uint64_t)b.requests * ROUNDS;
}

int main(int argc, char **argv)
{
	int rc = 0;

	if (argc < 2)
		return measure(1) | measure(10000) | measure(100000);
	for (int i = 1; i < argc; i++)
		rc |= measure((uint32_t)strtoul(argv[i], NULL, 10));
	return rc;
}
