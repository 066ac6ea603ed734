/* SPDX-License-Identifier: BSD-3-Clause
 * Per-operator figures of millrace-model bench: see bench_ops.h.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "models/tool/bench_ops.h"
#include "models/tool/peak.h"
#include "models/tool/steps.h"

enum { PEAK_LOG2 = 25, PEAK_LOWEST_LOG2 = 10 };

int bench_peak_init(struct bench_peak *peak, struct error *err)
{
	*peak = (struct bench_peak){
		.gflops = peak_gflops(), .bytes = aligned_alloc(64, (size_t)1 << PEAK_LOG2)};
	if (!peak->bytes)
		return error_set(err, -ENOMEM, "no memory to measure bandwidth");
	memset(peak->bytes, 1, (size_t)1 << PEAK_LOG2);
	return 0;
}

void bench_peak_free(struct bench_peak *peak)
{
	free(peak->bytes);
}

static double bandwidth(struct bench_peak *peak, double bytes)
{
	int log2 = PEAK_LOWEST_LOG2;

	while (log2 < PEAK_LOG2 && (double)(1ull << log2) < bytes)
		log2++;
	if (peak->read_gbytes[log2] <= 0 && peak->gflops > 0)
		peak->read_gbytes[log2] = peak_read_gbytes(peak->bytes, (size_t)1 << log2);
	return peak->read_gbytes[log2];
}

double bench_row_flops(const struct model *m)
{
	double flops = 0;

	for (uint32_t i = 0; i < m->program.n_ops; i++)
		flops += step_flops(&m->steps[i]);
	return flops;
}

static double tensor_bytes(const struct tensor *t)
{
	return t->dtype ? (double)tensor_elements(t) * wire_dtype_bytes(t->dtype) : 0;
}

/* Looks rows up in operand 0 and does not touch the whole of it. */
static bool looks_up(uint32_t function)
{
	return function == MODEL_FN_GATHER || function == MODEL_FN_EMBEDDING || function == MODEL_FN_LOOKUPS;
}

/* Bytes an operator cannot but touch for n rows. */
static double step_bytes(const struct model *m, const struct step *s, uint32_t n)
{
	const struct model_op *op = &s->op;
	double bytes = 0, rows;

	if (op->kind != MODEL_OP_TENSOR) {
		rows = (double)m->buffers[op->src[0]].elements + m->buffers[op->dst].elements;
		return rows * sizeof(float) * n + (double)op->constant_bytes[1];
	}
	for (uint32_t k = 0; k < s->tensor->op.n_in; k++) {
		double size = tensor_bytes(&s->tensor->op.in[k]);

		if (s->tensor->in[k] != MODEL_NONE)
			bytes += size * n;
		else if (k || !looks_up(s->tensor->op.function))
			bytes += size;
	}
	for (uint32_t k = 0; k < s->tensor->op.n_out; k++)
		bytes += tensor_bytes(&s->tensor->op.out[k]) * n;
	return bytes;
}

static double step_bound_ns(
	const struct model *m, const struct step *s, uint32_t n, struct bench_peak *peak)
{
	double bytes = step_bytes(m, s, n), gbytes = bandwidth(peak, bytes);
	double compute = peak->gflops > 0 ? step_flops(s) * n / peak->gflops : 0;
	double memory = gbytes > 0 ? bytes / gbytes : 0;

	return compute > memory ? compute : memory;
}

double bench_bound_ns(const struct model *m, uint32_t n, struct bench_peak *peak)
{
	double ns = 0;

	for (uint32_t i = 0; i < m->program.n_ops; i++)
		ns += step_bound_ns(m, &m->steps[i], n, peak);
	return ns;
}

/* Time of every part, summed over `times` batches. */
static void time_parts(const struct bench_batch *b, uint64_t *tsc, uint64_t times)
{
	const uint32_t parts = b->m->program.n_ops + 2;

	for (uint64_t i = 0; i < times; i++) {
		uint64_t before = clock_tsc(), now;
		bool more = true;

		run_start(b->r, b->n, b->rows, b->outs);
		for (uint32_t part = 0; more; part = (part + 1) % parts, before = now) {
			more = run_part(b->r);
			now = clock_tsc();
			tsc[part] += now - before;
		}
	}
}

static void print_parts(const struct bench_batch *b, const uint64_t *tsc, double ns_per_tsc,
	struct bench_peak *peak)
{
	const struct model *m = b->m;
	uint64_t sum = 0;

	for (uint32_t i = 0; i < m->program.n_ops + 2; i++)
		sum += tsc[i];
	for (uint32_t i = 0; i < m->program.n_ops; i++) {
		double ns = (double)tsc[i + 1] * ns_per_tsc;

		printf("   op %9.3f %14s %10.1f %7.1f %5.1f%%  ", ns / 1e3, "",
			step_flops(&m->steps[i]) * b->n / ns,
			100 * step_bound_ns(m, &m->steps[i], b->n, peak) / ns,
			100 * (double)tsc[i + 1] / (double)sum);
		step_print(&m->steps[i]);
		printf("\n");
	}
	printf("   op %9.3f %33s %5.1f%%  gather and scatter\n",
		(double)(tsc[0] + tsc[m->program.n_ops + 1]) * ns_per_tsc / 1e3, "",
		100 * (double)(tsc[0] + tsc[m->program.n_ops + 1]) / (double)sum);
}

void bench_ops(const struct bench_batch *b, double seconds, struct bench_peak *peak)
{
	const uint32_t parts = b->m->program.n_ops + 2;
	uint64_t *tsc = calloc(parts, sizeof(*tsc)), start, tsc_start, batches = 0;
	double ns;

	if (!tsc)
		return;
	time_parts(b, tsc, 1);
	memset(tsc, 0, parts * sizeof(*tsc));
	start = clock_now_ns();
	tsc_start = clock_tsc();
	for (; (double)(clock_now_ns() - start) < seconds * 1e9; batches++)
		time_parts(b, tsc, 1);
	ns = (double)(clock_now_ns() - start) / (double)(clock_tsc() - tsc_start);
	print_parts(b, tsc, ns / (double)batches, peak);
	free(tsc);
}
