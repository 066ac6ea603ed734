/* SPDX-License-Identifier: BSD-3-Clause
 * YAML text to nodes with lines, by libyaml's events: see config_doc.h.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "control/config_doc.h"

/* One open mapping or sequence. */
struct level {
	uint32_t node;
	bool want_key; /* mapping: the next scalar is a key */
};

struct reader {
	struct doc *doc;
	yaml_parser_t parser;
	struct level levels[DOC_MAX_DEPTH];
	uint32_t depth;
	char key[DOC_PATH_BYTES]; /* path of the value that comes next in a mapping */
	uint32_t key_line;
	uint32_t documents;
	bool ended;
	struct error *err;
};

/* Length of the UTF-8 sequence at s (RFC 3629: no surrogates, no overlong forms), 0 = invalid. */
static size_t utf8_length(const unsigned char *s, size_t n)
{
	static const unsigned char least[5] = {0, 0, 0xc2, 0xe0, 0xf0};
	size_t len = s[0] < 0x80 ? 1 : s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;

	if (len == 1)
		return 1;
	if (len > n || s[0] < least[len] || s[0] > 0xf4)
		return 0;
	for (size_t i = 1; i < len; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
		(s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return len;
}

static int check_bytes(const char *name, const char *text, size_t n, struct error *err)
{
	const unsigned char *s = (const unsigned char *)text;
	uint32_t line = 1;

	for (size_t i = 0; i < n;) {
		size_t len = utf8_length(s + i, n - i);

		if (!len)
			return error_set(err, -EINVAL, "%s:%u: byte %#x is not UTF-8", name, line,
				s[i]);
		if (!s[i])
			return error_set(err, -EINVAL, "%s:%u: a zero byte", name, line);
		line += s[i] == '\n';
		i += len;
	}
	return 0;
}

static int refuse(struct reader *r, const yaml_mark_t *mark, const char *what, const char *which)
{
	return error_set(r->err, -EINVAL, "%s:%zu: %s%s", r->doc->name, mark->line + 1, what, which);
}

/* Path of a value that begins now: the pending key, or the next index of a sequence. 0 or -E2BIG. */
static int value_path(struct reader *r, char path[DOC_PATH_BYTES])
{
	struct doc_node *parent;
	int n;

	if (!r->depth) {
		path[0] = 0;
		return 0;
	}
	parent = &r->doc->nodes[r->levels[r->depth - 1].node];
	if (parent->kind == DOC_MAPPING) {
		memcpy(path, r->key, DOC_PATH_BYTES);
		return 0;
	}
	n = snprintf(path, DOC_PATH_BYTES, "%s[%u]", parent->path, parent->children++);
	return n < DOC_PATH_BYTES ? 0 : -E2BIG;
}

static int add_node(struct reader *r, const yaml_event_t *ev, enum doc_kind kind)
{
	struct doc *d = r->doc;
	struct doc_node *node;
	bool in_mapping = r->depth &&
		d->nodes[r->levels[r->depth - 1].node].kind == DOC_MAPPING;

	if (d->n_nodes == DOC_MAX_NODES)
		return refuse(r, &ev->start_mark, "more than 4096 values", "");
	node = &d->nodes[d->n_nodes];
	memset(node, 0, sizeof(*node));
	if (value_path(r, node->path) < 0)
		return refuse(r, &ev->start_mark, "path of a value is too long", "");
	node->kind = kind;
	node->line = in_mapping ? r->key_line : (uint32_t)ev->start_mark.line + 1;
	if (in_mapping)
		r->levels[r->depth - 1].want_key = true;
	d->n_nodes++;
	return 0;
}

static int open_level(struct reader *r, const yaml_event_t *ev, enum doc_kind kind)
{
	int rc;

	if (r->depth && r->levels[r->depth - 1].want_key)
		return refuse(r, &ev->start_mark, "a key must be a plain word", "");
	rc = add_node(r, ev, kind);
	if (rc)
		return rc;
	if (r->depth == DOC_MAX_DEPTH)
		return refuse(r, &ev->start_mark, "nested too deeply", "");
	r->levels[r->depth].node = r->doc->n_nodes - 1;
	r->levels[r->depth].want_key = kind == DOC_MAPPING;
	r->depth++;
	return 0;
}

static int take_key(struct reader *r, const yaml_event_t *ev)
{
	struct level *top = &r->levels[r->depth - 1];
	struct doc_node *parent = &r->doc->nodes[top->node];
	const char *key = (const char *)ev->data.scalar.value;
	const struct doc_node *twin;
	int n = snprintf(r->key, sizeof(r->key), "%s%s%s", parent->path,
		parent->path[0] ? "." : "", key);

	if (n >= (int)sizeof(r->key) || !key[0] || strpbrk(key, ".[]"))
		return refuse(r, &ev->start_mark, "unknown key: ", key);
	twin = doc_find(r->doc, r->key);
	if (twin)
		return error_set(r->err, -EINVAL, "%s:%zu: duplicate key %s, first set on line %u",
			r->doc->name, ev->start_mark.line + 1, r->key, twin->line);
	r->key_line = (uint32_t)ev->start_mark.line + 1;
	parent->children++;
	top->want_key = false;
	return 0;
}

static int take_scalar(struct reader *r, const yaml_event_t *ev)
{
	struct doc_node *node;
	int rc;

	if (strlen((const char *)ev->data.scalar.value) != ev->data.scalar.length)
		return refuse(r, &ev->start_mark, "a zero byte in a value", "");
	if (r->depth && r->levels[r->depth - 1].want_key)
		return take_key(r, ev);
	rc = add_node(r, ev, DOC_SCALAR);
	if (rc)
		return rc;
	node = &r->doc->nodes[r->doc->n_nodes - 1];
	node->quoted = ev->data.scalar.style == YAML_SINGLE_QUOTED_SCALAR_STYLE ||
		ev->data.scalar.style == YAML_DOUBLE_QUOTED_SCALAR_STYLE;
	node->value = strdup((const char *)ev->data.scalar.value);
	return node->value ? 0 : error_set(r->err, -ENOMEM, "out of memory");
}

static int has_extras(const yaml_event_t *ev)
{
	switch (ev->type) {
	case YAML_SCALAR_EVENT:
		return ev->data.scalar.tag || ev->data.scalar.anchor;
	case YAML_SEQUENCE_START_EVENT:
		return ev->data.sequence_start.tag || ev->data.sequence_start.anchor;
	case YAML_MAPPING_START_EVENT:
		return ev->data.mapping_start.tag || ev->data.mapping_start.anchor;
	default:
		return ev->type == YAML_ALIAS_EVENT;
	}
}

static int take_event(struct reader *r, const yaml_event_t *ev)
{
	if (has_extras(ev))
		return refuse(r, &ev->start_mark, "anchors, aliases and tags are not used here", "");
	switch (ev->type) {
	case YAML_DOCUMENT_START_EVENT:
		if (++r->documents > 1)
			return refuse(r, &ev->start_mark, "a second document", "");
		return 0;
	case YAML_SCALAR_EVENT:
		return take_scalar(r, ev);
	case YAML_MAPPING_START_EVENT:
		return open_level(r, ev, DOC_MAPPING);
	case YAML_SEQUENCE_START_EVENT:
		return open_level(r, ev, DOC_SEQUENCE);
	case YAML_MAPPING_END_EVENT:
	case YAML_SEQUENCE_END_EVENT:
		r->depth--;
		return 0;
	case YAML_STREAM_END_EVENT:
		r->ended = true;
		return 0;
	default:
		return 0;
	}
}

static int read_events(struct reader *r)
{
	int rc = 0;

	while (!rc && !r->ended) {
		yaml_event_t ev;

		if (!yaml_parser_parse(&r->parser, &ev))
			return refuse(r, &r->parser.problem_mark, "not YAML: ",
				r->parser.problem ? r->parser.problem : "?");
		rc = take_event(r, &ev);
		yaml_event_delete(&ev);
	}
	return rc;
}

int doc_read(struct doc *d, const char *name, const char *text, size_t n, struct error *err)
{
	struct reader r = {.doc = d, .err = err};
	int rc;

	memset(d, 0, sizeof(*d));
	d->name = name;
	if (n > DOC_MAX_BYTES)
		return error_set(err, -E2BIG, "%s: %zu bytes, at most %d", name, n, DOC_MAX_BYTES);
	rc = check_bytes(name, text, n, err);
	if (rc)
		return rc;
	d->nodes = calloc(DOC_MAX_NODES, sizeof(*d->nodes));
	if (!d->nodes || !yaml_parser_initialize(&r.parser))
		return error_set(err, -ENOMEM, "out of memory");
	yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, n);
	yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
	rc = read_events(&r);
	yaml_parser_delete(&r.parser);
	return rc;
}

void doc_free(struct doc *d)
{
	for (uint32_t i = 0; i < d->n_nodes; i++)
		free(d->nodes[i].value);
	free(d->nodes);
	memset(d, 0, sizeof(*d));
}

const struct doc_node *doc_find(const struct doc *d, const char *path)
{
	for (uint32_t i = 0; i < d->n_nodes; i++)
		if (!strcmp(d->nodes[i].path, path))
			return &d->nodes[i];
	return NULL;
}

uint32_t doc_line(const struct doc *d, const char *path)
{
	char up[DOC_PATH_BYTES];
	size_t n = strlen(path);

	if (n >= sizeof(up))
		return 1;
	memcpy(up, path, n + 1);
	for (;;) {
		const struct doc_node *node = doc_find(d, up);

		if (node)
			return node->line;
		while (n && up[n - 1] != '.' && up[n - 1] != '[')
			n--;
		if (!n)
			return 1;
		up[--n] = 0;
	}
}
