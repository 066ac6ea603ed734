/* SPDX-License-Identifier: BSD-3-Clause
 * The limiter slots and the XDP maps as control sees them: pinned BPF maps, or a memfd when the
 * configuration allows running without BPF. Loop thread only.
 */
#pragma once

#include "abi/limits.h"
#include "abi/xdp_maps.h"
#include "control/control.h"
#include "ebpf/xdp_load.h"

int limits_table_init(struct control *ctl, struct error *err);
void limits_table_uninit(struct control *ctl); /* leaves the pinned maps: the dataplane may live on */
int limits_table_fd(const struct control *ctl);       /* to offer as LINK_FD_LIMITS */
bool limits_table_is_memfd(const struct control *ctl); /* the fallback is in use */
uint32_t limits_table_slots(const struct control *ctl);
struct limit_slot *limits_table_slot(const struct control *ctl, uint32_t index); /* mapped; NULL = out of range */
/* Sums of the XDP verdict counters; all 0 with the fallback. */
void limits_table_xdp_counters(const struct control *ctl, uint64_t out[XDP_COUNTERS]);
/* Sources in the penalty box, the busiest first. Returns how many of at most `max`; 0 with the fallback. */
uint32_t limits_table_boxed(const struct control *ctl, struct xdp_boxed *out, uint32_t max);
/* Put a session into / take it out of the XDP map (no-op with the fallback). 0 or -errno. */
int limits_table_session_add(struct control *ctl, uint32_t key_id, const struct xdp_session *s);
int limits_table_session_remove(struct control *ctl, uint32_t key_id);
