/* SPDX-License-Identifier: BSD-3-Clause
 * Streaming reads: see reader.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "control/loader/reader.h"

enum { MAX_RETRIES = 10000 };

/* What the ring may do for the rest of its life (io_uring_register(2), IORING_REGISTER_RESTRICTIONS). */
static int restrict_ring(struct io_uring *ring)
{
	struct io_uring_restriction allow[] = {
		{.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_READ},
		{.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_READ_FIXED},
		{.opcode = IORING_RESTRICTION_REGISTER_OP, .register_op = IORING_REGISTER_BUFFERS2},
		{.opcode = IORING_RESTRICTION_REGISTER_OP,
			.register_op = IORING_REGISTER_BUFFERS_UPDATE},
		{.opcode = IORING_RESTRICTION_REGISTER_OP, .register_op = IORING_UNREGISTER_BUFFERS},
		{.opcode = IORING_RESTRICTION_REGISTER_OP, .register_op = IORING_REGISTER_ENABLE_RINGS},
	};
	/* liburing 2.3 declares functions for these two and does not export them */
	if (syscall(SYS_io_uring_register, ring->ring_fd, IORING_REGISTER_RESTRICTIONS, allow,
		    sizeof(allow) / sizeof(allow[0])) < 0 ||
		syscall(SYS_io_uring_register, ring->ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0) < 0)
		return -errno;
	return 0;
}

void reader_init(struct reader *r)
{
	struct io_uring_params p = {.flags = IORING_SETUP_R_DISABLED};
	int rc;

	memset(r, 0, sizeof(*r));
	r->fd = -1;
	rc = io_uring_queue_init_params(READER_DEPTH, &r->ring, &p);
	if (!rc) {
		rc = restrict_ring(&r->ring);
		if (rc)
			io_uring_queue_exit(&r->ring);
	}
	r->uring = rc == 0;
	r->uring_error = -rc;
}

void reader_uninit(struct reader *r)
{
	if (r->uring)
		io_uring_queue_exit(&r->ring);
	r->uring = false;
}

void reader_open(struct reader *r, int fd)
{
	int flags = fcntl(fd, F_GETFL);

	r->fd = fd;
	r->direct = flags >= 0 && (flags & O_DIRECT);
	if (r->direct)
		return;
	if (flags >= 0 && fcntl(fd, F_SETFL, flags | O_DIRECT) == 0)
		r->direct = true;
	else
		r->direct_error = errno;
}

void reader_give_up_direct(struct reader *r)
{
	int flags = fcntl(r->fd, F_GETFL);

	if (flags >= 0)
		fcntl(r->fd, F_SETFL, flags & ~O_DIRECT);
	r->direct = false;
	r->direct_error = EINVAL;
}

static int read_error(struct error *err, uint64_t offset, int code)
{
	return error_set(err, -code, "reading at byte %" PRIu64 ": %s", offset, strerror(code));
}

static int ended_early(struct error *err, uint64_t offset)
{
	return error_set(err, -ENODATA,
		"the file ended at byte %" PRIu64 ": it became shorter while it was read", offset);
}

/* An O_DIRECT read may only go on from an aligned place: the odd rest is read again. */
static uint32_t usable(uint32_t got)
{
	return got & ~(uint32_t)(READER_ALIGN - 1);
}

int reader_at(struct reader *r, uint8_t *dst, uint64_t offset, uint64_t n, uint64_t file_bytes,
	struct error *err)
{
	uint64_t end = (offset + n + READER_ALIGN - 1) & ~(uint64_t)(READER_ALIGN - 1);
	uint64_t at = offset & ~(uint64_t)(READER_ALIGN - 1), base = at;
	uint64_t need = offset + n < file_bytes ? offset + n : file_bytes;

	while (at < need) {
		ssize_t got = pread(r->fd, dst + (at - base), end - at, (off_t)at);

		if (got < 0 && (errno == EINTR || errno == EAGAIN) && r->retries++ < MAX_RETRIES)
			continue;
		if (got < 0)
			return read_error(err, at, errno);
		if (at + (uint64_t)got >= need)
			return 0;
		if (got == 0 || r->retries++ >= MAX_RETRIES)
			return ended_early(err, at + (uint64_t)got);
		at += usable((uint32_t)got);
	}
	return 0;
}

static int stream_by_pread(struct reader *r, reader_done done, void *arg, struct error *err)
{
	for (uint64_t at = 0; at < r->bytes;) {
		uint64_t left = r->bytes - at;
		uint32_t n = left < READER_BLOCK ? (uint32_t)left : READER_BLOCK;
		int rc = reader_at(r, r->dst + at, at, n, r->bytes, err);

		if (!rc)
			rc = done(arg, at, n, err);
		if (rc)
			return rc;
		at += n;
	}
	return 0;
}

/* Pin the next slice of the destination. Registering slice by slice, while reads are in flight,
 * hides the zeroing of fresh pages behind the disk. Failure is no error: reads go on unpinned. */
static void register_slice(struct reader *r, uint64_t upto)
{
	while (r->registered && r->registered_bytes < upto) {
		uint64_t left = r->bytes - r->registered_bytes;
		struct iovec iov = {r->dst + r->registered_bytes,
			left < READER_SLICE ? left : READER_SLICE};
		__u64 tag = 0;
		unsigned int slot = (unsigned int)(r->registered_bytes / READER_SLICE);
		int rc = io_uring_register_buffers_update_tag(&r->ring, slot, &iov, &tag, 1);

		if (rc != 1) {
			r->register_error = rc < 0 ? -rc : EIO;
			return;
		}
		r->registered_bytes += iov.iov_len;
	}
}

static void open_buffer_table(struct reader *r)
{
	uint64_t slices = (r->bytes + READER_SLICE - 1) / READER_SLICE;
	int rc = slices > READER_MAX_SLICES
			 ? -E2BIG
			 : io_uring_register_buffers_sparse(&r->ring, (unsigned int)slices);

	r->registered_bytes = 0;
	r->registered = rc == 0;
	r->register_error = -rc;
}

static void close_buffer_table(struct reader *r)
{
	if (r->registered)
		io_uring_unregister_buffers(&r->ring); /* pinned pages would make sealing fail */
	r->registered = false;
}

/* Ask for what is missing of block `slot`. */
static void submit_block(struct reader *r, uint32_t slot)
{
	const struct reader_block *b = &r->blocks[slot];
	uint64_t at = b->offset + b->got;
	struct io_uring_sqe *sqe = io_uring_get_sqe(&r->ring); /* never NULL: ring size = depth */

	if (b->offset + b->want <= r->registered_bytes)
		io_uring_prep_read_fixed(sqe, r->fd, r->dst + at, b->want - b->got, at,
			(int)(b->offset / READER_SLICE));
	else
		io_uring_prep_read(sqe, r->fd, r->dst + at, b->want - b->got, at);
	io_uring_sqe_set_data64(sqe, slot);
	r->in_flight++;
}

static void submit_more(struct reader *r)
{
	while (r->n_free && r->next < r->bytes) {
		uint64_t left = r->bytes - r->next;
		uint32_t slot = r->free_blocks[--r->n_free];
		struct reader_block *b = &r->blocks[slot];

		b->offset = r->next;
		b->want = left < READER_BLOCK ? (uint32_t)left : READER_BLOCK;
		b->got = 0;
		if (!r->register_error && r->next + b->want > r->registered_bytes)
			register_slice(r, r->next + b->want);
		r->next += b->want;
		submit_block(r, slot);
	}
}

/* One completion of block `slot`. Returns 1 when the block is complete, 0 when it was asked for again. */
static int complete(struct reader *r, uint32_t slot, int res, struct error *err)
{
	struct reader_block *b = &r->blocks[slot];

	r->in_flight--;
	if (res < 0 && res != -EINTR && res != -EAGAIN)
		return read_error(err, b->offset + b->got, -res);
	if (res == 0)
		return ended_early(err, b->offset + b->got);
	if (res > 0 && b->got + (uint32_t)res >= b->want)
		return 1;
	if (r->retries++ >= MAX_RETRIES)
		return read_error(err, b->offset + b->got, res < 0 ? -res : EIO);
	b->got += res > 0 ? usable((uint32_t)res) : 0;
	submit_block(r, slot);
	return 0;
}

static int reap(struct reader *r, reader_done done, void *arg, struct error *err)
{
	struct io_uring_cqe *cqe;

	while (io_uring_peek_cqe(&r->ring, &cqe) == 0) {
		uint32_t slot = (uint32_t)io_uring_cqe_get_data64(cqe);
		struct reader_block b;
		int res = cqe->res, rc;

		io_uring_cqe_seen(&r->ring, cqe);
		rc = complete(r, slot, res, err);
		if (rc < 0)
			return rc;
		if (rc == 0)
			continue;
		b = r->blocks[slot];
		r->free_blocks[r->n_free++] = slot;
		submit_more(r); /* keep the disk busy before hashing */
		io_uring_submit(&r->ring);
		rc = done(arg, b.offset, b.want, err);
		if (rc)
			return rc;
	}
	return 0;
}

/* After an error: let what is in flight land before the memory goes away. */
static void drain(struct reader *r)
{
	struct io_uring_cqe *cqe;

	io_uring_submit(&r->ring);
	while (r->in_flight && io_uring_wait_cqe(&r->ring, &cqe) == 0) {
		io_uring_cqe_seen(&r->ring, cqe);
		r->in_flight--;
	}
}

static int stream_by_uring(struct reader *r, reader_done done, void *arg, struct error *err)
{
	int rc = 0;

	r->next = 0;
	r->in_flight = 0;
	r->n_free = READER_DEPTH;
	for (uint32_t i = 0; i < READER_DEPTH; i++)
		r->free_blocks[i] = i;
	open_buffer_table(r);
	submit_more(r);
	while (!rc && r->in_flight) {
		int n = io_uring_submit_and_wait(&r->ring, 1);

		if (n < 0 && n != -EINTR && n != -EAGAIN && n != -EBUSY)
			rc = error_set(err, n, "io_uring: %s", strerror(-n));
		else
			rc = reap(r, done, arg, err);
	}
	drain(r);
	close_buffer_table(r);
	return rc;
}

int reader_stream(struct reader *r, uint8_t *dst, uint64_t bytes, reader_done done, void *arg,
	struct error *err)
{
	r->dst = dst;
	r->bytes = bytes;
	return r->uring ? stream_by_uring(r, done, arg, err) : stream_by_pread(r, done, arg, err);
}
