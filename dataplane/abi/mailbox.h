/* SPDX-License-Identifier: BSD-3-Clause
 * Commands and events between control and the dataplane: two single-producer single-consumer rings
 * of 64-byte messages in a memfd of the dataplane.
 *
 *   +----------------+-----------------------------+-----------------------------+
 *   | mailbox header | ring: control -> dataplane  | ring: dataplane -> control  |
 *   +----------------+-----------------------------+-----------------------------+
 *
 * Every command carries a sequence number and is answered by one EVENT_ACK with the same number and a
 * result (0, or -errno with a sentence that says why). Commands are idempotent: after a dataplane restart control sends again
 * whatever describes the present. Consumer and producer copy a message before looking at it.
 */
#pragma once

#include <stdbool.h>

#include "abi/types.h"

#define MAILBOX_MAGIC 0x31584f42524c494dull /* "MILRBOX1" */

enum {
	MAILBOX_VERSION = 3,
	MAILBOX_SLOTS = 1024,
	MAILBOX_REFUSALS = 16,
	MAILBOX_REFUSAL_BYTES = 128,
};

/* control -> dataplane */
enum mailbox_command {
	CMD_SESSION_ADD = 1,   /* a = table slot: expand its keys, start accepting */
	CMD_SESSION_REMOVE,    /* a = table slot, b = session id: wipe keys, slot becomes FREE */
	CMD_MODEL_STAGE,       /* a = model index, b = artifact number (abi/link.h): next slot */
	CMD_MODEL_ACTIVATE,    /* a = model index: next -> current -> previous */
	CMD_MODEL_ROLLBACK,    /* a = model index: previous -> current */
	CMD_MODEL_UNLOAD,      /* a = model index: all three slots, and what was offered but not staged */
	CMD_LICENCE,           /* a = CLOCK_MONOTONIC ns until which requests are answered; 0 = not. A
				* dataplane serves nobody before the first, sent behind all offers */
	CMD_STOP,              /* drain, answer what was received, exit 0 */
	CMD_MODEL_CACHE,       /* a = model index, b = mailbox_cache_pack(): its response cache, from now on
				* and for versions to come. What is said again changes nothing; else an
				* empty one takes the old one's place */
	CMD_TRACE_BEGIN,       /* the region offered last (abi/trace.h) is recorded into, or warmed from */
	CMD_TRACE_END,         /* no worker touches it any more; not an error when there is none */
};

/* dataplane -> control */
enum mailbox_event {
	EVENT_ACK = 1,      /* seq of the command, result; when that is an error, b = index of refusals[] */
	EVENT_READY,        /* all workers poll */
	EVENT_LIMIT_CORRUPT, /* a = subscriber */
	EVENT_MODEL_RELEASED, /* a = model index, b = artifact number: no worker uses it any more */
};

enum {
	MAILBOX_CACHE_MAX_KB = 1 << 18, /* of all workers: the service thread touches it while control waits */
	MAILBOX_CACHE_MAX_TTL_MS = 7 * 24 * 3600 * 1000,
};

/* A model's response cache (dataplane/cache.h). */
struct mailbox_cache {
	uint32_t memory_kb; /* of each worker, for each version that is loaded; 0 = no cache */
	uint32_t ttl_ms;    /* answers older than that are computed again; 0 = none is too old */
	bool shared;        /* false: nobody is answered with what another subscriber asked */
};

STATIC_ASSERT(MAILBOX_CACHE_MAX_TTL_MS < 1ll << 31, "a TTL has 31 bits");

static inline uint64_t mailbox_cache_pack(const struct mailbox_cache *c)
{
	return (uint64_t)c->memory_kb << 32 | (uint64_t)c->shared << 31 | c->ttl_ms;
}

static inline struct mailbox_cache mailbox_cache_unpack(uint64_t b)
{
	return (struct mailbox_cache){.memory_kb = (uint32_t)(b >> 32), .ttl_ms = (uint32_t)b & 0x7fffffff,
		.shared = b >> 31 & 1};
}

struct mailbox_message {
	uint64_t seq;
	uint32_t kind; /* enum mailbox_command or mailbox_event */
	int32_t result;
	uint64_t a;
	uint64_t b;
	uint64_t pad[4];
};

struct mailbox_ring {
	uint64_t head MR_ALIGNED(64); /* producer's: messages written */
	uint64_t tail MR_ALIGNED(64); /* consumer's: messages taken */
	struct mailbox_message slots[MAILBOX_SLOTS] MR_ALIGNED(64);
};

struct mailbox {
	uint64_t magic;
	uint32_t version;
	uint32_t total_bytes;
	struct mailbox_ring to_dataplane MR_ALIGNED(64);
	struct mailbox_ring to_control MR_ALIGNED(64);
	/* Why a command was refused, for a person: written before its EVENT_ACK, overwritten by the 16th
	 * refusal after it. The reader copies it and trusts neither its end nor its characters. */
	char refusals[MAILBOX_REFUSALS][MAILBOX_REFUSAL_BYTES] MR_ALIGNED(64);
};

STATIC_ASSERT(sizeof(struct mailbox_message) == 64, "one line a message");

/* Append one message (producer only). 1 = written, 0 = ring full. */
static inline int mailbox_put(struct mailbox_ring *r, const struct mailbox_message *m)
{
	uint64_t head = __atomic_load_n(&r->head, __ATOMIC_RELAXED);
	uint64_t tail = __atomic_load_n(&r->tail, __ATOMIC_ACQUIRE);

	if (head - tail >= MAILBOX_SLOTS)
		return 0;
	r->slots[head % MAILBOX_SLOTS] = *m;
	__atomic_store_n(&r->head, head + 1, __ATOMIC_RELEASE);
	return 1;
}

/* Take one message (consumer only). 1 = copied to *m, 0 = ring empty. */
static inline int mailbox_get(struct mailbox_ring *r, struct mailbox_message *m)
{
	uint64_t tail = __atomic_load_n(&r->tail, __ATOMIC_RELAXED);
	uint64_t head = __atomic_load_n(&r->head, __ATOMIC_ACQUIRE);

	if (head == tail)
		return 0;
	*m = r->slots[tail % MAILBOX_SLOTS];
	__atomic_store_n(&r->tail, tail + 1, __ATOMIC_RELEASE);
	return 1;
}
