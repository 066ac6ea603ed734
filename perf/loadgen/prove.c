/* SPDX-License-Identifier: BSD-3-Clause
 * Path challenge of many sessions: see prove.h.
 */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "client/prove.h"
#include "perf/loadgen/prove.h"

enum { AT_ONCE = TRANSPORT_BURST, TRY_MS = 50, TRIES = 100 };

/* A handful of sessions at a time: [first, first + n) of the list. */
struct batch {
	struct bench_session *list;
	uint32_t n, left;
	struct proof proofs[AT_ONCE];
	uint8_t frames[AT_ONCE][TRANSPORT_HEADROOM + PROOF_BYTES];
};

static int ask(struct batch *b, struct transport *t)
{
	struct datagram d[AT_ONCE];
	uint32_t n = 0;

	for (uint32_t i = 0; i < b->n; i++) {
		int bytes;

		if (!b->list[i].provisional)
			continue;
		d[n].data = b->frames[i] + TRANSPORT_HEADROOM;
		bytes = proof_ask(&b->proofs[i], &b->list[i].channel, d[n].data);
		if (bytes < 0)
			return bytes;
		d[n++].bytes = (uint32_t)bytes;
	}
	t->ops->frame(t, d, n);
	t->ops->send(t, d, n); /* what was not taken is asked again */
	return 0;
}

static int take(struct batch *b, struct datagram *d)
{
	struct wire_header h;

	if (d->bytes < sizeof(h))
		return 0;
	memcpy(&h, d->data, sizeof(h));
	for (uint32_t i = 0; i < b->n; i++) {
		struct bench_session *s = &b->list[i];
		int rc;

		if (s->channel.key_id != h.key_id || !s->provisional)
			continue;
		rc = proof_take(&b->proofs[i], &s->channel, d->data, d->bytes);
		if (rc == 1) {
			s->provisional = false;
			b->left--;
		}
		return rc < 0 ? rc : 0;
	}
	return 0;
}

/* Until every question of this round has an answer, or the time for it is over. */
static int listen_round(struct batch *b, struct transport *t)
{
	uint64_t end_ns = clock_now_ns() + TRY_MS * NS_PER_MS;
	uint32_t answers = 0, asked = b->left;

	while (answers < asked && clock_now_ns() < end_ns) {
		struct datagram d[TRANSPORT_BURST];
		int n = t->ops->receive(t, d);

		if (n < 0)
			return n;
		for (int i = 0; i < n; i++) {
			int rc = take(b, &d[i]);

			if (rc)
				return rc;
		}
		answers += (uint32_t)n;
	}
	return 0;
}

static int prove_batch(struct batch *b, struct transport *t)
{
	for (int i = 0; i < TRIES && b->left; i++) {
		int rc = ask(b, t);

		rc = rc ? rc : listen_round(b, t);
		if (rc)
			return rc;
	}
	return b->left ? -ETIMEDOUT : 0;
}

int prove_sessions(struct bench_sessions *s, struct transport *t, struct error *err)
{
	for (uint32_t at = 0; at < s->n; at += AT_ONCE) {
		struct batch b = {.list = s->list + at, .n = s->n - at < AT_ONCE ? s->n - at : AT_ONCE};
		int rc;

		for (uint32_t i = 0; i < b.n; i++)
			b.left += b.list[i].provisional;
		rc = prove_batch(&b, t);
		if (rc)
			return error_set(err, rc, "session %u of %u: the server %s", at + 1, s->n,
				rc == -ETIMEDOUT ? "sends nothing to our data address"
						 : "refused the proof of our data address");
	}
	return 0;
}
