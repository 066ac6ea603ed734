/* SPDX-License-Identifier: BSD-3-Clause
 * The limiter's slots as the dataplane maps them: the pinned BPF array, or a memfd where BPF is not
 * available. Arithmetic in abi/limits.h.
 */
#pragma once

#include <stdbool.h>

#include "abi/limits.h"
#include "base/error.h"

struct limits_view {
	struct limit_slot *slots;
	uint32_t n;
	bool memfd; /* the fallback */
	size_t bytes;
};

/* Map the slots behind `fd` (not consumed): a memfd of whole slots when `fallback`, else a BPF
 * array map with BPF_F_MMAPABLE. 0 or -errno. Service thread. */
int limits_view_open(struct limits_view **out, int fd, bool fallback, struct error *err);
void limits_view_close(struct limits_view *v); /* NULL allowed */
