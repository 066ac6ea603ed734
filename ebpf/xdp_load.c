/* SPDX-License-Identifier: BSD-3-Clause
 * Pinned maps and attached programs: see xdp_load.h.
 */
#include <errno.h>
#include <linux/if_link.h>
#include <linux/magic.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "base/fd.h"
#include "ebpf/xdp_load.h"

enum { PATH_BYTES = 256 };

/* The shapes of abi/xdp_maps.h, once more in the terms of bpf(2); tests/ebpf compares them with
 * what the object declares. */
struct map_shape {
	const char *name;
	enum bpf_map_type type;
	uint32_t key_bytes, value_bytes, entries, flags;
};

enum { MAP_LIMITS, MAP_SESSIONS, MAP_PARAMS, MAP_COUNTERS, MAP_FLOOD, MAP_BOX, N_MAPS };

static const struct map_shape shapes[N_MAPS] = {
	[MAP_LIMITS] = {XDP_MAP_LIMITS, BPF_MAP_TYPE_ARRAY, 4, sizeof(struct limit_slot),
		XDP_LIMITS_SLOTS, BPF_F_MMAPABLE},
	[MAP_SESSIONS] = {XDP_MAP_SESSIONS, BPF_MAP_TYPE_HASH, 4, sizeof(struct xdp_session),
		XDP_MAX_SESSIONS, 0},
	[MAP_PARAMS] = {XDP_MAP_PARAMS, BPF_MAP_TYPE_ARRAY, 4, sizeof(struct xdp_params), 1,
		BPF_F_MMAPABLE},
	[MAP_COUNTERS] = {XDP_MAP_COUNTERS, BPF_MAP_TYPE_PERCPU_ARRAY, 4, sizeof(uint64_t),
		XDP_COUNTERS, 0},
	[MAP_FLOOD] = {XDP_MAP_FLOOD, BPF_MAP_TYPE_LRU_HASH, sizeof(struct ip_addr), sizeof(uint64_t),
		XDP_FLOOD_SOURCES, 0},
	[MAP_BOX] = {XDP_MAP_BOX, BPF_MAP_TYPE_LRU_HASH, sizeof(struct ip_addr),
		sizeof(struct shield_term), XDP_BOX_SOURCES, 0},
};

/* ---- maps ---- */

static int pin_path(char out[PATH_BYTES], const char *dir, const char *name, struct error *err)
{
	if (snprintf(out, PATH_BYTES, "%s/%s", dir, name) >= PATH_BYTES)
		return error_set(err, -ENAMETOOLONG, "bpffs path %s is too long", dir);
	return 0;
}

static int check_bpffs(const char *dir, struct error *err)
{
	struct statfs st;

	if (statfs(dir, &st) < 0)
		return error_set(err, -errno, "%s: %s", dir, strerror(errno));
	if ((unsigned long)st.f_type != BPF_FS_MAGIC)
		return error_set(err, -ENOTDIR, "%s is no bpffs; mount one: mount -t bpf bpf %s", dir,
			dir);
	return 0;
}

/* Refuse a pinned map that is not of our shape: it would be read at wrong offsets. */
static int check_shape(int fd, const struct map_shape *want, const char *path, struct error *err)
{
	struct bpf_map_info info = {0};
	uint32_t n = sizeof(info);

	if (bpf_obj_get_info_by_fd(fd, &info, &n) < 0)
		return error_set(err, -errno, "%s: %s", path, strerror(errno));
	if (info.type == want->type && info.key_size == want->key_bytes &&
		info.value_size == want->value_bytes && info.max_entries == want->entries &&
		info.map_flags == want->flags)
		return 0;
	return error_set(err, -EEXIST,
		"%s has another shape (type %u, key %u, value %u, %u entries, flags %#x; wanted %u, %u, "
		"%u, %u, %#x): it is another version's; stop that one, then remove the file",
		path, info.type, info.key_size, info.value_size, info.max_entries, info.map_flags,
		want->type, want->key_bytes, want->value_bytes, want->entries, want->flags);
}

static int create_map(const struct map_shape *s, const char *path, struct error *err)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = s->flags);
	int rc, fd = bpf_map_create(s->type, s->name, s->key_bytes, s->value_bytes, s->entries, &opts);

	if (fd < 0)
		return error_set(err, fd, "creating BPF map %s: %s%s", s->name, strerror(-fd),
			fd == -EPERM ? " (needs root or CAP_BPF and CAP_NET_ADMIN)" : "");
	rc = bpf_obj_pin(fd, path);
	if (!rc)
		return fd;
	close(fd);
	return error_set(err, rc, "pinning %s: %s", path, strerror(-rc));
}

/* Open or create one map. *created tells which. fd or -errno. */
static int open_map(const struct map_shape *s, const char *dir, bool *created, struct error *err)
{
	char path[PATH_BYTES];
	int fd, rc = pin_path(path, dir, s->name, err);

	*created = false;
	if (rc)
		return rc;
	fd = bpf_obj_get(path);
	if (fd == -ENOENT) {
		fd = create_map(s, path, err);
		*created = fd >= 0;
		return fd;
	}
	if (fd < 0)
		return error_set(err, fd, "opening %s: %s", path, strerror(-fd));
	rc = check_shape(fd, s, path, err);
	if (!rc)
		return fd;
	close(fd);
	return rc;
}

static void unpin(const char *dir, const char *name)
{
	char path[PATH_BYTES];

	if (pin_path(path, dir, name, NULL) == 0)
		unlink(path);
}

int xdp_maps_open(struct xdp_maps *m, const char *bpffs_dir, struct error *err)
{
	int fds[N_MAPS] = {-1, -1, -1, -1, -1, -1};
	bool created[N_MAPS] = {false};
	int rc;

	*m = (struct xdp_maps){-1, -1, -1, -1, -1, -1, libbpf_num_possible_cpus()};
	if (m->n_cpus < 0)
		return error_set(err, m->n_cpus, "counting CPUs: %s", strerror(-m->n_cpus));
	rc = check_bpffs(bpffs_dir, err);
	for (int i = 0; !rc && i < N_MAPS; i++) {
		fds[i] = open_map(&shapes[i], bpffs_dir, &created[i], err);
		if (fds[i] < 0)
			rc = fds[i];
	}
	if (!rc) {
		m->limits = fds[MAP_LIMITS];
		m->sessions = fds[MAP_SESSIONS];
		m->params = fds[MAP_PARAMS];
		m->counters = fds[MAP_COUNTERS];
		m->flood = fds[MAP_FLOOD];
		m->box = fds[MAP_BOX];
		return 0;
	}
	for (int i = 0; i < N_MAPS; i++) {
		if (created[i])
			unpin(bpffs_dir, shapes[i].name);
		fd_close(fds[i]);
	}
	return rc;
}

void xdp_maps_close(struct xdp_maps *m)
{
	fd_close(m->limits);
	fd_close(m->sessions);
	fd_close(m->params);
	fd_close(m->counters);
	fd_close(m->flood);
	fd_close(m->box);
	m->limits = m->sessions = m->params = m->counters = m->flood = m->box = -1;
}

int xdp_maps_unpin(const char *bpffs_dir)
{
	int rc = 0;

	for (int i = 0; i < N_MAPS; i++) {
		char path[PATH_BYTES];

		if (pin_path(path, bpffs_dir, shapes[i].name, NULL))
			return -ENAMETOOLONG;
		if (unlink(path) < 0 && errno != ENOENT && !rc)
			rc = -errno;
	}
	return rc;
}

int xdp_session_set(const struct xdp_maps *m, uint32_t key_id, const struct xdp_session *s)
{
	return bpf_map_update_elem(m->sessions, &key_id, s, BPF_ANY);
}

int xdp_session_remove(const struct xdp_maps *m, uint32_t key_id)
{
	return bpf_map_delete_elem(m->sessions, &key_id);
}

int xdp_sessions_clear(const struct xdp_maps *m)
{
	uint32_t key, next;
	int removed = 0;
	int more = bpf_map_get_next_key(m->sessions, NULL, &key);

	while (more == 0) {
		int rc;

		/* Ask before the key is gone, or the kernel starts over at the first bucket. */
		more = bpf_map_get_next_key(m->sessions, &key, &next);
		rc = bpf_map_delete_elem(m->sessions, &key);
		if (rc && rc != -ENOENT)
			return rc;
		removed += rc == 0;
		key = next;
	}
	return removed;
}

int xdp_params_set(const struct xdp_maps *m, const struct xdp_params *p)
{
	uint32_t zero = 0;

	if (p->udp_port == 0 || p->udp_port > UINT16_MAX || p->neighbour_route > XDP_DISCARD ||
		p->other_route > XDP_DISCARD)
		return -EINVAL;
	return bpf_map_update_elem(m->params, &zero, p, BPF_ANY);
}

int xdp_params_get(const struct xdp_maps *m, struct xdp_params *p)
{
	uint32_t zero = 0;

	return bpf_map_lookup_elem(m->params, &zero, p);
}

int xdp_counters_read(const struct xdp_maps *m, uint64_t out[XDP_COUNTERS])
{
	uint64_t *per_cpu = calloc((size_t)m->n_cpus, sizeof(*per_cpu));
	int rc = 0;

	if (!per_cpu)
		return -ENOMEM;
	for (uint32_t i = 0; !rc && i < XDP_COUNTERS; i++) {
		rc = bpf_map_lookup_elem(m->counters, &i, per_cpu);
		out[i] = 0;
		for (int cpu = 0; !rc && cpu < m->n_cpus; cpu++)
			out[i] += per_cpu[cpu];
	}
	free(per_cpu);
	return rc;
}

/* ---- penalty box ---- */

static int more_packets(const void *a, const void *b)
{
	uint64_t x = ((const struct xdp_boxed *)a)->packets, y = ((const struct xdp_boxed *)b)->packets;

	return (x < y) - (x > y);
}

/* Every running term into all[XDP_BOX_SOURCES]. The walk is bounded, because a key that goes away
 * meanwhile sends it back to the first bucket. */
static uint32_t collect_terms(const struct xdp_maps *m, uint64_t now_ns, struct xdp_boxed *all)
{
	struct ip_addr key, *previous = NULL;
	uint32_t n = 0;

	for (uint32_t seen = 0; seen < XDP_BOX_SOURCES; seen++) {
		struct shield_term term;

		if (bpf_map_get_next_key(m->box, previous, &key))
			break;
		previous = &key;
		if (bpf_map_lookup_elem(m->box, &key, &term) == 0 && shield_boxed(term.until_ns, now_ns))
			all[n++] = (struct xdp_boxed){key, term.until_ns - now_ns, term.packets};
	}
	return n;
}

int xdp_box_read(const struct xdp_maps *m, uint64_t now_ns, struct xdp_boxed *out, uint32_t max)
{
	struct xdp_boxed *all = calloc(XDP_BOX_SOURCES, sizeof(*all));
	uint32_t n;

	if (!all)
		return -ENOMEM;
	n = collect_terms(m, now_ns, all);
	qsort(all, n, sizeof(*all), more_packets);
	n = n < max ? n : max;
	memcpy(out, all, n * sizeof(*all));
	free(all);
	return (int)n;
}

/* ---- attached programs ---- */

static uint32_t mode_of(uint32_t attach_mode)
{
	switch (attach_mode) {
	case XDP_ATTACHED_NONE:
		return XDP_MODE_NONE;
	case XDP_ATTACHED_DRV:
		return XDP_MODE_NATIVE;
	case XDP_ATTACHED_SKB:
		return XDP_MODE_GENERIC;
	case XDP_ATTACHED_HW:
		return XDP_MODE_HARDWARE;
	default:
		return XDP_MODE_UNKNOWN; /* XDP_ATTACHED_MULTI: several at once */
	}
}

/* Flags that detach a program of this mode. */
static uint32_t detach_flags(uint32_t mode)
{
	switch (mode) {
	case XDP_MODE_NATIVE:
		return XDP_FLAGS_DRV_MODE;
	case XDP_MODE_GENERIC:
		return XDP_FLAGS_SKB_MODE;
	case XDP_MODE_HARDWARE:
		return XDP_FLAGS_HW_MODE;
	default:
		return 0;
	}
}

static int name_program(struct xdp_attached *out, const char *interface, struct error *err)
{
	struct bpf_prog_info info = {0};
	uint32_t n = sizeof(info);
	int rc, fd = bpf_prog_get_fd_by_id(out->program_id);

	if (fd < 0)
		return error_set(err, fd, "XDP program %u on %s: %s", out->program_id, interface,
			strerror(-fd));
	rc = bpf_obj_get_info_by_fd(fd, &info, &n);
	close(fd);
	if (rc)
		return error_set(err, rc, "XDP program %u on %s: %s", out->program_id, interface,
			strerror(-rc));
	memcpy(out->program_name, info.name, sizeof(out->program_name));
	out->program_name[sizeof(out->program_name) - 1] = '\0';
	out->ours = strncmp(out->program_name, XDP_PROGRAM_NAME, strlen(XDP_PROGRAM_NAME)) == 0;
	return 0;
}

int xdp_attached(const char *interface, struct xdp_attached *out, struct error *err)
{
	LIBBPF_OPTS(bpf_xdp_query_opts, q);
	int index = (int)if_nametoindex(interface);
	int rc;

	memset(out, 0, sizeof(*out));
	if (!index)
		return error_set(err, -ENODEV, "no interface %s", interface);
	rc = bpf_xdp_query(index, 0, &q);
	if (rc)
		return error_set(err, rc, "asking %s for its XDP program: %s", interface,
			strerror(-rc));
	out->mode = mode_of(q.attach_mode);
	out->program_id = q.prog_id;
	if (out->mode == XDP_MODE_NONE || out->mode == XDP_MODE_UNKNOWN)
		return 0;
	return name_program(out, interface, err);
}

int xdp_remove_stale(const char *interface, struct error *err)
{
	LIBBPF_OPTS(bpf_xdp_attach_opts, opts);
	struct xdp_attached a;
	int rc = xdp_attached(interface, &a, err);

	if (rc)
		return rc;
	if (a.mode == XDP_MODE_NONE)
		return 0;
	if (!a.ours)
		return error_set(err, -EBUSY,
			"%s carries XDP program '%s' (id %u), which is not ours; remove it first: "
			"ip link set dev %s xdp off",
			interface, a.program_name, a.program_id, interface);
	/* Name the program we looked at: one attached in between is not touched. */
	opts.old_prog_fd = bpf_prog_get_fd_by_id(a.program_id);
	if (opts.old_prog_fd < 0)
		return opts.old_prog_fd == -ENOENT ? 0 : opts.old_prog_fd;
	rc = bpf_xdp_detach((int)if_nametoindex(interface), detach_flags(a.mode), &opts);
	close(opts.old_prog_fd);
	if (rc)
		return error_set(err, rc, "detaching our XDP program from %s: %s", interface,
			strerror(-rc));
	return 1;
}
