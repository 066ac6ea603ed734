/* SPDX-License-Identifier: BSD-3-Clause
 * Who is at the other end of the control socket, as the kernel says it.
 */
#pragma once

#include "control/ctl_commands.h"

struct ctl_peer {
	uint32_t uid;
	int32_t pid;
	enum ctl_role role; /* CTL_NONE: in none of our groups */
};

/* uid 0 is admin; else the strongest of the groups millrace-{viewer,operator,admin} that the peer was
 * in when it connected (SO_PEERCRED, SO_PEERGROUPS). 0 or -errno. */
int ctl_peer_identify(int fd, struct ctl_peer *out);
