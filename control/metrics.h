/* SPDX-License-Identifier: BSD-3-Clause
 * /metrics: Prometheus text format 0.0.4. Names and helps come from the lists of abi/stats.h and
 * abi/xdp_maps.h, so a counter cannot be forgotten here. Loop thread only.
 */
#pragma once

#include "control/control.h"

struct evbuffer;
struct evhttp_request;

/* Append the whole page to `out`. 0 or -ENOMEM. */
int metrics_write(struct control *ctl, struct evbuffer *out);
void metrics_reply(struct control *ctl, struct evhttp_request *req);
