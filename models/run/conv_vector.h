/* SPDX-License-Identifier: BSD-3-Clause
 * Convolution and pooling with channels last, for any vector width: conv_avx2.c and conv_avx512.c
 * define the vector and include this.
 *
 * The including file has: LANES; vec, vmask; zero(), set1(), load() aligned, loadu(), storeu(),
 * fma(), add(), mul(), max(), min(), nan_or() (a where a is NaN, else b), mask_of(n) (lanes below
 * n), mask_load(), mask_store(); WIDE, the
 * vectors of the widest tile of many pixels, and WIDE_ROWS, its pixels.
 *
 * A tile is R pixels x V vectors of output channels: per float of the window V weight vectors meet
 * R broadcast inputs. Weights stream in the order they lie in; a block's inputs stay in L1 or L2.
 */
#define INLINE static inline __attribute__((always_inline))

enum { PANEL = MODEL_FILE_PANEL, PER_PANEL = PANEL / LANES, MAX_ROWS = 8, MAX_VECTORS = 4 };

INLINE vec clamped(const struct conv_block *b, vec v)
{
	return min(set1(b->high), max(set1(b->low), v));
}

INLINE void tile_store(const struct conv_block *b, size_t pixel, size_t channel, vec v)
{
	size_t place = pixel * b->y_step + channel, left = b->out - channel;

	if (left >= LANES) {
		if (b->add)
			v = add(v, loadu(b->add + place));
		storeu(b->y + place, clamped(b, v));
	} else {
		vmask mask = mask_of(left);

		if (b->add)
			v = add(v, mask_load(b->add + place, mask));
		mask_store(b->y + place, mask, clamped(b, v));
	}
}

/* R and V are constants at every call: the loops over them become straight-line code. `first` is
 * the first vector, a multiple of PER_PANEL. */
INLINE void tile(const struct conv_block *b, size_t depth, size_t pixel, size_t first, const int R,
	const int V)
{
	const struct window_shape *s = &b->window;
	const float *w = b->w + first * LANES * depth, *x[MAX_ROWS];
	vec acc[MAX_ROWS][MAX_VECTORS], wv[MAX_VECTORS];

#pragma GCC unroll 8
	for (int r = 0; r < R; r++)
		x[r] = b->x + b->at[pixel + r];
#pragma GCC unroll 8
	for (int v = 0; v < V; v++) {
		vec start = b->bias ? load(b->bias + (first + v) * LANES) : zero();

#pragma GCC unroll 8
		for (int r = 0; r < R; r++)
			acc[r][v] = start;
	}
	for (size_t i = 0; i < s->count[0]; i++)
		for (size_t j = 0; j < s->count[1]; j++)
			for (size_t k = 0; k < s->count[2]; k++) {
				size_t at = i * s->step[0] + j * s->step[1] + k * s->step[2];

				for (size_t end = at + s->run; at < end; at++, w += PANEL) {
#pragma GCC unroll 8
					for (int v = 0; v < V; v++)
						wv[v] = load(w + v / PER_PANEL * depth * PANEL +
							     v % PER_PANEL * LANES);
#pragma GCC unroll 8
					for (int r = 0; r < R; r++) {
						vec xv = set1(x[r][at]);

#pragma GCC unroll 8
						for (int v = 0; v < V; v++)
							acc[r][v] = fma(xv, wv[v], acc[r][v]);
					}
				}
			}
#pragma GCC unroll 8
	for (int r = 0; r < R; r++) {
#pragma GCC unroll 8
		for (int v = 0; v < V; v++)
			tile_store(b, pixel + r, (first + v) * LANES, acc[r][v]);
	}
}

/* All pixels, V vectors, in tiles of at most `most` pixels. */
INLINE void tiles(
	const struct conv_block *b, size_t depth, size_t first, const int most, const int V)
{
	size_t p = 0;

	for (; p + most <= b->pixels; p += most)
		tile(b, depth, p, first, most, V);
#define TAIL(n)                                                                                    \
	case n:                                                                                    \
		tile(b, depth, p, first, most > n ? n : 1, V);                                     \
		break
	switch (b->pixels - p) {
		TAIL(7);
		TAIL(6);
		TAIL(5);
		TAIL(4);
		TAIL(3);
		TAIL(2);
		TAIL(1);
	default:
		break;
	}
#undef TAIL
}

/* Few pixels: more vectors a tile, or the few accumulators could not hide the latency. */
enum { FEW = 3 };

static size_t vectors_of_tile(size_t pixels, size_t left)
{
	if (pixels <= FEW)
		return left < MAX_VECTORS ? left : MAX_VECTORS;
	if (WIDE == 3 && left == 4)
		return 2;
	return left < WIDE ? left : WIDE;
}

static void dense(const struct conv_block *b)
{
	const struct window_shape *s = &b->window;
	const size_t depth = s->count[0] * s->count[1] * s->count[2] * s->run;
	const size_t vectors = (b->out + LANES - 1) / LANES;

	for (size_t v = 0; v < vectors;) {
		size_t n = vectors_of_tile(b->pixels, vectors - v);

		if (n == 1)
			tiles(b, depth, v, MAX_ROWS, 1);
		else if (n == 2)
			tiles(b, depth, v, WIDE == 2 ? WIDE_ROWS : MAX_ROWS, 2);
		else if (n == 3)
			tiles(b, depth, v, WIDE == 3 ? WIDE_ROWS : FEW, 3);
		else
			tiles(b, depth, v, FEW, 4);
		v += n;
	}
}

/* R pixels, one vector of channels; the last vector of a pixel is masked. */
INLINE void depthwise_tile(const struct conv_block *b, size_t padded, size_t pixel, size_t channel,
	const int R, bool tail)
{
	const struct window_shape *s = &b->window;
	const float *w = b->w + channel, *x[MAX_ROWS];
	const vmask mask = mask_of(b->out - channel);
	vec acc[MAX_ROWS];

#pragma GCC unroll 8
	for (int r = 0; r < R; r++) {
		x[r] = b->x + b->at[pixel + r] + channel;
		acc[r] = b->bias ? load(b->bias + channel) : zero();
	}
	for (size_t i = 0; i < s->count[0]; i++)
		for (size_t j = 0; j < s->count[1]; j++)
			for (size_t k = 0; k < s->count[2]; k++, w += padded) {
				size_t at = i * s->step[0] + j * s->step[1] + k * s->step[2];
				vec wv = load(w);

#pragma GCC unroll 8
				for (int r = 0; r < R; r++)
					acc[r] = fma(tail ? mask_load(x[r] + at, mask)
							  : loadu(x[r] + at),
						wv, acc[r]);
			}
#pragma GCC unroll 8
	for (int r = 0; r < R; r++)
		tile_store(b, pixel + r, channel, acc[r]);
}

INLINE void depthwise_pixels(const struct conv_block *b, size_t pixel, const int R)
{
	const size_t padded = (b->out + PANEL - 1) / PANEL * PANEL;
	size_t c = 0;

	for (; c + LANES <= b->out; c += LANES)
		depthwise_tile(b, padded, pixel, c, R, false);
	if (c < b->out)
		depthwise_tile(b, padded, pixel, c, R, true);
}

static void depthwise(const struct conv_block *b)
{
	size_t p = 0;

	for (; p + MAX_ROWS <= b->pixels; p += MAX_ROWS)
		depthwise_pixels(b, p, MAX_ROWS);
	for (; p + 2 <= b->pixels; p += 2)
		depthwise_pixels(b, p, 2);
	if (p < b->pixels)
		depthwise_pixels(b, p, 1);
}

INLINE vec pool_window(const struct pool_block *b, const float *x, bool average, size_t left)
{
	const struct window_shape *s = &b->window;
	const vmask mask = mask_of(left);
	vec acc = average ? zero() : set1(-__builtin_inff());

	for (size_t i = 0; i < s->count[0]; i++)
		for (size_t j = 0; j < s->count[1]; j++)
			for (size_t k = 0; k < s->count[2]; k++) {
				const float *at =
					x + i * s->step[0] + j * s->step[1] + k * s->step[2];
				vec v = left >= LANES ? loadu(at) : mask_load(at, mask);

				/* max() returns its second operand when one is NaN. */
				acc = average ? add(acc, v) : nan_or(v, max(v, acc));
			}
	return average ? mul(acc, set1(b->scale)) : acc;
}

INLINE void pool_pixels(const struct pool_block *b, bool average)
{
	for (size_t p = 0; p < b->pixels; p++) {
		const float *x = b->x + p * b->x_step;
		float *y = b->y + p * b->channels;
		size_t c = 0;

		for (; c + LANES <= b->channels; c += LANES)
			storeu(y + c, pool_window(b, x + c, average, LANES));
		if (c < b->channels)
			mask_store(y + c, mask_of(b->channels - c),
				pool_window(b, x + c, average, b->channels - c));
	}
}

static void pool(const struct pool_block *b)
{
	if (b->average)
		pool_pixels(b, true);
	else
		pool_pixels(b, false);
}
