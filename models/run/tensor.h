/* SPDX-License-Identifier: BSD-3-Clause
 * General tensor operators: the functions behind MODEL_OP_TENSOR, shared by the engine and the
 * compiler (which infers shapes and folds constants with them).
 *
 * A function is two routines. infer() looks at the inputs' dtypes and shapes and at the attributes,
 * refuses whatever run() could not do within bounds, and sets the outputs' dtypes and shapes and
 * the scratch bytes. run() then trusts exactly what infer() accepted; values inside run-time
 * tensors (indices) it clamps itself. Tensors are contiguous, row-major, at most TENSOR_MAX_RANK
 * dimensions.
 *
 * Attributes (i = ints, f = floats):
 *   UNARY       i[0] enum tensor_unary; f[0], f[1] its parameters
 *   BINARY      i[0] enum tensor_binary; numpy broadcasting; WHERE the same with a BOOL first
 *   CAST        i[0] dtype
 *   STRIDED     i[0] first element, i[1] rank, i[2..9] dims, i[10..17] strides in elements
 *   CONCAT      i[0] axis
 *   PAD         i[0] mode (0 constant, 1 reflect, 2 edge, 3 wrap), i[1..8] before, i[9..16] after
 *   REDUCE      i[0] enum tensor_reduce, i[1] bit mask of axes, i[2] keepdims
 *   ARGMAX      i[0] axis, i[1] keepdims, i[2] 1 = minimum, i[3] 1 = the last of equals
 *   CUMSUM      i[0] axis, i[1] exclusive, i[2] reverse
 *   MATMUL      numpy.matmul of operands of rank >= 2
 *   EINSUM      i[0] labels, i[1] rank of the output, i[2..9] its labels, i[10+8k..] operand k's
 *   CONV        i[0] groups; per spatial axis a: i[1+a] stride, i[4+a] dilation, i[7+a] pad before,
 *               i[10+a] pad after; inputs X, W, optional bias
 *   POOL        i[0] enum tensor_pool, i[1..12] as CONV, i[13+a] kernel, i[16] ceil mode,
 *               i[17] p of LP, i[18] column-major indices
 *   CONV_LAST   channels last, X [N][spatial..][C], weights packed: i[0..12] as CONV, i[13+a]
 *               kernel, i[16] filters M, i[17] enum model_activation, f[0], f[1] its parameters;
 *               inputs X, W, optional bias, optional summand of the output's shape. W is
 *               [groups][M/groups/16][kernel x C/groups][16], a depthwise one (groups = C = M > 1)
 *               [kernel][C]; bias [groups][M/groups]; padded with anything to 16 filters a group
 *   POOL_LAST   channels last: i[0..16] as POOL, MAX and AVERAGE only, one output
 *   SOFTMAX     i[0] axis
 *   GATHER      i[0] axis; GATHER_ELEMENTS i[0] axis; GATHER_ND i[0] batch dimensions
 *   SCATTER_*   i[0] axis, i[1] enum tensor_scatter
 *   TOPK        i[0] axis, i[1] k, i[2] 1 = largest, outputs values and INT64 indices
 *   RECURRENT   i[0] enum tensor_cell, i[1] direction (0, 1 reverse, 2 both), i[2] linear before
 *               reset, i[3] input_forget, i[4..9] activations, i[10] 1 = clip by f[0], i[11]
 *               hidden size if W, R and B are packed (recurrent_pack()), else 0; inputs X, W,
 *               R, B, lengths, h, c, P
 *   LAYER_NORM  i[0] first axis, i[1] 1 = RMS (the mean counts as 0), f[0] epsilon; inputs X, scale,
 *               optional bias
 *   ATTENTION   see attention.c
 *   TREES       see trees.h
 *   EMBEDDING   i[0] REDUCE_SUM or REDUCE_MEAN; inputs table [n][width], indices [..., bag]
 *   LOOKUPS     i[0] 1 = output [1, fields x width], else [1, fields, width]; inputs: the fields' tables
 *               one after the other [n][width], indices, constant INT64 [fields][3]: which index, first
 *               row and rows of its table
 */
#pragma once

#include "abi/model_file.h"
#include "base/error.h"
#include "models/run/kernels.h"

enum {
	TENSOR_MAX_RANK = MODEL_TENSOR_MAX_RANK,
	TENSOR_MAX_IN = MODEL_TENSOR_MAX_IN,
	TENSOR_MAX_OUT = MODEL_TENSOR_MAX_OUT,
	TENSOR_BLOCK = 256, /* elements converted at a time */
};

enum tensor_unary {
	UNARY_NONE,
	UNARY_ABS,
	UNARY_NEG,
	UNARY_SIGN,
	UNARY_FLOOR,
	UNARY_CEIL,
	UNARY_ROUND,
	UNARY_SQRT,
	UNARY_EXP,
	UNARY_LOG,
	UNARY_RECIPROCAL,
	UNARY_SIN,
	UNARY_COS,
	UNARY_TAN,
	UNARY_ASIN,
	UNARY_ACOS,
	UNARY_ATAN,
	UNARY_SINH,
	UNARY_COSH,
	UNARY_TANH,
	UNARY_ASINH,
	UNARY_ACOSH,
	UNARY_ATANH,
	UNARY_ERF,
	UNARY_SIGMOID,
	UNARY_RELU,
	UNARY_LEAKY_RELU,   /* f[0] slope */
	UNARY_ELU,          /* f[0] alpha */
	UNARY_SELU,         /* f[0] alpha, f[1] gamma */
	UNARY_CELU,         /* f[0] alpha */
	UNARY_HARD_SIGMOID, /* f[0] alpha, f[1] beta */
	UNARY_HARD_SWISH,
	UNARY_SOFTPLUS,
	UNARY_SOFTSIGN,
	UNARY_THRESHOLDED, /* f[0] alpha */
	UNARY_SHRINK,      /* f[0] bias, f[1] lambda */
	UNARY_CLIP,        /* f[0] low, f[1] high */
	UNARY_GELU,
	UNARY_MISH,
	UNARY_AFFINE, /* f[0] x + f[1] */
	UNARY_NOT,
	UNARY_IS_NAN,
	UNARY_IS_INF, /* f[0] != 0: negative counts, f[1] != 0: positive counts */
	UNARY_END,
};

enum tensor_binary {
	BINARY_ADD,
	BINARY_SUB,
	BINARY_MUL,
	BINARY_DIV,
	BINARY_POW,
	BINARY_MOD,
	BINARY_FMOD,
	BINARY_MIN,
	BINARY_MAX,
	BINARY_PRELU,
	BINARY_SHIFT_LEFT,
	BINARY_SHIFT_RIGHT,
	BINARY_AND,
	BINARY_OR,
	BINARY_XOR,
	BINARY_EQUAL,
	BINARY_LESS,
	BINARY_GREATER,
	BINARY_LESS_EQUAL,
	BINARY_GREATER_EQUAL,
	BINARY_END,
};

enum tensor_reduce {
	REDUCE_SUM,
	REDUCE_MEAN,
	REDUCE_MAX,
	REDUCE_MIN,
	REDUCE_PROD,
	REDUCE_L1,
	REDUCE_L2,
	REDUCE_SUM_SQUARE,
	REDUCE_LOG_SUM,
	REDUCE_LOG_SUM_EXP,
	REDUCE_END
};
enum tensor_pool { POOL_MAX, POOL_AVERAGE, POOL_AVERAGE_PADDED, POOL_LP, POOL_END };
enum tensor_scatter {
	SCATTER_SET,
	SCATTER_ADD,
	SCATTER_MUL,
	SCATTER_MIN,
	SCATTER_MAX,
	SCATTER_END
};
/* A mask is added to the scores, or says which are hidden or kept. */
enum tensor_mask { MASK_NONE, MASK_ADDED, MASK_HIDDEN, MASK_KEPT, MASK_END };
enum tensor_cell { CELL_RNN, CELL_GRU, CELL_LSTM, CELL_END };

struct tensor {
	uint32_t dtype; /* enum wire_dtype; 0 = absent */
	uint32_t rank;
	uint32_t dims[TENSOR_MAX_RANK]; /* >= 1 */
};

struct tensor_op {
	uint32_t function; /* enum model_function */
	uint32_t n_in, n_out;
	struct tensor in[TENSOR_MAX_IN], out[TENSOR_MAX_OUT];
	int64_t i[MODEL_TENSOR_INTS];
	float f[MODEL_TENSOR_FLOATS];
	uint64_t scratch_bytes;
};

/* One row's data; absent operands are NULL. Everything is aligned to its element at least. Operand
 * k of row r lies r x in_stride[k] bytes further on; run() looks at row 0 only. */
struct tensor_args {
	const void *in[TENSOR_MAX_IN];
	void *out[TENSOR_MAX_OUT];
	size_t in_stride[TENSOR_MAX_IN], out_stride[TENSOR_MAX_OUT]; /* 0: the same for all rows */
	void *scratch; /* 64-byte aligned, scratch_bytes */
	const struct kernels *kernels;
};

struct tensor_function {
	const char *name;
	int (*infer)(struct tensor_op *op, struct error *err);
	void (*run)(const struct tensor_op *op, const struct tensor_args *a);
	uint32_t min_in, max_in;
	/* Optional, or instead of run(): `rows` >= 1 rows at once, same results. Buffers' rows are
	 * contiguous; operands that are constant have stride 0. Scratch is scratch_bytes however many
	 * rows there are. */
	void (*run_rows)(const struct tensor_op *op, const struct tensor_args *a, size_t rows);
	/* Optional: refuses constants whose contents run() could not work with within bounds. `in`
	 * has NULL for operands that are absent or buffers. -EINVAL with err->text. */
	int (*check)(const struct tensor_op *op, const void *const *in, struct error *err);
	/* An input may be the very bytes of the only output, if its shape is the same: element i is read
	 * before element i is written, and never again. Not what works row by row: the last, partial store of
	 * a narrow row holds up the next row's load (digits with its softmax in place: 5.4 instead of 6.1 M rows/s
	 * at batch 128, Zen 5). */
	bool in_place;
};

/* NULL for a number that is no function. */
const struct tensor_function *tensor_function_at(uint32_t function);

/* May input k and the output be the same bytes? The other inputs must lie elsewhere or pass this, too. */
bool tensor_in_place(const struct tensor_op *op, uint32_t k);

/* The arguments of another row. */
struct tensor_args tensor_row(const struct tensor_op *op, const struct tensor_args *a, size_t row);

/* One row by whichever of run() and run_rows() there is. */
void tensor_run(const struct tensor_op *op, const struct tensor_args *a);

/* Everything about `op` but its outputs is set: check it and set those. -EINVAL with err->text. */
int tensor_infer(struct tensor_op *op, struct error *err);

/* "conv: text" in err; returns -EINVAL. */
int tensor_refuse(const struct tensor_op *op, struct error *err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* The operands of the row after `a`'s. */
void tensor_next_row(const struct tensor_op *op, struct tensor_args *a);

/* Index `at` of run-time indices (INT64 or INT32) into `size` >= 1 places: a negative one counts from the end, and what
 * is still outside is clamped, so no request can reach another byte. */
static inline size_t tensor_index(uint32_t dtype, const void *indices, size_t at, uint32_t size)
{
	int64_t i = dtype == WIRE_I64 ? ((const int64_t *)indices)[at] : ((const int32_t *)indices)[at];

	i = i < 0 ? i + size : i;
	return i < 0 ? 0 : i >= (int64_t)size ? size - 1 : (size_t)i;
}

/* ---- shapes ---- */

uint64_t tensor_elements(const struct tensor *t);
/* Product of dims [from, to). */
uint64_t tensor_span(const struct tensor *t, uint32_t from, uint32_t to);
bool tensor_same_shape(const struct tensor *a, const struct tensor *b);
bool tensor_is_float(uint32_t dtype); /* F32, F16, BF16 */
/* Is `value` an axis of a tensor of `rank` dimensions? */
static inline bool tensor_axis(int64_t value, uint32_t rank)
{
	return value >= 0 && value < (int64_t)rank;
}
/* numpy broadcasting of n tensors into out->rank, out->dims; false if they do not fit. */
bool tensor_broadcast(const struct tensor *in, uint32_t n, struct tensor *out);

/* Several tensors walked along the same dimensions, line by line: the last dimension is the line.
 */
struct walk {
	uint32_t rank; /* >= 1 */
	uint32_t n;    /* tensors */
	uint32_t dims[TENSOR_MAX_RANK], index[TENSOR_MAX_RANK];
	int64_t stride[4][TENSOR_MAX_RANK];
	int64_t at[4];
};

/* Walk along out's dimensions; tensor k broadcast to them. Neighbouring dimensions are merged. */
void walk_broadcast(struct walk *w, const struct tensor *out, const struct tensor *in, uint32_t n);
/* The same over all rows, which are the outermost dimension, and op's output and inputs; false when
 * those are more dimensions or elements than a walk has. */
bool walk_rows(struct walk *w, const struct tensor_op *op, const struct tensor_args *a, size_t rows);
/* To the next line; false after the last. */
bool walk_next(struct walk *w);
/* Join dimensions no tensor jumps between. */
void walk_merge(struct walk *w);

/* ---- elements ---- */

/* n elements from index `at` in steps of `stride` as floats or integers: the tensor's own memory if
 * it can be used as it is, else `block` (TENSOR_BLOCK). */
const float *tensor_load_f32(
	uint32_t dtype, const void *base, int64_t at, int64_t stride, size_t n, float *block);
const int64_t *tensor_load_i64(
	uint32_t dtype, const void *base, int64_t at, int64_t stride, size_t n, int64_t *block);
/* Floats are rounded to nearest even and saturate in integers; integers wrap. */
void tensor_store_f32(uint32_t dtype, void *base, int64_t at, size_t n, const float *from);
void tensor_store_i64(uint32_t dtype, void *base, int64_t at, size_t n, const int64_t *from);
int64_t tensor_get_i64(uint32_t dtype, const void *base, size_t at);

float half_to_float(uint16_t h);
uint16_t float_to_half(float x);
uint16_t float_to_bfloat(float x);

/* ---- the families, one file each ---- */

int unary_infer(struct tensor_op *op, struct error *err);
void unary_rows(const struct tensor_op *op, const struct tensor_args *a, size_t rows);
int binary_infer(struct tensor_op *op, struct error *err);
void binary_rows(const struct tensor_op *op, const struct tensor_args *a, size_t rows);
int where_infer(struct tensor_op *op, struct error *err);
void where_rows(const struct tensor_op *op, const struct tensor_args *a, size_t rows);
int cast_infer(struct tensor_op *op, struct error *err);
void cast_rows(const struct tensor_op *op, const struct tensor_args *a, size_t rows);
int strided_infer(struct tensor_op *op, struct error *err);
void strided_rows(const struct tensor_op *op, const struct tensor_args *a, size_t rows);
int concat_infer(struct tensor_op *op, struct error *err);
void concat_rows(const struct tensor_op *op, const struct tensor_args *a, size_t rows);
int pad_infer(struct tensor_op *op, struct error *err);
void pad_run(const struct tensor_op *op, const struct tensor_args *a);
int reduce_infer(struct tensor_op *op, struct error *err);
void reduce_rows(const struct tensor_op *op, const struct tensor_args *a, size_t rows);
int argmax_infer(struct tensor_op *op, struct error *err);
void argmax_run(const struct tensor_op *op, const struct tensor_args *a);
int cumsum_infer(struct tensor_op *op, struct error *err);
void cumsum_run(const struct tensor_op *op, const struct tensor_args *a);
int matmul_infer(struct tensor_op *op, struct error *err);
void matmul_rows(const struct tensor_op *op, const struct tensor_args *a, size_t rows);
int einsum_infer(struct tensor_op *op, struct error *err);
void einsum_run(const struct tensor_op *op, const struct tensor_args *a);
int conv_infer(struct tensor_op *op, struct error *err);
void conv_run(const struct tensor_op *op, const struct tensor_args *a);
int pool_infer(struct tensor_op *op, struct error *err);
void pool_run(const struct tensor_op *op, const struct tensor_args *a);
int conv_last_infer(struct tensor_op *op, struct error *err);
void conv_last_run(const struct tensor_op *op, const struct tensor_args *a);
void conv_last_rows(const struct tensor_op *op, const struct tensor_args *a, size_t rows);
int pool_last_infer(struct tensor_op *op, struct error *err);
void pool_last_run(const struct tensor_op *op, const struct tensor_args *a);
void pool_last_rows(const struct tensor_op *op, const struct tensor_args *a, size_t rows);
int softmax_infer(struct tensor_op *op, struct error *err);
void softmax_run(const struct tensor_op *op, const struct tensor_args *a);
int gather_infer(struct tensor_op *op, struct error *err);
void gather_rows(const struct tensor_op *op, const struct tensor_args *a, size_t rows);
int gather_elements_infer(struct tensor_op *op, struct error *err);
void gather_elements_run(const struct tensor_op *op, const struct tensor_args *a);
int gather_nd_infer(struct tensor_op *op, struct error *err);
void gather_nd_run(const struct tensor_op *op, const struct tensor_args *a);
int scatter_elements_infer(struct tensor_op *op, struct error *err);
void scatter_elements_run(const struct tensor_op *op, const struct tensor_args *a);
int scatter_nd_infer(struct tensor_op *op, struct error *err);
void scatter_nd_run(const struct tensor_op *op, const struct tensor_args *a);
int embedding_infer(struct tensor_op *op, struct error *err);
void embedding_rows(const struct tensor_op *op, const struct tensor_args *a, size_t rows);
int lookups_infer(struct tensor_op *op, struct error *err);
int lookups_check(const struct tensor_op *op, const void *const *in, struct error *err);
void lookups_rows(const struct tensor_op *op, const struct tensor_args *a, size_t rows);
int topk_infer(struct tensor_op *op, struct error *err);
void topk_run(const struct tensor_op *op, const struct tensor_args *a);
int recurrent_infer(struct tensor_op *op, struct error *err);
void recurrent_rows(const struct tensor_op *op, const struct tensor_args *a, size_t rows);
/* What infer() wants in W, R and B (from[0..2], the last may be NULL) once i[11] is set. */
void recurrent_pack(const struct tensor_op *op, const float *const from[3], float *const to[3]);
int layer_norm_infer(struct tensor_op *op, struct error *err);
void layer_norm_rows(const struct tensor_op *op, const struct tensor_args *a, size_t rows);
int attention_infer(struct tensor_op *op, struct error *err);
void attention_rows(const struct tensor_op *op, const struct tensor_args *a, size_t rows);
