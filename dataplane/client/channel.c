/* SPDX-License-Identifier: BSD-3-Clause
 * Sealing and opening the datagrams of one session lane: see channel.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/hkdf.h"
#include "client/channel.h"

enum { INNER_BYTES = WIRE_REQUEST_BYTES };

STATIC_ASSERT(WIRE_REQUEST_BYTES == WIRE_REPLY_BYTES, "one inner header size for both directions");

const char *channel_verdict_name(enum channel_verdict verdict)
{
	static const char *const names[CHANNEL_VERDICTS] = {"ok", "length", "header", "key_id",
		"replay", "tag", "content"};

	return verdict < CHANNEL_VERDICTS ? names[verdict] : "?";
}

static int expand_epoch(struct channel *ch, uint32_t epoch, const uint8_t secret[WIRE_KEY_BYTES])
{
	struct channel_keys *k = &ch->keys[epoch & 1];
	bool client = ch->role == CHANNEL_CLIENT;
	struct wire_keys keys;
	int rc = wire_keys_derive(&keys, secret, ch->key_id);

	if (!rc)
		rc = wire_secret_ratchet(ch->next_secret, secret, ch->key_id);
	k->valid = !rc;
	if (!rc) {
		aead_expand(ch->aead, client ? k->seal : k->open, keys.c2s_key, keys.c2s_iv);
		aead_expand(ch->aead, client ? k->open : k->seal, keys.s2c_key, keys.s2c_iv);
	}
	explicit_bzero(&keys, sizeof(keys));
	return rc;
}

int channel_init(struct channel *ch, const struct aead *aead, const uint8_t secret[WIRE_KEY_BYTES],
	uint32_t key_id, uint16_t lane, enum channel_role role)
{
	bool client = role == CHANNEL_CLIENT;
	size_t bytes = aead_key_bytes(aead);
	int rc;

	*ch = (struct channel){.aead = aead, .key_id = key_id, .lane = lane, .role = role,
		.seal_type = client ? WIRE_TYPE_REQUEST : WIRE_TYPE_REPLY,
		.open_type = client ? WIRE_TYPE_REPLY : WIRE_TYPE_REQUEST,
		.limit = WIRE_EPOCH_FIRST, .epoch_datagrams = WIRE_EPOCH_DATAGRAMS};
	ch->memory = aligned_alloc(AEAD_KEY_ALIGN, 4 * bytes);
	if (!ch->memory)
		return -ENOMEM;
	for (uint32_t e = 0; e < 2; e++)
		ch->keys[e] = (struct channel_keys){
			.seal = (struct aead_key *)(ch->memory + 2 * e * bytes),
			.open = (struct aead_key *)(ch->memory + (2 * e + 1) * bytes)};
	rc = expand_epoch(ch, 0, secret);
	if (rc)
		channel_uninit(ch);
	return rc;
}

void channel_uninit(struct channel *ch)
{
	if (ch->memory)
		explicit_bzero(ch->memory, 4 * aead_key_bytes(ch->aead));
	free(ch->memory);
	explicit_bzero(ch, sizeof(*ch));
}

/* ---- ratchet ---- */

void channel_clock(struct channel *ch, uint64_t now_ns)
{
	if (!ch->epoch_began_ns)
		ch->epoch_began_ns = now_ns;
	ch->now_ns = now_ns;
}

/* To the next epoch. A failure of libcrypto leaves everything as it was; the next datagram tries again. */
static void step(struct channel *ch)
{
	uint8_t secret[WIRE_KEY_BYTES];

	memcpy(secret, ch->next_secret, sizeof(secret));
	if (!expand_epoch(ch, ch->epoch + 1, secret)) {
		ch->epoch++;
		ch->sealed = 0;
		ch->answered = false;
		ch->limit = ch->epoch_datagrams;
		ch->epoch_began_ns = ch->now_ns;
	}
	explicit_bzero(secret, sizeof(secret));
}

/* abi/wire.h says when. A count reached too early waits for the seconds, if there is a clock. */
static bool due(const struct channel *ch)
{
	uint64_t age_ns = ch->now_ns - ch->epoch_began_ns;

	if (ch->epoch && !ch->answered)
		return false;
	if (ch->epoch && ch->now_ns && ch->now_ns - ch->answered_ns < WIRE_EPOCH_MIN_S * NS_PER_S)
		return false;
	return ch->sealed >= ch->limit || age_ns >= WIRE_EPOCH_S * NS_PER_S;
}

/* The key for a datagram of `flags`, or NULL. *next: of the epoch after, which the server's end tries. */
static const struct aead_key *opening_key(struct channel *ch, uint32_t flags, bool *next)
{
	uint32_t ahead = (flags - ch->epoch) & WIRE_FLAG_EPOCH_MASK;

	*next = ahead == 1 && ch->role == CHANNEL_SERVER;
	if (flags & ~(uint32_t)WIRE_FLAG_EPOCH_MASK)
		return NULL;
	if (ahead == 0 || (ahead == 3 && ch->keys[flags & 1].valid))
		return ch->keys[flags & 1].open;
	return NULL;
}

/* ---- datagrams ---- */

static int seal(struct channel *ch, const void *inner, const void *rows, size_t row_bytes,
	uint8_t *out, size_t cap)
{
	size_t sealed = INNER_BYTES + row_bytes, n = WIRE_HEADER_BYTES + sealed + WIRE_TAG_BYTES;
	uint8_t *body = out + WIRE_HEADER_BYTES;
	struct wire_header header = {.type = ch->seal_type, .lane = ch->lane, .key_id = ch->key_id};

	if (row_bytes > WIRE_SEGMENT_ROW_BYTES || n > cap)
		return -EMSGSIZE;
	if (ch->role == CHANNEL_CLIENT && due(ch))
		step(ch);
	ch->sealed++;
	header.flags = ch->epoch & WIRE_FLAG_EPOCH_MASK;
	header.counter = ch->next_counter++;
	memcpy(body, inner, INNER_BYTES);
	if (row_bytes && rows != body + INNER_BYTES)
		memcpy(body + INNER_BYTES, rows, row_bytes);
	aead_seal(ch->aead, ch->keys[ch->epoch & 1].seal, header, out, body, sealed);
	return (int)n;
}

int channel_seal_request(struct channel *ch, const struct wire_request *request, const void *rows,
	size_t row_bytes, uint8_t *out, size_t cap)
{
	return seal(ch, request, rows, row_bytes, out, cap);
}

int channel_seal_reply(struct channel *ch, const struct wire_reply *reply, const void *rows,
	size_t row_bytes, uint8_t *out, size_t cap)
{
	return seal(ch, reply, rows, row_bytes, out, cap);
}

/* The server's end: the client has stepped. What does not open leaves a copy of nothing behind: the keys
 * of the epoch before are given up only when the datagram was genuine. */
static bool open_next(struct channel *ch, struct wire_header header, uint8_t *datagram, size_t sealed)
{
	struct channel next;
	bool ok = !channel_init(&next, ch->aead, ch->next_secret, ch->key_id, ch->lane, ch->role) &&
		  aead_open(ch->aead, next.keys[0].open, header, datagram, sealed);

	if (ok)
		step(ch);
	channel_uninit(&next);
	return ok;
}

/* Cheapest check first; the window is read before the AEAD and updated only after it. */
static enum channel_verdict open_datagram(struct channel *ch, uint8_t *datagram, size_t n,
	void *inner, const uint8_t **rows, size_t *row_bytes)
{
	uint8_t *body = datagram + WIRE_HEADER_BYTES;
	const struct aead_key *key;
	struct wire_header header;
	size_t sealed;
	bool next;

	if (n < WIRE_MIN_PAYLOAD_BYTES || n > WIRE_MAX_PAYLOAD_BYTES)
		return CHANNEL_LENGTH;
	memcpy(&header, datagram, sizeof(header));
	key = opening_key(ch, header.flags, &next);
	if (header.type != ch->open_type || header.lane != ch->lane || (!key && !next))
		return CHANNEL_HEADER;
	if (header.key_id != ch->key_id)
		return CHANNEL_KEY_ID;
	if (!window_fresh(&ch->received, header.counter))
		return CHANNEL_REPLAY;
	sealed = n - WIRE_HEADER_BYTES - WIRE_TAG_BYTES;
	if (next ? !open_next(ch, header, datagram, sealed)
		 : !aead_open(ch->aead, key, header, datagram, sealed))
		return CHANNEL_TAG;
	if (!window_accept(&ch->received, header.counter))
		return CHANNEL_REPLAY;
	if (!ch->answered && header.flags == (ch->epoch & WIRE_FLAG_EPOCH_MASK)) {
		ch->answered = true;
		ch->answered_ns = ch->now_ns;
	}
	memcpy(inner, body, INNER_BYTES);
	*rows = body + INNER_BYTES;
	*row_bytes = sealed - INNER_BYTES;
	return CHANNEL_OK;
}

enum channel_verdict channel_open_reply(struct channel *ch, uint8_t *datagram, size_t n,
	struct wire_reply *reply, const uint8_t **rows, size_t *row_bytes)
{
	struct wire_reply inner;
	const uint8_t *body;
	size_t bytes;
	enum channel_verdict v = open_datagram(ch, datagram, n, &inner, &body, &bytes);

	if (v != CHANNEL_OK)
		return v;
	/* Only a result carries rows; whether their size fits the model is the caller's to check. */
	if (inner.status >= WIRE_STATUS_END || (inner.status == WIRE_RESULT) != (inner.rows != 0) ||
		(inner.rows == 0 && bytes != 0) || inner.segment_index >= inner.segment_count ||
		inner.segment_count > (inner.rows ? WIRE_MAX_SEGMENTS : 1) ||
		(inner.rows && inner.segment_count == 1 && bytes % inner.rows != 0))
		return CHANNEL_CONTENT;
	*reply = inner;
	*rows = body;
	*row_bytes = bytes;
	return CHANNEL_OK;
}

enum channel_verdict channel_open_request(struct channel *ch, uint8_t *datagram, size_t n,
	struct wire_request *request, const uint8_t **rows, size_t *row_bytes)
{
	return open_datagram(ch, datagram, n, request, rows, row_bytes);
}
