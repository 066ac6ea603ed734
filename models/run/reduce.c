/* SPDX-License-Identifier: BSD-3-Clause
 * Along axes: reductions, ArgMax and ArgMin, cumulative sums, softmax and layer normalisation.
 */
#include <math.h>
#include <string.h>

#include "models/run/tensor.h"

/* ---- reduce ---- */

static bool reduced(const struct tensor_op *op, uint32_t d)
{
	return op->i[1] >> d & 1;
}

static int reduce_dtype(const struct tensor_op *op, struct error *err)
{
	uint32_t dtype = op->in[0].dtype;
	bool whole = op->i[0] <= REDUCE_L1 || op->i[0] == REDUCE_SUM_SQUARE;

	if (op->i[0] < 0 || op->i[0] >= REDUCE_END)
		return tensor_refuse(op, err, "function %ld", op->i[0]);
	if (dtype != WIRE_F32 && (!whole || tensor_is_float(dtype)))
		return tensor_refuse(op, err, "function %ld of dtype %u", op->i[0], dtype);
	return 0;
}

int reduce_infer(struct tensor_op *op, struct error *err)
{
	const struct tensor *in = &op->in[0];
	struct tensor *out = &op->out[0];

	if (op->i[1] < 0 || op->i[1] >> in->rank)
		return tensor_refuse(op, err, "axes %lx of rank %u", op->i[1], in->rank);
	out->dtype = in->dtype;
	for (uint32_t d = 0; d < in->rank; d++)
		if (!reduced(op, d) || op->i[2])
			out->dims[out->rank++] = reduced(op, d) ? 1 : in->dims[d];
	return reduce_dtype(op, err);
}

/* Two walks: over the kept dimensions (one element of the output each), and inside over the rest.
 */
static void reduce_walks(const struct tensor_op *op, struct walk *kept, struct walk *inside)
{
	int64_t step = 1;

	*kept = *inside = (struct walk){.n = 1};
	for (uint32_t d = 0; d < op->in[0].rank; d++) {
		struct walk *w = reduced(op, d) ? inside : kept;
		uint32_t to = w->rank++;

		w->dims[to] = op->in[0].dims[d];
		w->stride[0][to] = (int64_t)tensor_span(&op->in[0], d + 1, op->in[0].rank);
	}
	for (struct walk *w = kept; w; w = w == kept ? inside : NULL) {
		if (!w->rank) {
			w->rank = 1;
			w->dims[0] = 1;
			w->stride[0][0] = step;
		}
		walk_merge(w);
	}
}

static double reduce_start(int64_t fn)
{
	switch (fn) {
	case REDUCE_MAX:
	case REDUCE_LOG_SUM_EXP:
		return (double)-INFINITY;
	case REDUCE_MIN:
		return (double)INFINITY;
	case REDUCE_PROD:
		return 1;
	default:
		return 0;
	}
}

static double reduce_line(int64_t fn, double acc, const float *x, size_t n)
{
	switch (fn) {
	case REDUCE_MAX:
	case REDUCE_LOG_SUM_EXP: /* first its largest element */
		for (size_t i = 0; i < n; i++)
			acc = isnan(x[i]) || (double)x[i] > acc ? (double)x[i] : acc;
		break;
	case REDUCE_MIN:
		for (size_t i = 0; i < n; i++)
			acc = isnan(x[i]) || (double)x[i] < acc ? (double)x[i] : acc;
		break;
	case REDUCE_PROD:
		for (size_t i = 0; i < n; i++)
			acc *= (double)x[i];
		break;
	case REDUCE_L1:
		for (size_t i = 0; i < n; i++)
			acc += fabs((double)x[i]);
		break;
	case REDUCE_L2:
	case REDUCE_SUM_SQUARE:
		for (size_t i = 0; i < n; i++)
			acc += (double)x[i] * (double)x[i];
		break;
	default:
		for (size_t i = 0; i < n; i++)
			acc += (double)x[i];
		break;
	}
	return acc;
}

/* Visit every element of `inside` from `base` on, a block at a time; with `top`, sum exp(x - top).
 */
static double reduce_float(const struct tensor_op *op, const float *x, struct walk inside,
	int64_t base, const double *top)
{
	double acc = top ? 0 : reduce_start(op->i[0]);
	const uint32_t last = inside.rank - 1;
	const int64_t stride = inside.stride[0][last];
	float block[TENSOR_BLOCK];

	do {
		for (uint32_t i = 0; i < inside.dims[last]; i += TENSOR_BLOCK) {
			size_t left = inside.dims[last] - i;
			size_t n = left < TENSOR_BLOCK ? left : TENSOR_BLOCK;
			const float *v = tensor_load_f32(
				WIRE_F32, x, base + inside.at[0] + i * stride, stride, n, block);

			if (!top)
				acc = reduce_line(op->i[0], acc, v, n);
			else
				for (size_t k = 0; k < n; k++)
					acc += exp((double)v[k] - *top);
		}
	} while (walk_next(&inside));
	return acc;
}

static float reduce_finish(int64_t fn, double acc, double count)
{
	switch (fn) {
	case REDUCE_MEAN:
		return (float)(acc / count);
	case REDUCE_L2:
		return (float)sqrt(acc);
	case REDUCE_LOG_SUM:
		return (float)log(acc);
	default:
		return (float)acc;
	}
}

static int64_t reduce_integer_step(int64_t fn, int64_t acc, int64_t x)
{
	switch (fn) {
	case REDUCE_MAX:
		return x > acc ? x : acc;
	case REDUCE_MIN:
		return x < acc ? x : acc;
	case REDUCE_PROD:
		return (int64_t)((uint64_t)acc * (uint64_t)x);
	case REDUCE_SUM_SQUARE:
		return (int64_t)((uint64_t)acc + (uint64_t)x * (uint64_t)x);
	case REDUCE_L1:
		return (int64_t)((uint64_t)acc + (x < 0 ? 0 - (uint64_t)x : (uint64_t)x));
	default:
		return (int64_t)((uint64_t)acc + (uint64_t)x);
	}
}

static int64_t reduce_integer(
	const struct tensor_op *op, const void *x, struct walk inside, int64_t base, int64_t count)
{
	int64_t acc = op->i[0] == REDUCE_MAX ? INT64_MIN : op->i[0] == REDUCE_MIN ? INT64_MAX : 0;
	const uint32_t last = inside.rank - 1;

	acc = op->i[0] == REDUCE_PROD ? 1 : acc;
	do {
		for (uint32_t i = 0; i < inside.dims[last]; i++)
			acc = reduce_integer_step(op->i[0], acc,
				tensor_get_i64(op->in[0].dtype, x,
					(size_t)(base + inside.at[0] +
						 i * inside.stride[0][last])));
	} while (walk_next(&inside));
	return op->i[0] == REDUCE_MEAN ? acc / count : acc;
}

static void reduce_one(const struct tensor_op *op, const struct tensor_args *a,
	const struct walk *inside, int64_t base, int64_t to, int64_t count)
{
	int64_t whole;
	double acc;
	float y;

	if (op->in[0].dtype != WIRE_F32) {
		whole = reduce_integer(op, a->in[0], *inside, base, count);
		tensor_store_i64(op->out[0].dtype, a->out[0], to, 1, &whole);
		return;
	}
	acc = reduce_float(op, a->in[0], *inside, base, NULL);
	y = reduce_finish(op->i[0], acc, (double)count);
	if (op->i[0] == REDUCE_LOG_SUM_EXP && isfinite(acc))
		y = (float)(acc + log(reduce_float(op, a->in[0], *inside, base, &acc)));
	tensor_store_f32(op->out[0].dtype, a->out[0], to, 1, &y);
}

static void reduce_row(const struct tensor_op *op, const struct tensor_args *a)
{
	struct walk kept, inside;
	int64_t to = 0, count;

	reduce_walks(op, &kept, &inside);
	count = (int64_t)(tensor_elements(&op->in[0]) / tensor_elements(&op->out[0]));
	do {
		const uint32_t last = kept.rank - 1;

		for (uint32_t i = 0; i < kept.dims[last]; i++)
			reduce_one(
				op, a, &inside, kept.at[0] + i * kept.stride[0][last], to++, count);
	} while (walk_next(&kept));
}

/* Elements of one axis, or of neighbouring ones, with `outer` before and `inner` behind them. */
struct span {
	size_t outer, n, inner;
};

/* Sums and extremes of few float32 have vector kernels: which, and of what. */
static bool reduce_vectors(const struct tensor_op *op, struct span *s, enum vector_binary *fn)
{
	enum { MOST = 4096 }; /* above, sums want double */
	const struct tensor *x = &op->in[0];
	uint32_t first = 0, end;

	while (first < x->rank && !reduced(op, first))
		first++;
	for (end = first; end < x->rank && reduced(op, end);)
		end++;
	s->outer = tensor_span(x, 0, first);
	s->n = tensor_span(x, first, end);
	s->inner = tensor_span(x, end, x->rank);
	*fn = op->i[0] == REDUCE_MAX ? VECTOR_MAX : op->i[0] == REDUCE_MIN ? VECTOR_MIN : VECTOR_ADD;
	return x->dtype == WIRE_F32 && s->n <= MOST && op->i[0] <= REDUCE_MIN &&
	       op->i[1] >> end == 0 && (s->inner > 1 || *fn == VECTOR_ADD);
}

static void reduce_span(
	const struct vectors *v, enum vector_binary fn, const struct span *s, float *y, const float *x)
{
	for (size_t o = 0; o < s->outer; o++, x += s->n * s->inner, y += s->inner) {
		if (s->inner == 1) {
			*y = v->sum(x, s->n);
			continue;
		}
		memcpy(y, x, s->inner * sizeof(*y));
		for (size_t k = 1; k < s->n; k++)
			v->binary(fn, y, (struct line){y, 1}, (struct line){x + k * s->inner, 1},
				s->inner);
	}
}

void reduce_rows(const struct tensor_op *op, const struct tensor_args *a, size_t rows)
{
	const struct vectors *v = a->kernels->v;
	const size_t size = tensor_elements(&op->out[0]);
	enum vector_binary fn;
	struct span s;
	bool fast = reduce_vectors(op, &s, &fn);

	for (size_t row = 0; row < rows; row++) {
		struct tensor_args one = tensor_row(op, a, row);

		if (!fast) {
			reduce_row(op, &one);
			continue;
		}
		reduce_span(v, fn, &s, one.out[0], one.in[0]);
		if (op->i[0] == REDUCE_MEAN)
			v->unary((struct activation){MODEL_ACT_AFFINE, 1 / (float)s.n, 0},
				one.out[0], one.out[0], size);
	}
}

/* ---- lines along one axis ---- */

/* Every vector along `axis`: n elements `inner` apart. */
struct lines {
	size_t outer, n, inner;
};

static struct lines lines_along(const struct tensor *t, uint32_t axis)
{
	return (struct lines){
		tensor_span(t, 0, axis), t->dims[axis], tensor_span(t, axis + 1, t->rank)};
}

static int check_axis(const struct tensor_op *op, struct error *err)
{
	return tensor_axis(op->i[0], op->in[0].rank)
		       ? 0
		       : tensor_refuse(op, err, "axis %ld of rank %u", op->i[0], op->in[0].rank);
}

int argmax_infer(struct tensor_op *op, struct error *err)
{
	int rc = check_axis(op, err);

	if (rc)
		return rc;
	op->out[0].dtype = WIRE_I64;
	for (uint32_t d = 0; d < op->in[0].rank; d++)
		if (d != op->i[0] || op->i[1])
			op->out[0].dims[op->out[0].rank++] = d == op->i[0] ? 1 : op->in[0].dims[d];
	return 0;
}

/* Is element b better than the best so far, a? */
static bool better(const struct tensor_op *op, const void *x, size_t a, size_t b)
{
	uint32_t dtype = op->in[0].dtype;
	bool less, equal;

	if (tensor_is_float(dtype)) {
		float block[2];
		float va = *tensor_load_f32(dtype, x, (int64_t)a, 1, 1, block);
		float vb = *tensor_load_f32(dtype, x, (int64_t)b, 1, 1, block + 1);

		less = va < vb;
		equal = va == vb;
	} else {
		int64_t va = tensor_get_i64(dtype, x, a), vb = tensor_get_i64(dtype, x, b);

		less = va < vb;
		equal = va == vb;
	}
	if (equal)
		return op->i[3];
	return op->i[2] ? !less : less;
}

void argmax_run(const struct tensor_op *op, const struct tensor_args *a)
{
	const struct lines l = lines_along(&op->in[0], (uint32_t)op->i[0]);
	int64_t *to = a->out[0];

	for (size_t o = 0; o < l.outer; o++)
		for (size_t i = 0; i < l.inner; i++) {
			size_t base = o * l.n * l.inner + i, best = 0;

			for (size_t k = 1; k < l.n; k++)
				if (better(op, a->in[0], base + best * l.inner, base + k * l.inner))
					best = k;
			*to++ = (int64_t)best;
		}
}

int cumsum_infer(struct tensor_op *op, struct error *err)
{
	op->out[0] = op->in[0];
	if (op->in[0].dtype == WIRE_F16 || op->in[0].dtype == WIRE_BF16)
		return tensor_refuse(op, err, "dtype %u", op->in[0].dtype);
	return check_axis(op, err);
}

void cumsum_run(const struct tensor_op *op, const struct tensor_args *a)
{
	const struct lines l = lines_along(&op->in[0], (uint32_t)op->i[0]);
	const uint32_t dtype = op->in[0].dtype;

	for (size_t line = 0; line < l.outer * l.inner; line++) {
		size_t base = line / l.inner * l.n * l.inner + line % l.inner;
		double f = 0;
		uint64_t whole = 0;

		for (size_t k = 0; k < l.n; k++) {
			size_t at = base + (op->i[2] ? l.n - 1 - k : k) * l.inner;
			double f_next = f;
			uint64_t whole_next = whole;

			if (dtype == WIRE_F32)
				f_next += (double)((const float *)a->in[0])[at];
			else
				whole_next += (uint64_t)tensor_get_i64(dtype, a->in[0], at);
			float y = (float)(op->i[1] ? f : f_next);
			int64_t v = (int64_t)(op->i[1] ? whole : whole_next);

			if (dtype == WIRE_F32)
				((float *)a->out[0])[at] = y;
			else
				tensor_store_i64(dtype, a->out[0], (int64_t)at, 1, &v);
			f = f_next;
			whole = whole_next;
		}
	}
}

/* ---- softmax, layer normalisation ---- */

int softmax_infer(struct tensor_op *op, struct error *err)
{
	op->out[0] = op->in[0];
	if (op->in[0].dtype != WIRE_F32)
		return tensor_refuse(op, err, "dtype %u", op->in[0].dtype);
	return check_axis(op, err);
}

void softmax_run(const struct tensor_op *op, const struct tensor_args *a)
{
	const struct lines l = lines_along(&op->in[0], (uint32_t)op->i[0]);
	const struct model_op shape = {
		.m = (uint32_t)l.outer, .n = (uint32_t)l.n, .k = (uint32_t)l.inner};

	if (l.inner == 1)
		a->kernels->v->softmax(a->out[0], a->in[0], l.outer, l.n);
	else
		softmax_strided_run(&shape, a->out[0], a->in[0]);
}

int layer_norm_infer(struct tensor_op *op, struct error *err)
{
	const struct tensor *x = &op->in[0];
	int rc = check_axis(op, err);

	if (rc)
		return rc;
	op->out[0] = *x;
	for (uint32_t k = 0; k < op->n_in; k++)
		if (op->in[k].dtype &&
			(op->in[k].dtype != WIRE_F32 ||
				(k && tensor_elements(&op->in[k]) !=
						tensor_span(x, (uint32_t)op->i[0], x->rank))))
			return tensor_refuse(op, err, "input %u has another shape or dtype", k);
	return 0;
}

void layer_norm_rows(const struct tensor_op *op, const struct tensor_args *a, size_t rows)
{
	const size_t n = tensor_span(&op->in[0], (uint32_t)op->i[0], op->in[0].rank);

	a->kernels->v->layer_norm(&(struct norm){
		.x = a->in[0],
		.scale = a->in[1],
		.bias = a->in[2],
		.y = a->out[0],
		.rows = rows * (tensor_elements(&op->in[0]) / n),
		.n = n,
		.epsilon = op->f[0],
		.rms = op->i[1] != 0,
	});
}
