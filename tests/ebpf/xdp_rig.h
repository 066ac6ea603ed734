/* SPDX-License-Identifier: BSD-3-Clause
 * The XDP program in the kernel with the fixture table's world in its maps, for tests: private namespaces,
 * a real AF_XDP socket in the XSKMAP, frames run by BPF_PROG_TEST_RUN.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "ebpf/limit_table.h"
#include "ebpf/xdp_load.h"
#include "parse.h"
#include "tests/packets/fixtures.h"

struct bpf_object;

struct xdp_rig {
	struct xdp_maps maps;
	struct limit_table limits;
	struct bpf_object *object;
	int program, xsks, socket;
	struct parse_config parse;
};

/* Enter the namespaces and run the tests, each with the one rig as its state. 77 where that needs root. */
int xdp_rig_main(const struct CMUnitTest *tests, size_t n);

/* The sessions and limits of the fixture table; ARP, ICMP and foreign traffic to the kernel; nobody has sent
 * strays yet. */
void xdp_rig_world(struct xdp_rig *r);
void xdp_rig_params(struct xdp_rig *r, uint32_t neighbours, uint32_t other, uint32_t enabled);

/* Remove all entries of a map by source address. */
void xdp_rig_empty(int map);

/* Use up the plan and the refusals of a slot. */
void xdp_rig_exhaust(struct limit_slot *slot);

/* Run one frame. Returns the verdict; *counter = the one counter that moved, -1 when not exactly one. */
int xdp_rig_run(struct xdp_rig *r, const uint8_t *data, size_t n, int *counter);
