/* SPDX-License-Identifier: BSD-3-Clause
 * Measuring native kernels against OpenBLAS, layer by layer: see tune.h.
 */
#include <cblas.h>
#include <cpuid.h>
#include <errno.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file_replace.h"
#include "models/run/model_private.h"
#include "models/tool/tune.h"

enum { ROUNDS = 5, SLICE_NS = 1000000, CACHE_MAX_BYTES = 1 << 22, LINE_BYTES = 256 };

const uint32_t tune_batches[TUNE_BUCKETS] = {1, 8, 32, 128};

static uint32_t dense_count(const struct model *m)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < m->program.n_ops; i++)
		n += m->steps[i].op.kind == MODEL_OP_DENSE;
	return n;
}

bool tune_prefers_openblas(const struct tune_layer *l)
{
	double sum = 0;

	for (int b = 0; b < TUNE_BUCKETS; b++)
		sum += log(l->native[b] / l->openblas[b]);
	return sum / TUNE_BUCKETS > log(1.03);
}

/* ---- measuring ---- */

static double batch_ns(void (*run)(const struct dense *), const struct dense *d)
{
	uint64_t start = clock_now_ns(), times = 0, now;

	do {
		run(d);
		times++;
		now = clock_now_ns();
	} while (now - start < SLICE_NS);
	return (double)(now - start) / (double)times;
}

/* The best of turns: at the lowest priority others' work only ever adds. */
static void measure_shape(
	const struct model_op *op, float *x, float *w, float *y, struct tune_layer *l)
{
	bool narrow = op->layout == MODEL_LAYOUT_COLUMNS;
	uint32_t layout = narrow ? MODEL_LAYOUT_COLUMNS : MODEL_LAYOUT_PANELS;

	for (int b = 0; b < TUNE_BUCKETS; b++) {
		struct dense d = {.x = x,
			.w = w,
			.y = y,
			.rows = (size_t)tune_batches[b] * op->m,
			.in = op->k,
			.out = op->n,
			.act = {op->activation, op->a, op->b}};

		l->native[b] = l->openblas[b] = INFINITY;
		for (int r = 0; r < ROUNDS; r++) {
			double ns = batch_ns(kernels_native()->dense[layout], &d);

			l->native[b] = fmin(l->native[b], ns);
			ns = batch_ns(kernels_openblas()->dense[MODEL_LAYOUT_ROW_MAJOR], &d);
			l->openblas[b] = fmin(l->openblas[b], ns);
		}
	}
}

static float *floats(uint64_t n)
{
	uint64_t bytes = (n * sizeof(float) + MODEL_FILE_ALIGN) & ~(uint64_t)(MODEL_FILE_ALIGN - 1);
	float *x = n >> 36 ? NULL : aligned_alloc(MODEL_FILE_ALIGN, bytes);

	for (uint64_t i = 0; x && i < n; i++)
		x[i] = (float)(i * 7919 % 1000) / 1000.0f - 0.5f;
	return x;
}

/* Times do not depend on the weights' values, only on where they lie. */
static int measure_layer(const struct model_op *op, struct tune_layer *l)
{
	uint64_t rows = (uint64_t)tune_batches[TUNE_BUCKETS - 1] * op->m;
	uint64_t padded = ((uint64_t)op->k + 16) * ((uint64_t)op->n + 16);
	float *x = floats(rows * op->k), *y = floats(rows * op->n), *w = floats(padded);
	int rc = x && y && w ? 0 : -ENOMEM;

	if (!rc)
		measure_shape(op, x, w, y, l);
	free(x);
	free(y);
	free(w);
	return rc;
}

static int measure_all(const struct model *m, struct tune_layer *layers)
{
	uint32_t n = 0;
	int rc = 0;

	for (uint32_t i = 0; !rc && i < m->program.n_ops; i++)
		if (m->steps[i].op.kind == MODEL_OP_DENSE)
			rc = measure_layer(&m->steps[i].op, &layers[n++]);
	return rc;
}

/* Out of everybody's way. Without the right to any of this the measuring goes on. */
static void step_aside(const char *avoid)
{
	const struct sched_param idle = {0};
	cpu_set_t all, rest;
	char *end;

	setpriority(PRIO_PROCESS, 0, 19);
	sched_setscheduler(0, SCHED_IDLE, &idle);
	if (!avoid || sched_getaffinity(0, sizeof(all), &all))
		return;
	rest = all;
	for (const char *at = avoid; *at; at = *end ? end + 1 : end) {
		unsigned long cpu = strtoul(at, &end, 10);

		if (end == at)
			return;
		if (cpu < CPU_SETSIZE)
			CPU_CLR(cpu, &rest);
	}
	if (CPU_COUNT(&rest))
		sched_setaffinity(0, sizeof(rest), &rest);
}

static int measure_in_child(
	const struct model *m, const char *avoid, struct tune_layer *layers, struct error *err)
{
	int status = 0;
	pid_t child;

	fflush(NULL);
	child = fork();
	if (child < 0)
		return error_set(err, -errno, "no process to measure in: %s", strerror(errno));
	if (!child) {
		step_aside(avoid);
		_exit(measure_all(m, layers) ? 1 : 0);
	}
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		return error_set(err, -EIO, "the measuring process failed (status 0x%x)", status);
	return 0;
}

/* ---- the cache ---- */

static void cpu_name(char *text, size_t room)
{
	unsigned name[13] = {0};

	for (unsigned i = 0; i < 3; i++)
		__get_cpuid(0x80000002 + i, &name[4 * i], &name[4 * i + 1], &name[4 * i + 2],
			&name[4 * i + 3]);
	snprintf(text, room, "%.48s, openblas %s", (const char *)name, openblas_get_corename());
	for (char *c = text; *c; c++)
		if ((unsigned char)*c < 0x20 || (unsigned char)*c >= 0x7f || *c == '"' ||
			*c == '\\')
			*c = '?';
}

static bool cache_path(const uint8_t *id, char *path, size_t room)
{
	const char *base = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	char hex[33];
	int n;

	for (int i = 0; i < 16; i++)
		snprintf(hex + 2 * i, 3, "%02x", id[i]);
	if (base && *base)
		n = snprintf(path, room, "%s/millrace/tune/%s", base, hex);
	else
		n = snprintf(path, room, "%s/.cache/millrace/tune/%s", home ? home : "", hex);
	return n > 0 && (size_t)n < room && (home || base);
}

static void folders_make(char *path)
{
	for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = 0;
		mkdir(path, 0700); /* may exist */
		*slash = '/';
	}
}

/* First line: the host; then a line of eight times a layer. */
static bool cache_parse(const char *text, const struct tune *t)
{
	size_t n = strlen(t->host);

	if (strncmp(text, t->host, n) || text[n] != '\n')
		return false;
	text += n + 1;
	for (uint32_t i = 0; i < t->n; i++)
		for (int b = 0; b < 2 * TUNE_BUCKETS; b++) {
			double *to = b < TUNE_BUCKETS ? &t->layers[i].native[b]
						      : &t->layers[i].openblas[b - TUNE_BUCKETS];
			char *end;

			*to = strtod(text, &end);
			if (end == text || !(*to > 0) || !isfinite(*to))
				return false;
			text = end;
		}
	return text[strspn(text, " \n")] == 0;
}

static bool cache_read(const char *path, struct tune *t)
{
	char *text;

	if (file_read(path, CACHE_MAX_BYTES, &text, NULL, NULL))
		return false;
	t->cached = cache_parse(text, t);
	free(text);
	return t->cached;
}

static void cache_write(char *path, const struct tune *t)
{
	size_t room = sizeof(t->host) + 2 + (size_t)t->n * LINE_BYTES, at;
	char *text = malloc(room);

	if (!text)
		return;
	at = (size_t)snprintf(text, room, "%s\n", t->host);
	for (uint32_t i = 0; i < t->n; i++)
		for (int b = 0; b < 2 * TUNE_BUCKETS; b++)
			at += (size_t)snprintf(text + at, room - at, "%.1f%c",
				b < TUNE_BUCKETS ? t->layers[i].native[b]
						 : t->layers[i].openblas[b - TUNE_BUCKETS],
				b + 1 < 2 * TUNE_BUCKETS ? ' ' : '\n');
	folders_make(path);
	file_replace(path, text, at, 0600, NULL);
	free(text);
}

int tune_model(const struct model *m, const uint8_t id[MODEL_FILE_HASH_BYTES], const char *avoid,
	struct tune *out, struct error *err)
{
	uint32_t n = dense_count(m);
	size_t bytes = (n ? n : 1) * sizeof(struct tune_layer);
	struct tune_layer *shared =
		mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char path[4096];
	bool cache = cache_path(id, path, sizeof(path));
	int rc = 0;

	*out = (struct tune){.n = n, .layers = calloc(1, bytes)};
	cpu_name(out->host, sizeof(out->host));
	if (shared == MAP_FAILED || !out->layers)
		rc = error_set(err, -ENOMEM, "no memory to measure %u layers", n);
	else if (!cache || !cache_read(path, out)) {
		rc = measure_in_child(m, avoid, shared, err);
		memcpy(out->layers, shared, bytes);
		if (!rc && cache)
			cache_write(path, out);
	}
	if (shared != MAP_FAILED)
		munmap(shared, bytes);
	return rc;
}
