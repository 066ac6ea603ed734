/* SPDX-License-Identifier: BSD-3-Clause
 * The configuration as the dataplane takes it: mapped, copied, checked again. Control has checked
 * the operator's file already; this is the border's own check.
 */
#pragma once

#include <stdbool.h>

#include "abi/config.h"
#include "base/error.h"

enum {
	CONFIG_FD = 3,        /* where control puts it when it starts the dataplane */
	CONFIG_MBUFS = 16384, /* packet buffers of a port, unless it has many queues */
};

/* Is `fd` open and a memfd that begins with the configuration's magic? Never fails, touches
 * nothing. */
bool config_is_at(int fd);

/* Copy the configuration behind `fd` (not consumed) to *out and check every field. 0 or -errno. */
int config_take(int fd, struct dp_config *out, struct error *err);

/* Packet buffers of port `p`: as configured, or what its queues can hold at once. */
uint32_t config_mbufs(const struct dp_config *c, const struct dp_port_config *p);

/* Queues of all ports together = workers. */
uint32_t config_workers(const struct dp_config *c);
