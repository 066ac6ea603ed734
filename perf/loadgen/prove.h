/* SPDX-License-Identifier: BSD-3-Clause
 * Path challenge (abi/wire.h) for every provisional session, over the transport of the run.
 */
#pragma once

#include "perf/loadgen/sessions.h"
#include "perf/loadgen/transport.h"

/* 0, or -ETIMEDOUT or -EPROTO with err. Nothing else may be in flight. */
int prove_sessions(struct bench_sessions *s, struct transport *t, struct error *err);
