/* SPDX-License-Identifier: BSD-3-Clause
 * Any bytes as an artifact: refused, or opened and run within its bounds. The input is the header
 * and program, up to where the weights would begin; weights of zeros follow as the header says.
 */
#include <stdlib.h>
#include <string.h>

#include "models/run/model_private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { BODY_MAX_BYTES = 8 * MODEL_FILE_CHUNK };

/* Elements of all operands multiplied: no function visits more. */
static uint64_t tensor_work(const struct tensor_op *op)
{
	uint64_t n = tensor_elements(&op->out[0]);

	if (op->function == MODEL_FN_TREES) /* every walk through all nodes and all leaves' entries */
		return n * tensor_elements(&op->in[2]) *
		       (tensor_elements(&op->in[1]) +
			       (op->in[5].dtype ? tensor_elements(&op->in[5]) : 0));
	for (uint32_t k = 0; k < op->n_in && n < 1u << 31; k++)
		n *= op->in[k].dtype ? tensor_elements(&op->in[k]) : 1;
	if (op->function == MODEL_FN_POOL)
		n *= (uint64_t)(op->i[17] < 64 ? 1 : 64);
	return n;
}

static uint64_t work(const struct model *m)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < m->program.n_ops; i++) {
		const struct model_op *op = &m->steps[i].op;

		if (op->kind == MODEL_OP_TENSOR) {
			sum += tensor_work(&m->steps[i].tensor->op);
			continue;
		}
		sum += (uint64_t)m->buffers[op->dst].elements *
		       (op->kind == MODEL_OP_DENSE ? op->k : 1);
	}
	return sum;
}

static void run_rows(const struct model *m)
{
	const struct model_file_header *h = model_header(m);
	size_t bytes = (run_bytes(m, 2) + 63) / 64 * 64;
	uint8_t *memory, *in, *out;

	if (bytes > 1 << 20 || work(m) > 1 << 20)
		return;
	memory = aligned_alloc(64, bytes);
	in = calloc(2, h->row_in_bytes);
	out = calloc(2, h->row_out_bytes);
	if (memory && in && out) {
		const void *rows[2] = {in, in + h->row_in_bytes};
		void *outs[2] = {out, out + h->row_out_bytes};
		struct run *r = run_init(memory, m, 2);

		run_start(r, 2, rows, outs);
		while (!run_step(r, 0))
			;
	}
	free(memory);
	free(in);
	free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct model_file_header h;
	struct model *m;
	struct error err;
	size_t bytes = size;
	void *image;

	if (size >= sizeof(h)) {
		memcpy(&h, data, sizeof(h));
		if (h.body_bytes >= size && h.body_bytes <= BODY_MAX_BYTES)
			bytes = h.body_bytes;
	}
	if (posix_memalign(&image, MODEL_FILE_PAGE, bytes ? bytes : 1)) /* exactly that long */
		return 0;
	memset(image, 0, bytes);
	memcpy(image, data, size);
	if (!model_open(&m, image, bytes, MODEL_BACKEND_AUTO, &err)) {
		run_rows(m);
		model_close(m);
	}
	free(image);
	return 0;
}
