/* SPDX-License-Identifier: BSD-3-Clause
 * The link to the dataplane: attach, offers, commands with acknowledgement, events, statistics. It
 * re-attaches by itself, and keeps the last statistics of a dead dataplane readable. Loop thread only.
 */
#pragma once

#include "abi/link.h"
#include "abi/mailbox.h"
#include "abi/stats.h"
#include "control/control.h"

enum dp_state { DP_DOWN, DP_STARTING, DP_ATTACHED, DP_READY, DP_HUNG };
const char *dp_state_name(enum dp_state s);

int dp_link_init(struct control *ctl, struct error *err);
void dp_link_uninit(struct control *ctl);

enum dp_state dp_link_state(const struct control *ctl);
int32_t dp_link_pid(const struct control *ctl); /* 0 = none */

/* Copy of the whole statistics region as it is now (about 200 KiB; caller provides the memory).
 * 0, or -ENOTCONN when no dataplane has ever attached. */
int dp_link_stats(const struct control *ctl, struct stats_region *out);
/* Sum of one counter over all workers, including those of dataplanes that died since control started. */
uint64_t dp_link_counter(const struct control *ctl, enum stats_counter c);

/* Send a command; `acked` (may be NULL) is called once with the result, -ETIMEDOUT after 2 s, or
 * -ECONNRESET when the dataplane goes away. -ENOTCONN / -EAGAIN (ring full): not sent. */
int dp_link_command(struct control *ctl, enum mailbox_command cmd, uint64_t a, uint64_t b,
	void (*acked)(int result, void *arg), void *arg);
/* Within `acked`: why the dataplane refused, one printable line; "" = it gave no reason. */
const char *dp_link_refusal(const struct control *ctl);
/* What the dataplane holds is in doubt (a command was not acknowledged in time): attach anew and let it
 * say. Pending commands end with -ECONNRESET. */
void dp_link_reattach(struct control *ctl, const char *why);
/* Offer any other descriptor. 0 or -errno. */
int dp_link_offer(struct control *ctl, enum link_fd kind, int fd);
/* Offer an artifact's descriptor (before CMD_MODEL_STAGE names its number). 0 or -ENOTCONN. */
int dp_link_offer_artifact(struct control *ctl, int fd, const struct link_artifact *a);
