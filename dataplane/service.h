/* SPDX-License-Identifier: BSD-3-Clause
 * The service thread: everything that is not packets. Link to control, mailbox, models, sessions,
 * licence, heartbeat. Workers never wait for it; it never touches a packet.
 */
#pragma once

#include <stdbool.h>

#include "abi/config.h"
#include "link.h"
#include "model_slot.h"
#include "regions.h"
#include "worker.h"

enum { SERVICE_EARLY_OFFERS = 3 * DP_MAX_MODELS + 8 };

/* An offer that came before there was anything to adopt it. */
struct early_offer {
	struct link_message message;
	int fd;
};

struct service {
	struct link link;
	struct dp_config config;
	bool configured; /* config is taken */
	bool started;    /* workers exist: offers are adopted at once */
	bool ready;      /* EVENT_READY was sent */
	int signal_fd;
	struct regions regions;
	struct model_table models;
	struct shared *shared;
	struct sessions *sessions;      /* attached, and ... */
	struct gateway_region *gateway; /* ... mapped; the workers see both once `told` */
	bool told; /* control has said whether we are licensed, and so offered all it has */
	struct worker **workers;
	int limits_fd, gateway_fd; /* to offer again; -1 = none */
	int trace_fd; /* offered and not begun; -1 = none */
	int box_fd; /* XDP_MAP_BOX; -1 = no BPF here */
	struct early_offer early[SERVICE_EARLY_OFFERS];
	uint32_t n_early;
	uint64_t rung; /* HTTPS submissions that workers have been woken for */
	uint64_t costs_due_ns; /* when the cost tables are shown next */
	uint64_t refusals; /* commands refused so far: picks the mailbox's next text */
};

/* Listen, and take the configuration from CONFIG_FD or wait for its offer. -EINTR: told to stop. */
int service_configure(struct service *s, const char *run_dir, struct error *err);
/* Workers are about to run: adopt what was offered early, then serve until stopped. */
void service_run(struct service *s);
void service_uninit(struct service *s);

/* Show the workers where requests come from, sessions and gateway, once control has told everything they
 * need to answer: a request that comes earlier shall wait or be retried, not read NOT_LICENSED or
 * UNKNOWN_MODEL. */
void service_publish(struct service *s);
/* commands.c: take and answer the commands that wait in the mailbox (a bounded number). */
void service_commands(struct service *s);
/* commands.c: no worker touches a trace any more. 0, or -EBUSY: a worker does not come round. */
int service_trace_end(struct service *s, struct error *err);
/* commands.c: one event to control. False = the ring is full. */
bool service_event(struct service *s, enum mailbox_event kind, uint64_t a, uint64_t b);
