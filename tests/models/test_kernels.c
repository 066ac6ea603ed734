/* SPDX-License-Identifier: BSD-3-Clause
 * Dense kernels of every family and weight layout against the scalar reference on random shapes:
 * float32 and bfloat16 within the error of their sums, int8 bit for bit. Families that this CPU
 * lacks run in software (SIMDe).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "models/run/dense.h"
#include "models/run/tensor.h"

const struct kernels *simde_family(size_t i); /* NULL: no more */

enum { MAX_FAMILIES = 8, PANEL = MODEL_FILE_PANEL };

static uint32_t t_state = 20261125;

static uint32_t t_random(uint32_t below)
{
	t_state ^= t_state << 13;
	t_state ^= t_state >> 17;
	t_state ^= t_state << 5;
	return t_state % below;
}

static float t_float(void)
{
	return (float)t_random(1 << 24) / (float)(1 << 23) - 1.0f;
}

static float *t_floats(size_t n, bool filled)
{
	float *x = aligned_alloc(64, (n * sizeof(float) + 63) / 64 * 64 + 64);

	assert_non_null(x);
	for (size_t i = 0; i < n; i++)
		x[i] = filled ? t_float() : 0;
	return x;
}

/* Every family that can run here; those by SIMDe call AVX2's conversion of rows. */
static size_t t_families(const struct kernels **families)
{
	bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
	size_t n = 0;

	families[n++] = kernels_openblas();
	if (avx2)
		families[n++] = kernels_avx2();
	if (kernels_native() != kernels_avx2() && kernels_native() != &kernels_scalar)
		families[n++] = kernels_native();
	for (size_t i = 0; avx2 && simde_family(i); i++)
		families[n++] = simde_family(i);
	return n;
}

/* ---- weights as the compiler lays them out: padding is zero ---- */

static void t_fill_f32(const struct dense *d, float *w, uint32_t layout)
{
	size_t in16 = dense_panels_of(d->in) * PANEL;

	for (size_t n = 0; n < d->out; n++)
		for (size_t k = 0; k < d->in; k++) {
			size_t at = n * in16 + k;

			if (layout == MODEL_LAYOUT_PANELS)
				at = (n / PANEL * d->in + k) * PANEL + n % PANEL;
			if (layout == MODEL_LAYOUT_ROW_MAJOR)
				at = k * d->out + n;
			w[at] = t_float();
		}
}

static void t_fill_bf16(const struct dense *d, uint16_t *w)
{
	size_t pairs = (d->in + 1) / 2;

	for (size_t n = 0; n < d->out; n++)
		for (size_t k = 0; k < d->in; k++)
			w[((n / PANEL * pairs + k / 2) * PANEL + n % PANEL) * 2 + k % 2] =
				float_to_bfloat(t_float());
}

/* Neighbours' sums reach both limits; every other column is at them all along. */
static void t_fill_int8(const struct dense *d, int8_t *w)
{
	size_t quads = (d->in + 3) / 4, columns = dense_panels_of(d->out) * PANEL;
	float *scales = (float *)(w + quads * columns * 4);
	int32_t *sums = (int32_t *)(scales + columns);

	for (size_t n = 0; n < d->out; n++) {
		int last = 0;

		scales[n] = 0.001f + 0.01f * fabsf(t_float());
		for (size_t k = 0; k < d->in; k++) {
			int q = n % 2 ? (n % 4 == 1 ? 64 : -64) : (int)t_random(255) - 127;

			if (k % 2 && (last + q > 128 || last + q < -128))
				q = (last > 0 ? 128 : -128) - last;
			w[((n / PANEL * quads + k / 4) * PANEL + n % PANEL) * 4 + k % 4] =
				(int8_t)q;
			sums[n] += q;
			last = q;
		}
	}
}

struct t_layer {
	struct dense d;
	uint32_t layout;
	float *w, *bias, *x, *y;
	void *scratch;
	uint64_t scratch_bytes;
};

static struct t_layer t_layer(uint32_t layout, size_t rows, size_t in, size_t out)
{
	struct t_layer l = {.d = {.rows = rows, .in = in, .out = out}, .layout = layout};
	uint64_t bytes;

	assert_true(dense_weight_bytes(layout, in, out, &bytes));
	l.w = t_floats(bytes / sizeof(float), false);
	l.bias = t_floats(dense_panels_of(out) * PANEL, false);
	for (size_t n = 0; n < out; n++)
		l.bias[n] = t_float();
	if (layout == MODEL_LAYOUT_PANELS_BF16)
		t_fill_bf16(&l.d, (uint16_t *)l.w);
	else if (layout == MODEL_LAYOUT_PANELS_INT8)
		t_fill_int8(&l.d, (int8_t *)l.w);
	else
		t_fill_f32(&l.d, l.w, layout);
	l.x = t_floats(rows * in, true);
	l.y = t_floats(rows * out + 1, false);
	l.scratch_bytes = dense_scratch_bytes(layout, in);
	l.scratch = t_floats(l.scratch_bytes / sizeof(float) + PANEL, false);
	l.d.w = l.w;
	l.d.x = l.x;
	l.d.y = l.y;
	l.d.bias = t_random(4) ? l.bias : NULL;
	l.d.scratch = l.scratch;
	return l;
}

static void t_free(struct t_layer *l)
{
	free(l->w);
	free(l->bias);
	free(l->x);
	free(l->y);
	free(l->scratch);
}

/* The family's answer in l->y, nothing written past it or past the scratch. */
static void t_run(struct t_layer *l, const struct kernels *k)
{
	size_t end = l->d.rows * l->d.out;

	memset(l->y, 0xff, end * sizeof(float));
	memset(l->scratch, 0xff, l->scratch_bytes);
	l->y[end] = 42;
	memset((uint8_t *)l->scratch + l->scratch_bytes, 42, 64);
	k->dense[l->layout](&l->d);
	assert_true(l->y[end] == 42);
	for (size_t i = 0; i < 64; i++)
		assert_int_equal(((uint8_t *)l->scratch)[l->scratch_bytes + i], 42);
}

static void t_compare(struct t_layer *l, const struct kernels *k, const float *want)
{
	bool exact = l->layout == MODEL_LAYOUT_PANELS_INT8 && l->d.act.kind <= MODEL_ACT_RELU;

	for (size_t i = 0; i < l->d.rows * l->d.out; i++) {
		float bound = exact ? 0 : 2e-6f * (float)l->d.in + 1e-6f, got = l->y[i];

		if (l->layout == MODEL_LAYOUT_PANELS_INT8 && !exact)
			bound = 1e-6f * (1 + fabsf(want[i]));
		if (!(fabsf(got - want[i]) <= bound))
			fail_msg("%s layout %u %zux%zux%zu act %u bias %d: element %zu is %.9g, "
				 "reference %.9g",
				k->name, l->layout, l->d.rows, l->d.in, l->d.out, l->d.act.kind,
				l->d.bias != NULL, i, (double)got, (double)want[i]);
	}
}

static void dense_layers_of_any_shape_equal_the_reference(void **state)
{
	const struct kernels *families[MAX_FAMILIES];
	size_t n = t_families(families), compared[MODEL_LAYOUT_END] = {0};

	(void)state;
	for (int i = 0; i < 900; i++) {
		uint32_t layout = 1 + t_random(MODEL_LAYOUT_END - 1);
		struct t_layer l = t_layer(layout, 1 + t_random(i % 3 ? 11 : 140),
			1 + t_random(i % 5 ? 70 : 300), 1 + t_random(i % 7 ? 80 : 260));
		size_t ys = l.d.rows * l.d.out;
		float *want = t_floats(ys, false);

		l.d.act = (struct activation){t_random(MODEL_ACT_CLIP + 1), 0.1f, 0.5f};
		t_run(&l, &kernels_scalar);
		memcpy(want, l.y, ys * sizeof(float));
		for (size_t f = 0; f < n; f++)
			if (families[f]->dense[layout]) {
				t_run(&l, families[f]);
				t_compare(&l, families[f], want);
				compared[layout]++;
			}
		free(want);
		t_free(&l);
	}
	for (size_t f = 0; f < n; f++)
		print_message("family %s\n", families[f]->name);
	for (uint32_t layout = 1; layout < MODEL_LAYOUT_END; layout++)
		assert_true(compared[layout] > 100);
}

/* What the reference's int8 means, from its definition in exact arithmetic. */
static double t_exact_int8(const struct t_layer *l, size_t r, size_t n, float low, float high)
{
	const struct dense *d = &l->d;
	double scale = (double)(high - low) / 255, sum = 0;
	long zero = lrint(-(double)low / scale);
	size_t quads = (d->in + 3) / 4;

	for (size_t k = 0; k < d->in; k++) {
		double q = nearbyint((double)d->x[r * d->in + k] / scale) + (double)zero;

		q = fmin(fmax(q, 0), 255);
		sum += (q - (double)zero) *
		       ((const int8_t *)
				       l->w)[((n / PANEL * quads + k / 4) * PANEL + n % PANEL) * 4 +
					     k % 4];
	}
	return sum * scale * (double)dense_scales(d)[n] + (d->bias ? (double)d->bias[n] : 0);
}

static void int8_is_quantisation_as_it_is_documented(void **state)
{
	(void)state;
	for (int i = 0; i < 60; i++) {
		struct t_layer l = t_layer(MODEL_LAYOUT_PANELS_INT8, 3, 1 + t_random(200), 20);
		bool given = i % 2;

		if (given) {
			l.d.low = i % 4 == 1 ? -0.5f : 0;
			l.d.high = 0.75f;
		}
		t_run(&l, &kernels_scalar);
		for (size_t r = 0; r < 3; r++) {
			float low = 0, high = 0, steps = 0;

			for (size_t k = 0; k < l.d.in; k++) {
				low = fminf(low, l.x[r * l.d.in + k]);
				high = fmaxf(high, l.x[r * l.d.in + k]);
			}
			/* A value within a float's error of a half step may go either way. */
			steps = 130 * (high - low) / 255;
			for (size_t n = 0; n < 20; n++)
				assert_true(fabs((double)l.y[r * 20 + n] -
						    t_exact_int8(&l, r, n, given ? l.d.low : low,
							    given ? l.d.high : high)) <=
					    (double)(steps * dense_scales(&l.d)[n]) * 1.01 + 1e-5);
		}
		t_free(&l);
	}
}

/* Rows of zeros, tiny, huge, infinite and NaN values, in every family alike. */
static void odd_rows_of_reduced_layers_answer_alike(void **state)
{
	static const float odd[] = {0, 1e-38f, 1e-36f, 1e30f, 3e38f, INFINITY, -INFINITY, NAN};
	enum { ROWS = 2 * sizeof(odd) / sizeof(odd[0]), IN = 37, OUT = 33 };
	const struct kernels *families[MAX_FAMILIES];
	size_t n = t_families(families);

	(void)state;
	for (int given = 0; given < 2; given++) {
		struct t_layer l = t_layer(MODEL_LAYOUT_PANELS_INT8, ROWS, IN, OUT);
		float want[ROWS * OUT];

		l.d.high = (float)given;
		for (size_t r = 0; r < ROWS; r++)
			for (size_t k = 0; k < IN; k++)
				if (r % 2 || k == r)
					l.x[r * IN + k] = odd[r / 2] * (k % 3 ? 1 : -1);
		t_run(&l, &kernels_scalar);
		memcpy(want, l.y, sizeof(want));
		assert_true(isnan(want[(ROWS - 1) * OUT]) && isfinite(want[0]));
		assert_true(given || isnan(want[11 * OUT]));
		for (size_t f = 0; f < n; f++)
			for (size_t i = 0; families[f]->dense[l.layout] && i < ROWS * OUT; i++) {
				if (!i)
					t_run(&l, families[f]);
				if (isnan(want[i]) ? !isnan(l.y[i]) : l.y[i] != want[i])
					fail_msg("%s row %zu: %g, reference %g", families[f]->name,
						i / OUT, (double)l.y[i], (double)want[i]);
			}
		t_free(&l);
	}
}

static void a_nan_in_a_row_of_any_layer_stays_in_that_row(void **state)
{
	const struct kernels *families[MAX_FAMILIES];
	size_t n = t_families(families);

	(void)state;
	for (uint32_t layout = 1; layout < MODEL_LAYOUT_END; layout++)
		for (size_t f = 0; f < n; f++) {
			struct t_layer l = t_layer(layout, 9, 40, 20);

			l.x[4 * 40 + 17] = NAN;
			if (families[f]->dense[layout])
				t_run(&l, families[f]);
			for (size_t i = 0; families[f]->dense[layout] && i < 9 * 20; i++)
				assert_true(!isnan(l.y[i]) == (i / 20 != 4));
			t_free(&l);
		}
}

static void sizes_that_overflow_are_refused(void **state)
{
	uint64_t bytes;

	(void)state;
	for (uint32_t layout = 1; layout < MODEL_LAYOUT_END; layout++) {
		assert_false(dense_weight_bytes(layout, 1ull << 32, 1, &bytes));
		assert_false(dense_weight_bytes(layout, 1, 1ull << 32, &bytes));
	}
	assert_false(dense_weight_bytes(MODEL_LAYOUT_PANELS, UINT32_MAX, UINT32_MAX, &bytes));
	assert_false(
		dense_weight_bytes(MODEL_LAYOUT_PANELS_INT8, DENSE_INT8_MAX_IN + 1, 1, &bytes));
	assert_true(dense_weight_bytes(MODEL_LAYOUT_PANELS_INT8, DENSE_INT8_MAX_IN, 17, &bytes));
	assert_int_equal(bytes, 32 * (DENSE_INT8_MAX_IN + 8));
	assert_true(dense_weight_bytes(MODEL_LAYOUT_PANELS_BF16, 3, 17, &bytes));
	assert_int_equal(bytes, 32 * 4 * 2);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(dense_layers_of_any_shape_equal_the_reference),
		cmocka_unit_test(int8_is_quantisation_as_it_is_documented),
		cmocka_unit_test(odd_rows_of_reduced_layers_answer_alike),
		cmocka_unit_test(a_nan_in_a_row_of_any_layer_stays_in_that_row),
		cmocka_unit_test(sizes_that_overflow_are_refused),
	};

	(void)argc;
	if (!getenv("OPENBLAS_NUM_THREADS")) { /* its threads start before main(): begin again */
		setenv("OPENBLAS_NUM_THREADS", "1", 1);
		execv("/proc/self/exe", argv);
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
