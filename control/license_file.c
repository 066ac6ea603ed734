/* SPDX-License-Identifier: BSD-3-Clause
 * Licence file format and its Ed25519 signature: see license_file.h.
 */
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <jansson.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/sha.h>

#include "control/license_file.h"

int license_time_parse(const char *text, int64_t *out)
{
	struct tm tm = {0};
	const char *end = strptime(text, "%Y-%m-%dT%H:%M:%SZ", &tm);
	char again[24];
	time_t t;

	if (!end || *end || tm.tm_year < 100 || tm.tm_year > 300)
		return -EINVAL;
	t = timegm(&tm);
	license_time_format(t, again);
	if (strcmp(again, text)) /* 31 February and the like */
		return -EINVAL;
	*out = t;
	return 0;
}

void license_time_format(int64_t t, char out[24])
{
	time_t tt = (time_t)t;
	struct tm tm;

	if (!gmtime_r(&tt, &tm) || !strftime(out, 24, "%Y-%m-%dT%H:%M:%SZ", &tm))
		snprintf(out, 24, "?");
}

void license_key_set(struct license_key *out, const uint8_t raw[LICENSE_KEY_BYTES])
{
	uint8_t digest[SHA256_DIGEST_LENGTH];

	memcpy(out->bytes, raw, LICENSE_KEY_BYTES);
	SHA256(raw, LICENSE_KEY_BYTES, digest);
	for (size_t i = 0; i < sizeof(digest); i++)
		snprintf(out->fingerprint + 2 * i, 3, "%02x", digest[i]);
}

/* A PEM key from a file; private when the file holds a private key and `want_private`. */
static EVP_PKEY *read_pem(const char *path, int want_private, struct error *err)
{
	EVP_PKEY *key;
	FILE *f = fopen(path, "re");

	if (!f) {
		error_set(err, -errno, "%s: %s", path, strerror(errno));
		return NULL;
	}
	/* the empty password keeps OpenSSL from asking on the terminal */
	key = want_private ? PEM_read_PrivateKey(f, NULL, NULL, "") : PEM_read_PUBKEY(f, NULL, NULL, "");
	fclose(f);
	if (key && EVP_PKEY_base_id(key) == EVP_PKEY_ED25519)
		return key;
	EVP_PKEY_free(key);
	error_set(err, -EINVAL, "%s: not an Ed25519 %s key in PEM", path,
		want_private ? "private" : "public");
	return NULL;
}

static int key_from_pkey(struct license_key *out, EVP_PKEY *pkey)
{
	uint8_t raw[LICENSE_KEY_BYTES];
	size_t n = sizeof(raw);

	if (EVP_PKEY_get_raw_public_key(pkey, raw, &n) != 1 || n != sizeof(raw))
		return -EINVAL;
	license_key_set(out, raw);
	return 0;
}

int license_key_read(struct license_key *out, const char *path, struct error *err)
{
	EVP_PKEY *pkey = read_pem(path, 0, err);
	int rc;

	if (!pkey)
		return err ? err->code : -EINVAL;
	rc = key_from_pkey(out, pkey);
	EVP_PKEY_free(pkey);
	return rc ? error_set(err, rc, "%s: unusable key", path) : 0;
}

/* -- base64 ---------------------------------------------------------------------------------- */

/* Decode strictly into `out` (cap bytes). Bytes written, or -EBADMSG. */
static ssize_t base64_decode(uint8_t *out, size_t cap, const char *text)
{
	uint8_t again[LICENSE_FILE_MAX_BYTES / 3 * 4 + 8];
	size_t n = strlen(text), pad = 0;
	int r;

	if (n == 0 || n % 4 || n / 4 * 3 > cap)
		return -EBADMSG;
	if (strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=") != n)
		return -EBADMSG;
	pad = (text[n - 1] == '=') + (text[n - 2] == '=');
	r = EVP_DecodeBlock(out, (const unsigned char *)text, (int)n);
	if (r < (int)pad)
		return -EBADMSG;
	/* bits that carry nothing must be zero: one text for one value */
	EVP_EncodeBlock(again, out, r - (int)pad);
	return strcmp((const char *)again, text) ? -EBADMSG : (ssize_t)r - (ssize_t)pad;
}

/* -- payload --------------------------------------------------------------------------------- */

static int take_text(const json_t *o, const char *name, char *out, size_t cap, struct error *err)
{
	const char *s = json_string_value(json_object_get(o, name));
	size_t n = s ? strlen(s) : 0;

	if (!s || n == 0 || n >= cap)
		return error_set(err, -EBADMSG, "licence: \"%s\" must be a text of 1 to %zu bytes", name,
			cap - 1);
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f)
			return error_set(err, -EBADMSG, "licence: \"%s\" holds a control character", name);
	memcpy(out, s, n + 1);
	return 0;
}

static int take_time(const json_t *o, const char *name, int64_t *out, struct error *err)
{
	const char *s = json_string_value(json_object_get(o, name));

	if (!s || license_time_parse(s, out))
		return error_set(err, -EBADMSG,
			"licence: \"%s\" must be a time like 2026-11-23T00:00:00Z", name);
	return 0;
}

static int take_count(const json_t *o, const char *name, uint32_t max, uint32_t *out,
	struct error *err)
{
	const json_t *v = json_object_get(o, name);
	json_int_t i = json_integer_value(v);

	if (!json_is_integer(v) || i < 1 || i > (json_int_t)max)
		return error_set(err, -EBADMSG, "licence: \"%s\" must be a whole number from 1 to %u", name,
			max);
	*out = (uint32_t)i;
	return 0;
}

static int take_rate(const json_t *o, double *out, struct error *err)
{
	const json_t *v = json_object_get(o, "total_rate");
	double rate = json_number_value(v);

	if (!json_is_number(v) || !isfinite(rate) || rate < 0 || rate > 1e12)
		return error_set(err, -EBADMSG, "licence: \"total_rate\" must be from 0 (unlimited) to 1e12");
	*out = rate;
	return 0;
}

static int take_payload(struct license_doc *out, const json_t *o, struct error *err)
{
	int rc;

	memset(out, 0, sizeof(*out));
	if ((rc = take_text(o, "id", out->id, sizeof(out->id), err)) ||
		(rc = take_text(o, "customer", out->customer, sizeof(out->customer), err)) ||
		(rc = take_text(o, "edition", out->edition, sizeof(out->edition), err)) ||
		(rc = take_time(o, "not_before", &out->not_before_wall_s, err)) ||
		(rc = take_time(o, "not_after", &out->not_after_wall_s, err)) ||
		(rc = take_count(o, "subscribers", LICENSE_MAX_SUBSCRIBERS, &out->subscribers, err)) ||
		(rc = take_count(o, "models", LICENSE_MAX_MODELS, &out->models, err)) ||
		(rc = take_rate(o, &out->total_rate, err)))
		return rc;
	if (out->not_after_wall_s <= out->not_before_wall_s)
		return error_set(err, -EBADMSG, "licence: \"not_after\" is not later than \"not_before\"");
	return 0;
}

static int parse_payload(struct license_doc *out, const uint8_t *data, size_t n, struct error *err)
{
	json_error_t je;
	json_t *o = json_loadb((const char *)data, n, JSON_REJECT_DUPLICATES, &je);
	int rc;

	if (!json_is_object(o)) {
		json_decref(o);
		return error_set(err, -EBADMSG, "licence: the payload is not a JSON object");
	}
	rc = take_payload(out, o, err);
	json_decref(o);
	return rc;
}

/* -- envelope -------------------------------------------------------------------------------- */

struct envelope {
	uint8_t payload[LICENSE_FILE_MAX_BYTES];
	size_t payload_bytes;
	uint8_t signature[LICENSE_SIGNATURE_BYTES + 2]; /* base64 decodes whole triples */
	char fingerprint[65];
};

static int take_envelope(struct envelope *e, const json_t *o, struct error *err)
{
	const char *payload = json_string_value(json_object_get(o, "payload"));
	const char *sig = json_string_value(json_object_get(o, "signature"));
	const char *key = json_string_value(json_object_get(o, "key"));
	ssize_t n;

	if (!payload || !sig || !key || json_object_size(o) != 3)
		return error_set(err, -EBADMSG,
			"licence: want exactly \"payload\", \"signature\" and \"key\", all texts");
	n = base64_decode(e->payload, sizeof(e->payload), payload);
	if (n <= 0)
		return error_set(err, -EBADMSG, "licence: \"payload\" is not base64");
	e->payload_bytes = (size_t)n;
	if (base64_decode(e->signature, sizeof(e->signature), sig) != LICENSE_SIGNATURE_BYTES)
		return error_set(err, -EBADMSG, "licence: \"signature\" is not 64 bytes of base64");
	if (strlen(key) != 64 || strspn(key, "0123456789abcdef") != 64)
		return error_set(err, -EBADMSG, "licence: \"key\" is not a fingerprint of 64 hex digits");
	memcpy(e->fingerprint, key, 65);
	return 0;
}

static int parse_envelope(struct envelope *e, const char *text, size_t n, struct error *err)
{
	json_error_t je;
	json_t *o;
	int rc;

	if (n > LICENSE_FILE_MAX_BYTES)
		return error_set(err, -EBADMSG, "licence: longer than %d bytes", LICENSE_FILE_MAX_BYTES);
	o = json_loadb(text, n, JSON_REJECT_DUPLICATES, &je);
	if (!json_is_object(o)) {
		json_decref(o);
		return error_set(err, -EBADMSG, "licence: not a JSON object (line %d)", je.line);
	}
	rc = take_envelope(e, o, err);
	json_decref(o);
	return rc;
}

/* Ed25519 (RFC 8032): one-shot verification over the payload bytes as they came. */
static bool signature_matches(const struct envelope *e, const struct license_key *key)
{
	EVP_PKEY *pkey =
		EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, key->bytes, sizeof(key->bytes));
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	bool ok = pkey && md && EVP_DigestVerifyInit(md, NULL, NULL, NULL, pkey) == 1 &&
		  EVP_DigestVerify(md, e->signature, LICENSE_SIGNATURE_BYTES, e->payload,
			  e->payload_bytes) == 1;

	EVP_MD_CTX_free(md);
	EVP_PKEY_free(pkey);
	return ok;
}

int license_file_verify(struct license_doc *out, const char *text, size_t n,
	const struct license_key *keys, size_t n_keys, size_t *signer, struct error *err)
{
	struct envelope e;
	size_t i = 0;
	int rc = parse_envelope(&e, text, n, err);

	if (rc)
		return rc;
	while (i < n_keys && strcmp(keys[i].fingerprint, e.fingerprint))
		i++;
	if (i == n_keys)
		return error_set(err, -ENOKEY,
			"licence: signed by key %.16s…, which is not among the %zu configured vendor keys",
			e.fingerprint, n_keys);
	if (!signature_matches(&e, &keys[i]))
		return error_set(err, -EKEYREJECTED,
			"licence: the signature does not match (altered, or damaged in transfer)");
	if (signer)
		*signer = i;
	return parse_payload(out, e.payload, e.payload_bytes, err);
}

int license_file_claims(struct license_doc *out, char fingerprint[65], const char *text, size_t n,
	struct error *err)
{
	struct envelope e;
	int rc = parse_envelope(&e, text, n, err);

	if (rc)
		return rc;
	memcpy(fingerprint, e.fingerprint, 65);
	return parse_payload(out, e.payload, e.payload_bytes, err);
}

/* -- issue ----------------------------------------------------------------------------------- */

static char *payload_text(const struct license_doc *d)
{
	char from[24], until[24], *text;
	json_t *o;

	license_time_format(d->not_before_wall_s, from);
	license_time_format(d->not_after_wall_s, until);
	o = json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:f}", "id", d->id, "customer", d->customer,
		"edition", d->edition, "not_before", from, "not_after", until, "subscribers",
		(json_int_t)d->subscribers, "models", (json_int_t)d->models, "total_rate", d->total_rate);
	text = o ? json_dumps(o, JSON_COMPACT) : NULL;
	json_decref(o);
	return text;
}

static int sign_payload(uint8_t sig[LICENSE_SIGNATURE_BYTES], EVP_PKEY *pkey, const char *payload)
{
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	size_t n = LICENSE_SIGNATURE_BYTES;
	bool ok = md && EVP_DigestSignInit(md, NULL, NULL, NULL, pkey) == 1 &&
		  EVP_DigestSign(md, sig, &n, (const uint8_t *)payload, strlen(payload)) == 1;

	EVP_MD_CTX_free(md);
	return ok && n == LICENSE_SIGNATURE_BYTES ? 0 : -EIO;
}

static char *envelope_text(const char *payload, const uint8_t sig[LICENSE_SIGNATURE_BYTES],
	const char *fingerprint)
{
	size_t n = strlen(payload);
	char *p64 = malloc(n / 3 * 4 + 5), s64[LICENSE_SIGNATURE_BYTES / 3 * 4 + 5], *text = NULL;
	json_t *o;

	if (!p64)
		return NULL;
	EVP_EncodeBlock((uint8_t *)p64, (const uint8_t *)payload, (int)n);
	EVP_EncodeBlock((uint8_t *)s64, sig, LICENSE_SIGNATURE_BYTES);
	o = json_pack("{s:s, s:s, s:s}", "payload", p64, "signature", s64, "key", fingerprint);
	if (o)
		text = json_dumps(o, JSON_INDENT(2));
	json_decref(o);
	free(p64);
	return text;
}

int license_file_issue(char **text, const struct license_doc *doc, const char *key_path,
	struct error *err)
{
	uint8_t sig[LICENSE_SIGNATURE_BYTES];
	struct license_doc again;
	struct license_key key;
	char *payload = payload_text(doc);
	EVP_PKEY *pkey = NULL;
	int rc;

	if (!payload)
		return error_set(err, -EINVAL, "licence: a text is not valid UTF-8");
	rc = parse_payload(&again, (const uint8_t *)payload, strlen(payload), err);
	if (rc == 0) {
		pkey = read_pem(key_path, 1, err);
		rc = pkey ? 0 : -EINVAL;
	}
	if (rc == 0 && (key_from_pkey(&key, pkey) || sign_payload(sig, pkey, payload)))
		rc = error_set(err, -EIO, "%s: signing failed", key_path);
	if (rc == 0) {
		*text = envelope_text(payload, sig, key.fingerprint);
		rc = *text ? 0 : error_set(err, -ENOMEM, "out of memory");
	}
	EVP_PKEY_free(pkey);
	free(payload);
	return rc;
}
