/* SPDX-License-Identifier: BSD-3-Clause
 * Keyed hashes of what clients send: of one datagram's plaintext, to tell a retry from another request under
 * the same id, and of one input row, to find its answer again (cache.h).
 *
 * GHASH (NIST SP 800-38D) over header, length and rows, cut to 64 bits, under a key drawn at start and
 * told to nobody: whoever does not know it finds two different texts with the same hash with a chance of
 * at most 77 / 2^64 a try (texts are at most 77 blocks long), and each try costs a limiter unit.
 */
#pragma once

#include "abi/wire.h"

struct IMB_MGR;
struct gcm_key_data;

struct text_hash {
	struct IMB_MGR *mgr;      /* CPU-dispatched function table */
	struct gcm_key_data *key; /* secret */
};

/* Draw a key; 0.3 ms. 0, -ENOMEM or -EIO (no random numbers). */
int text_hash_init(struct text_hash *h);
void text_hash_uninit(struct text_hash *h); /* zeroed is allowed */

/* Hash of the datagram that carries `q` and rows[0..n): 45 ns for 128 bytes, 233 for 1,144 (bench_store,
 * AMD Zen 3). */
uint64_t text_hash(const struct text_hash *h, const struct wire_request *q, const uint8_t *rows, uint32_t n);

/* A hash that is not looked behind: whoever has it has, for all purposes, the same row. */
struct text_tag {
	uint64_t word[2];
};

/* Tag of the `n` > 0 bytes of a row. GHASH in full, 128 bits: two different rows of the same length have the
 * same tag with a chance of at most ceil(n / 16) / 2^128 (the difference is a polynomial of that degree in a
 * key nobody knows), so a thousand million rows kept and as many asked for every second of a year meet one
 * another's with a chance below 10^-9 (rows of 1 KiB). Rows of different lengths must not be compared. */
struct text_tag text_tag(const struct text_hash *h, const uint8_t *row, uint32_t n);
