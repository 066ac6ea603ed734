/* SPDX-License-Identifier: BSD-3-Clause
 * Memory of a fixed size that is taken once at start: zeroed, touched, kept out of core dumps and of
 * children because it holds what clients sent.
 */
#pragma once

#include <stddef.h>

/* `bytes` > 0 of it, page-aligned, or NULL. Give back with pool_free(). */
void *pool_new(size_t bytes);
void pool_free(void *p, size_t bytes); /* NULL allowed */
