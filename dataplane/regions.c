/* SPDX-License-Identifier: BSD-3-Clause
 * Statistics and mailbox memory: see regions.h.
 */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"
#include "regions.h"

static int stats_new(struct regions *r, uint32_t n_workers, uint64_t tsc_hz, struct error *err)
{
	void *map;
	int fd = fd_region_new("millrace-stats", sizeof(*r->stats), false, &map, err);

	if (fd < 0)
		return fd;
	r->stats = map;
	r->stats_fd = fd_reopen_readonly(fd);
	close(fd);
	if (r->stats_fd < 0)
		return error_set(err, r->stats_fd, "re-opening the statistics: %s",
			strerror(-r->stats_fd));
	r->stats->header.version = STATS_VERSION;
	r->stats->header.n_workers = n_workers;
	r->stats->header.total_bytes = sizeof(*r->stats);
	r->stats->header.tsc_hz = tsc_hz;
	r->stats->header.pid = (uint32_t)getpid();
	r->stats->header.magic = STATS_MAGIC;
	return 0;
}

int regions_init(struct regions *r, uint32_t n_workers, uint64_t tsc_hz, struct error *err)
{
	void *map;
	int rc;

	memset(r, 0, sizeof(*r));
	r->stats_fd = r->mailbox_fd = -1;
	rc = stats_new(r, n_workers, tsc_hz, err);
	if (rc)
		return rc;
	r->mailbox_fd = fd_region_new("millrace-mailbox", sizeof(*r->mailbox), false, &map, err);
	if (r->mailbox_fd < 0)
		return r->mailbox_fd;
	r->mailbox = map;
	r->mailbox->version = MAILBOX_VERSION;
	r->mailbox->total_bytes = sizeof(*r->mailbox);
	r->mailbox->magic = MAILBOX_MAGIC;
	return 0;
}

void regions_uninit(struct regions *r)
{
	if (r->stats)
		munmap(r->stats, sizeof(*r->stats));
	if (r->mailbox)
		munmap(r->mailbox, sizeof(*r->mailbox));
	fd_close(r->stats_fd);
	fd_close(r->mailbox_fd);
}
