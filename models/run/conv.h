/* SPDX-License-Identifier: BSD-3-Clause
 * Kernels of convolution and pooling with channels last: what conv_last.c and pool_last.c drive,
 * one table per instruction set. All float32; weights and bias 64-byte aligned, the rest unaligned.
 *
 * A window is up to count[0] x count[1] x count[2] segments of `run` contiguous floats; segment
 * (i, j, k) begins i x step[0] + j x step[1] + k x step[2] floats after the window's first.
 *
 *   x: [image][y][x][channels]          3 x 3 window, dilation 1: 3 segments of 3 x channels floats
 *   at[p] -> | c0 c1 .. | c0 c1 .. | c0 c1 .. |   step[0] = a line of the image
 *            | c0 c1 .. | c0 c1 .. | c0 c1 .. |
 */
#pragma once

#include "models/run/kernels.h"

struct window_shape {
	size_t count[3], step[3], run;
};

/* Output pixels [0, pixels): y[p][o] = clamp(bias[o] + window(at[p]) . w[..][o] + add[p][o]). */
struct conv_block {
	const float *x;
	const size_t *at; /* per pixel: its window's first float, counted from x */
	size_t pixels;
	const float
		*w; /* dense: panels [out/16][window floats][16]; depthwise: [taps][out/16 x 16] */
	const float *bias; /* NULL, or `out` floats padded to a multiple of 16 */
	const float *add;  /* NULL, or laid out as y */
	float *y;
	size_t y_step; /* floats between pixels, of add as well */
	size_t out;    /* channels */
	struct window_shape window;
	float low, high; /* -inf, inf: no clamp. NaN passes */
};

/* Output pixels [0, pixels): y[p][c] = largest, or scale x sum, over window(x + p x_step) at c.
 * `run` is not used: every segment is one float per channel. An empty window is -inf or 0. */
struct pool_block {
	const float *x;
	float *y;
	size_t pixels, x_step, channels;
	struct window_shape window;
	bool average;
	float scale;
};

struct conv_kernels {
	void (*dense)(const struct conv_block *b);
	void (*depthwise)(const struct conv_block *b); /* run = out: one channel in, one out */
	void (*pool)(const struct pool_block *b);
};

static inline const struct conv_kernels *conv_kernels_of(const struct kernels *k)
{
	return k->conv ? k->conv : kernels_native()->conv;
}

extern const struct conv_kernels conv_scalar; /* the reference: double sums */
extern const struct conv_kernels conv_avx2;   /* only where struct kernels points at them */
extern const struct conv_kernels conv_avx512;
