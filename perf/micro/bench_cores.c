/* SPDX-License-Identifier: BSD-3-Clause
 * Two cores, a model each: what a core loses when the other one works too. A lock inside the
 * kernels would show; so would hardware the cores share, which a loop of multiplications in
 * registers and one of reads from the first cache tell apart from it. One JSON row on stdout. Run
 * from the repository's root after the artifacts are built ($BUILD/models, build by default).
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "models/run/model.h"

enum { CORES = 2, ROUNDS = 7, TURN_NS = 60000000, ROWS = 32 };

/* What a core does: a model's batches, or with r == NULL the loop in registers. */
struct work {
	struct run *r;
	const void *rows[ROWS];
	void *outs[ROWS];
	int cpu;
	double rate;
	pthread_barrier_t *start; /* NULL: alone */
};

static void multiply_in_registers(void)
{
	for (int i = 0; i < 200; i++)
		__asm__ volatile(".rept 8\n"
				 ".irp r,0,1,2,3,4,5,6,7,8,9\n"
				 "mulps %%xmm14, %%xmm\\r\n"
				 ".endr\n.endr" ::
					 : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6",
				 "xmm7", "xmm8", "xmm9");
}

static void *turn(void *arg)
{
	struct work *w = arg;
	uint64_t start, times = 0, now;
	cpu_set_t cpu;

	CPU_ZERO(&cpu);
	CPU_SET((size_t)w->cpu, &cpu);
	sched_setaffinity(0, sizeof(cpu), &cpu);
	if (w->start)
		pthread_barrier_wait(w->start);
	start = clock_now_ns();
	do {
		if (w->r) {
			run_start(w->r, ROWS, w->rows, w->outs);
			run_step(w->r, UINT64_MAX);
		} else {
			multiply_in_registers();
		}
		times++;
		now = clock_now_ns();
	} while (now - start < TURN_NS);
	w->rate = (double)times / (double)(now - start);
	return NULL;
}

static void both(struct work *w)
{
	pthread_barrier_t start;
	pthread_t other;

	pthread_barrier_init(&start, NULL, CORES);
	w[0].start = w[1].start = &start;
	pthread_create(&other, NULL, turn, &w[1]);
	turn(&w[0]);
	pthread_join(other, NULL);
	w[0].start = w[1].start = NULL;
	pthread_barrier_destroy(&start);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* The worse core's loss in percent: median over rounds of alone against together, in turns. */
static double loss_pct(struct work *w)
{
	double lost[CORES][ROUNDS];

	for (int r = 0; r < ROUNDS; r++) {
		double alone[CORES];

		for (int c = 0; c < CORES; c++) {
			turn(&w[c]);
			alone[c] = w[c].rate;
		}
		both(w);
		for (int c = 0; c < CORES; c++)
			lost[c][r] = 100 * (1 - w[c].rate / alone[c]);
	}
	for (int c = 0; c < CORES; c++)
		qsort(lost[c], ROUNDS, sizeof(lost[c][0]), compare);
	return lost[0][ROUNDS / 2] > lost[1][ROUNDS / 2] ? lost[0][ROUNDS / 2]
							 : lost[1][ROUNDS / 2];
}

/* An artifact's run with made-up rows; lives until the program ends. */
static int work_open(struct work *w, const char *name, enum model_backend backend)
{
	const char *build = getenv("BUILD");
	const struct model_file_header *h;
	struct error err;
	struct model *m;
	char path[256];
	uint8_t *image = NULL, *io;
	size_t size;
	FILE *f;

	snprintf(path, sizeof(path), "%s/models/%s.mrm", build ? build : "build", name);
	f = fopen(path, "rb");
	if (f && !fseek(f, 0, SEEK_END) && (size = (size_t)ftell(f)) > 0) {
		rewind(f);
		image = aligned_alloc(4096, (size + 4095) / 4096 * 4096);
		if (image && fread(image, 1, size, f) != size)
			image = NULL;
	}
	if (!image || model_open(&m, image, size, backend, &err)) {
		fprintf(stderr, "bench_cores: %s: %s\n", path, image ? err.text : "not readable");
		return -EINVAL;
	}
	fclose(f);
	h = model_header(m);
	io = calloc(ROWS, (size_t)h->row_in_bytes + h->row_out_bytes);
	w->r = run_init(aligned_alloc(64, (run_bytes(m, ROWS) + 63) / 64 * 64), m, ROWS);
	for (size_t i = 0; io && i < ROWS; i++) {
		w->rows[i] = io + i * h->row_in_bytes;
		w->outs[i] = io + ROWS * h->row_in_bytes + i * h->row_out_bytes;
	}
	return io ? 0 : -ENOMEM;
}

int main(int argc, char **argv)
{
	struct work native[CORES] = {{.cpu = 0}, {.cpu = 1}},
		    blas[CORES] = {{.cpu = 0}, {.cpu = 1}};
	struct work bare[CORES] = {{.cpu = 0}, {.cpu = 1}};
	static const char *const models[CORES] = {"digits", "ranker"};

	(void)argc;
	if (!getenv("OPENBLAS_NUM_THREADS")) { /* its threads start before main(): begin again */
		setenv("OPENBLAS_NUM_THREADS", "1", 1);
		execv("/proc/self/exe", argv);
	}
	if (sysconf(_SC_NPROCESSORS_ONLN) < CORES) {
		fprintf(stderr, "bench_cores: one CPU; nothing to compare\n");
		return 1;
	}
	for (int c = 0; c < CORES; c++)
		if (work_open(&native[c], models[c], MODEL_BACKEND_NATIVE) ||
			work_open(&blas[c], models[c], MODEL_BACKEND_OPENBLAS))
			return 1;
	printf("{\"id\":\"engine.two_cores.loss_pct\",\"value\":%.1f,\"unit\":\"percent\",",
		loss_pct(native));
	printf("\"peer\":\"openblas kernels\",\"peer_value\":%.1f,\"ratio\":null,", loss_pct(blas));
	printf("\"registers_only_loss_pct\":%.1f}\n", loss_pct(bare));
	return 0;
}
