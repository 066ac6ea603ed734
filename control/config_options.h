/* SPDX-License-Identifier: BSD-3-Clause
 * The option table: every key of the operator's file, with its type, range and default. The libcyaml
 * schema, the refusals, the defaults and the effective configuration as JSON all come from it.
 */
#pragma once

#include <stdint.h>

#include "abi/limits.h"
#include "control/config.h"

enum option_type { OPTION_STRING, OPTION_U32, OPTION_I32, OPTION_BOOL, OPTION_STRINGS, OPTION_I32S };

enum option_section { SECTION_TOP, SECTION_PORTS, SECTION_DATAPLANE, SECTION_LIMITS, SECTION_HTTPS,
	SECTION_LICENSE, SECTION_MODELS, SECTIONS };

struct option {
	enum option_section section;
	const char *key;
	enum option_type type;
	uint32_t offset;       /* in struct config, or in struct config_port for SECTION_PORTS */
	uint32_t count_offset; /* lists: of their uint32_t count */
	int64_t min, max;      /* of a number; of a string's bytes; of a list's length */
	const char *fallback;  /* default as the file would say it; NULL = the key is required */
	const char *choices;   /* "a|b|c", or NULL */
};

extern const struct option config_options[];
extern const uint32_t config_options_count;
/* "", "ports", "dataplane", ... by enum option_section. */
extern const char *const config_section_names[SECTIONS];

/* Where `o` lives: in *c, or for SECTION_PORTS in c->ports[port]. */
void *option_field(struct config *c, const struct option *o, uint32_t port);
uint32_t *option_count(struct config *c, const struct option *o, uint32_t port);
/* "ports[1].ipv4": the path of `o` in the file. */
void option_path(const struct option *o, uint32_t port, char *out, uint32_t n);
/* Is `value` one of "a|b|c"? */
bool option_choice(const char *choices, const char *value);
