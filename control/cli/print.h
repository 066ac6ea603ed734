/* SPDX-License-Identifier: BSD-3-Clause
 * How the CLI looks: aligned tables, human units, colours on a terminal only.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <jansson.h>

enum { TABLE_MAX_COLUMNS = 12, UNIT_BYTES = 24 };
enum style { STYLE_PLAIN, STYLE_BOLD, STYLE_GOOD, STYLE_WARN, STYLE_BAD, STYLE_DIM };

/* Decide about colours: stdout is a terminal and NO_COLOR (no-color.org) is not set. */
void print_init(void);
const char *print_on(enum style s); /* "" without colours */
const char *print_off(void);

/* A table that is printed when it is complete. Headings starting with '>' are right-aligned. */
struct table {
	const char *headings[TABLE_MAX_COLUMNS];
	size_t columns, rows;
	char **cells; /* rows x columns, malloc'ed texts */
};
void table_init(struct table *t, const char *const *headings, size_t columns);
/* Append one row of `columns` texts (copied). */
void table_row(struct table *t, const char *const *cells);
/* Print and free. */
void table_print(struct table *t);

/* "12.3k", "4.06M": three significant digits. Result is `out`. */
const char *unit_count(double v, char out[UNIT_BYTES]);
const char *unit_bytes(double v, char out[UNIT_BYTES]); /* "4.0 MiB" */
const char *unit_us(double us, char out[UNIT_BYTES]);   /* "8.21 us", "1.20 ms", 0 = "-" */
const char *unit_span(int64_t seconds, char out[UNIT_BYTES]); /* "3d 4h", "12m 5s" */

/* Fields of an answer, with a harmless default. */
const char *field_text(const json_t *o, const char *name);
double field_number(const json_t *o, const char *name);
bool field_true(const json_t *o, const char *name);
/* ["a","b"] -> "a, b", [] -> "all". */
void field_names(const json_t *o, const char *name, char *out, size_t cap);
