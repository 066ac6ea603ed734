/* SPDX-License-Identifier: BSD-3-Clause
 * HTTPS for real: OpenSSL as client over loopback TCP against the faces of control.
 */
#include <arpa/inet.h>
#include <errno.h>
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
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>
#include <openssl/ssl.h>

#include "abi/stats.h"
#include "abi/xdp_maps.h"
#include "base/clock.h"
#include "tests/ctl/t_faces.h"

struct client {
	int fd;
	SSL_CTX *ctx;
	SSL *ssl;
};

static int tcp(const struct t_faces *f)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(f->port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	return fd;
}

static bool tls_open(struct client *c, const struct t_faces *f, int version)
{
	c->fd = tcp(f);
	c->ctx = SSL_CTX_new(TLS_client_method());
	SSL_CTX_set_max_proto_version(c->ctx, version);
	c->ssl = SSL_new(c->ctx);
	SSL_set_fd(c->ssl, c->fd);
	return SSL_connect(c->ssl) == 1;
}

static void tls_close(struct client *c)
{
	SSL_free(c->ssl);
	SSL_CTX_free(c->ctx);
	close(c->fd);
}

/* Everything until the server closes or 5 s pass (the requests ask for close). */
static char *tls_read(struct client *c)
{
	size_t cap = 1 << 20, n = 0;
	char *out = calloc(1, cap);
	struct timeval tv = {5, 0};
	int r;

	setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	while (n < cap - 1 && (r = SSL_read(c->ssl, out + n, (int)(cap - 1 - n))) > 0)
		n += (size_t)r;
	return out;
}

/* One request on its own connection; caller frees the raw answer. */
static char *ask(const struct t_faces *f, const char *method, const char *path, const char *key,
	const char *body)
{
	struct client c;
	char head[2048], *answer;
	int n = snprintf(head, sizeof(head),
		"%s %s HTTP/1.1\r\nHost: box\r\nConnection: close\r\n%s%s%sContent-Length: %zu\r\n\r\n", method,
		path, key ? "Authorization: Bearer " : "", key ? key : "", key ? "\r\n" : "",
		body ? strlen(body) : 0);

	assert_true(tls_open(&c, f, TLS1_3_VERSION));
	assert_int_equal(SSL_write(c.ssl, head, n), n);
	if (body && *body)
		SSL_write(c.ssl, body, (int)strlen(body));
	answer = tls_read(&c);
	tls_close(&c);
	return answer;
}

static int status_of(const char *answer)
{
	return strncmp(answer, "HTTP/1.1 ", 9) ? 0 : (int)strtol(answer + 9, NULL, 10);
}

static json_t *body_of(const char *answer)
{
	const char *body = strstr(answer, "\r\n\r\n");

	return body ? json_loads(body + 4, 0, NULL) : NULL;
}

/* Ask, check the status and the exact content type, and give the body. */
static json_t *expect(const struct t_faces *f, const char *method, const char *path, const char *key,
	const char *body, int status)
{
	char *answer = ask(f, method, path, key, body);
	json_t *o = body_of(answer);

	if (status_of(answer) != status)
		fail_msg("%s %s: wanted %d, got: %.200s", method, path, status, answer);
	if (o)
		assert_non_null(strstr(answer, "\r\nContent-Type: application/json\r\n"));
	free(answer);
	return o;
}

static void expect_v1_error(const struct t_faces *f, const char *method, const char *path,
	const char *key, const char *body, int status, const char *code)
{
	json_t *o = expect(f, method, path, key, body, status), *e = json_object_get(o, "error");

	assert_string_equal(json_string_value(json_object_get(e, "code")), code);
	assert_true(json_is_string(json_object_get(e, "message")));
	assert_true(json_is_string(json_object_get(e, "type")));
	assert_true(json_is_null(json_object_get(e, "param")));
	json_decref(o);
}

static int setup(void **state)
{
	struct t_faces *f = calloc(1, sizeof(*f));

	signal(SIGPIPE, SIG_IGN);
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

static void tls_1_2_and_plaintext_are_refused(void **state)
{
	static const char garbage[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
	struct client c;
	char buf[512];
	ssize_t n;

	assert_false(tls_open(&c, *state, TLS1_2_VERSION));
	tls_close(&c);
	c.fd = tcp(*state);
	assert_int_equal(write(c.fd, garbage, sizeof(garbage) - 1), sizeof(garbage) - 1);
	n = read(c.fd, buf, sizeof(buf));
	assert_true(n <= 7); /* at most a TLS alert, never HTTP */
	assert_true(n <= 0 || buf[0] == 0x15);
	assert_true(n <= 0 || read(c.fd, buf, sizeof(buf)) <= 0);
	close(c.fd);
	json_decref(expect(*state, "GET", "/v2", NULL, NULL, 200));
}

static void a_session_is_granted_with_all_its_fields(void **state)
{
	json_t *o = expect(*state, "POST", "/v1/sessions", "mr_good",
		"{\"data_address\": \"10.77.0.2\"}", 201);
	const json_t *m = json_array_get(json_object_get(o, "models"), 0);
	char path[64];

	assert_string_equal(json_string_value(json_object_get(o, "session_id")), "9f3c000000000001");
	assert_int_equal(json_integer_value(json_object_get(o, "key_id")), 2871234);
	assert_string_equal(json_string_value(json_object_get(o, "secret")),
		"WlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlo=");
	assert_string_equal(json_string_value(json_object_get(o, "address")), "10.77.0.1");
	assert_string_equal(json_string_value(json_object_get(o, "source")), "10.77.0.2");
	assert_int_equal(json_integer_value(json_object_get(o, "port")), 4433);
	assert_int_equal(json_integer_value(json_object_get(m, "row_in_bytes")), 256);
	assert_string_equal(json_string_value(json_object_get(
		json_array_get(json_object_get(m, "inputs"), 0), "datatype")), "FP32");
	snprintf(path, sizeof(path), "/v1/sessions/%s/renew",
		json_string_value(json_object_get(o, "session_id")));
	json_decref(o);
	o = expect(*state, "POST", path, "mr_good", NULL, 200);
	assert_int_equal(json_integer_value(json_object_get(o, "expires_in_s")), 3600);
	json_decref(o);
	path[strlen(path) - 6] = 0;
	assert_null(expect(*state, "DELETE", path, "mr_good", NULL, 204));
	expect_v1_error(*state, "DELETE", path, "mr_good", NULL, 404, "not_found");
	o = expect(*state, "POST", "/v1/sessions", "mr_good", NULL, 201);
	assert_string_equal(json_string_value(json_object_get(o, "source")), "127.0.0.1");
	json_decref(o);
	o = expect(*state, "GET", "/v1/usage", "mr_good", NULL, 200);
	assert_int_equal(json_integer_value(json_object_get(o, "units")), 42);
	json_decref(o);
}

static void bad_requests_get_the_error_shape_of_their_path(void **state)
{
	static char huge[70000];
	char *answer = ask(*state, "POST", "/v1/sessions", "mr_wrong", NULL);
	json_t *o;

	assert_int_equal(status_of(answer), 401);
	assert_non_null(strstr(answer, "\r\nWWW-Authenticate: Bearer"));
	free(answer);
	expect_v1_error(*state, "POST", "/v1/sessions", "mr_wrong", NULL, 401, "invalid_api_key");
	expect_v1_error(*state, "POST", "/v1/sessions", NULL, NULL, 401, "invalid_api_key");
	expect_v1_error(*state, "GET", "/v1/sessions", "mr_good", NULL, 405, "method_not_allowed");
	expect_v1_error(*state, "GET", "/v1/nothing", NULL, NULL, 404, "not_found");
	expect_v1_error(*state, "POST", "/v1/sessions", "mr_good", "{\"data_address\": \"224.0.0.1\"}", 400,
		"bad_address");
	expect_v1_error(*state, "POST", "/v1/sessions", "mr_good", "{\"data_address\": 1}", 400,
		"bad_address");
	expect_v1_error(*state, "POST", "/v1/sessions", "mr_good", "{\"data_address\": \"10.78.0.2\"}", 403,
		"source_not_allowed");
	expect_v1_error(*state, "POST", "/v1/sessions", "mr_good", "{\"dada\": 1}", 400, "bad_request");
	expect_v1_error(*state, "POST", "/v1/sessions", "mr_good", "[[[[", 400, "bad_request");
	expect_v1_error(*state, "POST", "/v1/sessions/0000000000000001/renew", "mr_good", NULL, 404,
		"not_found");
	o = expect(*state, "GET", "/v2/models/none", NULL, NULL, 404);
	assert_true(json_is_string(json_object_get(o, "error")));
	json_decref(o);
	memset(huge, 'x', sizeof(huge) - 1);
	answer = ask(*state, "POST", "/v1/sessions", "mr_good", huge);
	assert_true(status_of(answer) == 413 || status_of(answer) == 0);
	free(answer);
}

static void headers_over_16_kib_are_refused(void **state)
{
	struct client c;
	char line[1024], *answer;

	memset(line, 'h', sizeof(line));
	memcpy(line, "X-A: ", 5);
	memcpy(line + sizeof(line) - 2, "\r\n", 2);
	assert_true(tls_open(&c, *state, TLS1_3_VERSION));
	SSL_write(c.ssl, "GET /v2 HTTP/1.1\r\n", 18);
	for (int i = 0; i < 20; i++)
		SSL_write(c.ssl, line, sizeof(line));
	SSL_write(c.ssl, "\r\n", 2);
	answer = tls_read(&c);
	assert_int_not_equal(status_of(answer), 200);
	free(answer);
	tls_close(&c);
}

static void health_and_metadata_follow_the_open_inference_protocol(void **state)
{
	json_t *o = expect(*state, "GET", "/v2/health/ready", NULL, NULL, 200), *in;

	assert_true(json_is_true(json_object_get(o, "ready")) && json_is_true(json_object_get(o, "live")));
	json_decref(o);
	o = expect(*state, "GET", "/v2", NULL, NULL, 200);
	assert_string_equal(json_string_value(json_object_get(o, "name")), "millrace");
	assert_int_equal(json_array_size(json_object_get(o, "extensions")), 0);
	json_decref(o);
	o = expect(*state, "GET", "/v2/models/digits/versions/1", NULL, NULL, 200);
	in = json_array_get(json_object_get(o, "inputs"), 0);
	assert_string_equal(json_string_value(json_object_get(in, "name")), "x");
	assert_int_equal(json_integer_value(json_array_get(json_object_get(in, "shape"), 0)), -1);
	assert_int_equal(json_integer_value(json_array_get(json_object_get(in, "shape"), 1)), 64);
	assert_string_equal(json_string_value(json_array_get(json_object_get(o, "versions"), 0)), "1");
	json_decref(o);
	json_decref(expect(*state, "GET", "/v2/models/digits/ready", NULL, NULL, 200));
	json_decref(expect(*state, "GET", "/v2/models/digits/versions/2", NULL, NULL, 404));
}

/* `rows` rows whose elements are all `value`, nested as the protocol allows. */
static char *infer_body(int rows, double value)
{
	json_t *data = json_array(), *body;
	char *text;

	for (int r = 0; r < rows; r++) {
		json_t *row = json_array();

		for (int i = 0; i < 64; i++)
			json_array_append_new(row, json_real(value + r));
		json_array_append_new(data, row);
	}
	body = json_pack("{s:s, s:[{s:s, s:s, s:[i, i], s:o}]}", "id", "q1", "inputs", "name", "x",
		"datatype", "FP32", "shape", rows, 64, "data", data);
	text = json_dumps(body, JSON_COMPACT);
	json_decref(body);
	return text;
}

static void inference_over_json_is_cut_into_datagrams_and_put_together_again(void **state)
{
	enum { ROWS = 11 }; /* four fit a slot */
	char *text = infer_body(ROWS, 0.5);
	json_t *o = expect(*state, "POST", "/v2/models/digits/infer", "mr_good", text, 200);
	const json_t *y = json_array_get(json_object_get(o, "outputs"), 0);
	const json_t *data = json_object_get(y, "data");

	free(text);
	assert_string_equal(json_string_value(json_object_get(o, "id")), "q1");
	assert_string_equal(json_string_value(json_object_get(o, "model_version")), "1");
	assert_int_equal(json_integer_value(json_array_get(json_object_get(y, "shape"), 0)), ROWS);
	assert_int_equal(json_array_size(data), ROWS * 10);
	for (int r = 0; r < ROWS; r++)
		assert_true(json_number_value(json_array_get(data, (size_t)r * 10)) == (0.5 + r) * 64);
	json_decref(o);
}

static void inference_refusals_say_what_is_wrong(void **state)
{
	static const struct {
		const char *key, *body;
		int status;
		const char *says;
	} cases[] = {
		{NULL, "{}", 401, "API key"},
		{"mr_good", "{}", 400, "inputs"},
		{"mr_good", "[", 400, "JSON"},
		{"mr_good", "{\"inputs\": [{\"name\": \"z\"}]}", 400, "missing"},
		{"mr_good", "{\"inputs\": [{\"name\": \"x\", \"shape\": [1, 63]}]}", 400, "shape"},
		{"mr_good", "{\"inputs\": [{\"name\": \"x\", \"shape\": [9999, 64]}]}", 400, "rows"},
		{"mr_good", "{\"inputs\": [{\"name\": \"x\", \"shape\": [1, 64], \"datatype\": \"INT8\"}]}",
			400, "datatype"},
		{"mr_good", "{\"inputs\": [{\"name\": \"x\", \"shape\": [1, 64], \"datatype\": \"FP32\","
			"\"data\": [1, 2]}]}", 400, "64 numbers"},
		{"mr_good", "{\"inputs\": [{\"name\": \"x\", \"shape\": [1, 64], \"datatype\": \"FP32\","
			"\"data\": [\"a\"]}]}", 400, "element 0"},
		{"mr_good", "{\"inputs\": [{\"name\": \"x\", \"shape\": [1, 64], \"datatype\": \"FP32\","
			"\"data\": [1e39]}]}", 400, "element 0 is no FP32"},
		{"mr_good", "{\"inputs\": [{\"name\": \"x\", \"shape\": [1, 64], \"datatype\": \"FP32\","
			"\"parameters\": {\"binary_data_size\": 256}}]}", 400, "binary"},
	};
	char *text;
	json_t *o;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		o = expect(*state, "POST", "/v2/models/digits/infer", cases[i].key, cases[i].body,
			cases[i].status);
		const char *why = json_string_value(json_object_get(o, "error"));

		assert_non_null(why);
		if (!strstr(why, cases[i].says))
			fail_msg("case %zu: \"%s\" does not speak of \"%s\"", i, why, cases[i].says);
		json_decref(o);
	}
	text = infer_body(1, 1e38); /* its sum is infinite, and JSON has no infinity */
	o = expect(*state, "POST", "/v2/models/digits/infer", "mr_good", text, 200);
	free(text);
	text = json_dumps(json_object_get(json_array_get(json_object_get(o, "outputs"), 0), "data"), JSON_COMPACT);
	assert_string_equal(text, "[null,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0]");
	json_decref(o);
	free(text);
	text = infer_body(1, -1);
	json_decref(expect(*state, "POST", "/v2/models/digits/infer", "mr_good", text, 429));
	free(text);
	json_decref(expect(*state, "GET", "/v2/models/digits/infer", "mr_good", NULL, 405));
	json_decref(expect(*state, "POST", "/v2/models/none/infer", "mr_good", "{}", 404));
}

static void metrics_hold_every_counter_with_help_and_type(void **state)
{
	static const char *const names[] = {
#define X(sym, name, help) "# TYPE millrace_" name "_total counter\n",
		STATS_COUNTER_LIST(X)
#undef X
#define X(sym, name, help) "# TYPE millrace_xdp_" name "_total counter\n",
		XDP_COUNTER_LIST(X)
#undef X
	};
	char *answer = ask(*state, "GET", "/metrics", NULL, NULL);

	assert_int_equal(status_of(answer), 200);
	assert_non_null(strstr(answer, "\r\nContent-Type: text/plain; version=0.0.4"));
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (!strstr(answer, names[i]))
			fail_msg("missing: %s", names[i]);
	assert_non_null(strstr(answer, "\nmillrace_drop_auth_total{worker=\"0\"} 100\n"));
	assert_non_null(strstr(answer, "\nmillrace_service_seconds_count{worker=\"0\"} 900\n"));
	assert_non_null(strstr(answer, "\nmillrace_license_state{state=\"valid\"} 1\n"));
	assert_int_equal(answer[strlen(answer) - 1], '\n');
	for (char *at = answer; (at = strstr(at, "\n# TYPE ")); at++) {
		char head[128];

		/* one family, one head (a second one makes Prometheus refuse the page) */
		snprintf(head, sizeof(head), "\n%.*s ", (int)strcspn(at + 8, " ") + 7, at + 1);
		assert_null(strstr(at + 1, head));
	}
	free(answer);
}

static void the_dashboard_is_one_page_without_foreign_resources(void **state)
{
	char *answer = ask(*state, "GET", "/", NULL, NULL);

	assert_int_equal(status_of(answer), 200);
	assert_non_null(strstr(answer, "Content-Security-Policy: default-src 'none'"));
	assert_null(strstr(answer, "http://"));
	assert_null(strstr(answer, "https://"));
	free(answer);
}

static int sessions_now(const struct t_faces *f)
{
	char *answer = ask(f, "GET", "/metrics", NULL, NULL);
	const char *at = strstr(answer, "\nmillrace_sessions ");
	int n = at ? (int)strtol(at + 19, NULL, 10) : -1;

	free(answer);
	return n;
}

static void a_client_that_leaves_before_its_session_stands_leaves_none_behind(void **state)
{
	static const char req[] = "POST /v1/sessions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer mr_good\r\n"
				  "Content-Length: 0\r\n\r\n";
	struct linger hard = {1, 0};

	for (int kind = 0; kind < 3; kind++) {
		struct client c;

		assert_true(tls_open(&c, *state, TLS1_3_VERSION));
		SSL_write(c.ssl, req, sizeof(req) - 1);
		usleep(100000); /* the request is there, the session is not */
		if (kind == 1)
			SSL_shutdown(c.ssl);
		if (kind == 2)
			setsockopt(c.fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
		tls_close(&c);
	}
	usleep((T_FACES_SESSION_DELAY_MS + 200) * 1000);
	assert_int_equal(sessions_now(*state), 0);
}

static void an_open_issue_at_shutdown_does_no_harm(void **state)
{
	static const char req[] = "POST /v1/sessions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer mr_good\r\n"
				  "Content-Length: 0\r\n\r\nGET /v2 HTTP/1.1\r\nHost: x\r\n\r\n";
	struct client c;

	assert_true(tls_open(&c, *state, TLS1_3_VERSION));
	SSL_write(c.ssl, req, sizeof(req) - 1);
	SSL_write(c.ssl, req, sizeof(req) - 1);
	usleep(1000000); /* both were answered */
	assert_int_equal(sessions_now(*state), 2);
	tls_close(&c);
}

static void the_slow_and_the_silent_are_cut_after_ten_seconds(void **state)
{
	struct client slow;
	uint64_t start = clock_now_ns();
	struct timeval tv = {0, 800000};
	bool slow_cut = false, silent_cut = false;
	int silent = tcp(*state);
	char c;

	assert_true(tls_open(&slow, *state, TLS1_3_VERSION));
	setsockopt(silent, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	SSL_write(slow.ssl, "GET /v2 HTTP/1.1\r\nX-A: ", 23);
	while (clock_now_ns() - start < 14 * NS_PER_S && !(slow_cut && silent_cut)) {
		struct pollfd p = {.fd = slow.fd, .events = POLLRDHUP};

		SSL_write(slow.ssl, "x", 1); /* never idle, never done */
		slow_cut |= poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR));
		silent_cut |= read(silent, &c, 1) == 0;
		if (silent_cut)
			usleep(200000);
	}
	assert_true(slow_cut && silent_cut);
	assert_true(clock_now_ns() - start > 8 * NS_PER_S);
	tls_close(&slow);
	close(silent);
	json_decref(expect(*state, "GET", "/v2", NULL, NULL, 200));
}

static void one_address_gets_64_connections(void **state)
{
	int fds[80], open_ones = 0;

	for (int i = 0; i < 80; i++)
		fds[i] = tcp(*state);
	usleep(300000);
	for (int i = 0; i < 80; i++) {
		struct pollfd p = {.fd = fds[i], .events = POLLRDHUP};

		open_ones += poll(&p, 1, 0) == 0;
		close(fds[i]);
	}
	assert_int_equal(open_ones, 64);
	usleep(200000);
	json_decref(expect(*state, "GET", "/v2", NULL, NULL, 200));
}

static void wrong_keys_are_rate_limited_by_address(void **state)
{
	char *answer;
	int refused = 0;

	for (int i = 0; i < 16; i++) {
		answer = ask(*state, "GET", "/v1/usage", "mr_guess", NULL);
		refused += status_of(answer) == 429 && strstr(answer, "\r\nRetry-After: ");
		free(answer);
	}
	assert_in_range(refused, 1, 6);
	expect_v1_error(*state, "GET", "/v1/usage", "mr_guess", NULL, 429, "too_many_attempts");
}

static void the_certificate_is_made_once_and_its_key_is_private(void **state)
{
	struct t_faces *f = *state;
	char path[128], before[128], after[128];
	struct stat st;
	FILE *p;

	snprintf(path, sizeof(path), "%s/https-key.pem", f->dir);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	snprintf(path, sizeof(path), "sha256sum < %s/https-cert.pem", f->dir);
	assert_non_null(p = popen(path, "r"));
	assert_non_null(fgets(before, sizeof(before), p));
	pclose(p);
	kill(f->pid, SIGTERM);
	waitpid(f->pid, NULL, 0);
	t_faces_start(f, true);
	assert_non_null(p = popen(path, "r"));
	assert_non_null(fgets(after, sizeof(after), p));
	pclose(p);
	assert_string_equal(before, after);
}

static void without_a_licence_the_box_says_so(void **state)
{
	struct t_faces f = {0};
	json_t *o;

	(void)state;
	t_faces_start(&f, false);
	expect_v1_error(&f, "POST", "/v1/sessions", "mr_good", NULL, 403, "not_licensed");
	o = expect(&f, "GET", "/v2/health/ready", NULL, NULL, 503);
	assert_true(json_is_false(json_object_get(o, "ready")));
	json_decref(o);
	json_decref(expect(&f, "GET", "/v2/health/live", NULL, NULL, 200));
	t_faces_stop(&f);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(tls_1_2_and_plaintext_are_refused),
		T(a_session_is_granted_with_all_its_fields),
		T(bad_requests_get_the_error_shape_of_their_path),
		T(headers_over_16_kib_are_refused),
		T(health_and_metadata_follow_the_open_inference_protocol),
		T(inference_over_json_is_cut_into_datagrams_and_put_together_again),
		T(inference_refusals_say_what_is_wrong),
		T(metrics_hold_every_counter_with_help_and_type),
		T(the_dashboard_is_one_page_without_foreign_resources),
		T(a_client_that_leaves_before_its_session_stands_leaves_none_behind),
		T(an_open_issue_at_shutdown_does_no_harm),
		T(the_slow_and_the_silent_are_cut_after_ten_seconds),
		T(one_address_gets_64_connections),
		T(wrong_keys_are_rate_limited_by_address),
		T(the_certificate_is_made_once_and_its_key_is_private),
		cmocka_unit_test(without_a_licence_the_box_says_so),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
