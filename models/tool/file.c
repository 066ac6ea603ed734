/* SPDX-License-Identifier: BSD-3-Clause
 * Files, numbers, models and batches for the subcommands: see tool.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "models/compile/artifact.h"
#include "models/compile/onnx_wire.h"
#include "models/tool/tool.h"

enum { PAGE = 4096 };

static int read_all(int fd, uint8_t *to, size_t size)
{
	for (size_t at = 0; at < size;) {
		ssize_t n = read(fd, to + at, size - at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		at += (size_t)n;
	}
	return 0;
}

int tool_read(const char *path, size_t limit, uint8_t **bytes, size_t *size, struct error *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), rc = 0;
	struct stat st;

	*bytes = NULL;
	if (fd < 0 || fstat(fd, &st))
		rc = error_set(err, -errno, "%s: %s", path, strerror(errno));
	else if (!S_ISREG(st.st_mode))
		rc = error_set(err, -EINVAL, "%s is no regular file", path);
	else if ((uint64_t)st.st_size > limit)
		rc = error_set(
			err, -EFBIG, "%s has %ld bytes, limit %zu", path, (long)st.st_size, limit);
	if (!rc) {
		*size = (size_t)st.st_size;
		*bytes = aligned_alloc(PAGE, (*size / PAGE + 1) * PAGE);
		rc = *bytes ? read_all(fd, *bytes, *size) : -ENOMEM;
		if (rc)
			error_set(err, rc, "%s: %s", path, strerror(-rc));
	}
	if (fd >= 0)
		close(fd);
	if (rc) {
		free(*bytes);
		*bytes = NULL;
	}
	return rc;
}

bool tool_number(const char *text, unsigned long low, unsigned long high, unsigned long *value)
{
	char *end;

	errno = 0;
	*value = strtoul(text, &end, 10);
	return *text >= '0' && *text <= '9' && !*end && !errno && *value >= low && *value <= high;
}

bool tool_backend(const char *text, enum model_backend *backend)
{
	static const char *const names[] = {
		[MODEL_BACKEND_AUTO] = "auto",
		[MODEL_BACKEND_NATIVE] = "native",
		[MODEL_BACKEND_OPENBLAS] = "openblas",
		[MODEL_BACKEND_SCALAR] = "scalar",
	};

	for (int i = 0; i < 4; i++)
		if (!strcmp(text, names[i])) {
			*backend = (enum model_backend)i;
			return true;
		}
	return false;
}

static int open_onnx(struct tool_model *t, enum model_backend backend, struct error *err)
{
	struct compile_options o = {
		.name = "model", .version = 1, .max_rows = 1024, .cost = 1, .backend = backend};
	struct artifact a;
	int rc = compile_onnx_buffer(t->image, t->size, &o, &a, err);

	if (rc)
		return rc;
	free(t->image);
	t->image = a.bytes;
	t->size = a.size;
	return 0;
}

int tool_model_open(
	struct tool_model *t, const char *path, enum model_backend backend, struct error *err)
{
	size_t n = strlen(path);
	bool onnx = n > 5 && !strcmp(path + n - 5, ".onnx"), is_signed;
	int rc;

	*t = (struct tool_model){0};
	rc = tool_read(path, onnx ? ONNX_MAX_BYTES : (size_t)1 << MODEL_FILE_MAX_BYTES_LOG2,
		&t->image, &t->size, err);
	if (rc)
		return rc;
	rc = onnx ? open_onnx(t, backend, err)
		  : artifact_verify(t->image, t->size, NULL, &is_signed, err);
	if (!rc)
		rc = model_open(&t->model, t->image, t->size, backend, err);
	if (rc) {
		error_prefix(err, "%s", path);
		tool_model_close(t);
	}
	return rc;
}

void tool_model_close(struct tool_model *t)
{
	model_close(t->model);
	free(t->image);
	*t = (struct tool_model){0};
}

int tool_rows_run(const struct model *m, uint32_t batch, size_t rows, const uint8_t *in,
	uint8_t *out, struct error *err)
{
	const struct model_file_header *h = model_header(m);
	size_t bytes =
		(run_bytes(m, batch) + MODEL_FILE_ALIGN - 1) & ~(size_t)(MODEL_FILE_ALIGN - 1);
	void *memory = aligned_alloc(MODEL_FILE_ALIGN, bytes);
	const void **from = calloc(batch, sizeof(*from));
	void **to = calloc(batch, sizeof(*to));
	int rc = memory && from && to ? 0
				      : error_set(err, -ENOMEM,
						"no memory for a batch of %u (%zu "
						"bytes)",
						batch, bytes);
	struct run *r = rc ? NULL : run_init(memory, m, batch);

	for (size_t at = 0; r && at < rows; at += batch) {
		uint32_t n = rows - at < batch ? (uint32_t)(rows - at) : batch;

		for (uint32_t i = 0; i < n; i++) {
			from[i] = in + (at + i) * h->row_in_bytes;
			to[i] = out + (at + i) * h->row_out_bytes;
		}
		run_start(r, n, from, to);
		while (!run_step(r, UINT64_MAX))
			;
	}
	free(memory);
	free(from);
	free(to);
	return rc;
}
