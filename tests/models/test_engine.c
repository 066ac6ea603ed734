/* SPDX-License-Identifier: BSD-3-Clause
 * The engine against what it must equal: dense kernels against the scalar reference, stepwise runs
 * against whole ones, and artifacts nobody should accept (vector kernels: test_vectors.c). Run
 * from the repository's root: it compiles models/zoo/.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "models/compile/artifact.h"
#include "models/compile/onnx_wire.h"
#include "models/run/model_private.h"

/* ---- helpers ---- */

static uint32_t t_state = 20261123;

static uint32_t t_random(uint32_t below)
{
	t_state ^= t_state << 13;
	t_state ^= t_state >> 17;
	t_state ^= t_state << 5;
	return t_state % below;
}

static float t_float(void)
{
	return (float)t_random(1 << 24) / (float)(1 << 23) - 1.0f;
}

static float *t_floats(size_t n, bool filled)
{
	float *x = aligned_alloc(64, (n * sizeof(float) + 63) / 64 * 64 + 64);

	assert_non_null(x);
	for (size_t i = 0; i < n; i++)
		x[i] = filled ? t_float() : 0;
	return x;
}

static uint8_t *t_read(const char *path, size_t *size)
{
	FILE *f = fopen(path, "rb");
	uint8_t *bytes;

	if (!f)
		fail_msg("%s: run me from the repository's root", path);
	fseek(f, 0, SEEK_END);
	*size = (size_t)ftell(f);
	rewind(f);
	bytes = malloc(*size);
	assert_int_equal(fread(bytes, 1, *size, f), *size);
	fclose(f);
	return bytes;
}

static struct artifact t_compile_as(
	const char *name, enum model_backend backend, enum compile_precision precision)
{
	struct compile_options o = {.name = name,
		.version = 3,
		.max_rows = 256,
		.cost = 1,
		.backend = backend,
		.precision = precision};
	struct artifact a;
	struct error err;
	char path[128];
	uint8_t *onnx;
	size_t size;

	snprintf(path, sizeof(path), "models/zoo/%s/model.onnx", name);
	onnx = t_read(path, &size);
	if (compile_onnx_buffer(onnx, size, &o, &a, &err))
		fail_msg("%s", err.text);
	free(onnx);
	return a;
}

static struct artifact t_compile(const char *name, enum model_backend backend)
{
	return t_compile_as(name, backend, COMPILE_F32);
}

static struct model *t_open(const struct artifact *a, enum model_backend backend)
{
	struct model *m;
	struct error err;

	if (model_open(&m, a->bytes, a->size, backend, &err))
		fail_msg("%s", err.text);
	return m;
}

/* Answers to n random rows; stepping with a deadline in the past when `stepwise`. */
static unsigned t_run(
	const struct model *m, uint32_t n, const uint8_t *in, uint8_t *out, bool stepwise)
{
	const struct model_file_header *h = model_header(m);
	size_t bytes = (run_bytes(m, n) + 63) / 64 * 64;
	void *memory = aligned_alloc(64, bytes);
	const void **rows = calloc(n, sizeof(*rows));
	void **outs = calloc(n, sizeof(*outs));
	struct run *r;
	unsigned steps = 1;

	assert_true(memory && rows && outs);
	memset(memory, 0xff, bytes); /* NaNs: nothing may be read before it is written */
	r = run_init(memory, m, n);
	for (uint32_t i = 0; i < n; i++) {
		rows[i] = in + i * h->row_in_bytes;
		outs[i] = out + i * h->row_out_bytes;
	}
	run_start(r, n, rows, outs);
	memset(rows, 0, n * sizeof(*rows)); /* the arrays were copied */
	memset(outs, 0, n * sizeof(*outs));
	while (!run_step(r, stepwise ? 0 : UINT64_MAX))
		steps++;
	free(memory);
	free(rows);
	free(outs);
	return steps;
}

/* ---- runs ---- */

static void every_backend_gives_the_scalar_reference_s_answers(void **state)
{
	static const char *const names[] = {"digits", "risk", "fraud"};

	(void)state;
	for (int i = 0; i < 12; i++) {
		enum model_backend stored = i % 2 ? MODEL_BACKEND_OPENBLAS : MODEL_BACKEND_AUTO;
		struct artifact a = t_compile(names[i % 3], stored);
		struct model *m =
			t_open(&a, i % 4 < 2 ? MODEL_BACKEND_AUTO : MODEL_BACKEND_OPENBLAS);
		struct model *reference = t_open(&a, MODEL_BACKEND_SCALAR);
		const struct model_file_header *h = model_header(m);
		uint32_t n = 1 + t_random(64);
		float *in = t_floats(n * h->row_in_bytes / 4, true);
		float *out = t_floats(n * h->row_out_bytes / 4, false);
		float *want = t_floats(n * h->row_out_bytes / 4, false);

		t_run(m, n, (uint8_t *)in, (uint8_t *)out, false);
		t_run(reference, n, (uint8_t *)in, (uint8_t *)want, false);
		for (size_t e = 0; e < n * h->row_out_bytes / 4; e++)
			assert_true(fabsf(out[e] - want[e]) < 1e-5f);
		assert_string_equal(model_backend_name(reference), "scalar");
		model_close(m);
		model_close(reference);
		free(a.bytes);
		free(in);
		free(out);
		free(want);
	}
}

static void a_run_taken_step_by_step_equals_one_taken_in_one_go(void **state)
{
	struct artifact a = t_compile("digits", MODEL_BACKEND_AUTO);
	struct model *m = t_open(&a, MODEL_BACKEND_AUTO);
	float *in = t_floats(64 * 64, true), *one = t_floats(640, false),
	      *many = t_floats(640, false);

	(void)state;
	assert_int_equal(t_run(m, 64, (uint8_t *)in, (uint8_t *)one, false), 1);
	assert_int_equal(
		t_run(m, 64, (uint8_t *)in, (uint8_t *)many, true), 2 * m->program.n_ops + 2);
	assert_memory_equal(one, many, 640 * sizeof(float));
	model_close(m);
	free(a.bytes);
	free(in);
	free(one);
	free(many);
}

static void a_row_s_answer_does_not_depend_on_its_batch_or_alignment(void **state)
{
	struct artifact a = t_compile("fraud", MODEL_BACKEND_AUTO);
	struct model *m = t_open(&a, MODEL_BACKEND_NATIVE);
	float *in = t_floats(33 * 32, true), *together = t_floats(33, false);
	uint8_t odd[32 * 4 + 1], out[4 + 1];

	(void)state;
	t_run(m, 33, (uint8_t *)in, (uint8_t *)together, false);
	for (size_t r = 0; r < 33; r++) {
		float alone;

		memcpy(odd + 1, in + r * 32, 32 * 4);
		t_run(m, 1, odd + 1, out + 1, false);
		memcpy(&alone, out + 1, 4);
		assert_true(fabsf(alone - together[r]) < 1e-6f);
	}
	model_close(m);
	free(a.bytes);
	free(in);
	free(together);
}

/* Whole, stepwise, and each block in a run of its own: the blocks end at the same rows. */
static void a_batch_larger_than_l2_runs_in_blocks_with_the_same_answers(void **state)
{
	enum { ROWS = 250 };
	struct artifact a = t_compile("digits-cnn", MODEL_BACKEND_AUTO);
	struct model *m = t_open(&a, MODEL_BACKEND_NATIVE);
	float *in = t_floats(ROWS * 64, true), *want = t_floats(ROWS * 10, false);
	float *whole = t_floats(ROWS * 10, false), *steps = t_floats(ROWS * 10, false);
	struct run *r = run_init(aligned_alloc(64, (run_bytes(m, ROWS) + 63) / 64 * 64), m, ROWS);
	uint32_t block = run_block(r);

	(void)state;
	assert_in_range(block, 8, ROWS / 2);
	assert_true(run_bytes(m, ROWS) < 3 * m->program.row_arena_bytes * ROWS / 4);
	assert_true(ROWS % block);
	t_run(m, ROWS, (uint8_t *)in, (uint8_t *)whole, false);
	assert_true(t_run(m, ROWS, (uint8_t *)in, (uint8_t *)steps, true) >
		    (ROWS + block - 1) / block * (m->program.n_ops + 2));
	for (uint32_t at = 0, n; at < ROWS; at += n) {
		n = ROWS - at < block ? ROWS - at : block;
		t_run(m, n, (uint8_t *)(in + at * 64), (uint8_t *)(want + at * 10), false);
	}
	assert_memory_equal(whole, want, ROWS * 10 * sizeof(float));
	for (uint32_t i = 0; i < ROWS * 10; i++) /* slices of 32 rows have other tiles */
		assert_true(fabsf(steps[i] - want[i]) < 1e-5f);
	model_close(m);
	free(r);
	free(a.bytes);
	free(in);
	free(want);
	free(whole);
	free(steps);
}

static void forcing_native_kernels_on_row_major_layers_is_refused(void **state)
{
	struct artifact a = t_compile("risk", MODEL_BACKEND_OPENBLAS);
	struct model *m;
	struct error err;

	(void)state;
	assert_int_equal(model_open(&m, a.bytes, a.size, MODEL_BACKEND_NATIVE, &err), -EINVAL);
	assert_non_null(strstr(err.text, "row-major"));
	assert_null(m);
	free(a.bytes);
}

static void reduced_models_answer_like_the_reference_and_openblas_refuses_them(void **state)
{
	(void)state;
	for (int i = COMPILE_BF16; i <= COMPILE_INT8; i++) {
		struct artifact a = t_compile_as("digits", MODEL_BACKEND_AUTO, (enum compile_precision)i);
		struct model *m = t_open(&a, MODEL_BACKEND_AUTO), *none;
		struct model *reference = t_open(&a, MODEL_BACKEND_SCALAR);
		float *in = t_floats(64 * 64, true), *out = t_floats(640, false);
		float *want = t_floats(640, false);
		struct error err;

		t_run(m, 64, (uint8_t *)in, (uint8_t *)out, false);
		t_run(reference, 64, (uint8_t *)in, (uint8_t *)want, false);
		for (size_t e = 0; e < 640; e++)
			assert_true(fabsf(out[e] - want[e]) < 2e-2f); /* bfloat16 may round apart */
		t_run(m, 64, (uint8_t *)in, (uint8_t *)want, true);
		assert_memory_equal(out, want, 640 * sizeof(float));
		assert_int_equal(
			model_open(&none, a.bytes, a.size, MODEL_BACKEND_OPENBLAS, &err), -EINVAL);
		assert_non_null(strstr(err.text, i == COMPILE_BF16 ? "bf16 panels" : "int8 panels"));
		model_close(m);
		model_close(reference);
		free(a.bytes);
		free(in);
		free(out);
		free(want);
	}
}

/* Opening packs nothing and parses nothing but header and program: the weights' pages are not even
 * readable meanwhile. (Their hashes are the loader's business, before.) */
static void opening_a_model_reads_no_weight(void **state)
{
	(void)state;
	for (int i = COMPILE_F32; i <= COMPILE_INT8; i++) {
		struct artifact a = t_compile_as("digits", MODEL_BACKEND_AUTO, (enum compile_precision)i);
		const struct model_file_header *h = (const struct model_file_header *)a.bytes;
		uint8_t *image = mmap(NULL, a.size, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		struct error err;
		struct model *m;

		assert_true(image != MAP_FAILED && h->weights.bytes > 0);
		memcpy(image, a.bytes, a.size);
		assert_int_equal(mprotect(image + h->weights.offset,
					 h->body_bytes - h->weights.offset, PROT_NONE),
			0);
		if (model_open(&m, image, a.size, MODEL_BACKEND_AUTO, &err))
			fail_msg("%s", err.text);
		model_close(m);
		munmap(image, a.size);
		free(a.bytes);
	}
}

/* ---- artifacts ---- */

static void the_same_model_compiles_to_the_same_bytes(void **state)
{
	struct artifact a = t_compile("digits", MODEL_BACKEND_AUTO);
	struct artifact b = t_compile("digits", MODEL_BACKEND_AUTO);

	(void)state;
	assert_int_equal(a.size, b.size);
	assert_memory_equal(a.bytes, b.bytes, a.size);
	free(a.bytes);
	free(b.bytes);
}

static void one_flipped_bit_anywhere_in_the_file_fails_verification(void **state)
{
	struct artifact a = t_compile("risk", MODEL_BACKEND_AUTO);
	struct error err;
	bool is_signed;

	(void)state;
	assert_int_equal(artifact_verify(a.bytes, a.size, NULL, &is_signed, &err), 0);
	assert_false(is_signed);
	for (size_t i = 0; i < 400; i++) {
		size_t at = i < 200 ? a.size - 1 - i : t_random((uint32_t)a.size);

		a.bytes[at] ^= (uint8_t)(1 << t_random(8));
		assert_true(artifact_verify(a.bytes, a.size, NULL, &is_signed, &err) < 0);
		free(a.bytes);
		a = t_compile("risk", MODEL_BACKEND_AUTO);
	}
	free(a.bytes);
}

struct t_image {
	struct artifact a;
	struct model_file_header *h;
	struct model_program *p;
	struct model_buffer *buffers;
	struct model_op *ops;
};

static struct t_image t_image(const char *name)
{
	struct t_image t = {.a = t_compile(name, MODEL_BACKEND_AUTO)};

	t.h = (struct model_file_header *)t.a.bytes;
	t.p = (struct model_program *)(t.a.bytes + MODEL_FILE_PAGE);
	t.buffers = (struct model_buffer *)(t.p + 1);
	t.ops = (struct model_op *)((uint8_t *)t.buffers +
				    (t.p->n_buffers * sizeof(*t.buffers) + 63) / 64 * 64);
	return t;
}

/* One line per refusal class: a field, a value, and words the refusal must contain. */
#define T_CASE(field, value, words)                                                                \
	do {                                                                                       \
		struct t_image t = t_image("fraud");                                               \
		struct model *m;                                                                   \
		struct error err = {0};                                                            \
		t.field = value;                                                                   \
		if (model_open(&m, t.a.bytes, t.a.size, MODEL_BACKEND_AUTO, &err) != -EINVAL ||    \
			!strstr(err.text, words))                                                  \
			fail_msg("%s = %s: '%s', expected '%s'", #field, #value, err.text, words); \
		assert_null(m);                                                                    \
		free(t.a.bytes);                                                                   \
	} while (0)

static void a_bad_header_field_is_refused_by_name(void **state)
{
	(void)state;
	T_CASE(h->magic, 0, "magic");
	T_CASE(h->version, 2, "format version 2");
	T_CASE(h->header_bytes, 8, "header_bytes");
	T_CASE(h->body_bytes, 0, "body_bytes");
	T_CASE(h->body_bytes, UINT64_MAX & ~32767ull, "body_bytes");
	T_CASE(h->body_bytes, 1 << 20, "truncated");
	T_CASE(h->file_bytes, 1, "file_bytes");
	T_CASE(h->name[0], 0, "name");
	T_CASE(h->model_version, 0, "model_version");
	T_CASE(h->max_rows, 0, "max_rows");
	T_CASE(h->max_rows, MODEL_FILE_MAX_ROWS + 1, "max_rows");
	T_CASE(h->cost_units, 0, "cost_units");
	T_CASE(h->flags, 1, "flags");
	T_CASE(h->n_inputs, 0, "row of all inputs");
	T_CASE(h->n_inputs, 0xffffffffu, "inputs");
	T_CASE(h->n_outputs, 9, "outputs");
	T_CASE(h->row_in_bytes, 4, "row of all inputs");
	T_CASE(h->inputs[0].dtype, 99, "dtype");
	T_CASE(h->inputs[0].rank, 7, "rank");
	T_CASE(h->inputs[0].dims[0], 0, "dimension 0");
	T_CASE(h->inputs[0].dims[0], 0xffffffffu, "dimension 0");
	T_CASE(h->inputs[0].elements, 1, "elements");
	T_CASE(h->outputs[0].row_bytes, 0, "output 0");
	T_CASE(h->program.offset, 0, "section program");
	T_CASE(h->program.bytes, UINT64_MAX, "section program");
	T_CASE(h->program.bytes, 64, "section");
	T_CASE(h->metadata.offset, 64, "section metadata");
	T_CASE(h->metadata.bytes, UINT64_MAX - 4095, "section metadata");
	T_CASE(h->weights.offset, UINT64_MAX, "section weights");
	T_CASE(h->weights.bytes, UINT64_MAX - 63, "section weights");
	T_CASE(h->weights.bytes, 64, "weights section");
	T_CASE(h->hashes.offset, 0, "hash list");
	T_CASE(h->signature.bytes, 0, "signature");
}

static void a_bad_program_field_is_refused_by_name(void **state)
{
	(void)state;
	T_CASE(p->n_buffers, 0, "n_buffers");
	T_CASE(p->n_buffers, 0xffffffffu, "n_buffers");
	T_CASE(p->n_ops, 0xffffffffu, "n_ops");
	T_CASE(p->n_ops, 1, "section program");
	T_CASE(p->n_states, 1, "states");
	T_CASE(p->row_arena_bytes, 1, "row_arena_bytes");
	T_CASE(p->row_arena_bytes, 64, "buffer");
	T_CASE(p->row_arena_bytes, 1 << 30, "the buffers use");
	T_CASE(p->inputs[0], 77, "input 0 is buffer 77");
	T_CASE(p->outputs[0], 0, "output 0");
	T_CASE(buffers[0].row_offset, UINT64_MAX - 63, "buffer 0");
	T_CASE(buffers[0].row_offset, 4, "buffer 0");
	T_CASE(buffers[1].elements, 0, "buffer 1");
	T_CASE(buffers[1].elements, 0xffffffffu, "buffer 1");
	T_CASE(buffers[1].elements, 63, "64 elements into a buffer of 63");
	T_CASE(ops[0].kind, 0, "unknown kind 0");
	T_CASE(ops[0].kind, MODEL_OP_END, "unknown kind");
	T_CASE(ops[0].activation, MODEL_ACT_END, "unknown activation");
	T_CASE(ops[0].layout, MODEL_LAYOUT_END, "unknown weight layout");
	T_CASE(ops[0].src[0], 3, "nothing has written");
	T_CASE(ops[0].src[0], 4000, "reads buffer 4000");
	T_CASE(ops[0].dst, 0, "also writes");
	T_CASE(ops[0].dst, 4000, "writes buffer 4000");
	T_CASE(ops[0].k, 0, "operator 0");
	T_CASE(ops[0].k, 0xffffffffu, "operator 0");
	T_CASE(ops[0].n, 0xffffffffu, "operator 0");
	T_CASE(ops[0].constant[1], 1, "must be at 0");
	T_CASE(ops[0].constant[1], UINT64_MAX, "must be at 0");
	T_CASE(ops[0].constant_bytes[1], UINT64_MAX, "its shape needs");
	T_CASE(ops[0].bias_bytes, 4, "its shape needs 256");
	T_CASE(ops[2].bias, UINT64_MAX - 63, "must be at");
	T_CASE(ops[1].reserved[0], 1, "reserved");
	T_CASE(ops[0].high, 1, "input range");
	T_CASE(ops[0].low, NAN, "input range");
	T_CASE(ops[0].layout, MODEL_LAYOUT_PANELS_BF16, "its shape needs");
	T_CASE(ops[0].layout, MODEL_LAYOUT_PANELS_INT8, "its shape needs");
}

static void an_artifact_cut_off_at_any_page_is_refused(void **state)
{
	struct artifact a = t_compile("digits", MODEL_BACKEND_AUTO);
	struct error err;
	bool is_signed;

	(void)state;
	for (size_t cut = 0; cut < a.size; cut += MODEL_FILE_PAGE) {
		/* A fresh copy of exactly that size: reading past it is a sanitizer's find. */
		uint8_t *part = aligned_alloc(MODEL_FILE_PAGE, cut ? cut : MODEL_FILE_PAGE);

		memcpy(part, a.bytes, cut);
		assert_int_equal(artifact_verify(part, cut, NULL, &is_signed, &err), -EINVAL);
		free(part);
	}
	assert_int_equal(artifact_verify(a.bytes, a.size - 1, NULL, &is_signed, &err), -EINVAL);
	assert_non_null(strstr(err.text, "truncated"));
	free(a.bytes);
}

/* What still opens must still run within its bounds; sanitizers watch. */
static void no_changed_byte_of_header_or_program_crashes_the_engine(void **state)
{
	struct t_image t = t_image("risk");
	size_t end = MODEL_FILE_PAGE + t.h->program.bytes, opened = 0;
	float *in = t_floats(1 << 16, true), *out = t_floats(1 << 16, false);

	(void)state;
	for (size_t at = 0; at < end; at++) {
		static const uint8_t masks[] = {0x01, 0x80, 0xff};

		if (at == sizeof(*t.h))
			at = MODEL_FILE_PAGE; /* the rest of the header page is never read */
		for (size_t i = 0; i < sizeof(masks); i++) {
			struct model *m;

			t.a.bytes[at] ^= masks[i];
			if (!model_open(&m, t.a.bytes, t.a.size, MODEL_BACKEND_AUTO, NULL)) {
				opened++;
				if (model_header(m)->row_in_bytes <= 1 << 16 &&
					model_header(m)->row_out_bytes <= 1 << 16)
					t_run(m, 3, (uint8_t *)in, (uint8_t *)out, false);
				model_close(m);
			}
			t.a.bytes[at] ^= masks[i];
		}
	}
	assert_true(opened > 0); /* names and the like */
	free(t.a.bytes);
	free(in);
	free(out);
}

/* ---- the compiler's input ---- */

static void an_onnx_file_cut_off_anywhere_is_refused(void **state)
{
	struct compile_options o = {.name = "cut", .version = 1, .max_rows = 8, .cost = 1};
	size_t size;
	uint8_t *onnx = t_read("models/zoo/risk/model.onnx", &size);

	(void)state;
	for (size_t cut = 0; cut < size; cut += cut < 600 ? 1 : 37) {
		struct artifact a;
		struct error err = {0};
		uint8_t *part = malloc(cut ? cut : 1);

		memcpy(part, onnx, cut);
		if (!compile_onnx_buffer(part, cut, &o, &a, &err))
			free(a.bytes); /* a prefix may be a whole message */
		else
			assert_true(err.text[0]);
		free(part);
	}
	free(onnx);
}

static void deep_nesting_is_refused_before_protobuf_recurses(void **state)
{
	/* model.graph.node.attribute.g.node.attribute.g...: each level four tags around the rest.
	 */
	enum { LEVELS = 3000, ROOM = 40 * LEVELS };
	static const uint8_t tags[] = {0x32 /* g */, 0x2a /* attribute */, 0x0a /* node */};
	struct compile_options o = {.name = "deep", .version = 1, .max_rows = 8, .cost = 1};
	uint8_t *room = malloc(ROOM), *at = room + ROOM;
	struct artifact a;
	struct error err;

	(void)state;
	for (int i = 0; i < 3 * LEVELS + 1; i++) {
		size_t n = (size_t)(room + ROOM - at);
		uint8_t length[5];
		int bytes = 0;

		for (; n >= 0x80; n >>= 7)
			length[bytes++] = (uint8_t)(n | 0x80);
		length[bytes++] = (uint8_t)n;
		at -= bytes;
		memcpy(at, length, (size_t)bytes);
		*--at = i == 3 * LEVELS ? 0x3a /* model.graph */ : tags[i % 3];
	}
	assert_int_equal(
		compile_onnx_buffer(at, (size_t)(room + ROOM - at), &o, &a, &err), -EINVAL);
	assert_non_null(strstr(err.text, "nested deeper"));
	free(room);
}

static void a_bad_name_or_batch_is_refused(void **state)
{
	static const struct compile_options bad[] = {
		{.name = "", .version = 1, .max_rows = 8, .cost = 1},
		{.name = "../x", .version = 1, .max_rows = 8, .cost = 1},
		{.name = "a b", .version = 1, .max_rows = 8, .cost = 1},
		{.name = "x", .version = 0, .max_rows = 8, .cost = 1},
		{.name = "x", .version = 1, .max_rows = 0, .cost = 1},
		{.name = "x", .version = 1, .max_rows = 4097, .cost = 1},
		{.name = "x", .version = 1, .max_rows = 8, .cost = 0},
	};
	struct artifact a;
	struct error err;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(compile_onnx_buffer("", 0, &bad[i], &a, &err), -EINVAL);
}

/* What an artifact says about fields is checked once, at load: no request can reach past a table afterwards. */
static void lookups_past_their_tables_are_refused(void **state)
{
	const struct tensor_function *f = tensor_function_at(MODEL_FN_LOOKUPS);
	const struct tensor_op op = {.function = MODEL_FN_LOOKUPS, .n_in = 3, .n_out = 1,
		.in = {{.dtype = WIRE_F32, .rank = 2, .dims = {10, 4}}, {.dtype = WIRE_I64, .rank = 2, .dims = {1, 5}},
			{.dtype = WIRE_I64, .rank = 2, .dims = {1, 3}}}};
	static const int64_t bad[][3] = {{-1, 0, 1}, {5, 0, 1}, {0, -1, 1}, {0, 10, 1}, {0, 0, 0}, {0, 0, -1}, {0, 4, 7},
		{0, 1, INT64_MAX}, {INT64_MIN, 0, 1}};
	const void *in[TENSOR_MAX_IN] = {NULL, NULL, (int64_t[3]){4, 4, 6}};
	struct error err = {0};

	(void)state;
	assert_int_equal(f->check(&op, in, &err), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		in[2] = bad[i];
		assert_int_equal(f->check(&op, in, &err), -EINVAL);
		assert_non_null(strstr(err.text, "lookups: field 0 is index"));
	}
	in[2] = NULL;
	assert_int_equal(f->check(&op, in, &err), -EINVAL);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_backend_gives_the_scalar_reference_s_answers),
		cmocka_unit_test(a_run_taken_step_by_step_equals_one_taken_in_one_go),
		cmocka_unit_test(a_row_s_answer_does_not_depend_on_its_batch_or_alignment),
		cmocka_unit_test(a_batch_larger_than_l2_runs_in_blocks_with_the_same_answers),
		cmocka_unit_test(forcing_native_kernels_on_row_major_layers_is_refused),
		cmocka_unit_test(reduced_models_answer_like_the_reference_and_openblas_refuses_them),
		cmocka_unit_test(opening_a_model_reads_no_weight),
		cmocka_unit_test(the_same_model_compiles_to_the_same_bytes),
		cmocka_unit_test(one_flipped_bit_anywhere_in_the_file_fails_verification),
		cmocka_unit_test(a_bad_header_field_is_refused_by_name),
		cmocka_unit_test(a_bad_program_field_is_refused_by_name),
		cmocka_unit_test(an_artifact_cut_off_at_any_page_is_refused),
		cmocka_unit_test(no_changed_byte_of_header_or_program_crashes_the_engine),
		cmocka_unit_test(an_onnx_file_cut_off_anywhere_is_refused),
		cmocka_unit_test(deep_nesting_is_refused_before_protobuf_recurses),
		cmocka_unit_test(a_bad_name_or_batch_is_refused),
		cmocka_unit_test(lookups_past_their_tables_are_refused),
	};

	(void)argc;
	if (!getenv("OPENBLAS_NUM_THREADS")) { /* its threads start before main(): begin again */
		setenv("OPENBLAS_NUM_THREADS", "1", 1);
		execv("/proc/self/exe", argv);
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
