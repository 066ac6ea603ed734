/* SPDX-License-Identifier: BSD-3-Clause
 * Scalar reference of the vector kernels: what the others are tested against.
 */
#include <math.h>

#include "models/run/kernels.h"

static double gelu_tanh(double x)
{
	return 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
}

static double softplus(double x)
{
	return (x > 0 ? x : 0) + log1p(exp(-fabs(x)));
}

/* Functions that the first engine did not have, all in double. */
static double activation_double(struct activation act, double x)
{
	double unit;

	switch (act.kind) {
	case MODEL_ACT_LOG:
		return log(x);
	case MODEL_ACT_ERF:
		return erf(x);
	case MODEL_ACT_RECIPROCAL:
		return 1 / x;
	case MODEL_ACT_AFFINE:
		return (double)act.a * x + (double)act.b;
	case MODEL_ACT_ELU:
		return (double)act.b * (x < 0 ? (double)act.a * expm1(x) : x);
	case MODEL_ACT_HARD_SIGMOID:
	case MODEL_ACT_HARD_SWISH:
		unit = act.kind == MODEL_ACT_HARD_SWISH ? x / 6 + 0.5
							: (double)act.a * x + (double)act.b;
		unit = unit < 0 ? 0 : unit > 1 ? 1 : unit;
		return act.kind == MODEL_ACT_HARD_SWISH ? x * unit : unit;
	case MODEL_ACT_SOFTPLUS:
		return softplus(x);
	case MODEL_ACT_SOFTSIGN:
		return x / (1 + fabs(x));
	case MODEL_ACT_GELU:
		return 0.5 * x * erfc(-x * 0.70710678118654752);
	case MODEL_ACT_GELU_TANH:
		return gelu_tanh(x);
	case MODEL_ACT_SILU:
		return x / (1 + exp(-(double)act.a * x));
	case MODEL_ACT_MISH:
		return x * tanh(softplus(x));
	case MODEL_ACT_FLOOR:
		return floor(x);
	case MODEL_ACT_CEIL:
		return ceil(x);
	default:
		return nearbyint(x);
	}
}

float activation_scalar(struct activation act, float x)
{
	switch (act.kind) {
	case MODEL_ACT_NONE:
		return x;
	case MODEL_ACT_RELU:
		return x < 0 ? 0 : x;
	case MODEL_ACT_SIGMOID:
		return (float)(1.0 / (1.0 + exp(-(double)x)));
	case MODEL_ACT_TANH:
		return tanhf(x);
	case MODEL_ACT_LEAKY_RELU:
		return x < 0 ? act.a * x : x;
	case MODEL_ACT_CLIP:
		x = x < act.a ? act.a : x;
		return x > act.b ? act.b : x;
	case MODEL_ACT_NEG:
		return -x;
	case MODEL_ACT_ABS:
		return fabsf(x);
	case MODEL_ACT_EXP:
		return expf(x);
	case MODEL_ACT_SQRT:
		return sqrtf(x);
	default:
		return (float)activation_double(act, (double)x);
	}
}

static void unary(struct activation act, float *y, const float *x, size_t n)
{
	for (size_t i = 0; i < n; i++)
		y[i] = activation_scalar(act, x[i]);
}

static float two(enum vector_binary fn, float a, float b)
{
	switch (fn) {
	case VECTOR_ADD:
		return a + b;
	case VECTOR_SUB:
		return a - b;
	case VECTOR_MUL:
		return a * b;
	case VECTOR_DIV:
		return a / b;
	case VECTOR_MIN:
		return isnan(a) || a < b ? a : b;
	case VECTOR_MAX:
		return isnan(a) || a > b ? a : b;
	default:
		return a < 0 ? a * b : a;
	}
}

static void binary(enum vector_binary fn, float *y, struct line a, struct line b, size_t n)
{
	for (size_t i = 0; i < n; i++)
		y[i] = two(fn, a.x[i * a.step], b.x[i * b.step]);
}

/* Subtracting the largest element first keeps every exponential in (0, 1]. */
static void softmax_one(float *y, const float *x, size_t n, size_t stride)
{
	float top = x[0];
	double sum = 0;

	for (size_t i = 1; i < n; i++)
		top = x[i * stride] > top ? x[i * stride] : top;
	for (size_t i = 0; i < n; i++) {
		y[i * stride] = expf(x[i * stride] - top);
		sum += (double)y[i * stride];
	}
	for (size_t i = 0; i < n; i++)
		y[i * stride] = (float)((double)y[i * stride] / sum);
}

static void softmax(float *y, const float *x, size_t rows, size_t n)
{
	for (size_t r = 0; r < rows; r++)
		softmax_one(y + r * n, x + r * n, n, 1);
}

void softmax_strided_run(const struct model_op *op, float *dst, const float *src)
{
	size_t n = op->n, inner = op->k;

	for (size_t m = 0; m < op->m; m++)
		for (size_t i = 0; i < inner; i++)
			softmax_one(dst + m * n * inner + i, src + m * n * inner + i, n, inner);
}

static float sum(const float *x, size_t n)
{
	double sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += (double)x[i];
	return (float)sum;
}

static void layer_norm_one(const struct norm *p, float *y, const float *x)
{
	double mean = 0, variance = 0, factor;

	for (size_t i = 0; i < p->n && !p->rms; i++)
		mean += (double)x[i];
	mean /= (double)p->n;
	for (size_t i = 0; i < p->n; i++)
		variance += ((double)x[i] - mean) * ((double)x[i] - mean);
	factor = 1 / sqrt(variance / (double)p->n + (double)p->epsilon);
	for (size_t i = 0; i < p->n; i++)
		y[i] = (float)(((double)x[i] - mean) * factor * (double)p->scale[i] +
			       (p->bias ? (double)p->bias[i] : 0));
}

static void layer_norm(const struct norm *p)
{
	for (size_t r = 0; r < p->rows; r++)
		layer_norm_one(p, p->y + r * p->n, p->x + r * p->n);
}

static void product(const struct product *p)
{
	for (size_t m = 0; m < p->m; m++)
		for (size_t n = 0; n < p->n; n++) {
			double sum = 0;

			for (size_t k = 0; k < p->k; k++)
				sum += (double)p->a[m * p->a_stride + k] *
				       (double)p->b[k * p->b_stride + n];
			p->c[m * p->c_stride + n] = (float)((double)p->alpha * sum);
		}
}

static void transpose(float *to, size_t to_stride, const float *from, size_t from_stride,
	size_t rows, size_t columns)
{
	for (size_t r = 0; r < rows; r++)
		for (size_t c = 0; c < columns; c++)
			to[c * to_stride + r] = from[r * from_stride + c];
}

const struct vectors vectors_scalar = {
	.unary = unary,
	.binary = binary,
	.softmax = softmax,
	.sum = sum,
	.layer_norm = layer_norm,
	.product = product,
	.transpose = transpose,
};
