/* SPDX-License-Identifier: BSD-3-Clause
 * The engine: a verified artifact in memory, and runs of it. No allocation, no locks and no system
 * call after run_init(); a model is shared read-only by any number of threads, a run belongs to
 * one.
 *
 * Use: model_open() the mapped artifact -> allocate run_bytes() per worker -> run_init() ->
 * for each batch run_start(), then run_step() until it returns 1.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "abi/model_file.h"
#include "base/error.h"

struct model; /* read-only view of an artifact: no copy of the weights */
struct run;   /* one executor: activations, cursor, per-request state */

enum model_backend {
	MODEL_BACKEND_AUTO,
	MODEL_BACKEND_NATIVE,
	MODEL_BACKEND_OPENBLAS,
	MODEL_BACKEND_SCALAR
};

/* Check the header, every section and the whole program against `size`, and build the view.
 * `image` (the artifact, 64-byte aligned, at least the body) must outlive the model and never
 * change. Refuses by name: -EINVAL with err->text naming field, value and limit; -ENOMEM. Does not
 * hash: that is the loader's work. On success *out is freed with model_close(). */
int model_open(struct model **out, const void *image, size_t size, enum model_backend backend,
	struct error *err);
void model_close(struct model *m); /* NULL is allowed */

/* The artifact's header page: name, version, inputs, outputs, row sizes, cost. Never NULL. */
const struct model_file_header *model_header(const struct model *m);

/* Kernel backend in use, for people: "openblas Haswell", "native avx512", ... */
const char *model_backend_name(const struct model *m);

/* Bytes one run needs for batches of up to `max_rows` (<= header max_rows). */
size_t run_bytes(const struct model *m, uint32_t max_rows);

/* Place a run of `m` in `memory` (run_bytes(m, max_rows), 64-byte aligned, caller-owned). */
struct run *run_init(void *memory, const struct model *m, uint32_t max_rows);

/* Begin one batch. rows[i] points to row i as it stands in the request (row_in_bytes, any
 * alignment); outs[i] to where its answer goes (row_out_bytes). All must stay valid until
 * run_step() has returned 1. 1 <= n <= max_rows. The pointers arrays are copied. */
void run_start(struct run *r, uint32_t n, const void *const rows[], void *const outs[]);

/* Work until done or until the TSC passes deadline_tsc (checked between operators, and after every
 * 32 rows inside one; UINT64_MAX = run to the end). Returns 1 when all outputs are written, 0 when
 * there is more to do. */
int run_step(struct run *r, uint64_t deadline_tsc);
