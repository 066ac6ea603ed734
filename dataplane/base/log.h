/* SPDX-License-Identifier: BSD-3-Clause
 * One line a fact, for the operator: "2026-11-23T01:02:03.456Z info dataplane: text" on stderr.
 *
 * Nothing is logged per packet; counters are for that. Any thread may log. Control characters in
 * arguments are escaped (CWE-117). Secrets are never passed to these functions.
 */
#pragma once

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* Name this program and choose the quietest level still printed. Call once, before any thread. */
void log_init(const char *program, enum log_level level);

/* Write one line. Use the macros below. */
void log_write(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...) log_write(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

/* At most one line a second per limiter; the next line says how many were swallowed. */
struct log_limiter {
	unsigned long long next_ns;
	unsigned long swallowed;
};
void log_ratelimited(struct log_limiter *lim, enum log_level level, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
