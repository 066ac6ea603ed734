/* SPDX-License-Identifier: BSD-3-Clause
 * Reading .npy files: see npy.h. Format: numpy.lib.format, "NumPy Enhancement Proposal 1".
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "perf/loadgen/npy.h"

enum { MAX_FILE_BYTES = 1 << 30, MAX_HEADER_BYTES = 4096 };

struct header {
	char kind;         /* 'f', 'i', 'u' */
	size_t item_bytes; /* 1, 2, 4, 8 */
	size_t rows, columns;
};

static int read_file(uint8_t **data, size_t *n, const char *path, struct error *err)
{
	FILE *f = fopen(path, "rb");
	long size = -1;

	*data = NULL;
	*n = 0;
	if (!f)
		return error_set(err, -errno, "%s: %s", path, strerror(errno));
	if (fseek(f, 0, SEEK_END) == 0)
		size = ftell(f);
	rewind(f);
	if (size >= 10 && size <= MAX_FILE_BYTES)
		*data = malloc((size_t)size + 1);
	if (*data)
		*n = fread(*data, 1, (size_t)size, f);
	fclose(f);
	if (*data && *n == (size_t)size)
		return 0;
	free(*data);
	return error_set(err, -EINVAL, "%s: not readable as an .npy file of at most 1 GiB", path);
}

/* text = "{'descr': '<f4', 'fortran_order': False, 'shape': (360, 64), }" */
static int parse_header(struct header *h, const char *text)
{
	const char *descr = strstr(text, "'descr':"), *shape = strstr(text, "'shape':");
	unsigned long rows = 1, columns = 1;
	char order;

	if (!descr || !shape || !strstr(text, "'fortran_order': False"))
		return -EINVAL;
	if (sscanf(descr, "'descr': '%c%c%zu'", &order, &h->kind, &h->item_bytes) != 3 ||
		(order != '<' && order != '|') || !strchr("fiu", h->kind))
		return -EINVAL;
	if (sscanf(shape, "'shape': (%lu, %lu)", &rows, &columns) < 1)
		return -EINVAL;
	h->rows = rows;
	h->columns = columns;
	if (!rows || !columns || rows > MAX_FILE_BYTES || columns > MAX_FILE_BYTES / rows)
		return -EINVAL;
	return 0;
}

static int element(float *out, const struct header *h, const uint8_t *p)
{
	int64_t i = 0;
	double d;
	int shift = 64 - 8 * (int)h->item_bytes;

	if (h->kind == 'f' && h->item_bytes == 4) {
		memcpy(out, p, 4);
	} else if (h->kind == 'f' && h->item_bytes == 8) {
		memcpy(&d, p, 8);
		*out = (float)d;
	} else if (h->kind != 'f' && h->item_bytes <= 8) {
		memcpy(&i, p, h->item_bytes);
		*out = (float)(h->kind == 'i' ? (int64_t)((uint64_t)i << shift) >> shift : i);
	} else {
		return -EINVAL;
	}
	return 0;
}

static int parse(struct npy *out, const uint8_t *data, size_t n)
{
	char text[MAX_HEADER_BYTES + 1];
	size_t at = data[6] == 1 ? 10 : 12, length = 0;
	struct header h;

	if (memcmp(data, "\x93NUMPY", 6) || data[6] < 1 || data[6] > 2 || n < at)
		return -EINVAL;
	memcpy(&length, data + 8, at - 8);
	if (length > MAX_HEADER_BYTES || length > n - at)
		return -EINVAL;
	memcpy(text, data + at, length);
	text[length] = '\0';
	if (parse_header(&h, text) || h.item_bytes < 1 || h.item_bytes > 8 ||
		n - at - length != h.rows * h.columns * h.item_bytes)
		return -EINVAL;
	out->rows = h.rows;
	out->columns = h.columns;
	out->values = malloc(h.rows * h.columns * sizeof(float));
	if (!out->values)
		return -ENOMEM;
	for (size_t i = 0; i < h.rows * h.columns; i++) {
		if (element(&out->values[i], &h, data + at + length + i * h.item_bytes)) {
			npy_free(out);
			return -EINVAL;
		}
	}
	return 0;
}

int npy_read(struct npy *out, const char *path, struct error *err)
{
	uint8_t *data;
	size_t n = 0;
	int rc = read_file(&data, &n, path, err);

	memset(out, 0, sizeof(*out));
	if (rc)
		return rc;
	rc = parse(out, data, n);
	free(data);
	return rc ? error_set(err, rc,
			    "%s: not a little-endian C-order .npy of 1 or 2 dimensions", path)
		  : 0;
}

void npy_free(struct npy *a)
{
	free(a->values);
	memset(a, 0, sizeof(*a));
}
