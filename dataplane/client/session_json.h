/* SPDX-License-Identifier: BSD-3-Clause
 * The JSON session that control answers to POST /v1/sessions (control/API.md), checked field by
 * field. Pure: bytes in, struct out.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "abi/wire.h"
#include "base/error.h"
#include "client/millrace.h"

enum {
	SESSION_JSON_MAX_MODELS = 64,
	SESSION_JSON_ID_BYTES = 17, /* 16 hex digits and a zero */
	SESSION_JSON_ADDRESS_BYTES = 46,
};

struct session_info {
	char session_id[SESSION_JSON_ID_BYTES];
	uint32_t key_id;
	uint8_t secret[WIRE_KEY_BYTES]; /* wipe after use */
	uint32_t lanes;
	char address[SESSION_JSON_ADDRESS_BYTES];  /* IPv4 data address, "" = none */
	char address6[SESSION_JSON_ADDRESS_BYTES]; /* IPv6, "" = none; one of the two is there */
	uint16_t port;
	char source[SESSION_JSON_ADDRESS_BYTES]; /* the address our datagrams must come from */
	bool provisional; /* the server waits for a proof that we receive at `source` (abi/wire.h) */
	uint32_t expires_in_s;
	char plan[64];
	double rate; /* limiter units a second */
	double burst;
	uint32_t n_models;
	struct mr_model models[SESSION_JSON_MAX_MODELS];
};

/* Parse text[0..n). 0, -EPROTO with err naming the field that is missing, of the wrong type or out of
 * range, -ENOMEM. On failure *out is wiped. */
int session_json_parse(struct session_info *out, const char *text, size_t n, struct error *err);

/* Parse the answer to a renewal: its session_id must be `session_id`. 0 with *expires_in_s, -EPROTO. */
int session_json_renewed(const char *session_id, uint32_t *expires_in_s, const char *text, size_t n,
	struct error *err);

/* The server's reason from an error answer ({"error": {"message"}} or {"error": "text"}), or a
 * general sentence when there is none. Control characters are replaced. out[0..cap) is terminated. */
void session_json_reason(char *out, size_t cap, int status, const char *text, size_t n);
