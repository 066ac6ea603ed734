/* SPDX-License-Identifier: BSD-3-Clause
 * libmillrace against a scripted appliance: enrolment and trust, losses, duplicates, forgeries.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/socket.h>
#include <cmocka.h>

#include "client/millrace.h"
#include "tests/unit/t_control.h"

static struct t_control control;

/* errno of the client's next datagrams, 0 = they leave. Takes the place of libc's send(). */
static int send_errno;

ssize_t send(int fd, const void *data, size_t n, int flags)
{
	if (!send_errno)
		return sendto(fd, data, n, flags, NULL, 0);
	errno = send_errno;
	return -1;
}

static struct mr_client *t_open(void)
{
	struct mr_options o = {.https = control.https, .api_key = "sesame",
		.ca_file = control.ca_file, .retry_ms = 30, .attempts = 3, .in_flight = 8};
	struct mr_client *c;
	struct mr_error err;

	if (mr_client_open(&c, &o, &err))
		fail_msg("%s", err.text);
	return c;
}

static int t_ask(struct mr_client *c, enum t_script script, enum mr_status *status)
{
	float row[T_ROW_FLOATS] = {(float)script, 2, 3, 4}, answer[T_ROW_FLOATS] = {0};
	int rc = mr_infer(c, "twice", row, 1, answer, status, NULL);

	for (int i = 0; !rc && i < T_ROW_FLOATS; i++)
		assert_true(answer[i] == 2 * row[i]);
	return rc;
}

static int t_refused(struct mr_options o, const char *why)
{
	struct mr_client *c;
	struct mr_error err;
	int rc;

	o.https = o.https ? o.https : control.https;
	rc = mr_client_open(&c, &o, &err);
	assert_null(c);
	assert_int_not_equal(rc, 0);
	assert_int_equal(err.code, rc);
	if (!strstr(err.text, why))
		fail_msg("\"%s\" does not say \"%s\"", err.text, why);
	return rc;
}

static void a_client_enrols_asks_and_gives_its_session_back(void **state)
{
	int deleted = control.deleted;
	struct mr_client *c = t_open();
	enum mr_status status;
	size_t n;

	(void)state;
	assert_string_equal(mr_models(c, &n)[0].name, "twice");
	assert_int_equal(n, 1);
	assert_int_equal(t_ask(c, T_ANSWER, &status), 0);
	assert_int_equal(status, MR_RESULT);
	assert_int_equal(mr_infer(c, "other", "", 1, NULL, &status, NULL), -ENOENT);
	mr_client_close(c);
	assert_int_equal(control.deleted, deleted + 1);
}

static void only_a_trusted_certificate_is_accepted(void **state)
{
	char wrong[65];
	struct mr_options pinned = {.https = control.https, .api_key = "sesame",
		.pin_sha256 = control.pin};
	struct mr_client *c;

	(void)state;
	memcpy(wrong, control.pin, sizeof(wrong));
	wrong[0] = wrong[0] == '0' ? '1' : '0';
	assert_int_equal(t_refused((struct mr_options){.api_key = "sesame"}, "not trusted"),
		-EKEYREJECTED);
	assert_int_equal(t_refused((struct mr_options){.api_key = "sesame", .pin_sha256 = wrong},
				 "not trusted"),
		-EKEYREJECTED);
	assert_int_equal(mr_client_open(&c, &pinned, NULL), 0);
	mr_client_close(c);
}

static void refusals_and_bad_options_say_why(void **state)
{
	struct mr_options o = {.api_key = "wrong", .ca_file = control.ca_file};

	(void)state;
	assert_int_equal(t_refused(o, "no such key (invalid_api_key)"), -EACCES);
	o.api_key = "se\r\nsame";
	assert_int_equal(t_refused(o, "api_key"), -EINVAL);
	o.api_key = "sesame";
	o.data_address = "10.0.0.300";
	assert_int_equal(t_refused(o, "data_address"), -EINVAL);
	o.data_address = NULL;
	o.https = "http://127.0.0.1:1";
	assert_int_equal(t_refused(o, "host:port"), -EINVAL);
	o.https = "127.0.0.1:1";
	assert_int_equal(t_refused(o, "cannot connect"), -ECONNREFUSED);
	o.https = control.https;
	o.ca_file = "/nonexistent.pem";
	t_refused(o, "/nonexistent.pem");
}

static void a_lost_request_is_sent_again_under_a_new_counter(void **state)
{
	struct mr_client *c = t_open();
	struct mr_counters n;
	enum mr_status status;

	(void)state;
	assert_int_equal(t_ask(c, T_LOSE_FIRST, &status), 0);
	mr_counters_get(c, &n);
	assert_int_equal(n.sent, 1);
	assert_int_equal(n.first_try_losses, 1);
	assert_int_equal(n.retries, 1);
	assert_int_equal(n.answered, 1);
	mr_client_close(c);
}

static void silence_ends_after_the_last_attempt(void **state)
{
	struct mr_client *c = t_open();
	int before = control.requests;
	struct mr_counters n;
	enum mr_status status;

	(void)state;
	assert_int_equal(t_ask(c, T_SILENCE, &status), -ETIMEDOUT);
	assert_int_equal(status, MR_UNANSWERED);
	mr_counters_get(c, &n);
	assert_int_equal(n.retries, 2);
	assert_int_equal(n.unanswered, 1);
	assert_int_equal(control.requests - before, 3);
	assert_int_equal(mr_in_flight(c), 0);
	mr_client_close(c);
}

static void duplicates_replays_and_forgeries_change_nothing(void **state)
{
	static const enum t_script scripts[] = {T_ANSWER_TWICE, T_REPLAY, T_FORGE, T_WRONG_SIZE};
	struct mr_client *c = t_open();
	struct mr_result r;
	struct mr_counters n;
	enum mr_status status;

	(void)state;
	for (size_t i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++)
		assert_int_equal(t_ask(c, scripts[i], &status), 0);
	assert_int_equal(mr_poll(c, &r, 1, 50), 0);
	mr_counters_get(c, &n);
	assert_int_equal(n.answered, 4);
	assert_int_equal(n.late, 1);     /* the second sealed answer */
	assert_int_equal(n.rejected, 5); /* the replay, three forgeries, the wrong size */
	assert_int_equal(n.retries, 1);
	mr_client_close(c);
}

static void a_typed_refusal_is_handed_over_with_its_retry_time(void **state)
{
	struct mr_client *c = t_open();
	float row[T_ROW_FLOATS] = {T_RATE_LIMIT}, answer[T_ROW_FLOATS];
	uint32_t retry_after_us = 0;
	enum mr_status status;

	(void)state;
	assert_int_equal(mr_infer(c, "twice", row, 1, answer, &status, &retry_after_us), -EREMOTEIO);
	assert_int_equal(status, MR_RATE_LIMITED);
	assert_int_equal(retry_after_us, 1234);
	assert_string_equal(mr_client_error(c)->text, "rate limited");
	mr_client_close(c);
}

static void many_rows_are_split_and_put_together_in_order(void **state)
{
	enum { ROWS = 100 }; /* 3 a request, 8 requests in flight */
	struct mr_client *c = t_open();
	float rows[ROWS][T_ROW_FLOATS], answers[ROWS][T_ROW_FLOATS];
	enum mr_status status;

	(void)state;
	for (int i = 0; i < ROWS; i++) {
		for (int k = 0; k < T_ROW_FLOATS; k++)
			rows[i][k] = k ? (float)(i * 10 + k) : i % 7 == 3 ? T_LOSE_FIRST : T_ANSWER;
	}
	assert_int_equal(mr_infer(c, "twice", rows, ROWS, answers, &status, NULL), 0);
	for (int i = 0; i < ROWS * T_ROW_FLOATS; i++)
		assert_true((&answers[0][0])[i] == 2 * (&rows[0][0])[i]);
	mr_client_close(c);
}

static void batches_carry_the_callers_tags_and_respect_the_limit(void **state)
{
	struct mr_client *c = t_open();
	const struct mr_model *m = mr_model_find(c, "twice");
	float rows[4][T_ROW_FLOATS] = {{T_ANSWER}};
	struct mr_result r[16];
	uint64_t tags = 0;
	int got = 0;

	(void)state;
	assert_int_equal(mr_submit(c, m, rows, 4, 0), -EMSGSIZE);
	assert_int_equal(mr_submit(c, m, rows, 0, 0), -EINVAL);
	for (uint64_t tag = 0; tag < 8; tag++)
		assert_int_equal(mr_submit(c, m, rows, 1, tag), 0);
	assert_int_equal(mr_submit(c, m, rows, 1, 8), -EAGAIN);
	while (got < 8) {
		int n = mr_poll(c, r, 16, 1000);

		assert_true(n > 0);
		for (int i = 0; i < n; i++) {
			assert_int_equal(r[i].status, MR_RESULT);
			assert_int_equal(r[i].model_version, 7);
			tags |= 1ull << r[i].tag;
		}
		got += n;
	}
	assert_int_equal(tags, 0xff);
	mr_client_close(c);
}

static void the_session_is_renewed_before_it_expires_and_not_used_after(void **state)
{
	int renewed = control.renewed;
	struct mr_client *c;
	struct mr_result r;
	enum mr_status status;

	(void)state;
	control.ttl_s = 1;
	c = t_open();
	control.ttl_s = 3600;
	while (control.renewed == renewed)
		assert_int_equal(mr_poll(c, &r, 1, 100), 0);
	usleep(600000);
	assert_int_equal(t_ask(c, T_ANSWER, &status), 0);
	mr_client_close(c);

	control.ttl_s = 1;
	c = t_open();
	control.ttl_s = 3600;
	control.refuse = 1;
	usleep(600000);
	assert_int_equal(mr_poll(c, &r, 1, 0), 0);
	assert_int_equal(t_ask(c, T_ANSWER, &status), -EKEYEXPIRED);
	control.refuse = 0;
	mr_client_close(c);
}

static void one_long_poll_renews_the_session_in_time(void **state)
{
	struct mr_client *c;
	struct mr_result r;
	enum mr_status status;

	(void)state;
	control.ttl_s = 1;
	c = t_open();
	control.ttl_s = 3600;
	assert_int_equal(mr_poll(c, &r, 1, 1200), 0); /* past the end of the first life */
	assert_int_equal(control.renewed, 1);
	assert_int_equal(t_ask(c, T_ANSWER, &status), 0);
	mr_client_close(c);
}

static void answers_are_not_lost_when_a_retry_cannot_be_sent(void **state)
{
	struct mr_client *c = t_open();
	const struct mr_model *m = mr_model_find(c, "twice");
	float silent[T_ROW_FLOATS] = {T_SILENCE}, good[T_ROW_FLOATS] = {T_ANSWER, 2, 3, 4};
	struct mr_result r[4];

	(void)state;
	assert_int_equal(mr_submit(c, m, silent, 1, 1), 0);
	assert_int_equal(mr_submit(c, m, good, 1, 2), 0);
	usleep(50000);
	send_errno = EMSGSIZE; /* the path's MTU has shrunk, say: the due retry fails */
	assert_int_equal(mr_poll(c, r, 4, 0), 1);
	assert_int_equal(r[0].tag, 2);
	assert_int_equal(r[0].status, MR_RESULT);
	usleep(70000);
	assert_int_equal(mr_poll(c, r, 4, 0), -EIO); /* now there is nothing else to say */
	send_errno = 0;
	assert_int_equal(mr_poll(c, r, 4, 1000), 1);
	assert_int_equal(r[0].tag, 1);
	assert_int_equal(r[0].status, MR_UNANSWERED);
	mr_client_close(c);
}

static int fresh(void **state)
{
	/* Every client gets the same keys, so every test its own server: counters start at 0. */
	(void)state;
	return t_control_start(&control);
}

static int end(void **state)
{
	(void)state;
	assert_int_equal(control.same_counter, 0);
	t_control_stop(&control);
	return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fresh, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_client_enrols_asks_and_gives_its_session_back),
		TEST(only_a_trusted_certificate_is_accepted),
		TEST(refusals_and_bad_options_say_why),
		TEST(a_lost_request_is_sent_again_under_a_new_counter),
		TEST(silence_ends_after_the_last_attempt),
		TEST(duplicates_replays_and_forgeries_change_nothing),
		TEST(a_typed_refusal_is_handed_over_with_its_retry_time),
		TEST(many_rows_are_split_and_put_together_in_order),
		TEST(batches_carry_the_callers_tags_and_respect_the_limit),
		TEST(the_session_is_renewed_before_it_expires_and_not_used_after),
		TEST(one_long_poll_renews_the_session_in_time),
		TEST(answers_are_not_lost_when_a_retry_cannot_be_sent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
