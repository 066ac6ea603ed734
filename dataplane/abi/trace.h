/* SPDX-License-Identifier: BSD-3-Clause
 * Input rows of one model between control and the workers, in a memfd of control: recorded from traffic into
 * it, or read from it to warm the model's response caches. One at a time.
 *
 *   +--------------+------ 4096 -+-------+-------+ ...
 *   | trace_header |             | row 0 | row 1 |
 *   +--------------+-------------+-------+-------+
 *
 * control: region, LINK_OFFER, CMD_TRACE_BEGIN ... looks at the counters ... CMD_TRACE_END. After that has been
 * acknowledged no worker touches the region. Rows are what subscribers sent: whoever holds the region, or a
 * file made of it, holds their data.
 */
#pragma once

#include "abi/config.h"
#include "abi/types.h"

#define TRACE_MAGIC 0x31435254524c494dull /* "MILRTRC1" */

enum {
	TRACE_VERSION = 1,
	TRACE_ROWS_AT = 4096,
	TRACE_MAX_BYTES = 32 << 20, /* of rows */
};

#define TRACE_EVERYBODY UINT32_MAX

enum trace_kind { TRACE_WARM = 1, TRACE_RECORD = 2 };
enum trace_state { TRACE_GOING = 0, TRACE_DONE = 1, TRACE_STALE = 2 };

struct trace_progress {
	uint64_t rows;  /* warming: looked at */
	uint64_t kept;  /* of them, answers this worker computed and put into its cache */
	uint32_t state; /* enum trace_state; TRACE_STALE: its model or its cache is not current any more */
} MR_ALIGNED(64);

struct trace_header {
	/* written by control before it offers the region */
	uint64_t magic;
	uint32_t version;
	uint32_t kind;        /* enum trace_kind */
	uint32_t model_index;
	uint32_t subscriber;  /* limiter slot whose rows they are; TRACE_EVERYBODY */
	uint32_t row_bytes;   /* of the model's input */
	uint32_t n_rows;      /* warming: there are; recording: there is room for */
	uint64_t total_bytes;
	/* written by workers */
	uint64_t taken MR_ALIGNED(64);                /* recording: places given out; may pass n_rows */
	struct trace_progress workers[DP_MAX_WORKERS]; /* warming */
};

STATIC_ASSERT(sizeof(struct trace_header) <= TRACE_ROWS_AT, "the rows come after it");

static inline uint64_t trace_bytes(uint32_t n_rows, uint32_t row_bytes)
{
	return TRACE_ROWS_AT + (uint64_t)n_rows * row_bytes;
}
