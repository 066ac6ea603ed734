/* SPDX-License-Identifier: BSD-3-Clause
 * Sizes and offsets of the structs that BPF and the host share, as 64-bit words in a section of the
 * object file; preprocessed with -DTABLE it becomes the list of their names instead.
 */
#include "abi/limits.h"
#include "abi/types.h"
#include "abi/wire.h"
#include "abi/xdp_maps.h"

#define LAYOUT(SIZE, AT)                                                                            \
	SIZE(wire_header) AT(wire_header, type) AT(wire_header, flags) AT(wire_header, lane)        \
	AT(wire_header, key_id) AT(wire_header, counter)                                            \
	SIZE(wire_request) AT(wire_request, request_id) AT(wire_request, model_id)                  \
	AT(wire_request, deadline_us) AT(wire_request, dtype) AT(wire_request, segment_index)       \
	AT(wire_request, segment_count) AT(wire_request, reserved) AT(wire_request, rows)           \
	AT(wire_request, reserved2)                                                                 \
	SIZE(wire_reply) AT(wire_reply, request_id) AT(wire_reply, model_id) AT(wire_reply, status) \
	AT(wire_reply, dtype) AT(wire_reply, segment_index) AT(wire_reply, segment_count)           \
	AT(wire_reply, rows) AT(wire_reply, detail) AT(wire_reply, retry_after_us)                  \
	SIZE(limit_slot) AT(limit_slot, tat_ticks) AT(limit_slot, refused_tat_ticks)                \
	AT(limit_slot, units_admitted) AT(limit_slot, interval_ticks) AT(limit_slot, burst_ticks)   \
	AT(limit_slot, refused_interval_ticks) AT(limit_slot, model_mask) AT(limit_slot, flags)     \
	AT(limit_slot, generation)                                                                  \
	SIZE(ip_addr) SIZE(xdp_session) AT(xdp_session, source) AT(xdp_session, subscriber)         \
	AT(xdp_session, flags)                                                                      \
	SIZE(xdp_params) AT(xdp_params, udp_port) AT(xdp_params, neighbour_route)                   \
	AT(xdp_params, other_route) AT(xdp_params, enabled)                                         \
	SIZE(shield_term) AT(shield_term, until_ns) AT(shield_term, packets)

#ifdef TABLE
#define SIZE(s) @sizeof.s@
#define AT(s, f) @s.f@
LAYOUT(SIZE, AT)
#else
#define SIZE(s) sizeof(struct s),
#define AT(s, f) offsetof(struct s, f),
extern const uint64_t layout[];
const uint64_t layout[] __attribute__((section("mr_layout"), used)) = {LAYOUT(SIZE, AT)};
#endif
