/* SPDX-License-Identifier: BSD-3-Clause
 * Key ratchet, the server's side: see ratchet.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/hkdf.h"
#include "ratchet.h"

/* Longer than the previous keys are good for by the longest burst, shorter than a client waits until it
 * steps again. */
#define WIPE_AFTER_NS (SESSION_PREVIOUS_S * NS_PER_S + NS_PER_S / 2)

/* Promoted, waiting for the previous epoch's time to be over; in order of time. A session is in here
 * at most once, so `capacity` entries are enough. */
struct pending {
	uint64_t session_id;
	uint32_t index;
};

struct ratchet {
	struct pending *ring; /* lazily backed */
	uint64_t head, tail;
	uint32_t capacity; /* a power of two */
};

int ratchet_new(struct ratchet **out, uint32_t capacity, struct error *err)
{
	struct ratchet *r = calloc(1, sizeof(*r));

	if (!r)
		return error_set(err, -ENOMEM, "out of memory");
	r->capacity = capacity;
	r->ring = mmap(NULL, capacity * sizeof(*r->ring), PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (r->ring == MAP_FAILED) {
		free(r);
		return error_set(err, -ENOMEM, "no memory for the key changes of %u sessions", capacity);
	}
	*out = r;
	return 0;
}

void ratchet_free(struct ratchet *r)
{
	if (!r)
		return;
	munmap(r->ring, r->capacity * sizeof(*r->ring));
	free(r);
}

/* ---- worker ---- */

uint64_t sessions_reserved(const struct sessions *s, const struct session_cell *c)
{
	uint64_t sum = 0;

	for (uint32_t l = 0; l < s->lanes_per_session; l++)
		sum += __atomic_load_n(&sessions_lane(s, c->key_id, l)->send_limit,
			__ATOMIC_RELAXED);
	return sum;
}

/* The current epoch ends with the session, or twice the client's time after it began. */
static uint64_t fresh_until(const struct session_cell *c, uint64_t expires_ns)
{
	uint64_t epoch_end_ns = __atomic_load_n(&c->epoch_began_ns, __ATOMIC_RELAXED) +
				SESSION_EPOCH_MAX_S * NS_PER_S;

	return expires_ns < epoch_end_ns ? expires_ns : epoch_end_ns;
}

static bool promotions_full(const struct promotions *p)
{
	return p->head - __atomic_load_n(&p->tail, __ATOMIC_ACQUIRE) >= PROMOTIONS;
}

void session_promote(struct sessions *s, struct session_cell *c, struct promotions *p, uint64_t now_ns)
{
	uint32_t ready = SESSION_NEXT_READY;

	if (promotions_full(p) || !__atomic_compare_exchange_n(&c->next_ready, &ready, SESSION_NEXT_TAKEN,
					  false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
		return;
	__atomic_store_n(&c->epoch_began_ns, now_ns, __ATOMIC_RELAXED);
	__atomic_store_n(&c->sent_before, sessions_reserved(s, c), __ATOMIC_RELAXED);
	__atomic_store_n(&c->previous_until_ns, now_ns + SESSION_PREVIOUS_S * NS_PER_S,
		__ATOMIC_RELAXED);
	__atomic_store_n(&c->fresh_until_ns,
		fresh_until(c, __atomic_load_n(&c->expires_ns, __ATOMIC_RELAXED)), __ATOMIC_RELAXED);
	__atomic_store_n(&s->slots[c->key_id & s->mask].promoted, c->epoch + 1, __ATOMIC_RELEASE);
	__atomic_store_n(&c->epoch, c->epoch + 1, __ATOMIC_RELEASE);
	__atomic_store_n(&c->next_ready, SESSION_NEXT_NONE, __ATOMIC_RELEASE); /* who sees it sees the epoch */
	failpoint("ratchet.promoted");
	p->slots[p->head % PROMOTIONS] = c->key_id & s->mask;
	__atomic_store_n(&p->head, p->head + 1, __ATOMIC_RELEASE);
}

void session_check_spent(const struct sessions *s, struct session_cell *c)
{
	if (sessions_reserved(s, c) - __atomic_load_n(&c->sent_before, __ATOMIC_RELAXED) >
		SESSION_EPOCH_MAX_DATAGRAMS)
		__atomic_store_n(&c->fresh_until_ns, 0, __ATOMIC_RELAXED);
}

/* ---- service thread ---- */

void session_renew(struct session_cell *c, uint64_t expires_ns)
{
	bool spent = c->ready && !__atomic_load_n(&c->fresh_until_ns, __ATOMIC_RELAXED);

	__atomic_store_n(&c->expires_ns, expires_ns, __ATOMIC_RELAXED);
	if (!spent)
		__atomic_store_n(&c->fresh_until_ns, fresh_until(c, expires_ns), __ATOMIC_RELAXED);
}

void ratchet_expand(const struct sessions *s, struct session_cell *c, const struct session_slot *slot,
	uint32_t epoch)
{
	const struct session_keys *k = &slot->keys[epoch % SESSION_EPOCHS];

	aead_expand(s->aead, sessions_key(s, c, epoch, SESSION_C2S), k->c2s_key, k->c2s_iv);
	aead_expand(s->aead, sessions_key(s, c, epoch, SESSION_S2C), k->s2c_key, k->s2c_iv);
}

/* Keys of `epoch` from its secret; `valid` last, so that a crash leaves them to be derived again. */
static int derive(struct session_slot *slot, uint32_t epoch, const uint8_t secret[32])
{
	struct session_keys *k = &slot->keys[epoch % SESSION_EPOCHS];
	struct wire_keys keys;
	int rc;

	if (k->valid && k->epoch == epoch)
		return 0;
	__atomic_store_n(&k->valid, 0, __ATOMIC_RELEASE);
	rc = wire_keys_derive(&keys, secret, slot->key_id);
	if (!rc) {
		memcpy(k->c2s_key, keys.c2s_key, sizeof(k->c2s_key));
		memcpy(k->s2c_key, keys.s2c_key, sizeof(k->s2c_key));
		memcpy(k->c2s_iv, keys.c2s_iv, sizeof(k->c2s_iv));
		memcpy(k->s2c_iv, keys.s2c_iv, sizeof(k->s2c_iv));
		k->epoch = epoch;
		failpoint("ratchet.derived");
		__atomic_store_n(&k->valid, 1, __ATOMIC_RELEASE);
	}
	explicit_bzero(&keys, sizeof(keys));
	return rc;
}

/* abi/session.h says why in this order. The slot's epoch is one behind the cell's. */
static int slot_step(struct session_slot *slot)
{
	uint32_t next = slot->epoch + 1;
	uint8_t *secret = slot->secrets[next & 1], *after = slot->secrets[(next + 1) & 1];
	int rc = wire_secret_ratchet(after, secret, slot->key_id);

	failpoint("ratchet.secret");
	if (!rc)
		rc = derive(slot, next + 1, after);
	if (rc)
		return rc;
	failpoint("ratchet.keys");
	__atomic_store_n(&slot->epoch, next, __ATOMIC_RELEASE);
	failpoint("ratchet.epoch");
	explicit_bzero(secret, sizeof(slot->secrets[0]));
	return 0;
}

int ratchet_recover(struct session_slot *slot)
{
	return slot->promoted == slot->epoch + 1 ? slot_step(slot) : 0;
}

int ratchet_prepare(const struct sessions *s, struct session_cell *c, struct session_slot *slot)
{
	uint32_t next = c->epoch + 1;
	struct session_keys *old = &slot->keys[(next + 1) % SESSION_EPOCHS]; /* epoch - 1 */
	int rc = derive(slot, next, slot->secrets[next & 1]);

	if (rc)
		return rc;
	explicit_bzero(old, sizeof(*old));
	failpoint("ratchet.wiped");
	__atomic_store_n(&c->previous_until_ns, 0, __ATOMIC_RELAXED);
	ratchet_expand(s, c, slot, next);
	__atomic_store_n(&c->next_ready, SESSION_NEXT_READY, __ATOMIC_RELEASE);
	return 0;
}

static void promoted(struct sessions *s, uint32_t index)
{
	struct ratchet *r = s->ratchet;
	struct session_cell *c = sessions_cell_at(s, index);

	/* Removed since, the slot may even hold another session; or libcrypto failed, and the session
	 * ends with this epoch. */
	if (!c->ready || __atomic_load_n(&c->epoch, __ATOMIC_ACQUIRE) != s->slots[index].epoch + 1 ||
		slot_step(&s->slots[index]))
		return;
	r->ring[r->head++ & (r->capacity - 1)] = (struct pending){c->session_id, index};
}

void ratchet_take(struct sessions *s, struct promotions *p)
{
	uint64_t head = __atomic_load_n(&p->head, __ATOMIC_ACQUIRE);

	for (; p->tail != head; __atomic_store_n(&p->tail, p->tail + 1, __ATOMIC_RELEASE))
		promoted(s, p->slots[p->tail % PROMOTIONS]);
}

void ratchet_turn(struct sessions *s, uint64_t now_ns)
{
	struct ratchet *r = s->ratchet;

	while (r->tail != r->head) {
		const struct pending *next = &r->ring[r->tail & (r->capacity - 1)];
		struct session_cell *c = sessions_cell_at(s, next->index);

		if (c->ready && c->session_id == next->session_id) {
			if (now_ns < __atomic_load_n(&c->epoch_began_ns, __ATOMIC_RELAXED) + WIPE_AFTER_NS)
				return;
			ratchet_prepare(s, c, &s->slots[next->index]);
			session_renew(c, __atomic_load_n(&c->expires_ns, __ATOMIC_RELAXED));
		}
		r->tail++;
	}
}
