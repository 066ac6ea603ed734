/* SPDX-License-Identifier: BSD-3-Clause
 * .npy parsing and writing: see npy.h. The header is a Python dict literal; the three keys numpy
 * writes are looked for, and anything else between them is refused.
 */
#include <errno.h>
#include <stdbool.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "abi/wire.h"
#include "base/file_replace.h"
#include "base/npy.h"

enum { FLOATS_MAX_BYTES = 1 << 30 };

struct cursor {
	const char *at, *end;
};

static void skip_blanks(struct cursor *c)
{
	while (c->at < c->end && (*c->at == ' ' || *c->at == '\n'))
		c->at++;
}

static bool take(struct cursor *c, const char *word)
{
	size_t n = strlen(word);

	skip_blanks(c);
	if ((size_t)(c->end - c->at) < n || memcmp(c->at, word, n))
		return false;
	c->at += n;
	return true;
}

static bool take_number(struct cursor *c, uint64_t *value)
{
	const char *start;

	skip_blanks(c);
	start = c->at;
	*value = 0;
	for (; c->at < c->end && *c->at >= '0' && *c->at <= '9'; c->at++)
		if (__builtin_mul_overflow(*value, 10, value) ||
			__builtin_add_overflow(*value, (uint64_t)(*c->at - '0'), value))
			return false;
	return c->at > start;
}

static bool take_shape(struct cursor *c, struct npy *out)
{
	if (!take(c, "("))
		return false;
	out->elements = 1;
	while (!take(c, ")")) {
		if (out->rank == NPY_MAX_RANK || !take_number(c, &out->dims[out->rank]) ||
			__builtin_mul_overflow(out->elements, out->dims[out->rank], &out->elements))
			return false;
		out->rank++;
		if (!take(c, ",")) /* the comma after a single dimension is obligatory in Python
				      only */
			return take(c, ")");
	}
	return true;
}

/* bfloat16 has no name in numpy: two raw bytes. */
static const char *const descriptions[WIRE_DTYPE_END] = {
	"", "'<f4'", "'<f2'", "'<V2'", "'|i1'", "'|u1'", "'<i4'", "'<i8'", "'|b1'"};
static const char *const others[] = {"'<f8'", "'<i2'", "'<u2'", "'<u4'", "'<u8'", "'|V2'"};

static bool take_type(struct cursor *c, struct npy *out)
{
	const char *text = NULL;

	for (uint32_t i = 1; !text && i < WIRE_DTYPE_END; i++)
		if (take(c, descriptions[i])) {
			text = descriptions[i];
			out->dtype = i;
		}
	for (size_t i = 0; !text && i < sizeof(others) / sizeof(others[0]); i++)
		if (take(c, others[i]))
			text = others[i];
	if (!text)
		return false;
	out->kind = text[2];
	out->item_bytes = (uint32_t)(text[3] - '0');
	if (out->kind == 'V')
		out->dtype = WIRE_BF16;
	return true;
}

static int parse_dict(struct cursor c, struct npy *out, struct error *err)
{
	bool typed = false, ordered = false, shaped = false;

	if (!take(&c, "{"))
		return error_set(err, -EINVAL, "the .npy header is no dict");
	while (!take(&c, "}")) {
		if (!typed && take(&c, "'descr':")) {
			typed = take_type(&c, out);
			if (!typed)
				return error_set(err, -EINVAL,
					"dtype %.*s: only little-endian f2, f4, f8, i1 to i8, u1 "
					"to "
					"u8, b1 and V2 (bfloat16) are read",
					(int)(c.end - c.at < 12 ? c.end - c.at : 12), c.at);
		} else if (!ordered && take(&c, "'fortran_order':")) {
			ordered = take(&c, "False");
			if (!ordered)
				return error_set(err, -EINVAL, "the array is in Fortran order");
		} else if (!shaped && take(&c, "'shape':")) {
			shaped = take_shape(&c, out);
			if (!shaped)
				return error_set(err, -EINVAL,
					"the shape is malformed, or has more than "
					"%d dimensions",
					NPY_MAX_RANK);
		} else {
			return error_set(err, -EINVAL, "unknown text in the .npy header");
		}
		take(&c, ",");
	}
	if (!typed || !ordered || !shaped)
		return error_set(
			err, -EINVAL, "the .npy header lacks descr, fortran_order or shape");
	return 0;
}

int npy_parse(const uint8_t *bytes, size_t size, struct npy *out, struct error *err)
{
	size_t head, at;
	uint64_t data_bytes;
	int rc;

	*out = (struct npy){0};
	if (size < 12 || memcmp(bytes, "\x93NUMPY", 6) || bytes[6] < 1 || bytes[6] > 3)
		return error_set(err, -EINVAL, "no .npy file of version 1 to 3");
	at = bytes[6] == 1 ? 10 : 12;
	head = (size_t)bytes[8] | (size_t)bytes[9] << 8;
	if (bytes[6] > 1)
		head |= (size_t)bytes[10] << 16 | (size_t)bytes[11] << 24;
	if (head > NPY_MAX_HEADER_BYTES || head > size - at)
		return error_set(err, -EINVAL, "the .npy header has %zu bytes, %zu are there", head,
			size - at);
	rc = parse_dict((struct cursor){(const char *)bytes + at, (const char *)bytes + at + head},
		out, err);
	if (rc)
		return rc;
	at += head;
	if (__builtin_mul_overflow(out->elements, out->item_bytes, &data_bytes) ||
		data_bytes != size - at)
		return error_set(err, -EINVAL,
			"%zu bytes of data, the shape needs %lu elements of %u", size - at,
			out->elements, out->item_bytes);
	out->data = bytes + at;
	return 0;
}

size_t npy_header(uint32_t dtype, const uint64_t *dims, uint32_t rank, char *to, size_t room)
{
	char shape[NPY_MAX_RANK * 22 + 4] = "";
	size_t at = 0, n, total;

	for (uint32_t i = 0; i < rank && i < NPY_MAX_RANK; i++)
		at += (size_t)snprintf(
			shape + at, sizeof(shape) - at, "%lu,%s", dims[i], i + 1 < rank ? " " : "");
	if (room < 11)
		return 0;
	memcpy(to, "\x93NUMPY\x01", 8);
	n = (size_t)snprintf(to + 10, room - 10,
		"{'descr': %s, 'fortran_order': False, 'shape': (%s), }", descriptions[dtype],
		shape);
	total = (10 + n + 1 + 63) / 64 * 64;
	if (total > room)
		return 0;
	memset(to + 10 + n, ' ', total - 10 - n);
	to[total - 1] = '\n';
	to[8] = (char)((total - 10) & 0xff);
	to[9] = (char)((total - 10) >> 8);
	return total;
}

/* ---- numbers ---- */

static double float_value(uint64_t bits, uint32_t bytes)
{
	uint32_t word = (uint32_t)bits;
	double wide;
	float narrow;

	if (bytes == 2) {
		double m = (double)(bits & 0x3ff);
		int e = (int)(bits >> 10 & 31);

		wide = e == 31 ? (m > 0 ? (double)NAN : (double)INFINITY)
		       : e     ? ldexp(m + 1024, e - 25)
			       : ldexp(m, -24);
		return bits >> 15 & 1 ? -wide : wide;
	}
	if (bytes == 8) {
		memcpy(&wide, &bits, sizeof(wide));
		return wide;
	}
	memcpy(&narrow, &word, sizeof(narrow));
	return (double)narrow;
}

double npy_value(const struct npy *a, size_t i)
{
	int shift = 64 - 8 * (int)a->item_bytes;
	uint64_t bits = 0;

	memcpy(&bits, (const uint8_t *)a->data + i * a->item_bytes, a->item_bytes);
	switch (a->kind) {
	case 'f':
		return float_value(bits, a->item_bytes);
	case 'V':
		return float_value(bits << 16, 4);
	case 'i':
		return (double)((int64_t)(bits << shift) >> shift);
	case 'b':
		return bits != 0;
	default:
		return (double)bits;
	}
}

/* ---- floats ---- */

static int to_floats(struct npy_floats *out, const struct npy *a, struct error *err)
{
	if (a->rank < 1 || !a->elements)
		return error_set(err, -EINVAL, "%lu elements in %u dimensions are no rows", a->elements, a->rank);
	out->rows = a->dims[0];
	out->columns = a->elements / a->dims[0];
	out->values = malloc(a->elements * sizeof(float));
	if (!out->values)
		return error_set(err, -ENOMEM, "no memory for %lu floats", a->elements);
	for (size_t i = 0; i < a->elements; i++)
		out->values[i] = (float)npy_value(a, i);
	return 0;
}

int npy_floats_read(struct npy_floats *out, const char *path, struct error *err)
{
	struct npy array;
	char *bytes;
	size_t n;
	int rc = file_read(path, FLOATS_MAX_BYTES, &bytes, &n, err);

	*out = (struct npy_floats){0};
	if (rc)
		return rc;
	rc = npy_parse((const uint8_t *)bytes, n, &array, err);
	if (!rc)
		rc = to_floats(out, &array, err);
	free(bytes);
	return rc ? error_prefix(err, "%s", path) : 0;
}

void npy_floats_free(struct npy_floats *a)
{
	free(a->values);
	*a = (struct npy_floats){0};
}
