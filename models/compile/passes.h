/* SPDX-License-Identifier: BSD-3-Clause
 * Passes over the graph, each graph → graph with the same answers.
 */
#pragma once

#include "models/compile/ir.h"

/* Run all passes in their order. -ENOMEM, or 0. */
int passes_run(struct ir_graph *g, struct error *err);

/* layout.c: convolutions, pools and what lies between them work with channels last. -errno. */
int pass_channels_last(struct ir_graph *g, struct error *err);

/* Uses of every value, graph outputs included; the table is the arena's. NULL: no memory. */
uint32_t *count_uses(struct ir_graph *g);
