/* SPDX-License-Identifier: BSD-3-Clause
 * millrace-model: compile, inspect, run, test, bench, sign and verify models.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "models/tool/tool.h"

static int cmd_help(int argc, char **argv);

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *arguments, *help;
} commands[] = {
	{"compile", cmd_compile,
		"MODEL.onnx -o OUT.mrm [--name N] [--version N] [--max-rows N] [--bind NAME=V,...] "
		"[--backend auto|native|openblas] [--cost N] "
		"[--precision f32|bf16|int8] [--calibrate ROWS.npy...] [--rows ROWS.npy... [--labels "
		"L.npy]] [--tune [--avoid-cpus N,...]]",
		"ONNX to artifact"},
	{"inspect", cmd_inspect, "MODEL.mrm [--json]", "what an artifact holds"},
	{"run", cmd_run,
		"MODEL.mrm IN.npy... -o OUT.npy... [--batch N] [--backend B] [--against OTHER.mrm "
		"[--labels L.npy]]",
		"answers to the rows of .npy files (of the inputs' own dtypes)"},
	{"test", cmd_test, "[--backend B] DIR...", "ONNX backend-test folders, also nested ones"},
	{"bench", cmd_bench,
		"MODEL.mrm|MODEL.onnx [--batch N,N,...] [--backend B] [--seconds S] [--input "
		"IN.npy]... [--ops]",
		"time per batch on one core, of made-up rows or of one file an input; --ops: per "
		"operator"},
	{"sign", cmd_sign, "KEY.pem MODEL.mrm", "sign with an Ed25519 private key"},
	{"verify", cmd_verify, "[--key PUBLIC.pem] MODEL.mrm", "structure, hashes and signature"},
	{"operators", cmd_operators, "", "ONNX operators the compiler takes, as a table"},
	{"help", cmd_help, "", "this text"},
};

enum { COMMANDS = sizeof(commands) / sizeof(commands[0]) };

static int cmd_help(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	printf("usage: millrace-model COMMAND ...\n\n");
	for (int i = 0; i < COMMANDS; i++)
		printf("  %s %s\n      %s\n", commands[i].name, commands[i].arguments,
			commands[i].help);
	printf("\nbackends: auto (as compiled), native, openblas, scalar\n"
	       "exit status: 0 ok, 1 refused, 2 usage\n");
	return TOOL_OK;
}

int tool_refuse(const struct error *err)
{
	fprintf(stderr, "millrace-model: %s\n", err->text);
	return TOOL_REFUSED;
}

int tool_usage(const char *fmt, ...)
{
	va_list ap;

	fputs("millrace-model: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputs("; try millrace-model help\n", stderr);
	return TOOL_USAGE;
}

/* OpenBLAS starts its threads in a constructor, before main(): the environment must say "one"
 * beforehand, so the program starts itself once more. */
static void restart_single_threaded(char **argv)
{
	const char *threads = getenv("OPENBLAS_NUM_THREADS");

	if (threads && !strcmp(threads, "1"))
		return;
	if (!setenv("OPENBLAS_NUM_THREADS", "1", 1))
		execv("/proc/self/exe",
			argv); /* on failure: kernels_openblas() still sets it to one */
}

int main(int argc, char **argv)
{
	restart_single_threaded(argv);
	if (argc < 2)
		return tool_usage("no command");
	for (int i = 0; i < COMMANDS; i++)
		if (!strcmp(argv[1], commands[i].name) ||
			(!strcmp(argv[1], "--help") && commands[i].run == cmd_help))
			return commands[i].run(argc - 1, argv + 1);
	return tool_usage("unknown command '%s'", argv[1]);
}
