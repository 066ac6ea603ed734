/* SPDX-License-Identifier: BSD-3-Clause
 * Buffers of large requests and replies: see wide.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/pool.h"
#include "wide.h"

int wide_init(struct wide *p, uint32_t n)
{
	*p = (struct wide){.n = n, .memory = pool_new((size_t)n * WIDE_BUFFER_BYTES),
		.unused = calloc(n, sizeof(*p->unused))};
	if (!p->memory || !p->unused || n > WIDE_MAX_BUFFERS) {
		wide_uninit(p);
		return -ENOMEM;
	}
	for (uint32_t i = n; i > 0; i--)
		p->unused[p->n_unused++] = (uint16_t)i;
	return 0;
}

void wide_uninit(struct wide *p)
{
	pool_free(p->memory, (size_t)p->n * WIDE_BUFFER_BYTES);
	free(p->unused);
	memset(p, 0, sizeof(*p));
}
