/* SPDX-License-Identifier: BSD-3-Clause
 * The control process: one context, one libevent loop, one thread. Every module below takes the
 * context it needs from here; nothing is global.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct event_base;

struct control {
	struct event_base *base;
	struct config *config;           /* config.h: checked, effective values */
	struct store *store;             /* store.h: SQLite */
	struct audit *audit;             /* audit.h */
	struct license *license;         /* license.h */
	struct subscribers *subscribers; /* subscribers.h: plans, subscribers, API keys, usage */
	struct limits_table *limits;     /* limits_table.h: the mapped limiter slots, XDP maps */
	struct sessions *sessions;       /* sessions.h */
	struct models *models;           /* models.h */
	struct dp_link *link;            /* dp_link.h */
	struct supervisor *supervisor;   /* supervisor.h */
	struct gateway *gateway;         /* gateway.h: HTTPS inference into the workers */
	struct https *https;             /* https.h */
	struct ctl_socket *ctl;          /* ctl_socket.h */
	int64_t started_wall_s;
};

#define MILLRACE_VERSION "0.1.0"
