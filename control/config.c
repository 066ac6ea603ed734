/* SPDX-License-Identifier: BSD-3-Clause
 * Reading the operator's file: lines and words first (config_doc, config_check), then libcyaml into
 * struct config, then defaults and the environment. See config.h.
 */
#include <cyaml/cyaml.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/config_check.h"
#include "control/config_options.h"

enum { SECTION_FIELDS = 24, TOP_FIELDS = SECTION_FIELDS + SECTIONS };

/* libcyaml's schema, made from the option table. */
struct schema {
	cyaml_schema_value_t string_entry, i32_entry, port_entry, root;
	cyaml_schema_field_t fields[SECTIONS][TOP_FIELDS];
	uint32_t n[SECTIONS];
};

static cyaml_schema_value_t value_schema(const struct schema *s, const struct option *o)
{
	cyaml_schema_value_t v = {.flags = CYAML_FLAG_OPTIONAL, .data_size = 4};

	switch (o->type) {
	case OPTION_STRING:
		v.type = CYAML_STRING;
		v.flags = CYAML_FLAG_OPTIONAL | CYAML_FLAG_POINTER;
		v.data_size = 1;
		v.string.max = 4096;
		break;
	case OPTION_U32:
		v.type = CYAML_UINT;
		break;
	case OPTION_I32:
		v.type = CYAML_INT;
		break;
	case OPTION_BOOL:
		v.type = CYAML_BOOL;
		v.data_size = sizeof(bool);
		break;
	default:
		v.type = CYAML_SEQUENCE;
		v.flags = CYAML_FLAG_OPTIONAL | CYAML_FLAG_POINTER;
		v.sequence.entry = o->type == OPTION_STRINGS ? &s->string_entry : &s->i32_entry;
		v.data_size = v.sequence.entry->data_size;
		if (o->type == OPTION_STRINGS)
			v.data_size = sizeof(char *);
		v.sequence.max = DOC_MAX_NODES;
	}
	return v;
}

static void add_field(struct schema *s, enum option_section section, cyaml_schema_field_t f)
{
	s->fields[section][s->n[section]++] = f;
}

static void build_schema(struct schema *s)
{
	memset(s, 0, sizeof(*s));
	s->string_entry = (cyaml_schema_value_t){.type = CYAML_STRING, .flags = CYAML_FLAG_POINTER,
		.data_size = 1, .string = {0, 4096}};
	s->i32_entry = (cyaml_schema_value_t){.type = CYAML_INT, .data_size = 4};
	s->port_entry = (cyaml_schema_value_t){.type = CYAML_MAPPING,
		.data_size = sizeof(struct config_port),
		.mapping.fields = s->fields[SECTION_PORTS]};
	s->root = (cyaml_schema_value_t){.type = CYAML_MAPPING, .flags = CYAML_FLAG_POINTER,
		.data_size = sizeof(struct config), .mapping.fields = s->fields[SECTION_TOP]};
	for (uint32_t i = 0; i < config_options_count; i++) {
		const struct option *o = &config_options[i];

		add_field(s, o->section, (cyaml_schema_field_t){.key = o->key,
			.data_offset = o->offset, .count_offset = o->count_offset,
			.count_size = o->count_offset ? sizeof(uint32_t) : 0,
			.value = value_schema(s, o)});
	}
	add_field(s, SECTION_TOP, (cyaml_schema_field_t){.key = "ports",
		.data_offset = offsetof(struct config, ports),
		.count_offset = offsetof(struct config, ports_count),
		.count_size = sizeof(uint32_t),
		.value = {.type = CYAML_SEQUENCE, .flags = CYAML_FLAG_POINTER,
			.data_size = sizeof(struct config_port),
			.sequence = {&s->port_entry, 1, DP_MAX_PORTS}}});
	/* The options of a section carry offsets from struct config, so every section starts at 0. */
	for (int section = SECTION_DATAPLANE; section < SECTIONS; section++)
		add_field(s, SECTION_TOP, (cyaml_schema_field_t){
			.key = config_section_names[section],
			.value = {.type = CYAML_MAPPING, .flags = CYAML_FLAG_OPTIONAL,
				.data_size = sizeof(struct config),
				.mapping.fields = s->fields[section]}});
}

static cyaml_config_t cyaml_settings(void)
{
	return (cyaml_config_t){.mem_fn = cyaml_mem, .log_level = CYAML_LOG_ERROR,
		.flags = CYAML_CFG_DEFAULT};
}

void config_free(struct config *c)
{
	cyaml_config_t settings = cyaml_settings();
	struct schema s;

	if (!c)
		return;
	build_schema(&s);
	cyaml_free(&settings, &s.root, c, 0);
}

/* Write the default of one option that the file does not mention. */
static int set_default(struct config *c, const struct option *o, uint32_t port)
{
	void *field = option_field(c, o, port);

	switch (o->type) {
	case OPTION_STRING:
		if (*(char **)field)
			return 0;
		*(char **)field = strdup(o->fallback);
		return *(char **)field ? 0 : -ENOMEM;
	case OPTION_U32:
		*(uint32_t *)field = (uint32_t)strtoul(o->fallback, NULL, 10);
		return 0;
	case OPTION_I32:
		*(int32_t *)field = (int32_t)strtol(o->fallback, NULL, 10);
		return 0;
	case OPTION_BOOL:
		*(bool *)field = !strcmp(o->fallback, "true");
		return 0;
	default:
		return 0; /* an absent list is empty */
	}
}

static int set_defaults(struct config *c, const struct doc *d)
{
	for (uint32_t i = 0; i < config_options_count; i++) {
		const struct option *o = &config_options[i];
		uint32_t n = o->section == SECTION_PORTS ? c->ports_count : 1;

		for (uint32_t port = 0; port < n; port++) {
			char path[DOC_PATH_BYTES];
			int rc;

			option_path(o, port, path, sizeof(path));
			if (doc_find(d, path) && !(o->type == OPTION_STRING))
				continue;
			rc = o->fallback ? set_default(c, o, port) : 0;
			if (rc)
				return rc;
		}
	}
	return 0;
}

static int override(const char **field, const char *variable)
{
	const char *value = getenv(variable);
	char *copy;

	if (!value || !value[0] || strlen(value) > 80)
		return 0;
	copy = strdup(value);
	if (!copy)
		return -ENOMEM;
	free((char *)(uintptr_t)*field);
	*field = copy;
	return 0;
}

static int load_checked(struct config **out, const struct doc *d, const char *text, size_t n,
	struct error *err)
{
	cyaml_config_t settings = cyaml_settings();
	struct schema s;
	cyaml_err_t e;
	int rc;

	build_schema(&s);
	e = cyaml_load_data((const uint8_t *)text, n, &settings, &s.root, (cyaml_data_t **)out,
		NULL);
	if (e != CYAML_OK)
		return error_set(err, -EINVAL, "%s:1: %s", d->name, cyaml_strerror(e));
	rc = set_defaults(*out, d);
	if (!rc)
		rc = override(&(*out)->run_dir, "MILLRACE_RUN");
	if (!rc)
		rc = override(&(*out)->state_dir, "MILLRACE_STATE");
	if (rc)
		return error_set(err, rc, "out of memory");
	return config_check_meaning(*out, d, err);
}

int config_parse(struct config **out, const char *name, const char *text, size_t n,
	struct error *err)
{
	struct doc d;
	int rc;

	*out = NULL;
	rc = doc_read(&d, name, text, n, err);
	if (!rc)
		rc = config_check_words(&d, err);
	if (!rc)
		rc = load_checked(out, &d, text, n, err);
	if (rc) {
		config_free(*out);
		*out = NULL;
	}
	doc_free(&d);
	return rc;
}

/* The whole of a regular file of bounded size. */
static int read_file(const char *path, char **text, size_t *n, struct error *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	ssize_t got;

	if (fd < 0)
		return error_set(err, -errno, "%s: %s", path, strerror(errno));
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > DOC_MAX_BYTES) {
		close(fd);
		return error_set(err, -EINVAL, "%s: not a regular file of at most %d bytes", path,
			DOC_MAX_BYTES);
	}
	*text = malloc((size_t)st.st_size + 1);
	got = *text ? read(fd, *text, (size_t)st.st_size) : -1;
	close(fd);
	if (got < 0) {
		free(*text);
		return error_set(err, -EIO, "%s: cannot be read", path);
	}
	*n = (size_t)got;
	return 0;
}

int config_load(struct config **out, const char *path, struct error *err)
{
	char *text = NULL;
	size_t n = 0;
	int rc = read_file(path, &text, &n, err);

	*out = NULL;
	if (rc)
		return rc;
	rc = config_parse(out, path, text, n, err);
	free(text);
	return rc;
}
