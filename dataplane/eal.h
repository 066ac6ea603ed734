/* SPDX-License-Identifier: BSD-3-Clause
 * DPDK's environment layer, started from the typed configuration: lcore 0 is the service thread,
 * lcores 1.. are the workers, each on the CPU the configuration names.
 */
#pragma once

#include "abi/config.h"
#include "base/error.h"

enum { EAL_MAX_ARGS = 32, EAL_ARG_BYTES = 512 };

struct eal_args {
	int n;
	char *argv[EAL_MAX_ARGS + 1]; /* into text; EAL may reorder the pointers */
	char text[EAL_MAX_ARGS][EAL_ARG_BYTES];
};

/* Pure: the argument list for `c`. 0, or -E2BIG. */
int eal_args_build(struct eal_args *a, const struct dp_config *c, struct error *err);

/* Are there enough free huge pages? Looked up before EAL, whose own message does not say what to do. Waits up to 3 s for those of a
 * dataplane that has just died. 0, or -ENOMEM. */
int eal_preflight(const struct dp_config *c, struct error *err);

/* Start EAL. The calling thread becomes lcore 0. */
int eal_start(const struct dp_config *c, struct error *err);
void eal_stop(void);

/* TSC ticks a second, as EAL has measured them (to 10 MHz): measuring again costs a start 20 ms. */
uint64_t eal_tsc_hz(void);

/* Run fn(arg) on the lcore of worker `index`; wait for all of them. */
int eal_launch(uint32_t index, int (*fn)(void *arg), void *arg);
void eal_join(uint32_t n_workers);
