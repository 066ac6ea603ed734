/* SPDX-License-Identifier: BSD-3-Clause
 * Control's end of abi/gateway.h: inference that came over HTTPS is cut into datagram-sized requests, put
 * into slots, and collected again. Loop thread only.
 */
#pragma once

#include "abi/gateway.h"
#include "control/control.h"

struct model_entry;

/* The one answer of a call. RESULT only when every part was a result; otherwise the first refusal. */
struct gateway_answer {
	uint32_t status; /* enum wire_status */
	uint32_t detail;
	uint32_t retry_after_us;
	uint32_t rows;
	const uint8_t *data; /* rows x row_out_bytes, valid during the call */
};

typedef void (*gateway_done_fn)(const struct gateway_answer *a, void *arg);

struct gateway_job; /* one call under way */

int gateway_init(struct control *ctl, struct error *err);
void gateway_uninit(struct control *ctl);
/* Descriptor to offer as LINK_FD_GATEWAY. */
int gateway_fd(const struct control *ctl);
/* Take over the region a living dataplane holds (fd not consumed). 0 or -errno with err. */
int gateway_adopt(struct control *ctl, int fd, struct error *err);

/* Largest number of rows one call may bring for `m`: what fits all slots. */
uint32_t gateway_max_rows(const struct model_entry *m);
/* Run `rows` rows (row_in_bytes each, wire layout) of model `m` for `subscriber`. 0 with *job, then `done`
 * is called exactly once (status INTERNAL after 2 s of silence); -EAGAIN = no free slots or no dataplane;
 * -EINVAL/-EFBIG with err. `data` is copied. */
int gateway_infer(struct control *ctl, uint32_t subscriber, const struct model_entry *m,
	uint32_t rows, const uint8_t *data, gateway_done_fn done, void *arg,
	struct gateway_job **job, struct error *err);
/* The caller has gone: `done` will not be called. The work itself is finished and charged. */
void gateway_forget(struct gateway_job *job);
