/* SPDX-License-Identifier: BSD-3-Clause
 * `millrace top`: live rates, latency, cycles per request and drops, from differences of two raw
 * answers. With --json or --count it prints plain pictures, one per interval.
 */
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "control/cli/cli.h"
#include "control/cli/print.h"

static volatile sig_atomic_t stop_asked; /* set by SIGINT/SIGTERM only */

static void on_signal(int sig)
{
	(void)sig;
	stop_asked = 1;
}

/* Increase of a counter between two answers; a restarted dataplane counts from zero again. */
static double increase(const json_t *before, const json_t *now, const char *group, const char *name)
{
	double a = field_number(json_object_get(before, group), name);
	double b = field_number(json_object_get(now, group), name);

	return b >= a ? b - a : b;
}

/* Count of one histogram bucket in an earlier answer. */
static double bucket_before(const json_t *list, double end_ns)
{
	const json_t *pair;
	size_t i;

	json_array_foreach(list, i, pair)
		if (json_number_value(json_array_get(pair, 0)) == end_ns)
			return json_number_value(json_array_get(pair, 1));
	return 0;
}

static double gained(const json_t *before, const json_t *pair)
{
	double was = bucket_before(before, json_number_value(json_array_get(pair, 0)));
	double is = json_number_value(json_array_get(pair, 1));

	return is >= was ? is - was : is;
}

/* Percentile (us) of what was added between the two answers; 0 when nothing was. */
static double percentile_us(const json_t *a, const json_t *b, double percent)
{
	const json_t *before = json_object_get(a, "service_ns"), *now = json_object_get(b, "service_ns");
	double total = 0, seen = 0;
	const json_t *pair;
	size_t i;

	json_array_foreach(now, i, pair)
		total += gained(before, pair);
	json_array_foreach(now, i, pair) {
		seen += gained(before, pair);
		if (total > 0 && seen >= total * percent / 100)
			return json_number_value(json_array_get(pair, 0)) / 1e3;
	}
	return 0;
}

static const char *const stage_names[] = {"rx", "parse", "auth", "limit", "batch", "infer", "reply",
	"tx"};
enum { N_STAGES = sizeof(stage_names) / sizeof(stage_names[0]) };

static json_t *figures(const json_t *a, const json_t *b)
{
	double dt = (field_number(b, "now_ns") - field_number(a, "now_ns")) / 1e9;
	double completed = increase(a, b, "counters", "requests_completed");
	double batches = increase(a, b, "counters", "batches");
	json_t *o = json_object(), *stages = json_object(), *drops = json_object(), *v;
	const char *name;

	if (dt <= 0)
		dt = 1;
	json_object_set_new(o, "state", json_string(field_text(b, "state")));
	json_object_set_new(o, "rx_per_s", json_real(increase(a, b, "counters", "rx_packets") / dt));
	json_object_set_new(o, "completed_per_s", json_real(completed / dt));
	json_object_set_new(o, "results_per_s", json_real(increase(a, b, "counters", "reply_result") / dt));
	json_object_set_new(o, "rows_per_batch",
		json_real(batches > 0 ? increase(a, b, "counters", "rows") / batches : 0));
	json_object_set_new(o, "p50_us", json_real(percentile_us(a, b, 50)));
	json_object_set_new(o, "p99_us", json_real(percentile_us(a, b, 99)));
	json_object_set_new(o, "p999_us", json_real(percentile_us(a, b, 99.9)));
	for (size_t i = 0; i < N_STAGES; i++)
		json_object_set_new(stages, stage_names[i], json_real(completed > 0
			? increase(a, b, "stage_cycles", stage_names[i]) / completed : 0));
	json_object_set_new(o, "cycles_per_request", stages);
	json_object_foreach(json_object_get(b, "counters"), name, v)
		if (!strncmp(name, "drop_", 5) || !strncmp(name, "reply_", 6))
			json_object_set_new(drops, name, json_real(increase(a, b, "counters", name) / dt));
	json_object_foreach(json_object_get(b, "xdp"), name, v) {
		char full[64];

		snprintf(full, sizeof(full), "xdp_%.50s", name);
		json_object_set_new(drops, full, json_real(increase(a, b, "xdp", name) / dt));
	}
	json_object_set_new(o, "per_s", drops);
	return o;
}

static void draw_stages(const json_t *stages)
{
	double sum = 0;

	for (size_t i = 0; i < N_STAGES; i++)
		sum += field_number(stages, stage_names[i]);
	printf("\n%scycles per request%s   %.0f\n", print_on(STYLE_BOLD), print_off(), sum);
	for (size_t i = 0; i < N_STAGES; i++) {
		double v = field_number(stages, stage_names[i]);
		int bar = sum > 0 ? (int)(v / sum * 40 + 0.5) : 0;

		printf("  %-6s %6.0f  %.*s\n", stage_names[i], v, bar,
			"########################################");
	}
}

static void draw(const json_t *f)
{
	char a[UNIT_BYTES], b[UNIT_BYTES], c[UNIT_BYTES];
	const char *name;
	json_t *v;

	printf("%smillrace top%s   dataplane %s   (q quits)\n\n", print_on(STYLE_BOLD), print_off(),
		field_text(f, "state"));
	printf("  received  %8s/s   answered  %8s/s   results  %8s/s\n",
		unit_count(field_number(f, "rx_per_s"), a), unit_count(field_number(f, "completed_per_s"), b),
		unit_count(field_number(f, "results_per_s"), c));
	printf("  service   p50 %s   p99 %s   p99.9 %s   rows a batch %.1f\n",
		unit_us(field_number(f, "p50_us"), a), unit_us(field_number(f, "p99_us"), b),
		unit_us(field_number(f, "p999_us"), c), field_number(f, "rows_per_batch"));
	draw_stages(json_object_get(f, "cycles_per_request"));
	printf("\n%sreplies and drops%s\n", print_on(STYLE_BOLD), print_off());
	json_object_foreach(json_object_get(f, "per_s"), name, v)
		if (json_number_value(v) > 0)
			printf("  %-24s %8s/s\n", name, unit_count(json_number_value(v), a));
	fflush(stdout);
}

/* Wait; true when the person pressed q. */
static bool wait_key(double seconds, bool keys)
{
	struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
	char c = 0;

	if (poll(&p, keys ? 1 : 0, (int)(seconds * 1000)) <= 0)
		return stop_asked;
	return read(STDIN_FILENO, &c, 1) <= 0 || c == 'q' || c == 'Q' || c == 3;
}

static void show(const struct cli *cli, const json_t *before, const json_t *now, bool screen)
{
	json_t *f = figures(before, now);

	if (cli->json) {
		json_dumpf(f, stdout, JSON_COMPACT);
		printf("\n");
		fflush(stdout);
	} else {
		if (screen)
			printf("\033[H\033[J");
		draw(f);
	}
	json_decref(f);
}

static int loop(const struct cli *cli, double interval, double count, bool screen)
{
	json_t *before = NULL, *now = NULL;
	int status = cli_fetch(cli, "top", &before);

	for (double i = 0; status == 0 && (count <= 0 || i < count); i++) {
		if (wait_key(interval, screen))
			break;
		status = cli_fetch(cli, "top", &now);
		if (status)
			break;
		show(cli, before, now, screen);
		json_decref(before);
		before = now;
		now = NULL;
	}
	json_decref(before);
	return status;
}

int top_run(const struct cli *cli, const struct cli_command *c, const json_t *args)
{
	double interval = json_object_get(args, "interval") ? field_number(args, "interval") : 1;
	double count = field_number(args, "count");
	bool screen = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && !cli->json && count <= 0;
	struct sigaction act = {.sa_handler = on_signal}, old_int, old_term;
	struct termios old, raw;
	int status;

	(void)c;
	if (!(interval >= 0.1 && interval <= 3600))
		return cli_fail(cli, CLI_USAGE, "usage", "top: --interval must be from 0.1 to 3600");
	if (count <= 0 && !screen && !cli->json)
		count = 1; /* not a terminal: one picture, then end */
	stop_asked = 0;
	sigaction(SIGINT, &act, &old_int);
	sigaction(SIGTERM, &act, &old_term);
	if (screen && tcgetattr(STDIN_FILENO, &old) == 0) {
		raw = old;
		raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
		tcsetattr(STDIN_FILENO, TCSANOW, &raw);
		printf("\033[?25l");
	}
	status = loop(cli, interval, count, screen);
	if (screen) {
		tcsetattr(STDIN_FILENO, TCSANOW, &old);
		printf("\033[?25h\n");
	}
	sigaction(SIGINT, &old_int, NULL);
	sigaction(SIGTERM, &old_term, NULL);
	return status;
}
