/* SPDX-License-Identifier: BSD-3-Clause
 * `millrace doctor` and `millrace check`: what is wrong, and the command that mends it.
 */
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "control/cli/cli.h"
#include "control/cli/client.h"
#include "control/cli/print.h"

enum verdict { GOOD, WARNING, BAD };

struct doctor {
	json_t *findings;
	int bad;
};

static void finding(struct doctor *d, enum verdict v, const char *what, const char *detail,
	const char *fix)
{
	static const char *const words[] = {"ok", "warning", "bad"};

	d->bad += v == BAD;
	json_array_append_new(d->findings, json_pack("{s:s, s:s, s:s, s:s}", "check", what, "verdict",
		words[v], "detail", detail, "fix", v == GOOD ? "" : fix));
}

static void check_dataplane(struct doctor *d, const json_t *s)
{
	const json_t *dp = json_object_get(s, "dataplane");
	bool ready = !strcasecmp(field_text(dp, "state"), "ready");
	char detail[460];

	snprintf(detail, sizeof(detail), "%.40s%s%.384s", field_text(dp, "state"),
		*field_text(dp, "last_exit") ? ", last exit: " : "", field_text(dp, "last_exit"));
	finding(d, ready ? GOOD : BAD, "dataplane ready", detail,
		"read the log of millrace-dataplane; then: millrace dataplane restart");
	if (field_true(dp, "brake"))
		finding(d, BAD, "crash loop", "the dataplane dies again and again",
			"mend the cause in its log; check the file: millrace check FILE");
}

static void check_ports(struct doctor *d, const json_t *ports)
{
	const json_t *p;
	char detail[128];
	size_t i;

	json_array_foreach(ports, i, p) {
		const char *mode = field_text(p, "xdp_mode");

		if (strcmp(field_text(p, "kind"), "af_xdp"))
			continue;
		snprintf(detail, sizeof(detail), "%.60s: %s", field_text(p, "device"), *mode ? mode : "unknown");
		finding(d, !strcmp(mode, "native") || !strcmp(mode, "hardware") ? GOOD : WARNING, "XDP mode",
			detail, "use a driver with native XDP; generic mode is slow");
	}
}

static void check_license(struct doctor *d, const json_t *l)
{
	const char *state = field_text(l, "state");
	bool valid = !strcmp(state, "valid");
	double days = field_number(l, "days_left");
	char detail[320];

	if (valid)
		snprintf(detail, sizeof(detail), "valid, %.1f days left", days);
	else
		snprintf(detail, sizeof(detail), "%s: %.256s", state, field_text(l, "reason"));
	finding(d, !valid ? BAD : days < 14 ? WARNING : GOOD, "licence", detail,
		"get a licence from the vendor; then: millrace license install FILE");
}

static void check_memory(struct doctor *d, const json_t *s)
{
	const json_t *huge = json_object_get(s, "huge_pages");

	if (!json_is_null(huge))
		finding(d, json_is_true(huge) ? GOOD : WARNING, "huge pages",
			json_is_true(huge) ? "in use" : "normal pages are in use",
			"millrace-host apply, then: millrace dataplane restart");
	if (!strcmp(field_text(json_object_get(s, "limits"), "kind"), "memfd"))
		finding(d, WARNING, "limits map", "shared memory; no XDP filter in front",
			"mount bpffs and run control with CAP_BPF; then restart both");
	else
		finding(d, GOOD, "limits map", "pinned BPF map", "");
}

static void check_models(struct doctor *d, const json_t *s)
{
	double live = field_number(json_object_get(s, "models"), "live");
	char detail[64];

	snprintf(detail, sizeof(detail), "%.0f live", live);
	finding(d, live > 0 ? GOOD : WARNING, "models", detail, "millrace model load FILE --activate");
}

static void check_audit(struct doctor *d, const json_t *a)
{
	char detail[320];
	bool intact = field_true(a, "intact");

	if (intact)
		snprintf(detail, sizeof(detail), "%.0f lines, head %.16s", field_number(a, "lines"),
			field_text(a, "head"));
	else
		snprintf(detail, sizeof(detail), "%.100s: %.128s", field_text(a, "path"),
			field_text(a, "reason"));
	finding(d, intact ? GOOD : BAD, "audit chain", detail,
		"somebody edited the log: compare it with your off-box copy, and keep both");
}

static int examine(struct doctor *d, const struct cli *cli)
{
	struct cli quiet = *cli;
	struct client probe;
	struct error err = {0};
	json_t *s = NULL, *a = NULL;
	int status;

	if (client_open(&probe, cli->socket, &err)) {
		finding(d, BAD, "control reachable", err.text,
			"start it: systemctl start millrace-control (or millrace-control --config FILE)");
		return CLI_UNREACHABLE;
	}
	client_close(&probe);
	status = cli_fetch(&quiet, "status", &s);
	if (status) {
		finding(d, BAD, "control answers", "status was refused",
			"be in the group millrace-viewer, or root");
		return status;
	}
	finding(d, GOOD, "control reachable", cli->socket, "");
	check_dataplane(d, s);
	check_ports(d, json_object_get(s, "ports"));
	check_memory(d, s);
	check_license(d, json_object_get(s, "license"));
	check_models(d, s);
	json_decref(s);
	if (cli_fetch(&quiet, "audit.verify", &a) == 0)
		check_audit(d, a);
	json_decref(a);
	return CLI_OK;
}

static void print_findings(const json_t *findings)
{
	const json_t *f;
	size_t i;

	json_array_foreach(findings, i, f) {
		const char *v = field_text(f, "verdict");
		enum style s = !strcmp(v, "ok") ? STYLE_GOOD : !strcmp(v, "bad") ? STYLE_BAD : STYLE_WARN;

		printf("%s%-8s%s %-18s %s\n", print_on(s), v, print_off(), field_text(f, "check"),
			field_text(f, "detail"));
		if (*field_text(f, "fix"))
			printf("         -> %s\n", field_text(f, "fix"));
	}
}

int doctor_run(const struct cli *cli, const struct cli_command *c, const json_t *args)
{
	struct doctor d = {.findings = json_array()};
	int status = examine(&d, cli);

	(void)c;
	(void)args;
	if (cli->json) {
		json_dumpf(d.findings, stdout, JSON_COMPACT);
		printf("\n");
	} else {
		print_findings(d.findings);
	}
	json_decref(d.findings);
	return status ? status : d.bad ? CLI_REFUSED : CLI_OK;
}

/* millrace-control beside this program, else from the PATH. */
static void control_program(char *out, size_t cap)
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n > 0) {
		self[n] = 0;
		snprintf(out, cap, "%.*s/millrace-control", (int)cap - 20, dirname(self));
		if (access(out, X_OK) == 0)
			return;
	}
	snprintf(out, cap, "millrace-control");
}

int check_run(const struct cli *cli, const struct cli_command *c, const json_t *args)
{
	char program[PATH_MAX];
	int status;
	pid_t pid;

	(void)c;
	control_program(program, sizeof(program));
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		execlp(program, program, "--config", field_text(args, "file"), "--check",
			cli->json ? "--json" : (char *)NULL, (char *)NULL);
		fprintf(stderr, "millrace: %s: %s\n", program, strerror(errno));
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) == 127)
		return cli_fail(cli, CLI_UNREACHABLE, "unreachable", "millrace-control could not be run");
	return WEXITSTATUS(status) ? CLI_REFUSED : CLI_OK;
}
