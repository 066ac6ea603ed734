/* SPDX-License-Identifier: BSD-3-Clause
 * NumPy .npy files (format 1.0, 2.0 and 3.0), little-endian in C order, of the element types
 * that abi/wire.h has.
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
	uint32_t dtype;   /* enum wire_dtype */
	const void *data; /* inside the file's bytes; may be unaligned only if they are */
};

/* Parse a whole file. Output points into `bytes`. Refusals name what was found. */
int npy_parse(const uint8_t *bytes, size_t size, struct npy *out, struct error *err);

/* Header bytes for an array of this dtype and shape into `to`; returns their number, 0 if `room` is
 * too small. A multiple of 64. */
size_t npy_header(uint32_t dtype, const uint64_t *dims, uint32_t rank, char *to, size_t room);
