/* SPDX-License-Identifier: BSD-3-Clause
 * millrace-model compile and operators.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/compile/onnx_wire.h"
#include "models/compile/operators.h"
#include "models/tool/tool.h"

struct arguments {
	struct compile_options options;
	char name[WIRE_MODEL_NAME_BYTES];
	const char *in, *out;
};

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
		{NULL, 0, NULL, 0},
	};
	unsigned long n;
	int c;

	a->options = (struct compile_options){NULL, 1, 256, 1, MODEL_BACKEND_AUTO};
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
	printf("| operator | inputs | attributes | note |\n|---|---|---|---|\n");
	for (size_t i = 0; operator_at(i); i++) {
		const struct onnx_operator *op = operator_at(i);

		printf("| %s | %zu", op->name, op->min_inputs);
		if (op->max_inputs > op->min_inputs)
			printf("–%zu", op->max_inputs);
		printf(" | %s | %s |\n", op->attributes, op->help);
	}
	return TOOL_OK;
}
