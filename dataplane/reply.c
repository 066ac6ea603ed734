/* SPDX-License-Identifier: BSD-3-Clause
 * Stage reply: write the typed answer, seal it with the session's s2c key of the request's epoch
 * into the request's own buffer, and turn the headers round.
 */
#include <string.h>

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

uint32_t reply_text(struct burst *b, uint32_t i)
{
	const struct request *r = &b->requests[i];
	bool result = r->status == WIRE_RESULT;
	struct wire_reply reply = {
		.request_id = r->request_id,
		.model_id = r->model_id,
		.status = r->status,
		.dtype = result ? r->model->dtype_out : 0,
		.segment_count = 1,
		.rows = result ? r->n_rows : 0,
		.detail = r->detail,
		.retry_after_us = result ? 0 : r->retry_after_us,
	};

	memcpy(b->reply[i], &reply, sizeof(reply));
	return WIRE_REPLY_BYTES + (result ? r->n_rows * r->model->row_out_bytes : 0);
}

static uint64_t take_counter(struct worker *w, const struct request *r, uint32_t lane)
{
	uint64_t counter;

	sessions_lane_lock(w->sessions, r->cell, lane);
	counter = send_counter_take(&r->cell->send[lane], r->lane);
	sessions_lane_unlock(w->sessions, r->cell, lane);
	return counter;
}

static void seal(struct worker *w, uint32_t i)
{
	struct burst *b = &w->burst;
	const struct packet *p = &b->packets[i];
	const struct request *r = &b->requests[i];
	uint8_t *wire = b->data[i] + p->payload, nonce[WIRE_IV_BYTES];
	uint32_t n = reply_text(b, i);
	struct wire_header head = p->wire; /* same flags (epoch), lane and key id */

	head.type = WIRE_TYPE_REPLY;
	head.counter = take_counter(w, r, p->wire.lane);
	memcpy(wire, &head, sizeof(head));
	wire_nonce(nonce, r->cell->s2c_iv, head.lane, head.counter);
	aead_seal(&w->shared->aead, sessions_s2c_key(w->sessions, r->cell), nonce, wire,
		WIRE_HEADER_BYTES, wire + WIRE_HEADER_BYTES, b->reply[i], n,
		wire + WIRE_HEADER_BYTES + n);
	b->bytes[i] = turn_headers(b->data[i], p, WIRE_HEADER_BYTES + n + WIRE_TAG_BYTES);
	b->state[i] = PKT_SEND;
}

void stage_reply(struct worker *w)
{
	struct burst *b = &w->burst;

	for (uint32_t i = 0; i < b->n; i++) {
		if (b->state[i] == PKT_REPLY) {
			const uint8_t *key = (const uint8_t *)sessions_s2c_key(w->sessions,
				b->requests[i].cell);

			for (uint32_t line = 0; line < 4; line++)
				__builtin_prefetch(key + line * 64);
		}
	}
	for (uint32_t i = 0; i < b->n; i++)
		if (b->state[i] == PKT_REPLY)
			seal(w, i);
}
