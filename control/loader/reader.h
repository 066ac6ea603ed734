/* SPDX-License-Identifier: BSD-3-Clause
 * Streaming a file into memory: io_uring with O_DIRECT at a fixed depth, or pread when there is no
 * io_uring. Blocks are handed on as they complete, in any order.
 */
#pragma once

#include <liburing.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

enum {
	READER_ALIGN = 4096,         /* of offsets, lengths and memory: enough for any O_DIRECT */
	READER_BLOCK = 1024 * 1024,  /* one read; figures in control/loader/README.md */
	READER_DEPTH = 16,           /* reads in flight */
	READER_SLICE = 32 * 1024 * 1024, /* memory pinned at a time */
	READER_MAX_SLICES = 2048,    /* 64 GiB; anything longer is read unregistered */
};

struct reader_block {
	uint64_t offset;
	uint32_t want;
	uint32_t got;
};

struct reader {
	struct io_uring ring;
	bool uring;          /* ring exists; else pread */
	bool registered;     /* a buffer table exists in the ring */
	bool direct;         /* the file is open with O_DIRECT */
	int uring_error;     /* why not, errno */
	int register_error;  /* why buffers are not registered, errno */
	int direct_error;
	uint32_t retries;    /* reads repeated after a short count, EINTR or EAGAIN */
	uint32_t in_flight;
	uint32_t n_free;
	uint32_t free_blocks[READER_DEPTH];
	struct reader_block blocks[READER_DEPTH];
	uint8_t *dst;
	uint64_t bytes;
	uint64_t next;       /* first offset not yet asked for */
	uint64_t registered_bytes; /* dst[0..) that is pinned so far */
	int fd;
};

/* One block is in memory: dst[offset .. offset + bytes). Not 0 stops the stream with that error. */
typedef int (*reader_done)(void *arg, uint64_t offset, uint32_t bytes, struct error *err);

/* Create the ring and restrict it to reads and buffer registration, so that it cannot be used to get
 * round the system-call filter. Without io_uring the reader works by pread and uring_error says why. */
void reader_init(struct reader *r);
void reader_uninit(struct reader *r);

/* Use `fd`, with O_DIRECT when the file system has it (direct, direct_error). */
void reader_open(struct reader *r, int fd);

/* The file system refuses O_DIRECT reads after all: go on through the page cache. */
void reader_give_up_direct(struct reader *r);

/* Read exactly `n` bytes at `offset`; both are rounded outwards to READER_ALIGN, `dst` is aligned and
 * has the room. `file_bytes` ends the file. 0, or -EIO..., -ENODATA when the file is shorter. */
int reader_at(struct reader *r, uint8_t *dst, uint64_t offset, uint64_t n, uint64_t file_bytes,
	struct error *err);

/* Stream [0, bytes) (a multiple of READER_ALIGN) to `dst`, calling `done` for every block. Returns 0 or
 * -errno with err; no read is in flight and nothing is pinned afterwards either way. */
int reader_stream(struct reader *r, uint8_t *dst, uint64_t bytes, reader_done done, void *arg,
	struct error *err);
