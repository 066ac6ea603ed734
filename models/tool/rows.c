/* SPDX-License-Identifier: BSD-3-Clause
 * Reading rows, comparing answers, watching the ranges of layers: see rows.h.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/npy.h"
#include "models/run/model_private.h"
#include "models/tool/rows.h"

enum { IO = MODEL_FILE_MAX_IO, SLICE = 32 };

struct arrays {
	uint8_t *file[IO];
	struct npy npy[IO];
	size_t rows;
};

static int array_rows(
	const struct npy *a, const struct model_file_io *io, size_t *rows, struct error *err)
{
	bool one = a->rank == io->rank;

	if (a->dtype != io->dtype)
		return error_set(
			err, -EINVAL, "the array has another dtype than input '%s'", io->name);

	for (uint32_t d = 0; one && d < a->rank; d++)
		one = a->dims[d] == io->dims[d];
	*rows = one ? 1 : a->rank ? a->dims[0] : 0;
	if (!*rows || *rows > SIZE_MAX / io->row_bytes || a->elements != *rows * io->elements)
		return error_set(err, -EINVAL,
			"%lu elements are not a whole number of rows of %u for "
			"input '%s'",
			a->elements, io->elements, io->name);
	return 0;
}

static int arrays_read(struct arrays *x, const char *const *paths, uint32_t n,
	const struct model_file_header *h, struct error *err)
{
	if (n != h->n_inputs)
		return error_set(err, -EINVAL, "the model has %u inputs, given are %u files",
			h->n_inputs, n);
	for (uint32_t i = 0; i < n; i++) {
		size_t size, rows = 0;
		int rc = tool_read(paths[i], (size_t)1 << 34, &x->file[i], &size, err);

		if (rc)
			return rc;
		rc = npy_parse(x->file[i], size, &x->npy[i], err);
		if (!rc)
			rc = array_rows(&x->npy[i], &h->inputs[i], &rows, err);
		if (!rc && i && rows != x->rows)
			rc = error_set(
				err, -EINVAL, "%zu rows, the first input has %zu", rows, x->rows);
		if (rc)
			return error_prefix(err, "%s", paths[i]);
		x->rows = rows;
	}
	return 0;
}

/* A request row is all inputs one after the other. */
static void interleave(const struct arrays *x, const struct model_file_header *h, uint8_t *rows)
{
	for (size_t r = 0; r < x->rows; r++)
		for (uint32_t i = 0; i < h->n_inputs; i++) {
			const struct model_file_io *io = &h->inputs[i];
			size_t bytes = (size_t)io->elements * wire_dtype_bytes(io->dtype);

			memcpy(rows, (const uint8_t *)x->npy[i].data + r * bytes, bytes);
			rows += io->row_bytes;
		}
}

int tool_rows_read(const char *const *paths, uint32_t n_paths, const struct model_file_header *h,
	struct tool_rows *rows, struct error *err)
{
	struct arrays x = {0};
	int rc = arrays_read(&x, paths, n_paths, h, err);

	*rows = (struct tool_rows){.n = x.rows};
	if (!rc) {
		rows->bytes = calloc(x.rows, h->row_in_bytes);
		if (rows->bytes)
			interleave(&x, h, rows->bytes);
		else
			rc = error_set(err, -ENOMEM, "no memory for %zu rows", x.rows);
	}
	for (uint32_t i = 0; i < IO; i++)
		free(x.file[i]);
	return rc;
}

/* ---- two models, the same rows ---- */

struct difference {
	double most, sum, relative_most, relative_sum;
	size_t values, same, right[2];
};

static bool alike(const struct model_file_header *a, const struct model_file_header *b)
{
	bool same = a->n_inputs == b->n_inputs && a->n_outputs == b->n_outputs;

	for (uint32_t i = 0; same && i < a->n_inputs; i++)
		same = a->inputs[i].elements == b->inputs[i].elements &&
		       a->inputs[i].dtype == b->inputs[i].dtype;
	for (uint32_t i = 0; same && i < a->n_outputs; i++)
		same = a->outputs[i].elements == b->outputs[i].elements &&
		       a->outputs[i].dtype == b->outputs[i].dtype;
	return same;
}

/* Relative to the largest value of the output, so that values near 0 do not count for all. */
static void compare_values(struct difference *d, const float *want, const float *got, uint32_t n)
{
	double scale = 0;

	for (uint32_t i = 0; i < n; i++)
		scale = fmax(scale, fabs((double)want[i]));
	for (uint32_t i = 0; i < n; i++) {
		double e = fabs((double)got[i] - (double)want[i]);

		d->most = e > d->most ? e : d->most;
		d->sum += e;
		if (scale > 0) {
			d->relative_most = fmax(d->relative_most, e / scale);
			d->relative_sum += e / scale;
		}
	}
	d->values += n;
}

/* A single score is a class by its sign or, as a probability, by one half. */
static int64_t class_of(const float *y, uint32_t n, bool probability)
{
	uint32_t best = 0;

	if (n == 1)
		return y[0] > (probability ? 0.5f : 0.0f);
	for (uint32_t i = 1; i < n; i++)
		best = y[i] > y[best] ? i : best;
	return best;
}

static bool probabilities(const uint8_t *y, size_t rows, const struct model_file_header *h)
{
	for (size_t r = 0; r < rows; r++) {
		float v = ((const float *)(y + r * h->row_out_bytes))[0];

		if (!(v >= 0 && v <= 1))
			return false;
	}
	return true;
}

static void compare_rows(struct difference *d, const struct model_file_header *h,
	const uint8_t *want, const uint8_t *got, const struct npy *labels, size_t rows)
{
	bool scores = h->outputs[0].dtype == WIRE_F32;
	bool chance = scores && probabilities(want, rows, h);

	for (size_t r = 0; r < rows; r++, want += h->row_out_bytes, got += h->row_out_bytes) {
		const float *a = (const float *)want, *b = (const float *)got;
		int64_t class[2];
		size_t at = 0;

		for (uint32_t i = 0; i < h->n_outputs; at += h->outputs[i++].row_bytes)
			if (h->outputs[i].dtype == WIRE_F32)
				compare_values(d, (const float *)(want + at),
					(const float *)(got + at), h->outputs[i].elements);
		if (!scores)
			continue;
		class[0] = class_of(a, h->outputs[0].elements, chance);
		class[1] = class_of(b, h->outputs[0].elements, chance);
		d->same += class[0] == class[1];
		for (int i = 0; labels && i < 2; i++)
			d->right[i] += class[i] == (int64_t)npy_value(labels, r);
	}
}

static void print_difference(
	const struct difference *d, const struct model_file_header *h, size_t rows, bool labelled)
{
	double values = d->values ? (double)d->values : 1, n = (double)rows;

	printf("accuracy   %zu rows: absolute error %.3g at most, %.3g on average; relative to "
	       "each "
	       "output's largest value %.3g at most, %.3g on average\n",
		rows, d->most, d->sum / values, d->relative_most, d->relative_sum / values);
	if (h->outputs[0].dtype != WIRE_F32)
		return;
	printf("labels     the same in %zu of %zu rows (%.2f %%)\n", d->same, rows,
		100 * (double)d->same / n);
	if (labelled)
		printf("right      %.2f %%, in float32 %.2f %%\n", 100 * (double)d->right[1] / n,
			100 * (double)d->right[0] / n);
}

static int labels_read(
	const char *path, size_t rows, uint8_t **file, struct npy *labels, struct error *err)
{
	size_t size;
	int rc = tool_read(path, (size_t)1 << 30, file, &size, err);

	if (!rc)
		rc = npy_parse(*file, size, labels, err);
	if (!rc && labels->elements != rows)
		rc = error_set(err, -EINVAL, "%lu labels for %zu rows", labels->elements, rows);
	return rc ? error_prefix(err, "%s", path) : 0;
}

int tool_accuracy(const struct model *reference, const struct model *m,
	const struct tool_rows *rows, const char *labels, struct error *err)
{
	const struct model_file_header *h = model_header(reference);
	size_t bytes = rows->n * h->row_out_bytes;
	uint8_t *want = malloc(bytes ? bytes : 1), *got = malloc(bytes ? bytes : 1), *file = NULL;
	struct difference d = {0};
	struct npy truth;
	int rc = 0;

	if (!want || !got)
		rc = error_set(err, -ENOMEM, "no memory for %zu answers", rows->n);
	else if (!alike(h, model_header(m)))
		rc = error_set(err, -EINVAL, "the models' inputs or outputs differ");
	if (!rc && labels)
		rc = labels_read(labels, rows->n, &file, &truth, err);
	if (!rc)
		rc = tool_rows_run(reference, SLICE, rows->n, rows->bytes, want, err);
	if (!rc)
		rc = tool_rows_run(m, SLICE, rows->n, rows->bytes, got, err);
	if (!rc) {
		compare_rows(&d, h, want, got, labels ? &truth : NULL, rows->n);
		print_difference(&d, h, rows->n, labels != NULL);
	}
	free(want);
	free(got);
	free(file);
	return rc;
}

/* ---- ranges ---- */

static void watch(struct compile_layer *l, const float *x, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		l->low = x[i] < l->low ? x[i] : l->low;
		l->high = x[i] > l->high ? x[i] : l->high;
	}
}

/* With a deadline in the past a run of one block of at most 32 rows stops before every operator. */
static void watch_batch(
	const struct model *m, struct run *r, uint32_t n, struct compile_layer *layers)
{
	for (uint32_t i = 0, dense = 0; !run_step(r, 0) && i < m->program.n_ops; i++) {
		const struct model_op *op = &m->steps[i].op;

		if (op->kind == MODEL_OP_DENSE)
			watch(&layers[dense++], run_buffer(r, op->src[0]),
				(size_t)n * op->m * op->k);
	}
}

int tool_calibrate(const struct model *m, const struct tool_rows *rows,
	struct compile_layer *layers, struct error *err)
{
	const struct model_file_header *h = model_header(m);
	size_t bytes = (run_bytes(m, SLICE) + MODEL_FILE_ALIGN - 1) / MODEL_FILE_ALIGN;
	void *memory = aligned_alloc(MODEL_FILE_ALIGN, bytes * MODEL_FILE_ALIGN);
	uint8_t *out = malloc((size_t)SLICE * h->row_out_bytes);
	struct run *r = memory && out ? run_init(memory, m, SLICE) : NULL;

	for (size_t at = 0, n; r && at < rows->n; at += n) {
		const void *from[SLICE];
		void *to[SLICE];

		n = rows->n - at < run_block(r) ? rows->n - at : run_block(r);
		for (size_t i = 0; i < n; i++) {
			from[i] = rows->bytes + (at + i) * h->row_in_bytes;
			to[i] = out + i * h->row_out_bytes;
		}
		run_start(r, (uint32_t)n, from, to);
		watch_batch(m, r, (uint32_t)n, layers);
	}
	free(memory);
	free(out);
	return r ? 0 : error_set(err, -ENOMEM, "no memory to calibrate");
}
