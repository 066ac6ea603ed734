/* SPDX-License-Identifier: BSD-3-Clause
 * Convolution and pooling with channels last, for any vector width: conv_avx2.c and conv_avx512.c
 * define the vector and include this.
 *
 * The including file has: LANES; vec, vmask; zero(), set1(), load() aligned, loadu(), storeu(),
 * fma(), add(), mul(), max(), min(), nan_or() (a where a is NaN, else b), mask_of(n) (lanes below
 * n), mask_load(), store_low() (the first n < LANES lanes); and `tiles`, the table of the tiles
 * that fit its registers, made of TILE(R, V).
 *
 * A tile is R pixels x V vectors of output channels: per float of the window V weight vectors meet
 * R broadcast inputs. Weights stream in the order they lie in; a block's inputs stay in L1 or L2.
 */
#define INLINE static inline __attribute__((always_inline))
/* The build clears every local (-ftrivial-auto-var-init): tables of registers do not want it. */
#define REGISTERS __attribute__((uninitialized))

enum { PANEL = MODEL_FILE_PANEL, PER_PANEL = PANEL / LANES, MAX_ROWS = 12, MAX_VECTORS = 4 };

/* Pixels [pixel, pixel + R), vectors [first, first + V); first is a multiple of PER_PANEL. */
typedef void tile_fn(const struct conv_block *b, size_t pixel, size_t first);

/* One float of the window. */
INLINE void tile_step(vec acc[MAX_ROWS][MAX_VECTORS], const float *const x[MAX_ROWS], size_t at,
	const float *w, size_t panel, const int R, const int V)
{
	REGISTERS vec wv[MAX_VECTORS];

#pragma GCC unroll 16
	for (int v = 0; v < V; v++)
		wv[v] = load(w + v / PER_PANEL * panel + v % PER_PANEL * LANES);
#pragma GCC unroll 16
	for (int r = 0; r < R; r++) {
		vec xv = set1(x[r][at]);

#pragma GCC unroll 16
		for (int v = 0; v < V; v++)
			acc[r][v] = fma(xv, wv[v], acc[r][v]);
	}
}

/* Add, clamp and store V vectors of R pixels; the last vector may hang over the channels' end. */
INLINE void tile_store(const struct conv_block *b, vec acc[MAX_ROWS][MAX_VECTORS], size_t pixel,
	size_t channel, const int R, const int V)
{
	const size_t step = b->y_step, place = pixel * step + channel;
	const size_t left = b->out - channel - (size_t)(V - 1) * LANES;
	const vec low = set1(b->low), high = set1(b->high);
	const bool whole = left >= LANES;
	float *y = b->y + place;

	if (b->add) {
		const float *more = b->add + place;
		vmask mask = mask_of(left);

#pragma GCC unroll 16
		for (int r = 0; r < R; r++, more += step) {
#pragma GCC unroll 16
			for (int v = 0; v < V; v++)
				acc[r][v] = add(
					acc[r][v], v < V - 1 ? loadu(more + v * LANES)
							     : mask_load(more + v * LANES, mask));
		}
	}
#pragma GCC unroll 16
	for (int r = 0; r < R; r++, y += step) {
#pragma GCC unroll 16
		for (int v = 0; v < V; v++) {
			vec out = min(high, max(low, acc[r][v]));

			if (v < V - 1 || whole)
				storeu(y + v * LANES, out);
			else
				store_low(y + v * LANES, left, out);
		}
	}
}

/* R and V are constants at every call: the loops over them become straight-line code. */
INLINE void tile(const struct conv_block *b, size_t pixel, size_t first, const int R, const int V)
{
	const size_t run = b->run, panel = b->segments * run * PANEL;
	const size_t *segment = b->segment, *last = segment + b->segments;
	const float *w = b->w + first / PER_PANEL * panel;
	REGISTERS const float *x[MAX_ROWS];
	REGISTERS vec acc[MAX_ROWS][MAX_VECTORS];

#pragma GCC unroll 16
	for (int r = 0; r < R; r++)
		x[r] = b->x + b->at[pixel + r];
#pragma GCC unroll 16
	for (int v = 0; v < V; v++) {
		vec start = b->bias ? load(b->bias + (first + v) * LANES) : zero();

#pragma GCC unroll 16
		for (int r = 0; r < R; r++)
			acc[r][v] = start;
	}
	if (run == 1)
		for (; segment < last; segment++, w += PANEL)
			tile_step(acc, x, *segment, w, panel, R, V);
	for (; segment < last; segment++)
		for (size_t at = *segment, end = at + run; at < end; at++, w += PANEL)
			tile_step(acc, x, at, w, panel, R, V);
	tile_store(b, acc, pixel, first * LANES, R, V);
}

/* Functions of their own: the loops above need all the registers there are. */
#define TILE(R, V)                                                                                 \
	static __attribute__((noinline)) void tile_##R##x##V(                                      \
		const struct conv_block *b, size_t pixel, size_t first)                            \
	{                                                                                          \
		tile(b, pixel, first, R, V);                                                       \
	}

struct tile_table {
	tile_fn *tile[MAX_VECTORS + 1][MAX_ROWS + 1]; /* [V][R] */
	size_t most[MAX_VECTORS + 1];                 /* [V]: the largest R */
	size_t wide;                                  /* V for many pixels */
};

/* Few pixels: more vectors a tile, or the few accumulators could not hide the latency. The first
 * vector of a tile begins a panel. */
static size_t vectors_of_tile(const struct tile_table *t, size_t pixels, size_t left)
{
	size_t n = left < MAX_VECTORS ? left : MAX_VECTORS;

	if (n > t->wide && pixels > t->most[n])
		n = t->wide == 3 && left == 4 ? 2 : t->wide;
	return n > PER_PANEL ? n / PER_PANEL * PER_PANEL : n;
}

INLINE void dense_tiles(const struct conv_block *b, const struct tile_table *t)
{
	const size_t vectors = (b->out + LANES - 1) / LANES;

	for (size_t v = 0, n; v < vectors; v += n) {
		size_t p = 0, most;

		n = vectors_of_tile(t, b->pixels, vectors - v);
		most = t->most[n];
		for (; p + most <= b->pixels; p += most)
			t->tile[n][most](b, p, v);
		if (p < b->pixels)
			t->tile[n][b->pixels - p](b, p, v);
	}
}

/* R pixels, one vector of channels; a pixel's last vector is masked. */
INLINE void depthwise_vector(const struct conv_block *b, size_t padded, size_t pixel,
	size_t channel, const int R, const bool whole)
{
	const vmask mask = mask_of(b->out - channel);
	const size_t *segment = b->segment, *last = segment + b->segments;
	const float *w = b->w + channel;
	REGISTERS const float *x[MAX_ROWS];
	REGISTERS vec acc[MAX_ROWS][MAX_VECTORS];

#pragma GCC unroll 16
	for (int r = 0; r < R; r++) {
		x[r] = b->x + b->at[pixel + r] + channel;
		acc[r][0] = b->bias ? load(b->bias + channel) : zero();
	}
	for (; segment < last; segment++, w += padded) {
		const size_t at = *segment;
		vec wv = load(w);

#pragma GCC unroll 16
		for (int r = 0; r < R; r++)
			acc[r][0] = fma(whole ? loadu(x[r] + at) : mask_load(x[r] + at, mask), wv,
				acc[r][0]);
	}
	tile_store(b, acc, pixel, channel, R, 1);
}

INLINE void depthwise_pixels(const struct conv_block *b, size_t pixel, const int R)
{
	const size_t padded = (b->out + PANEL - 1) / PANEL * PANEL;
	size_t c = 0;

	for (; c + LANES <= b->out; c += LANES)
		depthwise_vector(b, padded, pixel, c, R, true);
	if (c < b->out)
		depthwise_vector(b, padded, pixel, c, R, false);
}

static void depthwise(const struct conv_block *b)
{
	size_t p = 0;

	for (; p + 8 <= b->pixels; p += 8)
		depthwise_pixels(b, p, 8);
	for (; p + 3 <= b->pixels; p += 3)
		depthwise_pixels(b, p, 3);
	for (; p < b->pixels; p++)
		depthwise_pixels(b, p, 1);
}

INLINE vec pool_window(const struct pool_block *b, const float *x, bool average, size_t left)
{
	const size_t *segment = b->segment, *last = segment + b->segments;
	const vmask mask = mask_of(left);
	vec acc = average ? zero() : set1(-__builtin_inff());

	for (; segment < last; segment++) {
		vec v = left >= LANES ? loadu(x + *segment) : mask_load(x + *segment, mask);

		/* max() returns its second operand when one is NaN. */
		acc = average ? add(acc, v) : nan_or(v, max(v, acc));
	}
	return average ? mul(acc, set1(b->scale)) : acc;
}

INLINE void pool_pixel(const struct pool_block *b, const float *x, float *y, bool average)
{
	size_t c = 0;

	for (; c + LANES <= b->channels; c += LANES)
		storeu(y + c, pool_window(b, x + c, average, LANES));
	if (c < b->channels)
		store_low(y + c, b->channels - c, pool_window(b, x + c, average, b->channels - c));
}

INLINE void pool_pixels(const struct pool_block *b, bool average)
{
	for (size_t i = 0; i < b->n[0]; i++)
		for (size_t j = 0; j < b->n[1]; j++) {
			const float *x = b->x + i * b->x_step[0] + j * b->x_step[1];
			float *y = b->y + i * b->y_step[0] + j * b->y_step[1];

			for (size_t k = 0; k < b->n[2]; k++)
				pool_pixel(b, x + k * b->x_step[2], y + k * b->y_step[2], average);
		}
}

static void pool(const struct pool_block *b)
{
	if (b->average)
		pool_pixels(b, true);
	else
		pool_pixels(b, false);
}
