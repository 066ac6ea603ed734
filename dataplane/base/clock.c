/* SPDX-License-Identifier: BSD-3-Clause
 * TSC calibration: see clock.h.
 */
#include "base/clock.h"

uint64_t clock_tsc_hz(void)
{
	struct timespec nap = {0, 20000000};
	uint64_t ns0 = clock_now_ns(), tsc0 = clock_tsc();
	uint64_t ns, tsc;

	nanosleep(&nap, NULL);
	tsc = clock_tsc() - tsc0;
	ns = clock_now_ns() - ns0;
	return (uint64_t)((double)tsc * 1e9 / (double)ns);
}
