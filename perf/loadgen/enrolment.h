/* SPDX-License-Identifier: BSD-3-Clause
 * Many calls to control at once: one TLS connection and one thread each. Control answers a session when the
 * dataplane has taken it, which it looks for every millisecond: one after another, 100,000 take minutes.
 */
#pragma once

#include "client/enrol.h"

struct enrolment;

/* What is done for session `i` of enrolment_each(), through a connection that is this call's alone: 0, or -errno
 * with err. Several run at a time, never two with the same `i`. */
typedef int (*enrolment_fn)(struct enrol *e, uint32_t i, void *arg, struct error *err);

/* Connections for up to `sessions` sessions; none is opened yet. `options` is only read. 0 with *out (undo with
 * enrolment_close()), or -errno with err. */
int enrolment_open(struct enrolment **out, const struct mr_options *options, uint32_t sessions,
	struct error *err);

/* fn for every i in [0, n); returns when all are done. After a failure no new ones begin. 0, or the first
 * failure with err. */
int enrolment_each(struct enrolment *e, uint32_t n, enrolment_fn fn, void *arg, struct error *err);

/* NULL is allowed. */
void enrolment_close(struct enrolment *e);
