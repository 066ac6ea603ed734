/* SPDX-License-Identifier: BSD-3-Clause
 * The appliance's licence: an Ed25519-signed JSON document of the vendor, checked against configured
 * public keys; entitlements are enforced by the modules that ask here. Loop thread only.
 */
#pragma once

#include "control/control.h"

enum license_state { LICENSE_NONE, LICENSE_VALID, LICENSE_GRACE, LICENSE_EXPIRED, LICENSE_NOT_YET,
	LICENSE_INVALID };
const char *license_state_name(enum license_state s);

struct license_info {
	enum license_state state;
	char id[40], customer[64], edition[32];
	int64_t not_before_wall_s, not_after_wall_s;
	uint32_t subscribers, models; /* entitlements */
	double total_rate;            /* sum of subscriber rates, units/s; 0 = unlimited */
	char reason[256];             /* why it is not valid, for people */
};

int license_init(struct control *ctl, struct error *err);
void license_uninit(struct control *ctl);
/* Verify and install the file: written to state_dir (temp + fsync + rename). Refused: the old one stays. */
int license_install(struct control *ctl, const char *path, bool dry_run, struct error *err);
void license_info(const struct control *ctl, struct license_info *out);
/* May there be this many? 0, or -EDQUOT/-EPERM with a sentence that names the entitlement. */
int license_allows(const struct control *ctl, uint32_t subscribers, uint32_t models,
	double total_rate, struct error *err);
/* CLOCK_MONOTONIC ns until which requests may be answered: CMD_LICENCE's argument; 0 = not licensed. */
uint64_t license_until_ns(const struct control *ctl);
