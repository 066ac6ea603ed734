/* SPDX-License-Identifier: BSD-3-Clause
 * The memfd an artifact is loaded to: see target.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"
#include "control/loader/target.h"

enum {
	HUGE_BYTES = 2 * 1024 * 1024,
	SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL | F_SEAL_WRITE,
};

static int memfd_pair(struct target_memfd *m, unsigned int flags)
{
	m->readonly = -1;
	m->fd = memfd_create("millrace-artifact", MFD_CLOEXEC | MFD_ALLOW_SEALING | flags);
	if (m->fd < 0)
		return -errno;
	m->readonly = fd_reopen_readonly(m->fd);
	return m->readonly < 0 ? m->readonly : 0;
}

static void memfd_pair_close(struct target_memfd *m)
{
	fd_close(m->fd);
	fd_close(m->readonly);
	m->fd = m->readonly = -1;
}

int target_init(struct target *t, struct error *err)
{
	int rc;

	*t = (struct target){.huge = {-1, -1}, .plain = {-1, -1}, .meminfo = -1};
	t->huge_error = -memfd_pair(&t->huge, MFD_HUGETLB | MFD_HUGE_2MB);
	rc = memfd_pair(&t->plain, 0);
	if (rc)
		return error_set(err, rc, "memfd: %s", strerror(-rc));
	t->meminfo = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
	return 0;
}

void target_uninit(struct target *t)
{
	if (t->map)
		munmap(t->map, t->map_bytes);
	t->map = NULL;
	memfd_pair_close(&t->huge);
	memfd_pair_close(&t->plain);
	fd_close(t->meminfo);
	t->meminfo = -1;
}

/* A number of /proc/meminfo, UINT64_MAX when it cannot be read. */
static uint64_t meminfo(const struct target *t, const char *key)
{
	char text[4096];
	ssize_t n = t->meminfo < 0 ? -1 : pread(t->meminfo, text, sizeof(text) - 1, 0);
	const char *at;

	if (n <= 0)
		return UINT64_MAX;
	text[n] = 0;
	at = strstr(text, key);
	return at ? strtoull(at + strlen(key), NULL, 10) : UINT64_MAX;
}

static int map_on(struct target *t, struct target_memfd *m, uint64_t bytes)
{
	void *p;

	if (ftruncate(m->fd, (off_t)bytes) < 0)
		return -errno;
	p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, m->fd, 0);
	if (p == MAP_FAILED) {
		int rc = -errno;

		(void)!ftruncate(m->fd, 0);
		return rc;
	}
	madvise(p, bytes, MADV_HUGEPAGE); /* plain memfd: larger pages where shmem_enabled allows */
	t->map = p;
	t->map_bytes = bytes;
	t->chosen = m;
	return 0;
}

static uint64_t round_up(uint64_t n, uint64_t to)
{
	return (n + to - 1) / to * to; /* n <= 64 GiB and a bit: checked by the caller's header check */
}

/* mmap() of a huge memfd reserves its pages, so a load that starts cannot run out of them. */
static int map_huge(struct target *t, uint64_t bytes, char *why, size_t n)
{
	uint64_t pages = round_up(bytes, HUGE_BYTES) / HUGE_BYTES;
	int rc = t->huge_error ? -t->huge_error : map_on(t, &t->huge, pages * HUGE_BYTES);

	t->is_huge = rc == 0;
	if (rc == -ENOMEM)
		snprintf(why, n, "normal pages: %" PRIu64 " huge pages needed, %" PRIu64 " free", pages,
			meminfo(t, "HugePages_Free:"));
	else if (rc)
		snprintf(why, n, "normal pages: no huge pages (%s)", strerror(-rc));
	return rc;
}

int target_map(struct target *t, uint64_t bytes, bool want_huge, char *why, size_t n, struct error *err)
{
	uint64_t available = meminfo(t, "MemAvailable:");
	int rc;

	why[0] = 0;
	if (want_huge && map_huge(t, bytes, why, n) == 0)
		return 0;
	if (available != UINT64_MAX && bytes / 1024 > available)
		return error_set(err, -ENOMEM,
			"the artifact needs %" PRIu64 " MiB of memory, %" PRIu64 " MiB are available",
			bytes >> 20, available >> 10);
	rc = map_on(t, &t->plain, round_up(bytes, 4096));
	return rc ? error_set(err, rc, "memory for %" PRIu64 " MiB: %s", bytes >> 20, strerror(-rc)) : 0;
}

int target_seal(struct target *t, struct error *err)
{
	munmap(t->map, t->map_bytes);
	t->map = NULL;
	if (fcntl(t->chosen->fd, F_ADD_SEALS, SEALS) < 0)
		return error_set(err, -errno, "sealing: %s", strerror(errno));
	close(t->chosen->fd);
	t->chosen->fd = -1;
	return 0;
}
