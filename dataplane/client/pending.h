/* SPDX-License-Identifier: BSD-3-Clause
 * Requests a client waits for: found by request id, retried when due. Pure; the caller brings the
 * time. Fixed capacity, one allocation; and one more for each request larger than a datagram either way.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "abi/wire.h"
#include "client/millrace.h"
#include "client/parts.h"

struct pending_request {
	uint64_t id; /* 0 = free */
	uint64_t tag;
	uint64_t first_ns; /* first send */
	uint64_t retry_ns; /* next retry, or giving up, is due then */
	const struct mr_model *model;
	uint32_t attempts; /* sends so far */
	uint16_t n_rows;
	uint16_t row_bytes; /* of all rows */
	uint16_t segments;  /* of the request */
	uint8_t fetched;    /* times the first segment alone was sent since a part of the reply came */
	struct reply_parts parts;
	uint8_t *large;     /* rows of the request, then of the reply; NULL = either fits a datagram */
	uint8_t rows[WIRE_SEGMENT_ROW_BYTES];
};

struct pending {
	struct pending_request *slots; /* request id modulo capacity */
	uint32_t capacity; /* a power of two */
	uint32_t used;
	uint64_t next_id; /* ids are handed out in order and never reused */
	uint64_t oldest;  /* no smaller id is in use */
};

/* Room for at least `capacity` requests; ids start at `first_id` (random: two clients of one session
 * must not collide), which must not be 0. 0 or -ENOMEM. */
int pending_init(struct pending *p, uint32_t capacity, uint64_t first_id);
void pending_uninit(struct pending *p);

/* A slot with the next id, or NULL when the request `capacity` ids ago is still waiting. */
struct pending_request *pending_add(struct pending *p);

/* The waiting request of this id, or NULL. */
struct pending_request *pending_find(const struct pending *p, uint64_t id);

/* Frees r->large. */
void pending_remove(struct pending *p, struct pending_request *r);

/* Copy the request's rows and make room for a reply of `reply_bytes`; sets row_bytes and segments. 0 or
 * -ENOMEM. */
int pending_fill(struct pending_request *r, const void *rows, uint32_t row_bytes, uint32_t reply_bytes);

/* Its rows, and the place where a reply of several datagrams is put together. */
static inline const uint8_t *pending_rows(const struct pending_request *r)
{
	return r->large ? r->large : r->rows;
}
static inline uint8_t *pending_reply(const struct pending_request *r)
{
	return r->large + r->row_bytes;
}

/* First request at or after id `from` whose retry_ns <= now_ns, or NULL. Start with from = 0. */
struct pending_request *pending_due(const struct pending *p, uint64_t from, uint64_t now_ns);

/* The earliest retry_ns of all, UINT64_MAX when nothing waits. Looks at every id in use. */
uint64_t pending_next_ns(const struct pending *p);
