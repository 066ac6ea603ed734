/* SPDX-License-Identifier: BSD-3-Clause
 * Operators' socket (control/API.md): JSON lines, roles from the peer's groups, bounded everything.
 */
#pragma once

#include "control/control.h"

int ctl_socket_init(struct control *ctl, struct error *err);
void ctl_socket_uninit(struct control *ctl);
