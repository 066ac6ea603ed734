/* SPDX-License-Identifier: BSD-3-Clause
 * Rows of .npy files as a model takes them, and what two models say to the same rows.
 */
#pragma once

#include "models/tool/tool.h"

struct tool_rows {
	uint8_t *bytes; /* n x row_in_bytes; free() */
	size_t n;
};

/* One file per input of `h`, in order: [rows][the input's dimensions], [rows][elements], or one row
 * without the leading dimension. */
int tool_rows_read(const char *const *paths, uint32_t n_paths, const struct model_file_header *h,
	struct tool_rows *rows, struct error *err);

/* Print how far `m` is from `reference` on these rows: absolute and relative error of float32
 * outputs, and how often the largest element of the first output is the same one; with labels (a
 * vector of integers, one a row, or NULL) also how often either is right. -EINVAL when the models'
 * inputs or outputs differ. */
int tool_accuracy(const struct model *reference, const struct model *m,
	const struct tool_rows *rows, const char *labels, struct error *err);

/* Least and most of every dense layer's inputs over the rows, and 0, into layers[] (room for all of
 * m's dense layers). */
int tool_calibrate(const struct model *m, const struct tool_rows *rows,
	struct compile_layer *layers, struct error *err);
