/* SPDX-License-Identifier: BSD-3-Clause
 * The interactive shell (libedit) and the bash completion, both fed by the command table.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <editline/readline.h>

#include "control/cli/cli.h"
#include "control/cli/print.h"

enum { MAX_LINE_WORDS = CLI_MAX_WORDS };

/* Split in place at blanks; "..." and '...' keep blanks. Number of words, -1 = open quote or too many. */
static int split(char *line, char **words)
{
	char *p = line, *to;
	int n = 0;

	for (;;) {
		char quote = 0;

		p += strspn(p, " \t");
		if (!*p)
			return n;
		if (n == MAX_LINE_WORDS)
			return -1;
		words[n++] = to = p;
		for (; *p && (quote || (*p != ' ' && *p != '\t')); p++) {
			if (quote ? *p == quote : *p == '"' || *p == '\'')
				quote = quote ? 0 : *p;
			else
				*to++ = *p;
		}
		if (quote)
			return -1;
		if (*p)
			p++;
		*to = 0;
	}
}

/* The next word of every command that begins with what stands on the line. */
static char *complete(const char *text, int state)
{
	static size_t next;
	size_t before;
	const char *line = rl_line_buffer + strspn(rl_line_buffer, " ");

	if (state == 0)
		next = 0;
	before = strlen(line) - strlen(text);
	while (next < cli_commands_count) {
		const char *w = cli_commands[next++].words;
		size_t n;

		if (strncmp(w, line, before) || (before && w[before - 1] != ' '))
			continue;
		w += before;
		n = strcspn(w, " ");
		if (n && !strncmp(w, text, strlen(text)))
			return strndup(w, n);
	}
	return NULL;
}

static char **complete_line(const char *text, int start, int end)
{
	(void)start;
	(void)end;
	rl_attempted_completion_over = 1;
	return rl_completion_matches(text, complete);
}

static bool leaves(const char *word)
{
	return !strcmp(word, "quit") || !strcmp(word, "exit") || !strcmp(word, "q");
}

int shell_run(const struct cli *given)
{
	struct cli cli = *given;
	char *words[MAX_LINE_WORDS], *line;
	int status = CLI_OK;

	cli.interactive = true;
	rl_readline_name = (char *)(uintptr_t)"millrace";
	rl_initialize();
	rl_attempted_completion_function = complete_line;
	using_history();
	printf("millrace shell: help lists the commands, Tab completes, quit leaves\n");
	while ((line = readline((char *)(uintptr_t)"millrace> "))) {
		int n;

		if (*line)
			add_history(line);
		n = split(line, words);
		if (n < 0)
			status = cli_fail(&cli, CLI_USAGE, "usage", "a quote is not closed, or too many words");
		else if (n && leaves(words[0])) {
			free(line);
			break;
		} else if (n)
			status = cli_execute(&cli, n, words);
		free(line);
	}
	return status;
}

int completion_run(const struct cli *cli, const struct cli_command *c, const json_t *args)
{
	(void)cli;
	(void)c;
	(void)args;
	printf("# bash completion of millrace: eval \"$(millrace completion bash)\"\n"
	       "_millrace() {\n"
	       "\tlocal cur=${COMP_WORDS[COMP_CWORD]} line words IFS=$'\\n'\n"
	       "\tline=\"${COMP_WORDS[*]:1:COMP_CWORD-1}\"; line=${line//$'\\n'/ }\n"
	       "\tif [[ $cur == --* ]]; then\n\t\tcase $line in\n");
	for (size_t i = 0; i < cli_commands_count; i++) {
		printf("\t\t\"%s\"*) words=\"--json\n--socket\n--dry-run\n--help", cli_commands[i].words);
		for (const struct cli_param *p = cli_commands[i].params; p->name; p++)
			if (p->option)
				printf("\n--%s", p->name);
		printf("\" ;;\n");
	}
	printf("\t\tesac\n\telse\n\t\tcase \"$line\" in\n\t\t\"\") words=\"");
	for (size_t i = 0; i < cli_commands_count; i++) {
		size_t n = strcspn(cli_commands[i].words, " ");

		if (i == 0 || strncmp(cli_commands[i - 1].words, cli_commands[i].words, n + 1))
			printf("%.*s\n", (int)n, cli_commands[i].words);
	}
	printf("\" ;;\n");
	for (size_t i = 0; i < cli_commands_count; i++) {
		const char *w = cli_commands[i].words, *space = strchr(w, ' ');

		if (space && (i == 0 || strncmp(cli_commands[i - 1].words, w, (size_t)(space - w) + 1))) {
			printf("\t\t\"%.*s\") words=\"", (int)(space - w), w);
			for (size_t k = i; k < cli_commands_count; k++)
				if (!strncmp(cli_commands[k].words, w, (size_t)(space - w) + 1))
					printf("%s\n", cli_commands[k].words + (space - w) + 1);
			printf("\" ;;\n");
		}
	}
	printf("\t\t*) COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n\t\tesac\n\tfi\n"
	       "\tCOMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n}\n"
	       "complete -o filenames -F _millrace millrace\n");
	return CLI_OK;
}
