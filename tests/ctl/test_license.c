/* SPDX-License-Identifier: BSD-3-Clause
 * Licence file and licence state: refusals by name, the clock, entitlements.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>
#include <event2/event.h>

#include "base/clock.h"
#include "base/log.h"
#include "control/audit.h"
#include "control/config.h"
#include "base/file_replace.h"
#include "control/license.h"
#include "control/license_file.h"
#include "tests/ctl/t_faces.h"

struct box {
	char dir[64], key[128];
	const char *keys[1];
	struct config config;
	struct control ctl;
};

static int setup(void **state)
{
	struct box *b = calloc(1, sizeof(*b));

	log_init("test", LOG_LEVEL_ERROR);
	snprintf(b->dir, sizeof(b->dir), "/tmp/mr-lic-XXXXXX");
	if (!mkdtemp(b->dir))
		return -1;
	snprintf(b->key, sizeof(b->key), "%s/vendor-public.pem", b->dir);
	b->keys[0] = b->key;
	b->config.state_dir = b->dir;
	b->config.license.keys = b->keys;
	b->config.license.keys_count = 1;
	b->ctl.config = &b->config;
	b->ctl.base = event_base_new();
	/* not looked into by the doubles; non-NULL says that they are there */
	b->ctl.link = (struct dp_link *)b;
	b->ctl.subscribers = (struct subscribers *)b;
	t_applied = t_commands = 0;
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct box *b = *state;
	char command[128];

	license_uninit(&b->ctl);
	audit_uninit(&b->ctl);
	event_base_free(b->ctl.base);
	snprintf(command, sizeof(command), "rm -rf %s", b->dir);
	free(b);
	return system(command);
}

static struct license_info start(struct box *b)
{
	struct license_info i;
	struct error err = {0};

	if (license_init(&b->ctl, &err))
		fail_msg("%s", err.text);
	license_info(&b->ctl, &i);
	return i;
}

static char *path_in(const struct box *b, const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", b->dir, name);
	return path;
}

static void a_valid_licence_is_told_to_the_dataplane(void **state)
{
	struct box *b = *state;
	int64_t now = clock_wall_s();
	struct license_info i;

	t_license_make(b->dir, "license.json", now - 60, now + 1000);
	i = start(b);
	assert_int_equal(i.state, LICENSE_VALID);
	assert_string_equal(i.customer, "Acme");
	assert_int_equal(t_applied, 1);
	assert_int_equal(t_commands, 1);
	assert_true(t_last_command_a > clock_now_ns() + 990 * NS_PER_S);
	assert_true(t_last_command_a <= clock_now_ns() + 1000 * NS_PER_S);
	assert_int_equal(license_until_ns(&b->ctl), t_last_command_a);
}

static void every_flipped_bit_of_the_file_is_refused(void **state)
{
	struct box *b = *state;
	struct license_key key;
	struct license_doc doc;
	struct error err;
	char *text;
	size_t n;

	t_license_make(b->dir, "l.json", 2000000000, 2000001000);
	assert_int_equal(license_key_read(&key, b->key, &err), 0);
	assert_int_equal(file_read(path_in(b, "l.json"), 16384, &text, &n, &err), 0);
	assert_int_equal(license_file_verify(&doc, text, n, &key, 1, NULL, &err), 0);
	assert_int_equal(doc.subscribers, 2);
	for (size_t bit = 0; bit < n * 8; bit++) {
		char was = text[bit / 8];

		text[bit / 8] = (char)(was ^ (1 << bit % 8));
		/* white space around the members is not signed */
		if (!(strchr(" \t\r\n", was) && strchr(" \t\r\n", text[bit / 8])))
			assert_int_not_equal(license_file_verify(&doc, text, n, &key, 1, NULL, &err), 0);
		text[bit / 8] = was;
	}
	for (size_t cut = 0; cut < n; cut++)
		assert_int_equal(license_file_verify(&doc, text, cut, &key, 1, NULL, &err), -EBADMSG);
	free(text);
}

static void a_licence_of_another_vendor_is_refused_by_name(void **state)
{
	struct box *b = *state;
	struct license_key other;
	struct license_doc doc;
	struct error err;
	uint8_t raw[32] = {1};
	char *text;
	size_t n;

	t_license_make(b->dir, "l.json", 2000000000, 2000001000);
	license_key_set(&other, raw);
	assert_int_equal(file_read(path_in(b, "l.json"), 16384, &text, &n, &err), 0);
	assert_int_equal(license_file_verify(&doc, text, n, &other, 1, NULL, &err), -ENOKEY);
	assert_non_null(strstr(err.text, "not among the 1 configured vendor keys"));
	free(text);
}

static void without_a_licence_nothing_is_allowed_and_the_reason_says_what_to_do(void **state)
{
	struct box *b = *state;
	struct license_info i;
	struct error err = {0};

	t_license_make(b->dir, "elsewhere.json", 2000000000, 2000001000);
	i = start(b);
	assert_int_equal(i.state, LICENSE_NONE);
	assert_non_null(strstr(i.reason, "millrace license install"));
	assert_int_equal(license_allows(&b->ctl, 1, 1, 1, &err), -EPERM);
	assert_int_equal(license_until_ns(&b->ctl), 0);
}

static void an_expired_and_a_future_licence_are_told_apart(void **state)
{
	struct box *b = *state;
	int64_t now = clock_wall_s();
	struct error err = {0};

	t_license_make(b->dir, "license.json", now - 1000, now - 10);
	assert_int_equal(start(b).state, LICENSE_EXPIRED);
	assert_int_equal(t_last_command_a, 0);
	t_license_make(b->dir, "future.json", now + 500, now + 1000);
	assert_int_equal(license_install(&b->ctl, path_in(b, "future.json"), false, &err), -EPERM);
	assert_non_null(strstr(err.text, "valid only from"));
	t_license_make(b->dir, "good.json", now - 10, now + 1000);
	assert_int_equal(license_install(&b->ctl, path_in(b, "good.json"), true, &err), 0);
	assert_int_equal(license_until_ns(&b->ctl), 0); /* that was a dry run */
	assert_int_equal(license_install(&b->ctl, path_in(b, "good.json"), false, &err), 0);
	assert_int_not_equal(license_until_ns(&b->ctl), 0);
	license_uninit(&b->ctl);
	assert_int_equal(start(b).state, LICENSE_VALID); /* it was written down */
}

static void a_clock_set_back_ends_the_licence_until_it_is_right_again(void **state)
{
	struct box *b = *state;
	int64_t now = clock_wall_s();
	struct license_info i;
	struct error err;
	char text[32];

	t_license_make(b->dir, "license.json", now - 1000, now + 100000);
	snprintf(text, sizeof(text), "%lld\n", (long long)now + 7200);
	file_replace(path_in(b, "license.clock"), text, strlen(text), 0600, &err);
	i = start(b);
	assert_int_equal(i.state, LICENSE_INVALID);
	assert_non_null(strstr(i.reason, "the clock was set back"));
	license_uninit(&b->ctl);
	unlink(path_in(b, "license.clock"));
	assert_int_equal(start(b).state, LICENSE_VALID);
	assert_int_equal(access(path_in(b, "license.clock"), F_OK), 0);
}

static void a_damaged_file_is_invalid_not_absent_and_a_refused_install_keeps_the_old(void **state)
{
	struct box *b = *state;
	int64_t now = clock_wall_s();
	struct error err = {0};

	t_license_make(b->dir, "license.json", now - 10, now + 1000);
	assert_int_equal(start(b).state, LICENSE_VALID);
	file_replace(path_in(b, "bad.json"), "{\"payload\":", 11, 0644, &err);
	assert_int_equal(license_install(&b->ctl, path_in(b, "bad.json"), false, &err), -EBADMSG);
	assert_int_not_equal(license_until_ns(&b->ctl), 0);
	license_uninit(&b->ctl);
	file_replace(path_in(b, "license.json"), "{}", 2, 0644, &err);
	assert_int_equal(start(b).state, LICENSE_INVALID);
}

static void an_entitlement_that_would_be_passed_is_named(void **state)
{
	struct box *b = *state;
	int64_t now = clock_wall_s();
	struct error err = {0};

	t_license_make(b->dir, "license.json", now - 10, now + 1000);
	start(b);
	assert_int_equal(license_allows(&b->ctl, 2, 2, 1e6, &err), 0);
	assert_int_equal(license_allows(&b->ctl, 3, 2, 1e6, &err), -EDQUOT);
	assert_non_null(strstr(err.text, "2 subscribers, this would be 3"));
	assert_int_equal(license_allows(&b->ctl, 2, 3, 1e6, &err), -EDQUOT);
	assert_non_null(strstr(err.text, "2 models"));
	assert_int_equal(license_allows(&b->ctl, 2, 2, 1e6 + 1, &err), -EDQUOT);
	assert_non_null(strstr(err.text, "total rate"));
}

static void the_licence_ends_while_running_without_being_asked(void **state)
{
	struct box *b = *state;
	int64_t now = clock_wall_s();
	struct timeval tv = {2, 500000};

	t_license_make(b->dir, "license.json", now - 10, now + 2);
	assert_int_equal(start(b).state, LICENSE_VALID);
	event_base_loopexit(b->ctl.base, &tv);
	event_base_dispatch(b->ctl.base);
	assert_int_equal(license_until_ns(&b->ctl), 0);
	assert_int_equal(t_last_command_a, 0);
	assert_int_equal(t_commands, 2);
}

static void an_edited_or_removed_audit_line_shows(void **state)
{
	struct box *b = *state;
	struct audit_report r;
	struct error err;
	char path[128], *text, *at;
	size_t n;

	assert_int_equal(audit_init(&b->ctl, &err), 0);
	for (int i = 0; i < 5; i++)
		audit_write(&b->ctl, "uid 0 \"x\"\n", "model.load", "digits", false, "ok");
	snprintf(path, sizeof(path), "%s", audit_path(&b->ctl));
	assert_int_equal(audit_verify(path, &r), 0);
	assert_int_equal(r.lines, 5);
	audit_uninit(&b->ctl);
	assert_int_equal(audit_init(&b->ctl, &err), 0); /* the chain goes on after a restart */
	audit_write(&b->ctl, "uid 0", "model.unload", "digits", true, "ok");
	assert_int_equal(audit_verify(path, &r), 0);
	assert_int_equal(r.lines, 6);
	assert_int_equal(file_read(path, 65536, &text, &n, &err), 0);
	at = strstr(text, "digits");
	at[0] = 'D';
	file_replace(path, text, n, 0600, &err);
	assert_int_equal(audit_verify(path, &r), -EBADMSG);
	assert_int_equal(r.bad_line, 2); /* line 1 was edited: line 2 does not fit it */
	at[0] = 'd';
	at = strchr(text, '\n') + 1;
	file_replace(path, at, n - (size_t)(at - text), 0600, &err);
	assert_int_equal(audit_verify(path, &r), -EBADMSG);
	assert_int_equal(r.bad_line, 1);
	file_replace(path, text, n - 5, 0600, &err); /* a crash in the middle of a line */
	assert_int_equal(audit_verify(path, &r), -EBADMSG);
	audit_uninit(&b->ctl);
	assert_int_equal(audit_init(&b->ctl, &err), 0); /* says so, cuts it, and goes on */
	assert_int_equal(audit_verify(path, &r), 0);
	assert_int_equal(r.lines, 6);
	free(text);
}

static void an_entry_that_finds_the_disk_full_leaves_the_chain_whole(void **state)
{
	struct box *b = *state;
	struct rlimit old, full;
	struct audit_report r;
	struct error err;

	assert_int_equal(audit_init(&b->ctl, &err), 0);
	audit_write(&b->ctl, "uid 0", "model.load", "digits", false, "ok");
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	full = (struct rlimit){250, old.rlim_max}; /* one line and a piece of the next */
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &full), 0);
	audit_write(&b->ctl, "uid 0", "model.load", "lost", false, "ok");
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	audit_write(&b->ctl, "uid 0", "model.unload", "digits", false, "ok");
	assert_int_equal(audit_verify(audit_path(&b->ctl), &r), 0);
	assert_int_equal(r.lines, 2);
}

static void a_licence_for_less_than_is_in_use_is_not_installed(void **state)
{
	struct box *b = *state;
	struct license_info i;
	struct error err = {0};
	int64_t now = clock_wall_s();
	char path[128];

	t_license_make(b->dir, "license.json", now - 10, now + 1000);
	start(b);
	license_info(&b->ctl, &i);
	t_subscribers = 3; /* it allows two */
	t_license_make(b->dir, "smaller.json", now - 20, now + 2000);
	snprintf(path, sizeof(path), "%s/smaller.json", b->dir);
	assert_int_equal(license_install(&b->ctl, path, false, &err), -EDQUOT);
	assert_non_null(strstr(err.text, "remove what is too much"));
	t_subscribers = 2;
	assert_int_equal(license_install(&b->ctl, path, false, &err), 0);
	t_subscribers = 0;
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_valid_licence_is_told_to_the_dataplane),
		T(every_flipped_bit_of_the_file_is_refused),
		T(a_licence_of_another_vendor_is_refused_by_name),
		T(without_a_licence_nothing_is_allowed_and_the_reason_says_what_to_do),
		T(an_expired_and_a_future_licence_are_told_apart),
		T(a_clock_set_back_ends_the_licence_until_it_is_right_again),
		T(a_damaged_file_is_invalid_not_absent_and_a_refused_install_keeps_the_old),
		T(an_entitlement_that_would_be_passed_is_named),
		T(the_licence_ends_while_running_without_being_asked),
		T(an_edited_or_removed_audit_line_shows),
		T(an_entry_that_finds_the_disk_full_leaves_the_chain_whole),
		T(a_licence_for_less_than_is_in_use_is_not_installed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
