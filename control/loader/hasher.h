/* SPDX-License-Identifier: BSD-3-Clause
 * SHA-256 of 32 KiB chunks against a list, many at once (ipsec-mb's job manager, up to 16 lanes:
 * 5.3 GB/s on one core where a single stream gives 1.8, shared/measured.md).
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "abi/model_file.h"
#include "base/error.h"

struct hasher {
	struct IMB_MGR *mgr;
	const uint8_t *list; /* expected hashes, caller-owned */
	uint64_t queued;     /* chunks taken */
	uint64_t good;       /* chunks that matched */
	uint64_t bad;        /* first mismatch found, UINT64_MAX = none */
	int failed;          /* the job manager reported an error */
	uint8_t (*digests)[MODEL_FILE_HASH_BYTES];
};

/* 0 or -ENOMEM. The list is set by hasher_start(). */
int hasher_init(struct hasher *h);
void hasher_uninit(struct hasher *h);

/* Begin with `list`, n_chunks x 32 bytes, which must stay valid. */
void hasher_start(struct hasher *h, const uint8_t *list);

/* Queue chunk number `chunk` at `data`; results of earlier ones are compared on the way. `data` must
 * stay unchanged until hasher_finish(). */
void hasher_add(struct hasher *h, const uint8_t *data, uint64_t chunk);

/* Complete everything queued. 0 when n_chunks matched, else -EBADMSG naming the first bad chunk. */
int hasher_finish(struct hasher *h, uint64_t n_chunks, struct error *err);
