/* SPDX-License-Identifier: BSD-3-Clause
 * HTTPS face (control/API.md): TLS 1.3 by OpenSSL under libevent's evhttp, bounded requests and time.
 */
#pragma once

#include "control/control.h"

int https_init(struct control *ctl, struct error *err);
void https_uninit(struct control *ctl);
/* SHA-256 fingerprint of the serving certificate as lower-case hex (65 bytes), for status and clients. */
void https_fingerprint(const struct control *ctl, char out[65]);
