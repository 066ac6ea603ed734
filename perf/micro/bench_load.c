/* SPDX-License-Identifier: BSD-3-Clause
 * load.ratio: how close millrace-loader, verification included, comes to the disk. Interleaved pairs of
 * one load of a generated artifact and one O_DIRECT sequential read (4 MiB blocks) of the same file;
 * the median of the pairs' ratios counts, because a disk's speed drifts from second to second.
 *
 *   bench_load [DIRECTORY [MiB [PAIRS]]]     default /var/tmp 512 9
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "control/loader/loader.h"
#include "tests/ctl/t_artifact.h"

enum { BLOCK = 4 << 20, MAX_PAIRS = 99 };

struct load {
	double seconds;
	struct loader_reply reply; /* the last one */
};

static int fail(const char *what)
{
	fprintf(stderr, "bench_load: %s: %s\n", what, strerror(errno));
	return -1;
}

/* The file is written through the page cache, flushed and dropped from it. */
static int make_file(const char *path, size_t mib)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	struct t_artifact a;
	size_t done = 0;

	if (fd < 0)
		return fail(path);
	t_artifact_make(&a, (mib << 20) / MODEL_FILE_CHUNK, 1);
	while (done < a.n) {
		ssize_t n = write(fd, a.bytes + done, a.n - done);

		if (n <= 0)
			break;
		done += (size_t)n;
	}
	t_artifact_free(&a);
	if (done < a.n || fsync(fd) || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED)) {
		close(fd);
		return fail(path);
	}
	close(fd);
	return 0;
}

/* Seconds of one sequential O_DIRECT read of the whole file, or -1. */
static double read_direct(const char *path, void *block, off_t *bytes)
{
	int fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	uint64_t t0 = clock_now_ns();
	ssize_t n;

	*bytes = 0;
	if (fd < 0)
		return fail("O_DIRECT");
	while ((n = pread(fd, block, BLOCK, *bytes)) > 0) {
		*bytes += n;
		if (n % 4096)
			break; /* end of the file */
	}
	t0 = clock_now_ns() - t0;
	close(fd);
	return n < 0 ? fail("read") : (double)t0 / 1e9;
}

static pid_t start_loader(const char *program, int sock)
{
	pid_t pid = fork();

	if (pid == 0) {
		if (dup2(sock, LOADER_FD) == LOADER_FD)
			execl(program, program, (char *)NULL);
		_exit(127);
	}
	return pid;
}

/* One load as control does it, from fork to LOADER_DONE. 0 or -1. */
static int load_once(struct load *out, const char *program, const char *path)
{
	struct loader_request request = {.magic = LOADER_MAGIC, .want_huge_pages = 1};
	int pair[2], fds[FD_MAX_PASSED], file = open(path, O_RDONLY | O_CLOEXEC);
	uint64_t t0 = clock_now_ns();
	size_t n_fds = 0;
	ssize_t n;
	pid_t pid;

	if (file < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return fail("socketpair");
	pid = start_loader(program, pair[1]);
	close(pair[1]);
	out->reply.kind = 0;
	if (pid > 0 && fd_send(pair[0], &request, sizeof(request), &file, 1) == 0) {
		do {
			n = fd_recv(pair[0], &out->reply, sizeof(out->reply), fds, &n_fds);
			for (size_t i = 0; n > 0 && i < n_fds; i++)
				close(fds[i]);
		} while (n == sizeof(out->reply) && out->reply.kind == LOADER_PROGRESS);
	}
	out->seconds = (double)(clock_now_ns() - t0) / 1e9;
	close(pair[0]);
	close(file);
	if (pid > 0)
		waitpid(pid, NULL, 0);
	if (out->reply.kind == LOADER_DONE)
		return 0;
	fprintf(stderr, "bench_load: %s refused: %s\n", program, out->reply.text);
	return -1;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double median(double *v, int n)
{
	qsort(v, (size_t)n, sizeof(*v), compare);
	return v[n / 2];
}

static int measure(const char *program, const char *path, int pairs)
{
	double ratio[MAX_PAIRS], ours[MAX_PAIRS], disk[MAX_PAIRS];
	void *block = aligned_alloc(4096, BLOCK);
	struct load load = {0};

	for (int i = 0; i < pairs && block; i++) {
		off_t bytes;
		double direct = -1;

		/* Every other pair in the other order: neither profits from going second. */
		if (i % 2)
			direct = read_direct(path, block, &bytes);
		if (load_once(&load, program, path))
			return -1;
		if (!(i % 2))
			direct = read_direct(path, block, &bytes);
		if (direct <= 0)
			return -1;
		ours[i] = (double)bytes / load.seconds / 1e9;
		disk[i] = (double)bytes / direct / 1e9;
		ratio[i] = ours[i] / disk[i];
		fprintf(stderr, "pair %d: loader %.2f GB/s (itself says %.2f), O_DIRECT %.2f GB/s, ratio "
				"%.2f\n",
			i + 1, ours[i],
			(double)load.reply.bytes_total / (double)(load.reply.elapsed_ns + 1), disk[i],
			ratio[i]);
	}
	free(block);
	printf("{\"id\": \"load.ratio\", \"value\": %.3f, \"unit\": \"ratio\", \"peer\": "
	       "\"O_DIRECT sequential read, 4 MiB\", \"peer_value\": %.3f, \"gbytes_s\": %.3f, "
	       "\"pairs\": %d, \"huge_pages\": %u, \"io_uring\": %u, \"direct_io\": %u}\n",
		median(ratio, pairs), median(disk, pairs), median(ours, pairs), pairs,
		load.reply.huge_pages, load.reply.io_uring, load.reply.direct_io);
	return 0;
}

int main(int argc, char **argv)
{
	const char *directory = argc > 1 ? argv[1] : "/var/tmp";
	long mib = argc > 2 ? strtol(argv[2], NULL, 10) : 512, pairs = argc > 3 ? strtol(argv[3], NULL, 10) : 9;
	char path[512], program[4096];
	ssize_t n = readlink("/proc/self/exe", program, sizeof(program) - 32);
	char *slash = n > 0 ? memrchr(program, '/', (size_t)n) : NULL;
	int rc;

	if (!slash || mib < 1 || mib > 65536 || pairs < 1 || pairs > MAX_PAIRS)
		return fprintf(stderr, "usage: bench_load [DIRECTORY [MiB [PAIRS]]]\n"), 2;
	snprintf(slash, 32, "/../bin/millrace-loader");
	snprintf(path, sizeof(path), "%s/millrace-bench-load-%d.mrm", directory, (int)getpid());
	rc = make_file(path, (size_t)mib);
	if (!rc)
		rc = measure(program, path, (int)pairs);
	unlink(path);
	return rc ? 1 : 0;
}
