/* SPDX-License-Identifier: BSD-3-Clause
 * Sessions over HTTPS: ask for one, renew it, give it back (control/API.md, POST /v1/sessions).
 */
#pragma once

#include "base/error.h"
#include "client/https.h"
#include "client/millrace.h"
#include "client/session_json.h"

struct enrol {
	struct https https;
	struct https_answer *answer; /* scratch; wiped after each call */
	char api_key[256];
	char data_address[SESSION_JSON_ADDRESS_BYTES]; /* "" = the server takes the TLS peer's */
};

/* Check the options that concern HTTPS and copy them. No network yet. 0, -EINVAL, -ENOMEM, ... */
int enrol_init(struct enrol *e, const struct mr_options *options, struct error *err);
void enrol_uninit(struct enrol *e);

/* A new session in *out (secret: wipe). -EACCES with the server's reason when it refuses (401, 403),
 * -EAGAIN for 429 and 503, -EPROTO for any other answer; else as https_call(). */
int enrol_open(struct enrol *e, struct session_info *out, struct error *err);

/* Renew; *expires_in_s counts from now. Errors as enrol_open(). */
int enrol_renew(struct enrol *e, const char *session_id, uint32_t *expires_in_s, struct error *err);

/* Give the session back. Errors as enrol_open(). */
int enrol_close(struct enrol *e, const char *session_id, struct error *err);
