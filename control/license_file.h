/* SPDX-License-Identifier: BSD-3-Clause
 * The licence file, shared by the appliance and the vendor's tool: what it says, how it is signed and
 * how it is refused. Pure functions over buffers; no state.
 *
 *   {"payload": "<base64>", "signature": "<base64, 64 bytes>", "key": "<fingerprint, 64 hex>"}
 *
 * The signature is Ed25519 (RFC 8032) over the exact payload bytes, so nothing has to be written in a
 * canonical form. The payload is a JSON object:
 *
 *   {"id", "customer", "edition", "not_before", "not_after", "subscribers", "models", "total_rate"}
 *
 * with times as "2026-11-23T00:00:00Z". The fingerprint is the SHA-256 of the raw public key.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum {
	LICENSE_FILE_MAX_BYTES = 16384,
	LICENSE_FILE_MAX_KEYS = 16,
	LICENSE_KEY_BYTES = 32,
	LICENSE_SIGNATURE_BYTES = 64,
	LICENSE_MAX_SUBSCRIBERS = 1000000,
	LICENSE_MAX_MODELS = 64, /* DP_MAX_MODELS */
};

struct license_doc {
	char id[40], customer[64], edition[32];
	int64_t not_before_wall_s, not_after_wall_s; /* valid in [not_before, not_after) */
	uint32_t subscribers, models;
	double total_rate; /* units/s over all subscribers, 0 = unlimited */
};

struct license_key {
	uint8_t bytes[LICENSE_KEY_BYTES];
	char fingerprint[65];
};

/* Read an Ed25519 PEM public key. 0 or -errno with err. */
int license_key_read(struct license_key *out, const char *path, struct error *err);
void license_key_set(struct license_key *out, const uint8_t raw[LICENSE_KEY_BYTES]);

/* Parse and verify text[0..n) against any of `keys`. 0; -EBADMSG malformed; -EKEYREJECTED signature
 * does not match; -ENOKEY signed by a key that is not among them. *signer (may be NULL) gets the
 * index. Validity in time is the caller's business. */
int license_file_verify(struct license_doc *out, const char *text, size_t n,
	const struct license_key *keys, size_t n_keys, size_t *signer, struct error *err);
/* What the file claims, signature unchecked (the tool's `inspect` without a key). */
int license_file_claims(struct license_doc *out, char fingerprint[65], const char *text, size_t n,
	struct error *err);

/* Make a licence file signed with the PEM private key at `key_path`; *text is malloc'ed. The document
 * is checked by the same rules as when it is read. 0 or -errno with err. */
int license_file_issue(char **text, const struct license_doc *doc, const char *key_path,
	struct error *err);

/* "2026-11-23T00:00:00Z" <-> seconds. parse: 0 or -EINVAL; strict. */
int license_time_parse(const char *text, int64_t *out);
void license_time_format(int64_t t, char out[24]);
