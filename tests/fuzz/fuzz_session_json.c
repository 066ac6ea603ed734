/* SPDX-License-Identifier: BSD-3-Clause
 * Fuzz the client's reading of control's answers: first byte chooses session, renewal, HTTP or reason.
 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "client/https.h"
#include "client/session_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static struct session_info info;
	struct error err;
	const char *text = (const char *)data + 1;
	size_t offset, bytes;
	char reason[64];
	uint32_t s;
	bool keep;
	int status;

	if (!n)
		return 0;
	switch (data[0] % 4) {
	case 0:
		if (session_json_parse(&info, text, n - 1, &err) == 0 &&
			(!info.port || info.lanes > WIRE_MAX_LANES || info.n_models > SESSION_JSON_MAX_MODELS))
			abort();
		break;
	case 1:
		session_json_renewed("9f3c00112233aabb", &s, text, n - 1, &err);
		break;
	case 2:
		if (https_parse(text, n - 1, &status, &offset, &bytes, &keep) == 1 && offset + bytes > n - 1)
			abort();
		break;
	default:
		session_json_reason(reason, sizeof(reason), 400, text, n - 1);
	}
	return 0;
}
