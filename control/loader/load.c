/* SPDX-License-Identifier: BSD-3-Clause
 * One load: see load.h.
 *
 *   file ─▶ header page ─▶ checked ─▶ tail ─▶ artifact id, signature ─▶ body, block by block
 *                                                                        ├▶ hashed while the next come
 *                                                                        └▶ sealed memfd
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/fd.h"
#include "control/loader/artifact.h"
#include "control/loader/load.h"

#define PROGRESS_NS (50 * NS_PER_MS)

int load_init(struct load *l, int sock, struct error *err)
{
	int rc;

	memset(l, 0, sizeof(*l));
	l->sock = sock;
	rc = target_init(&l->target, err);
	if (rc)
		return rc;
	rc = hasher_init(&l->hasher);
	if (rc)
		error_set(err, rc, "SHA-256 engine: %s", strerror(-rc));
	else
		reader_init(&l->reader);
	return rc;
}

void load_uninit(struct load *l)
{
	reader_uninit(&l->reader);
	hasher_uninit(&l->hasher);
	target_uninit(&l->target);
}

/* Add one fallback and its reason to the answer's text. */
static void note(struct load *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void note(struct load *l, const char *fmt, ...)
{
	size_t used = strlen(l->reply.text);
	va_list ap;

	if (used && used + 3 < sizeof(l->reply.text)) {
		memcpy(l->reply.text + used, "; ", 3);
		used += 2;
	}
	va_start(ap, fmt);
	vsnprintf(l->reply.text + used, sizeof(l->reply.text) - used, fmt, ap);
	va_end(ap);
}

static void report(struct load *l, enum loader_kind kind)
{
	uint64_t now = clock_now_ns();

	l->reply.kind = kind;
	l->reply.elapsed_ns = now - l->began_ns;
	if (kind != LOADER_PROGRESS || l->sock < 0 || now - l->reported_ns < PROGRESS_NS)
		return;
	l->reported_ns = now;
	fd_send(l->sock, &l->reply, sizeof(l->reply), NULL, 0);
}

static int check_file(int fd, uint64_t *bytes, struct error *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return error_set(err, -errno, "fstat: %s", strerror(errno));
	if (!S_ISREG(st.st_mode))
		return error_set(err, -EINVAL, "not a regular file but a %s",
			S_ISDIR(st.st_mode)                             ? "directory"
				: S_ISFIFO(st.st_mode)                  ? "pipe"
				: S_ISBLK(st.st_mode) || S_ISCHR(st.st_mode) ? "device"
									     : "socket");
	if (st.st_size < MODEL_FILE_PAGE)
		return error_set(err, -EINVAL,
			"the file has %lld bytes, less than the header page of an artifact (%d)",
			(long long)st.st_size, MODEL_FILE_PAGE);
	if ((uint64_t)st.st_size > 1ull << MODEL_FILE_MAX_BYTES_LOG2)
		return error_set(err, -EFBIG, "the file has %lld bytes, the limit is %llu",
			(long long)st.st_size, 1ull << MODEL_FILE_MAX_BYTES_LOG2);
	*bytes = (uint64_t)st.st_size;
	return 0;
}

static int read_header(struct load *l, uint64_t file_bytes, struct error *err)
{
	void *page;
	int rc;

	if (posix_memalign(&page, READER_ALIGN, MODEL_FILE_PAGE))
		return error_set(err, -ENOMEM, "out of memory");
	rc = reader_at(&l->reader, page, 0, MODEL_FILE_PAGE, file_bytes, err);
	if (rc == -EINVAL && l->reader.direct) { /* some file systems take the flag, not the read */
		reader_give_up_direct(&l->reader);
		rc = reader_at(&l->reader, page, 0, MODEL_FILE_PAGE, file_bytes, err);
	}
	memcpy(&l->header, page, sizeof(l->header));
	free(page);
	return rc ? rc : artifact_check_header(&l->header, file_bytes, err);
}

/* Hash list and signature block, straight to their place at the end of the target. */
static int read_tail(struct load *l, const struct loader_request *req, struct error *err)
{
	const struct model_file_header *h = &l->header;
	uint8_t *image = l->target.map;
	struct model_file_signature s;
	int rc = reader_at(&l->reader, image + h->body_bytes, h->body_bytes,
		h->file_bytes - h->body_bytes, h->file_bytes, err);

	if (rc)
		return rc;
	memset(image + h->file_bytes, 0, l->target.map_bytes - h->file_bytes);
	rc = artifact_id(image + h->hashes.offset, h->hashes.bytes, l->reply.artifact_id);
	if (rc)
		return error_set(err, rc, "SHA-256 of the hash list failed");
	memcpy(&s, image + h->signature.offset, sizeof(s));
	rc = artifact_check_signature(&s, l->reply.artifact_id, req->keys, req->n_keys,
		req->require_signature != 0, err);
	l->reply.signed_by = rc > 0 ? (uint32_t)rc : 0;
	return rc < 0 ? rc : 0;
}

static int block_read(void *arg, uint64_t offset, uint32_t bytes, struct error *err)
{
	struct load *l = arg;
	const uint8_t *image = l->target.map;

	for (uint64_t at = offset; at < offset + bytes; at += MODEL_FILE_CHUNK)
		hasher_add(&l->hasher, image + at, at / MODEL_FILE_CHUNK);
	l->reply.bytes_done += bytes;
	report(l, LOADER_PROGRESS);
	return l->hasher.bad == UINT64_MAX ? 0 : hasher_finish(&l->hasher, 0, err);
}

static int read_body(struct load *l, struct error *err)
{
	const struct model_file_header *h = &l->header;
	const uint8_t *image = l->target.map;
	int rc;

	hasher_start(&l->hasher, image + h->hashes.offset);
	rc = reader_stream(&l->reader, l->target.map, h->body_bytes, block_read, l, err);
	if (!rc)
		rc = hasher_finish(&l->hasher, h->body_bytes / MODEL_FILE_CHUNK, err);
	if (!rc && memcmp(image, h, sizeof(*h)))
		rc = error_set(err, -EAGAIN, "the header changed while the file was read");
	return rc;
}

static void note_fallbacks(struct load *l, const char *why_normal_pages)
{
	const struct reader *r = &l->reader;

	if (why_normal_pages[0])
		note(l, "%s", why_normal_pages);
	if (!r->direct)
		note(l, "no O_DIRECT (%s)", strerror(r->direct_error));
	if (!r->uring)
		note(l, "pread instead of io_uring (%s)", strerror(r->uring_error));
	else if (r->register_error)
		note(l, "buffers not registered (%s%s)", strerror(r->register_error),
			r->register_error == ENOMEM ? ": raise LimitMEMLOCK=" : "");
	if (r->retries)
		note(l, "%u reads repeated", r->retries);
}

int load_run(struct load *l, const struct loader_request *req, int fd, struct error *err)
{
	char why[128] = "";
	uint64_t file_bytes, room;
	int rc = check_file(fd, &file_bytes, err);

	l->began_ns = clock_now_ns();
	l->reply = (struct loader_reply){.magic = LOADER_MAGIC, .io_uring = l->reader.uring};
	if (rc)
		return rc;
	reader_open(&l->reader, fd);
	rc = read_header(l, file_bytes, err);
	if (rc)
		return rc;
	l->reply.bytes_total = l->header.body_bytes;
	room = (file_bytes + READER_ALIGN - 1) & ~(uint64_t)(READER_ALIGN - 1);
	rc = target_map(&l->target, room, req->want_huge_pages != 0, why, sizeof(why), err);
	if (!rc)
		rc = read_tail(l, req, err);
	if (!rc)
		rc = read_body(l, err);
	if (!rc)
		rc = target_seal(&l->target, err);
	if (rc)
		return rc;
	note_fallbacks(l, why);
	l->reply.huge_pages = l->target.is_huge;
	l->reply.direct_io = l->reader.direct;
	l->reply.header = l->header;
	report(l, LOADER_DONE);
	return 0;
}
