/* SPDX-License-Identifier: BSD-3-Clause
 * One HTTPS connection to control: TLS 1.3, verified peer, small JSON exchanges. Blocking, with one
 * deadline per exchange; kept open between exchanges where the server allows it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum {
	HTTPS_MAX_BODY_BYTES = 256 << 10,
	HTTPS_MAX_HEADER_BYTES = 16 << 10,
	HTTPS_HOST_BYTES = 256,
};

struct https {
	char host[HTTPS_HOST_BYTES];
	char port[8];
	uint32_t timeout_ms;
	bool pinned;
	uint8_t pin[32]; /* SHA-256 of the server certificate's DER form */
	struct ssl_ctx_st *ctx;
	struct ssl_st *ssl; /* NULL = not connected */
	int fd;
};

struct https_answer {
	int status;
	size_t body_bytes;
	bool keep_alive;
	char body[HTTPS_MAX_BODY_BYTES];
};

/* Prepare for `url` ("host:port", "[v6]:port", with or without https://). Trust: exactly one of
 * pin_hex (64 hex digits), ca_file, insecure; none = the system's certificates. No network yet.
 * 0, -EINVAL (named), -ENOENT/-EIO (ca_file), -ENOMEM. */
int https_init(struct https *h, const char *url, const char *ca_file, const char *pin_hex,
	bool insecure, uint32_t timeout_ms, struct error *err);
void https_uninit(struct https *h);

/* One exchange: method and path as given, `bearer` as Authorization, body may be NULL. Fills *a; an
 * HTTP error status is an answer, not an error. A kept connection that has gone stale is opened
 * again once. 0, -ECONNREFUSED, -ETIMEDOUT, -EKEYREJECTED, -EPROTO, -EIO with err. */
int https_call(struct https *h, const char *method, const char *path, const char *bearer,
	const char *body, struct https_answer *a, struct error *err);

/* Parse an HTTP/1.1 response that is complete up to `n` bytes. Pure. Returns 1 with *status,
 * *body_offset, *body_bytes and *keep_alive set when header and body are all there, 0 when more
 * bytes are needed, -EPROTO when it is no response we accept (chunked bodies included), -EMSGSIZE
 * when the header or the announced body exceed the limits. */
int https_parse(const char *text, size_t n, int *status, size_t *body_offset, size_t *body_bytes,
	bool *keep_alive);
