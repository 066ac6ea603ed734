/* SPDX-License-Identifier: BSD-3-Clause
 * Limiter slots and XDP maps on control's side: see limits_table.h.
 */
#include <errno.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "control/attach.h"
#include "control/config.h"
#include "control/limits_table.h"
#include "control/subscribers.h"
#include "ebpf/limit_table.h"
#include "ebpf/xdp_load.h"

struct limits_table {
	struct xdp_maps maps;
	struct limit_table table;
	bool have_maps;
	uint32_t slots; /* as configured, <= LIMITS_MAX_SLOTS */
};

static int check_bpffs(struct error *err)
{
	struct statfs fs;

	if (statfs(XDP_BPFFS_DIR, &fs) == 0 && fs.f_type == BPF_FS_MAGIC)
		return 0;
	return error_set(err, -ENODEV, "%s is not a bpffs: mkdir -p %s && mount -t bpf bpf %s",
		XDP_BPFFS_DIR, XDP_BPFFS_DIR, XDP_BPFFS_DIR);
}

static enum xdp_route neighbour_route(const struct config_port *p)
{
	return strcmp(p->neighbours, "kernel") ? XDP_TO_DATAPLANE : XDP_TO_KERNEL;
}

static enum xdp_route other_route(const struct config_port *p)
{
	return strcmp(p->other_traffic, "kernel") ? XDP_DISCARD : XDP_TO_KERNEL;
}

/* The parameters of the first af_xdp port; check_ports() made sure the others agree. */
static const struct config_port *xdp_port(const struct config *c)
{
	for (uint32_t i = 0; i < c->ports_count; i++)
		if (!strcmp(c->ports[i].kind, "af_xdp"))
			return &c->ports[i];
	return NULL;
}

static int check_ports(const struct config *c, struct error *err)
{
	const struct config_port *first = xdp_port(c);

	for (uint32_t i = 0; first && i < c->ports_count; i++) {
		const struct config_port *p = &c->ports[i];

		if (strcmp(p->kind, "af_xdp") == 0 && (p->udp_port != first->udp_port ||
			strcmp(p->neighbours, first->neighbours) ||
			strcmp(p->other_traffic, first->other_traffic)))
			return error_set(err, -EINVAL, "ports[%u]: udp_port, neighbours and "
				"other_traffic must be the same on all af_xdp ports", i);
	}
	return 0;
}

static int set_params(struct control *ctl, bool enabled, struct error *err)
{
	const struct config_port *p = xdp_port(ctl->config);
	struct xdp_params params = {.enabled = enabled};
	int rc;

	if (!p || !ctl->limits->have_maps)
		return 0;
	params.udp_port = p->udp_port;
	params.neighbour_route = neighbour_route(p);
	params.other_route = other_route(p);
	rc = xdp_params_set(&ctl->limits->maps, &params);
	return rc ? error_set(err, rc, "XDP parameters: %s", strerror(-rc)) : 0;
}

static int open_bpf(struct control *ctl, struct error *err)
{
	struct limits_table *l = ctl->limits;
	int rc = check_bpffs(err);

	if (!rc)
		rc = xdp_maps_open(&l->maps, XDP_BPFFS_DIR, err);
	if (rc)
		return rc;
	l->have_maps = true;
	rc = limit_table_map(&l->table, l->maps.limits, err);
	if (rc) {
		xdp_maps_close(&l->maps);
		l->have_maps = false;
	}
	return rc;
}

static int open_fallback(struct control *ctl, const struct error *why, struct error *err)
{
	if (strcmp(ctl->config->limits.bpf, "preferred") || xdp_port(ctl->config)) {
		*err = *why;
		return error_prefix(err, "limits need BPF");
	}
	log_warn("limits: BPF is not available (%s): limits live in shared memory, without XDP",
		why->text);
	return limit_table_memfd(&ctl->limits->table, err);
}

int limits_table_init(struct control *ctl, struct error *err)
{
	struct limits_table *l = calloc(1, sizeof(*l));
	struct error why = {0};
	int rc;

	if (!l)
		return error_set(err, -ENOMEM, "out of memory");
	ctl->limits = l;
	l->slots = ctl->config->limits.slots;
	rc = check_ports(ctl->config, err);
	if (rc)
		return rc;
	if (open_bpf(ctl, &why)) {
		rc = open_fallback(ctl, &why, err);
		if (rc)
			return rc;
	}
	/* A living dataplane keeps its packets: `enabled` stays as it is until the link knows better. */
	if (l->have_maps) {
		struct xdp_params now = {0};

		xdp_params_get(&l->maps, &now);
		rc = set_params(ctl, now.enabled, err);
	}
	return rc;
}

void limits_table_uninit(struct control *ctl)
{
	struct limits_table *l = ctl->limits;

	if (!l)
		return;
	limit_table_uninit(&l->table);
	if (l->have_maps)
		xdp_maps_close(&l->maps);
	free(l);
	ctl->limits = NULL;
}

void limits_table_enable(struct control *ctl, bool enabled)
{
	struct error err = {0};

	if (set_params(ctl, enabled, &err))
		log_error("%s", err.text);
}

/* The fallback's memfd of a dataplane that outlived the control before us: its charges go on. */
int limits_table_adopt(struct control *ctl, int fd, struct error *err)
{
	struct limits_table *l = ctl->limits;
	struct stat ours, theirs;
	void *map;
	size_t bytes;
	int rc;

	if (!l->table.is_memfd)
		return 0;
	if (fstat(fd, &theirs) == 0 && fstat(l->table.fd, &ours) == 0 &&
		ours.st_ino == theirs.st_ino)
		return 0;
	rc = fd_region_map(fd, true, false, &map, &bytes, err);
	if (rc)
		return rc;
	if (bytes != l->table.bytes) {
		rc = error_set(err, -EPROTO, "limits: %zu bytes offered, %zu expected", bytes,
			l->table.bytes);
		munmap(map, bytes);
		return rc;
	}
	fd = dup(fd);
	if (fd < 0)
		return error_set(err, -errno, "dup: %s", strerror(errno));
	limit_table_uninit(&l->table);
	l->table = (struct limit_table){.slots = map, .bytes = bytes, .fd = fd, .is_memfd = true};
	subscribers_apply_all(ctl);
	return 0;
}

int limits_table_fd(const struct control *ctl)
{
	return ctl->limits ? ctl->limits->table.fd : -1;
}

bool limits_table_is_memfd(const struct control *ctl)
{
	return ctl->limits && ctl->limits->table.is_memfd;
}

uint32_t limits_table_slots(const struct control *ctl)
{
	return ctl->limits ? ctl->limits->slots : 0;
}

struct limit_slot *limits_table_slot(const struct control *ctl, uint32_t index)
{
	if (!ctl->limits || !ctl->limits->table.slots || index >= LIMITS_MAX_SLOTS)
		return NULL;
	return &ctl->limits->table.slots[index];
}

void limits_table_xdp_counters(const struct control *ctl, uint64_t out[XDP_COUNTERS])
{
	memset(out, 0, sizeof(out[0]) * XDP_COUNTERS);
	if (ctl->limits && ctl->limits->have_maps &&
		xdp_counters_read(&ctl->limits->maps, out))
		memset(out, 0, sizeof(out[0]) * XDP_COUNTERS);
}

uint32_t limits_table_boxed(const struct control *ctl, struct xdp_boxed *out, uint32_t max)
{
	int n = 0;

	if (ctl->limits && ctl->limits->have_maps)
		n = xdp_box_read(&ctl->limits->maps, clock_now_ns(), out, max);
	return n > 0 ? (uint32_t)n : 0;
}

int limits_table_session_add(struct control *ctl, uint32_t key_id, const struct xdp_session *s)
{
	if (!ctl->limits || !ctl->limits->have_maps)
		return 0;
	return xdp_session_set(&ctl->limits->maps, key_id, s);
}

int limits_table_session_remove(struct control *ctl, uint32_t key_id)
{
	if (!ctl->limits || !ctl->limits->have_maps)
		return 0;
	return xdp_session_remove(&ctl->limits->maps, key_id);
}

void limits_table_sessions_clear(struct control *ctl)
{
	int n = ctl->limits && ctl->limits->have_maps ? xdp_sessions_clear(&ctl->limits->maps) : 0;

	if (n > 0)
		log_info("removed %d sessions of an earlier run from the XDP map", n);
}

void limits_table_remove_stale_xdp(struct control *ctl)
{
	for (uint32_t i = 0; i < ctl->config->ports_count; i++) {
		const struct config_port *p = &ctl->config->ports[i];
		struct error err = {0};
		int rc;

		if (strcmp(p->kind, "af_xdp"))
			continue;
		rc = xdp_remove_stale(p->device, &err);
		if (rc > 0)
			log_info("removed our stale XDP program from %s", p->device);
		else if (rc < 0)
			log_error("%s: %s", p->device, err.text);
	}
}
