/* SPDX-License-Identifier: BSD-3-Clause
 * millrace-model sign and verify.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file_replace.h"
#include "models/compile/artifact.h"
#include "models/tool/tool.h"

static const size_t limit_bytes = (size_t)1 << MODEL_FILE_MAX_BYTES_LOG2;

int cmd_sign(int argc, char **argv)
{
	uint8_t *image;
	struct error err;
	size_t size;
	int rc;

	if (argc != 3)
		return tool_usage("sign takes KEY.pem and MODEL.mrm");
	if (tool_read(argv[2], limit_bytes, &image, &size, &err))
		return tool_refuse(&err);
	rc = artifact_sign(image, size, argv[1], &err);
	if (rc)
		error_prefix(&err, "%s", argv[2]);
	else
		rc = file_replace(argv[2], image, size, 0644, &err);
	free(image);
	return rc ? tool_refuse(&err) : TOOL_OK;
}

int cmd_verify(int argc, char **argv)
{
	bool keyed = argc == 4 && !strcmp(argv[1], "--key"), is_signed;
	const char *path = argv[argc - 1];
	uint8_t *image;
	struct error err;
	size_t size;
	int rc;

	if (argc != 2 && !keyed)
		return tool_usage("verify takes [--key PUBLIC.pem] MODEL.mrm");
	if (tool_read(path, limit_bytes, &image, &size, &err))
		return tool_refuse(&err);
	rc = artifact_verify(image, size, keyed ? argv[2] : NULL, &is_signed, &err);
	free(image);
	if (rc) {
		error_prefix(&err, "%s", path);
		return tool_refuse(&err);
	}
	printf("%s: ok, %s\n", path,
		keyed       ? "signed by the given key"
		: is_signed ? "signed"
			    : "unsigned");
	return TOOL_OK;
}
