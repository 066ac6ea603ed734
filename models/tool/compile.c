/* SPDX-License-Identifier: BSD-3-Clause
 * millrace-model compile and operators.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file_replace.h"
#include "models/compile/artifact.h"
#include "models/compile/onnx_read.h"
#include "models/compile/onnx_wire.h"
#include "models/compile/operators.h"
#include "models/run/model_private.h"
#include "models/tool/rows.h"
#include "models/tool/tune.h"

enum { MAX_BINDINGS = 16, MAX_VALUES = 64 };

struct arguments {
	struct compile_options options;
	char name[WIRE_MODEL_NAME_BYTES];
	const char *in, *out;
	struct compile_binding bindings[MAX_BINDINGS];
	union {
		int64_t i[MAX_VALUES];
		float f[MAX_VALUES];
	} values[MAX_BINDINGS];
	const char *rows[MODEL_FILE_MAX_IO], *calibrate[MODEL_FILE_MAX_IO], *labels, *avoid;
	uint32_t n_rows, n_calibrate;
	bool tune;
	char tuned[128];
};

/* NAME=1,2,3 binds an INT64 vector, NAME=5 an INT64 scalar; a '.' anywhere makes it FLOAT. */
static bool parse_binding(struct arguments *a, const char *text)
{
	struct compile_binding *b = &a->bindings[a->options.n_bindings];
	const char *equals = strchr(text, '='), *at = equals ? equals + 1 : NULL;
	bool is_float = at && strchr(at, '.');
	uint64_t count = 0;
	char *end;

	if (!at || a->options.n_bindings == MAX_BINDINGS ||
		(size_t)(equals - text) >= sizeof(b->name))
		return false;
	snprintf(b->name, sizeof(b->name), "%.*s", (int)(equals - text), text);
	do {
		if (count == MAX_VALUES)
			return false;
		errno = 0;
		if (is_float)
			a->values[a->options.n_bindings].f[count++] = strtof(at, &end);
		else
			a->values[a->options.n_bindings].i[count++] = strtoll(at, &end, 10);
		if (end == at || errno || (*end && *end != ','))
			return false;
		at = end + 1;
	} while (*end);
	b->dtype = is_float ? WIRE_F32 : WIRE_I64;
	b->rank = strchr(equals, ',') ? 1 : 0;
	b->dims[0] = count;
	b->data = &a->values[a->options.n_bindings++];
	a->options.bindings = a->bindings;
	return true;
}

static bool parse_precision(struct arguments *a, const char *text)
{
	for (int i = COMPILE_F32; i <= COMPILE_INT8; i++)
		if (!strcmp(text, compile_precision_name((enum compile_precision)i))) {
			a->options.precision = (enum compile_precision)i;
			return true;
		}
	return false;
}

/* "models/zoo/risk/model.onnx" is called after its folder, "risk.onnx" after itself. */
static void default_name(const char *path, char *name, size_t room)
{
	const char *base = strrchr(path, '/'), *start = base ? base + 1 : path;
	size_t n = strcspn(start, ".");

	if (base && n == 5 && !memcmp(start, "model", 5) && base > path) {
		const char *end = base;

		for (start = base; start > path && start[-1] != '/'; start--)
			;
		n = (size_t)(end - start);
	}
	snprintf(name, room, "%.*s", (int)n, start);
}

static bool parse_number(int c, struct compile_options *o, const char *text)
{
	unsigned long n;

	if (!tool_number(text, 1, c == 'r' ? MODEL_FILE_MAX_ROWS : UINT32_MAX, &n))
		return false;
	*(c == 'v' ? &o->version : c == 'r' ? &o->max_rows : &o->cost) = (uint32_t)n;
	return true;
}

static bool parse_file(const char **files, uint32_t *n, const char *path)
{
	if (*n == MODEL_FILE_MAX_IO)
		return false;
	files[(*n)++] = path;
	return true;
}

static bool parse_option(struct arguments *a, int c, const char *text)
{
	switch (c) {
	case 'o':
		a->out = text;
		return true;
	case 'n':
		a->options.name = text;
		return true;
	case 'v':
	case 'r':
	case 'c':
		return parse_number(c, &a->options, text);
	case 'i':
		return parse_binding(a, text);
	case 'p':
		return parse_precision(a, text);
	case 'b':
		return tool_backend(text, &a->options.backend) &&
		       a->options.backend != MODEL_BACKEND_SCALAR;
	case 'R':
		return parse_file(a->rows, &a->n_rows, text);
	case 'C':
		return parse_file(a->calibrate, &a->n_calibrate, text);
	case 'L':
		a->labels = text;
		return true;
	case 't':
		a->tune = true;
		return true;
	case 'A':
		a->avoid = text;
		return text[strspn(text, "0123456789,")] == 0;
	default:
		return false;
	}
}

static int parse(int argc, char **argv, struct arguments *a)
{
	static const struct option options[] = {
		{"name", required_argument, NULL, 'n'},
		{"version", required_argument, NULL, 'v'},
		{"max-rows", required_argument, NULL, 'r'},
		{"backend", required_argument, NULL, 'b'},
		{"cost", required_argument, NULL, 'c'},
		{"bind", required_argument, NULL, 'i'},
		{"precision", required_argument, NULL, 'p'},
		{"rows", required_argument, NULL, 'R'},
		{"labels", required_argument, NULL, 'L'},
		{"calibrate", required_argument, NULL, 'C'},
		{"tune", no_argument, NULL, 't'},
		{"avoid-cpus", required_argument, NULL, 'A'},
		{NULL, 0, NULL, 0},
	};
	int c;

	a->options = (struct compile_options){
		.version = 1, .max_rows = 256, .cost = 1, .backend = MODEL_BACKEND_AUTO};
	while ((c = getopt_long(argc, argv, "o:", options, NULL)) != -1)
		if (!parse_option(a, c, optarg))
			return tool_usage(
				"compile: bad option or value '%s'", optarg ? optarg : "");
	if (optind + 1 != argc || !a->out)
		return tool_usage("compile takes one MODEL.onnx and -o OUT.mrm");
	if (a->labels && !a->n_rows)
		return tool_usage("--labels needs --rows");
	if (a->n_calibrate && a->options.precision != COMPILE_INT8)
		return tool_usage("--calibrate needs --precision int8");
	a->in = argv[optind];
	default_name(a->in, a->name, sizeof(a->name));
	if (!a->options.name)
		a->options.name = a->name;
	return TOOL_OK;
}

/* ---- what has to be measured before ---- */

static void print_tune(const struct tune *t)
{
	printf("tuned      for %s%s\n", t->host, t->cached ? " (measured before)" : "");
	for (uint32_t i = 0; i < t->n; i++) {
		const struct tune_layer *l = &t->layers[i];

		printf("layer %-4u %-8s", i, tune_prefers_openblas(l) ? "openblas" : "native");
		for (int b = 0; b < TUNE_BUCKETS; b++)
			printf(" b%u %.2f/%.2f us", tune_batches[b], l->native[b] / 1e3,
				l->openblas[b] / 1e3);
		printf("\n");
	}
}

static int tune_layers(struct arguments *a, const struct tool_model *plain,
	struct compile_layer *layers, struct error *err)
{
	uint8_t id[MODEL_FILE_HASH_BYTES];
	struct tune t;
	int rc;

	artifact_id(plain->image, id);
	rc = tune_model(plain->model, id, a->avoid, &t, err);
	if (!rc) {
		print_tune(&t);
		snprintf(a->tuned, sizeof(a->tuned), "%s", t.host);
		a->options.tuned = a->tuned;
	}
	for (uint32_t i = 0; !rc && i < t.n; i++)
		layers[i].openblas = tune_prefers_openblas(&t.layers[i]);
	free(t.layers);
	return rc;
}

static int calibrate_layers(const struct arguments *a, const struct tool_model *plain,
	struct compile_layer *layers, struct error *err)
{
	struct tool_rows rows;
	int rc = tool_rows_read(
		a->calibrate, a->n_calibrate, model_header(plain->model), &rows, err);

	if (!rc)
		rc = tool_calibrate(plain->model, &rows, layers, err);
	free(rows.bytes);
	return rc;
}

/* The float32 model of the same file, for whoever measures or compares. */
static int compile_plain(const struct arguments *a, const uint8_t *onnx, size_t size,
	struct tool_model *plain, struct error *err)
{
	struct compile_options o = a->options;
	struct artifact artifact;
	int rc;

	o.precision = COMPILE_F32;
	o.backend = MODEL_BACKEND_NATIVE;
	rc = compile_onnx_buffer(onnx, size, &o, &artifact, err);
	if (rc)
		return rc;
	*plain = (struct tool_model){.image = artifact.bytes, .size = artifact.size};
	return model_open(&plain->model, artifact.bytes, artifact.size, MODEL_BACKEND_NATIVE, err);
}

static int measure(struct arguments *a, const struct tool_model *plain, struct error *err)
{
	struct compile_layer *layers = calloc(plain->model->program.n_ops + 1, sizeof(*layers));
	int rc = layers ? 0 : error_set(err, -ENOMEM, "no memory for the layers");

	if (!rc && a->n_calibrate)
		rc = calibrate_layers(a, plain, layers, err);
	if (!rc && a->tune)
		rc = tune_layers(a, plain, layers, err);
	a->options.layers = layers;
	a->options.n_layers = layers ? plain->model->program.n_ops : 0;
	return rc;
}

static int report(const struct arguments *a, const struct artifact *made,
	const struct tool_model *plain, struct error *err)
{
	struct tool_rows rows;
	struct model *m;
	int rc = tool_rows_read(a->rows, a->n_rows, model_header(plain->model), &rows, err);

	if (!rc)
		rc = model_open(&m, made->bytes, made->size, MODEL_BACKEND_AUTO, err);
	if (!rc) {
		rc = tool_accuracy(plain->model, m, &rows, a->labels, err);
		model_close(m);
	}
	free(rows.bytes);
	return rc;
}

static int compile_file(struct arguments *a, const uint8_t *onnx, size_t size, struct error *err)
{
	struct tool_model plain = {0};
	struct artifact made = {0};
	uint64_t start, ns = 0;
	int rc = 0;

	if (a->tune || a->n_calibrate || a->n_rows)
		rc = compile_plain(a, onnx, size, &plain, err);
	if (!rc && (a->tune || a->n_calibrate))
		rc = measure(a, &plain, err);
	start = clock_now_ns();
	if (!rc)
		rc = compile_onnx_buffer(onnx, size, &a->options, &made, err);
	ns = clock_now_ns() - start;
	if (!rc)
		rc = file_replace(a->out, made.bytes, made.size, 0644, err);
	if (!rc)
		printf("compiled   %s in %.1f ms: %zu bytes, %s\n", a->options.name,
			(double)ns / 1e6, made.size, compile_precision_name(a->options.precision));
	if (!rc && a->n_rows)
		rc = report(a, &made, &plain, err);
	free((void *)a->options.layers);
	free(made.bytes);
	tool_model_close(&plain);
	return rc;
}

int cmd_compile(int argc, char **argv)
{
	struct arguments a = {0};
	struct error err;
	uint8_t *onnx;
	size_t size;
	int rc = parse(argc, argv, &a);

	if (rc)
		return rc;
	if (tool_read(a.in, ONNX_MAX_BYTES, &onnx, &size, &err))
		return tool_refuse(&err);
	rc = compile_file(&a, onnx, size, &err);
	free(onnx);
	if (!rc)
		return TOOL_OK;
	error_prefix(&err, "%s", a.in);
	return tool_refuse(&err);
}

int cmd_operators(int argc, char **argv)
{
	(void)argv;
	if (argc != 1)
		return tool_usage("operators takes no arguments");
	printf("| operator | opsets | inputs | attributes | note |\n|---|---|---|---|---|\n");
	for (size_t i = 0; operator_at(i); i++) {
		const struct onnx_operator *op = operator_at(i);

		printf("| %s%s%s | %ld", op->domain, op->domain[0] ? "." : "", op->name, op->since);
		if (!op->domain[0])
			printf("–%d", ONNX_MAX_OPSET);
		printf(" | %zu", op->min_inputs);
		if (op->max_inputs == OPERATOR_MAX_INPUTS)
			printf("–");
		else if (op->max_inputs > op->min_inputs)
			printf("–%zu", op->max_inputs);
		printf(" | %s | %s |\n", op->attributes, op->help);
	}
	return TOOL_OK;
}
