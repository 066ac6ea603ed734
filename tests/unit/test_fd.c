/* SPDX-License-Identifier: BSD-3-Clause
 * Memfd regions, their seals, and passing them over a Unix socket.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"

static int count_fds(void)
{
	int n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void a_region_is_shared_and_cannot_be_resized(void **state)
{
	struct error err = {0};
	void *a = NULL, *b = NULL;
	size_t bytes = 0;
	int fd = fd_region_new("t", 8192, true, &a, &err);

	(void)state;
	assert_true(fd >= 0);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(ftruncate(fd, 4096), -1);
	assert_int_equal(ftruncate(fd, 16384), -1);
	assert_int_equal(fd_region_map(fd, false, false, &b, &bytes, &err), 0);
	assert_int_equal(bytes, 8192);
	memset(a, 0x5a, 8192);
	assert_memory_equal(a, b, 8192);
	munmap(a, 8192);
	munmap(b, 8192);
	close(fd);
}

static void an_unsealed_region_is_refused(void **state)
{
	int fd = memfd_create("t", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct error err = {0};
	size_t bytes = 0;
	void *p = NULL;

	(void)state;
	assert_int_equal(ftruncate(fd, 4096), 0);
	assert_int_equal(fd_region_map(fd, false, false, &p, &bytes, &err), -EPERM);
	assert_non_null(strstr(err.text, "sealed"));
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW), 0); /* growing is not what hurts */
	assert_int_equal(fd_region_map(fd, false, false, &p, &bytes, &err), -EPERM);
	assert_null(p);
	close(fd);
}

static void a_file_a_pipe_and_an_empty_region_are_refused(void **state)
{
	struct error err = {0};
	int pipes[2], empty = memfd_create("t", MFD_ALLOW_SEALING);
	int file = open("/proc/self/exe", O_RDONLY);
	size_t bytes = 0;
	void *p = NULL;

	(void)state;
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(fcntl(empty, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), 0);
	assert_int_equal(fd_region_map(file, false, false, &p, &bytes, &err), -EINVAL);
	assert_int_equal(fd_region_map(pipes[0], false, false, &p, &bytes, &err), -EINVAL);
	assert_int_equal(fd_region_map(empty, false, false, &p, &bytes, &err), -EINVAL);
	assert_int_equal(fd_region_map(-1, false, false, &p, &bytes, &err), -EINVAL);
	close(file);
	close(pipes[0]);
	close(pipes[1]);
	close(empty);
}

static void a_sealed_copy_cannot_be_written(void **state)
{
	struct error err = {0};
	char seen[6] = {0};
	int fd = fd_sealed_copy("t", "hello", 5, &err);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "x", 1), -1);
	assert_ptr_equal(mmap(NULL, 5, PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
	assert_int_equal(pread(fd, seen, 5, 0), 5);
	assert_string_equal(seen, "hello");
	close(fd);
}

static void a_read_only_reopening_cannot_be_mapped_for_writing(void **state)
{
	struct error err = {0};
	size_t bytes = 0;
	void *p = NULL;
	int fd = fd_region_new("t", 4096, false, NULL, &err), ro = fd_reopen_readonly(fd);

	(void)state;
	assert_true(ro >= 0);
	assert_int_equal(fd_region_map(ro, true, false, &p, &bytes, &err), -EACCES);
	assert_int_equal(fd_region_map(ro, false, false, &p, &bytes, &err), 0);
	munmap(p, bytes);
	close(ro);
	close(fd);
}

static void only_a_reopened_description_has_a_lock_of_its_own(void **state)
{
	struct error err = {0};
	int fd = fd_region_new("t", 4096, false, NULL, &err), same = dup(fd), own = fd_reopen(fd);

	(void)state;
	assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
	assert_int_equal(flock(same, LOCK_EX | LOCK_NB), 0);
	assert_int_equal(flock(own, LOCK_EX | LOCK_NB), -1);
	close(own);
	close(same);
	close(fd);
}

static void descriptors_travel_and_arrive_close_on_exec(void **state)
{
	int pair[2], got[FD_MAX_PASSED], before = count_fds();
	struct error err = {0};
	size_t n_fds = 9, bytes = 0;
	void *p = NULL;
	char msg[16];
	int region = fd_region_new("t", 4096, false, &p, &err);

	(void)state;
	((char *)p)[7] = 'm';
	munmap(p, 4096);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	assert_int_equal(fd_send(pair[0], "two", 3, (int[]){region, pair[1]}, 2), 0);
	assert_int_equal(fd_send(pair[0], "none", 4, NULL, 0), 0);
	assert_int_equal(fd_recv(pair[1], msg, sizeof(msg), got, &n_fds), 3);
	assert_int_equal(n_fds, 2);
	assert_true(fcntl(got[0], F_GETFD) & FD_CLOEXEC);
	assert_int_equal(fd_region_map(got[0], false, false, &p, &bytes, &err), 0);
	assert_int_equal(((char *)p)[7], 'm');
	munmap(p, bytes);
	close(got[0]);
	close(got[1]);
	assert_int_equal(fd_recv(pair[1], msg, sizeof(msg), got, &n_fds), 4);
	assert_int_equal(n_fds, 0);
	close(pair[0]);
	assert_int_equal(fd_recv(pair[1], msg, sizeof(msg), got, &n_fds), 0); /* end of stream */
	assert_int_equal(fd_send(pair[1], "x", 1, NULL, 0), -EPIPE);          /* and no SIGPIPE */
	close(pair[1]);
	close(region);
	assert_int_equal(count_fds(), before);
}

static void a_message_too_long_leaks_no_descriptor(void **state)
{
	int pair[2], got[FD_MAX_PASSED], before = count_fds();
	char big[64] = {0}, small[8];
	size_t n_fds;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	assert_int_equal(fd_send(pair[0], big, sizeof(big), (int[]){0, 1, 2}, 3), 0);
	assert_int_equal(fd_recv(pair[1], small, sizeof(small), got, &n_fds), -EMSGSIZE);
	assert_int_equal(n_fds, 0);
	assert_int_equal(fd_send(pair[0], big, 1, (int[9]){0}, 9), -E2BIG);
	close(pair[0]);
	close(pair[1]);
	assert_int_equal(count_fds(), before);
}

/* More descriptors than we ever send: the sender is somebody else. */
static void a_message_with_too_many_descriptors_leaks_none(void **state)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * 20)];
	} control = {0};
	struct iovec iov = {(char[]){"x"}, 1};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&mh);
	int pair[2], got[FD_MAX_PASSED], before = count_fds();
	size_t n_fds;
	char msg[8];

	(void)state;
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int) * 20);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	assert_int_equal(sendmsg(pair[0], &mh, 0), 1); /* twenty times fd 0 */
	assert_int_equal(fd_recv(pair[1], msg, sizeof(msg), got, &n_fds), -EMSGSIZE);
	assert_int_equal(n_fds, 0);
	close(pair[0]);
	close(pair[1]);
	assert_int_equal(count_fds(), before);
}

static void a_stale_socket_file_is_replaced_and_its_mode_set(void **state)
{
	char dir[] = "/tmp/mr-fd-XXXXXX", path[64], long_path[200];
	struct error err = {0};
	struct stat st;
	int a, b, c;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/s", dir);
	a = fd_unix_listen(path, SOCK_SEQPACKET, 0600, &err);
	assert_true(a >= 0);
	close(a);
	assert_true(fd_unix_connect(path, SOCK_SEQPACKET, &err) < 0);
	b = fd_unix_listen(path, SOCK_SEQPACKET, 0660, &err);
	assert_true(b >= 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0660);
	c = fd_unix_connect(path, SOCK_SEQPACKET, &err);
	assert_true(c >= 0);
	memset(long_path, 'x', sizeof(long_path) - 1);
	long_path[sizeof(long_path) - 1] = '\0';
	assert_int_equal(fd_unix_listen(long_path, SOCK_STREAM, 0600, &err), -ENAMETOOLONG);
	close(b);
	close(c);
	unlink(path);
	rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_region_is_shared_and_cannot_be_resized),
		cmocka_unit_test(an_unsealed_region_is_refused),
		cmocka_unit_test(a_file_a_pipe_and_an_empty_region_are_refused),
		cmocka_unit_test(a_sealed_copy_cannot_be_written),
		cmocka_unit_test(a_read_only_reopening_cannot_be_mapped_for_writing),
		cmocka_unit_test(only_a_reopened_description_has_a_lock_of_its_own),
		cmocka_unit_test(descriptors_travel_and_arrive_close_on_exec),
		cmocka_unit_test(a_message_too_long_leaks_no_descriptor),
		cmocka_unit_test(a_message_with_too_many_descriptors_leaks_none),
		cmocka_unit_test(a_stale_socket_file_is_replaced_and_its_mode_set),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
