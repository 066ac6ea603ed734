/* SPDX-License-Identifier: BSD-3-Clause
 * An error as a value: a negative errno and one sentence for the person who has to act on it.
 */
#pragma once

struct error {
	int code; /* 0 or -errno */
	char text[320];
};

/* Fill `err` (may be NULL) with `code` (-errno) and a formatted sentence. Returns `code`, so a
 * failing function ends in `return error_set(err, -EINVAL, "...")`. */
int error_set(struct error *err, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Put "context: " in front of what `err` already says. Returns err->code. */
int error_prefix(struct error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
