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
#include "models/run/tensor.h"
#include "models/tool/tool.h"

enum { MAX_DEPTH = 4, PATH_ROOM = 4096, NOTE_ROOM = 256, MAX_TENSOR_BYTES = 1 << 28 };

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
	struct arena arena;
	struct onnx_tensor tensor;
};

enum { MAX_INPUTS = 64 };

/* One data set of one model: the graph's inputs by name, and those bound when compiling. */
struct set {
	const char *path;
	ProtobufCMessage *onnx;
	const char *inputs[MAX_INPUTS]; /* without initializers: input_K.pb is inputs[K] */
	uint32_t n_inputs;
	struct pb bound[MAX_INPUTS];
	struct compile_binding bindings[MAX_INPUTS];
	uint32_t n_bound;
	struct tool_model model;
};

static void pb_close(struct pb *p)
{
	onnx_free(p->message);
	arena_free(&p->arena);
	free(p->bytes);
	*p = (struct pb){0};
}

static int pb_open(struct pb *p, const char *set, const char *what, uint32_t i, struct error *err)
{
	char path[PATH_ROOM];
	size_t size;
	int rc;

	*p = (struct pb){.arena = {.limit_bytes = MAX_TENSOR_BYTES}};
	snprintf(path, sizeof(path), "%s/%s_%u.pb", set, what, i);
	rc = tool_read(path, MAX_TENSOR_BYTES, &p->bytes, &size, err);
	if (!rc)
		rc = onnx_unpack(&onnx__tensor_proto__descriptor, p->bytes, size, &p->message, err);
	if (!rc)
		rc = onnx_tensor_read(
			(const Onnx__TensorProto *)p->message, &p->arena, &p->tensor, err);
	return rc == -EINVAL ? error_set(err, -ENOTSUP, "%s_%u is no tensor", what, i) : rc;
}

/* Rows in a tensor: its first dimension if the model has a batch, else one. */
static size_t tensor_rows(const struct onnx_tensor *t, const struct model_file_io *io)
{
	return t->rank == io->rank + 1 ? (size_t)t->dims[0] : 1;
}

static bool tensor_fits(const struct onnx_tensor *t, const struct model_file_io *io, size_t rows)
{
	uint32_t first = t->rank - io->rank;

	if (t->rank < io->rank || first > 1 || tensor_rows(t, io) != rows || t->dtype != io->dtype)
		return false;
	for (uint32_t d = 0; d < io->rank; d++)
		if (t->dims[first + d] != io->dims[d])
			return false;
	return true;
}

/* ---- compiling, with the inputs that have to be known ---- */

static bool is_initializer(const Onnx__GraphProto *g, const char *name)
{
	for (size_t i = 0; i < g->n_initializer; i++)
		if (g->initializer[i]->name && !strcmp(g->initializer[i]->name, name))
			return true;
	return false;
}

static int set_inputs(struct set *s, const uint8_t *bytes, size_t size, struct error *err)
{
	int rc = onnx_unpack(&onnx__model_proto__descriptor, bytes, size, &s->onnx, err);
	const Onnx__GraphProto *g = rc ? NULL : ((const Onnx__ModelProto *)s->onnx)->graph;

	for (size_t i = 0; g && i < g->n_input && s->n_inputs < MAX_INPUTS; i++)
		if (g->input[i]->name && !is_initializer(g, g->input[i]->name))
			s->inputs[s->n_inputs++] = g->input[i]->name;
	return rc;
}

static uint32_t input_index(const struct set *s, const char *name)
{
	uint32_t k = 0;

	while (k < s->n_inputs && strcmp(s->inputs[k], name))
		k++;
	return k;
}

/* Take the value of input `name` from the data set. */
static int set_bind(struct set *s, const char *name, struct error *err)
{
	struct compile_binding *b = &s->bindings[s->n_bound];
	struct pb *p = &s->bound[s->n_bound];
	uint32_t k = input_index(s, name);
	int rc;

	if (k == s->n_inputs || s->n_bound == MAX_INPUTS)
		return error_set(err, -ENOTSUP, "input '%s' cannot be bound", name);
	s->n_bound++;
	rc = pb_open(p, s->path, "input", k, err);
	if (rc)
		return rc;
	snprintf(b->name, sizeof(b->name), "%s", name);
	b->dtype = p->tensor.dtype;
	b->rank = p->tensor.rank;
	for (uint32_t d = 0; d < b->rank; d++)
		b->dims[d] = (uint64_t)p->tensor.dims[d];
	b->data = p->tensor.data;
	return 0;
}

/* Compile; when an input's value must be known, bind it and try again. */
static int set_compile(struct set *s, const uint8_t *bytes, size_t size, enum model_backend backend,
	struct error *err)
{
	char needs[256];
	struct compile_options o = {.name = "model",
		.version = 1,
		.max_rows = 1024,
		.cost = 1,
		.backend = backend,
		.bindings = s->bindings,
		.allow_constant = true,
		.needs = needs};
	struct artifact a;
	int rc;

	for (;;) {
		struct error bind;

		o.n_bindings = s->n_bound;
		rc = compile_onnx_buffer(bytes, size, &o, &a, err);
		if (rc != -ENOTSUP || !needs[0])
			break;
		if (set_bind(s, needs, &bind))
			return rc;
	}
	if (rc)
		return rc;
	s->model.image = a.bytes;
	s->model.size = a.size;
	return model_open(&s->model.model, a.bytes, a.size, backend, err);
}

static void set_close(struct set *s)
{
	tool_model_close(&s->model);
	for (uint32_t i = 0; i < s->n_bound; i++)
		pb_close(&s->bound[i]);
	onnx_free(s->onnx);
}

/* ---- running and comparing ---- */

static int read_rows(const struct set *s, const struct model_file_header *h, uint8_t **in,
	size_t *rows, struct error *err)
{
	size_t offset = 0;

	*rows = 1;
	*in = h->n_inputs ? NULL : calloc(1, 1);
	for (uint32_t i = 0; i < h->n_inputs; i++) {
		const struct model_file_io *io = &h->inputs[i];
		size_t bytes = (size_t)io->elements * wire_dtype_bytes(io->dtype);
		struct pb p;
		int rc = pb_open(&p, s->path, "input", input_index(s, io->name), err);

		if (!rc && i == 0) {
			*rows = tensor_rows(&p.tensor, io);
			*in = *rows && *rows < 1 << 20 ? calloc(*rows, h->row_in_bytes) : NULL;
		}
		if (!rc && (!*in || !tensor_fits(&p.tensor, io, *rows)))
			rc = error_set(err, -ENOTSUP, "input_%u does not have the shape of '%s'", i,
				io->name);
		for (size_t r = 0; !rc && r < *rows; r++)
			memcpy(*in + r * h->row_in_bytes + offset,
				(const uint8_t *)p.tensor.data + r * bytes, bytes);
		offset += io->row_bytes;
		pb_close(&p);
		if (rc)
			return rc;
	}
	return 0;
}

static bool is_close(double got, double want)
{
	if (isnan(want) || isinf(want))
		return isnan(want) ? isnan(got) : got == want;
	return fabs(got - want) <= absolute_limit + relative_limit * fabs(want);
}

static double element(uint32_t dtype, const void *data, size_t at)
{
	float f;
	int64_t i;

	if (tensor_is_float(dtype))
		return (double)*tensor_load_f32(dtype, data, (int64_t)at, 1, 1, &f);
	return (double)*tensor_load_i64(dtype, data, (int64_t)at, 1, 1, &i);
}

static int compare_output(const struct set *s, const struct model_file_header *h, uint32_t i,
	const uint8_t *out, size_t rows, struct error *err)
{
	const struct model_file_io *io = &h->outputs[i];
	size_t offset = 0;
	uint8_t *row;
	struct pb p;
	int rc = pb_open(&p, s->path, "output", i, err);

	for (uint32_t o = 0; o < i; o++)
		offset += h->outputs[o].row_bytes;
	if (!rc && !tensor_fits(&p.tensor, io, rows))
		rc = error_set(err, -EBADMSG, "output '%s' has another shape or dtype", io->name);
	row = malloc(io->row_bytes); /* aligned for any dtype, which the answer is not */
	if (!rc && !row)
		rc = error_set(err, -ENOMEM, "no memory for a row");
	for (size_t r = 0; !rc && r < rows; r++) {
		memcpy(row, out + r * h->row_out_bytes + offset, io->row_bytes);
		for (size_t e = 0; !rc && e < io->elements; e++) {
			double got = element(io->dtype, row, e);
			double want = element(io->dtype, p.tensor.data, r * io->elements + e);

			if (!is_close(got, want))
				rc = error_set(err, -EBADMSG,
					"output '%s' element %zu is %.8g, expected %.8g", io->name,
					r * io->elements + e, got, want);
		}
	}
	free(row);
	pb_close(&p);
	return rc;
}

static int run_set(const struct set *s, struct error *err)
{
	const struct model_file_header *h = model_header(s->model.model);
	uint8_t *in, *out = NULL;
	size_t rows = 0;
	int rc = read_rows(s, h, &in, &rows, err);

	if (!rc) {
		out = calloc(rows, h->row_out_bytes);
		rc = out ? tool_rows_run(s->model.model,
				   rows < h->max_rows ? (uint32_t)rows : h->max_rows, rows, in, out,
				   err)
			 : error_set(err, -ENOMEM, "no memory for %zu rows", rows);
	}
	for (uint32_t i = 0; !rc && i < h->n_outputs; i++)
		rc = compare_output(s, h, i, out, rows, err);
	free(in);
	free(out);
	return rc;
}

/* Compiled anew for every data set: bound inputs may differ. `note` says what was bound. */
static int test_set(const char *path, const uint8_t *bytes, size_t size, enum model_backend backend,
	char *note, struct error *err)
{
	struct set *s = calloc(1, sizeof(*s));
	int rc;

	if (!s)
		return error_set(err, -ENOMEM, "no memory for a data set");
	s->path = path;
	rc = set_inputs(s, bytes, size, err);
	if (!rc)
		rc = set_compile(s, bytes, size, backend, err);
	rc = rc && rc != -EIO ? error_set(err, -ENOTSUP, "%s", strdupa(err->text)) : rc;
	if (!rc)
		rc = run_set(s, err);
	note[0] = 0;
	for (uint32_t i = 0; i < s->n_bound; i++) {
		size_t at = strlen(note);

		snprintf(note + at, NOTE_ROOM - at, "%s%s",
			i ? "," : "  bound: ", s->bindings[i].name);
	}
	set_close(s);
	free(s);
	return rc;
}

static enum verdict test_folder(
	const char *folder, const struct totals *t, char *note, struct error *err)
{
	char path[PATH_ROOM];
	unsigned sets = 0;
	uint8_t *bytes;
	size_t size;
	int rc;

	snprintf(path, sizeof(path), "%s/model.onnx", folder);
	rc = tool_read(path, ONNX_MAX_BYTES, &bytes, &size, err);
	if (rc)
		return FAIL;
	for (; !rc; sets++) {
		snprintf(path, sizeof(path), "%s/test_data_set_%u", folder, sets);
		if (access(path, F_OK))
			break;
		rc = test_set(path, bytes, size, t->backend, note, err);
	}
	free(bytes);
	if (!rc && !sets)
		rc = error_set(err, -ENOTSUP, "no test_data_set_0");
	return !rc ? PASS : rc == -ENOTSUP ? UNSUPPORTED : FAIL;
}

static void report(const char *folder, struct totals *t)
{
	char note[NOTE_ROOM] = "";
	struct error err = {0};

	switch (test_folder(folder, t, note, &err)) {
	case PASS:
		t->passed++;
		printf("pass  %s%s\n", folder, note);
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
