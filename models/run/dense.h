/* SPDX-License-Identifier: BSD-3-Clause
 * Dense layers inside the engine: what the vector families share, and their entry points.
 *
 * A step of a weight panel is 64 bytes: 16 columns of 32 bits, which hold one float32, a pair of
 * bfloat16 or four int8. What meets it is 32 bits of a row, broadcast. Rows of reduced layers are
 * converted first, DENSE_BLOCK_ROWS at a time, into struct dense's scratch:
 *
 *   BF16  rounded to bfloat16, to nearest even: as floats, or as pairs for vdpbf16ps
 *   INT8  x = scale (q - zero), q in 0..255; the range of a row (or of the calibration rows) always
 *         holds 0, so that padding and ReLU's zeros are exact. Sums are exact integers in every
 *         family, and what follows them is one float multiplication and one addition: families
 *         agree bit for bit.
 */
#pragma once

#include "models/run/kernels.h"

enum { DENSE_STEP_BYTES = 64 };

/* How one row was quantised. A row with a NaN (or, without a given range, an infinity) has a NaN
 * scale and answers NaN. */
struct dense_row {
	float scale, inverse;
	int32_t zero;
};

/* Steps of a panel: inputs in groups of 1 (float32), 2 (bfloat16), 4 (int8). */
static inline size_t dense_steps(uint32_t layout, size_t in)
{
	if (layout == MODEL_LAYOUT_PANELS_BF16)
		return (in + 1) / 2;
	return layout == MODEL_LAYOUT_PANELS_INT8 ? (in + 3) / 4 : in;
}

/* Distance between converted rows in scratch, bytes: whole 64-byte blocks. */
static inline size_t dense_row_bytes(uint32_t layout, size_t in)
{
	size_t bytes = layout == MODEL_LAYOUT_PANELS_INT8 ? in : in * sizeof(float);

	return (bytes + MODEL_FILE_ALIGN - 1) / MODEL_FILE_ALIGN * MODEL_FILE_ALIGN;
}

static inline size_t dense_panels_of(size_t out)
{
	return (out + MODEL_FILE_PANEL - 1) / MODEL_FILE_PANEL;
}

/* An INT8 layer's per-column tables stand behind its panels: scales, then sums of the weights. */
static inline const float *dense_scales(const struct dense *d)
{
	size_t panel = dense_steps(MODEL_LAYOUT_PANELS_INT8, d->in) * DENSE_STEP_BYTES;

	return (const float *)((const uint8_t *)d->w + dense_panels_of(d->out) * panel);
}

static inline const int32_t *dense_sums(const struct dense *d)
{
	return (const int32_t *)(dense_scales(d) + dense_panels_of(d->out) * MODEL_FILE_PANEL);
}

/* Behind DENSE_BLOCK_ROWS converted rows: how they were quantised; BF16: one panel in float32. */
static inline void *dense_behind_rows(const struct dense *d, uint32_t layout)
{
	return (uint8_t *)d->scratch + DENSE_BLOCK_ROWS * dense_row_bytes(layout, d->in);
}

/* One dense call, or one block of converted rows of it. */
struct tiles {
	const float *bias; /* or NULL */
	float *y;          /* row 0, column 0 */
	size_t out, rows;
	float floor;      /* ReLU, or none, is one max before the store; NaN passes */
	const uint8_t *x; /* rows as the kind wants them */
	size_t stride;    /* between them, bytes */
	const uint8_t *w; /* panel `first` */
	size_t steps;     /* of a panel */
	size_t first;
	const struct dense_row *q; /* INT8 */
	const int32_t *sums;
	const float *scales;
};

/* Scale and zero point for values from low to high. */
struct dense_row dense_row_from(float low, float high);

void dense_scalar_bf16(const struct dense *d);
void dense_scalar_int8(const struct dense *d);

/* kernel_avx2.c; AVX-512 families use these too. */
void dense_avx2_int8(const struct dense *d);
/* n values, zero-padded to whole 64-byte blocks. The first gives
 * floats, the second bfloat16 values one after the other. */
void dense_avx2_round_bf16(float *to, const float *x, size_t n);
void dense_avx2_pairs_bf16(uint16_t *to, const float *x, size_t n);
struct dense_row dense_avx2_quantise(const struct dense *d, uint8_t *to, const float *x);

void dense_vnni_int8(const struct dense *d); /* AVX512-VNNI */
void dense_dot_bf16(const struct dense *d);  /* AVX512-BF16 */
