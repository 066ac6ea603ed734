/* SPDX-License-Identifier: BSD-3-Clause
 * What the modules of control say to each other while a dataplane starts, attaches and goes away.
 * Not for the faces. Loop thread only.
 *
 *   supervisor --spawn--> dp_link --HELLO, CONFIG, LIMITS-->  dataplane
 *                                 <--HELLO, its offers, OFFERED--
 *   sessions, models: adopt what was offered, or make it --SESSIONS, ARTIFACTs, OFFERED-->
 *   limits enabled, CMD_LICENCE, models staged again; all workers poll: supervisor_dataplane_ready()
 */
#pragma once

#include "abi/link.h"
#include "abi/stats.h"
#include "control/control.h"
#include "control/dp_link.h"

/* supervisor.c */
int supervisor_config_fd(const struct control *ctl); /* sealed struct dp_config */
void supervisor_set_stop(struct control *ctl, bool stop_dataplane);
/* The link found a dataplane that we did not start: watch it. */
void supervisor_adopt(struct control *ctl, int32_t pid);

/* sessions.c */
int sessions_table_fd(const struct control *ctl); /* -1 = none yet */
/* Take over a table another process holds (fd consumed). 0 or -errno with err. */
int sessions_adopt_table(struct control *ctl, int fd, struct error *err);
/* A table exists afterwards. 0 or -errno with err. */
int sessions_need_table(struct control *ctl, struct error *err);
/* Bring the XDP map and the dataplane in line with the table. */
void sessions_attached(struct control *ctl);

/* models.c */
void models_offer(struct control *ctl);
int models_adopt(struct control *ctl, int fd, const struct link_artifact *a, struct error *err);
void models_attached(struct control *ctl);
void models_detached(struct control *ctl);
void models_released(struct control *ctl, uint32_t index, uint64_t number);

/* limits_table.c */
void limits_table_enable(struct control *ctl, bool enabled);
/* The dataplane's limits memfd, where BPF is not in use (fd not consumed). */
int limits_table_adopt(struct control *ctl, int fd, struct error *err);
void limits_table_sessions_clear(struct control *ctl);
/* Detach what a dead dataplane of ours left on the configured interfaces. */
void limits_table_remove_stale_xdp(struct control *ctl);

/* dp_link.c */
/* Try to connect now and every few milliseconds until it succeeds. */
void dp_link_start(struct control *ctl);
/* One attempt now. 0 = connected. */
int dp_link_try(struct control *ctl, struct error *err);
/* The process is gone: close the socket, fail what is pending, stop trying. */
void dp_link_dead(struct control *ctl);
void dp_link_set_state(struct control *ctl, enum dp_state s);
/* The mapped statistics of the attached dataplane (it writes while we read), or NULL. */
const struct stats_region *dp_link_live(const struct control *ctl);
/* Did the attached dataplane offer this artifact in that slot? */
bool dp_link_peer_has(const struct control *ctl, uint32_t index, uint32_t slot, uint64_t number);
void dp_link_send_licence(struct control *ctl);
