/* SPDX-License-Identifier: BSD-3-Clause
 * Session table, the dataplane's side: see sessions.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "ratchet.h"
#include "sessions.h"

static uint64_t capacity(const struct sessions *s)
{
	return (uint64_t)s->mask + 1;
}

/* ---- attach ---- */

static int table_check(const struct session_table *t, size_t bytes, struct error *err)
{
	if (bytes < SESSION_TABLE_BYTES || t->magic != SESSION_MAGIC)
		return error_set(err, -EINVAL, "this is no session table");
	if (t->version != SESSION_VERSION)
		return error_set(err, -EPROTO, "session table version %u, this dataplane reads %u",
			t->version, SESSION_VERSION);
	if (t->capacity < SESSION_MIN_CAPACITY || t->capacity > SESSION_MAX_CAPACITY ||
		(t->capacity & (t->capacity - 1)))
		return error_set(err, -EINVAL,
			"session table capacity %u is no power of two in %u..%u", t->capacity,
			SESSION_MIN_CAPACITY, SESSION_MAX_CAPACITY);
	if (t->lanes < 1 || t->lanes > WIRE_MAX_LANES)
		return error_set(err, -EINVAL, "session table lanes %u is not in 1..%u", t->lanes,
			WIRE_MAX_LANES);
	if (t->total_bytes != session_table_bytes(t->capacity, t->lanes) ||
		t->total_bytes > bytes || t->slots_offset != SESSION_TABLE_BYTES ||
		t->lanes_offset !=
			SESSION_TABLE_BYTES + (uint64_t)t->capacity * sizeof(struct session_slot))
		return error_set(err, -EINVAL,
			"session table of %u slots has wrong offsets or size", t->capacity);
	return 0;
}

static int cells_new(struct sessions *s, struct error *err)
{
	s->key_bytes = aead_key_bytes(s->aead);
	s->stride = SESSION_CELL_HEAD_BYTES + SESSION_CELL_KEYS * s->key_bytes;
	s->cells_bytes = capacity(s) * s->stride;
	s->cells = mmap(NULL, s->cells_bytes, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (s->cells == MAP_FAILED) {
		s->cells = NULL;
		return error_set(err, -ENOMEM, "no %zu bytes for the keys of %lu sessions",
			s->cells_bytes, (unsigned long)capacity(s));
	}
	madvise(s->cells, s->cells_bytes, MADV_DONTDUMP);
	madvise(s->cells, s->cells_bytes, MADV_DONTFORK);
	madvise(s->cells, s->cells_bytes, MADV_HUGEPAGE); /* fewer TLB misses where THP is on */
	return 0;
}

static void adopt_slots(struct sessions *s, uint64_t now_ns)
{
	for (uint64_t i = 0; i < capacity(s); i++) {
		uint32_t state = __atomic_load_n(&s->slots[i].state, __ATOMIC_ACQUIRE);

		if (state == SESSION_FREE)
			continue;
		failpoint("adopt.session");
		if (state == SESSION_LIVE)
			s->refused += sessions_add(s, i, now_ns, NULL) != 0;
		else
			sessions_remove_finish(s, i); /* begun before a crash, or without us */
	}
}

static int table_map(struct sessions *s, int fd, struct error *err)
{
	void *map;
	int rc;

	s->fd = fd_reopen(fd);
	if (s->fd < 0)
		return error_set(err, s->fd, "re-opening the session table: %s", strerror(-s->fd));
	if (flock(s->fd, LOCK_EX | LOCK_NB) < 0)
		return error_set(err, -EBUSY, "another dataplane holds the session table");
	failpoint("adopt.locked");
	rc = fd_region_map(s->fd, true, true, &map, &s->table_bytes, err);
	if (rc)
		return rc;
	s->table = map;
	return 0;
}

int sessions_attach(struct sessions **out, int fd, const struct aead *aead, uint64_t now_ns,
	struct error *err)
{
	struct sessions *s = calloc(1, sizeof(*s));
	struct session_table copy;
	int rc;

	if (!s)
		return error_set(err, -ENOMEM, "out of memory");
	s->fd = -1;
	rc = table_map(s, fd, err);
	if (rc)
		goto fail;
	memcpy(&copy, s->table, s->table_bytes < sizeof(copy) ? s->table_bytes : sizeof(copy));
	rc = table_check(&copy, s->table_bytes, err);
	if (rc)
		goto fail;
	s->mask = copy.capacity - 1;
	s->lanes_per_session = copy.lanes;
	s->aead = aead;
	s->slots = (struct session_slot *)((uint8_t *)s->table + copy.slots_offset);
	s->lanes = (struct session_lane *)((uint8_t *)s->table + copy.lanes_offset);
	rc = cells_new(s, err);
	if (!rc)
		rc = ratchet_new(&s->ratchet, copy.capacity, err);
	if (rc)
		goto fail;
	s->generation = copy.generation + 1;
	__atomic_store_n(&s->table->generation, s->generation, __ATOMIC_RELEASE);
	failpoint("adopt.generation");
	adopt_slots(s, now_ns);
	*out = s;
	return 0;
fail:
	sessions_detach(s);
	return rc;
}

void sessions_detach(struct sessions *s)
{
	if (!s)
		return;
	if (s->cells) {
		for (uint64_t i = 0; i < capacity(s); i++)
			if (sessions_cell_at(s, i)->ready || sessions_cell_at(s, i)->session_id) /* or half removed */
				explicit_bzero(sessions_cell_at(s, i), s->stride);
		munmap(s->cells, s->cells_bytes);
	}
	ratchet_free(s->ratchet);
	if (s->table)
		munmap(s->table, s->table_bytes);
	fd_close(s->fd);
	free(s);
}

/* ---- add, remove ---- */

static int slot_check(const struct session_slot *slot, uint64_t index, uint32_t mask,
	struct error *err)
{
	const struct session_keys *k = &slot->keys[slot->epoch % SESSION_EPOCHS];

	if ((slot->key_id & mask) != index)
		return error_set(err, -EINVAL, "session slot %lu holds key id %#x of another slot",
			(unsigned long)index, slot->key_id);
	if (!k->valid || k->epoch != slot->epoch)
		return error_set(err, -EINVAL, "session slot %lu has no keys of epoch %u",
			(unsigned long)index, slot->epoch);
	return 0;
}

static int cell_fill(struct sessions *s, struct session_cell *c, struct session_slot *slot,
	uint64_t now_ns)
{
	int rc = ratchet_recover(slot);

	if (rc)
		return rc;
	c->key_id = slot->key_id;
	c->subscriber = slot->subscriber;
	c->epoch = slot->epoch;
	c->source = slot->source;
	c->session_id = slot->session_id;
	c->failed_tat_ns = 0;
	c->previous_until_ns = 0;
	c->epoch_began_ns = now_ns; /* of an adopted session: it cannot be known */
	session_renew(c, slot->expires_ns);
	c->challenge = slot->challenge;
	c->unproven = slot->flags & SESSION_PROVISIONAL ? 1 : 0;
	memset(c->lane_owner, 0, sizeof(c->lane_owner));
	for (uint32_t l = 0; l < s->lanes_per_session; l++)
		send_counter_attach(sessions_lane(s, slot->key_id, l));
	c->sent_before = sessions_reserved(s, c);
	ratchet_expand(s, c, slot, slot->epoch);
	return ratchet_prepare(s, c, slot);
}

int sessions_add(struct sessions *s, uint64_t index, uint64_t now_ns, struct error *err)
{
	struct session_slot *slot;
	struct session_cell *c;
	int rc;

	if (index >= capacity(s))
		return error_set(err, -ERANGE, "session slot %lu of %lu", (unsigned long)index,
			(unsigned long)capacity(s));
	c = sessions_cell_at(s, index);
	if (__atomic_load_n(&s->slots[index].state, __ATOMIC_ACQUIRE) != SESSION_LIVE)
		return error_set(
			err, -ENOENT, "session slot %lu is not live", (unsigned long)index);
	slot = &s->slots[index];
	rc = slot_check(slot, index, s->mask, err);
	if (!rc && c->ready) {
		if (c->session_id == slot->session_id && c->key_id == slot->key_id)
			session_renew(c, slot->expires_ns);
		else
			rc = error_set(err, -EEXIST, "session slot %lu still holds another session",
				(unsigned long)index);
	} else if (!rc) {
		rc = cell_fill(s, c, slot, now_ns);
		if (rc) {
			explicit_bzero(c, s->stride);
			return error_set(err, rc, "session slot %lu: no keys could be derived",
				(unsigned long)index);
		}
		failpoint("session.filled");
		__atomic_store_n(&c->ready, 1, __ATOMIC_RELEASE);
		s->live++;
		failpoint("session.added");
	}
	return rc;
}

int sessions_remove_begin(struct sessions *s, uint64_t index, uint64_t session_id)
{
	struct session_slot *slot;
	struct session_cell *c;
	bool in_cell, in_slot;

	if (index >= capacity(s))
		return -ERANGE;
	slot = &s->slots[index];
	c = sessions_cell_at(s, index);
	in_cell = c->ready && c->session_id == session_id;
	in_slot = slot->session_id == session_id &&
		  __atomic_load_n(&slot->state, __ATOMIC_ACQUIRE) != SESSION_FREE;
	if (!in_cell && !in_slot)
		return -ESRCH;
	__atomic_store_n(&slot->state, SESSION_CLOSED, __ATOMIC_RELEASE);
	failpoint("session.closed");
	__atomic_store_n(&c->ready, 0, __ATOMIC_SEQ_CST);
	return 0;
}

void sessions_remove_finish(struct sessions *s, uint64_t index)
{
	struct session_slot *slot = &s->slots[index];
	struct session_cell *c = sessions_cell_at(s, index);

	if (c->key_id || c->session_id) { /* untouched cells stay unbacked */
		explicit_bzero(c, s->stride);
		s->live--;
	}
	memset(&s->lanes[index * s->lanes_per_session], 0,
		s->lanes_per_session * sizeof(struct session_lane));
	failpoint("session.lanes");
	slot->key_id = 0;
	slot->session_id = 0;
	slot->promoted = 0;
	explicit_bzero(slot->keys, sizeof(slot->keys));
	explicit_bzero(slot->secrets, sizeof(slot->secrets));
	failpoint("session.keys");
	__atomic_store_n(&slot->state, SESSION_FREE, __ATOMIC_RELEASE);
	failpoint("session.free");
}
