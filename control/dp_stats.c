/* SPDX-License-Identifier: BSD-3-Clause
 * The dataplane's regions as control maps them: statistics that never go back, and the mailbox.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "control/dp_link_private.h"

static uint64_t inode_of(int fd)
{
	struct stat st;

	return fstat(fd, &st) < 0 ? 0 : (uint64_t)st.st_ino;
}

static uint64_t sum(const struct stats_region *r, enum stats_counter c)
{
	uint32_t n = __atomic_load_n(&r->header.n_workers, __ATOMIC_RELAXED);
	uint64_t total = 0;

	for (uint32_t w = 0; w < n && w < DP_MAX_WORKERS; w++)
		total += __atomic_load_n(&r->workers[w].counters[c], __ATOMIC_RELAXED);
	return total;
}

/* The mapped region belongs to a dataplane that is gone: keep its sums. */
static void retire_stats(struct dp_link *l)
{
	if (!l->stats)
		return;
	for (int c = 0; c < STATS_COUNTERS; c++)
		l->base[c] += sum(l->stats, (enum stats_counter)c);
	munmap(l->stats, l->stats_bytes);
	l->stats = NULL;
}

int dp_stats_adopt(struct control *ctl, int fd, struct error *err)
{
	struct dp_link *l = ctl->link;
	struct stats_header h;
	void *map;
	size_t bytes;
	int rc;

	if (l->stats && l->stats_inode == inode_of(fd))
		return 0;
	rc = fd_region_map(fd, false, false, &map, &bytes, err);
	if (rc)
		return error_prefix(err, "statistics");
	memcpy(&h, map, bytes < sizeof(h) ? bytes : sizeof(h));
	if (bytes < sizeof(struct stats_region) || h.magic != STATS_MAGIC ||
		h.version != STATS_VERSION || h.total_bytes < sizeof(struct stats_region) ||
		h.n_workers > DP_MAX_WORKERS) {
		munmap(map, bytes);
		return error_set(err, -EPROTO, "statistics: version %u, %zu bytes; this program "
			"knows version %d, %zu bytes", h.version, bytes, STATS_VERSION,
			sizeof(struct stats_region));
	}
	retire_stats(l);
	l->stats = map;
	l->stats_bytes = bytes;
	l->stats_inode = inode_of(fd);
	return 0;
}

int dp_mailbox_adopt(struct control *ctl, int fd, struct error *err)
{
	struct dp_link *l = ctl->link;
	struct mailbox *m;
	void *map;
	size_t bytes;
	int rc;

	if (l->mailbox && l->mailbox_inode == inode_of(fd))
		return 0;
	rc = fd_region_map(fd, true, false, &map, &bytes, err);
	if (rc)
		return error_prefix(err, "mailbox");
	m = map;
	if (bytes < sizeof(*m) || m->magic != MAILBOX_MAGIC || m->version != MAILBOX_VERSION) {
		munmap(map, bytes);
		return error_set(err, -EPROTO, "mailbox: wrong magic, version or size");
	}
	if (l->mailbox)
		munmap(l->mailbox, l->mailbox_bytes);
	l->mailbox = m;
	l->mailbox_bytes = bytes;
	l->mailbox_inode = inode_of(fd);
	return 0;
}

void dp_regions_release(struct control *ctl)
{
	struct dp_link *l = ctl->link;

	retire_stats(l);
	if (l->mailbox)
		munmap(l->mailbox, l->mailbox_bytes);
	l->mailbox = NULL;
}

bool dp_stats_polling(const struct control *ctl)
{
	const struct stats_region *r = ctl->link->stats;
	uint32_t n = r ? __atomic_load_n(&r->header.n_workers, __ATOMIC_ACQUIRE) : 0;

	if (!n || n > DP_MAX_WORKERS)
		return false;
	for (uint32_t w = 0; w < n; w++)
		if (__atomic_load_n(&r->workers[w].state, __ATOMIC_ACQUIRE) != 1)
			return false;
	return true;
}

int dp_link_stats(const struct control *ctl, struct stats_region *out)
{
	if (!ctl->link || !ctl->link->stats)
		return -ENOTCONN;
	memcpy(out, ctl->link->stats, sizeof(*out));
	if (out->header.n_workers > DP_MAX_WORKERS)
		out->header.n_workers = DP_MAX_WORKERS;
	if (out->header.n_ports > DP_MAX_PORTS)
		out->header.n_ports = DP_MAX_PORTS;
	for (int i = 0; i < DP_MAX_PORTS; i++)
		out->header.ports[i].device[sizeof(out->header.ports[i].device) - 1] = 0;
	return 0;
}

uint64_t dp_link_counter(const struct control *ctl, enum stats_counter c)
{
	if (!ctl->link || (unsigned)c >= STATS_COUNTERS)
		return 0;
	return ctl->link->base[c] + (ctl->link->stats ? sum(ctl->link->stats, c) : 0);
}

const struct stats_region *dp_link_live(const struct control *ctl)
{
	return ctl->link && ctl->link->state >= DP_ATTACHED ? ctl->link->stats : NULL;
}
