/* SPDX-License-Identifier: BSD-3-Clause
 * Where an artifact is loaded to: a memfd on huge pages or normal ones, mapped while it is filled,
 * then sealed for good.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct target_memfd {
	int fd;       /* writable, for filling; closed before the artifact is handed over */
	int readonly; /* second description of the same memfd: what the others get */
};

struct target {
	struct target_memfd huge, plain;
	int huge_error; /* errno of the huge memfd, 0 = it exists */
	int meminfo;    /* /proc/meminfo, opened while opening was allowed */
	struct target_memfd *chosen;
	bool is_huge;
	void *map;
	size_t map_bytes;
};

/* Create both memfds, empty, and their read-only descriptions. Must run before the sandbox closes:
 * re-opening needs open(2). 0 or -errno with err. */
int target_init(struct target *t, struct error *err);
void target_uninit(struct target *t);

/* Give it `bytes` of zeroed memory at t->map, on huge pages when wanted and free; otherwise `why` (of
 * `n` bytes) gets the reason and normal pages are used. Refuses (-ENOMEM with err) what does not fit
 * into the memory that is available now. */
int target_map(struct target *t, uint64_t bytes, bool want_huge, char *why, size_t n,
	struct error *err);

/* Unmap, seal against writing and resizing, close the writable description. On success the returned
 * read-only fd is still owned by `t`. -errno with err. */
int target_seal(struct target *t, struct error *err);
