/* SPDX-License-Identifier: BSD-3-Clause
 * Where things lie: programs beside control, files in the state and run directories.
 */
#pragma once

#include <stddef.h>

#include "base/error.h"

/* `configured`, or when that is empty `name` beside the running program. */
void path_of_program(char *out, size_t n, const char *configured, const char *name);
/* Create a directory with `mode` and its parents (0755); what is there stays as it is. 0, or -errno with err. */
int path_make_dir(const char *path, unsigned int mode, struct error *err);
