/* SPDX-License-Identifier: BSD-3-Clause
 * The compiler as a library: an ONNX model in memory becomes an artifact in memory.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "models/run/model.h"

/* The value of a graph input known when compiling: it becomes a constant. */
struct compile_binding {
	char name[256];
	uint32_t dtype; /* enum wire_dtype */
	uint32_t rank;
	uint64_t dims[8];
	const void *data; /* the caller's, until compiling is done */
};

/* How dense layers of more than a panel's outputs store their weights (abi/model_file.h). */
enum compile_precision { COMPILE_F32, COMPILE_BF16, COMPILE_INT8 };

const char *compile_precision_name(enum compile_precision precision); /* "f32", "bf16", "int8" */

/* What measuring found out about a dense layer. */
struct compile_layer {
	bool openblas;   /* store it row-major: OpenBLAS is faster here */
	float low, high; /* INT8: range of its inputs; equal: every row's own */
};

struct compile_options {
	const char *name;  /* [A-Za-z0-9._-], at most 63 bytes, begins with a letter or digit */
	uint32_t version;  /* >= 1 */
	uint32_t max_rows; /* 1..MODEL_FILE_MAX_ROWS */
	uint32_t cost;     /* limiter units per row, >= 1 */
	enum model_backend backend; /* OPENBLAS: layers stored row-major; else panels */
	enum compile_precision precision;
	const struct compile_layer *layers; /* of all dense layers in plan order, or NULL */
	uint32_t n_layers;
	const char *tuned; /* the host the layers were measured on, for the metadata; or NULL */
	const struct compile_binding *bindings;
	uint32_t n_bindings;
	bool allow_constant; /* accept a graph without inputs (no loader takes its artifact) */
	char *needs; /* NULL, or 256 bytes: after a refusal the input that has to be bound, or "" */
};

struct artifact {
	uint8_t *bytes; /* page-aligned, free() */
	size_t size;
};

/* Same input and options → same bytes, on every machine. Unsigned. On success out->bytes is the
 * caller's. Refusals name their cause: -EINVAL malformed, -ENOTSUP not supported, -E2BIG/-EFBIG
 * over a limit, -ENOMEM. Control characters from the model are replaced in err->text. */
int compile_onnx_buffer(const void *onnx, size_t bytes, const struct compile_options *options,
	struct artifact *out, struct error *err);
