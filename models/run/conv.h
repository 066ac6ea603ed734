/* SPDX-License-Identifier: BSD-3-Clause
 * Kernels of convolution and pooling with channels last: what conv_last.c and pool_last.c drive,
 * one table per instruction set. All float32; weights and bias 64-byte aligned, the rest unaligned.
 *
 * A window is a list of segments of `run` contiguous floats, each by its distance from the window's
 * first float.
 *
 *   x: [image][y][x][channels]          3 x 3 window, dilation 1: 3 segments of 3 x channels floats
 *   at[p] -> | c0 c1 .. | c0 c1 .. | c0 c1 .. |   segment[0] = 0
 *            | c0 c1 .. | c0 c1 .. | c0 c1 .. |   segment[1] = a line of the image
 */
#pragma once

#include "models/run/kernels.h"

/* Output pixels [0, pixels): y[p][o] = clamp(bias[o] + window(at[p]) . w[..][o] + add[p][o]). */
struct conv_block {
	const float *x;
	const size_t *at; /* per pixel: its window's first float, counted from x */
	size_t pixels;
	const size_t *segment;
	size_t segments, run;
	const float *w; /* dense: panels [out/16][segments x run][16]; depthwise: [segments][out/16
			   x 16] */
	const float *bias; /* NULL, or `out` floats padded to a multiple of 16 */
	const float *add;  /* NULL, or laid out as y */
	float *y;
	size_t y_step;   /* floats between pixels, of add as well */
	size_t out;      /* channels */
	float low, high; /* -inf, inf: no clamp. NaN passes */
};

/* Output pixels (i, j, k), n[0] x n[1] x n[2] of them, whose windows have one shape: per channel
 * the largest, or scale x sum, over the window whose first pixel is x + i x_step[0] + j x_step[1] +
 * k x_step[2]; to y likewise. A segment is one pixel. An empty window is -inf or 0. */
struct pool_block {
	const float *x;
	float *y;
	size_t n[3], x_step[3], y_step[3], channels;
	const size_t *segment;
	size_t segments;
	bool average;
	float scale;
};

struct conv_kernels {
	void (*dense)(const struct conv_block *b);
	void (*depthwise)(const struct conv_block *b); /* a segment is a pixel: `run` is not read */
	void (*pool)(const struct pool_block *b);
};

static inline const struct conv_kernels *conv_kernels_of(const struct kernels *k)
{
	return k->conv ? k->conv : kernels_native()->conv;
}

extern const struct conv_kernels conv_scalar; /* the reference: double sums */
extern const struct conv_kernels conv_avx2;   /* only where struct kernels points at them */
extern const struct conv_kernels conv_avx512;
