/* SPDX-License-Identifier: BSD-3-Clause
 * Sealing and opening the datagrams of one session lane: see channel.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

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

int channel_init(struct channel *ch, const struct aead *aead, const uint8_t secret[WIRE_KEY_BYTES],
	uint32_t key_id, uint16_t lane, enum channel_role role)
{
	bool client = role == CHANNEL_CLIENT;
	struct wire_keys keys;
	uint8_t *both;
	int rc;

	memset(ch, 0, sizeof(*ch));
	rc = wire_keys_derive(&keys, secret, key_id);
	both = rc ? NULL : aligned_alloc(AEAD_KEY_ALIGN, 2 * aead_key_bytes(aead));
	if (!both) {
		explicit_bzero(&keys, sizeof(keys));
		return rc ? rc : -ENOMEM;
	}
	ch->aead = aead;
	ch->key_id = key_id;
	ch->lane = lane;
	ch->seal_type = client ? WIRE_TYPE_REQUEST : WIRE_TYPE_REPLY;
	ch->open_type = client ? WIRE_TYPE_REPLY : WIRE_TYPE_REQUEST;
	ch->seal_key = (struct aead_key *)both;
	ch->open_key = (struct aead_key *)(both + aead_key_bytes(aead));
	aead_expand(aead, client ? ch->seal_key : ch->open_key, keys.c2s_key, keys.c2s_iv);
	aead_expand(aead, client ? ch->open_key : ch->seal_key, keys.s2c_key, keys.s2c_iv);
	explicit_bzero(&keys, sizeof(keys));
	return 0;
}

void channel_uninit(struct channel *ch)
{
	if (ch->seal_key)
		explicit_bzero(ch->seal_key, 2 * aead_key_bytes(ch->aead));
	free(ch->seal_key);
	explicit_bzero(ch, sizeof(*ch));
}

static int seal(struct channel *ch, const void *inner, const void *rows, size_t row_bytes,
	uint8_t *out, size_t cap)
{
	size_t sealed = INNER_BYTES + row_bytes, n = WIRE_HEADER_BYTES + sealed + WIRE_TAG_BYTES;
	uint8_t *body = out + WIRE_HEADER_BYTES;
	struct wire_header header = {.type = ch->seal_type, .lane = ch->lane, .key_id = ch->key_id};

	if (row_bytes > WIRE_SEGMENT_ROW_BYTES || n > cap)
		return -EMSGSIZE;
	header.counter = ch->next_counter++;
	memcpy(body, inner, INNER_BYTES);
	if (row_bytes && rows != body + INNER_BYTES)
		memcpy(body + INNER_BYTES, rows, row_bytes);
	aead_seal(ch->aead, ch->seal_key, header, out, body, sealed);
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

/* Cheapest check first; the window is read before the AEAD and updated only after it. */
static enum channel_verdict open_datagram(struct channel *ch, uint8_t *datagram, size_t n,
	void *inner, const uint8_t **rows, size_t *row_bytes)
{
	uint8_t *body = datagram + WIRE_HEADER_BYTES;
	struct wire_header header;
	size_t sealed;

	if (n < WIRE_MIN_PAYLOAD_BYTES || n > WIRE_MAX_PAYLOAD_BYTES)
		return CHANNEL_LENGTH;
	memcpy(&header, datagram, sizeof(header));
	if (header.type != ch->open_type || header.flags != 0 || header.lane != ch->lane)
		return CHANNEL_HEADER;
	if (header.key_id != ch->key_id)
		return CHANNEL_KEY_ID;
	if (!window_fresh(&ch->received, header.counter))
		return CHANNEL_REPLAY;
	sealed = n - WIRE_HEADER_BYTES - WIRE_TAG_BYTES;
	if (!aead_open(ch->aead, ch->open_key, header, datagram, sealed))
		return CHANNEL_TAG;
	if (!window_accept(&ch->received, header.counter))
		return CHANNEL_REPLAY;
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
		(inner.rows == 0 && bytes != 0) || (inner.rows && bytes % inner.rows != 0))
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
