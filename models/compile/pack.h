/* SPDX-License-Identifier: BSD-3-Clause
 * The weights section: constants in the order operators name them, each in its kernel's layout.
 */
#pragma once

#include "models/compile/plan.h"

enum { PACK_NARROW = 4 }; /* layers of at most this many outputs are stored as columns */

/* Fill p->weights and every operator's offsets. Nodes that are not dead and not views correspond
 * to p->ops in order. -E2BIG or -ENOMEM. */
int pack_constants(struct ir_graph *g, struct plan *p, struct error *err);
