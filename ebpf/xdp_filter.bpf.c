/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
 * The XDP program: hands data-port packets of live sessions to AF_XDP and drops the rest uncopied.
 *
 * It charges no subscriber; it counts, and it remembers who sends strays (abi/shield.h). What it lets
 * through, the worker checks again. The data port never reaches the kernel's stack, whatever goes wrong.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "ebpf/maps.bpf.h"
#include "ebpf/parse.bpf.h"

MR_ALWAYS_INLINE void count(uint32_t counter)
{
	uint64_t *n = bpf_map_lookup_elem(&mr_xdp_count_v2, &counter);

	if (n)
		(*n)++;
}

MR_ALWAYS_INLINE int drop(uint32_t counter)
{
	count(counter);
	return XDP_DROP;
}

/* Hand the packet to the socket bound to its queue, counting it as `counter`. */
MR_ALWAYS_INLINE int to_dataplane(const struct xdp_md *ctx, uint32_t counter)
{
	long verdict = bpf_redirect_map(&xsks_map, ctx->rx_queue_index, XDP_DROP);

	count(verdict == XDP_REDIRECT ? counter : XDP_COUNT_NO_SOCKET);
	return (int)verdict;
}

/* Box `source` for one term from now on. */
MR_ALWAYS_INLINE void box(const struct ip_addr *source, struct shield_term *old, uint64_t now_ns)
{
	struct shield_term term = {shield_term_end(now_ns), 1};

	if (old)
		*old = term;
	else
		bpf_map_update_elem(&mr_box_v1, source, &term, BPF_ANY);
}

/* Give a source that has just sent its first stray a bucket. */
MR_ALWAYS_INLINE void remember(const struct ip_addr *source, uint64_t now_ns)
{
	uint64_t tat = shield_first_tat(now_ns), *newcomers;
	uint32_t zero = 0;

	newcomers = bpf_map_lookup_elem(&mr_newcomers, &zero);
	if (newcomers && shield_newcomer(newcomers, now_ns))
		bpf_map_update_elem(&mr_flood_v1, source, &tat, BPF_ANY);
}

/* The shield's word on one stray: what it counts as, `why` while the source has strays to spare. */
MR_ALWAYS_INLINE uint32_t stray(const struct ip_addr *source, uint32_t why)
{
	struct shield_term *term = bpf_map_lookup_elem(&mr_box_v1, source);
	uint64_t now_ns = bpf_ktime_get_ns();
	uint64_t *tat;

	if (term && shield_boxed(term->until_ns, now_ns)) {
		__sync_fetch_and_add(&term->packets, 1);
		return XDP_COUNT_BOXED;
	}
	tat = bpf_map_lookup_elem(&mr_flood_v1, source);
	if (!tat) {
		remember(source, now_ns);
		return why;
	}
	if (shield_charge(tat, now_ns))
		return why;
	box(source, term, now_ns);
	return XDP_COUNT_FLOOD;
}

/* Traffic that is not the data port's goes where the operator said. */
MR_ALWAYS_INLINE int route(const struct xdp_md *ctx, uint32_t way, uint32_t counter)
{
	if (way == XDP_TO_DATAPLANE)
		return to_dataplane(ctx, counter);
	count(counter);
	return way == XDP_TO_KERNEL ? XDP_PASS : XDP_DROP;
}

MR_ALWAYS_INLINE int same_address(const struct ip_addr *a, const struct ip_addr *b)
{
	uint64_t x[2], y[2];

	__builtin_memcpy(x, a->bytes, sizeof(x));
	__builtin_memcpy(y, b->bytes, sizeof(y));
	return ((x[0] ^ y[0]) | (x[1] ^ y[1])) == 0;
}

/* The same for IP packets whose source is known: what would cost a worker time is subject to the shield.
 * What goes to the kernel is none of its business. */
MR_ALWAYS_INLINE int route_ip(const struct xdp_md *ctx, uint32_t way, uint32_t counter,
	const struct ip_addr *source)
{
	uint32_t verdict = way == XDP_TO_DATAPLANE ? stray(source, counter) : counter;

	return verdict == counter ? route(ctx, way, counter) : drop(verdict);
}

/* Has the subscriber used up even its allowance of refusals? The clock is read only for those who
 * have been refused at least once. */
MR_ALWAYS_INLINE int is_shouting(const struct limit_slot *slot)
{
	if (!limits_load(&slot->refused_tat_ticks))
		return 0;
	return limits_shouting(slot, limits_ticks(bpf_ktime_get_ns()));
}

/* A sound datagram for the data port: does a live session own it? */
MR_ALWAYS_INLINE int admit(const struct xdp_md *ctx, uint32_t key_id, const struct ip_addr *source)
{
	const struct xdp_session *session = bpf_map_lookup_elem(&mr_sessions_v1, &key_id);
	const struct limit_slot *slot;
	uint32_t subscriber;

	if (!session)
		return drop(stray(source, XDP_COUNT_UNKNOWN_KEY));
	if (!same_address(&session->source, source))
		return drop(stray(source, XDP_COUNT_WRONG_SOURCE));
	subscriber = session->subscriber;
	slot = bpf_map_lookup_elem(&mr_limits_v1, &subscriber);
	if (!slot)
		return drop(XDP_COUNT_UNKNOWN_KEY);
	if (is_shouting(slot))
		return drop(XDP_COUNT_SHOUTING);
	return to_dataplane(ctx, XDP_COUNT_REDIRECTED);
}

MR_ALWAYS_INLINE int udp_packet(const struct xdp_md *ctx, struct cursor *c,
	const struct xdp_params *params, const struct ip_info *ip)
{
	uint32_t length = 0, key_id = 0;
	int port = parse_udp(c, &length);

	if (port < 0)
		return drop(XDP_COUNT_MALFORMED);
	if ((uint32_t)port != params->udp_port)
		return route_ip(ctx, params->other_route, XDP_COUNT_OTHER, &ip->source);
	if (!params->enabled)
		return drop(XDP_COUNT_DISABLED);
	if (length != ip->payload_bytes || length < sizeof(struct udphdr) + WIRE_MIN_PAYLOAD_BYTES ||
		parse_wire(c, &key_id) < 0)
		return drop(stray(&ip->source, XDP_COUNT_MALFORMED));
	return admit(ctx, key_id, &ip->source);
}

SEC("xdp")
int mr_xdp(struct xdp_md *ctx)
{
	struct cursor c = {(const uint8_t *)(long)ctx->data, (const uint8_t *)(long)ctx->data_end};
	const struct xdp_params *params;
	struct ip_info ip = {0};
	uint32_t zero = 0;
	int type, protocol;

	params = bpf_map_lookup_elem(&mr_params_v1, &zero);
	if (!params)
		return XDP_DROP;
	type = parse_ethernet(&c);
	if (type < 0)
		return drop(XDP_COUNT_MALFORMED);
	if (type == ETH_P_ARP)
		return route(ctx, params->neighbour_route, XDP_COUNT_NEIGHBOUR);
	if (type == ETH_P_IP)
		protocol = parse_ipv4(&c, &ip);
	else if (type == ETH_P_IPV6)
		protocol = parse_ipv6(&c, &ip);
	else
		return route(ctx, params->other_route, XDP_COUNT_OTHER);
	if (protocol < 0)
		return drop(XDP_COUNT_MALFORMED);
	if (protocol == PARSE_FRAGMENT)
		return drop(XDP_COUNT_FRAGMENT);
	if (protocol == IPPROTO_UDP)
		return udp_packet(ctx, &c, params, &ip);
	if (protocol == IPPROTO_ICMP || (protocol == IPPROTO_ICMPV6 && is_echo6(&c)))
		return route_ip(ctx, params->neighbour_route, XDP_COUNT_NEIGHBOUR, &ip.source);
	if (protocol == IPPROTO_ICMPV6) /* neighbour discovery: paying IPv6 traffic depends on it */
		return route(ctx, params->neighbour_route, XDP_COUNT_NEIGHBOUR);
	return route_ip(ctx, params->other_route, XDP_COUNT_OTHER, &ip.source);
}

char _license[] SEC("license") = "Dual BSD/GPL";
