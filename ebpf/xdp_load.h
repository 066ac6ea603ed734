/* SPDX-License-Identifier: BSD-3-Clause
 * Control's side of the XDP program: the pinned maps, and what is attached to an interface.
 *
 * Control creates and pins the maps; the AF_XDP driver of the dataplane loads the program and is its
 * only attacher. Maps outlive both processes; they end with the bpffs (the private mount namespace).
 *
 * One thread at a time per struct; every function returns 0 or -errno and says in `err` (may be
 * NULL where allowed) what to do about it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "abi/xdp_maps.h"
#include "base/error.h"

struct xdp_maps {
	int limits;   /* fd of XDP_MAP_LIMITS: offer it as LINK_FD_LIMITS, map it with limit_table_map() */
	int sessions; /* fd of XDP_MAP_SESSIONS */
	int params;   /* fd of XDP_MAP_PARAMS */
	int counters; /* fd of XDP_MAP_COUNTERS */
	int flood;    /* fd of XDP_MAP_FLOOD */
	int box;      /* fd of XDP_MAP_BOX */
	int n_cpus;   /* possible CPUs: width of a per-CPU value */
};

/* Open the pinned maps under `bpffs_dir`, creating and pinning those that are missing. The
 * directory must be a mounted bpffs (the caller's business). A pinned map of another shape is refused
 * by name: -EEXIST; it belongs to another version of Millrace. No BPF here: -EPERM or -ENOSYS.
 * All or nothing; maps created by a call that fails are unpinned again. */
int xdp_maps_open(struct xdp_maps *m, const char *bpffs_dir, struct error *err);

/* Close the descriptors; the pinned maps stay. A struct that failed to open may be closed too. */
void xdp_maps_close(struct xdp_maps *m);

/* Remove the pins: for tests and for uninstalling. 0 or the first -errno; absent pins are no error. */
int xdp_maps_unpin(const char *bpffs_dir);

/* Insert or replace, and remove, the entry of `key_id`. -E2BIG when XDP_MAX_SESSIONS are in use,
 * -ENOENT when there is nothing to remove. A packet in flight may still be judged by the old entry. */
int xdp_session_set(const struct xdp_maps *m, uint32_t key_id, const struct xdp_session *s);
int xdp_session_remove(const struct xdp_maps *m, uint32_t key_id);

/* Remove every session: after control lost its state. Returns how many, or -errno. */
int xdp_sessions_clear(const struct xdp_maps *m);

/* Replace the parameters; XDP obeys from its next packet on. -EINVAL for an unknown route or port 0. */
int xdp_params_set(const struct xdp_maps *m, const struct xdp_params *p);
int xdp_params_get(const struct xdp_maps *m, struct xdp_params *p);

/* out[i] = counter i summed over all CPUs. Counters only grow, as long as the map lives. */
int xdp_counters_read(const struct xdp_maps *m, uint64_t out[XDP_COUNTERS]);

/* One source in the penalty box. */
struct xdp_boxed {
	struct ip_addr source;
	uint64_t left_ns; /* of its term */
	uint64_t packets; /* strays dropped in this term */
};

/* Sources whose term runs at `now_ns`, at most `max`, those with most packets first. Returns how many, or
 * -errno. The box changes while it is read: a source may be missed. */
int xdp_box_read(const struct xdp_maps *m, uint64_t now_ns, struct xdp_boxed *out, uint32_t max);

/* What hangs on an interface. Values of `mode` are those of stats_port.xdp_mode. */
enum xdp_mode { XDP_MODE_NONE = 0, XDP_MODE_NATIVE = 1, XDP_MODE_GENERIC = 2, XDP_MODE_HARDWARE = 3,
	XDP_MODE_UNKNOWN = 4 };

struct xdp_attached {
	uint32_t mode; /* enum xdp_mode */
	uint32_t program_id;
	char program_name[16];
	bool ours; /* the name begins with XDP_PROGRAM_NAME */
};

/* Look at `interface`. -ENODEV when there is none of this name. */
int xdp_attached(const char *interface, struct xdp_attached *out, struct error *err);

/* Detach our own program that a crashed dataplane left behind. Returns 1 = detached, 0 = there was
 * none, -EBUSY = somebody else's program, which is named and left alone. The caller makes sure that no
 * dataplane of its own is running on the interface. */
int xdp_remove_stale(const char *interface, struct error *err);
