/* SPDX-License-Identifier: BSD-3-Clause
 * Reading NumPy .npy files (format 1.0 and 2.0) of one or two dimensions into floats.
 */
#pragma once

#include <stddef.h>

#include "base/error.h"

struct npy {
	size_t rows;
	size_t columns; /* 1 for a one-dimensional array */
	float *values;  /* rows x columns; free with npy_free() */
};

/* Element types f4, f8, i1..i8, u1..u4 little-endian, C order. 0, -errno with err naming the file. */
int npy_read(struct npy *out, const char *path, struct error *err);
void npy_free(struct npy *a);
