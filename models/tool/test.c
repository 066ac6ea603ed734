/* SPDX-License-Identifier: BSD-3-Clause
 * millrace-model test: ONNX backend-test folders. A folder holds model.onnx and
 * test_data_set_N/{input,output}_K.pb; folders of folders are walked in name order.
 */
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "models/compile/onnx_wire.h"
#include "models/tool/tool.h"

enum { MAX_DEPTH = 4, PATH_ROOM = 4096, MAX_TENSOR_BYTES = 1 << 28 };

static const double relative_limit = 1e-3, absolute_limit = 1e-7;

struct totals {
	unsigned passed, failed, unsupported;
	enum model_backend backend;
};

enum verdict { PASS, FAIL, UNSUPPORTED };

/* One .pb file, unpacked. */
struct pb {
	uint8_t *bytes;
	ProtobufCMessage *message;
	struct onnx_tensor tensor;
};

static void pb_close(struct pb *p)
{
	onnx_free(p->message);
	free(p->bytes);
	*p = (struct pb){0};
}

static int pb_open(struct pb *p, const char *set, const char *what, uint32_t i, struct error *err)
{
	char path[PATH_ROOM];
	size_t size;
	int rc;

	*p = (struct pb){0};
	snprintf(path, sizeof(path), "%s/%s_%u.pb", set, what, i);
	rc = tool_read(path, MAX_TENSOR_BYTES, &p->bytes, &size, err);
	if (!rc)
		rc = onnx_unpack(&onnx__tensor_proto__descriptor, p->bytes, size, &p->message, err);
	if (!rc)
		rc = onnx_tensor_read((const Onnx__TensorProto *)p->message, &p->tensor, err);
	if (!rc && !p->tensor.f32)
		rc = error_set(err, -ENOTSUP, "%s_%u is no FLOAT tensor", what, i);
	return rc;
}

/* Rows in a tensor: its first dimension if the model has a batch, else one. */
static size_t tensor_rows(const struct onnx_tensor *t, const struct model_file_io *io)
{
	return t->rank == io->rank + 1 ? (size_t)t->dims[0] : 1;
}

static bool tensor_fits(const struct onnx_tensor *t, const struct model_file_io *io, size_t rows)
{
	uint32_t first = t->rank - io->rank;

	if (t->rank < io->rank || first > 1 || tensor_rows(t, io) != rows)
		return false;
	for (uint32_t d = 0; d < io->rank; d++)
		if (t->dims[first + d] != io->dims[d])
			return false;
	return true;
}

static int read_rows(const char *set, const struct model_file_header *h, uint8_t **in, size_t *rows,
	struct error *err)
{
	size_t offset = 0;

	*in = NULL;
	for (uint32_t i = 0; i < h->n_inputs; i++) {
		const struct model_file_io *io = &h->inputs[i];
		struct pb p;
		int rc = pb_open(&p, set, "input", i, err);

		if (!rc && i == 0) {
			*rows = tensor_rows(&p.tensor, io);
			*in = *rows && *rows < 1 << 20 ? calloc(*rows, h->row_in_bytes) : NULL;
		}
		if (!rc && (!*in || !tensor_fits(&p.tensor, io, *rows)))
			rc = error_set(err, -EINVAL, "input_%u does not have the shape of '%s'", i,
				io->name);
		for (size_t r = 0; !rc && r < *rows; r++)
			memcpy(*in + r * h->row_in_bytes + offset, p.tensor.f32 + r * io->elements,
				io->row_bytes);
		offset += io->row_bytes;
		pb_close(&p);
		if (rc)
			return rc;
	}
	return 0;
}

static bool is_close(float got, float want)
{
	if (isnan(want) || isinf(want))
		return isnan(want) ? isnan(got) : got == want;
	return fabs((double)got - (double)want) <=
	       absolute_limit + relative_limit * fabs((double)want);
}

static int compare_output(const char *set, const struct model_file_header *h, uint32_t i,
	const uint8_t *out, size_t rows, struct error *err)
{
	const struct model_file_io *io = &h->outputs[i];
	size_t offset = 0;
	struct pb p;
	int rc = pb_open(&p, set, "output", i, err);

	for (uint32_t o = 0; o < i; o++)
		offset += h->outputs[o].row_bytes;
	if (!rc && !tensor_fits(&p.tensor, io, rows))
		rc = error_set(err, -EBADMSG, "output '%s' has another shape", io->name);
	for (size_t r = 0; !rc && r < rows; r++)
		for (size_t e = 0; !rc && e < io->elements; e++) {
			float got, want = p.tensor.f32[r * io->elements + e];

			memcpy(&got, out + r * h->row_out_bytes + offset + e * sizeof(got),
				sizeof(got));
			if (!is_close(got, want))
				rc = error_set(err, -EBADMSG,
					"output '%s' element %zu is %.8g, expected "
					"%.8g",
					io->name, r * io->elements + e, (double)got, (double)want);
		}
	pb_close(&p);
	return rc;
}

static int run_set(const char *set, const struct model *m, struct error *err)
{
	const struct model_file_header *h = model_header(m);
	uint8_t *in, *out = NULL;
	size_t rows = 0;
	int rc = read_rows(set, h, &in, &rows, err);

	if (!rc) {
		out = calloc(rows, h->row_out_bytes);
		rc = out ? tool_rows_run(m, rows < h->max_rows ? (uint32_t)rows : h->max_rows, rows,
				   in, out, err)
			 : error_set(err, -ENOMEM, "no memory for %zu rows", rows);
	}
	for (uint32_t i = 0; !rc && i < h->n_outputs; i++)
		rc = compare_output(set, h, i, out, rows, err);
	free(in);
	free(out);
	return rc;
}

static enum verdict test_folder(const char *folder, const struct totals *t, struct error *err)
{
	char path[PATH_ROOM];
	struct tool_model m;
	unsigned sets = 0;
	int rc;

	snprintf(path, sizeof(path), "%s/model.onnx", folder);
	rc = tool_model_open(&m, path, t->backend, err);
	if (rc) {
		size_t prefix = strlen(path) + 2;

		memmove(err->text, err->text + prefix, strlen(err->text) - prefix + 1);
		return rc == -EIO ? FAIL : UNSUPPORTED;
	}
	for (; !rc; sets++) {
		snprintf(path, sizeof(path), "%s/test_data_set_%u", folder, sets);
		if (access(path, F_OK))
			break;
		rc = run_set(path, m.model, err);
	}
	tool_model_close(&m);
	if (!rc && !sets)
		rc = error_set(err, -ENOTSUP, "no test_data_set_0");
	return !rc ? PASS : rc == -ENOTSUP ? UNSUPPORTED : FAIL;
}

static void report(const char *folder, struct totals *t)
{
	struct error err = {0};

	switch (test_folder(folder, t, &err)) {
	case PASS:
		t->passed++;
		printf("pass  %s\n", folder);
		break;
	case FAIL:
		t->failed++;
		printf("FAIL: %s  %s\n", err.text, folder);
		break;
	case UNSUPPORTED:
		t->unsupported++;
		printf("unsupported: %s  %s\n", err.text, folder);
		break;
	}
}

/* Recursion is bounded by MAX_DEPTH. */
static int walk(const char *folder, int depth, struct totals *t)
{
	char path[PATH_ROOM];
	struct dirent **names;
	int n;

	if ((size_t)snprintf(path, sizeof(path), "%s/model.onnx", folder) >= sizeof(path) - 64)
		return -ENAMETOOLONG;
	if (!access(path, F_OK)) {
		report(folder, t);
		return 0;
	}
	n = depth < MAX_DEPTH ? scandir(folder, &names, NULL, alphasort) : 0;
	if (n < 0)
		return -errno;
	for (int i = 0; i < n; i++) {
		struct stat st;

		snprintf(path, sizeof(path), "%.3800s/%s", folder, names[i]->d_name);
		if (names[i]->d_name[0] != '.' && !stat(path, &st) && S_ISDIR(st.st_mode))
			walk(path, depth + 1, t);
		free(names[i]);
	}
	if (depth < MAX_DEPTH)
		free(names);
	return 0;
}

int cmd_test(int argc, char **argv)
{
	static const struct option options[] = {
		{"backend", required_argument, NULL, 'b'}, {NULL, 0, NULL, 0}};
	struct totals t = {.backend = MODEL_BACKEND_AUTO};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
		if (c != 'b' || !tool_backend(optarg, &t.backend))
			return tool_usage("test: bad option or value '%s'", optarg ? optarg : "");
	if (optind == argc)
		return tool_usage("test takes DIR...");
	for (; optind < argc; optind++) {
		int rc = walk(argv[optind], 0, &t);

		if (rc)
			return tool_usage("%s: %s", argv[optind], strerror(-rc));
	}
	printf("%u passed, %u failed, %u unsupported\n", t.passed, t.failed, t.unsupported);
	return t.failed ? TOOL_REFUSED : TOOL_OK;
}
