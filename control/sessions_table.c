/* SPDX-License-Identifier: BSD-3-Clause
 * Short visits to the session table: see sessions_table.h.
 */
#include <errno.h>
#include <openssl/crypto.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "base/hkdf.h"
#include "control/sessions_table.h"

/* One visit: mapped between enter() and leave(). */
struct visit {
	struct session_table *table;
	struct session_slot *slots;
	size_t bytes;
};

static int enter(const struct sessions_table *t, struct visit *v, struct error *err)
{
	void *map;
	int rc = fd_region_map(t->fd, true, true, &map, &v->bytes, err);

	if (rc)
		return rc;
	v->table = map;
	v->slots = (struct session_slot *)((char *)map + SESSION_TABLE_BYTES);
	return 0;
}

static void leave(struct visit *v)
{
	munmap(v->table, v->bytes);
}

int sessions_table_new(struct sessions_table *t, uint32_t capacity, uint32_t lanes,
	struct error *err)
{
	uint64_t bytes = session_table_bytes(capacity, lanes);
	struct session_table head = {.magic = SESSION_MAGIC, .version = SESSION_VERSION,
		.capacity = capacity, .lanes = lanes, .slots_offset = SESSION_TABLE_BYTES,
		.lanes_offset = SESSION_TABLE_BYTES + (uint64_t)capacity * sizeof(struct session_slot),
		.total_bytes = bytes};
	void *map;
	int fd = fd_region_new("millrace-sessions", bytes, true, &map, err);

	if (fd < 0)
		return fd;
	memcpy(map, &head, sizeof(head));
	munmap(map, bytes);
	*t = (struct sessions_table){fd, capacity, lanes};
	return 0;
}

static int check(const struct session_table *h, size_t bytes, uint32_t capacity, uint32_t lanes,
	struct error *err)
{
	if (h->magic != SESSION_MAGIC || h->version != SESSION_VERSION)
		return error_set(err, -EPROTO, "session table: version %u, this program knows %d",
			h->version, SESSION_VERSION);
	if (h->capacity != capacity || h->lanes != lanes)
		return error_set(err, -EINVAL, "session table: %u sessions x %u lanes, the "
			"configuration says %u x %u; restart the dataplane to change it", h->capacity,
			h->lanes, capacity, lanes);
	if (bytes != session_table_bytes(capacity, lanes) || h->total_bytes != bytes ||
		h->slots_offset != SESSION_TABLE_BYTES)
		return error_set(err, -EPROTO, "session table: %zu bytes do not fit its header",
			bytes);
	return 0;
}

int sessions_table_take(struct sessions_table *t, int fd, uint32_t capacity, uint32_t lanes,
	struct error *err)
{
	struct sessions_table taken = {fd, capacity, lanes};
	struct visit v;
	int rc = enter(&taken, &v, err);

	if (!rc) {
		struct session_table head = {0};

		if (v.bytes >= SESSION_TABLE_BYTES)
			memcpy(&head, v.table, sizeof(head));
		rc = check(&head, v.bytes, capacity, lanes, err);
		leave(&v);
	}
	if (rc)
		close(fd);
	else
		*t = taken;
	return rc;
}

void sessions_table_close(struct sessions_table *t)
{
	fd_close(t->fd);
	t->fd = -1;
}

static int derive(struct session_slot *slot, const uint8_t secret[32])
{
	struct session_keys *k = &slot->keys[0];
	struct wire_keys keys;
	int rc = wire_keys_derive(&keys, secret, slot->key_id);

	if (!rc)
		rc = wire_secret_ratchet(slot->secrets[1], secret, slot->key_id);
	memcpy(k->c2s_key, keys.c2s_key, sizeof(k->c2s_key));
	memcpy(k->s2c_key, keys.s2c_key, sizeof(k->s2c_key));
	memcpy(k->c2s_iv, keys.c2s_iv, sizeof(k->c2s_iv));
	memcpy(k->s2c_iv, keys.s2c_iv, sizeof(k->s2c_iv));
	k->valid = 1;
	OPENSSL_cleanse(&keys, sizeof(keys));
	return rc;
}

int sessions_table_fill(const struct sessions_table *t, const struct session_slot *fill,
	const uint8_t secret[32])
{
	uint32_t index = fill->key_id & (t->capacity - 1);
	struct session_slot slot = *fill;
	struct session_lane *lanes;
	struct visit v;
	int rc;

	slot.state = SESSION_FREE;
	rc = derive(&slot, secret);
	if (!rc)
		rc = enter(t, &v, NULL);
	if (!rc) {
		if (__atomic_load_n(&v.slots[index].state, __ATOMIC_ACQUIRE) != SESSION_FREE) {
			rc = -EBUSY;
		} else {
			lanes = (struct session_lane *)(v.slots + t->capacity);
			memset(lanes + (size_t)index * t->lanes, 0, t->lanes * sizeof(*lanes));
			failpoint("table.lanes");
			v.slots[index] = slot;
			failpoint("table.slot");
			__atomic_store_n(&v.slots[index].state, SESSION_LIVE, __ATOMIC_RELEASE);
			failpoint("table.live");
		}
		leave(&v);
	}
	OPENSSL_cleanse(&slot, sizeof(slot));
	return rc;
}

/* Do one change to slot `index` if it belongs to `session_id`. */
static int change(const struct sessions_table *t, uint32_t index, uint64_t session_id,
	void (*fn)(struct visit *v, const struct sessions_table *t, struct session_slot *s,
		uint64_t value), uint64_t value)
{
	struct visit v;
	int rc;

	if (t->fd < 0 || index >= t->capacity)
		return -ESRCH;
	rc = enter(t, &v, NULL);
	if (rc)
		return rc;
	if (v.slots[index].session_id == session_id &&
		__atomic_load_n(&v.slots[index].state, __ATOMIC_ACQUIRE) != SESSION_FREE)
		fn(&v, t, &v.slots[index], value);
	else
		rc = -ESRCH;
	leave(&v);
	return rc;
}

static void do_expire(struct visit *v, const struct sessions_table *t, struct session_slot *s,
	uint64_t value)
{
	(void)v;
	(void)t;
	__atomic_store_n(&s->expires_ns, value, __ATOMIC_RELAXED);
}

static void do_mark(struct visit *v, const struct sessions_table *t, struct session_slot *s,
	uint64_t value)
{
	(void)v;
	(void)t;
	(void)value;
	__atomic_store_n(&s->state, SESSION_CLOSED, __ATOMIC_RELEASE);
}

static void do_wipe(struct visit *v, const struct sessions_table *t, struct session_slot *s,
	uint64_t value)
{
	struct session_lane *lanes = (struct session_lane *)(v->slots + t->capacity);
	size_t index = (size_t)(s - v->slots);

	(void)value;
	OPENSSL_cleanse(s->keys, sizeof(s->keys));
	OPENSSL_cleanse(s->secrets, sizeof(s->secrets));
	memset(lanes + index * t->lanes, 0, t->lanes * sizeof(*lanes));
	__atomic_store_n(&s->state, SESSION_FREE, __ATOMIC_RELEASE);
}

int sessions_table_expire(const struct sessions_table *t, uint32_t index, uint64_t session_id,
	uint64_t expires_ns)
{
	return change(t, index, session_id, do_expire, expires_ns);
}

int sessions_table_mark(const struct sessions_table *t, uint32_t index, uint64_t session_id)
{
	return change(t, index, session_id, do_mark, 0);
}

int sessions_table_wipe(const struct sessions_table *t, uint32_t index, uint64_t session_id)
{
	return change(t, index, session_id, do_wipe, 0);
}

int sessions_table_each(const struct sessions_table *t,
	int (*fn)(uint32_t index, const struct session_slot *public_part, void *arg), void *arg)
{
	struct visit v;
	int rc = t->fd < 0 ? -ENOENT : enter(t, &v, NULL);

	if (rc)
		return rc;
	for (uint32_t i = 0; !rc && i < t->capacity; i++) {
		struct session_slot s = {0};

		if (__atomic_load_n(&v.slots[i].state, __ATOMIC_ACQUIRE) == SESSION_FREE)
			continue;
		memcpy(&s, &v.slots[i], offsetof(struct session_slot, keys));
		rc = fn(i, &s, arg);
	}
	leave(&v);
	return rc;
}
