/* SPDX-License-Identifier: BSD-3-Clause
 * Building blocks of the operators' builders (lower_*.c): attributes, constants, and one function
 * per thing a builder can emit. Values are indices; a negative one other than IR_NONE is an error
 * that went through err already, and every function hands it on, so calls nest:
 * emit_binary(n, BINARY_MUL, emit_binary(n, BINARY_SUB, x, mean), scale).
 */
#pragma once

#include <errno.h>

#include "models/compile/operators.h"

/* "Conv: text (node 'name')" with -ENOTSUP; returns it. */
int32_t lower_refuse(const struct onnx_node *n, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static inline bool is_error(int32_t value)
{
	return value < IR_NONE;
}

static inline const struct ir_value *value_of(const struct onnx_node *n, int32_t v)
{
	return &n->g->values[v];
}

/* Input k, or IR_NONE if the node has none. */
static inline int32_t input(const struct onnx_node *n, size_t k)
{
	return k < n->n_in ? n->in[k] : IR_NONE;
}

/* ---- attributes ---- */

const Onnx__AttributeProto *attribute(const struct onnx_node *n, const char *name);
int64_t attribute_int(const struct onnx_node *n, const char *name, int64_t fallback);
float attribute_float(const struct onnx_node *n, const char *name, float fallback);
/* Compares a string attribute (absent: `fallback`) with `text`. */
bool attribute_is(
	const struct onnx_node *n, const char *name, const char *fallback, const char *text);
/* Number of integers of a list attribute, copied to `to` (at most `room`); -1 if absent. */
int attribute_ints(const struct onnx_node *n, const char *name, int64_t *to, int room);

/* A constant INT64 or INT32 input as integers; *count of them in *data (the arena's). A run-time
 * value is refused, and the graph input it comes from noted in g->needs. 0 or -errno. */
int constant_ints(const struct onnx_node *n, int32_t v, const int64_t **data, size_t *count);
int constant_floats(const struct onnx_node *n, int32_t v, const float **data, size_t *count);
/* Refuses a run-time value as above. */
int must_be_constant(const struct onnx_node *n, int32_t v);

/* Normalise a possibly negative axis of v; refuses one out of range and the batch. */
int lower_axis(const struct onnx_node *n, int32_t v, int64_t axis, uint32_t *out);

/* ---- values ---- */

int32_t emit_constant(const struct onnx_node *n, uint32_t dtype, uint32_t rank,
	const uint32_t *dims, const void *data);
/* One element of `dtype`. */
int32_t emit_scalar(const struct onnx_node *n, uint32_t dtype, double value);
int32_t emit_ints(const struct onnx_node *n, uint32_t count, const int64_t *data);

/* ---- nodes ---- */

struct emission {
	enum model_function function;
	uint32_t n_in, n_out;
	int32_t in[TENSOR_MAX_IN];
	int64_t i[MODEL_TENSOR_INTS];
	float f[MODEL_TENSOR_FLOATS];
	int32_t batch[TENSOR_MAX_OUT]; /* the outputs' batch axis, or IR_NONE */
};

/* Check, infer, fold; *out (may be NULL) gets all outputs. Returns output 0. */
int32_t emit(const struct onnx_node *n, const struct emission *e, int32_t *out);

int32_t emit_unary(const struct onnx_node *n, int64_t fn, int32_t x, float f0, float f1);
/* numpy broadcasting that keeps rows apart. */
int32_t emit_binary(const struct onnx_node *n, int64_t fn, int32_t a, int32_t b);
int32_t emit_where(const struct onnx_node *n, int32_t condition, int32_t a, int32_t b);
int32_t emit_cast(const struct onnx_node *n, int32_t x, uint32_t dtype);
/* Same elements, other shape; `batch` is the new batch axis of a batched x. */
int32_t emit_view(
	const struct onnx_node *n, int32_t x, uint32_t rank, const uint32_t *dims, int32_t batch);
int32_t emit_strided(const struct onnx_node *n, int32_t x, int64_t base, uint32_t rank,
	const uint32_t *dims, const int64_t *strides, int32_t batch);
int32_t emit_transpose(const struct onnx_node *n, int32_t x, const uint32_t *perm);
/* Elements [start, start + size * step) along one axis, which is not the batch. */
int32_t emit_slice(const struct onnx_node *n, int32_t x, uint32_t axis, int64_t start, int64_t step,
	uint32_t size);
/* A view with 1 inserted at (or removed from) the axes of the mask. */
int32_t emit_unsqueeze(const struct onnx_node *n, int32_t x, uint32_t mask);
int32_t emit_squeeze(const struct onnx_node *n, int32_t x, uint32_t mask);
int32_t emit_reduce(const struct onnx_node *n, int64_t fn, int32_t x, uint32_t mask, bool keep);
int32_t emit_matmul(const struct onnx_node *n, int32_t a, int32_t b);
int32_t emit_concat(const struct onnx_node *n, const int32_t *in, size_t count, uint32_t axis);
/* Zero padding (or `mode`) by before/after[rank]; negative ones crop. */
int32_t emit_pad(const struct onnx_node *n, int32_t x, int64_t mode, const int64_t *before,
	const int64_t *after, int32_t value);
/* Convert to float32 for a function that has no other; undo with emit_cast(). */
int32_t emit_f32(const struct onnx_node *n, int32_t x);

/* ---- the builders, one file a family ---- */

#define BUILDER(name) int32_t name(struct onnx_node *n)
BUILDER(build_unary);
BUILDER(build_parametric);
BUILDER(build_clip);
BUILDER(build_is_inf);
BUILDER(build_binary);
BUILDER(build_pow);
BUILDER(build_mod);
BUILDER(build_shift);
BUILDER(build_variadic);
BUILDER(build_where);
BUILDER(build_cast);
BUILDER(build_cast_like);
BUILDER(build_prelu);
BUILDER(build_identity);
BUILDER(build_dropout);
BUILDER(build_constant);
BUILDER(build_reduce);
BUILDER(build_argmax);
BUILDER(build_cumsum);
BUILDER(build_softmax);
BUILDER(build_gemm);
BUILDER(build_matmul);
BUILDER(build_einsum);
BUILDER(build_flatten);
BUILDER(build_reshape);
BUILDER(build_transpose);
BUILDER(build_squeeze);
BUILDER(build_unsqueeze);
BUILDER(build_slice);
BUILDER(build_split);
BUILDER(build_concat);
BUILDER(build_expand);
BUILDER(build_tile);
BUILDER(build_pad);
BUILDER(build_shape);
BUILDER(build_size);
BUILDER(build_constant_of_shape);
BUILDER(build_range);
BUILDER(build_eye_like);
BUILDER(build_trilu);
BUILDER(build_one_hot);
BUILDER(build_gather);
BUILDER(build_gather_elements);
BUILDER(build_gather_nd);
BUILDER(build_scatter);
BUILDER(build_topk);
BUILDER(build_depth_to_space);
BUILDER(build_space_to_depth);
BUILDER(build_compress);
BUILDER(build_non_zero);
BUILDER(build_reverse_sequence);
BUILDER(build_conv);
BUILDER(build_conv_transpose);
BUILDER(build_pool);
BUILDER(build_global_pool);
BUILDER(build_batch_norm);
BUILDER(build_instance_norm);
BUILDER(build_layer_norm);
BUILDER(build_mvn);
BUILDER(build_lp_norm);
BUILDER(build_lrn);
BUILDER(build_resize);
BUILDER(build_recurrent);
BUILDER(build_quantize);
BUILDER(build_dequantize);
BUILDER(build_dynamic_quantize);
BUILDER(build_matmul_integer);
BUILDER(build_qlinear_matmul);
BUILDER(build_conv_integer);
BUILDER(build_qlinear_conv);
BUILDER(build_binarizer);
BUILDER(build_scaler);
BUILDER(build_linear);
BUILDER(build_normalizer);
BUILDER(build_feature_extractor);
BUILDER(build_window);
BUILDER(build_imputer);
BUILDER(build_feature_vectorizer);
BUILDER(build_label_encoder);
BUILDER(build_zip_map);
BUILDER(build_linear_classifier);
BUILDER(build_tree_classifier);
BUILDER(build_tree_regressor);
