/* SPDX-License-Identifier: BSD-3-Clause
 * .npy parsing and writing: see npy.h. The header is a Python dict literal; the three keys numpy
 * writes are looked for, and anything else between them is refused.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "abi/wire.h"
#include "models/tool/npy.h"

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

static bool take_type(struct cursor *c, uint32_t *dtype)
{
	for (*dtype = 1; *dtype < WIRE_DTYPE_END; ++*dtype)
		if (take(c, descriptions[*dtype]))
			return true;
	return false;
}

static int parse_dict(struct cursor c, struct npy *out, struct error *err)
{
	bool typed = false, ordered = false, shaped = false;

	if (!take(&c, "{"))
		return error_set(err, -EINVAL, "the .npy header is no dict");
	while (!take(&c, "}")) {
		if (!typed && take(&c, "'descr':")) {
			typed = take_type(&c, &out->dtype);
			if (!typed)
				return error_set(err, -EINVAL,
					"dtype %.*s: only '<f4', '<f2', '<i4', '<i8', '|i1', "
					"'|u1' and '|b1' are read",
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
	if (__builtin_mul_overflow(out->elements, wire_dtype_bytes(out->dtype), &data_bytes) ||
		data_bytes != size - at)
		return error_set(err, -EINVAL,
			"%zu bytes of data, the shape needs %lu elements of %u", size - at,
			out->elements, wire_dtype_bytes(out->dtype));
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
