/* SPDX-License-Identifier: BSD-3-Clause
 * Peer credentials: see ctl_peer.h.
 */
#include <errno.h>
#include <grp.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "control/ctl_peer.h"

enum { MAX_GROUPS = 1024 };

static const struct {
	const char *group;
	enum ctl_role role;
} roles[] = {{"millrace-viewer", CTL_VIEWER}, {"millrace-operator", CTL_OPERATOR},
	{"millrace-admin", CTL_ADMIN}};

static enum ctl_role role_of_group(gid_t gid)
{
	enum ctl_role best = CTL_NONE;

	for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++) {
		const struct group *g = getgrnam(roles[i].group);

		if (g && g->gr_gid == gid && roles[i].role > best)
			best = roles[i].role;
	}
	return best;
}

int ctl_peer_identify(int fd, struct ctl_peer *out)
{
	struct ucred cred;
	socklen_t n = sizeof(cred), bytes = MAX_GROUPS * sizeof(gid_t);
	gid_t groups[MAX_GROUPS];

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &n))
		return -errno;
	out->uid = cred.uid;
	out->pid = cred.pid;
	if (cred.uid == 0) {
		out->role = CTL_ADMIN;
		return 0;
	}
	out->role = role_of_group(cred.gid);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &bytes))
		return -errno;
	for (size_t i = 0; i < bytes / sizeof(gid_t); i++) {
		enum ctl_role r = role_of_group(groups[i]);

		if (r > out->role)
			out->role = r;
	}
	return 0;
}
