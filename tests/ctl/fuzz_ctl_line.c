/* SPDX-License-Identifier: BSD-3-Clause
 * Fuzzes one request line of the control socket: parsed and checked against the command table, or refused.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "control/ctl_commands.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct ctl_request rq = {0};
	struct error err = {0};
	int rc = ctl_line_parse(&rq, (const char *)data, n, &err);

	if (rc == 0 ? !rq.command || !rq.args : !err.text[0])
		abort();
	ctl_request_clear(&rq);
	return 0;
}
