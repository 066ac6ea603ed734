/* SPDX-License-Identifier: BSD-3-Clause
 * millrace-model run: rows from .npy files through a model, answers into .npy files.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file_replace.h"
#include "base/npy.h"
#include "models/tool/rows.h"

enum { IO = MODEL_FILE_MAX_IO, NPY_HEADER_ROOM = 512 };

struct arguments {
	const char *model, *in[IO], *out[IO], *against, *labels;
	uint32_t n_in, n_out;
	unsigned long batch;
	enum model_backend backend;
};

static int parse(int argc, char **argv, struct arguments *a)
{
	static const struct option options[] = {{"batch", required_argument, NULL, 'n'},
		{"backend", required_argument, NULL, 'b'},
		{"against", required_argument, NULL, 'a'}, {"labels", required_argument, NULL, 'l'},
		{NULL, 0, NULL, 0}};
	int c;

	while ((c = getopt_long(argc, argv, "o:", options, NULL)) != -1) {
		if (c == 'o' && a->n_out < IO)
			a->out[a->n_out++] = optarg;
		else if (c == 'a')
			a->against = optarg;
		else if (c == 'l')
			a->labels = optarg;
		else if ((c != 'n' || !tool_number(optarg, 1, MODEL_FILE_MAX_ROWS, &a->batch)) &&
			 (c != 'b' || !tool_backend(optarg, &a->backend)))
			return tool_usage("run: bad option or value '%s'", optarg ? optarg : "");
	}
	if (argc - optind < 2 || argc - optind > IO + 1 || (!a->n_out && !a->against))
		return tool_usage("run takes MODEL.mrm, one IN.npy per input and -o OUT.npy per "
				  "output, or --against");
	a->model = argv[optind];
	while (++optind < argc)
		a->in[a->n_in++] = argv[optind];
	return TOOL_OK;
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
	rc = file_replace(a->out[i], file, head + n * bytes, 0644, err);
	free(file);
	return rc;
}

/* The answers of a second model to the same rows, for comparison. */
static int run_against(const struct arguments *a, const struct model *m, const struct tool_rows *x,
	struct error *err)
{
	struct tool_model other;
	int rc = tool_model_open(&other, a->against, MODEL_BACKEND_AUTO, err);

	if (rc)
		return rc;
	rc = tool_accuracy(other.model, m, x, a->labels, err);
	tool_model_close(&other);
	return rc;
}

static int run_files(const struct arguments *a, const struct model *m, struct error *err)
{
	const struct model_file_header *h = model_header(m);
	uint32_t batch = a->batch && a->batch < h->max_rows ? (uint32_t)a->batch : h->max_rows;
	struct tool_rows x;
	uint8_t *out = NULL;
	int rc = tool_rows_read(a->in, a->n_in, h, &x, err);

	if (!rc && a->n_out && a->n_out != h->n_outputs)
		rc = error_set(err, -EINVAL, "the model has %u outputs, given are %u files",
			h->n_outputs, a->n_out);
	if (!rc) {
		out = calloc(x.n, h->row_out_bytes);
		rc = out ? 0 : error_set(err, -ENOMEM, "no memory for %zu rows", x.n);
	}
	if (!rc && a->n_out)
		rc = tool_rows_run(m, x.n < batch ? (uint32_t)x.n : batch, x.n, x.bytes, out, err);
	for (uint32_t i = 0; !rc && i < a->n_out; i++)
		rc = write_output(a, h, i, out, x.n, err);
	if (!rc && a->against)
		rc = run_against(a, m, &x, err);
	free(x.bytes);
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
