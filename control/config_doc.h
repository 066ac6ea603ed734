/* SPDX-License-Identifier: BSD-3-Clause
 * A YAML text as a flat list of nodes with their paths and lines: what refusals point at.
 *
 * libcyaml 1.3.1 reports an unknown key at the line before it, so lines come from libyaml here.
 * Refused with their line: bytes that are not UTF-8, syntax errors, duplicate keys, aliases, tags, a
 * second document, nesting or size beyond the caps.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum {
	DOC_MAX_BYTES = 256 << 10,
	DOC_MAX_NODES = 4096,
	DOC_MAX_DEPTH = 6,
	DOC_PATH_BYTES = 160,
};

enum doc_kind { DOC_SCALAR, DOC_MAPPING, DOC_SEQUENCE };

struct doc_node {
	char path[DOC_PATH_BYTES]; /* "ports[0].cores[1]"; the root is "" */
	uint32_t line;             /* of the key, for a mapping's value */
	uint32_t children;
	enum doc_kind kind;
	bool quoted;  /* a quoted scalar is a string whatever it looks like */
	char *value; /* of a scalar, else NULL */
};

struct doc {
	const char *name; /* for messages; the caller's */
	struct doc_node *nodes;
	uint32_t n_nodes;
};

/* Parse text[0..n). 0, or -EINVAL/-E2BIG/-ENOMEM with "name:line: ...". Free with doc_free() either way. */
int doc_read(struct doc *d, const char *name, const char *text, size_t n, struct error *err);
void doc_free(struct doc *d);
/* The node at `path`, or NULL. */
const struct doc_node *doc_find(const struct doc *d, const char *path);
/* Line of `path`, or of the nearest enclosing node that exists. */
uint32_t doc_line(const struct doc *d, const char *path);
