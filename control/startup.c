/* SPDX-License-Identifier: BSD-3-Clause
 * Options, lock and notification: see startup.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <jansson.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "control/config_check.h"
#include "control/control.h"
#include "control/paths.h"
#include "control/startup.h"

static const char usage[] =
	"usage: millrace-control --config FILE [--check] [--json]\n"
	"  --config FILE  the operator's file (firmware-config/millrace.yaml is the example)\n"
	"  --check        read and check it, start nothing\n"
	"  --json         with --check: print the effective configuration\n"
	"  --help, --version\n";

struct options startup_options(int argc, char **argv)
{
	static const struct option table[] = {{"config", required_argument, NULL, 'c'},
		{"check", no_argument, NULL, 'k'}, {"json", no_argument, NULL, 'j'},
		{"help", no_argument, NULL, 'h'}, {"version", no_argument, NULL, 'v'},
		{NULL, 0, NULL, 0}};
	struct options o = {.exit = -1};
	int c;

	while ((c = getopt_long(argc, argv, "c:h", table, NULL)) != -1) {
		if (c == 'c')
			o.config = optarg;
		else if (c == 'k')
			o.check = true;
		else if (c == 'j')
			o.json = true;
		else if (c == 'v')
			o.exit = fputs("millrace-control " MILLRACE_VERSION "\n", stdout) < 0;
		else if (c == 'h')
			o.exit = fputs(usage, stdout) < 0;
		else
			o.exit = 2;
	}
	if (o.exit < 0 && (!o.config || optind != argc))
		o.exit = 2;
	if (o.exit == 2)
		fputs(usage, stderr);
	return o;
}

int startup_check(const struct config *c, bool json)
{
	struct error err = {0};
	json_t *effective;

	if (config_check_host(c, &err))
		fprintf(stderr, "warning: %s\n", err.text);
	if (!json) {
		puts("configuration OK");
		return 0;
	}
	effective = config_to_json(c);
	if (!effective)
		return 1;
	json_dumpf(effective, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(effective);
	return 0;
}

static int lock_in(const char *dir, unsigned int mode, struct error *err)
{
	char path[PATH_MAX];
	int fd, rc = path_make_dir(dir, mode, err);

	if (rc)
		return rc;
	snprintf(path, sizeof(path), "%s/control.lock", dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return error_set(err, -errno, "%s: %s", path, strerror(errno));
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return fd;
	close(fd);
	return error_set(err, -EBUSY, "another millrace-control runs in %s", dir);
}

int startup_lock(const struct config *c, int fds[2], struct error *err)
{
	/* Operators in the millrace groups come in here; what is not theirs has its own mode. */
	fds[0] = lock_in(c->run_dir, 0755, err);
	fds[1] = -1;
	if (fds[0] >= 0 && strcmp(c->run_dir, c->state_dir))
		fds[1] = lock_in(c->state_dir, 0750, err);
	if (fds[0] < 0)
		return fds[0];
	return fds[1] < 0 && strcmp(c->run_dir, c->state_dir) ? fds[1] : 0;
}

void startup_notify(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	size_t n = path ? strlen(path) : 0;
	int fd;

	if (!n || n >= sizeof(sa.sun_path) || (path[0] != '/' && path[0] != '@'))
		return;
	memcpy(sa.sun_path, path, n);
	if (path[0] == '@')
		sa.sun_path[0] = 0; /* abstract */
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	(void)!sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&sa,
		(socklen_t)(offsetof(struct sockaddr_un, sun_path) + n));
	close(fd);
}
