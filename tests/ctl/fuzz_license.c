/* SPDX-License-Identifier: BSD-3-Clause
 * Fuzzes the licence file: claims are read, but nothing unsigned may ever verify.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "control/license_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	/* RFC 8032 section 7.1, test 1: its private half signed none of the inputs */
	static const uint8_t raw[32] = {0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe,
		0xd3, 0xc9, 0x64, 0x07, 0x3a, 0x0e, 0xe1, 0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02,
		0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a};
	struct license_key key;
	struct license_doc doc;
	struct error err = {0};
	char fingerprint[65];

	license_key_set(&key, raw);
	if (license_file_claims(&doc, fingerprint, (const char *)data, n, &err) && !err.text[0])
		abort();
	if (license_file_verify(&doc, (const char *)data, n, &key, 1, NULL, &err) == 0)
		abort();
	return 0;
}
