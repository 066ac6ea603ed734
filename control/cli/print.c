/* SPDX-License-Identifier: BSD-3-Clause
 * Tables, units, colours: see print.h.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control/cli/print.h"

static bool colours;

void print_init(void)
{
	const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

	colours = isatty(STDOUT_FILENO) && !(no && *no) && term && strcmp(term, "dumb") != 0;
}

const char *print_on(enum style s)
{
	static const char *const codes[] = {"", "\033[1m", "\033[32m", "\033[33m", "\033[31m", "\033[2m"};

	return colours ? codes[s] : "";
}

const char *print_off(void)
{
	return colours ? "\033[0m" : "";
}

/* -- tables ---------------------------------------------------------------------------------- */

void table_init(struct table *t, const char *const *headings, size_t columns)
{
	memset(t, 0, sizeof(*t));
	t->columns = columns < TABLE_MAX_COLUMNS ? columns : TABLE_MAX_COLUMNS;
	memcpy(t->headings, headings, t->columns * sizeof(*headings));
}

/* Control characters of a name must not reach the terminal. */
static char *clean_copy(const char *s)
{
	char *copy = strdup(s ? s : "");

	for (char *p = copy; p && *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
	return copy;
}

void table_row(struct table *t, const char *const *cells)
{
	char **grown = realloc(t->cells, (t->rows + 1) * t->columns * sizeof(*grown));

	if (!grown)
		return;
	t->cells = grown;
	for (size_t c = 0; c < t->columns; c++)
		t->cells[t->rows * t->columns + c] = clean_copy(cells[c]);
	t->rows++;
}

/* Characters, not bytes: continuation bytes of UTF-8 take no room. */
static int width_of(const char *s)
{
	int n = 0;

	for (; s && *s; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

static void print_cell(const char *s, int width, bool right, bool last)
{
	int pad = width - width_of(s);

	if (right)
		printf("%*s%s", pad > 0 ? pad : 0, "", s);
	else if (last)
		printf("%s", s);
	else
		printf("%s%*s", s, pad > 0 ? pad : 0, "");
	printf(last ? "\n" : "  ");
}

void table_print(struct table *t)
{
	int width[TABLE_MAX_COLUMNS];
	bool right[TABLE_MAX_COLUMNS];

	for (size_t c = 0; c < t->columns; c++) {
		right[c] = t->headings[c][0] == '>';
		width[c] = width_of(t->headings[c]) - right[c];
		for (size_t r = 0; r < t->rows; r++) {
			int w = width_of(t->cells[r * t->columns + c]);

			width[c] = w > width[c] ? w : width[c];
		}
	}
	printf("%s", print_on(STYLE_BOLD));
	for (size_t c = 0; c < t->columns; c++)
		print_cell(t->headings[c] + right[c], width[c], right[c], c + 1 == t->columns);
	printf("%s", print_off());
	for (size_t i = 0; i < t->rows * t->columns; i++) {
		size_t c = i % t->columns;

		print_cell(t->cells[i] ? t->cells[i] : "", width[c], right[c], c + 1 == t->columns);
		free(t->cells[i]);
	}
	free(t->cells);
	memset(t, 0, sizeof(*t));
}

/* -- units ----------------------------------------------------------------------------------- */

static int decimals(double v)
{
	return v >= 100 ? 0 : v >= 10 ? 1 : 2;
}

const char *unit_count(double v, char out[UNIT_BYTES])
{
	static const char *const suffix[] = {"", "k", "M", "G", "T"};
	size_t i = 0;

	while (v >= 999.5 && i + 1 < sizeof(suffix) / sizeof(suffix[0])) {
		v /= 1000;
		i++;
	}
	snprintf(out, UNIT_BYTES, "%.*f%s", i == 0 && v == floor(v) ? 0 : decimals(v), v, suffix[i]);
	return out;
}

const char *unit_bytes(double v, char out[UNIT_BYTES])
{
	static const char *const suffix[] = {"B", "KiB", "MiB", "GiB", "TiB"};
	size_t i = 0;

	while (v >= 1024 && i + 1 < sizeof(suffix) / sizeof(suffix[0])) {
		v /= 1024;
		i++;
	}
	snprintf(out, UNIT_BYTES, "%.*f %s", i ? 1 : 0, v, suffix[i]);
	return out;
}

const char *unit_us(double us, char out[UNIT_BYTES])
{
	if (us <= 0)
		snprintf(out, UNIT_BYTES, "-");
	else if (us < 1000)
		snprintf(out, UNIT_BYTES, "%.*f us", decimals(us), us);
	else if (us < 1e6)
		snprintf(out, UNIT_BYTES, "%.*f ms", decimals(us / 1e3), us / 1e3);
	else
		snprintf(out, UNIT_BYTES, "%.*f s", decimals(us / 1e6), us / 1e6);
	return out;
}

const char *unit_span(int64_t s, char out[UNIT_BYTES])
{
	if (s < 0)
		s = 0;
	if (s >= 86400)
		snprintf(out, UNIT_BYTES, "%dd %dh", (int)(s / 86400), (int)(s % 86400 / 3600));
	else if (s >= 3600)
		snprintf(out, UNIT_BYTES, "%dh %dm", (int)(s / 3600), (int)(s % 3600 / 60));
	else if (s >= 60)
		snprintf(out, UNIT_BYTES, "%dm %ds", (int)(s / 60), (int)(s % 60));
	else
		snprintf(out, UNIT_BYTES, "%ds", (int)s);
	return out;
}

/* -- fields ---------------------------------------------------------------------------------- */

const char *field_text(const json_t *o, const char *name)
{
	const char *s = json_string_value(json_object_get(o, name));

	return s ? s : "";
}

double field_number(const json_t *o, const char *name)
{
	return json_number_value(json_object_get(o, name));
}

bool field_true(const json_t *o, const char *name)
{
	return json_is_true(json_object_get(o, name));
}

void field_names(const json_t *o, const char *name, char *out, size_t cap)
{
	const json_t *list = json_object_get(o, name), *item;
	size_t i, used = 0;

	snprintf(out, cap, "all");
	json_array_foreach(list, i, item) {
		int n = snprintf(out + used, cap - used, "%s%s", i ? ", " : "", json_string_value(item));

		if (n < 0 || (size_t)n >= cap - used)
			return;
		used += (size_t)n;
	}
}
