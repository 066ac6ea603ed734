/* SPDX-License-Identifier: BSD-3-Clause
 * The client that writes everything down: see client.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "tests/kill/client.h"
#include "tests/kill/victim.h"

enum { NONCES = 1 << 21 };

struct nonce {
	uint32_t key_id;
	uint16_t lane;
	uint8_t epoch;
	uint8_t used;
	uint64_t counter;
};

static const float sample[RIG_IN] = {1.0f, -2.0f, 0.5f, 3.0f};

/* Not copied by each of a thousand forks. */
static void *memory(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED || madvise(p, bytes, MADV_DONTFORK)) {
		perror("memory of the client");
		exit(1);
	}
	return p;
}

void client_init(struct client *c)
{
	memset(c, 0, sizeof(*c));
	c->request_session = memory(CLIENT_MAX_FRAMES);
	c->request_answered = memory(CLIENT_MAX_FRAMES);
	c->frames = memory(CLIENT_MAX_FRAMES * sizeof(*c->frames));
	c->recent = memory(CLIENT_RECENT * sizeof(*c->recent));
	c->nonces = memory(NONCES * sizeof(*c->nonces));
}

static size_t frame_of(struct client *c, uint32_t request, uint8_t *frame)
{
	uint32_t s = c->request_session[request];
	struct rig_client *session = &c->sessions[s];
	struct wire_request q = {.request_id = c->n_frames, .model_id = wire_model_id("alpha"),
		.dtype = WIRE_F32, .segment_count = 1, .rows = 1};
	size_t n;

	if (c->n_frames == CLIENT_MAX_FRAMES) {
		fprintf(stderr, "the client has no room for more datagrams\n");
		exit(1);
	}
	c->frames[c->n_frames] = (struct sent_frame){request, (uint8_t)s, false, session->counter};
	n = rig_request(session, frame, &q, sample, sizeof(sample));
	memcpy(c->recent[c->n_frames % CLIENT_RECENT], frame, n);
	c->recent_bytes[c->n_frames % CLIENT_RECENT] = (uint16_t)n;
	c->n_frames++;
	c->sent_by[s]++;
	return n;
}

size_t client_request(struct client *c, uint32_t s, uint8_t *frame)
{
	c->request_session[c->n_requests] = (uint8_t)s;
	return frame_of(c, c->n_requests++, frame);
}

void client_retry_begin(struct client *c)
{
	while (c->retry_from < c->n_requests && c->request_answered[c->retry_from])
		c->retry_from++;
	c->retry_next = c->retry_from;
	c->retry_end = c->n_requests;
}

size_t client_retry(struct client *c, uint8_t *frame)
{
	while (c->retry_next < c->retry_end && c->request_answered[c->retry_next])
		c->retry_next++;
	return c->retry_next < c->retry_end ? frame_of(c, c->retry_next++, frame) : 0;
}

size_t client_repeat(struct client *c, uint32_t random, uint8_t *frame)
{
	uint32_t kept = c->n_frames < CLIENT_RECENT ? c->n_frames : CLIENT_RECENT;
	uint32_t back = random % 4 ? random % 64 : random % CLIENT_RECENT, at;

	if (back >= kept)
		return 0;
	at = (c->n_frames - 1 - back) % CLIENT_RECENT;
	memcpy(frame, c->recent[at], c->recent_bytes[at]);
	c->repeats++;
	return c->recent_bytes[at];
}

/* True when it was not there yet. */
static bool remember(struct client *c, const struct wire_header *h)
{
	struct nonce n = {h->key_id, h->lane, h->flags, 1, h->counter};
	uint64_t at = (n.counter * 0x9e3779b97f4a7c15ull ^ n.key_id * 0x85ebca6bull ^ n.epoch) % NONCES;

	while (c->nonces[at].used) {
		if (memcmp(&c->nonces[at], &n, sizeof(n)) == 0)
			return false;
		at = (at + 1) % NONCES;
	}
	c->nonces[at] = n;
	c->n_nonces++;
	return true;
}

void client_reply(struct client *c, const uint8_t *frame, size_t n)
{
	struct rig_reply got;
	struct sent_frame *f;
	float expect[RIG_OUT];
	uint32_t key_id, s = 0;

	memcpy(&key_id, frame + 14 + 20 + 8 + offsetof(struct wire_header, key_id), sizeof(key_id));
	while (s <= CLIENT_SESSIONS && c->sessions[s].key_id != key_id)
		s++;
	if (s > CLIENT_SESSIONS)
		return; /* a guest that has gone */
	c->sessions[s].replies = 0; /* repeats are counted here, not asserted there */
	if (!rig_open(&c->sessions[s], frame, n, &got)) {
		c->not_genuine++;
		return;
	}
	if (!c->answered_ns[s] && got.head.flags == (c->sessions[s].epoch & WIRE_FLAG_EPOCH_MASK))
		c->answered_ns[s] = world_now_ns();
	if (!remember(c, &got.head))
		c->nonces_repeated++;
	f = &c->frames[got.reply.request_id];
	if (got.reply.request_id >= c->n_frames || f->session != s) {
		c->wrong++;
		return;
	}
	c->accepted_twice += f->answered;
	f->answered = true;
	rig_expect(sample, 1.0f, expect);
	if (got.reply.status == WIRE_RATE_LIMITED || got.reply.status == WIRE_OVERLOADED)
		return; /* to be tried again */
	if (got.reply.status != WIRE_RESULT || memcmp(got.rows, expect, sizeof(expect)) != 0)
		c->wrong++;
	if (!c->request_answered[f->request])
		c->n_answered++;
	c->request_answered[f->request] = true;
}

void client_ratchet(struct client *c, uint64_t now_ns, uint32_t kills)
{
	for (uint32_t s = 0; s <= CLIENT_SESSIONS; s++) {
		struct rig_client *session = &c->sessions[s];

		if (!session->key_id || !c->answered_ns[s] ||
			now_ns < c->answered_ns[s] + (session->epoch ? WIRE_EPOCH_MIN_S * NS_PER_S : 0) ||
			session->epoch >= (s == CLIENT_GUEST ? 3 : 2 + kills / 64))
			continue;
		session->epoch++;
		c->answered_ns[s] = 0;
		c->epochs++;
	}
}

void client_forget_guest(struct client *c)
{
	for (uint32_t i = c->retry_from; i < c->n_requests; i++)
		if (c->request_session[i] == CLIENT_GUEST && !c->request_answered[i]) {
			c->request_answered[i] = true;
			c->n_answered++;
		}
	c->sessions[CLIENT_GUEST].key_id = 0;
	c->answered_ns[CLIENT_GUEST] = 0;
	c->guest = false;
}
