/* SPDX-License-Identifier: BSD-3-Clause
 * Checks of the operator's file: first its words against the option table, then what the values mean.
 */
#pragma once

#include "abi/types.h"
#include "control/config.h"
#include "control/config_doc.h"

/* Every node is a known key of the right type and range, and required keys exist. 0 or -EINVAL. */
int config_check_words(const struct doc *d, struct error *err);
/* Values that must agree with each other and with this host's CPUs. 0 or -EINVAL. */
int config_check_meaning(const struct config *c, const struct doc *d, struct error *err);
/* What only matters when the machine is started: interfaces exist and all their queues have a worker.
 * 0, or -ENODEV/-EINVAL with err. `--check` shows it as a warning. */
int config_check_host(const struct config *c, struct error *err);

/* "10.0.0.1" or "fd00::1" to 16 bytes (IPv4 as ::ffff:a.b.c.d). False = no such address. */
bool config_ip(const char *text, struct ip_addr *out);
/* "host:port" or "[v6]:port". False = not of that form. */
bool config_listen(const char *text, struct ip_addr *ip, uint16_t *port);
/* enum log_level of log_level. */
uint32_t config_log_level(const struct config *c);
