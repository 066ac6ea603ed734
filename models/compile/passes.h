/* SPDX-License-Identifier: BSD-3-Clause
 * Passes over the graph, each graph → graph with the same answers (up to rounding).
 */
#pragma once

#include "models/compile/ir.h"

/* Run all passes in their order. -ENOMEM, or 0. */
int passes_run(struct ir_graph *g, struct error *err);

/* Those of passes.c: */

/* Nodes whose outputs nobody uses. */
int pass_drop_dead(struct ir_graph *g, struct error *err);
/* A factor or summand a channel (BatchNormalization) goes into the convolution's weights and bias. */
int pass_fold_into_conv(struct ir_graph *g, struct error *err);
/* A product with a constant matrix on the right is a dense layer. */
int pass_form_dense(struct ir_graph *g, struct error *err);
/* Activations and softmax of float32: the kernels' own. */
int pass_choose_kernels(struct ir_graph *g, struct error *err);
/* dense + constant: the layer's bias. */
int pass_fuse_bias(struct ir_graph *g, struct error *err);
/* activation(dense): the layer's. */
int pass_fuse_activation(struct ir_graph *g, struct error *err);

/* The larger ones, in the order they run: */

/* x[:, 3] by a Gather of one known index: a slice. */
int pass_slice_gathers(struct ir_graph *g, struct error *err);
/* ReduceMean, Sub, Pow, ReduceMean, Add, Sqrt, Div, and a scale and bias after: one LAYER_NORM. */
int pass_fuse_norm(struct ir_graph *g, struct error *err);
/* Chains of one value and numbers that compute a known activation: that activation. */
int pass_fuse_elementwise(struct ir_graph *g, struct error *err);
/* softmax(scale Q K^T + mask) V with the moves around it: one ATTENTION. */
int pass_fuse_attention(struct ir_graph *g, struct error *err);
/* Constant weights of recurrent layers as the engine multiplies with them. */
int pass_pack_recurrent(struct ir_graph *g, struct error *err);
/* Gather from a constant table and the sum or mean of what was found: one EMBEDDING. */
int pass_fuse_embedding(struct ir_graph *g, struct error *err);
/* Concat of lookups in constant tables by elements of one index tensor (the sparse features of a recommender): one
 * LOOKUPS in their place. */
int pass_fuse_lookups(struct ir_graph *g, struct error *err);
/* Concat of Concats: one, as far as an operator has inputs. */
int pass_join_concats(struct ir_graph *g, struct error *err);
/* Arithmetic with a number: one multiplication and addition; powers 2 and 1/2. */
int pass_simplify(struct ir_graph *g, struct error *err);
/* Convolutions, pools and what lies between them work with channels last. -errno. */
int pass_channels_last(struct ir_graph *g, struct error *err);
