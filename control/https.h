/* SPDX-License-Identifier: BSD-3-Clause
 * HTTPS face (control/API.md): TLS 1.3 by OpenSSL under libevent's evhttp, bounded requests and time.
 */
#pragma once

#include "control/control.h"

/* Listen on https.listen ("0.0.0.0:8443", "[::1]:0"); a certificate is made on first start unless one is
 * configured. 0 or -errno with err. */
int https_init(struct control *ctl, struct error *err);
void https_uninit(struct control *ctl);
/* SHA-256 fingerprint of the serving certificate as lower-case hex (65 bytes), for status and clients. */
void https_fingerprint(const struct control *ctl, char out[65]);
/* The port really bound (tests ask for port 0); 0 when not listening. */
uint16_t https_port(const struct control *ctl);
/* Connections open now, and turned away since start (cap per address or in all, deadline). */
void https_connections(const struct control *ctl, uint32_t *open, uint64_t *turned_away);
