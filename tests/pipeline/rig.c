/* SPDX-License-Identifier: BSD-3-Clause
 * The rig: see rig.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/hkdf.h"
#include "rig.h"

static const uint8_t server_mac[6] = {2, 0, 0, 0, 0, 1}, client_mac[6] = {2, 0, 0, 0, 0, 2};
static const struct ip_addr server4 = {{[10] = 0xff, 0xff, 10, 77, 0, 1}};
static const struct ip_addr client4 = {{[10] = 0xff, 0xff, 10, 77, 0, 2}};
static const struct ip_addr server6 = {{0xfd, 0x77, [15] = 1}};
static const struct ip_addr client6 = {{0xfd, 0x77, [15] = 2}};

/* ---- the dataplane ---- */

static void note_released(void *ctx, uint32_t index, uint64_t number)
{
	struct rig *r = ctx;

	(void)index;
	if (number > r->released) /* those that wait are let go of in no order */
		r->released = number;
}

static void worker_new(struct rig *r, uint32_t i)
{
	struct worker *w = aligned_alloc(64, (sizeof(*w) + 63) & ~(size_t)63);
	struct port_mem *p = calloc(1, sizeof(*p));

	r->all_stats[i] = aligned_alloc(64, sizeof(struct stats_worker));
	memset(r->all_stats[i], 0, sizeof(struct stats_worker));
	port_mem_init(p, &r->parse);
	if (i)
		port_mem_share(p, r->ports[0]);
	p->now_ns = r->begin_ns;
	memset(w, 0, sizeof(*w));
	worker_init(w, i, &r->shared, &p->queue, r->all_stats[i], port_mem_clock(p), 32, 100,
		2000000000ull);
	assert_int_equal(worker_take_memory(w, &(struct worker_memory){.wide_buffers = RIG_WIDE_BUFFERS,
		.store_kb = STORE_MIN_KB, .store_over_ns = NS_PER_S}), 0);
	r->ports[i] = p;
	r->workers[i] = w;
}

void rig_start(struct rig *r)
{
	struct error err = {0};

	memset(&r->shared, 0, sizeof(r->shared));
	assert_int_equal(handover_init(&r->shared.handover, r->n_workers), 0);
	assert_int_equal(aead_init(&r->shared.aead), 0);
	assert_int_equal(model_table_init(&r->models, &r->shared.quiesce, &(struct live_model_options){
		.n_workers = r->n_workers, .backend = MODEL_BACKEND_AUTO, .refuse_not_finite = true,
		.slice_ns = 1}), 0); /* n_jobs 0: nothing is suspended, unless a test says so */
	r->models.released = note_released;
	r->models.released_ctx = r;
	r->shared.models = &r->models;
	r->shared.n_workers = r->n_workers;
	r->shared.licensed_until_ns = UINT64_MAX;
	if (sessions_attach(
		    &r->shared.sessions, r->sessions_fd, &r->shared.aead, r->begin_ns, &err) ||
		limits_view_open(&r->shared.limits, r->limits_fd, true, &err))
		fail_msg("%s", err.text);
	for (uint32_t i = 0; i < r->n_workers; i++)
		worker_new(r, i);
	r->port = r->ports[0];
	r->worker = r->workers[0];
	r->stats = r->all_stats[0];
}

void rig_stop(struct rig *r)
{
	model_table_uninit(&r->models);
	sessions_detach(r->shared.sessions);
	limits_view_close(r->shared.limits);
	aead_uninit(&r->shared.aead);
	handover_uninit(r->shared.handover);
	for (uint32_t i = 0; i < r->n_workers; i++) {
		worker_uninit(r->workers[i]);
		free(r->workers[i]);
		free(r->all_stats[i]);
		free(r->ports[i]);
	}
}

void rig_crash(struct rig *r)
{
	uint64_t now_ns = r->port->now_ns;

	rig_stop(r);
	rig_start(r);
	r->port->now_ns = now_ns;
}

static void limits_start(struct rig *r)
{
	struct error err = {0};
	void *map;

	r->limits_fd =
		fd_region_new("limits", RIG_SLOTS * sizeof(struct limit_slot), false, &map, &err);
	assert_true(r->limits_fd >= 0);
	r->limits = map;
	for (int i = 0; i < RIG_SLOTS; i++) {
		r->limits[i].interval_ticks = (NS_PER_S << LIMITS_TICK_SHIFT) / 1000000;
		r->limits[i].burst_ticks = r->limits[i].interval_ticks * 1000000;
		r->limits[i].refused_interval_ticks = (NS_PER_S << LIMITS_TICK_SHIFT) / 100;
		r->limits[i].model_mask = ~0ull;
		r->limits[i].flags = LIMIT_ACTIVE;
	}
}

int rig_table(struct session_table **table, uint32_t capacity)
{
	size_t bytes = session_table_bytes(capacity, RIG_LANES);
	struct error err = {0};
	void *map;
	int fd = fd_region_new("sessions", bytes, true, &map, &err);

	assert_true(fd >= 0);
	*table = map;
	**table = (struct session_table){.magic = SESSION_MAGIC, .version = SESSION_VERSION,
		.capacity = capacity, .lanes = RIG_LANES, .slots_offset = SESSION_TABLE_BYTES,
		.lanes_offset = SESSION_TABLE_BYTES + capacity * sizeof(struct session_slot),
		.total_bytes = bytes};
	return fd;
}

void rig_init(struct rig *r, uint32_t n_workers)
{
	rig_init_sessions(r, n_workers, RIG_CAPACITY);
}

void rig_init_sessions(struct rig *r, uint32_t n_workers, uint32_t capacity)
{
	memset(r, 0, sizeof(*r));
	r->n_workers = n_workers;
	r->begin_ns = RIG_BEGIN_NS;
	r->sessions_fd = rig_table(&r->table, capacity);
	limits_start(r);
	r->parse = (struct parse_config){.ipv4 = server4, .ipv6 = server6, .udp_port = RIG_PORT,
		.lanes = RIG_LANES};
	memcpy(r->parse.mac, server_mac, 6);
	rig_start(r);
}

void rig_uninit(struct rig *r)
{
	rig_stop(r);
	munmap(r->table, r->table->total_bytes);
	munmap(r->limits, RIG_SLOTS * sizeof(struct limit_slot));
	close(r->sessions_fd);
	close(r->limits_fd);
}

/* ---- control's part ---- */

void rig_table_session(struct session_table *table, uint64_t now_ns, struct rig_client *c,
	uint32_t key_id, uint32_t subscriber, bool v6)
{
	struct session_slot *slots = (void *)((uint8_t *)table + table->slots_offset), *s;
	struct wire_keys k;

	memset(c, 0, sizeof(*c));
	c->key_id = key_id;
	c->slot = key_id & (table->capacity - 1);
	c->source = v6 ? client6 : client4;
	c->server = v6 ? server6 : server4;
	memset(c->secret, (int)key_id, sizeof(c->secret));
	assert_int_equal(wire_keys_derive(&k, c->secret, key_id), 0);
	s = &slots[c->slot];
	assert_int_equal(s->state, SESSION_FREE);
	s->key_id = key_id;
	s->subscriber = subscriber;
	s->source = c->source;
	s->expires_ns = now_ns + 3600 * NS_PER_S;
	s->session_id = key_id * 10ull;
	s->epoch = 0;
	memcpy(s->keys[0].c2s_key, k.c2s_key, 32);
	memcpy(s->keys[0].s2c_key, k.s2c_key, 32);
	memcpy(s->keys[0].c2s_iv, k.c2s_iv, 12);
	memcpy(s->keys[0].s2c_iv, k.s2c_iv, 12);
	s->keys[0].valid = 1;
	assert_int_equal(wire_secret_ratchet(s->secrets[1], c->secret, key_id), 0);
	__atomic_store_n(&s->state, SESSION_LIVE, __ATOMIC_RELEASE);
}

void rig_session(struct rig *r, struct rig_client *c, uint32_t key_id, uint32_t subscriber, bool v6)
{
	struct error err = {0};

	rig_table_session(r->table, r->port->now_ns, c, key_id, subscriber, v6);
	if (sessions_add(r->shared.sessions, c->slot, r->port->now_ns, &err))
		fail_msg("%s", err.text);
}

void rig_ratchet(struct rig *r)
{
	for (uint32_t i = 0; i < r->n_workers; i++)
		ratchet_take(r->shared.sessions, &r->workers[i]->promotions);
	ratchet_turn(r->shared.sessions, r->port->now_ns);
}

/* ---- the client ---- */

static void put16(uint8_t *p, size_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

/* Plain RFC 1071, two bytes at a time: not the code under test. */
static uint32_t sum16(uint32_t sum, const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		sum += i & 1 ? p[i] : (uint32_t)p[i] << 8;
	return sum;
}

static uint16_t fold16(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static uint16_t udp_sum(const uint8_t *ip, const uint8_t *udp, size_t udp_bytes)
{
	bool v6 = ip[0] >> 4 == 6;
	uint32_t sum = sum16(17 + (uint32_t)udp_bytes, v6 ? ip + 8 : ip + 12, v6 ? 32 : 8);

	return fold16(sum16(sum, udp, udp_bytes));
}

static size_t put_headers(const struct rig_client *c, uint8_t *f, size_t payload_bytes)
{
	bool v6 = c->source.bytes[0] != 0;
	uint8_t *ip = f + 14, *udp = ip + (v6 ? 40 : 20);
	size_t udp_bytes = 8 + payload_bytes;
	uint16_t sum;

	memset(f, 0, (size_t)(udp + 8 - f));
	memcpy(f, server_mac, 6);
	memcpy(f + 6, client_mac, 6);
	put16(f + 12, v6 ? 0x86dd : 0x0800);
	if (v6) {
		ip[0] = 0x60;
		put16(ip + 4, udp_bytes);
		ip[6] = 17;
		ip[7] = 64;
		memcpy(ip + 8, c->source.bytes, 16);
		memcpy(ip + 24, c->server.bytes, 16);
	} else {
		ip[0] = 0x45;
		put16(ip + 2, 20 + udp_bytes);
		put16(ip + 6, 0x4000);
		ip[8] = 64;
		ip[9] = 17;
		memcpy(ip + 12, c->source.bytes + 12, 4);
		memcpy(ip + 16, c->server.bytes + 12, 4);
		put16(ip + 10, fold16(sum16(0, ip, 20)));
	}
	put16(udp, RIG_CLIENT_PORT);
	put16(udp + 2, RIG_PORT);
	put16(udp + 4, udp_bytes);
	sum = udp_sum(ip, udp, udp_bytes);
	put16(udp + 6, sum ? sum : 0xffff);
	return (size_t)(udp - f) + udp_bytes;
}

size_t rig_wrap(const struct rig_client *c, uint8_t *frame, const void *payload, size_t n)
{
	uint8_t *wire = frame + 14 + (c->source.bytes[0] ? 40 : 20) + 8;

	memcpy(wire, payload, n);
	return put_headers(c, frame, n);
}

static void evp_check(int ok)
{
	if (ok != 1)
		fail_msg("OpenSSL refused");
}

static void evp_seal(const uint8_t *key, const uint8_t *nonce, const uint8_t *aad, uint8_t *text,
	int n, uint8_t *tag)
{
	EVP_CIPHER_CTX *x = EVP_CIPHER_CTX_new();
	int len;

	evp_check(EVP_EncryptInit_ex(x, EVP_aes_256_gcm(), NULL, key, nonce));
	evp_check(EVP_EncryptUpdate(x, NULL, &len, aad, WIRE_HEADER_BYTES));
	evp_check(EVP_EncryptUpdate(x, text, &len, text, n));
	evp_check(EVP_EncryptFinal_ex(x, text + len, &len));
	evp_check(EVP_CIPHER_CTX_ctrl(x, EVP_CTRL_GCM_GET_TAG, 16, tag));
	EVP_CIPHER_CTX_free(x);
}

static bool evp_open(const uint8_t *key, const uint8_t *nonce, const uint8_t *aad,
	const uint8_t *text, int n, const uint8_t *tag, uint8_t *out)
{
	EVP_CIPHER_CTX *x = EVP_CIPHER_CTX_new();
	uint8_t tag_copy[16];
	int len;
	bool ok;

	memcpy(tag_copy, tag, 16);
	evp_check(EVP_DecryptInit_ex(x, EVP_aes_256_gcm(), NULL, key, nonce));
	evp_check(EVP_DecryptUpdate(x, NULL, &len, aad, WIRE_HEADER_BYTES));
	evp_check(EVP_DecryptUpdate(x, out, &len, text, n));
	evp_check(EVP_CIPHER_CTX_ctrl(x, EVP_CTRL_GCM_SET_TAG, 16, tag_copy));
	ok = EVP_DecryptFinal_ex(x, out + len, &len) == 1;
	EVP_CIPHER_CTX_free(x);
	return ok;
}

/* The keys of epoch `epoch`, from the start of the chain; the last ones are remembered. */
static void keys_of(const struct rig_client *c, uint32_t epoch, struct wire_keys *k)
{
	static struct known { uint32_t key_id, epoch; uint8_t base[32]; bool set; struct wire_keys keys; } all[64];
	struct known *known = &all[(c->key_id * 4 + (epoch & 3)) % 64];
	uint8_t secret[32];

	if (known->set && known->key_id == c->key_id && known->epoch == epoch &&
		memcmp(known->base, c->secret, sizeof(secret)) == 0) {
		*k = known->keys;
		return;
	}
	memcpy(secret, c->secret, sizeof(secret));
	for (uint32_t e = 0; e < epoch; e++)
		assert_int_equal(wire_secret_ratchet(secret, secret, c->key_id), 0);
	assert_int_equal(wire_keys_derive(k, secret, c->key_id), 0);
	*known = (struct known){.key_id = c->key_id, .epoch = epoch, .set = true, .keys = *k};
	memcpy(known->base, c->secret, sizeof(secret));
}

static size_t request_at(struct rig_client *c, uint8_t *frame, const struct wire_request *q,
	const void *rows, size_t row_bytes, uint64_t counter)
{
	bool v6 = c->source.bytes[0] != 0;
	uint8_t *wire = frame + 14 + (v6 ? 40 : 20) + 8, nonce[12];
	struct wire_header h = {WIRE_TYPE_REQUEST, c->epoch & 3, c->lane, c->key_id, counter};
	struct wire_keys k;
	size_t n = sizeof(*q) + row_bytes;

	keys_of(c, c->epoch, &k);
	memcpy(wire, &h, sizeof(h));
	memcpy(wire + 16, q, sizeof(*q));
	memcpy(wire + 16 + sizeof(*q), rows, row_bytes);
	memcpy(nonce, k.c2s_iv, 12);
	nonce[0] ^= (uint8_t)h.lane; /* written out by hand, from the drawing in wire.h */
	for (int i = 0; i < 8; i++)
		nonce[4 + i] ^= (uint8_t)(counter >> (8 * i));
	evp_seal(k.c2s_key, nonce, wire, wire + 16, (int)n, wire + 16 + n);
	return put_headers(c, frame, 16 + n + 16);
}

size_t rig_request(struct rig_client *c, uint8_t *frame, const struct wire_request *q,
	const void *rows, size_t row_bytes)
{
	return request_at(c, frame, q, rows, row_bytes, c->counter++);
}

static struct wire_request usual(const struct rig_client *c, const char *name, uint16_t n)
{
	return (struct wire_request){.request_id = 7000 + c->counter,
		.model_id = wire_model_id(name),
		.dtype = WIRE_F32,
		.segment_count = 1,
		.rows = n};
}

size_t rig_rows(
	struct rig_client *c, uint8_t *frame, const char *name, const float *rows, uint16_t n)
{
	struct wire_request q = usual(c, name, n);

	return rig_request(c, frame, &q, rows, n * RIG_IN * sizeof(float));
}

size_t rig_rows_at(struct rig_client *c, uint8_t *frame, const char *name, const float *rows,
	uint16_t n, uint64_t counter)
{
	struct wire_request q = usual(c, name, n);

	return request_at(c, frame, &q, rows, n * RIG_IN * sizeof(float), counter);
}

size_t rig_exchange(struct rig *r, const uint8_t *frame, size_t n, uint8_t *answer)
{
	assert_true(port_mem_put(r->port, frame, n));
	worker_poll(r->worker);
	return port_mem_get(r->port, answer);
}

static void check_headers(const struct rig_client *c, const uint8_t *f, size_t n, const uint8_t *ip,
	const uint8_t *udp)
{
	bool v6 = c->source.bytes[0] != 0;
	size_t udp_bytes = n - (size_t)(udp - f);

	assert_memory_equal(f, client_mac, 6);
	assert_memory_equal(f + 6, server_mac, 6);
	if (v6) {
		assert_memory_equal(ip + 8, c->server.bytes, 16);
		assert_memory_equal(ip + 24, c->source.bytes, 16);
		assert_int_equal(ip[4] << 8 | ip[5], udp_bytes);
	} else {
		assert_memory_equal(ip + 12, c->server.bytes + 12, 4);
		assert_memory_equal(ip + 16, c->source.bytes + 12, 4);
		assert_int_equal(ip[2] << 8 | ip[3], 20 + udp_bytes);
		assert_int_equal(ip[6] << 8 | ip[7], 0x4000);
		assert_int_equal(fold16(sum16(0, ip, 20)), 0);
	}
	assert_int_equal(udp[0] << 8 | udp[1], RIG_PORT);
	assert_int_equal(udp[2] << 8 | udp[3], RIG_CLIENT_PORT);
	assert_int_equal(udp[4] << 8 | udp[5], udp_bytes);
	assert_int_not_equal(udp[6] << 8 | udp[7], 0);
	assert_int_equal(udp_sum(ip, udp, udp_bytes), 0);
}

bool rig_open(struct rig_client *c, const uint8_t *frame, size_t n, struct rig_reply *out)
{
	bool v6 = c->source.bytes[0] != 0;
	const uint8_t *ip = frame + 14, *udp = ip + (v6 ? 40 : 20), *wire = udp + 8;
	size_t text = n - (size_t)(wire - frame) - 32;
	uint8_t nonce[12], plain[1300];
	struct wire_keys k;

	check_headers(c, frame, n, ip, udp);
	memcpy(&out->head, wire, 16);
	keys_of(c, c->epoch - ((c->epoch - out->head.flags) & 3), &k);
	assert_int_equal(out->head.type, WIRE_TYPE_REPLY);
	assert_int_equal(out->head.key_id, c->key_id);
	assert_int_equal(out->head.lane, c->lane);
	memcpy(nonce, k.s2c_iv, 12);
	nonce[0] ^= (uint8_t)out->head.lane;
	for (int i = 0; i < 8; i++)
		nonce[4 + i] ^= (uint8_t)(out->head.counter >> (8 * i));
	if (!evp_open(k.s2c_key, nonce, wire, wire + 16, (int)text, wire + 16 + text, plain))
		return false;
	assert_true(out->head.counter >= c->replies); /* no reply nonce twice */
	c->replies = out->head.counter + 1;
	memcpy(&out->reply, plain, sizeof(out->reply));
	out->row_bytes = (uint32_t)(text - sizeof(out->reply));
	memcpy(out->rows, plain + sizeof(out->reply), out->row_bytes);
	return true;
}

/* ---- the books ---- */

uint64_t rig_count(const struct rig *r, enum stats_counter c)
{
	return r->stats->counters[c];
}

void rig_balance(struct rig *r)
{
	uint64_t drops = 0, replies = 0;

	for (int i = STATS_DROP_L2; i <= STATS_DROP_HANDOVER; i++)
		if (i != STATS_DROP_REPLY_TX)
			drops += rig_count(r, (enum stats_counter)i);
	for (int i = STATS_REPLY_RESULT; i <= STATS_REPLY_INTERNAL; i++)
		replies += rig_count(r, (enum stats_counter)i);
	assert_int_equal(rig_count(r, STATS_RX) + rig_count(r, STATS_GATEWAY) +
			rig_count(r, STATS_TAKEN_OVER),
		rig_count(r, STATS_COMPLETED) + rig_count(r, STATS_HELD) +
		rig_count(r, STATS_NEIGHBOUR) + rig_count(r, STATS_HANDED_OVER) + r->stats->waiting + drops);
	assert_int_equal(
		rig_count(r, STATS_COMPLETED), replies + rig_count(r, STATS_DROP_REPLY_TX));
	assert_int_equal(port_mem_unused(r->port) + r->port->n_sent + r->port->n_waiting,
		PORT_MEM_FRAMES);
	assert_int_equal(r->worker->wide.n_unused + r->worker->segments.open.n, RIG_WIDE_BUFFERS);
}

/* ---- for cmocka ---- */

int rig_set_up(void **state)
{
	struct rig *r = malloc(sizeof(*r));

	rig_init(r, 1);
	rig_model(r, 0, 1, rig_artifact("alpha", 1, 1.0f, 1, 64));
	*state = r;
	return 0;
}

int rig_tear_down(void **state)
{
	struct rig *r = *state;

	rig_balance(r);
	rig_uninit(r);
	free(r);
	return 0;
}
