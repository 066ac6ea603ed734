/* SPDX-License-Identifier: BSD-3-Clause
 * Whole files replaced: what a killed writer left is cleared by the next one, and nothing else is touched.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/file_replace.h"

static char dir[] = "/tmp/test_file_replace.XXXXXX";

static int make_dir(void **state)
{
	(void)state;
	return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
	(void)state;
	return rmdir(dir);
}

static const char *at(const char *name)
{
	static char path[2][128];
	static int turn;

	turn ^= 1;
	snprintf(path[turn], sizeof(path[turn]), "%s/%s", dir, name);
	return path[turn];
}

/* An empty file that was last written so many seconds ago. */
static void leave(const char *name, int age_s)
{
	struct timespec times[2] = {{.tv_sec = time(NULL) - age_s}, {.tv_sec = time(NULL) - age_s}};
	int fd = open(at(name), O_CREAT | O_WRONLY, 0600);

	assert_true(fd >= 0);
	assert_int_equal(futimens(fd, times), 0);
	close(fd);
}

static void only_what_a_killed_writer_of_this_file_left_is_cleared(void **state)
{
	static const char *const kept[] = {"clock.tmp-aB3dE6", "clock.backup", "licence.tmp-aB3dE6", "clock.tmp-aB3dE67"};
	struct error err = {0};
	char *text;

	(void)state;
	leave("clock.tmp-Zz9_-a", 3600);
	leave(kept[0], 5); /* its writer may be at it */
	for (size_t i = 1; i < sizeof(kept) / sizeof(kept[0]); i++)
		leave(kept[i], 3600);
	assert_int_equal(file_replace(at("clock"), "one", 3, 0600, &err), 0);
	assert_int_equal(file_replace(at("clock"), "two", 3, 0640, &err), 0);
	assert_int_equal(file_read(at("clock"), 16, &text, NULL, &err), 0);
	assert_string_equal(text, "two");
	free(text);
	assert_int_not_equal(access(at("clock.tmp-Zz9_-a"), F_OK), 0);
	for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
		assert_int_equal(unlink(at(kept[i])), 0);
	assert_int_equal(unlink(at("clock")), 0);
}

static void what_cannot_be_written_leaves_nothing(void **state)
{
	struct error err = {0};

	(void)state;
	assert_int_equal(mkdir(at("taken"), 0700), 0); /* rename() does not replace a folder */
	assert_true(file_replace(at("taken"), "x", 1, 0600, &err) < 0);
	assert_int_equal(rmdir(at("taken")), 0);
	assert_true(file_replace(at("none/clock"), "x", 1, 0600, &err) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_what_a_killed_writer_of_this_file_left_is_cleared),
		cmocka_unit_test(what_cannot_be_written_leaves_nothing),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
