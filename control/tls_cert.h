/* SPDX-License-Identifier: BSD-3-Clause
 * The HTTPS certificate: the configured PEM files, or a self-signed one made on first start.
 *
 * Self-signed: ECDSA P-256, ten years, subjectAltName with the host name, localhost, the loopback
 * addresses and the listening address. Clients pin its SHA-256 fingerprint (`millrace status`).
 */
#pragma once

#include <openssl/ssl.h>

#include "base/error.h"

/* Make `cert_path` and `key_path` (0600) unless both exist. `address`: extra IP for the
 * subjectAltName, or NULL. 0 or -errno with err. */
int tls_cert_ensure(const char *cert_path, const char *key_path, const char *address,
	struct error *err);
/* Load a PEM chain and key into `ctx` and check that they fit. 0 or -EINVAL/-ENOENT with err. */
int tls_cert_use(SSL_CTX *ctx, const char *cert_path, const char *key_path, struct error *err);
/* SHA-256 of the certificate `ctx` serves, lower-case hex; empty when there is none. */
void tls_cert_fingerprint(const SSL_CTX *ctx, char out[65]);
