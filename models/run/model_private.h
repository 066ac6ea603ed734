/* SPDX-License-Identifier: BSD-3-Clause
 * What model_open() builds and run.c walks: private, checked copies of the artifact's tables.
 */
#pragma once

#include "models/run/kernels.h"
#include "models/run/model.h"

/* One operator, ready to run: the checked table row and everything that can be resolved early. */
struct step {
	struct model_op op;
	const struct kernels *kernels;
	const float *constant[2]; /* NULL: the operand is a buffer */
	const float *bias;
};

struct model {
	struct model_file_header header;
	struct model_program program;
	struct model_buffer *buffers;
	struct step *steps;
	const uint8_t *weights;
	uint64_t weights_cursor; /* while opening: end of the last constant */
	uint8_t *written;        /* while opening: buffer i holds this batch's data */
	char backend_name[64];
};

/* Check everything up to the weights' contents (header, tables, bounds) and fill `m`. */
int model_check(struct model *m, const void *image, size_t size, struct error *err);
