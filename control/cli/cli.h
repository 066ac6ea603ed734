/* SPDX-License-Identifier: BSD-3-Clause
 * The operator's program `millrace`: one table of commands for parsing, help and completion.
 */
#pragma once

#include <stdbool.h>

#include <jansson.h>

#include "base/error.h"

enum { CLI_OK = 0, CLI_REFUSED = 1, CLI_USAGE = 2, CLI_UNREACHABLE = 3 };
enum { CLI_MAX_PARAMS = 8, CLI_MAX_WORDS = 64 };

struct cli {
	bool json, dry_run;
	char socket[256];
	bool interactive; /* inside the shell */
};

enum cli_kind { CLI_NAME, CLI_FILE, CLI_TEXT, CLI_RATE, CLI_LIST, CLI_SWITCH, CLI_BOOL };

/* A parameter: positional when `name` is upper case in the table's sense (option == false). */
struct cli_param {
	const char *name;
	enum cli_kind kind;
	bool option, required;
	const char *help;
};

struct cli_command {
	const char *words; /* "model load" */
	const char *cmd;   /* of the control socket; NULL when `run` does everything */
	struct cli_param params[CLI_MAX_PARAMS];
	/* Show a successful result to a person. */
	void (*print)(const json_t *result);
	/* Instead of one call; gets the parsed arguments. Returns an exit status. */
	int (*run)(const struct cli *cli, const struct cli_command *c, const json_t *args);
	const char *help;
};

extern const struct cli_command cli_commands[];
extern const size_t cli_commands_count;

/* Run one command line (argv without the program's name). Returns an exit status. */
int cli_execute(const struct cli *cli, int argc, char **argv);
/* Connect, call, print; the common way. */
int cli_call(const struct cli *cli, const struct cli_command *c, const json_t *args);
/* Connect and call: 0 with *result, else an exit status; the reason has been printed. */
int cli_fetch(const struct cli *cli, const char *cmd, json_t **result);
/* Print the reason of a failure on stderr, and with --json as an object on stdout. */
int cli_fail(const struct cli *cli, int status, const char *code, const char *message);

void cli_help(const struct cli_command *c); /* NULL = everything */

/* views.c */
void view_status(const json_t *r);
void view_workers(const json_t *r);
void view_models(const json_t *r);
void view_model(const json_t *r);
void view_trace(const json_t *r);
void view_sessions(const json_t *r);
void view_subscribers(const json_t *r);
void view_subscriber(const json_t *r);
void view_plans(const json_t *r);
void view_plan(const json_t *r);
void view_limits(const json_t *r);
void view_drops(const json_t *r);
void view_license(const json_t *r);
void view_done(const json_t *r);
void view_restart(const json_t *r);

/* top.c, doctor.c, shell.c, completion.c */
int top_run(const struct cli *cli, const struct cli_command *c, const json_t *args);
int doctor_run(const struct cli *cli, const struct cli_command *c, const json_t *args);
int check_run(const struct cli *cli, const struct cli_command *c, const json_t *args);
int completion_run(const struct cli *cli, const struct cli_command *c, const json_t *args);
int shell_run(const struct cli *cli);
