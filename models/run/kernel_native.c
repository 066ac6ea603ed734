/* SPDX-License-Identifier: BSD-3-Clause
 * Which native kernel family this CPU and this kernel's saved register state allow.
 */
#include "models/run/kernels.h"

const struct kernels *kernels_native(void)
{
	static const struct kernels *chosen; /* same answer in every thread: a benign race */
	const struct kernels *k = __atomic_load_n(&chosen, __ATOMIC_RELAXED);

	if (k)
		return k;
	k = &kernels_scalar;
	if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && kernels_avx2())
		k = kernels_avx2();
	if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
		__builtin_cpu_supports("avx512vl") && kernels_avx512())
		k = kernels_avx512();
	__atomic_store_n(&chosen, k, __ATOMIC_RELAXED);
	return k;
}
