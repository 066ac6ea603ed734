/* SPDX-License-Identifier: BSD-3-Clause
 * The compiler's table of contents: unpack, read, passes, plan, write.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/compile/artifact.h"
#include "models/compile/compile.h"
#include "models/compile/onnx_read.h"
#include "models/compile/passes.h"
#include "models/compile/plan.h"

enum { ARENA_BASE_BYTES = 256 << 20, ARENA_PER_INPUT_BYTE = 32 };

static int check_options(const struct compile_options *o, struct error *err)
{
	static const char letters[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
	size_t n = o->name ? strlen(o->name) : 0;

	if (!n || n >= WIRE_MODEL_NAME_BYTES || strspn(o->name, letters) != n ||
		strchr("._-", o->name[0]))
		return error_set(err, -EINVAL,
			"model name '%.80s': 1 to %d letters, digits, '.', '_', "
			"'-', beginning with a letter or digit",
			o->name ? o->name : "", WIRE_MODEL_NAME_BYTES - 1);
	if (o->version < 1 || o->cost < 1)
		return error_set(err, -EINVAL, "version %u, cost %u: both must be at least 1",
			o->version, o->cost);
	if (o->max_rows < 1 || o->max_rows > MODEL_FILE_MAX_ROWS)
		return error_set(err, -EINVAL, "max-rows is %u, must be 1 to %d", o->max_rows,
			MODEL_FILE_MAX_ROWS);
	return 0;
}

const char *compile_precision_name(enum compile_precision precision)
{
	static const char *const names[] = {"f32", "bf16", "int8"};

	return names[precision];
}

/* Names from the model end up in messages for a terminal (CWE-117). */
static void text_clean(struct error *err)
{
	for (char *c = err->text; *c; c++)
		if ((uint8_t)*c < 0x20 || (uint8_t)*c >= 0x7f)
			*c = '?';
}

static int compile_model(const Onnx__ModelProto *model, struct arena *arena,
	const struct compile_options *o, struct artifact_info *info, struct artifact *out,
	struct error *err)
{
	struct ir_graph g = {.needs = IR_NONE};
	struct plan plan;
	int rc = onnx_read(model, o, arena, &g, err);

	if (rc && o->needs && g.needs != IR_NONE)
		snprintf(o->needs, 256, "%s", g.values[g.needs].name);

	if (!rc)
		rc = passes_run(&g, err);
	if (!rc)
		rc = plan_build(&g, o, &plan, err);
	if (rc)
		return rc;
	info->producer = model->producer_name ? model->producer_name : "";
	return artifact_write(&plan, o, info, out, err);
}

int compile_onnx_buffer(const void *onnx, size_t bytes, const struct compile_options *options,
	struct artifact *out, struct error *err)
{
	struct arena arena = {.limit_bytes = ARENA_BASE_BYTES + bytes * ARENA_PER_INPUT_BYTE};
	struct artifact_info info = {.source = onnx, .source_bytes = bytes};
	ProtobufCMessage *message = NULL;
	struct error own;
	int rc;

	*out = (struct artifact){0};
	err = err ? err : &own;
	if (options->needs)
		options->needs[0] = 0;
	rc = check_options(options, err);
	if (!rc)
		rc = onnx_unpack(&onnx__model_proto__descriptor, onnx, bytes, &message, err);
	if (!rc)
		rc = compile_model(
			(const Onnx__ModelProto *)message, &arena, options, &info, out, err);
	onnx_free(message);
	arena_free(&arena);
	if (rc)
		text_clean(err);
	return rc;
}
