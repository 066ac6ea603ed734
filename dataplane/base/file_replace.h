/* SPDX-License-Identifier: BSD-3-Clause
 * Small files as a whole: read one with a cap, replace one so that a crash leaves the old or the new.
 */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#include "base/error.h"

/* Read at most `max` bytes of a regular file into *out (caller frees, one zero byte appended; *n may be
 * NULL). 0, or -errno (-EFBIG when it is longer) with err naming the path. */
int file_read(const char *path, size_t max, char **out, size_t *n, struct error *err);

/* Write data[0..n) as `path`: temporary file beside it with `mode`, fsync, rename, fsync of the folder.
 * Temporary files of a minute ago and older, of writers that were killed, are removed. 0 or -errno with err; on
 * error `path` is as it was. */
int file_replace(const char *path, const void *data, size_t n, mode_t mode, struct error *err);
