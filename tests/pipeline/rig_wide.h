/* SPDX-License-Identifier: BSD-3-Clause
 * A rig with a second model, "wide", whose requests and replies take several datagrams: 16 bytes a row in,
 * 12 out, WIDE_COST units a row, rows t_rows[]. The limiter slot is 0's, the client may be any.
 */
#pragma once

#include "rig.h"

enum {
	WIDE_ROWS = 1144, /* 16 full segments in, 12 out */
	WIDE_COST = 5,
	ROW_IN = RIG_IN * sizeof(float),
	ROW_OUT = RIG_OUT * sizeof(float),
	SEGMENT_ROWS = WIRE_SEGMENT_ROW_BYTES / ROW_IN, /* 71, and half a row */
};

extern float t_rows[WIDE_ROWS][RIG_IN]; /* filled by t_set_up() */

int t_set_up(void **state); /* for cmocka, with rig_tear_down() */

/* Rows that fill exactly `n` segments, the last one partly. */
uint16_t t_rows_of(uint32_t n);
/* A request of so many segments. */
struct wire_request t_wide(uint64_t id, uint32_t segments);
/* Put its segment `k` before the worker; t_send() also polls. */
void t_put(struct rig *r, struct rig_client *c, struct wire_request q, uint32_t k);
void t_send(struct rig *r, struct rig_client *c, struct wire_request q, uint32_t k);

/* Everything the worker has sent, to `c`: one reply of however many segments, checked against each other, or
 * nothing (false). */
bool t_take(struct rig *r, struct rig_client *c, struct wire_reply *head, float *out);
/* The same, and what it must be; the books must balance. */
void t_result(struct rig *r, struct rig_client *c, uint64_t id, uint16_t n_rows);
void t_status(struct rig *r, struct rig_client *c, enum wire_status status, uint16_t detail);
void t_silence(struct rig *r);

/* Limiter units charged so far. */
uint64_t t_units(const struct rig *r);
