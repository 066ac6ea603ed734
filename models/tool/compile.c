/* SPDX-License-Identifier: BSD-3-Clause
 * millrace-model compile and operators.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/compile/onnx_wire.h"
#include "models/compile/onnx_read.h"
#include "models/compile/operators.h"
#include "models/tool/tool.h"

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
		{NULL, 0, NULL, 0},
	};
	unsigned long n;
	int c;

	a->options = (struct compile_options){
		.version = 1, .max_rows = 256, .cost = 1, .backend = MODEL_BACKEND_AUTO};
	while ((c = getopt_long(argc, argv, "o:", options, NULL)) != -1) {
		if (c == 'o')
			a->out = optarg;
		else if (c == 'n')
			a->options.name = optarg;
		else if (c == 'v' && tool_number(optarg, 1, UINT32_MAX, &n))
			a->options.version = (uint32_t)n;
		else if (c == 'r' && tool_number(optarg, 1, MODEL_FILE_MAX_ROWS, &n))
			a->options.max_rows = (uint32_t)n;
		else if (c == 'c' && tool_number(optarg, 1, UINT32_MAX, &n))
			a->options.cost = (uint32_t)n;
		else if ((c == 'i' && parse_binding(a, optarg)) ||
			 (c == 'p' && parse_precision(a, optarg)))
			continue;
		else if (c != 'b' || !tool_backend(optarg, &a->options.backend) ||
			 a->options.backend == MODEL_BACKEND_SCALAR)
			return tool_usage(
				"compile: bad option or value '%s'", optarg ? optarg : "");
	}
	if (optind + 1 != argc || !a->out)
		return tool_usage("compile takes one MODEL.onnx and -o OUT.mrm");
	a->in = argv[optind];
	default_name(a->in, a->name, sizeof(a->name));
	if (!a->options.name)
		a->options.name = a->name;
	return TOOL_OK;
}

int cmd_compile(int argc, char **argv)
{
	struct arguments a = {0};
	struct artifact artifact;
	struct error err;
	uint8_t *onnx;
	size_t size;
	int rc = parse(argc, argv, &a);

	if (rc)
		return rc;
	if (tool_read(a.in, ONNX_MAX_BYTES, &onnx, &size, &err))
		return tool_refuse(&err);
	rc = compile_onnx_buffer(onnx, size, &a.options, &artifact, &err);
	free(onnx);
	if (rc) {
		error_prefix(&err, "%s", a.in);
		return tool_refuse(&err);
	}
	rc = tool_write(a.out, artifact.bytes, artifact.size, &err);
	free(artifact.bytes);
	return rc ? tool_refuse(&err) : TOOL_OK;
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
