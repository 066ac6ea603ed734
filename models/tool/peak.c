/* SPDX-License-Identifier: BSD-3-Clause
 * The core's limits: see peak.h.
 */
#include "base/clock.h"
#include "base/prefetch.h"
#include "models/tool/peak.h"

enum { ROUNDS = 7, SLICE_NS = 2000000, BLOCK_BYTES = 1024, AHEAD_BYTES = 2048 };

/* 16 independent FMA chains, 8 steps each: enough to fill two pipes of four cycles. Returns lanes.
 */
static unsigned fma_block(uint64_t times)
{
	if (__builtin_cpu_supports("avx512f")) {
		for (uint64_t i = 0; i < times; i++)
			__asm__ volatile(".rept 8\n"
					 ".irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
					 "vfmadd231ps %%zmm16, %%zmm17, %%zmm\\r\n"
					 ".endr\n.endr" ::
						 : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5",
					 "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
					 "xmm13", "xmm14", "xmm15");
		return 16;
	}
	for (uint64_t i = 0; i < times; i++)
		__asm__ volatile(".rept 8\n"
				 ".irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13\n"
				 "vfmadd231ps %%ymm14, %%ymm15, %%ymm\\r\n"
				 ".endr\n.endr\nvzeroupper" ::
					 : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6",
				 "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13",
				 "xmm14", "xmm15");
	return 8;
}

double peak_gflops(void)
{
	double best = 0;

	if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
		return 0;
	for (int r = 0; r < ROUNDS; r++) {
		const uint64_t times = 10000;
		uint64_t t0 = clock_now_ns();
		unsigned lanes = fma_block(times), chains = lanes == 16 ? 16 : 14;
		double ns = (double)(clock_now_ns() - t0);
		double gflops = 2.0 * lanes * chains * 8 * (double)times / ns;

		best = gflops > best ? gflops : best;
	}
	return best;
}

static void read_block(const uint8_t *p)
{
	if (__builtin_cpu_supports("avx512f"))
		__asm__ volatile(
			".irp o,0,64,128,192,256,320,384,448,512,576,640,704,768,832,896,960\n"
			"vmovups \\o(%0), %%zmm0\n.endr" ::"r"(p)
			: "xmm0", "memory");
	else
		__asm__ volatile(
			".irp o,0,64,128,192,256,320,384,448,512,576,640,704,768,832,896,960\n"
			"vmovups \\o(%0), %%ymm0\nvmovups \\o+32(%0), %%ymm1\n.endr" ::"r"(p)
			: "xmm0", "xmm1", "memory");
}

static double read_gbytes(const uint8_t *bytes, size_t size, size_t ahead)
{
	uint64_t t0 = clock_now_ns(), total = 0;

	do {
		for (size_t at = 0; at + BLOCK_BYTES <= size; at += BLOCK_BYTES) {
			if (ahead)
				prefetch_lines(bytes + at + ahead, BLOCK_BYTES);
			read_block(bytes + at);
		}
		total += size;
	} while (clock_now_ns() - t0 < SLICE_NS);
	return (double)total / (double)(clock_now_ns() - t0);
}

/* Reading is fastest as the CPU fetches by itself, or, from behind its second cache, asked ahead. */
double peak_read_gbytes(const uint8_t *bytes, size_t size)
{
	double best = 0;

	for (int r = 0; r < 2 * ROUNDS; r++) {
		double rate = read_gbytes(bytes, size, r % 2 ? AHEAD_BYTES : 0);

		best = rate > best ? rate : best;
	}
	return best;
}
