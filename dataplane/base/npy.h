/* SPDX-License-Identifier: BSD-3-Clause
 * NumPy .npy files (format 1.0, 2.0 and 3.0), little-endian in C order: parsed in memory, read as
 * floats, and the header of a new one.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum { NPY_MAX_RANK = 8, NPY_MAX_HEADER_BYTES = 65536 };

struct npy {
	uint32_t rank;
	uint64_t dims[NPY_MAX_RANK];
	uint64_t elements;
	uint32_t dtype;      /* enum wire_dtype; 0: a type that has none (f8, i2, u2, u4, u8) */
	char kind;           /* 'f', 'i', 'u', 'b', or 'V' (two raw bytes: bfloat16) */
	uint32_t item_bytes; /* 1, 2, 4, 8 */
	const void *data;    /* inside the file's bytes; may be unaligned */
};

/* Parse a whole file. Output points into `bytes`. Refusals (-EINVAL) name what was found. */
int npy_parse(const uint8_t *bytes, size_t size, struct npy *out, struct error *err);

/* Element i < elements as a number (large 64-bit integers are rounded). */
double npy_value(const struct npy *a, size_t i);

/* Header bytes for an array of this dtype and shape into `to`; returns their number, 0 if `room` is
 * too small. A multiple of 64. */
size_t npy_header(uint32_t dtype, const uint64_t *dims, uint32_t rank, char *to, size_t room);

/* A file as rows of floats: the first dimension counts the rows, the others together are the columns. */
struct npy_floats {
	size_t rows;
	size_t columns; /* 1 for a one-dimensional array */
	float *values;  /* rows x columns; free with npy_floats_free() */
};

/* 0, or -errno with err naming the file; files over 1 GiB and empty arrays are refused. */
int npy_floats_read(struct npy_floats *out, const char *path, struct error *err);
void npy_floats_free(struct npy_floats *a);
