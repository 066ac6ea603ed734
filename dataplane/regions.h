/* SPDX-License-Identifier: BSD-3-Clause
 * The two regions the dataplane makes and offers to control: statistics (abi/stats.h), which
 * control may only read, and the mailbox (abi/mailbox.h).
 */
#pragma once

#include "abi/mailbox.h"
#include "abi/stats.h"
#include "base/error.h"

struct regions {
	struct stats_region *stats;
	struct mailbox *mailbox;
	int stats_fd;    /* read-only description: what is offered */
	int mailbox_fd;
};

/* 0 or -errno; regions_uninit() is safe afterwards, whatever the result. Service thread. */
int regions_init(struct regions *r, uint32_t n_workers, uint64_t tsc_hz, struct error *err);
void regions_uninit(struct regions *r);
