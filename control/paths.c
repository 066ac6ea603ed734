/* SPDX-License-Identifier: BSD-3-Clause
 * Where things lie: see paths.h.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/paths.h"

void path_of_program(char *out, size_t n, const char *configured, const char *name)
{
	char self[PATH_MAX];
	ssize_t len;

	if (configured && configured[0]) {
		snprintf(out, n, "%s", configured);
		return;
	}
	len = readlink("/proc/self/exe", self, sizeof(self) - 1);
	self[len > 0 ? len : 0] = 0;
	if (len > 0)
		*strrchr(self, '/') = 0;
	if (snprintf(out, n, "%s/%s", self, name) >= (int)n)
		out[0] = 0;
}

int path_make_dir(const char *path, unsigned int mode, struct error *err)
{
	char part[PATH_MAX];
	size_t n = strlen(path);

	if (!n || n >= sizeof(part))
		return error_set(err, -ENAMETOOLONG, "directory name of %zu bytes", n);
	memcpy(part, path, n + 1);
	for (char *p = part + 1;; p++) {
		char was = *p;

		if (was && was != '/')
			continue;
		*p = 0;
		if (mkdir(part, was ? 0755 : mode) < 0 && errno != EEXIST)
			return error_set(err, -errno, "mkdir %s: %s", part, strerror(errno));
		*p = was;
		if (!was)
			return 0;
	}
}
