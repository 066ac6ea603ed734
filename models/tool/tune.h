/* SPDX-License-Identifier: BSD-3-Clause
 * Which dense layers OpenBLAS computes faster than the native kernels on this host.
 */
#pragma once

#include "models/tool/tool.h"

enum { TUNE_BUCKETS = 4 };

extern const uint32_t tune_batches[TUNE_BUCKETS]; /* 1, 8, 32, 128 */

/* Nanoseconds a batch of one dense layer. */
struct tune_layer {
	double native[TUNE_BUCKETS], openblas[TUNE_BUCKETS];
};

struct tune {
	char host[128]; /* CPU model and OpenBLAS core */
	uint32_t n;
	struct tune_layer *layers; /* in plan order; free() */
	bool cached;
};

/* Measure every dense layer of `m`, whose artifact id is `id`, in a child of the lowest priority
 * (SCHED_IDLE, nice 19) on none of the CPUs in `avoid` ("1,2", or NULL); or take what an earlier
 * call found on this CPU model with this OpenBLAS: one file a model in
 * $XDG_CACHE_HOME/millrace/tune
 * (~/.cache). The cache is only a cache: what cannot be read or written is measured again. */
int tune_model(const struct model *m, const uint8_t id[MODEL_FILE_HASH_BYTES], const char *avoid,
	struct tune *out, struct error *err);

/* OpenBLAS wins a layer when it is faster by 3 % in the geometric mean of the batches. */
bool tune_prefers_openblas(const struct tune_layer *l);
