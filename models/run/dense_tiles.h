/* SPDX-License-Identifier: BSD-3-Clause
 * Dense layers in register tiles of R rows x C panels: one text for every vector width and weight
 * type. A family's file (dense_avx2.c, dense_avx512.c, dense_dot512.c) defines `vec`, LANES and the
 * operations on it, the list TILES and the shapes it prefers, and includes this. Per step, C
 * panels' vectors are loaded once and meet R broadcast words: a tile of 8 x 3 does 24 FMAs for 11
 * loads.
 *
 *            panel p   p+1   p+2            acc[r][c] += x[r][k] * w[p + c][k][0..15]
 *   row r    [acc]    [acc]  [acc]
 *   ...                                     panels outside, rows inside: a weight panel is read
 *   row r+7  [acc]    [acc]  [acc]          from memory once and from L1 or L2 for every further
 * tile
 */
#include "base/prefetch.h"
#include "models/run/dense.h"

enum { PANEL = MODEL_FILE_PANEL, VECS = PANEL / LANES, FAR_BYTES = 1 << 20, AHEAD_BYTES = 2048 };

/* The weights' type. BF16 rows are floats; BF16_DOT rows are pairs. */
enum dense_kind { KIND_F32, KIND_BF16, KIND_BF16_DOT, KIND_INT8 };

INLINE vec tile_start(const struct tiles *t, const enum dense_kind kind, size_t row, size_t col)
{
	if (kind == KIND_INT8)
		return vec_zero_point(t->sums + col, -t->q[row].zero);
	return t->bias ? vec_load(t->bias + col) : vec_set1(0);
}

/* INT8: (float)sum x (row's scale x column's scale) + bias, each rounded once. */
INLINE vec tile_finish(
	const struct tiles *t, const enum dense_kind kind, size_t row, size_t col, vec sum)
{
	if (kind != KIND_INT8)
		return sum;
	sum = vec_mul(
		vec_from_int(sum), vec_mul(vec_set1(t->q[row].scale), vec_load(t->scales + col)));
	return t->bias ? vec_add(sum, vec_load(t->bias + col)) : sum;
}

/* Whole tiles store without masks. */
INLINE void tile_store(const struct tiles *t, const enum dense_kind kind, size_t row, size_t panel,
	const vec *acc, const int R, const int C, const int S)
{
	const vec floor = vec_set1(t->floor);
	const size_t out = t->out, left = out - panel * PANEL;
	const bool whole = left >= (size_t)C * PANEL;
	float *y = t->y + row * out + panel * PANEL;

#pragma GCC unroll 32
	for (int i = 0; i < R * C * VECS; i++) {
		size_t r = i / (C * VECS), col = i % (C * VECS) * LANES;
		vec v = tile_finish(t, kind, row + r, panel * PANEL + col, acc[i * S]);

		v = vec_max(floor, v);
		if (whole)
			vec_store(y + r * out + col, v, LANES);
		else if (col < left)
			vec_store(y + r * out + col, v, left - col);
	}
}

/* Vector c of a step of the weights. BF16 does its pair's halves one after the other: the lower
 * half of a word shifted up is a float32, and so is the upper half with the lower one cleared. */
INLINE vec step_weights(const enum dense_kind kind, const uint8_t *w, size_t panel, int c, int half)
{
	vec v = vec_load((const float *)(w + c / VECS * panel) + c % VECS * LANES);

	if (kind != KIND_BF16)
		return v;
	return half ? vec_upper(v) : vec_lower(v);
}

/* One step of all rows and vectors; what there is less of stays in registers. */
INLINE void tile_step(const enum dense_kind kind, vec *acc, const uint8_t *x, size_t stride,
	const uint8_t *w, size_t panel, const int R, const int C, const int S)
{
	const int halves = kind == KIND_BF16 ? 2 : 1, N = C * VECS;
	vec held[MAX_CHAINS];

#pragma GCC unroll 2
	for (int h = 0; h < halves; h++) {
#pragma GCC unroll 8
		for (int i = 0; i < (R < N ? R : N); i++)
			held[i] = R < N ? vec_set1(((const float *)(x + i * stride))[h])
					: step_weights(kind, w, panel, i, h);
#pragma GCC unroll 8
		for (int i = 0; i < (R < N ? N : R); i++) {
			vec v = R < N ? step_weights(kind, w, panel, i, h)
				      : vec_set1(((const float *)(x + i * stride))[h]);

#pragma GCC unroll 8
			for (int j = 0; j < (R < N ? R : N); j++) {
				vec *to = &acc[(R < N ? j * N + i : i * N + j) * S];

				*to = vec_multiply(
					kind, *to, R < N ? held[j] : v, R < N ? v : held[j]);
			}
		}
	}
}

/* The weights that come AHEAD_BYTES after the next S steps'. */
INLINE void fetch_ahead(const uint8_t *w, size_t panel, const int C, const int S)
{
#pragma GCC unroll 4
	for (int c = 0; c < C; c++)
		prefetch_lines(w + c * panel + AHEAD_BYTES, S * DENSE_STEP_BYTES);
}

/* R, C and S are constants at every call: the loops over them become straight-line code. S > 1
 * splits the steps so that enough chains hide the latency of tiles of one row. */
INLINE void tile(const struct tiles *t, const enum dense_kind kind, size_t row, size_t panel,
	const int R, const int C, const int S, const bool far)
{
	const size_t panel_bytes = t->steps * DENSE_STEP_BYTES, stride = t->stride;
	const size_t word = kind == KIND_BF16 ? 8 : 4, steps = t->steps;
	const uint8_t *x = t->x + row * stride, *w = t->w + (panel - t->first) * panel_bytes;
	vec acc[MAX_CHAINS];
	size_t k = 0;

#pragma GCC unroll 32
	for (int i = 0; i < R * C * VECS; i++) {
		acc[i * S] = tile_start(
			t, kind, row + i / (C * VECS), panel * PANEL + i % (C * VECS) * LANES);
#pragma GCC unroll 8
		for (int s = 1; s < S; s++)
			acc[i * S + s] = vec_set1(0);
	}
	for (; k + S <= steps; k += S) {
		if (far)
			fetch_ahead(w + k * DENSE_STEP_BYTES, panel_bytes, C, S);
#pragma GCC unroll 8
		for (int s = 0; s < S; s++)
			tile_step(kind, acc + s, x + (k + s) * word, stride,
				w + (k + s) * DENSE_STEP_BYTES, panel_bytes, R, C, S);
	}
	for (; S > 1 && k < steps; k++)
		tile_step(kind, acc, x + k * word, stride, w + k * DENSE_STEP_BYTES, panel_bytes, R,
			C, S);
#pragma GCC unroll 32
	for (int i = 0; i < R * C * VECS; i++) {
#pragma GCC unroll 8
		for (int s = 1; s < S; s++)
			acc[i * S] = vec_sum2(kind, acc[i * S], acc[i * S + s]);
	}
	tile_store(t, kind, row, panel, acc, R, C, S);
}

/* A function each: in one function of all tiles the compiler runs out of registers. */
typedef void tile_run(const struct tiles *t, size_t row, size_t panel);

#define TILE_DEFINE(kind, R, C, S)                                                                 \
	static __attribute__((noinline)) void tile_##kind##_##R##_##C(                             \
		const struct tiles *t, size_t row, size_t panel)                                   \
	{                                                                                          \
		tile(t, kind, row, panel, R, C, S, false);                                         \
	}
#define TILE_NAME(kind, R, C, S) [R][C] = tile_##kind##_##R##_##C,

/* tiles_of_<kind>[rows][panels]; [0][1]: one row and one panel that comes from far. */
#define TILES_OF(kind)                                                                             \
	TILES(TILE_DEFINE, kind)                                                                   \
	static __attribute__((noinline)) void tile_far_##kind(                                     \
		const struct tiles *t, size_t row, size_t panel)                                   \
	{                                                                                          \
		tile(t, kind, row, panel, 1, 1, ALONE_CHAINS, true);                               \
	}                                                                                          \
	static tile_run *const tiles_of_##kind[MAX_ROWS + 1][MAX_PANELS + 1] = {                   \
		TILES(TILE_NAME, kind)[0][1] = tile_far_##kind};

/* One row meets every weight once, and a layer of FAR_BYTES comes from behind the second cache: what the
 * CPU fetches by itself leaves a tenth of the bandwidth unused there (models/README.md, Measured). Nearer weights
 * only lose by being asked for. */
static bool weights_far(const struct tiles *t, size_t panels)
{
	return t->rows == 1 && panels == 1 &&
	       t->steps * DENSE_STEP_BYTES * dense_panels_of(t->out) >= FAR_BYTES;
}

/* All rows of a group of panels, in tiles as equally high as can be: low ones leave units idle. */
static void tile_group(
	const struct tiles *t, tile_run *const (*run)[MAX_PANELS + 1], size_t panel, size_t panels)
{
	size_t n;

	if (weights_far(t, panels)) {
		run[0][1](t, 0, panel);
		return;
	}
	for (size_t row = 0; row < t->rows; row += n) {
		n = tile_rows(t->rows - row);
		run[n][panels](t, row, panel);
	}
}

static void tiles_run(const struct tiles *t, tile_run *const (*run)[MAX_PANELS + 1])
{
	size_t panels = dense_panels_of(t->out), n;

	for (size_t p = 0; p < panels; p += n) {
		n = group_panels(t, panels - p);
		tile_group(t, run, p, n);
	}
}

/* Activations other than ReLU would put a copy of themselves behind every tile: they run over the
 * stored outputs, which are still in L1. */
INLINE void activate_stored(const struct dense *d)
{
	if (d->act.kind > MODEL_ACT_RELU)
		VECTORS.unary(d->act, d->y, d->y, d->rows * d->out);
}

INLINE float floor_of(const struct dense *d)
{
	return d->act.kind == MODEL_ACT_RELU ? 0.0f : -__builtin_inff();
}

INLINE void dense_float(const struct dense *d, tile_run *const (*run)[MAX_PANELS + 1])
{
	const struct tiles t = {.bias = d->bias,
		.y = d->y,
		.out = d->out,
		.rows = d->rows,
		.floor = floor_of(d),
		.x = (const uint8_t *)d->x,
		.stride = d->in * sizeof(float),
		.w = d->w,
		.steps = d->in};

	tiles_run(&t, run);
	activate_stored(d);
}

/* BF16, several rows: every panel is widened once, then it is a float32 one. */
INLINE void tiles_widened(
	const struct tiles *t, float *wide, tile_run *const (*run)[MAX_PANELS + 1])
{
	struct tiles f = *t;

	f.w = (const uint8_t *)wide;
	f.steps = 2 * t->steps;
	for (; f.first * PANEL < t->out; f.first++) {
		const float *w = (const float *)t->w + f.first * t->steps * PANEL;

		for (size_t k = 0; k < t->steps * PANEL; k += PANEL) {
#pragma GCC unroll 2
			for (size_t i = 0; i < PANEL; i += LANES) {
				vec pair = vec_load(w + k + i);

				vec_store(wide + 2 * k + i, vec_lower(pair), LANES);
				vec_store(wide + 2 * k + PANEL + i, vec_upper(pair), LANES);
			}
		}
		tile_group(&f, run, f.first, 1);
	}
}

INLINE void rows_convert(
	const struct dense *d, const enum dense_kind kind, const struct tiles *t, size_t first)
{
	struct dense_row *q = dense_behind_rows(d, MODEL_LAYOUT_PANELS_INT8);

	for (size_t r = 0; r < t->rows; r++) {
		const float *x = d->x + (first + r) * d->in;
		uint8_t *to = (uint8_t *)d->scratch + r * t->stride;

		if (kind == KIND_INT8)
			q[r] = dense_avx2_quantise(d, to, x);
		else if (kind == KIND_BF16)
			dense_avx2_round_bf16((float *)to, x, d->in);
		else
			dense_avx2_pairs_bf16((uint16_t *)to, x, d->in);
	}
}

/* Convert a block of rows, multiply it, take the next. */
INLINE void dense_converted(const struct dense *d, const enum dense_kind kind,
	tile_run *const (*run)[MAX_PANELS + 1], tile_run *const (*run_f32)[MAX_PANELS + 1])
{
	uint32_t layout = kind == KIND_INT8 ? MODEL_LAYOUT_PANELS_INT8 : MODEL_LAYOUT_PANELS_BF16;
	struct tiles t = {.bias = d->bias,
		.out = d->out,
		.floor = floor_of(d),
		.x = d->scratch,
		.stride = dense_row_bytes(layout, d->in) / (kind == KIND_BF16_DOT ? 2 : 1),
		.w = d->w,
		.steps = dense_steps(layout, d->in)};

	if (kind == KIND_INT8) {
		t.q = dense_behind_rows(d, layout);
		t.scales = dense_scales(d);
		t.sums = dense_sums(d);
	}
	for (size_t first = 0; first < d->rows; first += t.rows) {
		size_t left = d->rows - first;

		t.rows = left < DENSE_BLOCK_ROWS ? left : DENSE_BLOCK_ROWS;
		t.y = d->y + first * d->out;
		rows_convert(d, kind, &t, first);
		if (kind == KIND_BF16 && t.rows >= WIDEN_ROWS)
			tiles_widened(&t, dense_behind_rows(d, layout), run_f32);
		else
			tiles_run(&t, run);
	}
	activate_stored(d);
}

/* ---- narrow layers ---- */

/* R dot products of rows with one column; R is a constant at every call. */
INLINE void dots(const struct dense *d, size_t row, const float *w, float *y, const int R)
{
	const float *x = d->x + row * d->in;
	vec acc[8];
	size_t k = 0;

#pragma GCC unroll 8
	for (int r = 0; r < R; r++)
		acc[r] = vec_set1(0);
	for (; k + LANES <= d->in; k += LANES) {
#pragma GCC unroll 8
		for (int r = 0; r < R; r++)
			acc[r] = vec_fma(
				vec_load_upto(x + r * d->in + k, LANES), vec_load(w + k), acc[r]);
	}
	if (k < d->in) {
#pragma GCC unroll 8
		for (int r = 0; r < R; r++)
			acc[r] = vec_fma(vec_load_upto(x + r * d->in + k, d->in - k),
				vec_load(w + k), acc[r]);
	}
#pragma GCC unroll 8
	for (int r = 0; r < R; r++)
		y[r * d->out] = vec_total(acc[r]);
}

/* Layout COLUMNS: the bias is added after, and the activation runs once over all rows. */
INLINE void dense_narrow(const struct dense *d)
{
	size_t padded = dense_panels_of(d->in) * PANEL;

	for (size_t n = 0; n < d->out; n++) {
		const float *w = (const float *)d->w + n * padded;
		float *y = d->y + n;
		size_t r = 0;

		for (; r + 8 <= d->rows; r += 8)
			dots(d, r, w, y + r * d->out, 8);
		for (; r < d->rows; r++)
			dots(d, r, w, y + r * d->out, 1);
		for (r = 0; d->bias && r < d->rows; r++)
			y[r * d->out] += d->bias[n];
	}
	if (d->act.kind != MODEL_ACT_NONE)
		VECTORS.unary(d->act, d->y, d->y, d->rows * d->out);
}
