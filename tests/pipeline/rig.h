/* SPDX-License-Identifier: BSD-3-Clause
 * A whole worker in a test: in-memory port, a clock the test owns, a real session table, real
 * limits, real models, and a client that is written against abi/wire.h alone and opens replies with
 * OpenSSL.
 *
 *   client (this file) ─frame▶ port_mem ─▶ worker ─▶ port_mem ─frame▶ client
 */
#pragma once

#include "dataplane/port_mem.h"
#include "dataplane/worker.h"

enum {
	RIG_PORT = 4433,
	RIG_CLIENT_PORT = 50123,
	RIG_CAPACITY = 64,
	RIG_LANES = 2,
	RIG_SLOTS = 8,
	RIG_FRAME = PORT_MEM_ROOM,
	RIG_IN = 4,  /* floats of one input row of the rig's models */
	RIG_OUT = 3,
	RIG_MAX_WORKERS = 2,
	RIG_WIDE_BUFFERS = 16,
};

#define RIG_BEGIN_NS (1000 * NS_PER_S)

struct rig {
	/* survives rig_crash(): what control holds */
	int sessions_fd, limits_fd;
	struct session_table *table; /* control's mapping */
	struct limit_slot *limits;
	struct parse_config parse;
	uint32_t n_workers;
	uint64_t begin_ns; /* the next dataplane's first moment: RIG_BEGIN_NS, or what a test sets */
	/* dies with the dataplane */
	struct shared shared;
	struct model_table models;
	struct port_mem *ports[RIG_MAX_WORKERS], *port; /* port, worker, stats = [0] */
	struct worker *workers[RIG_MAX_WORKERS], *worker;
	struct stats_worker *all_stats[RIG_MAX_WORKERS], *stats;
	uint64_t released; /* highest artifact number reported released */
};

/* One session as its client knows it. */
struct rig_client {
	uint32_t key_id, slot;
	struct ip_addr source, server;
	uint8_t secret[32];
	uint8_t epoch;
	uint16_t lane;
	uint64_t counter; /* next */
	uint64_t replies; /* lowest reply counter not seen yet, to notice repeated nonces */
};

struct rig_reply {
	struct wire_header head;
	struct wire_reply reply;
	uint32_t row_bytes;
	uint8_t rows[1200];
};

/* For cmocka: *state = a rig with one worker and model "alpha" (index 0, artifact 1); the balance is checked
 * after every test. */
int rig_set_up(void **state);
int rig_tear_down(void **state);

void rig_init(struct rig *r, uint32_t n_workers);
/* With room for `capacity` sessions, a power of two, instead of RIG_CAPACITY. */
void rig_init_sessions(struct rig *r, uint32_t n_workers, uint32_t capacity);
void rig_uninit(struct rig *r);
/* The dataplane alone: drop the one that rig_init() made, and start another in a process of its own. */
void rig_stop(struct rig *r);
void rig_start(struct rig *r);
/* Throw the dataplane away without any good-bye, and start another on the same table and limits. */
void rig_crash(struct rig *r);

/* Put a session into the table as control does, and tell the dataplane. IPv6 when `v6`. */
void rig_session(
	struct rig *r, struct rig_client *c, uint32_t key_id, uint32_t subscriber, bool v6);

/* What the service thread does every millisecond for the key ratchet, at the first port's time. */
void rig_ratchet(struct rig *r);

/* The two halves of that for tests that run the real program: an empty table (its fd), and one
 * session. */
int rig_table(struct session_table **table, uint32_t capacity);
void rig_table_session(struct session_table *table, uint64_t now_ns, struct rig_client *c,
	uint32_t key_id, uint32_t subscriber, bool v6);

/* A request's frame: head and request are completed where zero (type, key id, counts). Returns its
 * length. Takes the client's next counter. */
size_t rig_request(struct rig_client *c, uint8_t *frame, const struct wire_request *q,
	const void *rows, size_t row_bytes);
/* The usual request: `n` rows of RIG_IN floats for model `name`. */
size_t rig_rows(
	struct rig_client *c, uint8_t *frame, const char *name, const float *rows, uint16_t n);
/* Same, sealed with an explicit counter. */
size_t rig_rows_at(struct rig_client *c, uint8_t *frame, const char *name, const float *rows,
	uint16_t n, uint64_t counter);

/* A frame around a payload that somebody else has sealed. Returns its length. */
size_t rig_wrap(const struct rig_client *c, uint8_t *frame, const void *payload, size_t n);

/* Put a frame, poll once, take one answer. Its length, 0 = none. */
size_t rig_exchange(struct rig *r, const uint8_t *frame, size_t n, uint8_t *answer);
/* Check every header and checksum of a reply frame and open it with OpenSSL EVP. False = not
 * genuine. */
bool rig_open(struct rig_client *c, const uint8_t *frame, size_t n, struct rig_reply *out);

/* Assert that the counters balance (abi/stats.h) and that no buffer is lost, of the port or of large
 * requests. */
void rig_balance(struct rig *r);
uint64_t rig_count(const struct rig *r, enum stats_counter c);

/* rig_model.c: an artifact out[j] = sum_k (k + 1) (j + 1) scale x[k] + j, as a write-sealed memfd.
 */
int rig_artifact(const char *name, uint32_t version, float scale, uint32_t cost, uint32_t max_rows);
/* Stage and activate it as model `index` under artifact `number`. */
void rig_model(struct rig *r, uint32_t index, uint64_t number, int fd);
void rig_expect(const float *row, float scale, float out[RIG_OUT]);
