/* SPDX-License-Identifier: BSD-3-Clause
 * Ports on DPDK: af_xdp on a kernel NIC, memif, or any device by its EAL name. After eal_start().
 */
#pragma once

#include "abi/stats.h"
#include "base/error.h"
#include "port.h"
#include "quiesce.h"

struct port_dpdk; /* one port */

/* Create the device, its packet pool and its queues, start it, and check what DPDK 22.11 does not:
 * that the whole pool lies inside the UMEM, and in which mode XDP was attached. Fills `stats`. */
int port_dpdk_open(struct port_dpdk **out, const struct dp_port_config *c, uint32_t number,
	uint32_t mbufs, uint32_t lanes, struct stats_port *stats, struct error *err);
/* Before any worker polls: whom to wait for before a memif peer's memory is unmapped. `q` outlives the ports. */
void port_dpdk_guard(const struct quiesce *q);
/* Stop and free; the af_xdp driver detaches its XDP program. NULL allowed. */
void port_dpdk_close(struct port_dpdk *p);
/* Queue `index`, valid until close. One worker each. */
struct port_queue *port_dpdk_queue(struct port_dpdk *p, uint32_t index);
