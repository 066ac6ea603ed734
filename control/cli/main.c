/* SPDX-License-Identifier: BSD-3-Clause
 * millrace, the operator's program: parse against the table, call, print. See cli.h.
 */
#include <errno.h>
#include <limits.h>
#include <locale.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control/cli/cli.h"
#include "control/cli/client.h"
#include "control/cli/print.h"
#include "control/control.h"

/* -- help ------------------------------------------------------------------------------------ */

static void print_usage(const struct cli_command *c, char *out, size_t cap)
{
	size_t used = (size_t)snprintf(out, cap, "%s", c->words);

	for (const struct cli_param *p = c->params; p->name && used < cap; p++) {
		const char *open = p->required ? "" : "[", *close = p->required ? "" : "]";
		char upper[32];
		size_t i = 0;

		for (; p->name[i] && i + 1 < sizeof(upper); i++)
			upper[i] = (char)(p->name[i] >= 'a' && p->name[i] <= 'z' ? p->name[i] - 32 : p->name[i]);
		upper[i] = 0;
		if (!p->option)
			used += (size_t)snprintf(out + used, cap - used, " %s", upper);
		else if (p->kind == CLI_SWITCH)
			used += (size_t)snprintf(out + used, cap - used, " %s--%s%s", open, p->name, close);
		else
			used += (size_t)snprintf(out + used, cap - used, " %s--%s %s%s", open, p->name, upper,
				close);
	}
}

static void help_one(const struct cli_command *c)
{
	char usage[256];

	print_usage(c, usage, sizeof(usage));
	printf("%smillrace %s%s\n    %s\n", print_on(STYLE_BOLD), usage, print_off(), c->help);
	for (const struct cli_param *p = c->params; p->name; p++)
		printf("    %s%-12s %s\n", p->option ? "--" : "  ", p->name, p->help);
}

void cli_help(const struct cli_command *c)
{
	if (c) {
		help_one(c);
		return;
	}
	printf("%smillrace%s: operate a Millrace appliance\n\n", print_on(STYLE_BOLD), print_off());
	for (size_t i = 0; i < cli_commands_count; i++)
		printf("  %-20s %s\n", cli_commands[i].words, cli_commands[i].help);
	printf("\n  --json               machine-readable, everywhere\n"
	       "  --socket PATH        control socket ($MILLRACE_RUN/control.sock, else "
	       "/run/millrace/control.sock)\n"
	       "  --dry-run            say what would happen, change nothing\n"
	       "  --help               after a command: its parameters\n\n"
	       "Without a command on a terminal: an interactive shell.\n"
	       "exit status: 0 ok, 1 refused, 2 usage, 3 unreachable\n");
}

/* -- failure --------------------------------------------------------------------------------- */

int cli_fail(const struct cli *cli, int status, const char *code, const char *message)
{
	json_t *o;

	if (!cli->json) {
		fprintf(stderr, "millrace: %s\n", message);
		return status;
	}
	o = json_pack("{s:b, s:{s:s, s:s}}", "ok", 0, "error", "code", code, "message", message);
	if (o)
		json_dumpf(o, stdout, JSON_COMPACT);
	putchar('\n');
	json_decref(o);
	return status;
}

/* -- arguments ------------------------------------------------------------------------------- */

/* Number of argv words that name the command, 0 = does not. */
static int words_match(const struct cli_command *c, int argc, char **argv)
{
	const char *w = c->words;
	int n = 0;

	while (*w) {
		size_t len = strcspn(w, " ");

		if (n >= argc || strlen(argv[n]) != len || strncmp(argv[n], w, len))
			return 0;
		n++;
		w += len + (w[len] == ' ');
	}
	return n;
}

/* "200k", "1.5M" -> number. 0 or -EINVAL. */
static int parse_rate(const char *s, double *out)
{
	char *end;
	double v = strtod(s, &end);

	if (end == s || !isfinite(v))
		return -EINVAL;
	if (*end && end[1] == 0) {
		const char *p = strchr("kMG", *end);

		if (!p)
			return -EINVAL;
		v *= *p == 'k' ? 1e3 : *p == 'M' ? 1e6 : 1e9;
	} else if (*end) {
		return -EINVAL;
	}
	*out = v;
	return 0;
}

static json_t *parse_list(const char *s)
{
	json_t *list = json_array();

	while (*s) {
		size_t n = strcspn(s, ",");

		if (n)
			json_array_append_new(list, json_stringn(s, n));
		s += n + (s[n] == ',');
	}
	return list;
}

static json_t *parse_file(const char *s)
{
	char full[PATH_MAX], here[PATH_MAX / 2];

	if (realpath(s, full))
		return json_string(full);
	if (s[0] == '/' || !getcwd(here, sizeof(here)))
		return json_string(s);
	if (snprintf(full, sizeof(full), "%s/%s", here[1] ? here : "", s) >= (int)sizeof(full))
		return NULL;
	return json_string(full);
}

/* NULL = the text does not fit the kind. */
static json_t *parse_value(const struct cli_param *p, const char *s)
{
	double v;

	switch (p->kind) {
	case CLI_RATE:
		return parse_rate(s, &v) ? NULL : v == floor(v) && fabs(v) < 1e15 ? json_integer(
			(json_int_t)v) : json_real(v);
	case CLI_LIST:
		return parse_list(s);
	case CLI_FILE:
		return parse_file(s);
	case CLI_BOOL:
		if (!strcmp(s, "true") || !strcmp(s, "yes") || !strcmp(s, "on"))
			return json_true();
		if (!strcmp(s, "false") || !strcmp(s, "no") || !strcmp(s, "off"))
			return json_false();
		return NULL;
	default:
		return json_string(s);
	}
}

static int __attribute__((format(printf, 2, 3)))
usage_error(const struct cli *cli, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return cli_fail(cli, CLI_USAGE, "usage", text);
}

static const struct cli_param *find_option(const struct cli_command *c, const char *name, size_t n)
{
	for (const struct cli_param *p = c->params; p->name; p++)
		if (p->option && strlen(p->name) == n && !strncmp(p->name, name, n))
			return p;
	return NULL;
}

static const struct cli_param *next_positional(const struct cli_command *c, const json_t *args)
{
	for (const struct cli_param *p = c->params; p->name; p++)
		if (!p->option && !json_object_get(args, p->name))
			return p;
	return NULL;
}

static int take(const struct cli *cli, const struct cli_param *p, const char *value, json_t *args)
{
	json_t *v = parse_value(p, value);

	if (!v)
		return usage_error(cli, "%s: '%s' does not fit; see --help", p->name, value);
	json_object_set_new(args, p->name, v);
	return 0;
}

static int parse_option(const struct cli *cli, const struct cli_command *c, int argc, char **argv,
	int *i, json_t *args)
{
	const char *name = argv[*i] + 2, *eq = strchr(name, '=');
	const struct cli_param *p = find_option(c, name, eq ? (size_t)(eq - name) : strlen(name));

	if (!p)
		return usage_error(cli, "%s has no option %s; see --help", c->words, argv[*i]);
	if (p->kind == CLI_SWITCH && !eq) {
		json_object_set_new(args, p->name, json_true());
		return 0;
	}
	if (eq)
		return take(cli, p, eq + 1, args);
	if (*i + 1 >= argc)
		return usage_error(cli, "%s: --%s needs a value", c->words, p->name);
	return take(cli, p, argv[++*i], args);
}

static int parse_args(const struct cli *cli, const struct cli_command *c, int argc, char **argv,
	json_t *args)
{
	int rc = 0;

	for (int i = 0; i < argc && rc == 0; i++) {
		const struct cli_param *p;

		if (!strncmp(argv[i], "--", 2)) {
			rc = parse_option(cli, c, argc, argv, &i, args);
			continue;
		}
		p = next_positional(c, args);
		rc = p ? take(cli, p, argv[i], args)
		       : usage_error(cli, "%s: '%s' is one argument too many", c->words, argv[i]);
	}
	for (const struct cli_param *p = c->params; rc == 0 && p->name; p++)
		if (p->required && !json_object_get(args, p->name))
			rc = usage_error(cli, p->option ? "%s needs --%s" : "%s needs its %s", c->words,
				p->name);
	return rc;
}

/* -- calls ----------------------------------------------------------------------------------- */

struct progress {
	bool shown;
};

static void on_progress(uint64_t done, uint64_t total, const char *text, void *arg)
{
	struct progress *p = arg;
	char a[UNIT_BYTES], b[UNIT_BYTES], bar[31];
	double part = total ? (double)done / (double)total : 0;
	int full = (int)(part * 30);

	memset(bar, '.', 30);
	memset(bar, '#', (size_t)(full > 30 ? 30 : full));
	bar[30] = 0;
	fprintf(stderr, "\r\033[K[%s] %3.0f %%  %s of %s  %.40s", bar, part * 100,
		unit_bytes((double)done, a), unit_bytes((double)total, b), text);
	p->shown = true;
}

static int call(const struct cli *cli, const char *cmd, const json_t *args, json_t **reply)
{
	struct progress p = {false};
	struct client client;
	struct error err = {0};
	int rc = client_open(&client, cli->socket, &err);

	if (rc == 0) {
		bool bar = !cli->json && isatty(STDERR_FILENO);

		rc = client_call(&client, cmd, args, cli->dry_run, bar ? on_progress : NULL, &p, reply,
			&err);
		if (p.shown)
			fprintf(stderr, "\r\033[K");
		client_close(&client);
	}
	return rc ? cli_fail(cli, CLI_UNREACHABLE, "unreachable", err.text) : CLI_OK;
}

static int refused(const struct cli *cli, const json_t *reply)
{
	const json_t *e = json_object_get(reply, "error");

	return cli_fail(cli, CLI_REFUSED, field_text(e, "code"), field_text(e, "message"));
}

int cli_fetch(const struct cli *cli, const char *cmd, json_t **result)
{
	json_t *reply = NULL;
	int status = call(cli, cmd, NULL, &reply);

	if (status)
		return status;
	if (!field_true(reply, "ok"))
		status = refused(cli, reply);
	else
		*result = json_incref(json_object_get(reply, "result"));
	json_decref(reply);
	return status;
}

int cli_call(const struct cli *cli, const struct cli_command *c, const json_t *args)
{
	json_t *reply = NULL, *result;
	int status = call(cli, c->cmd, args, &reply);

	if (status)
		return status;
	if (!field_true(reply, "ok")) {
		status = refused(cli, reply);
		json_decref(reply);
		return status;
	}
	result = json_object_get(reply, "result");
	if (cli->json) {
		json_dumpf(result, stdout, JSON_COMPACT);
		putchar('\n');
	} else {
		if (cli->dry_run)
			printf("%sdry run, nothing was changed%s\n", print_on(STYLE_DIM), print_off());
		c->print(result);
	}
	json_decref(reply);
	return CLI_OK;
}

/* -- execute --------------------------------------------------------------------------------- */

/* Take the options that every command has out of argv. 0, or an exit status. */
static int global_options(struct cli *cli, int *argc, char **argv, bool *help)
{
	int kept = 0;

	for (int i = 0; i < *argc; i++) {
		if (!strcmp(argv[i], "--json"))
			cli->json = true;
		else if (!strcmp(argv[i], "--dry-run"))
			cli->dry_run = true;
		else if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
			*help = true;
		else if (!strncmp(argv[i], "--socket=", 9))
			snprintf(cli->socket, sizeof(cli->socket), "%s", argv[i] + 9);
		else if (!strcmp(argv[i], "--socket") && i + 1 < *argc)
			snprintf(cli->socket, sizeof(cli->socket), "%s", argv[++i]);
		else if (!strcmp(argv[i], "--socket"))
			return cli_fail(cli, CLI_USAGE, "usage", "--socket needs a path");
		else
			argv[kept++] = argv[i];
	}
	*argc = kept;
	return 0;
}

/* Commands that begin with what was typed: "model" lists the model commands. */
static int suggest(const struct cli *cli, int argc, char **argv)
{
	char typed[128];
	bool any = false;

	snprintf(typed, sizeof(typed), "%.60s%s%.60s", argv[0], argc > 1 ? " " : "",
		argc > 1 ? argv[1] : "");
	for (size_t i = 0; i < cli_commands_count; i++)
		if (!strncmp(cli_commands[i].words, argv[0], strlen(argv[0])) && !cli->json) {
			if (!any)
				fprintf(stderr, "millrace: no command '%s'; did you mean\n", typed);
			any = true;
			fprintf(stderr, "  %-20s %s\n", cli_commands[i].words, cli_commands[i].help);
		}
	return any ? CLI_USAGE : usage_error(cli, "no command '%s'; see millrace --help", typed);
}

int cli_execute(const struct cli *given, int argc, char **argv)
{
	struct cli cli = *given;
	bool help = false;
	json_t *args;
	int n, status = global_options(&cli, &argc, argv, &help);

	if (status)
		return status;
	if (argc && !strcmp(argv[0], "help")) {
		help = true;
		argc--;
		argv++;
	}
	for (size_t i = 0; i < cli_commands_count; i++) {
		const struct cli_command *c = &cli_commands[i];

		if (!(n = words_match(c, argc, argv)))
			continue;
		if (help) {
			cli_help(c);
			return CLI_OK;
		}
		args = json_object();
		status = parse_args(&cli, c, argc - n, argv + n, args);
		if (status == 0)
			status = c->run ? c->run(&cli, c, args) : cli_call(&cli, c, args);
		json_decref(args);
		return status;
	}
	if (help || argc == 0) {
		cli_help(NULL);
		return help ? CLI_OK : CLI_USAGE;
	}
	return suggest(&cli, argc, argv);
}

int main(int argc, char **argv)
{
	const char *run = getenv("MILLRACE_RUN");
	struct cli cli = {0};
	bool only_options = true;

	setlocale(LC_CTYPE, "");
	print_init();
	snprintf(cli.socket, sizeof(cli.socket), "%s/control.sock", run && *run ? run : "/run/millrace");
	if (argc == 2 && !strcmp(argv[1], "--version")) {
		printf("millrace %s\n", MILLRACE_VERSION);
		return CLI_OK;
	}
	for (int i = 1; i < argc; i++)
		only_options &= !strcmp(argv[i], "--socket") || (i > 1 && !strcmp(argv[i - 1], "--socket")) ||
				!strncmp(argv[i], "--socket=", 9) || !strcmp(argv[i], "--dry-run");
	if (only_options && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO)) {
		bool help = false;

		argc--;
		if (global_options(&cli, &argc, argv + 1, &help))
			return CLI_USAGE;
		return shell_run(&cli);
	}
	return cli_execute(&cli, argc - 1, argv + 1);
}
