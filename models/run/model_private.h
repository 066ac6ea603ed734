/* SPDX-License-Identifier: BSD-3-Clause
 * What model_open() builds and run.c walks: private, checked copies of the artifact's tables.
 */
#pragma once

#include "models/run/kernels.h"
#include "models/run/model.h"
#include "models/run/tensor.h"

/* One operator, ready to run: the checked table row and everything that can be resolved early. */
struct step {
	struct model_op op;
	const struct kernels *kernels;
	const void *weights; /* DENSE */
	const float *bias;
	const struct tensor_step *tensor; /* TENSOR: everything about it */
};

/* One general operator, checked. */
struct tensor_step {
	struct tensor_op op;
	uint32_t in[TENSOR_MAX_IN], out[TENSOR_MAX_OUT]; /* buffers, or MODEL_NONE */
	const void *constant[TENSOR_MAX_IN];             /* NULL: a buffer, or absent */
};

struct model {
	struct model_file_header header;
	struct model_program program;
	struct model_buffer *buffers;
	struct step *steps;
	struct tensor_step *tensors;
	const uint8_t *weights;
	uint64_t weights_cursor;               /* while opening: end of the last constant */
	const struct model_tensor_op *records; /* while opening: a private copy */
	uint32_t n_tensors;                    /* while opening: records seen so far */
	uint8_t *written;                      /* while opening: buffer i holds this batch's data */
	char backend_name[64];
};

/* For people: "panels", "row-major", ...; "" for no layout. */
const char *model_layout_name(uint32_t layout);

/* For measuring: the next part of the batch that was begun, over all rows of a block: the gather,
 * each operator, the scatter, and the same for the next block. False after the last. */
bool run_part(struct run *r);

/* Rows of a block: those a run has in its buffers at once. */
uint32_t run_block(const struct run *r);

/* Check everything up to the weights' contents (header, tables, bounds) and fill `m`. */
int model_check(struct model *m, const void *image, size_t size, struct error *err);

/* check.c and check_tensor.c: one constant at its only legal place; moves m->weights_cursor. */
int check_constant(struct model *m, uint32_t i, const char *what, uint64_t offset, uint64_t bytes,
	uint64_t expected, struct error *err);

/* Operator i, of kind TENSOR: its record in full. */
int check_tensor(struct model *m, uint32_t i, struct error *err);

/* What a run has in a buffer, between two steps: rows one after the other. */
const void *run_buffer(const struct run *r, uint32_t index);
