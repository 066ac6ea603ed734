/* SPDX-License-Identifier: BSD-3-Clause
 * The loader's cage: no new privileges, limits, and a system-call filter that leaves it reading from
 * descriptors it already has. No open, no socket, no exec, no new ring.
 */
#pragma once

#include "base/error.h"

/* Close the cage for the rest of this process. What the filter does not list kills the process with
 * SIGSYS. Returns 0, or -errno when the filter could not be installed (err says why); limits and
 * no_new_privs are set all the same. */
int sandbox_enter(struct error *err);
