/* SPDX-License-Identifier: BSD-3-Clause
 * Vector kernels for AVX-512: see vector_body.h.
 */
#include "models/run/kernels.h"

#ifdef __AVX512F__ /* fuzzers build without: they use the scalar reference */
#include "models/run/vec_avx512.h"

#define VECTORS vectors_avx512
#include "models/run/vector_body.h"
#endif
