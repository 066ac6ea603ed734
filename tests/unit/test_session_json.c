/* SPDX-License-Identifier: BSD-3-Clause
 * What the client believes of control's answers: one good session, and everything that is refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "client/https.h"
#include "client/session_json.h"

static const char good[] =
	"{\"session_id\": \"9f3c00112233aabb\", \"key_id\": 2871234, "
	"\"secret\": \"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\", \"lanes\": 1, "
	"\"address\": \"10.77.0.1\", \"address6\": \"fd77::1\", \"port\": 4433, "
	"\"source\": \"10.77.0.2\", \"expires_in_s\": 3600, "
	"\"plan\": {\"name\": \"demo\", \"rate\": 200000, \"burst\": 2000}, "
	"\"models\": [{\"name\": \"digits\", \"id\": 3467475007, \"version\": 1, \"max_rows\": 256, "
	"\"cost_units\": 1, \"row_in_bytes\": 256, \"row_out_bytes\": 40, "
	"\"inputs\": [{\"name\": \"x\", \"datatype\": \"FP32\", \"shape\": [64]}], "
	"\"outputs\": [{\"name\": \"y\", \"datatype\": \"FP32\", \"shape\": [10]}]}]}";

/* `good` with the one occurrence of `from` replaced; parse it from a buffer of exactly its size. */
static int t_parse(const char *from, const char *to, struct error *err)
{
	static struct session_info info;
	const char *at = strstr(good, from);
	size_t n, head;
	char *text;
	int rc;

	assert_non_null(at);
	head = (size_t)(at - good);
	n = strlen(good) - strlen(from) + strlen(to);
	text = malloc(n ? n : 1);
	memcpy(text, good, head);
	memcpy(text + head, to, strlen(to));
	memcpy(text + head + strlen(to), at + strlen(from), strlen(at + strlen(from)));
	memset(err, 0, sizeof(*err));
	rc = session_json_parse(&info, text, n, err);
	free(text);
	return rc;
}

static void a_good_session_is_read_completely(void **state)
{
	static struct session_info s;
	struct error err;

	(void)state;
	assert_int_equal(session_json_parse(&s, good, strlen(good), &err), 0);
	assert_string_equal(s.session_id, "9f3c00112233aabb");
	assert_int_equal(s.key_id, 2871234);
	for (int i = 0; i < 32; i++)
		assert_int_equal(s.secret[i], i);
	assert_string_equal(s.address, "10.77.0.1");
	assert_int_equal(s.port, 4433);
	assert_true(s.rate == 200000 && s.burst == 2000);
	assert_int_equal(s.n_models, 1);
	assert_int_equal(s.models[0].id, wire_model_id("digits"));
	assert_int_equal(s.models[0].max_rows, 71); /* of 256-byte rows in 16 x 1,144 bytes */
	assert_int_equal(s.models[0].datagram_rows, 4); /* in one */
	assert_int_equal(s.models[0].input_dtype, WIRE_F32);
}

static void every_truncation_is_refused(void **state)
{
	static struct session_info s;
	struct error err;

	(void)state;
	for (size_t n = 0; n < strlen(good); n++) {
		char *exact = malloc(n ? n : 1);

		memcpy(exact, good, n);
		assert_int_equal(session_json_parse(&s, exact, n, &err), -EPROTO);
		free(exact);
	}
}

static void every_broken_field_is_refused_by_name(void **state)
{
	static const struct {
		const char *from, *to, *named;
	} cases[] = {
		{"9f3c00112233aabb", "9f3c00112233aab", "session_id"},
		{"9f3c00112233aabb", "9f3c/../2233aabb", "session_id"},
		{"2871234", "-1", "key_id"},
		{"2871234", "4294967296", "key_id"},
		{"2871234", "\"2871234\"", "key_id"},
		{"2871234", "2871234.5", "key_id"},
		{"AAECAwQF", "AAECAwQ", "secret"},
		{"Hh8=", "Hh8A", "secret"},
		{"Gxwd", "Gx!d", "secret"},
		{"\"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"", "7", "secret"},
		{"\"lanes\": 1", "\"lanes\": 9", "lanes"},
		{"\"lanes\": 1, ", "", "lanes"},
		{"10.77.0.1", "10.77.0.256", "address"},
		{"fd77::1", "10.77.0.1", "address6"},
		{"4433", "0", "port"},
		{"4433", "65536", "port"},
		{"\"10.77.0.2\"", "null", "source"},
		{"\"10.77.0.2\"", "\"\"", "source"},
		{"3600", "0", "expires_in_s"},
		{"3600", "99999999", "expires_in_s"},
		{"{\"name\": \"demo\", \"rate\": 200000, \"burst\": 2000}", "[]", "missing"},
		{"200000", "-5", "rate"},
		{"3467475007", "1", "digits"},
		{"\"digits\"", "\"a name of far more than sixty-three bytes, which no model may have\"", "name"},
		{"\"digits\"", "\"di\\u0007its\"", "name"},
		{"\"max_rows\": 256", "\"max_rows\": 0", "max_rows"},
		{"\"row_in_bytes\": 256", "\"row_in_bytes\": 252", "digits"},
		{"\"row_out_bytes\": 40", "\"row_out_bytes\": 4000000000", "row_out_bytes"},
		{"[64]", "[65536, 65536, 65536, 65536]", "inputs"},
		{"[64]", "[-64]", "inputs"},
		{"[10]", "\"10\"", "outputs"},
		{"[{\"name\": \"y\", \"datatype\": \"FP32\", \"shape\": [10]}]", "[]", "outputs"},
		{"\"FP32\", \"shape\": [64]", "\"STRING\", \"shape\": [64]", "inputs"},
		{"\"port\"", "\"key_id\": 1, \"port\"", "duplicate"},
	};
	struct error err;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (t_parse(cases[i].from, cases[i].to, &err) != -EPROTO)
			fail_msg("accepted: %s -> %s", cases[i].from, cases[i].to);
		if (!strstr(err.text, cases[i].named))
			fail_msg("\"%s\" does not name %s", err.text, cases[i].named);
	}
}

static void a_renewal_must_name_our_session(void **state)
{
	static const char yes[] = "{\"session_id\": \"9f3c00112233aabb\", \"expires_in_s\": 60}";
	uint32_t s = 0;
	struct error err;

	(void)state;
	assert_int_equal(session_json_renewed("9f3c00112233aabb", &s, yes, strlen(yes), &err), 0);
	assert_int_equal(s, 60);
	assert_int_equal(session_json_renewed("9f3c00112233aabc", &s, yes, strlen(yes), &err), -EPROTO);
}

static void refusals_show_the_servers_reason_without_control_characters(void **state)
{
	static const char body[] = "{\"error\": {\"message\": \"no\\u001b[2Jkey\", \"code\": \"c\"}}";
	char out[64];

	(void)state;
	session_json_reason(out, sizeof(out), 401, body, strlen(body));
	assert_string_equal(out, "no?[2Jkey (c)");
	session_json_reason(out, sizeof(out), 401, "{\"error\": \"text\"}", 17);
	assert_string_equal(out, "text");
	session_json_reason(out, sizeof(out), 502, "<html>", 6);
	assert_string_equal(out, "the server answered HTTP status 502");
}

static void http_answers_need_every_byte_and_a_length(void **state)
{
	static const char text[] = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nConnection: close\r\n\r\n{}";
	static const char *const bad[] = {"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 2x0 OK\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 1 1\r\n\r\n",
		"HTTP/1.1 100 Continue\r\nContent-Length: 0\r\n\r\n", "\r\n\r\n"};
	size_t offset, bytes;
	bool keep;
	int status;

	(void)state;
	for (size_t n = 0; n < strlen(text); n++) {
		char *exact = malloc(n ? n : 1);

		memcpy(exact, text, n);
		assert_int_equal(https_parse(exact, n, &status, &offset, &bytes, &keep), 0);
		free(exact);
	}
	assert_int_equal(https_parse(text, strlen(text), &status, &offset, &bytes, &keep), 1);
	assert_int_equal(status, 200);
	assert_int_equal(bytes, 2);
	assert_false(keep);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(https_parse(bad[i], strlen(bad[i]), &status, &offset, &bytes, &keep),
			-EPROTO);
	assert_int_equal(https_parse("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", 49,
				 &status, &offset, &bytes, &keep),
		-EMSGSIZE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_good_session_is_read_completely),
		cmocka_unit_test(every_truncation_is_refused),
		cmocka_unit_test(every_broken_field_is_refused_by_name),
		cmocka_unit_test(a_renewal_must_name_our_session),
		cmocka_unit_test(refusals_show_the_servers_reason_without_control_characters),
		cmocka_unit_test(http_answers_need_every_byte_and_a_length),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
