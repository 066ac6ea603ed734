/* SPDX-License-Identifier: BSD-3-Clause
 * What this core can do, measured now: the bounds that figures are compared with.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* float32 multiplications and additions in registers, 10^9 a second; the best of several rounds.
 * AVX-512 or AVX2 + FMA, whichever the CPU has; 0 when it has neither. */
double peak_gflops(void);

/* 10^9 bytes a second read over and over from `size` bytes (at least 1024); the best of several
 * rounds. */
double peak_read_gbytes(const uint8_t *bytes, size_t size);
