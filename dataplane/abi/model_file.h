/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
 * The .mrm artifact: what `millrace-model compile` writes, the loader verifies and the engine maps.
 *
 *   0          4096                                            body_bytes
 *   +----------+---------+----------+--------------------------+-----------+-----------+
 *   | header   | program | metadata | weights (page-aligned)   | hash list | signature |
 *   +----------+---------+----------+--------------------------+-----------+-----------+
 *   |<------------------------- body -------------------------->|
 *
 * The body is a whole number of 32 KiB chunks (zero-padded). hash list = SHA-256 of each chunk, in
 * order. artifact id = SHA-256 of the hash list; an Ed25519 signature signs that id. A reader
 * first takes the header page and the tail, then verifies every chunk while it streams.
 * Offsets count from the start of the file. All fields little-endian.
 */
#pragma once

#include "abi/types.h"
#include "abi/wire.h"

#define MODEL_FILE_MAGIC 0x314d524c4c494d00ull /* "\0MILLRM1", little-endian */

enum {
	MODEL_FILE_VERSION = 1,
	MODEL_FILE_PAGE = 4096,
	MODEL_FILE_CHUNK = 32768,
	MODEL_FILE_HASH_BYTES = 32,
	MODEL_FILE_SIGNATURE_BYTES = 64,
	MODEL_FILE_PUBLIC_KEY_BYTES = 32,
	MODEL_FILE_MAX_BYTES_LOG2 = 36, /* 64 GiB */
	MODEL_FILE_MAX_IO = 8,          /* inputs, and outputs, of one model */
	MODEL_FILE_MAX_RANK = 6,
	MODEL_FILE_ALIGN = 64,     /* tables, constants and activation buffers */
	MODEL_FILE_MAX_ROWS = 4096,
	MODEL_FILE_MAX_BUFFERS = 16384,
	MODEL_FILE_MAX_OPS = 16384,
	MODEL_FILE_MAX_ROW_ELEMENTS = 1 << 24, /* of one buffer, per row */
	MODEL_FILE_MAX_METADATA_BYTES = 65536,
	MODEL_FILE_PANEL = 16, /* columns of one weight panel: one zmm, two ymm */
};

struct model_file_section {
	le64 offset;
	le64 bytes;
};

/* One input or output: a row of it is the product of dims[] elements (the batch dimension is not
 * among them), padded to 4 bytes on the wire. */
struct model_file_io {
	char name[56];
	le32 dtype; /* enum wire_dtype */
	le32 rank;
	le32 dims[MODEL_FILE_MAX_RANK];
	le32 elements;  /* product of dims */
	le32 row_bytes; /* elements x dtype size, padded to 4 */
	le64 reserved[4];
};

struct model_file_header {
	le64 magic;
	le32 version;
	le32 header_bytes; /* sizeof(struct model_file_header) */
	le64 body_bytes;   /* multiple of MODEL_FILE_CHUNK */
	le64 file_bytes;   /* body + hash list + signature block: must equal the file's length */
	char name[WIRE_MODEL_NAME_BYTES];
	le32 model_version; /* the publisher's, >= 1 */
	le32 max_rows;      /* largest batch the plan has room for */
	le32 row_in_bytes;  /* sum of the inputs' row_bytes */
	le32 row_out_bytes;
	le32 cost_units; /* limiter units one row costs, >= 1 */
	le32 n_inputs;
	le32 n_outputs;
	le32 flags; /* 0 */
	struct model_file_section program;
	struct model_file_section metadata; /* UTF-8 JSON: source, producer, compiler, metrics */
	struct model_file_section weights;  /* offset page-aligned */
	struct model_file_section hashes;   /* offset == body_bytes */
	struct model_file_section signature; /* struct model_file_signature, last in the file */
	struct model_file_io inputs[MODEL_FILE_MAX_IO];
	struct model_file_io outputs[MODEL_FILE_MAX_IO];
};

/* All zero = unsigned. */
struct model_file_signature {
	le32 algorithm; /* 0 none, 1 Ed25519 over the artifact id */
	le32 reserved;
	uint8_t public_key[MODEL_FILE_PUBLIC_KEY_BYTES];
	uint8_t signature[MODEL_FILE_SIGNATURE_BYTES];
};

/* The program section: four flat tables, each on a 64-byte border, in this order, without gaps.
 *
 *   +---------------+---------------------+-----------------+-------------------------------+
 *   | model_program | model_buffer x n    | model_op x n    | model_tensor_op x n           |
 *   +---------------+---------------------+-----------------+-------------------------------+
 *
 * A run of up to R rows gives buffer b the bytes [R x row_offset, R x (row_offset + row_bytes)):
 * row r of it is `elements` elements at r x elements, contiguous. Buffers whose lives do not overlap
 * may share bytes, and an element-wise operator may write over an input that nobody reads after it.
 * Operators run in table order, every one over all rows of a batch; rows never influence each other. Constants are named by their offset into the weights section, where they
 * lie in the order operators name them (operand 0, operand 1, bias; or operands 0 to 7), each
 * starting at the next 64-byte border after the last. Behind the buffers of all rows lie
 * scratch_bytes for the operator that is running.
 */
struct model_program {
	le32 n_buffers;
	le32 n_ops;
	le32 n_states;  /* 0: room for per-request state (recurrent state, KV cache) */
	le32 n_scalars; /* 0: room for run-time scalars (position) */
	le64 row_arena_bytes; /* activation bytes one row needs; multiple of 64 */
	le32 inputs[MODEL_FILE_MAX_IO];  /* buffer that receives input i */
	le32 outputs[MODEL_FILE_MAX_IO]; /* buffer that holds output i at the end */
	le64 n_tensor_ops;  /* operators of kind TENSOR: one record each, in their order */
	le64 scratch_bytes; /* the largest operator's need; multiple of 64 */
	le64 reserved[3];
};

struct model_buffer {
	le64 row_offset; /* bytes, multiple of 64 */
	le32 elements;   /* per row, 1..MODEL_FILE_MAX_ROW_ELEMENTS */
	le32 dtype;      /* enum wire_dtype; all operators but TENSOR take WIRE_F32 only */
};

/* Shapes below are per row. Operand 0 is buffer src[0]; DENSE's operand 1 is the constant of
 * constant_bytes[1] bytes at constant[1] of the weights section. */
enum model_op_kind {
	MODEL_OP_DENSE = 1, /* dst[m][n] = act(src0[m][k] x constant1[k][n] + bias[n]) */
	MODEL_OP_UNARY,     /* dst[i] = act(src0[i]) */
	MODEL_OP_SOFTMAX,   /* src0[m][n][k]: over n */
	MODEL_OP_TENSOR, /* n = index of its record; everything else is in there */
	MODEL_OP_END,
};

/* How the weights of a DENSE operator lie. Everything is zero-padded. */
enum model_layout {
	MODEL_LAYOUT_NONE = 0,
	MODEL_LAYOUT_PANELS = 1,    /* [n/16 rounded up][k][16 columns]: the native kernels' */
	MODEL_LAYOUT_ROW_MAJOR = 2, /* [k][n]: for OpenBLAS */
	MODEL_LAYOUT_COLUMNS = 3,   /* [n][k rounded up to 16]: narrow layers, by dot products */
	/* bfloat16 [n/16 rounded up][k/2 rounded up][16 columns][2]: inputs are rounded to bfloat16 */
	MODEL_LAYOUT_PANELS_BF16 = 4,
	/* int8 [n/16 rounded up][k/4 rounded up][16 columns][4], then per column (rounded up to 16) a
	 * float scale, then an int32 sum of its weights. Neighbours at even k add up to -128..128:
	 * 16-bit sums of two products with 0..255 do not saturate. k <= 65536. */
	MODEL_LAYOUT_PANELS_INT8 = 5,
	MODEL_LAYOUT_END,
};

enum model_activation {
	MODEL_ACT_NONE = 0,
	MODEL_ACT_RELU,
	MODEL_ACT_SIGMOID,
	MODEL_ACT_TANH,
	MODEL_ACT_LEAKY_RELU, /* x < 0 ? a x : x */
	MODEL_ACT_CLIP,       /* min(max(x, a), b) */
	MODEL_ACT_NEG,
	MODEL_ACT_ABS,
	MODEL_ACT_EXP,
	MODEL_ACT_SQRT,
	MODEL_ACT_LOG,
	MODEL_ACT_ERF,
	MODEL_ACT_RECIPROCAL,
	MODEL_ACT_AFFINE,       /* a x + b */
	MODEL_ACT_ELU,          /* b (x < 0 ? a (e^x - 1) : x) */
	MODEL_ACT_HARD_SIGMOID, /* min(max(a x + b, 0), 1) */
	MODEL_ACT_HARD_SWISH,
	MODEL_ACT_SOFTPLUS,
	MODEL_ACT_SOFTSIGN,
	MODEL_ACT_GELU,
	MODEL_ACT_GELU_TANH, /* its approximation by tanh */
	MODEL_ACT_SILU,      /* x sigmoid(a x) */
	MODEL_ACT_MISH,
	MODEL_ACT_FLOOR,
	MODEL_ACT_CEIL,
	MODEL_ACT_ROUND, /* halves to even */
	MODEL_ACT_END,
};

#define MODEL_NONE 0xffffffffu

/* Fields a kind does not name are 0 (src: MODEL_NONE). */
struct model_op {
	le32 kind;       /* enum model_op_kind */
	le32 activation; /* enum model_activation: DENSE, UNARY */
	le32 layout;     /* enum model_layout: DENSE */
	le32 src[2];     /* buffer, or MODEL_NONE */
	le32 dst;
	le32 m, k, n;
	le32 unused;
	float a, b; /* the activation's parameters */
	le64 constant[2];
	le64 constant_bytes[2]; /* 0 = operand is no constant */
	le64 bias;              /* DENSE: n floats padded to a multiple of 16 */
	le64 bias_bytes;        /* 0 = no bias */
	float low, high; /* DENSE in PANELS_INT8: range of src0, low <= 0 <= high; both 0: each row's own */
	le64 reserved[3];
};

/* The general operator: whole tensors of any dtype, one row at a time. A row's batch dimension counts
 * as 1. Shapes of outputs follow from inputs and attributes (models/run/tensor.h says how); they are
 * stored so that a reader can compare. */
enum {
	MODEL_TENSOR_MAX_RANK = 8,
	MODEL_TENSOR_MAX_IN = 8,
	MODEL_TENSOR_MAX_OUT = 3,
	MODEL_TENSOR_INTS = 46,
	MODEL_TENSOR_FLOATS = 6,
};

struct model_operand {
	le32 buffer; /* or MODEL_NONE: a constant of elements x dtype size bytes at `constant` */
	le32 dtype;  /* 0: the operand is absent, all fields 0 */
	le32 rank;
	le32 dims[MODEL_TENSOR_MAX_RANK];
	le32 reserved;
	le64 constant;
};

struct model_tensor_op {
	le32 function; /* enum model_function */
	le32 n_in, n_out;
	le32 reserved;
	struct model_operand in[MODEL_TENSOR_MAX_IN], out[MODEL_TENSOR_MAX_OUT];
	int64_t ints[MODEL_TENSOR_INTS];
	float floats[MODEL_TENSOR_FLOATS];
};

/* ints[] and floats[] as models/run/tensor.h documents for each. */
enum model_function {
	MODEL_FN_UNARY = 1,
	MODEL_FN_BINARY,
	MODEL_FN_WHERE,
	MODEL_FN_CAST,
	MODEL_FN_STRIDED, /* slice, transpose, expand, tile, depth to space: one walk with strides */
	MODEL_FN_CONCAT,
	MODEL_FN_PAD,
	MODEL_FN_REDUCE,
	MODEL_FN_ARGMAX,
	MODEL_FN_CUMSUM,
	MODEL_FN_MATMUL,
	MODEL_FN_EINSUM,
	MODEL_FN_CONV,
	MODEL_FN_POOL,
	MODEL_FN_SOFTMAX,
	MODEL_FN_GATHER,
	MODEL_FN_GATHER_ELEMENTS,
	MODEL_FN_GATHER_ND,
	MODEL_FN_SCATTER_ELEMENTS,
	MODEL_FN_SCATTER_ND,
	MODEL_FN_TOPK,
	MODEL_FN_RECURRENT,
	MODEL_FN_TREES,
	MODEL_FN_LAYER_NORM,
	MODEL_FN_CONV_LAST, /* the fast forms: channels last, packed weights */
	MODEL_FN_POOL_LAST,
	MODEL_FN_ATTENTION,
	MODEL_FN_EMBEDDING,
	MODEL_FN_LOOKUPS,
	MODEL_FN_END,
};

STATIC_ASSERT(sizeof(struct model_operand) == 56, "model_operand");
STATIC_ASSERT(sizeof(struct model_tensor_op) == 1024, "model_tensor_op");
STATIC_ASSERT(sizeof(struct model_program) == 128, "model_program");
STATIC_ASSERT(sizeof(struct model_buffer) == 16, "model_buffer");
STATIC_ASSERT(sizeof(struct model_op) == 128, "model_op");
STATIC_ASSERT(sizeof(struct model_file_io) == 128, "model_file_io");
STATIC_ASSERT(sizeof(struct model_file_header) <= MODEL_FILE_PAGE, "the header is one page");
STATIC_ASSERT(sizeof(struct model_file_signature) == 104, "model_file_signature");
