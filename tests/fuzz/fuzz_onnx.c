/* SPDX-License-Identifier: BSD-3-Clause
 * Any bytes as an ONNX model: compiled or refused. What compiles must open and answer one row.
 */
#include <stdlib.h>
#include <string.h>

#include "models/compile/compile.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void run_one_row(const struct model *m)
{
	const struct model_file_header *h = model_header(m);
	size_t bytes = (run_bytes(m, 1) + 63) / 64 * 64;
	void *memory, *in, *out;

	if (bytes > 1 << 20)
		return;
	memory = aligned_alloc(64, bytes);
	in = calloc(1, h->row_in_bytes);
	out = malloc(h->row_out_bytes);
	if (memory && in && out) {
		const void *rows[1] = {in};
		void *outs[1] = {out};
		struct run *r = run_init(memory, m, 1);

		run_start(r, 1, rows, outs);
		while (!run_step(r, 0))
			;
	}
	free(memory);
	free(in);
	free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct compile_options o = {.name = "fuzz",
		.version = 1,
		.max_rows = 1,
		.cost = 1,
		.backend = size & 1 ? MODEL_BACKEND_OPENBLAS : MODEL_BACKEND_AUTO};
	struct artifact a;
	struct model *m;
	struct error err;

	if (compile_onnx_buffer(data, size, &o, &a, &err))
		return 0;
	if (model_open(&m, a.bytes, a.size, MODEL_BACKEND_AUTO, &err))
		abort(); /* the compiler wrote what the engine refuses */
	run_one_row(m);
	model_close(m);
	free(a.bytes);
	return 0;
}
