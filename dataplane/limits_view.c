/* SPDX-License-Identifier: BSD-3-Clause
 * Mapping of the limiter's slots: see limits_view.h.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "limits_view.h"

static int map_memfd(struct limits_view *v, int fd, struct error *err)
{
	void *map;
	int rc = fd_region_map(fd, true, false, &map, &v->bytes, err);

	if (rc)
		return error_prefix(err, "limits");
	v->slots = map;
	v->n = (uint32_t)(v->bytes / sizeof(struct limit_slot));
	v->memfd = true;
	return v->n ? 0 : error_set(err, -EINVAL, "the limits region holds no slot");
}

static int map_bpf(struct limits_view *v, int fd, struct error *err)
{
	struct bpf_map_info info = {0};
	uint32_t len = sizeof(info);
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	if (bpf_obj_get_info_by_fd(fd, &info, &len) < 0)
		return error_set(err, -errno, "limits: not a BPF map: %s", strerror(errno));
	if (info.type != BPF_MAP_TYPE_ARRAY || !(info.map_flags & BPF_F_MMAPABLE) ||
		info.value_size != sizeof(struct limit_slot) || !info.max_entries)
		return error_set(err, -EINVAL,
			"limits map %s: type %u, flags %#x, value size %u; expected a mmap-able "
			"array of %zu-byte slots",
			info.name, info.type, info.map_flags, info.value_size,
			sizeof(struct limit_slot));
	v->n = info.max_entries;
	v->bytes = ((size_t)v->n * sizeof(struct limit_slot) + page - 1) & ~(page - 1);
	v->slots = mmap(NULL, v->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (v->slots == MAP_FAILED) {
		v->slots = NULL;
		return error_set(err, -errno, "mapping the limits map: %s", strerror(errno));
	}
	return 0;
}

int limits_view_open(struct limits_view **out, int fd, bool fallback, struct error *err)
{
	struct limits_view *v = calloc(1, sizeof(*v));
	int rc;

	if (!v)
		return error_set(err, -ENOMEM, "out of memory");
	rc = fallback ? map_memfd(v, fd, err) : map_bpf(v, fd, err);
	if (rc) {
		limits_view_close(v);
		return rc;
	}
	failpoint("adopt.limits");
	*out = v;
	return 0;
}

void limits_view_close(struct limits_view *v)
{
	if (v && v->slots)
		munmap(v->slots, v->bytes);
	free(v);
}
