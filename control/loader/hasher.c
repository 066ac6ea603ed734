/* SPDX-License-Identifier: BSD-3-Clause
 * Multi-buffer SHA-256 of chunks: see hasher.h.
 */
#include <errno.h>
#include <inttypes.h>
#include <intel-ipsec-mb.h>
#include <stdlib.h>
#include <string.h>

#include "control/loader/hasher.h"

/* The manager queues at most 256 jobs and returns them in order, so a digest's place is free again
 * long before its number comes round. */
enum { DIGESTS = 512 };

int hasher_init(struct hasher *h)
{
	memset(h, 0, sizeof(*h));
	h->digests = calloc(DIGESTS, sizeof(*h->digests));
	h->mgr = alloc_mb_mgr(0);
	if (h->mgr)
		init_mb_mgr_auto(h->mgr, NULL);
	if (h->digests && h->mgr && !imb_get_errno(h->mgr))
		return 0;
	hasher_uninit(h);
	return -ENOMEM;
}

void hasher_uninit(struct hasher *h)
{
	if (h->mgr)
		free_mb_mgr(h->mgr);
	free(h->digests);
	h->mgr = NULL;
	h->digests = NULL;
}

void hasher_start(struct hasher *h, const uint8_t *list)
{
	h->list = list;
	h->queued = 0;
	h->good = 0;
	h->bad = UINT64_MAX;
	h->failed = 0;
}

static void take(struct hasher *h, const IMB_JOB *job)
{
	uint64_t chunk = (uint64_t)(uintptr_t)job->user_data;

	if (job->status != IMB_STATUS_COMPLETED)
		h->failed = 1;
	else if (!memcmp(job->auth_tag_output, h->list + chunk * MODEL_FILE_HASH_BYTES,
			 MODEL_FILE_HASH_BYTES))
		h->good++;
	else if (chunk < h->bad)
		h->bad = chunk;
}

void hasher_add(struct hasher *h, const uint8_t *data, uint64_t chunk)
{
	IMB_JOB *job = IMB_GET_NEXT_JOB(h->mgr);

	memset(job, 0, sizeof(*job));
	job->cipher_mode = IMB_CIPHER_NULL;
	job->cipher_direction = IMB_DIR_ENCRYPT;
	job->chain_order = IMB_ORDER_HASH_CIPHER;
	job->hash_alg = IMB_AUTH_SHA_256;
	job->src = data;
	job->msg_len_to_hash_in_bytes = MODEL_FILE_CHUNK;
	job->auth_tag_output = h->digests[h->queued++ % DIGESTS];
	job->auth_tag_output_len_in_bytes = MODEL_FILE_HASH_BYTES;
	job->user_data = (void *)(uintptr_t)chunk;
	job = IMB_SUBMIT_JOB(h->mgr);
	if (!job && imb_get_errno(h->mgr))
		h->failed = 1;
	for (; job; job = IMB_GET_COMPLETED_JOB(h->mgr))
		take(h, job);
}

int hasher_finish(struct hasher *h, uint64_t n_chunks, struct error *err)
{
	IMB_JOB *job;

	while ((job = IMB_FLUSH_JOB(h->mgr)))
		take(h, job);
	if (h->bad != UINT64_MAX)
		return error_set(err, -EBADMSG,
			"chunk %" PRIu64 " (bytes %" PRIu64 " to %" PRIu64
			") does not match its SHA-256: damaged on the disk or on the way",
			h->bad, h->bad * MODEL_FILE_CHUNK, (h->bad + 1) * MODEL_FILE_CHUNK - 1);
	if (h->failed || h->good != n_chunks)
		return error_set(err, -EIO, "hashing failed after %" PRIu64 " of %" PRIu64 " chunks",
			h->good, n_chunks);
	return 0;
}
