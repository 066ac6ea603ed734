/* SPDX-License-Identifier: BSD-3-Clause
 * The control socket for real: framing, limits, peers, audit; golden sessions (tests/ctl/NAME.in and NAME.ok);
 * and the CLI's exit codes in front of it.
 */
#include <errno.h>
#include <glob.h>
#include <grp.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "control/ctl_commands.h"
#include "base/error.h"
#include "base/file_replace.h"
#include "tests/ctl/t_faces.h"

enum { LINE = 1 << 20 };

static int dial(const struct t_faces *f)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	struct timeval tv = {5, 0};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", f->socket);
	assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	return fd;
}

static void put(int fd, const char *text, size_t n)
{
	while (n) {
		ssize_t r = send(fd, text, n, MSG_NOSIGNAL);

		assert_true(r > 0);
		text += r;
		n -= (size_t)r;
	}
}

/* One line, byte by byte (simple, and slow enough for the other side); NULL at end of stream. */
static char *get(int fd)
{
	char *line = malloc(LINE);
	size_t n = 0;

	while (n < LINE - 1 && read(fd, line + n, 1) == 1)
		if (line[n++] == '\n') {
			line[n - 1] = 0;
			return line;
		}
	free(line);
	return NULL;
}

static json_t *get_json(int fd)
{
	char *line = get(fd);
	json_t *o = line ? json_loads(line, 0, NULL) : NULL;

	free(line);
	assert_non_null(o);
	return o;
}

static void expect_error(int fd, const char *code, const char *words)
{
	json_t *o = get_json(fd), *e = json_object_get(o, "error");

	assert_true(json_is_false(json_object_get(o, "ok")));
	assert_string_equal(json_string_value(json_object_get(e, "code")), code);
	if (!strstr(json_string_value(json_object_get(e, "message")), words))
		fail_msg("'%s' is not in '%s'", words, json_string_value(json_object_get(e, "message")));
	json_decref(o);
}

static void expect_ok(int fd, int id)
{
	json_t *o = get_json(fd);

	while (json_object_get(o, "progress")) {
		json_decref(o);
		o = get_json(fd);
	}
	assert_true(json_is_true(json_object_get(o, "ok")));
	assert_int_equal(json_integer_value(json_object_get(o, "id")), id);
	json_decref(o);
}

static void say(int fd, const char *line)
{
	put(fd, line, strlen(line));
	put(fd, "\n", 1);
}

static int setup(void **state)
{
	struct t_faces *f = calloc(1, sizeof(*f));

	t_faces_start(f, true);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	t_faces_stop(*state);
	free(*state);
	return 0;
}

static void lines_may_come_a_byte_at_a_time_and_many_at_once(void **state)
{
	static const char line[] = "{\"id\": 1, \"cmd\": \"status\"}\n";
	int fd = dial(*state);

	for (size_t i = 0; i < sizeof(line) - 1; i++) {
		put(fd, line + i, 1);
		usleep(1000);
	}
	expect_ok(fd, 1);
	put(fd, "{\"id\":2,\"cmd\":\"help\"}\r\n\n{\"id\":3,\"cmd\":\"show.drops\"}\n", 52);
	expect_ok(fd, 2);
	expect_ok(fd, 3);
	close(fd);
}

static void bad_lines_are_refused_one_by_one_and_the_connection_lives(void **state)
{
	int fd = dial(*state);
	char deep[300];

	say(fd, "hello");
	expect_error(fd, "bad_request", "not a JSON object");
	put(fd, "{\"cmd\":\"sta\0tus\"}\n", 18);
	expect_error(fd, "bad_request", "not a JSON object");
	say(fd, "{\"cmd\":\"sta\\u0000tus\"}");
	expect_error(fd, "bad_request", "not a JSON object");
	memset(deep, '[', 200);
	deep[200] = 0;
	say(fd, deep);
	expect_error(fd, "bad_request", "nested deeper than 16");
	say(fd, "{\"cmd\":\"status\",\"cmd\":\"help\"}");
	expect_error(fd, "bad_request", "duplicate");
	say(fd, "{\"cmd\":\"reboot\"}");
	expect_error(fd, "unknown_command", "reboot");
	say(fd, "{\"cmd\":\"status\",\"args\":{\"verbose\":true}}");
	expect_error(fd, "bad_request", "no argument \"verbose\"");
	say(fd, "{\"cmd\":\"model.load\",\"args\":{\"path\":7}}");
	expect_error(fd, "bad_request", "\"path\" must be a text");
	say(fd, "{\"cmd\":\"model.load\"}");
	expect_error(fd, "bad_request", "needs \"path\"");
	say(fd, "{\"cmd\":\"model.load\",\"args\":{\"path\":\"digits.mrm\"}}");
	expect_error(fd, "bad_request", "must be absolute");
	say(fd, "{\"cmd\":\"status\",\"sudo\":true}");
	expect_error(fd, "bad_request", "unknown field \"sudo\"");
	say(fd, "{\"id\":{},\"cmd\":\"status\"}");
	expect_error(fd, "bad_request", "\"id\"");
	say(fd, "{\"id\":9,\"cmd\":\"status\"}");
	expect_ok(fd, 9);
	close(fd);
}

static void a_line_over_64_kib_is_refused_and_ends_the_connection(void **state)
{
	static char big[100000];
	int fd = dial(*state);

	memset(big, 'a', sizeof(big));
	(void)!send(fd, big, sizeof(big), MSG_NOSIGNAL | MSG_DONTWAIT);
	expect_error(fd, "too_long", "65536");
	assert_null(get(fd));
	close(fd);
}

static void a_half_closed_connection_still_gets_its_answers(void **state)
{
	int fd = dial(*state);

	say(fd, "{\"id\":1,\"cmd\":\"model.load\",\"args\":{\"path\":\"/digits.mrm\"}}");
	say(fd, "{\"id\":2,\"cmd\":\"status\"}");
	shutdown(fd, SHUT_WR);
	expect_ok(fd, 2);
	expect_ok(fd, 1);
	assert_null(get(fd));
	close(fd);
}

static void leaving_in_the_middle_of_an_answer_or_a_job_does_no_harm(void **state)
{
	for (int i = 0; i < 20; i++) {
		int fd = dial(*state);

		say(fd, "{\"id\":1,\"cmd\":\"model.load\",\"args\":{\"path\":\"/digits.mrm\"}}");
		for (int k = 0; k < 50; k++)
			say(fd, "{\"cmd\":\"help\"}");
		if (i % 2)
			usleep(20000);
		close(fd);
	}
	usleep(600000); /* the jobs end with nobody listening */
	int fd = dial(*state);

	say(fd, "{\"id\":1,\"cmd\":\"status\"}");
	expect_ok(fd, 1);
	close(fd);
}

static void who_asks_much_and_reads_nothing_is_held_back_not_buffered(void **state)
{
	static const char ask[] = "{\"cmd\":\"help\"}\n";
	int fd = dial(*state), other = dial(*state);
	size_t sent = 0;

	while (send(fd, ask, sizeof(ask) - 1, MSG_NOSIGNAL | MSG_DONTWAIT) > 0 && sent < 32 << 20)
		sent += sizeof(ask) - 1;
	assert_true(sent < 2 << 20);
	say(other, "{\"id\":1,\"cmd\":\"status\"}");
	expect_ok(other, 1);
	close(fd);
	close(other);
}

static void descriptors_sent_along_are_closed(void **state)
{
	static char line[] = "{\"id\":1,\"cmd\":\"status\"}\n";
	char control[CMSG_SPACE(sizeof(int))] = {0}, c;
	struct iovec iov = {line, sizeof(line) - 1};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
		.msg_controllen = sizeof(control)};
	struct cmsghdr *h = CMSG_FIRSTHDR(&msg);
	int fd = dial(*state), ends[2];

	assert_int_equal(pipe(ends), 0);
	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(h), &ends[1], sizeof(int));
	assert_int_equal(sendmsg(fd, &msg, 0), sizeof(line) - 1);
	close(ends[1]);
	expect_ok(fd, 1);
	assert_int_equal(read(ends[0], &c, 1), 0); /* end of file: nobody holds the other end */
	close(ends[0]);
	close(fd);
}

static void the_65th_connection_is_turned_away_with_a_reason(void **state)
{
	int fds[64], one;

	for (int i = 0; i < 64; i++) {
		fds[i] = dial(*state);
		say(fds[i], "{\"id\":1,\"cmd\":\"show.plans\"}");
		expect_ok(fds[i], 1);
	}
	one = dial(*state);
	expect_error(one, "busy", "too many connections");
	close(one);
	for (int i = 0; i < 64; i++)
		close(fds[i]);
}

/* Dial as nobody, in a child: only the child changes its ids. */
static void a_peer_without_a_role_is_refused_told_and_audited(void **state)
{
	const struct t_faces *f = *state;
	char path[128], line[1024];
	bool audited = false;
	int status;
	pid_t pid;
	FILE *log;

	if (geteuid() != 0)
		skip();
	pid = fork();
	if (pid == 0) {
		gid_t none = 65534;
		char *answer;
		int fd;

		if (setgroups(1, &none) || setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534))
			_exit(2);
		fd = dial(f);
		answer = get(fd);
		_exit(answer && strstr(answer, "\"forbidden\"") && strstr(answer, "millrace-viewer") &&
			      read(fd, line, 1) == 0 ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	snprintf(path, sizeof(path), "%s/audit.log", f->dir);
	assert_non_null(log = fopen(path, "r"));
	while (fgets(line, sizeof(line), log))
		audited |= strstr(line, "uid 65534") && strstr(line, "refused: no role");
	fclose(log);
	assert_true(audited);
}

static void a_change_that_is_refused_before_it_is_tried_is_audited_too(void **state)
{
	const struct t_faces *f = *state;
	char path[128], *text;
	struct error err;
	int fd = dial(f);

	say(fd, "{\"id\":1,\"cmd\":\"subscriber.set\",\"args\":{\"name\":\"acme\",\"rate\":\"much\"}}");
	expect_error(fd, "bad_request", "rate");
	snprintf(path, sizeof(path), "%s/audit.log", f->dir);
	assert_int_equal(file_read(path, 65536, &text, NULL, &err), 0);
	assert_non_null(strstr(text, "\"action\":\"subscriber.set\",\"subject\":\"acme\",\"dry_run\":false,\"outcome\":\"subscriber.set: "));
	free(text);
	close(fd);
}

static void a_dry_run_changes_nothing_and_is_audited_as_such(void **state)
{
	const struct t_faces *f = *state;
	int fd = dial(f);
	char path[128], line[1024] = "";
	json_t *o;
	FILE *log;

	say(fd, "{\"id\":1,\"cmd\":\"subscriber.add\",\"dry_run\":true,\"args\":{\"name\":\"new\",\"rate\":5,"
		"\"burst\":5}}");
	o = get_json(fd);
	assert_true(json_is_true(json_object_get(o, "ok")));
	assert_null(json_object_get(json_object_get(o, "result"), "api_key"));
	json_decref(o);
	say(fd, "{\"id\":2,\"cmd\":\"subscriber.set\",\"args\":{\"name\":\"new\",\"rate\":6}}");
	expect_error(fd, "not_found", "no subscriber \"new\"");
	say(fd, "{\"id\":3,\"cmd\":\"audit.verify\"}");
	o = get_json(fd);
	assert_true(json_is_true(json_object_get(json_object_get(o, "result"), "intact")));
	assert_int_equal(json_integer_value(json_object_get(json_object_get(o, "result"), "lines")), 2);
	json_decref(o);
	snprintf(path, sizeof(path), "%s/audit.log", f->dir);
	assert_non_null(log = fopen(path, "r"));
	assert_non_null(fgets(line, sizeof(line), log));
	assert_non_null(strstr(line, "\"actor\":\"uid 0 via control.sock\""));
	assert_non_null(strstr(line, "\"dry_run\":true"));
	assert_non_null(strstr(line, "\"subject\":\"new\""));
	assert_non_null(fgets(line, sizeof(line), log));
	assert_non_null(strstr(line, "no subscriber"));
	fclose(log);
	close(fd);
}

static void keep_result(struct ctl_request *rq, int rc, json_t *result, const struct error *err)
{
	*(int *)rq->owner = rc;
	assert_true(rc == 0 || err->text[0]);
	json_decref(result);
}

static void a_command_above_the_peers_role_is_refused(void **state)
{
	static const struct {
		const char *line;
		enum ctl_role needs;
	} table[] = {{"{\"cmd\":\"help\"}", CTL_VIEWER}, {"{\"cmd\":\"show.plans\"}", CTL_VIEWER},
		{"{\"cmd\":\"subscriber.remove\",\"dry_run\":true,\"args\":{\"name\":\"acme\"}}", CTL_OPERATOR},
		{"{\"cmd\":\"dataplane.restart\",\"dry_run\":true}", CTL_ADMIN}};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		for (enum ctl_role role = CTL_NONE; role <= CTL_ADMIN; role++) {
			int rc = 1;
			struct ctl_request rq = {.role = role, .finish = keep_result, .owner = &rc};
			struct error err;

			assert_int_equal(ctl_line_parse(&rq, table[i].line, strlen(table[i].line), &err), 0);
			ctl_request_run(&rq);
			assert_int_equal(rc, role < table[i].needs ? -EACCES : 0);
			ctl_request_clear(&rq);
		}
}

/* -- golden sessions ------------------------------------------------------------------------- */

/* With T_GOLDEN_OUT=FILE the answers are written there, to be read and then kept as NAME.ok. */
static void run_golden(const struct t_faces *f, const char *in_path)
{
	const char *out_path = getenv("T_GOLDEN_OUT");
	char ok_path[256], *want = NULL, line[65536];
	FILE *in = fopen(in_path, "r"), *ok, *out = out_path ? fopen(out_path, "w") : NULL;
	size_t cap = 0;
	int fd = dial(f), number = 0;

	snprintf(ok_path, sizeof(ok_path), "%.*sok", (int)strlen(in_path) - 2, in_path);
	ok = fopen(ok_path, "r");
	assert_non_null(in);
	assert_non_null(ok);
	while (fgets(line, sizeof(line), in)) {
		char *answer;

		put(fd, line, strlen(line));
		for (;;) {
			answer = get(fd);
			number++;
			assert_non_null(answer);
			if (out)
				fprintf(out, "%s\n", answer);
			else
				assert_true(getline(&want, &cap, ok) > 0);
			if (!out)
				want[strcspn(want, "\n")] = 0;
			if (!out && strcmp(answer, want))
				fail_msg("%s, answer %d\n  got  %s\n  want %s", in_path, number, answer, want);
			if (!strstr(answer, "\"progress\""))
				break;
			free(answer);
		}
		free(answer);
	}
	assert_true(getline(&want, &cap, ok) < 0);
	if (out)
		fclose(out);
	free(want);
	fclose(in);
	fclose(ok);
	close(fd);
}

static void golden_sessions_answer_byte_for_byte(void **state)
{
	glob_t g;

	assert_int_equal(glob("tests/ctl/*.in", 0, NULL, &g), 0);
	for (size_t i = 0; i < g.gl_pathc; i++)
		run_golden(*state, g.gl_pathv[i]);
	globfree(&g);
}

/* -- the CLI --------------------------------------------------------------------------------- */

static int cli(const struct t_faces *f, const char *args, char *out, size_t cap)
{
	const char *build = getenv("BUILD");
	char command[512];
	size_t n;
	FILE *p;

	snprintf(command, sizeof(command), "%s/bin/millrace --socket %s %s 2>&1 </dev/null",
		build ? build : "build", f->socket, args);
	p = popen(command, "r");
	assert_non_null(p);
	n = fread(out, 1, cap - 1, p);
	out[n] = 0;
	return WEXITSTATUS(pclose(p));
}

static void the_cli_ends_with_0_1_2_or_3_and_speaks_json(void **state)
{
	static const struct {
		const char *args;
		int status;
		const char *words;
	} table[] = {{"status", 0, "dataplane"}, {"status", 0, "huge pages"}, {"show models", 0, "digits"},
		{"show models", 0, "12.0 us / 384 us"}, {"show models", 0, "native avx512-vnni"},
		{"show workers", 0, "p99"}, {"show sessions", 0, "expires"}, {"show limits", 0, "memfd"},
		{"show drops", 0, "drop_auth"}, {"show drops", 0, "10.9.8.7"}, {"show license", 0, "Acme"}, {"show plans", 0, "200k"},
		{"top --interval 0.1", 0, "cycles per request"}, {"model load /digits.mrm", 0, "digits"},
		{"model load /missing.mrm", 1, "No such file"}, {"model activate nothing", 1, "no model"},
		{"subscriber add bob --rate 1k --burst 10", 0, "mr_new"},
		{"subscriber add bob --rate 1k --burst 10", 1, "already"},
		{"subscriber set bob --suspended true", 0, "suspended"}, {"subscriber set bob", 1, "nothing"},
		{"subscriber set bob --rate fast", 2, "does not fit"}, {"plan remove demo", 1, "are on"},
		{"--dry-run subscriber remove bob", 0, "dry run"}, {"subscriber remove bob", 0, "done"},
		{"license install /nowhere", 1, "No such file"}, {"dataplane restart", 0, "ready"},
		{"doctor", 0, "audit chain"}, {"completion bash", 0, "complete -o filenames"},
		{"frobnicate", 2, "no command"}, {"model", 2, "model load"}, {"model load", 2, "needs its path"},
		{"status --colour", 2, "no option"}, {"model load a b", 2, "too many"}, {"", 2, "status"},
		{"status --help", 0, "at a glance"}, {"--help", 0, "exit status"}};
	char out[65536];
	json_t *o;

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		int status = cli(*state, table[i].args, out, sizeof(out));

		if (status != table[i].status || !strstr(out, table[i].words))
			fail_msg("millrace %s: status %d, wanted %d and '%s':\n%s", table[i].args, status,
				table[i].status, table[i].words, out);
		assert_null(strchr(out, '\033')); /* no colours into a pipe */
	}
	assert_int_equal(cli(*state, "--json status", out, sizeof(out)), 0);
	assert_non_null(o = json_loads(out, 0, NULL));
	json_decref(o);
	assert_int_equal(cli(*state, "--json model activate nothing", out, sizeof(out)), 1);
	assert_non_null(o = json_loads(out, 0, NULL));
	json_decref(o);
	assert_int_equal(cli(*state, "--socket /nowhere/control.sock status", out, sizeof(out)), 3);
	assert_int_equal(cli(*state, "--socket /nowhere/control.sock doctor", out, sizeof(out)), 3);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(lines_may_come_a_byte_at_a_time_and_many_at_once),
		T(bad_lines_are_refused_one_by_one_and_the_connection_lives),
		T(a_line_over_64_kib_is_refused_and_ends_the_connection),
		T(a_half_closed_connection_still_gets_its_answers),
		T(leaving_in_the_middle_of_an_answer_or_a_job_does_no_harm),
		T(who_asks_much_and_reads_nothing_is_held_back_not_buffered),
		T(descriptors_sent_along_are_closed),
		T(the_65th_connection_is_turned_away_with_a_reason),
		T(a_peer_without_a_role_is_refused_told_and_audited),
		cmocka_unit_test(a_command_above_the_peers_role_is_refused),
		T(a_dry_run_changes_nothing_and_is_audited_as_such),
		T(a_change_that_is_refused_before_it_is_tried_is_audited_too),
		T(golden_sessions_answer_byte_for_byte),
		T(the_cli_ends_with_0_1_2_or_3_and_speaks_json),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
