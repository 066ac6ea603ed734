/* SPDX-License-Identifier: BSD-3-Clause
 * Private namespaces for the BPF tests: see sandbox.h.
 */
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "ebpf/xdp_load.h"
#include "tests/ebpf/sandbox.h"

int sandbox_enter(void)
{
	if (unshare(CLONE_NEWNS | CLONE_NEWNET) < 0)
		return -errno;
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return -errno;
	if (mount("bpf", XDP_BPFFS_DIR, "bpf", 0, NULL) < 0)
		return -errno;
	return 0;
}

const char *sandbox_object(void)
{
	static char path[PATH_MAX + 32];
	ssize_t n = readlink("/proc/self/exe", path, PATH_MAX);
	char *slash;

	if (n < 0)
		return "build/bin/xdp_filter.bpf.o";
	path[n] = '\0';
	slash = strrchr(path, '/');
	snprintf(slash, 32, "/../bin/xdp_filter.bpf.o");
	return path;
}
