/* SPDX-License-Identifier: BSD-3-Clause
 * The vector kernels: errors of every activation over all floats against long double, everything
 * else against the scalar reference. AVX-512 runs in software (SIMDe) where the CPU lacks it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "models/run/kernels.h"

extern const struct vectors vectors_simde;

static uint32_t t_state = 20261125;

static uint32_t t_random(uint32_t below)
{
	t_state ^= t_state << 13;
	t_state ^= t_state >> 17;
	t_state ^= t_state << 5;
	return t_state % below;
}

/* Random numbers with room behind them that must stay as it is. */
static float *t_floats(size_t n, float scale)
{
	float *x = malloc((n + 16) * sizeof(*x));

	assert_non_null(x);
	for (size_t i = 0; i < n + 16; i++)
		x[i] = scale * ((float)t_random(1 << 24) / (float)(1 << 23) - 1.0f);
	return x;
}

struct family {
	const char *name;
	const struct vectors *v;
	uint32_t step; /* of the bit patterns tried */
};

/* The families this CPU can run; NULL behind the last. */
static const struct family *t_family(size_t i)
{
	static struct family families[3];
	size_t n = 0;

	if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
		families[n++] = (struct family){"avx2", &vectors_avx2, 2039};
	if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
		__builtin_cpu_supports("avx512vl"))
		families[n++] = (struct family){"avx512", &vectors_avx512, 2039};
	else
		families[n++] = (struct family){"avx512 by simde", &vectors_simde, 40009};
	return i < n ? &families[i] : NULL;
}

/* ---- activations ---- */

static long double t_softplus(long double x)
{
	return fmaxl(x, 0) + log1pl(expl(-fabsl(x)));
}

static long double t_exact(struct activation act, long double x)
{
	switch (act.kind) {
	case MODEL_ACT_EXP:
		return expl(x);
	case MODEL_ACT_TANH:
		return tanhl(x);
	case MODEL_ACT_SIGMOID:
		return 1 / (1 + expl(-x));
	case MODEL_ACT_LOG:
		return logl(x);
	case MODEL_ACT_ERF:
		return erfl(x);
	case MODEL_ACT_ELU:
		return x < 0 ? expm1l(x) : x;
	case MODEL_ACT_SOFTPLUS:
		return t_softplus(x);
	case MODEL_ACT_GELU:
		return x * erfcl(-x * 0.707106781186547524400844L) / 2;
	case MODEL_ACT_GELU_TANH:
		return x / 2 * (1 + tanhl(0.797884560802865355879892L * (x + 0.044715L * x * x * x)));
	case MODEL_ACT_SILU:
		return x / (1 + expl(-x));
	default:
		return x * tanhl(t_softplus(x));
	}
}

/* Distance from exact in units of the last place of `of`. */
static double t_ulp(float got, long double exact, float of)
{
	float next = nextafterf(fabsf(of), INFINITY);

	return (double)(fabsl((long double)got - exact) / (long double)(next - fabsf(of)));
}

struct bound {
	uint32_t kind;
	const char *name;
	double ulp;
	bool of_x; /* in ULP of x where that is the larger of x and the result */
	float low, high;
};

static double t_worst(const struct family *f, const struct bound *b)
{
	const struct activation act = {b->kind, 1, 1};
	enum { BLOCK = 1021 }; /* full vectors and a tail */
	float x[BLOCK], y[BLOCK];
	double worst = 0;
	uint64_t bits = 0;

	while (bits >> 32 == 0) {
		size_t n = 0;

		for (; n < BLOCK && bits >> 32 == 0; bits += f->step) {
			uint32_t pattern = (uint32_t)bits;

			memcpy(&x[n], &pattern, sizeof(pattern));
			n += x[n] >= b->low && x[n] <= b->high;
		}
		f->v->unary(act, y, x, n);
		for (size_t i = 0; i < n; i++) {
			long double exact = t_exact(act, (long double)x[i]);
			float of = (float)exact;

			if (fabsf(of) < 0x1p-126f || isinf(of))
				continue;
			if (b->of_x && fabsf(x[i]) > fabsf(of))
				of = x[i];
			worst = fmax(worst, t_ulp(y[i], exact, of));
		}
	}
	return worst;
}

static void activations_stay_within_their_stated_error(void **state)
{
	static const struct bound bounds[] = {
		{MODEL_ACT_EXP, "exp", 2, false, -INFINITY, INFINITY},
		{MODEL_ACT_ELU, "expm1", 3, false, -INFINITY, 0},
		{MODEL_ACT_LOG, "log", 2, false, 0, INFINITY},
		{MODEL_ACT_SIGMOID, "sigmoid", 4, false, -INFINITY, INFINITY},
		{MODEL_ACT_TANH, "tanh", 4, false, -INFINITY, INFINITY},
		{MODEL_ACT_ERF, "erf", 2, false, -INFINITY, INFINITY},
		{MODEL_ACT_SOFTPLUS, "softplus", 4, false, -INFINITY, INFINITY},
		{MODEL_ACT_GELU, "gelu", 2, true, -1e30f, INFINITY},
		{MODEL_ACT_GELU_TANH, "gelu by tanh", 4, true, -1e10f, 1e10f},
		{MODEL_ACT_SILU, "silu", 4, true, -1e30f, INFINITY},
		{MODEL_ACT_MISH, "mish", 4, true, -1e30f, INFINITY},
	};

	(void)state;
	for (size_t i = 0; t_family(i); i++)
		for (size_t b = 0; b < sizeof(bounds) / sizeof(bounds[0]); b++) {
			double worst = t_worst(t_family(i), &bounds[b]);

			print_message("%s %s: %.2f ULP%s\n", t_family(i)->name, bounds[b].name,
				worst, bounds[b].of_x ? " of x" : "");
			assert_true(worst <= bounds[b].ulp);
		}
}

static void every_activation_equals_the_reference_with_nan_and_infinities(void **state)
{
	float x[43], y[43];

	(void)state;
	for (size_t f = 0; t_family(f); f++)
		for (uint32_t kind = 0; kind < MODEL_ACT_END; kind++) {
			struct activation act = {kind, 0.25f, 0.75f};

			for (int i = 0; i < 43; i++)
				x[i] = i % 4 == 0   ? NAN
				       : i % 4 == 1 ? INFINITY
				       : i % 4 == 2 ? -INFINITY
						    : (float)(i - 20) / 3;
			t_family(f)->v->unary(act, y, x, 43);
			for (int i = 0; i < 43; i++) {
				float want = activation_scalar(act, x[i]);

				if (isnan(want) ? !isnan(y[i])
						: y[i] != want && !(fabsf(y[i] - want) <=
								    1e-37f + 1e-6f * fabsf(x[i])))
					fail_msg("%s activation %u of %g: %g, expected %g",
						t_family(f)->name, kind, (double)x[i],
						(double)y[i], (double)want);
			}
		}
}

/* ---- the rest, against the reference ---- */

static void t_close(const float *got, const float *want, size_t n, float limit)
{
	for (size_t i = 0; i < n; i++)
		if (!(fabsf(got[i] - want[i]) <= limit) && !(isnan(got[i]) && isnan(want[i])))
			fail_msg("element %zu: %g, expected %g", i, (double)got[i], (double)want[i]);
}

static void binary_lines_equal_the_reference(void **state)
{
	(void)state;
	for (size_t f = 0; t_family(f); f++)
		for (int round = 0; round < 300; round++) {
			size_t n = 1 + t_random(70);
			float *a = t_floats(n, 2), *b = t_floats(n, 2), *y = t_floats(n, 1);
			float *want = t_floats(n, 1);
			struct line la = {a, t_random(2)}, lb = {b, t_random(2)};
			enum vector_binary fn = t_random(VECTOR_PRELU + 1);

			a[t_random((uint32_t)n)] = NAN;
			b[t_random((uint32_t)n)] = NAN;
			memcpy(want, y, (n + 16) * sizeof(float));
			vectors_scalar.binary(fn, want, la, lb, n);
			t_family(f)->v->binary(fn, y, la, lb, n);
			t_close(y, want, n + 16, 0);
			free(a);
			free(b);
			free(y);
			free(want);
		}
}

static void softmax_of_any_length_equals_the_reference_and_sums_to_one(void **state)
{
	(void)state;
	for (size_t f = 0; t_family(f); f++)
		for (size_t n = 1; n < 70; n++) {
			float *x = t_floats(3 * n, 1), *want = t_floats(3 * n, 1);
			double sum = 0;

			for (size_t i = 0; i < 3 * n; i++)
				x[i] *= i < n ? 1.0f : 1000.0f; /* large scores must not overflow */
			memcpy(want + 3 * n, x + 3 * n, 16 * sizeof(float));
			vectors_scalar.softmax(want, x, 3, n);
			t_family(f)->v->softmax(x, x, 3, n);
			t_close(x, want, 3 * n + 16, 1e-6f);
			for (size_t i = 0; i < n; i++)
				sum += (double)x[i];
			assert_true(fabs(sum - 1) < 1e-5);
			free(x);
			free(want);
		}
}

static void sums_of_any_length_equal_the_reference(void **state)
{
	(void)state;
	for (size_t f = 0; t_family(f); f++)
		for (size_t n = 1; n < 200; n++) {
			float *x = t_floats(n, 1), got, want;

			got = t_family(f)->v->sum(x, n);
			want = vectors_scalar.sum(x, n);
			t_close(&got, &want, 1, 1e-5f);
			free(x);
		}
}

static void layer_norms_of_any_length_equal_the_reference(void **state)
{
	(void)state;
	for (size_t f = 0; t_family(f); f++)
		for (int round = 0; round < 200; round++) {
			size_t n = 1 + t_random(round % 4 ? 70 : 700), rows = 1 + t_random(4);
			float *x = t_floats(n * rows, 3), *scale = t_floats(n, 2);
			float *bias = t_floats(n, 2), *y = t_floats(n * rows, 1);
			float *want = t_floats(n * rows, 1);
			struct norm p = {x, scale, t_random(2) ? bias : NULL, y, rows, n, 1e-5f,
				t_random(2)};

			memcpy(want, y, (n * rows + 16) * sizeof(float));
			t_family(f)->v->layer_norm(&p);
			p.y = want;
			vectors_scalar.layer_norm(&p);
			t_close(y, want, n * rows + 16, n == 1 ? 1e-3f : 2e-5f);
			free(x);
			free(scale);
			free(bias);
			free(y);
			free(want);
		}
}

static void products_of_any_shape_equal_the_reference(void **state)
{
	(void)state;
	for (size_t f = 0; t_family(f); f++)
		for (int round = 0; round < 300; round++) {
			struct product p = {.m = 1 + t_random(20), .k = 1 + t_random(40),
				.n = 1 + t_random(75), .alpha = 0.5f};
			float *a, *b, *c, *want;
			size_t size;

			p.a_stride = p.k + t_random(3);
			p.b_stride = p.n + t_random(3);
			p.c_stride = p.n + t_random(3);
			size = p.m * p.c_stride;
			p.a = a = t_floats(p.m * p.a_stride, 1);
			p.b = b = t_floats(p.k * p.b_stride, 1);
			p.c = c = t_floats(size, 1);
			want = t_floats(size, 1);
			memcpy(want, c, (size + 16) * sizeof(float));
			t_family(f)->v->product(&p);
			p.c = want;
			vectors_scalar.product(&p);
			t_close(c, want, size + 16, 1e-5f);
			free(a);
			free(b);
			free(c);
			free(want);
		}
}

static void transposes_of_any_shape_equal_the_reference(void **state)
{
	(void)state;
	for (size_t f = 0; t_family(f); f++)
		for (int round = 0; round < 200; round++) {
			size_t rows = 1 + t_random(40), columns = 1 + t_random(40);
			size_t from_stride = columns + t_random(3), to_stride = rows + t_random(3);
			float *from = t_floats(rows * from_stride, 1);
			float *to = t_floats(columns * to_stride, 1);
			float *want = t_floats(columns * to_stride, 1);

			memcpy(want, to, (columns * to_stride + 16) * sizeof(float));
			vectors_scalar.transpose(want, to_stride, from, from_stride, rows, columns);
			t_family(f)->v->transpose(to, to_stride, from, from_stride, rows, columns);
			t_close(to, want, columns * to_stride + 16, 0);
			free(from);
			free(to);
			free(want);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(activations_stay_within_their_stated_error),
		cmocka_unit_test(every_activation_equals_the_reference_with_nan_and_infinities),
		cmocka_unit_test(binary_lines_equal_the_reference),
		cmocka_unit_test(softmax_of_any_length_equals_the_reference_and_sums_to_one),
		cmocka_unit_test(sums_of_any_length_equal_the_reference),
		cmocka_unit_test(layer_norms_of_any_length_equal_the_reference),
		cmocka_unit_test(products_of_any_shape_equal_the_reference),
		cmocka_unit_test(transposes_of_any_shape_equal_the_reference),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
