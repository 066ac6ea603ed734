/* SPDX-License-Identifier: BSD-3-Clause
 * Whole small files, atomically: see file_replace.h.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/failpoint.h"
#include "base/file_replace.h"

#define TEMP_SUFFIX ".tmp-XXXXXX"
enum { STALE_S = 60 };

static ssize_t read_all(int fd, char *data, size_t n)
{
	size_t done = 0;

	while (done < n) {
		ssize_t r = read(fd, data + done, n - done);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -errno;
		if (r == 0)
			break;
		done += (size_t)r;
	}
	return (ssize_t)done;
}

int file_read(const char *path, size_t max, char **out, size_t *n, struct error *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	char *data;
	ssize_t got;

	if (fd < 0)
		return error_set(err, -errno, "%s: %s", path, strerror(errno));
	if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
		close(fd);
		return error_set(err, -EINVAL, "%s: not a regular file", path);
	}
	data = malloc(max + 2);
	if (!data) {
		close(fd);
		return error_set(err, -ENOMEM, "%s: out of memory", path);
	}
	got = read_all(fd, data, max + 1);
	close(fd);
	if (got < 0 || (size_t)got > max) {
		free(data);
		if (got < 0)
			return error_set(err, (int)got, "%s: %s", path, strerror((int)-got));
		return error_set(err, -EFBIG, "%s: more than %zu bytes", path, max);
	}
	data[got] = 0;
	*out = data;
	if (n)
		*n = (size_t)got;
	return 0;
}

static int write_all(int fd, const char *data, size_t n)
{
	while (n) {
		ssize_t r = write(fd, data, n);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -errno;
		data += r;
		n -= (size_t)r;
	}
	return fsync(fd) ? -errno : 0;
}

static void sync_folder(const char *path)
{
	char copy[PATH_MAX];
	int fd;

	snprintf(copy, sizeof(copy), "%s", path);
	fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return;
	fsync(fd);
	close(fd);
}

/* Is `name` a temporary file of ours for the file called `base`? */
static bool is_temp(const char *name, const char *base)
{
	size_t n = strlen(base), fixed = sizeof(TEMP_SUFFIX) - 1 - 6;

	return strlen(name) == n + sizeof(TEMP_SUFFIX) - 1 && memcmp(name, base, n) == 0 &&
	       memcmp(name + n, TEMP_SUFFIX, fixed) == 0;
}

/* What writers of this file left that were killed. One that is still at it is younger. */
static void clear_stale(const char *path)
{
	char folder[PATH_MAX], file[PATH_MAX], *base;
	const struct dirent *e;
	struct stat st;
	DIR *d;

	snprintf(folder, sizeof(folder), "%s", path);
	snprintf(file, sizeof(file), "%s", path);
	base = basename(file);
	d = opendir(dirname(folder));
	while (d && (e = readdir(d)))
		if (is_temp(e->d_name, base) && fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
			S_ISREG(st.st_mode) && time(NULL) - st.st_mtime > STALE_S)
			unlinkat(dirfd(d), e->d_name, 0);
	if (d)
		closedir(d);
}

int file_replace(const char *path, const void *data, size_t n, mode_t mode, struct error *err)
{
	char temp[PATH_MAX];
	int fd, rc;

	if (snprintf(temp, sizeof(temp), "%s" TEMP_SUFFIX, path) >= (int)sizeof(temp))
		return error_set(err, -ENAMETOOLONG, "%s: path too long", path);
	clear_stale(path);
	fd = mkostemp(temp, O_CLOEXEC);
	if (fd < 0)
		return error_set(err, -errno, "%s: %s", temp, strerror(errno));
	failpoint("file.created");
	rc = fchmod(fd, mode) ? -errno : write_all(fd, data, n);
	close(fd);
	failpoint("file.written");
	if (rc == 0 && rename(temp, path))
		rc = -errno;
	failpoint("file.renamed");
	if (rc) {
		unlink(temp);
		return error_set(err, rc, "%s: %s", path, strerror(-rc));
	}
	sync_folder(path);
	return 0;
}
