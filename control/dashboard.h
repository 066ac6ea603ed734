/* SPDX-License-Identifier: BSD-3-Clause
 * The dashboard: one static page (control/dashboard/index.html), built into the program. It reads /metrics.
 */
#pragma once

struct evhttp_request;

void dashboard_reply(struct evhttp_request *req);
