/* SPDX-License-Identifier: BSD-3-Clause
 * Fuzz: any text as the operator's file; what is accepted must convert for the dataplane and to JSON.
 */
#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "control/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config *c = NULL;
	struct dp_config d;
	struct error err = {0};

	if (config_parse(&c, "fuzz", (const char *)data, size, &err)) {
		if (c || !err.code)
			abort();
		return 0;
	}
	(void)!config_to_dataplane(c, false, &d, &err);
	json_decref((json_t *)config_to_json(c));
	config_free(c);
	return 0;
}
