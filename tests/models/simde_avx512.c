/* SPDX-License-Identifier: BSD-3-Clause
 * The AVX-512 vector kernels by SIMDe.
 */
#include "tests/models/simde.h"

#define vectors_avx512 vectors_simde
#include "models/run/vectors_avx512.c"
