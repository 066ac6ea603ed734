/* SPDX-License-Identifier: BSD-3-Clause
 * State of the link, shared by dp_link.c (socket, offers), dp_commands.c (mailbox) and dp_stats.c.
 */
#pragma once

#include "control/attach.h"
#include "control/dp_link.h"

struct event;

enum {
	LINK_PENDING = 512,
	LINK_MAX_ARTIFACTS = DP_MAX_MODELS * 3,
	LINK_RETRY_MS = 20, /* it is starting */
	LINK_LOST_MS = 200, /* it closed the connection */
	LINK_BUSY_MS = 1,
	LINK_IDLE_MS = 50,
	LINK_ACK_MS = 2000,
	LINK_STAGE_MS = 10000, /* staging maps and checks a whole artifact */
};

struct pending {
	uint64_t seq; /* 0 = free */
	uint64_t deadline_ns;
	void (*acked)(int result, void *arg);
	void *arg;
};

struct dp_link {
	enum dp_state state;
	int sock; /* -1 = not connected */
	int32_t pid;
	struct event *readable, *retry, *poll;
	bool hello, peer_done, we_done;
	struct mailbox *mailbox;      /* mapped, NULL = none */
	uint64_t mailbox_inode;
	struct stats_region *stats;   /* mapped; of the last dataplane until the next one offers its own */
	uint64_t stats_inode;
	size_t stats_bytes, mailbox_bytes;
	uint64_t base[STATS_COUNTERS]; /* of dataplanes before the mapped one */
	uint64_t next_seq;
	struct pending pending[LINK_PENDING];
	uint32_t n_pending;
	char refusal[MAILBOX_REFUSAL_BYTES]; /* of the acknowledgement being delivered */
	uint64_t licence_sent_ns, licence_refresh_ns;
	struct link_artifact peer[LINK_MAX_ARTIFACTS];
	uint32_t n_peer;
};

/* dp_commands.c */
void dp_commands_poll(struct control *ctl);
void dp_commands_fail_all(struct control *ctl, int rc);
void dp_commands_arm(struct control *ctl);
/* dp_stats.c: take over a statistics region (fd not consumed). 0 or -errno with err. */
int dp_stats_adopt(struct control *ctl, int fd, struct error *err);
int dp_mailbox_adopt(struct control *ctl, int fd, struct error *err);
void dp_regions_release(struct control *ctl);
/* All workers poll. */
bool dp_stats_polling(const struct control *ctl);
