/* SPDX-License-Identifier: BSD-3-Clause
 * Denormals cost a hundred cycles each and mean nothing to a model: threads that run models flush them.
 */
#pragma once

#include <immintrin.h>

/* FTZ and DAZ, for the calling thread. */
static inline void denormals_flush(void)
{
	_mm_setcsr(_mm_getcsr() | 0x8040);
}
