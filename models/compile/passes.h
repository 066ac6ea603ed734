/* SPDX-License-Identifier: BSD-3-Clause
 * Passes over the graph, each graph → graph with the same answers.
 */
#pragma once

#include "models/compile/ir.h"

/* Run all passes in their order. -ENOMEM, or 0. */
int passes_run(struct ir_graph *g, struct error *err);
