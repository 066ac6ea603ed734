/* SPDX-License-Identifier: BSD-3-Clause
 * The AVX-512 dense kernels by SIMDe: the tables of all three families.
 */
#include "tests/models/simde.h"

#define kernels_avx512 kernels_simde
#define vectors_avx512 vectors_scalar
#define dense_vnni_int8 simde_vnni_int8
#define dense_dot_bf16 simde_dot_bf16
#include "models/run/kernel_avx512.c"

const struct kernels *simde_family(size_t i)
{
	return i < sizeof(families) / sizeof(families[0]) ? &families[i] : NULL;
}
