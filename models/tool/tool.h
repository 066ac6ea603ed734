/* SPDX-License-Identifier: BSD-3-Clause
 * What the subcommands of millrace-model share: files, options, opening a model, running rows.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "models/compile/compile.h"

enum tool_exit { TOOL_OK = 0, TOOL_REFUSED = 1, TOOL_USAGE = 2 };

/* One subcommand; argv[0] is its name. Returns enum tool_exit. */
int cmd_compile(int argc, char **argv);
int cmd_inspect(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_test(int argc, char **argv);
int cmd_bench(int argc, char **argv);
int cmd_sign(int argc, char **argv);
int cmd_verify(int argc, char **argv);
int cmd_operators(int argc, char **argv);

/* "millrace-model: text" on stderr; returns TOOL_REFUSED. */
int tool_refuse(const struct error *err);
/* "millrace-model: <fmt>; try millrace-model help" on stderr; returns TOOL_USAGE. */
int tool_usage(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* A whole regular file in page-aligned memory (free()); files over `limit` bytes are refused. */
int tool_read(const char *path, size_t limit, uint8_t **bytes, size_t *size, struct error *err);

/* A decimal number in [low, high]. */
bool tool_number(const char *text, unsigned long low, unsigned long high, unsigned long *value);
bool tool_backend(const char *text, enum model_backend *backend);

/* A model opened from an .mrm file (verified), or compiled in memory from an .onnx file. */
struct tool_model {
	uint8_t *image;
	size_t size;
	struct model *model;
};

int tool_model_open(
	struct tool_model *t, const char *path, enum model_backend backend, struct error *err);
void tool_model_close(struct tool_model *t);

/* Answers to `rows` rows of row_in_bytes each, in batches of at most `batch`. */
int tool_rows_run(const struct model *m, uint32_t batch, size_t rows, const uint8_t *in,
	uint8_t *out, struct error *err);
