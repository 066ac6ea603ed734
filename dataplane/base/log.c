/* SPDX-License-Identifier: BSD-3-Clause
 * Operator log on stderr: see log.h.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

static const char *const level_names[] = {"error", "warn", "info", "debug"};
static const char *log_program = "millrace";
static enum log_level log_quietest = LOG_LEVEL_INFO;

void log_init(const char *program, enum log_level level)
{
	log_program = program;
	log_quietest = level;
}

/* Replace control characters by '?', so that no argument can forge a second line. */
static void neutralise(char *text, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
			text[i] = '?';
}

static void write_line(enum log_level level, const char *fmt, va_list ap)
{
	char line[1024];
	struct timespec ts;
	struct tm tm;
	size_t head, n;
	int r;

	clock_gettime(CLOCK_REALTIME, &ts);
	gmtime_r(&ts.tv_sec, &tm);
	head = strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%S", &tm);
	r = snprintf(line + head, sizeof(line) - head, ".%03ldZ %-5s %s: ", ts.tv_nsec / 1000000,
		level_names[level], log_program);
	head += (size_t)r;
	r = vsnprintf(line + head, sizeof(line) - head - 1, fmt, ap);
	n = r < 0 ? head : head + (size_t)r;
	if (n > sizeof(line) - 2)
		n = sizeof(line) - 2;
	neutralise(line + head, n - head);
	line[n++] = '\n';
	(void)!write(STDERR_FILENO, line, n); /* one write: lines of two threads never mix */
}

void log_write(enum log_level level, const char *fmt, ...)
{
	va_list ap;

	if (level > log_quietest)
		return;
	va_start(ap, fmt);
	write_line(level, fmt, ap);
	va_end(ap);
}

void log_ratelimited(struct log_limiter *lim, enum log_level level, const char *fmt, ...)
{
	uint64_t now = clock_now_ns();
	char text[512];
	va_list ap;

	if (now < lim->next_ns) {
		lim->swallowed++;
		return;
	}
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (lim->swallowed)
		log_write(level, "%s (%lu like it not shown)", text, lim->swallowed);
	else
		log_write(level, "%s", text);
	lim->swallowed = 0;
	lim->next_ns = now + 1000000000ull;
}
