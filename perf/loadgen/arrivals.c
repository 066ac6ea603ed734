/* SPDX-License-Identifier: BSD-3-Clause
 * Open-loop arrivals: see arrivals.h.
 */
#include <math.h>

#include "perf/loadgen/arrivals.h"
#include "perf/loadgen/random.h"

void arrivals_init(struct arrivals *a, double rate, uint64_t tsc_hz, bool poisson, uint64_t seed,
	uint64_t start_tsc)
{
	a->next_tsc = (double)start_tsc;
	a->gap_tsc = (double)tsc_hz / rate;
	a->poisson = poisson;
	a->random = random_seed(seed + 2);
}

bool arrivals_take(struct arrivals *a, uint64_t now_tsc, uint64_t *intended_tsc)
{
	if ((double)now_tsc < a->next_tsc)
		return false;
	*intended_tsc = (uint64_t)a->next_tsc;
	a->next_tsc += a->poisson ? -log(1.0 - random_unit(&a->random)) * a->gap_tsc : a->gap_tsc;
	return true;
}
