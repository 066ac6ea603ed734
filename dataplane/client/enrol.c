/* SPDX-License-Identifier: BSD-3-Clause
 * Sessions over HTTPS: see enrol.h.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/enrol.h"

enum { DEFAULT_TIMEOUT_MS = 5000 };

static int check_key(const char *key, struct error *err)
{
	size_t n = key ? strlen(key) : 0;

	if (!n || n >= sizeof(((struct enrol *)0)->api_key))
		return error_set(err, -EINVAL, "api_key must have 1..255 characters");
	for (size_t i = 0; i < n; i++) {
		if (key[i] <= 0x20 || key[i] >= 0x7f)
			return error_set(err, -EINVAL, "api_key holds a character no key has");
	}
	return 0;
}

static int check_address(const char *text, struct error *err)
{
	unsigned char raw[16];

	if (text && inet_pton(AF_INET, text, raw) != 1 && inet_pton(AF_INET6, text, raw) != 1)
		return error_set(err, -EINVAL, "data_address \"%.60s\" is no IP address", text);
	return 0;
}

int enrol_init(struct enrol *e, const struct mr_options *options, struct error *err)
{
	uint32_t timeout_ms = options->https_timeout_ms;
	int rc;

	memset(e, 0, sizeof(*e));
	if (!options->https)
		return error_set(err, -EINVAL, "https must name the server: host:port");
	rc = check_key(options->api_key, err);
	rc = rc ? rc : check_address(options->data_address, err);
	if (rc)
		return rc;
	snprintf(e->api_key, sizeof(e->api_key), "%s", options->api_key);
	if (options->data_address)
		snprintf(e->data_address, sizeof(e->data_address), "%s", options->data_address);
	e->answer = malloc(sizeof(*e->answer));
	if (!e->answer)
		return error_set(err, -ENOMEM, "out of memory");
	rc = https_init(&e->https, options->https, options->ca_file, options->pin_sha256,
		options->insecure != 0, timeout_ms ? timeout_ms : DEFAULT_TIMEOUT_MS, err);
	if (rc)
		enrol_uninit(e);
	return rc;
}

void enrol_uninit(struct enrol *e)
{
	https_uninit(&e->https);
	free(e->answer);
	explicit_bzero(e, sizeof(*e));
}

/* One call whose only good answer is `want`. */
static int call(struct enrol *e, const char *method, const char *path, const char *body, int want,
	struct error *err)
{
	char reason[200];
	int rc = https_call(&e->https, method, path, e->api_key, body, e->answer, err);

	if (rc || e->answer->status == want)
		return rc;
	session_json_reason(reason, sizeof(reason), e->answer->status, e->answer->body,
		e->answer->body_bytes);
	switch (e->answer->status) {
	case 401:
	case 403:
		return error_set(err, -EACCES, "refused: %s", reason);
	case 404:
		return error_set(err, -ENOENT, "not found: %s", reason);
	case 429:
	case 503:
		return error_set(err, -EAGAIN, "not now: %s", reason);
	default:
		return error_set(err, -EPROTO, "HTTP %d: %s", e->answer->status, reason);
	}
}

int enrol_open(struct enrol *e, struct session_info *out, struct error *err)
{
	char body[SESSION_JSON_ADDRESS_BYTES + 32];
	int rc;

	snprintf(body, sizeof(body), "{\"data_address\": \"%s\"}", e->data_address);
	rc = call(e, "POST", "/v1/sessions", *e->data_address ? body : "{}", 201, err);
	if (!rc)
		rc = session_json_parse(out, e->answer->body, e->answer->body_bytes, err);
	explicit_bzero(e->answer->body, sizeof(e->answer->body));
	return rc;
}

int enrol_renew(struct enrol *e, const char *session_id, uint32_t *expires_in_s, struct error *err)
{
	char path[64];
	int rc;

	snprintf(path, sizeof(path), "/v1/sessions/%s/renew", session_id);
	rc = call(e, "POST", path, "{}", 200, err);
	if (rc)
		return rc;
	return session_json_renewed(session_id, expires_in_s, e->answer->body,
		e->answer->body_bytes, err);
}

int enrol_close(struct enrol *e, const char *session_id, struct error *err)
{
	char path[64];

	snprintf(path, sizeof(path), "/v1/sessions/%s", session_id);
	return call(e, "DELETE", path, NULL, 204, err);
}
