/* SPDX-License-Identifier: BSD-3-Clause
 * The load generator's datagram sessions: enrolled over TLS, or fixed ones for measuring peers.
 */
#pragma once

#include "client/channel.h"
#include "perf/loadgen/enrolment.h"
#include "perf/loadgen/options.h"

struct bench_session {
	struct channel channel;
	char id[SESSION_JSON_ID_BYTES]; /* "" = fixed */
	bool provisional;               /* our data address is still to be proven: prove.h */
};

struct bench_sessions {
	struct bench_session *list;
	uint32_t n;
	uint32_t *table; /* open addressing by key id: index + 1, 0 = empty */
	uint32_t mask;
	struct aead aead;
	struct enrolment *enrolment; /* NULL = fixed sessions */
	struct mr_model model;
	char server[SESSION_JSON_ADDRESS_BYTES];
	char local[SESSION_JSON_ADDRESS_BYTES]; /* "" = whatever the kernel picks */
	uint16_t port;
};

/* Enrol options->sessions times (or make the fixed ones) and find the model. `local` names our data
 * address, NULL = the TLS peer's. 0, or -errno with err. Undo with bench_sessions_close(). */
int bench_sessions_open(struct bench_sessions *s, const struct options *o, const char *local,
	struct error *err);

/* Give the sessions back and wipe the keys. */
void bench_sessions_close(struct bench_sessions *s);

/* The session of a key id, or NULL. */
static inline struct bench_session *bench_sessions_find(const struct bench_sessions *s,
	uint32_t key_id)
{
	for (uint32_t i = key_id * 2654435761u;; i++) {
		uint32_t entry = s->table[i & s->mask];

		if (!entry || s->list[entry - 1].channel.key_id == key_id)
			return entry ? &s->list[entry - 1] : NULL;
	}
}
