/* SPDX-License-Identifier: BSD-3-Clause
 * A private mount and network namespace with a bpffs of its own: what a test makes in it is gone when
 * the test ends, however it ends.
 */
#pragma once

/* Enter it. 0, or -errno where this is not allowed (no root, no BPF). Call before any thread. */
int sandbox_enter(void);

/* Path of xdp_filter.bpf.o: ../bin beside the running test. Valid until the next call. */
const char *sandbox_object(void);
