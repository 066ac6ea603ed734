/* SPDX-License-Identifier: BSD-3-Clause
 * Failpoints: see failpoint.h. Linked into test builds only.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/failpoint.h"

_Static_assert(sizeof(struct failpoint_orders) == 128, "failpoint_orders");

static struct failpoint_orders nothing;
static struct failpoint_orders *obeyed;

static struct failpoint_orders *from_file(void)
{
	const char *path = getenv("MILLRACE_FAILPOINTS");
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void *map = MAP_FAILED;

	if (fd >= 0) {
		map = mmap(NULL, sizeof(nothing), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		close(fd);
	}
	return map == MAP_FAILED ? &nothing : map;
}

static struct failpoint_orders *orders(void)
{
	struct failpoint_orders *o = __atomic_load_n(&obeyed, __ATOMIC_ACQUIRE);

	if (!o) {
		o = from_file();
		__atomic_store_n(&obeyed, o, __ATOMIC_RELEASE);
	}
	return o;
}

void failpoint_obey(struct failpoint_orders *o)
{
	__atomic_store_n(&obeyed, o, __ATOMIC_RELEASE);
}

void failpoint(const char *name)
{
	struct failpoint_orders *o = orders();

	if (__atomic_load_n(&o->passes, __ATOMIC_ACQUIRE) <= 0 ||
		strncmp(o->kill, name, sizeof(o->kill)) != 0)
		return;
	if (__atomic_sub_fetch(&o->passes, 1, __ATOMIC_ACQ_REL) != 0)
		return;
	__atomic_fetch_add(&o->killed, 1, __ATOMIC_ACQ_REL);
	kill(getpid(), SIGKILL);
	for (;;)
		pause(); /* not one step further */
}

bool failpoint_skips(const char *name)
{
	return strncmp(orders()->skip, name, sizeof(nothing.skip)) == 0;
}
