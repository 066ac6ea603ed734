/* SPDX-License-Identifier: BSD-3-Clause
 * The loader's check of an artifact's header, and of its signature block, on hostile bytes.
 */
#include <stdlib.h>
#include <string.h>

#include "control/loader/artifact.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t keys[1][MODEL_FILE_PUBLIC_KEY_BYTES];
	uint8_t id[MODEL_FILE_HASH_BYTES] = {0};
	struct model_file_signature s = {0};
	struct model_file_header h = {0};
	struct error err;

	memcpy(&h, data, size < sizeof(h) ? size : sizeof(h));
	if (artifact_check_header(&h, h.file_bytes, &err) == 0) {
		/* What the loader relies on when it computes addresses. */
		if (h.weights.offset + h.weights.bytes > h.body_bytes || h.body_bytes > h.file_bytes ||
			h.signature.offset + h.signature.bytes != h.file_bytes)
			abort();
	}
	memcpy(&s, data, size < sizeof(s) ? size : sizeof(s));
	artifact_check_signature(&s, id, keys, 1, size & 1, &err);
	return 0;
}
