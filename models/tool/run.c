/* SPDX-License-Identifier: BSD-3-Clause
 * millrace-model run: rows from .npy files through a model, answers into .npy files.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/tool/npy.h"
#include "models/tool/tool.h"

enum { IO = MODEL_FILE_MAX_IO, NPY_HEADER_ROOM = 512 };

struct arguments {
	const char *model, *in[IO], *out[IO];
	uint32_t n_in, n_out;
	unsigned long batch;
	enum model_backend backend;
};

struct arrays {
	uint8_t *file[IO];
	struct npy npy[IO];
	size_t rows;
};

static int parse(int argc, char **argv, struct arguments *a)
{
	static const struct option options[] = {{"batch", required_argument, NULL, 'n'},
		{"backend", required_argument, NULL, 'b'}, {NULL, 0, NULL, 0}};
	int c;

	while ((c = getopt_long(argc, argv, "o:", options, NULL)) != -1) {
		if (c == 'o' && a->n_out < IO)
			a->out[a->n_out++] = optarg;
		else if ((c != 'n' || !tool_number(optarg, 1, MODEL_FILE_MAX_ROWS, &a->batch)) &&
			 (c != 'b' || !tool_backend(optarg, &a->backend)))
			return tool_usage("run: bad option or value '%s'", optarg ? optarg : "");
	}
	if (argc - optind < 2 || argc - optind > IO + 1 || !a->n_out)
		return tool_usage(
			"run takes MODEL.mrm, one IN.npy per input and -o OUT.npy per output");
	a->model = argv[optind];
	while (++optind < argc)
		a->in[a->n_in++] = argv[optind];
	return TOOL_OK;
}

/* [rows][the input's dimensions], [rows][elements], or one row without the leading dimension. */
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

static int arrays_read(struct arrays *x, const struct arguments *a,
	const struct model_file_header *h, struct error *err)
{
	if (a->n_in != h->n_inputs || a->n_out != h->n_outputs)
		return error_set(err, -EINVAL,
			"the model has %u inputs and %u outputs, given are %u and "
			"%u files",
			h->n_inputs, h->n_outputs, a->n_in, a->n_out);
	for (uint32_t i = 0; i < a->n_in; i++) {
		size_t size, rows = 0;
		int rc = tool_read(a->in[i], (size_t)1 << 34, &x->file[i], &size, err);

		if (rc)
			return rc;
		rc = npy_parse(x->file[i], size, &x->npy[i], err);
		if (!rc)
			rc = array_rows(&x->npy[i], &h->inputs[i], &rows, err);
		if (!rc && i && rows != x->rows)
			rc = error_set(
				err, -EINVAL, "%zu rows, the first input has %zu", rows, x->rows);
		if (rc)
			return error_prefix(err, "%s", a->in[i]);
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

static int write_output(const struct arguments *a, const struct model_file_header *h, uint32_t i,
	const uint8_t *rows, size_t n, struct error *err)
{
	const struct model_file_io *io = &h->outputs[i];
	uint64_t dims[MODEL_FILE_MAX_RANK + 1] = {n};
	size_t head, offset = 0, bytes = (size_t)io->elements * wire_dtype_bytes(io->dtype);
	char *file = malloc(NPY_HEADER_ROOM + n * io->row_bytes);
	int rc;

	if (!file)
		return error_set(err, -ENOMEM, "no memory for output '%s'", io->name);
	for (uint32_t d = 0; d < io->rank; d++)
		dims[d + 1] = io->dims[d];
	for (uint32_t o = 0; o < i; o++)
		offset += h->outputs[o].row_bytes;
	head = npy_header(io->dtype, dims, io->rank + 1, file, NPY_HEADER_ROOM);
	for (size_t r = 0; r < n; r++)
		memcpy(file + head + r * bytes, rows + r * h->row_out_bytes + offset, bytes);
	rc = tool_write(a->out[i], file, head + n * bytes, err);
	free(file);
	return rc;
}

static int run_files(const struct arguments *a, const struct model *m, struct error *err)
{
	const struct model_file_header *h = model_header(m);
	struct arrays x = {0};
	uint8_t *in = NULL, *out = NULL;
	uint32_t batch = a->batch && a->batch < h->max_rows ? (uint32_t)a->batch : h->max_rows;
	int rc = arrays_read(&x, a, h, err);

	if (!rc) {
		in = calloc(x.rows, h->row_in_bytes);
		out = calloc(x.rows, h->row_out_bytes);
		rc = in && out ? 0 : error_set(err, -ENOMEM, "no memory for %zu rows", x.rows);
	}
	if (!rc) {
		interleave(&x, h, in);
		rc = tool_rows_run(
			m, x.rows < batch ? (uint32_t)x.rows : batch, x.rows, in, out, err);
	}
	for (uint32_t i = 0; !rc && i < h->n_outputs; i++)
		rc = write_output(a, h, i, out, x.rows, err);
	for (uint32_t i = 0; i < IO; i++)
		free(x.file[i]);
	free(in);
	free(out);
	return rc;
}

int cmd_run(int argc, char **argv)
{
	struct arguments a = {.backend = MODEL_BACKEND_AUTO};
	struct tool_model t;
	struct error err;
	int rc = parse(argc, argv, &a);

	if (rc)
		return rc;
	if (tool_model_open(&t, a.model, a.backend, &err))
		return tool_refuse(&err);
	rc = run_files(&a, t.model, &err);
	tool_model_close(&t);
	return rc ? tool_refuse(&err) : TOOL_OK;
}
