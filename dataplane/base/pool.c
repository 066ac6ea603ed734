/* SPDX-License-Identifier: BSD-3-Clause
 * Start-up memory: see pool.h.
 */
#include <sys/mman.h>

#include "base/pool.h"

void *pool_new(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	madvise(p, bytes, MADV_DONTDUMP);
	madvise(p, bytes, MADV_DONTFORK);
	madvise(p, bytes, MADV_HUGEPAGE); /* fewer TLB misses where THP is on */
	madvise(p, bytes, MADV_POPULATE_WRITE); /* else the first packets take the page faults */
	return p;
}

void pool_free(void *p, size_t bytes)
{
	if (p)
		munmap(p, bytes);
}
