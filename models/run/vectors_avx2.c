/* SPDX-License-Identifier: BSD-3-Clause
 * Vector kernels for AVX2 + FMA: see vector_body.h.
 */
#include "models/run/kernels.h"

#ifdef __AVX2__ /* fuzzers build without: they use the scalar reference */
#include "models/run/vec_avx2.h"

#define VECTORS vectors_avx2
#include "models/run/vector_body.h"
#endif
