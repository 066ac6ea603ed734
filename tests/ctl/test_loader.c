/* SPDX-License-Identifier: BSD-3-Clause
 * The real millrace-loader as control starts it: fd 3, one request, one answer; and its reader under
 * injected faults (the link wraps pread and io_uring_submit_and_wait).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "control/loader/artifact.h"
#include "control/loader/loader.h"
#include "control/loader/reader.h"
#include "tests/ctl/t_artifact.h"

/* What one run of the loader came to. */
struct outcome {
	struct loader_reply reply; /* the last one */
	unsigned int progress;     /* LOADER_PROGRESS messages before it */
	int fd;                    /* of LOADER_DONE, else -1 */
	int status;                /* waitpid's */
};

static char directory[] = "/var/tmp/millrace-loader-test-XXXXXX"; /* a disk, so that O_DIRECT is real */
static char program[4096];
static struct loader_request plain_request = {.magic = LOADER_MAGIC};

static const char *t_path(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	return path;
}

static int t_file(const void *bytes, size_t n)
{
	int fd = open(t_path("a.mrm"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, n), n);
	close(fd);
	fd = open(t_path("a.mrm"), O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

/* From here on io_uring_setup() fails with EPERM, as under a container's filter. */
static void forbid_io_uring(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = {sizeof(code) / sizeof(code[0]), code};

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog))
		_exit(98);
}

static pid_t t_start(int *sock, bool without_io_uring)
{
	int pair[2];
	pid_t pid;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	pid = fork();
	if (pid == 0) {
		int null = open("/dev/null", O_WRONLY);

		dup2(null, STDERR_FILENO);
		dup2(pair[1], LOADER_FD);
		if (pair[1] == LOADER_FD)
			fcntl(LOADER_FD, F_SETFD, 0);
		if (without_io_uring)
			forbid_io_uring();
		execl(program, program, (char *)NULL);
		_exit(99);
	}
	close(pair[1]);
	*sock = pair[0];
	return pid;
}

static struct outcome t_finish(pid_t pid, int sock)
{
	struct outcome o = {.fd = -1};
	int fds[FD_MAX_PASSED];
	size_t n_fds;

	while (fd_recv(sock, &o.reply, sizeof(o.reply), fds, &n_fds) == sizeof(o.reply)) {
		if (n_fds)
			o.fd = fds[0];
		if (o.reply.kind != LOADER_PROGRESS)
			break;
		o.progress++;
	}
	close(sock);
	assert_int_equal(waitpid(pid, &o.status, 0), pid);
	return o;
}

static struct outcome t_load_fd(int fd, const struct loader_request *req, bool without_io_uring)
{
	int sock;
	pid_t pid = t_start(&sock, without_io_uring);

	assert_int_equal(fd_send(sock, req, sizeof(*req), &fd, 1), 0);
	close(fd);
	return t_finish(pid, sock);
}

static void t_refused_fd(int fd, const struct loader_request *req, const char *reason)
{
	struct outcome o = t_load_fd(fd, req, false);

	assert_int_equal(o.reply.kind, LOADER_REFUSED);
	if (!strstr(o.reply.text, reason))
		fail_msg("refused with '%s', expected '%s'", o.reply.text, reason);
	assert_int_equal(o.fd, -1);
	assert_true(WIFEXITED(o.status));
}

static void t_refused(const struct t_artifact *a, const char *reason)
{
	t_refused_fd(t_file(a->bytes, a->n), &plain_request, reason);
}

/* The handed-over memfd is the file, read-only, sealed for good. */
static void t_is_sealed_copy(const struct outcome *o, const struct t_artifact *a)
{
	struct stat st;
	void *map;

	assert_int_equal(o->reply.kind, LOADER_DONE);
	assert_true(o->fd >= 0);
	assert_int_equal(fstat(o->fd, &st), 0);
	assert_true((size_t)st.st_size >= a->n);
	map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, o->fd, 0);
	assert_true(map != MAP_FAILED);
	assert_memory_equal(map, a->bytes, a->n);
	for (size_t i = a->n; i < (size_t)st.st_size; i++)
		assert_int_equal(((uint8_t *)map)[i], 0);
	munmap(map, (size_t)st.st_size);
	assert_int_equal(fcntl(o->fd, F_GET_SEALS),
		F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL | F_SEAL_WRITE);
	assert_int_equal(fcntl(o->fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	assert_true(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, o->fd, 0) == MAP_FAILED);
	assert_int_equal(fd_reopen(o->fd) < 0 ? -1 : ftruncate(o->fd, 0), -1);
}

static void a_good_artifact_arrives_bit_equal_sealed_and_read_only(void **state)
{
	const size_t sizes[] = {2, 3, 31, 32, 33, 64, 1100, 2500};
	struct t_artifact a;

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct outcome o;

		t_artifact_make(&a, sizes[i], (uint32_t)i);
		o = t_load_fd(t_file(a.bytes, a.n), &plain_request, false);
		t_is_sealed_copy(&o, &a);
		assert_int_equal(o.status, 0);
		assert_int_equal(o.reply.io_uring, 1);
		assert_int_equal(o.reply.bytes_done, o.reply.bytes_total);
		assert_memory_equal(&o.reply.header, a.header, sizeof(*a.header));
		close(o.fd);
		t_artifact_free(&a);
	}
}

static void pread_is_the_named_fallback_without_io_uring(void **state)
{
	struct t_artifact a;
	struct outcome o;

	(void)state;
	t_artifact_make(&a, 100, 7);
	o = t_load_fd(t_file(a.bytes, a.n), &plain_request, true);
	t_is_sealed_copy(&o, &a);
	assert_int_equal(o.reply.io_uring, 0);
	assert_non_null(strstr(o.reply.text, "pread instead of io_uring (Operation not permitted)"));
	close(o.fd);
	t_artifact_free(&a);
}

static unsigned long t_free_huge_pages(void)
{
	char line[128];
	unsigned long n = 0;
	FILE *f = fopen("/proc/meminfo", "r");

	while (f && fgets(line, sizeof(line), f))
		sscanf(line, "HugePages_Free: %lu", &n);
	if (f)
		fclose(f);
	return n;
}

static void huge_pages_are_used_when_free_and_named_when_not(void **state)
{
	struct loader_request req = plain_request;
	struct t_artifact a;
	struct outcome o;

	(void)state;
	req.want_huge_pages = 1;
	t_artifact_make(&a, 100, 8);
	o = t_load_fd(t_file(a.bytes, a.n), &req, false);
	t_is_sealed_copy(&o, &a);
	if (t_free_huge_pages() >= 2)
		assert_int_equal(o.reply.huge_pages, 1);
	if (!o.reply.huge_pages)
		assert_non_null(strstr(o.reply.text, "huge pages needed"));
	close(o.fd);
	t_artifact_free(&a);
}

static void a_flipped_bit_is_refused_naming_its_chunk(void **state)
{
	const struct {
		size_t at;
		const char *reason;
	} cases[] = {
		{3 * MODEL_FILE_CHUNK + 5, "chunk 3 (bytes 98304 to 131071)"},
		{8 * MODEL_FILE_CHUNK - 1, "chunk 7 "},
		{MODEL_FILE_PAGE + 1, "chunk 0 "},
		{8 * MODEL_FILE_CHUNK + 2 * MODEL_FILE_HASH_BYTES, "chunk 2 "},
	};
	struct t_artifact a;

	(void)state;
	t_artifact_make(&a, 8, 1);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		a.bytes[cases[i].at] ^= 0x10;
		t_refused(&a, cases[i].reason);
		a.bytes[cases[i].at] ^= 0x10;
	}
	t_artifact_free(&a);
}

/* One wrong field, written over a good header, and what the refusal must say. */
#define FIELD(member, bad, says) \
	{ #member, offsetof(struct model_file_header, member), \
		sizeof(((struct model_file_header *)0)->member), bad, says }

static const struct {
	const char *name;
	size_t offset, bytes;
	uint64_t bad;
	const char *says;
} bad_fields[] = {
	FIELD(magic, 0x46554747, "magic"),
	FIELD(version, 2, "version 2"),
	FIELD(header_bytes, 64, "header_bytes"),
	FIELD(body_bytes, 8 * MODEL_FILE_CHUNK - 1, "body_bytes"),
	FIELD(body_bytes, 0, "body_bytes"),
	FIELD(body_bytes, UINT64_MAX - 32767, "body_bytes"),
	FIELD(file_bytes, 1ull << 40, "file has"),
	FIELD(model_version, 0, "model_version"),
	FIELD(max_rows, 0, "max_rows"),
	FIELD(max_rows, 4097, "max_rows"),
	FIELD(row_in_bytes, 15, "row_in_bytes"),
	FIELD(row_out_bytes, 20, "row_out_bytes"),
	FIELD(cost_units, 0, "cost_units"),
	FIELD(n_inputs, 0, "n_inputs"),
	FIELD(n_inputs, 9, "n_inputs"),
	FIELD(n_inputs, 2, "input 1"),
	FIELD(n_outputs, 0x80000001, "n_outputs"),
	FIELD(flags, 1, "flags"),
	FIELD(program.offset, 0, "program"),
	FIELD(program.offset, 4097, "program offset"),
	FIELD(program.offset, 8192, "program"),
	FIELD(program.bytes, UINT64_MAX, "program"),
	FIELD(program.bytes, 127, "program"),
	FIELD(metadata.offset, 4096, "metadata"),
	FIELD(metadata.bytes, 65537, "metadata"),
	FIELD(weights.offset, UINT64_MAX - 4095, "weights"),
	FIELD(weights.bytes, UINT64_MAX, "weights"),
	FIELD(weights.bytes, 5, "belong to nothing"),
	FIELD(hashes.offset, 4096, "hashes.offset"),
	FIELD(hashes.bytes, 32, "hashes.bytes"),
	FIELD(signature.offset, 0, "signature.offset"),
	FIELD(signature.bytes, 1ull << 63, "signature.bytes"),
	FIELD(name[0], 0, "model name"),
	FIELD(name[1], '\n', "model name"),
	FIELD(inputs[0].dtype, 0, "dtype"),
	FIELD(inputs[0].dtype, 99, "dtype"),
	FIELD(inputs[0].rank, 7, "rank"),
	FIELD(inputs[0].rank, UINT32_MAX, "rank"),
	FIELD(inputs[0].dims[0], 0, "dims[0]"),
	FIELD(inputs[0].dims[0], UINT32_MAX, "dims[0]"),
	FIELD(inputs[0].dims[1], 3, "past the rank"),
	FIELD(inputs[0].elements, 5, "elements"),
	FIELD(inputs[0].row_bytes, 20, "row_bytes"),
	FIELD(outputs[0].reserved[2], 1, "reserved"),
	FIELD(outputs[7].dtype, 1, "output 7"),
};

static void every_wrong_header_field_is_refused_by_name(void **state)
{
	struct t_artifact a;
	struct error err;

	(void)state;
	t_artifact_make(&a, 8, 1);
	assert_int_equal(artifact_check_header(a.header, a.n, &err), 0);
	for (size_t i = 0; i < sizeof(bad_fields) / sizeof(bad_fields[0]); i++) {
		struct model_file_header bad = *a.header;

		memcpy((uint8_t *)&bad + bad_fields[i].offset, &bad_fields[i].bad,
			bad_fields[i].bytes);
		if (artifact_check_header(&bad, a.n, &err) != -EINVAL)
			fail_msg("%s = %#llx was accepted", bad_fields[i].name,
				(unsigned long long)bad_fields[i].bad);
		if (!strstr(err.text, bad_fields[i].says))
			fail_msg("%s: said '%s', expected '%s'", bad_fields[i].name, err.text,
				bad_fields[i].says);
	}
	a.header->max_rows = 0;
	t_refused(&a, "max_rows is 0");
	t_artifact_free(&a);
}

static void no_header_of_random_bytes_passes_or_harms(void **state)
{
	struct t_artifact a;
	struct error err;
	uint64_t seed = 88172645463325252ull;

	(void)state;
	t_artifact_make(&a, 2, 1);
	for (int i = 0; i < 200000; i++) {
		struct model_file_header h = *a.header;

		for (int k = 0; k < 3; k++) {
			seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
			((uint8_t *)&h)[seed % sizeof(h)] = (uint8_t)(seed >> 32);
		}
		if (artifact_check_header(&h, a.n, &err) == 0) {
			assert_int_equal(h.file_bytes, a.n);
			assert_true(h.weights.offset + h.weights.bytes <= h.body_bytes);
		}
	}
	t_artifact_free(&a);
}

static void truncation_at_every_page_is_refused(void **state)
{
	struct t_artifact a;

	(void)state;
	t_artifact_make(&a, 2, 2);
	for (size_t n = 0; n < a.n; n += 4096) {
		struct t_artifact cut = {a.bytes, n, a.header};

		t_refused(&cut, n < MODEL_FILE_PAGE ? "less than the header page" : "the file has");
	}
	a.n--;
	t_refused(&a, "truncated");
	a.n++;
	t_artifact_free(&a);
}

static void what_is_not_a_regular_file_is_refused(void **state)
{
	int pipes[2];

	(void)state;
	assert_int_equal(pipe(pipes), 0);
	t_refused_fd(pipes[0], &plain_request, "pipe");
	close(pipes[1]);
	t_refused_fd(open(directory, O_RDONLY | O_CLOEXEC), &plain_request, "directory");
	t_refused_fd(open("/dev/zero", O_RDONLY | O_CLOEXEC), &plain_request, "device");
	t_refused_fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), &plain_request, "socket");
}

static void a_sparse_terabyte_is_refused_without_reading_it(void **state)
{
	struct t_artifact a;
	int fd;

	(void)state;
	t_artifact_make(&a, 2, 3);
	fd = t_file(a.bytes, a.n);
	assert_int_equal(truncate(t_path("a.mrm"), (off_t)1 << 40), 0);
	t_refused_fd(fd, &plain_request, "limit");
	t_artifact_free(&a);
}

static void an_artifact_larger_than_memory_is_refused_before_it_is_read(void **state)
{
	const uint64_t chunks = (1ull << 36) / (MODEL_FILE_CHUNK + 64);
	struct t_artifact a;
	int fd;

	(void)state;
	t_artifact_make(&a, 2, 3);
	a.header->body_bytes = chunks * MODEL_FILE_CHUNK;
	a.header->weights.bytes = a.header->body_bytes - 2 * MODEL_FILE_PAGE;
	a.header->hashes = (struct model_file_section){a.header->body_bytes, chunks * 32};
	a.header->signature.offset = a.header->body_bytes + chunks * 32;
	a.header->file_bytes = a.header->signature.offset + sizeof(struct model_file_signature);
	fd = t_file(a.bytes, a.n);
	assert_int_equal(truncate(t_path("a.mrm"), (off_t)a.header->file_bytes), 0);
	t_refused_fd(fd, &plain_request, "of memory");
	t_artifact_free(&a);
}

static EVP_PKEY *t_key(void)
{
	return EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
}

static void signatures_are_checked_against_the_trusted_keys(void **state)
{
	EVP_PKEY *ours = t_key(), *strangers = t_key();
	struct loader_request req = {.magic = LOADER_MAGIC, .require_signature = 1, .n_keys = 2};
	struct t_artifact a;
	struct outcome o;

	(void)state;
	t_artifact_make(&a, 4, 9);
	t_refused_fd(t_file(a.bytes, a.n), &req, "not signed");
	t_artifact_sign(&a, strangers, NULL);
	t_refused_fd(t_file(a.bytes, a.n), &req, "not trusted");
	t_artifact_sign(&a, ours, req.keys[1]);
	o = t_load_fd(t_file(a.bytes, a.n), &req, false);
	t_is_sealed_copy(&o, &a);
	assert_int_equal(o.reply.signed_by, 2);
	close(o.fd);
	a.bytes[a.n - 1] ^= 1;
	t_refused_fd(t_file(a.bytes, a.n), &req, "does not match");
	t_refused_fd(t_file(a.bytes, a.n), &plain_request, "does not match");
	a.bytes[a.n - 1] ^= 1;
	a.bytes[5 * 4096] ^= 1; /* another model under a good signature */
	t_artifact_rehash(&a);
	t_refused_fd(t_file(a.bytes, a.n), &req, "does not match");
	EVP_PKEY_free(ours);
	EVP_PKEY_free(strangers);
	t_artifact_free(&a);
}

static void a_file_cut_while_it_is_read_is_refused(void **state)
{
	struct t_artifact a;
	struct outcome o;
	int sock, fd;
	pid_t pid;

	(void)state;
	t_artifact_make(&a, 4096, 5);
	fd = t_file(a.bytes, a.n);
	pid = t_start(&sock, false);
	assert_int_equal(fd_send(sock, &plain_request, sizeof(plain_request), &fd, 1), 0);
	close(fd);
	usleep(15000);
	assert_int_equal(truncate(t_path("a.mrm"), 20 * MODEL_FILE_CHUNK), 0);
	o = t_finish(pid, sock);
	if (o.reply.kind == LOADER_DONE) /* the disk was faster than we */
		t_is_sealed_copy(&o, &a);
	else if (!strstr(o.reply.text, "became shorter") && !strstr(o.reply.text, "the file has"))
		fail_msg("refused with '%s'", o.reply.text);
	fd_close(o.fd);
	t_artifact_free(&a);
}

static void a_malformed_request_is_refused(void **state)
{
	struct loader_request req = {.magic = 1};

	(void)state;
	t_refused_fd(open("/dev/null", O_RDONLY | O_CLOEXEC), &req, "not ours");
	req = (struct loader_request){.magic = LOADER_MAGIC, .n_keys = 9};
	t_refused_fd(open("/dev/null", O_RDONLY | O_CLOEXEC), &req, "9 keys");
}

/* ---- the reader alone, under faults --------------------------------------------------------- */

enum fault { NO_FAULT, FAULT_EIO, FAULT_SHORT, FAULT_EINTR, FAULT_EOF };

static enum fault fault;
static unsigned int fault_after;

ssize_t __real_pread(int fd, void *buf, size_t n, off_t at);
ssize_t __wrap_pread(int fd, void *buf, size_t n, off_t at);
int __real_io_uring_submit_and_wait(struct io_uring *ring, unsigned int n);
int __wrap_io_uring_submit_and_wait(struct io_uring *ring, unsigned int n);

static enum fault t_fault_now(void)
{
	if (fault == NO_FAULT || fault_after-- > 0)
		return NO_FAULT;
	fault_after = 1; /* and again every second call */
	return fault;
}

ssize_t __wrap_pread(int fd, void *buf, size_t n, off_t at)
{
	switch (t_fault_now()) {
	case FAULT_EIO:
		errno = EIO;
		return -1;
	case FAULT_EINTR:
		errno = EINTR;
		return -1;
	case FAULT_EOF:
		return 0;
	case FAULT_SHORT:
		return __real_pread(fd, buf, n, at) > 9192 ? 9192 : -1;
	default:
		return __real_pread(fd, buf, n, at);
	}
}

int __wrap_io_uring_submit_and_wait(struct io_uring *ring, unsigned int n)
{
	int rc = __real_io_uring_submit_and_wait(ring, n);
	struct io_uring_cqe *cqe;

	if (io_uring_peek_cqe(ring, &cqe))
		return rc;
	switch (t_fault_now()) {
	case FAULT_EIO:
		cqe->res = -EIO;
		break;
	case FAULT_EINTR:
		cqe->res = -EAGAIN;
		break;
	case FAULT_EOF:
		cqe->res = 0;
		break;
	case FAULT_SHORT:
		cqe->res = cqe->res > 9192 ? 9192 : cqe->res;
		break;
	default:
		break;
	}
	return rc;
}

/* The stream as a checksum that does not depend on the order of blocks. */
static int count_bytes(void *arg, uint64_t offset, uint32_t bytes, struct error *err)
{
	(void)offset;
	(void)err;
	*(uint64_t *)arg += bytes;
	return 0;
}

static void t_stream(bool uring, enum fault f, int want, const char *says)
{
	struct reader r;
	struct t_artifact a;
	struct error err = {0};
	uint64_t seen = 0, body;
	uint8_t *dst;
	int fd;

	t_artifact_make(&a, 1000, 6);
	body = a.header->body_bytes;
	fd = t_file(a.bytes, a.n);
	dst = mmap(NULL, body, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	reader_init(&r);
	if (!uring)
		reader_uninit(&r);
	reader_open(&r, fd);
	fault = f;
	fault_after = 0;
	assert_int_equal(reader_stream(&r, dst, body, count_bytes, &seen, &err), want);
	fault = NO_FAULT;
	if (want) {
		assert_non_null(strstr(err.text, says));
	} else {
		assert_int_equal(seen, body);
		assert_memory_equal(dst, a.bytes, body);
		assert_true(r.retries > 0 || f == NO_FAULT);
	}
	reader_uninit(&r);
	munmap(dst, body);
	close(fd);
	t_artifact_free(&a);
}

static void reads_survive_short_counts_and_interruptions(void **state)
{
	(void)state;
	for (int uring = 0; uring < 2; uring++) {
		t_stream(uring, NO_FAULT, 0, "");
		t_stream(uring, FAULT_SHORT, 0, "");
		t_stream(uring, FAULT_EINTR, 0, "");
	}
}

static void reads_that_fail_or_end_early_are_named_with_their_place(void **state)
{
	(void)state;
	for (int uring = 0; uring < 2; uring++) {
		t_stream(uring, FAULT_EIO, -EIO, "reading at byte");
		t_stream(uring, FAULT_EOF, -ENODATA, "became shorter");
	}
}

static int make_directory(void **state)
{
	ssize_t n = readlink("/proc/self/exe", program, sizeof(program) - 64);
	char *slash;

	(void)state;
	if (n < 0 || !mkdtemp(directory))
		return -1;
	program[n] = 0;
	slash = strrchr(program, '/');
	snprintf(slash, 64, "/../bin/millrace-loader");
	return access(program, X_OK);
}

static int remove_directory(void **state)
{
	(void)state;
	unlink(t_path("a.mrm"));
	return rmdir(directory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_good_artifact_arrives_bit_equal_sealed_and_read_only),
		cmocka_unit_test(pread_is_the_named_fallback_without_io_uring),
		cmocka_unit_test(huge_pages_are_used_when_free_and_named_when_not),
		cmocka_unit_test(a_flipped_bit_is_refused_naming_its_chunk),
		cmocka_unit_test(every_wrong_header_field_is_refused_by_name),
		cmocka_unit_test(no_header_of_random_bytes_passes_or_harms),
		cmocka_unit_test(truncation_at_every_page_is_refused),
		cmocka_unit_test(what_is_not_a_regular_file_is_refused),
		cmocka_unit_test(a_sparse_terabyte_is_refused_without_reading_it),
		cmocka_unit_test(an_artifact_larger_than_memory_is_refused_before_it_is_read),
		cmocka_unit_test(signatures_are_checked_against_the_trusted_keys),
		cmocka_unit_test(a_file_cut_while_it_is_read_is_refused),
		cmocka_unit_test(a_malformed_request_is_refused),
		cmocka_unit_test(reads_survive_short_counts_and_interruptions),
		cmocka_unit_test(reads_that_fail_or_end_early_are_named_with_their_place),
	};

	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
