/* SPDX-License-Identifier: BSD-3-Clause
 * What control and its sandboxed child millrace-loader say to each other over one SOCK_SEQPACKET
 * pair (the child's fd 3). Control opens the file, so the child never touches a path.
 *
 * control -> loader: one struct loader_request with the artifact's fd.
 * loader -> control: struct loader_reply, LOADER_PROGRESS any number of times, then exactly one of
 * LOADER_DONE (with the sealed memfd, read-only description) or LOADER_REFUSED (text). Then it exits.
 */
#pragma once

#include <stdint.h>

#include "abi/model_file.h"

enum { LOADER_FD = 3, LOADER_MAGIC = 0x444c524d };

struct loader_request {
	uint32_t magic;
	uint32_t want_huge_pages;   /* 1 = try MFD_HUGETLB first */
	uint32_t require_signature; /* 1 = refuse an unsigned artifact */
	uint32_t n_keys;            /* trusted public keys that follow */
	uint8_t keys[8][MODEL_FILE_PUBLIC_KEY_BYTES];
};

enum loader_kind { LOADER_PROGRESS = 1, LOADER_DONE = 2, LOADER_REFUSED = 3 };

struct loader_reply {
	uint32_t magic;
	uint32_t kind; /* enum loader_kind */
	uint64_t bytes_done;
	uint64_t bytes_total;
	uint64_t elapsed_ns;
	uint32_t huge_pages; /* 1 = the memfd is on huge pages */
	uint32_t direct_io;  /* 1 = O_DIRECT was used */
	uint32_t io_uring;   /* 1 = io_uring, 0 = pread */
	uint32_t signed_by;  /* index of the key + 1, 0 = unsigned */
	uint8_t artifact_id[MODEL_FILE_HASH_BYTES];
	struct model_file_header header; /* LOADER_DONE: the verified header */
	char text[256]; /* DONE: fallbacks taken and why, or empty; REFUSED: the reason */
};
