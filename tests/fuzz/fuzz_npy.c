/* SPDX-License-Identifier: BSD-3-Clause
 * Any bytes as an .npy file: refused, or every element is read within the file.
 */
#include <stdlib.h>
#include <string.h>

#include "base/npy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *bytes = malloc(size ? size : 1); /* exactly that long */
	volatile double sum = 0;
	struct error err;
	struct npy a;

	if (!bytes)
		return 0;
	memcpy(bytes, data, size);
	if (!npy_parse(bytes, size, &a, &err))
		for (size_t i = 0; i < a.elements; i++)
			sum += npy_value(&a, i);
	free(bytes);
	return 0;
}
