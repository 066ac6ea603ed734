/* SPDX-License-Identifier: BSD-3-Clause
 * The dot-product kernels of AVX512-VNNI and AVX512-BF16 by SIMDe.
 */
#include "tests/models/simde.h"

#define DOT_BY_INTRINSICS
#define vectors_avx512 vectors_scalar
#define dense_vnni_int8 simde_vnni_int8
#define dense_dot_bf16 simde_dot_bf16
#include "models/run/dense_dot512.c"
