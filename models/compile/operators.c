/* SPDX-License-Identifier: BSD-3-Clause
 * The table of ONNX operators. Semantics are those of the ONNX operator set (onnx.ai,
 * Operators.md), including what changed between its versions.
 */
#include <string.h>

#include "models/compile/lower.h"

enum { ANY = OPERATOR_MAX_INPUTS };

#define CONV_ATTRIBUTES "auto_pad,dilations,group,kernel_shape,pads,strides"
#define POOL_ATTRIBUTES "auto_pad,ceil_mode,dilations,kernel_shape,pads,strides"
#define TREE_ATTRIBUTES                                                                            \
	"base_values,nodes_falsenodeids,nodes_featureids,nodes_hitrates,"                          \
	"nodes_missing_value_tracks_true,nodes_modes,nodes_nodeids,nodes_treeids,"                 \
	"nodes_truenodeids,nodes_values,post_transform"
#define CELL_ATTRIBUTES "activations,clip,direction,hidden_size,layout,output_sequence"
#define RESIZE_ATTRIBUTES                                                                          \
	"coordinate_transformation_mode,cubic_coeff_a,exclude_outside,extrapolation_value,mode,"   \
	"nearest_mode,scales,antialias,axes,keep_aspect_ratio_policy"

static const char each[] = "element by element";
static const char broad[] = "numpy broadcasting within a row";
static const char fused[] = "fused into a dense layer before it";
static const char shape[] = "costs nothing; parameters bound when compiling";
static const char bound[] = "folded; inputs bound when compiling";
static const char quant[] = "by way of exact float32 or INT32";

static const struct onnx_operator operators[] = {
	{"", "Abs", 1, 1, 1, "", build_unary, UNARY_ABS, each},
	{"", "Acos", 7, 1, 1, "", build_unary, UNARY_ACOS, each},
	{"", "Acosh", 9, 1, 1, "", build_unary, UNARY_ACOSH, each},
	{"", "Add", 1, 2, 2, "axis,broadcast", build_binary, BINARY_ADD, broad},
	{"", "And", 1, 2, 2, "axis,broadcast", build_binary, BINARY_AND, broad},
	{"", "ArgMax", 1, 1, 1, "axis,keepdims,select_last_index", build_argmax, 0, ""},
	{"", "ArgMin", 1, 1, 1, "axis,keepdims,select_last_index", build_argmax, 1, ""},
	{"", "Asin", 7, 1, 1, "", build_unary, UNARY_ASIN, each},
	{"", "Asinh", 9, 1, 1, "", build_unary, UNARY_ASINH, each},
	{"", "Atan", 7, 1, 1, "", build_unary, UNARY_ATAN, each},
	{"", "Atanh", 9, 1, 1, "", build_unary, UNARY_ATANH, each},
	{"", "AveragePool", 1, 1, 1, POOL_ATTRIBUTES ",count_include_pad", build_pool, POOL_AVERAGE,
		"1 to 3 spatial dimensions"},
	{"", "BatchNormalization", 1, 5, 5, "epsilon,momentum,spatial,training_mode,is_test",
		build_batch_norm, 0, "folded into a convolution before it"},
	{"", "BitShift", 11, 2, 2, "direction", build_shift, 0, "UINT8"},
	{"", "BlackmanWindow", 17, 1, 1, "output_datatype,periodic", build_window, 2, bound},
	{"", "Cast", 6, 1, 1, "to", build_cast, 0, each},
	{"", "CastLike", 15, 2, 2, "", build_cast_like, 0, each},
	{"", "Ceil", 1, 1, 1, "", build_unary, UNARY_CEIL, each},
	{"", "Celu", 12, 1, 1, "alpha", build_parametric, UNARY_CELU, each},
	{"", "Clip", 1, 1, 3, "min,max", build_clip, 0, "constant bounds are fused"},
	{"", "Compress", 9, 2, 2, "axis", build_compress, 0, "condition bound when compiling"},
	{"", "Concat", 1, 1, ANY, "axis", build_concat, 0, "any axis but the batch"},
	{"", "Constant", 1, 0, 0, "value,value_float,value_floats,value_int,value_ints",
		build_constant, 0, "folded"},
	{"", "ConstantOfShape", 9, 1, 1, "value", build_constant_of_shape, 0, bound},
	{"", "Conv", 1, 2, 3, CONV_ATTRIBUTES, build_conv, 0,
		"1 to 3 spatial dimensions, im2col on the dense kernels"},
	{"", "ConvInteger", 10, 2, 4, CONV_ATTRIBUTES, build_conv_integer, 0, quant},
	{"", "ConvTranspose", 1, 2, 3, CONV_ATTRIBUTES ",output_padding,output_shape",
		build_conv_transpose, 0, "as a convolution of the spread input"},
	{"", "Cos", 7, 1, 1, "", build_unary, UNARY_COS, each},
	{"", "Cosh", 9, 1, 1, "", build_unary, UNARY_COSH, each},
	{"", "CumSum", 11, 2, 2, "exclusive,reverse", build_cumsum, 0, ""},
	{"", "DepthToSpace", 1, 1, 1, "blocksize,mode", build_depth_to_space, 0, ""},
	{"", "DequantizeLinear", 10, 2, 3, "axis", build_dequantize, 0, quant},
	{"", "Div", 1, 2, 2, "axis,broadcast", build_binary, BINARY_DIV, broad},
	{"", "Dropout", 1, 1, 3, "ratio,seed,is_test", build_dropout, 0, "inference: removed"},
	{"", "DynamicQuantizeLinear", 11, 1, 1, "", build_dynamic_quantize, 0,
		"of a tensor without batch"},
	{"", "Einsum", 12, 1, 3, "equation", build_einsum, 0, "at most 8 labels"},
	{"", "Elu", 1, 1, 1, "alpha", build_parametric, UNARY_ELU, each},
	{"", "Equal", 1, 2, 2, "axis,broadcast", build_binary, BINARY_EQUAL, broad},
	{"", "Erf", 9, 1, 1, "", build_unary, UNARY_ERF, each},
	{"", "Exp", 1, 1, 1, "", build_unary, UNARY_EXP, each},
	{"", "Expand", 8, 2, 2, "", build_expand, 0, "shape bound when compiling"},
	{"", "EyeLike", 9, 1, 1, "dtype,k", build_eye_like, 0, "folded"},
	{"", "Flatten", 1, 1, 1, "axis", build_flatten, 0, "costs nothing"},
	{"", "Floor", 1, 1, 1, "", build_unary, UNARY_FLOOR, each},
	{"", "GRU", 7, 3, 6, CELL_ATTRIBUTES ",linear_before_reset", build_recurrent, CELL_GRU, ""},
	{"", "Gather", 1, 2, 2, "axis", build_gather, 0, "indices clamped"},
	{"", "GatherElements", 11, 2, 2, "axis", build_gather_elements, 0, "indices clamped"},
	{"", "GatherND", 11, 2, 2, "batch_dims", build_gather_nd, 0, "indices clamped"},
	{"", "Gemm", 1, 2, 3, "alpha,beta,transA,transB,broadcast", build_gemm, 0,
		"a dense layer when B is constant"},
	{"", "GlobalAveragePool", 1, 1, 1, "", build_global_pool, REDUCE_MEAN, ""},
	{"", "GlobalMaxPool", 1, 1, 1, "", build_global_pool, REDUCE_MAX, ""},
	{"", "Greater", 1, 2, 2, "axis,broadcast", build_binary, BINARY_GREATER, broad},
	{"", "GreaterOrEqual", 12, 2, 2, "", build_binary, BINARY_GREATER_EQUAL, broad},
	{"", "HammingWindow", 17, 1, 1, "output_datatype,periodic", build_window, 1, bound},
	{"", "HannWindow", 17, 1, 1, "output_datatype,periodic", build_window, 0, bound},
	{"", "HardSigmoid", 1, 1, 1, "alpha,beta", build_parametric, UNARY_HARD_SIGMOID, each},
	{"", "HardSwish", 14, 1, 1, "", build_unary, UNARY_HARD_SWISH, each},
	{"", "Hardmax", 1, 1, 1, "axis", build_softmax, 2, "any axis but the batch"},
	{"", "Identity", 1, 1, 1, "", build_identity, 0, "removed"},
	{"", "InstanceNormalization", 6, 3, 3, "epsilon", build_instance_norm, 0, ""},
	{"", "IsInf", 10, 1, 1, "detect_negative,detect_positive", build_is_inf, 0, each},
	{"", "IsNaN", 9, 1, 1, "", build_unary, UNARY_IS_NAN, each},
	{"", "LRN", 1, 1, 1, "alpha,beta,bias,size", build_lrn, 0, ""},
	{"", "LSTM", 7, 3, 8, CELL_ATTRIBUTES ",input_forget", build_recurrent, CELL_LSTM, ""},
	{"", "LayerNormalization", 17, 2, 3, "axis,epsilon,stash_type", build_layer_norm, 0, ""},
	{"", "LeakyRelu", 1, 1, 1, "alpha", build_parametric, UNARY_LEAKY_RELU, fused},
	{"", "Less", 1, 2, 2, "axis,broadcast", build_binary, BINARY_LESS, broad},
	{"", "LessOrEqual", 12, 2, 2, "", build_binary, BINARY_LESS_EQUAL, broad},
	{"", "Log", 1, 1, 1, "", build_unary, UNARY_LOG, each},
	{"", "LogSoftmax", 1, 1, 1, "axis", build_softmax, 1, "any axis but the batch"},
	{"", "LpNormalization", 1, 1, 1, "axis,p", build_lp_norm, 0, ""},
	{"", "LpPool", 2, 1, 1, POOL_ATTRIBUTES ",p", build_pool, POOL_LP, ""},
	{"", "MatMul", 1, 2, 2, "", build_matmul, 0,
		"a dense layer when the right side is a constant matrix"},
	{"", "MatMulInteger", 10, 2, 4, "", build_matmul_integer, 0, quant},
	{"", "Max", 6, 1, ANY, "", build_variadic, REDUCE_MAX, broad},
	{"", "MaxPool", 1, 1, 1, POOL_ATTRIBUTES ",storage_order", build_pool, POOL_MAX,
		"1 to 3 spatial dimensions"},
	{"", "Mean", 6, 1, ANY, "", build_variadic, REDUCE_MEAN, broad},
	{"", "MeanVarianceNormalization", 9, 1, 1, "axes", build_mvn, 0, "not over the batch"},
	{"", "Min", 6, 1, ANY, "", build_variadic, REDUCE_MIN, broad},
	{"", "Mish", 18, 1, 1, "", build_unary, UNARY_MISH, each},
	{"", "Mod", 10, 2, 2, "fmod", build_mod, 0, broad},
	{"", "Mul", 1, 2, 2, "axis,broadcast", build_binary, BINARY_MUL, broad},
	{"", "Neg", 1, 1, 1, "", build_unary, UNARY_NEG, each},
	{"", "NonZero", 9, 1, 1, "", build_non_zero, 0, bound},
	{"", "Not", 1, 1, 1, "", build_unary, UNARY_NOT, each},
	{"", "OneHot", 9, 3, 3, "axis", build_one_hot, 0, "depth bound when compiling"},
	{"", "Or", 1, 2, 2, "axis,broadcast", build_binary, BINARY_OR, broad},
	{"", "PRelu", 1, 2, 2, "", build_prelu, 0, broad},
	{"", "Pad", 1, 1, 4, "mode,pads,paddings,value", build_pad, 0, "pads bound when compiling"},
	{"", "Pow", 1, 2, 2, "axis,broadcast", build_pow, 0, broad},
	{"", "QLinearConv", 10, 8, 9, CONV_ATTRIBUTES, build_qlinear_conv, 0, quant},
	{"", "QLinearMatMul", 10, 8, 8, "", build_qlinear_matmul, 0, quant},
	{"", "QuantizeLinear", 10, 2, 3, "axis,saturate", build_quantize, 0, quant},
	{"", "RNN", 7, 3, 6, CELL_ATTRIBUTES, build_recurrent, CELL_RNN, ""},
	{"", "Range", 11, 3, 3, "", build_range, 0, bound},
	{"", "Reciprocal", 1, 1, 1, "", build_unary, UNARY_RECIPROCAL, each},
#define REDUCTION(name, fn)                                                                        \
	{                                                                                          \
		"", name, 1, 1, 2, "axes,keepdims,noop_with_empty_axes", build_reduce, fn,         \
			"any axes but the batch"                                                   \
	}
	REDUCTION("ReduceL1", REDUCE_L1),
	REDUCTION("ReduceL2", REDUCE_L2),
	REDUCTION("ReduceLogSum", REDUCE_LOG_SUM),
	REDUCTION("ReduceLogSumExp", REDUCE_LOG_SUM_EXP),
	REDUCTION("ReduceMax", REDUCE_MAX),
	REDUCTION("ReduceMean", REDUCE_MEAN),
	REDUCTION("ReduceMin", REDUCE_MIN),
	REDUCTION("ReduceProd", REDUCE_PROD),
	REDUCTION("ReduceSum", REDUCE_SUM),
	REDUCTION("ReduceSumSquare", REDUCE_SUM_SQUARE),
	{"", "Relu", 1, 1, 1, "", build_unary, UNARY_RELU, fused},
	{"", "Reshape", 1, 1, 2, "shape,allowzero", build_reshape, 0, shape},
	{"", "Resize", 10, 1, 4, RESIZE_ATTRIBUTES, build_resize, 0,
		"nearest by gather; linear, cubic by matrix products"},
	{"", "ReverseSequence", 10, 2, 2, "batch_axis,time_axis", build_reverse_sequence, 0,
		"lengths bound when compiling"},
	{"", "Round", 11, 1, 1, "", build_unary, UNARY_ROUND, each},
	{"", "Scatter", 9, 3, 3, "axis", build_scatter, MODEL_FN_SCATTER_ELEMENTS,
		"indices clamped"},
	{"", "ScatterElements", 11, 3, 3, "axis,reduction", build_scatter,
		MODEL_FN_SCATTER_ELEMENTS, "indices clamped"},
	{"", "ScatterND", 11, 3, 3, "reduction", build_scatter, MODEL_FN_SCATTER_ND,
		"indices clamped"},
	{"", "Selu", 1, 1, 1, "alpha,gamma", build_parametric, UNARY_SELU, each},
	{"", "Shape", 1, 1, 1, "start,end", build_shape, 0, "folded"},
	{"", "Shrink", 9, 1, 1, "bias,lambd", build_parametric, UNARY_SHRINK, each},
	{"", "Sigmoid", 1, 1, 1, "", build_unary, UNARY_SIGMOID, fused},
	{"", "Sign", 9, 1, 1, "", build_unary, UNARY_SIGN, each},
	{"", "Sin", 7, 1, 1, "", build_unary, UNARY_SIN, each},
	{"", "Sinh", 9, 1, 1, "", build_unary, UNARY_SINH, each},
	{"", "Size", 1, 1, 1, "", build_size, 0, "folded"},
	{"", "Slice", 1, 1, 5, "axes,starts,ends", build_slice, 0, "bounds bound when compiling"},
	{"", "Softmax", 1, 1, 1, "axis", build_softmax, 0,
		"any axis but the batch; opset < 13 flattens"},
	{"", "Softplus", 1, 1, 1, "", build_unary, UNARY_SOFTPLUS, each},
	{"", "Softsign", 1, 1, 1, "", build_unary, UNARY_SOFTSIGN, each},
	{"", "SpaceToDepth", 1, 1, 1, "blocksize", build_space_to_depth, 0, ""},
	{"", "Split", 1, 1, 2, "axis,split,num_outputs", build_split, 0,
		"sizes bound when compiling"},
	{"", "Sqrt", 1, 1, 1, "", build_unary, UNARY_SQRT, each},
	{"", "Squeeze", 1, 1, 2, "axes", build_squeeze, 0, shape},
	{"", "Sub", 1, 2, 2, "axis,broadcast", build_binary, BINARY_SUB, broad},
	{"", "Sum", 6, 1, ANY, "", build_variadic, REDUCE_SUM, broad},
	{"", "Tan", 7, 1, 1, "", build_unary, UNARY_TAN, each},
	{"", "Tanh", 1, 1, 1, "", build_unary, UNARY_TANH, fused},
	{"", "ThresholdedRelu", 10, 1, 1, "alpha", build_parametric, UNARY_THRESHOLDED, each},
	{"", "Tile", 6, 2, 2, "", build_tile, 0, "repeats bound when compiling"},
	{"", "TopK", 1, 1, 2, "axis,k,largest,sorted", build_topk, 0, "k bound when compiling"},
	{"", "Transpose", 1, 1, 1, "perm", build_transpose, 0, ""},
	{"", "Trilu", 14, 1, 2, "upper", build_trilu, 0, "k bound when compiling"},
	{"", "Unsqueeze", 1, 1, 2, "axes", build_unsqueeze, 1, shape},
	{"", "Upsample", 7, 1, 2, "mode,scales", build_resize, 0, "as Resize"},
	{"", "Where", 9, 3, 3, "", build_where, 0, broad},
	{"", "Xor", 1, 2, 2, "axis,broadcast", build_binary, BINARY_XOR, broad},
	{"ai.onnx.ml", "ArrayFeatureExtractor", 1, 2, 2, "", build_feature_extractor, 0, ""},
	{"ai.onnx.ml", "Binarizer", 1, 1, 1, "threshold", build_binarizer, 0, each},
	{"ai.onnx.ml", "FeatureVectorizer", 1, 1, ANY, "inputdimensions", build_feature_vectorizer,
		0, ""},
	{"ai.onnx.ml", "Imputer", 1, 1, 1,
		"imputed_value_floats,imputed_value_int64s,replaced_value_float,replaced_value_"
		"int64",
		build_imputer, 0, each},
	{"ai.onnx.ml", "LabelEncoder", 1, 1, 1,
		"keys_floats,keys_int64s,values_floats,values_int64s,default_float,default_int64",
		build_label_encoder, 0, "numbers only"},
	{"ai.onnx.ml", "LinearClassifier", 1, 1, 1,
		"classlabels_ints,classlabels_strings,coefficients,intercepts,multi_class,"
		"post_transform",
		build_linear_classifier, 0, "a dense layer; string labels as their index"},
	{"ai.onnx.ml", "LinearRegressor", 1, 1, 1, "coefficients,intercepts,post_transform,targets",
		build_linear, 0, "a dense layer"},
	{"ai.onnx.ml", "Normalizer", 1, 1, 1, "norm", build_normalizer, 0, ""},
	{"ai.onnx.ml", "Scaler", 1, 1, 1, "offset,scale", build_scaler, 0, ""},
	{"ai.onnx.ml", "TreeEnsembleClassifier", 1, 1, 1,
		TREE_ATTRIBUTES ",class_ids,class_nodeids,class_treeids,class_weights,"
				"classlabels_int64s,classlabels_strings",
		build_tree_classifier, 0, "eight walks in step; string labels as their index"},
	{"ai.onnx.ml", "TreeEnsembleRegressor", 1, 1, 1,
		TREE_ATTRIBUTES ",aggregate_function,n_targets,target_ids,target_nodeids,"
				"target_treeids,target_weights",
		build_tree_regressor, 0, "eight walks in step"},
	{"ai.onnx.ml", "ZipMap", 1, 1, 1, "classlabels_int64s,classlabels_strings", build_zip_map,
		0, "dropped: the scores are served"},
};

const struct onnx_operator *operator_at(size_t i)
{
	return i < sizeof(operators) / sizeof(operators[0]) ? &operators[i] : NULL;
}

const struct onnx_operator *operator_find(const char *domain, const char *name)
{
	if (!strcmp(domain, "ai.onnx"))
		domain = "";
	for (size_t i = 0; operator_at(i); i++)
		if (!strcmp(operators[i].name, name) && !strcmp(operators[i].domain, domain))
			return &operators[i];
	return NULL;
}
