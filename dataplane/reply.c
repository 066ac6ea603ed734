/* SPDX-License-Identifier: BSD-3-Clause
 * Stage reply: write the typed answer, seal it with the session's s2c key of the request's epoch
 * into the request's own buffer, and turn the headers round. A result too long for one datagram goes
 * into more of them, in buffers taken from the port.
 */
#include <string.h>

#include "base/failpoint.h"
#include "bytes.h"
#include "checksum.h"
#include "stages.h"

enum { IPV4_BYTES = 20, IPV6_BYTES = 40, UDP_BYTES = 8, TTL = 64, PROTO_UDP = 17 };

static void put_checksum(uint8_t *field, uint64_t sum, bool udp)
{
	uint16_t v = checksum_fold(sum);

	if (udp && v == 0)
		v = 0xffff; /* 0 means "none" (RFC 768) */
	memcpy(field, &v, sizeof(v));
}

/* UDP header; its checksum over the sealed payload. Addresses are already turned round. */
static void turn_udp(uint8_t *udp, uint32_t udp_bytes, const uint8_t *addresses, size_t n)
{
	swap_bytes(udp, udp + 2, 2);
	put_be16(udp + 4, udp_bytes);
	memset(udp + 6, 0, 2);
	put_checksum(udp + 6, checksum_add(checksum_pseudo(addresses, n, (uint16_t)udp_bytes,
		PROTO_UDP), udp, udp_bytes), true);
}

static void turn_ipv4(uint8_t *ip, uint32_t ip_bytes)
{
	ip[1] = 0;
	put_be16(ip + 2, ip_bytes);
	put_be16(ip + 4, 0);
	put_be16(ip + 6, 0x4000); /* DF: replies are never fragmented */
	ip[8] = TTL;
	swap_bytes(ip + 12, ip + 16, 4);
	memset(ip + 10, 0, 2);
	put_checksum(ip + 10, checksum_add(0, ip, IPV4_BYTES), false);
}

static void turn_ipv6(uint8_t *ip, uint32_t l4_bytes)
{
	ip[0] = 0x60;
	memset(ip + 1, 0, 3);
	put_be16(ip + 4, l4_bytes);
	ip[7] = TTL;
	swap_bytes(ip + 8, ip + 24, 16);
}

/* Headers of a reply whose UDP payload is `payload_bytes` long. Returns the frame's length. */
static uint16_t turn_headers(uint8_t *data, const struct packet *p, uint32_t payload_bytes)
{
	uint32_t udp_bytes = UDP_BYTES + payload_bytes;
	uint8_t *ip = data + p->l3;

	swap_bytes(data, data + 6, 6);
	if (p->ip_version == 4) {
		turn_ipv4(ip, IPV4_BYTES + udp_bytes);
		turn_udp(data + p->l4, udp_bytes, ip + 12, 8);
	} else {
		turn_ipv6(ip, udp_bytes);
		turn_udp(data + p->l4, udp_bytes, ip + 8, 32);
	}
	return (uint16_t)(p->l4 + udp_bytes);
}

/* Row bytes of the whole reply. */
static uint32_t reply_bytes(const struct burst *b, uint32_t i)
{
	return b->requests[i].status == WIRE_RESULT ? b->reply_bytes[i] : 0;
}

/* The header of segment `index` of packet `i`'s reply. */
static struct wire_reply reply_head(const struct burst *b, uint32_t i, uint32_t index, uint32_t count)
{
	const struct request *r = &b->requests[i];
	bool result = r->status == WIRE_RESULT;

	return (struct wire_reply){
		.request_id = r->request_id,
		.model_id = r->model_id,
		.status = r->status,
		.dtype = result ? r->dtype_out : 0,
		.segment_index = (uint8_t)index,
		.segment_count = (uint8_t)count,
		.rows = result ? r->n_rows : 0,
		.detail = r->detail,
		.retry_after_us = result ? 0 : r->retry_after_us,
	};
}

uint32_t reply_text(struct burst *b, uint32_t i)
{
	struct wire_reply head = reply_head(b, i, 0, 1);

	memcpy(b->reply[i], &head, sizeof(head));
	return WIRE_REPLY_BYTES + reply_bytes(b, i);
}

static uint64_t take_counter(struct worker *w, const struct request *r)
{
	bool spent = send_counter_spent(r->lane);
	uint64_t counter = send_counter_take(r->lane);

	if (mr_unlikely(spent))
		session_check_spent(w->sessions, r->cell);
	return counter;
}

/* Seal `n` bytes of text as the payload of `frame`, laid out like packet `i`'s, under a counter of its
 * own. Returns the payload's length. */
static uint32_t seal(struct worker *w, uint32_t i, uint8_t *frame, const uint8_t *text, uint32_t n)
{
	const struct packet *p = &w->burst.packets[i];
	const struct request *r = &w->burst.requests[i];
	struct wire_header head = p->wire; /* same flags (epoch), lane and key id */

	head.type = WIRE_TYPE_REPLY;
	head.counter = take_counter(w, r);
	failpoint("reply.counter");
	aead_seal(&w->shared->aead, sessions_key(w->sessions, r->cell, head.flags, SESSION_S2C), head,
		frame + p->payload, text, n);
	failpoint("reply.sealed");
	return WIRE_HEADER_BYTES + n + WIRE_TAG_BYTES;
}

/* Buffers for the segments behind the first. False = the port has none left. */
static bool take_frames(struct worker *w, uint32_t i, uint32_t n, uint8_t *data[])
{
	struct extra *x = &w->extra;

	if (!w->queue->ops->take(w->queue, &x->buffers[x->n], data, n))
		return false;
	for (uint32_t k = 0; k < n; k++) {
		memcpy(data[k], w->burst.data[i], w->burst.packets[i].payload);
		x->packet[x->n + k] = (uint8_t)i;
	}
	return true;
}

/* A reply of several datagrams. Each header is written over the last bytes of the rows before it, which
 * have been sealed by then: nothing is copied. */
static bool seal_wide(struct worker *w, uint32_t i, uint32_t *first_payload)
{
	struct burst *b = &w->burst;
	struct extra *x = &w->extra;
	uint32_t bytes = reply_bytes(b, i), count = wide_segments(bytes), payload;
	uint8_t *rows = worker_reply_rows(w, i), *data[WIRE_MAX_SEGMENTS];

	if (!take_frames(w, i, count - 1, data + 1))
		return false;
	data[0] = b->data[i];
	for (uint32_t k = 0; k < count; k++) {
		uint8_t *text = rows + k * WIRE_SEGMENT_ROW_BYTES - WIRE_REPLY_BYTES;
		struct wire_reply head = reply_head(b, i, k, count);

		memcpy(text, &head, sizeof(head));
		payload = seal(w, i, data[k], text, WIRE_REPLY_BYTES + wide_segment_bytes(bytes, k));
		if (k)
			x->bytes[x->n++] = turn_headers(data[k], &b->packets[i], payload);
		else
			*first_payload = payload;
	}
	return true;
}

/* ---- replies kept for retries ---- */

/* Keep the result of packet `i`. Its request's text still stands where auth opened it (of several
 * datagrams: the last one's header does, and the rows in their buffer). */
static void keep(struct worker *w, uint32_t i)
{
	const struct burst *b = &w->burst;
	const struct request *r = &b->requests[i];
	uint32_t in = r->n_rows * r->model->row_in_bytes;
	uint64_t hashes[WIRE_MAX_SEGMENTS];
	struct stored_reply reply = {.session_id = r->cell->session_id, .request_id = r->request_id,
		.model_id = r->model_id, .rows = r->n_rows, .detail = r->detail,
		.row_bytes = b->reply_bytes[i], .dtype = r->dtype_out};
	struct wire_request q;

	memcpy(&q, b->data[i] + b->packets[i].payload + WIRE_HEADER_BYTES, sizeof(q));
	reply.segments = q.segment_count;
	for (uint32_t k = 0; k < q.segment_count; k++) {
		q.segment_index = (uint8_t)k;
		hashes[k] = text_hash(&w->keeping.hash, &q, r->rows + k * WIRE_SEGMENT_ROW_BYTES,
			wide_segment_bytes(in, k));
	}
	reply_store_put(&w->keeping.store, &reply, hashes, worker_reply_rows(w, i), b->now_ns);
}

static void count_store(struct worker *w, uint64_t evicted, uint64_t early)
{
	const struct reply_store *s = &w->keeping.store;

	__atomic_store_n(&w->stats->store_used_bytes, (uint64_t)s->n_used * STORE_BLOCK_BYTES,
		__ATOMIC_RELAXED);
	if (s->evicted != evicted)
		worker_count(w, STATS_STORE_EVICTED, s->evicted - evicted);
	if (s->evicted_early != early)
		worker_count(w, STATS_STORE_EARLY, s->evicted_early - early);
}

/* Before anything is sealed: that overwrites the requests. */
static void keep_replies(struct worker *w)
{
	struct burst *b = &w->burst;
	uint64_t evicted = w->keeping.store.evicted, early = w->keeping.store.evicted_early;
	bool any = false;

	for (uint32_t i = 0; i < b->n; i++) {
		struct request *r = &b->requests[i];

		if (b->state[i] != PKT_REPLY || r->status != WIRE_RESULT || mr_likely(!r->keep))
			continue;
		keep(w, i);
		any = true;
	}
	if (any)
		count_store(w, evicted, early);
}

/* ---- the stage ---- */

/* The answer to packet `i`, into its own buffer and what else it needs. */
static void answer(struct worker *w, uint32_t i)
{
	struct burst *b = &w->burst;
	uint32_t payload;

	if (mr_likely(reply_bytes(b, i) <= WIRE_SEGMENT_ROW_BYTES)) {
		payload = seal(w, i, b->data[i], b->reply[i], reply_text(b, i));
	} else if (!seal_wide(w, i, &payload)) {
		worker_count(w, STATS_COMPLETED, 1);
		worker_drop(w, i, STATS_DROP_REPLY_TX);
		return;
	}
	b->bytes[i] = turn_headers(b->data[i], &b->packets[i], payload);
	b->state[i] = PKT_SEND;
}

void stage_reply(struct worker *w)
{
	struct burst *b = &w->burst;

	w->extra.n = 0;
	if (w->keeping.store.n)
		keep_replies(w);
	for (uint32_t i = 0; i < b->n; i++)
		if (b->state[i] == PKT_REPLY)
			answer(w, i);
}
