/* SPDX-License-Identifier: BSD-3-Clause
 * Starting EAL and its lcores: see eal.h.
 */
#include <errno.h>
#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_launch.h>
#include <rte_lcore.h>

#include "eal.h"

int eal_start(const struct dp_config *c, struct error *err)
{
	static struct eal_args args; /* EAL keeps pointers into it */
	int rc = eal_args_build(&args, c, err);

	if (rc)
		return rc;
	if (rte_eal_init(args.n, args.argv) < 0)
		return error_set(err, rte_errno ? -rte_errno : -EIO,
			"DPDK could not start%s%s; its own message is above",
			rte_errno ? ": " : "", rte_errno ? rte_strerror(rte_errno) : "");
	return 0;
}

void eal_stop(void)
{
	rte_eal_cleanup();
}

uint64_t eal_tsc_hz(void)
{
	return rte_get_tsc_hz();
}

int eal_launch(uint32_t index, int (*fn)(void *arg), void *arg)
{
	return rte_eal_remote_launch(fn, arg, index + 1);
}

void eal_join(uint32_t n_workers)
{
	for (uint32_t i = 0; i < n_workers; i++)
		rte_eal_wait_lcore(i + 1);
}
