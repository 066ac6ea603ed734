/* SPDX-License-Identifier: BSD-3-Clause
 * Ports on DPDK: see port_dpdk.h. Traps of the 22.11 af_xdp driver: reference/performance.md 6.1.
 */
#include <bpf/libbpf.h>
#include <errno.h>
#include <net/if.h>
#include <rte_bus_vdev.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_memzone.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "port_dpdk.h"

enum {
	POOL_CACHE = 256,
	DESCRIPTORS_DEFAULT = 2048,
	/* Pool object = 64 header + 128 mbuf + room = exactly one page, so that no object straddles
	 * a page and the UMEM the driver computes (objects x size) covers all of them. */
	OBJECT_BYTES = 4096,
	OBJECT_HEADER_BYTES = 64,
	SOCKETS_SEEN = 1024, /* descriptors looked at for a queue's AF_XDP socket */
	ROOM_BYTES = OBJECT_BYTES - OBJECT_HEADER_BYTES - (int)sizeof(struct rte_mbuf),
};

struct port_dpdk {
	uint16_t id; /* of ethdev */
	char name[64];
	bool vdev, started;
	struct rte_mempool *pool;
	const struct rte_memzone *zone; /* the pool's memory */
	struct parse_config parse;
	struct port_queue queues[DP_MAX_WORKERS];
	int wait_fds[DP_MAX_WORKERS];
};

/* ---- a memif peer that goes away ---- */

/* DPDK 22.11 unmaps a peer's memory on its interrupt thread the moment the peer is gone, and a worker that is
 * reading a ring in it dies of SIGSEGV (seen when it is descheduled there). The driver has marked the device
 * unconnected by then, so once every worker has begun another poll, none of them looks. The linker sends
 * the driver's call here (module.mk); the driver passes no context, hence the static. */
void __real_memif_free_regions(struct rte_eth_dev *dev);
void __wrap_memif_free_regions(struct rte_eth_dev *dev);

static const struct quiesce *pollers;

void port_dpdk_guard(const struct quiesce *q)
{
	pollers = q;
}

void __wrap_memif_free_regions(struct rte_eth_dev *dev)
{
	struct quiesce_snapshot mark;

	if (pollers) {
		quiesce_mark(pollers, &mark);
		while (!quiesce_passed(pollers, &mark))
			usleep(20);
	}
	__real_memif_free_regions(dev);
}

/* ---- the calls of a worker ---- */

static uint32_t dpdk_rx(struct port_queue *q, struct burst *b, uint32_t max)
{
	const struct port_dpdk *p = q->port;
	struct rte_mbuf **mbufs = (struct rte_mbuf **)b->buffers;
	uint32_t n = rte_eth_rx_burst(p->id, q->index, mbufs, (uint16_t)max);

	for (uint32_t i = 0; i < n; i++) {
		b->data[i] = rte_pktmbuf_mtod(mbufs[i], uint8_t *);
		b->bytes[i] = mbufs[i]->data_len;
		b->room[i] = (uint16_t)(mbufs[i]->buf_len - mbufs[i]->data_off);
		if (unlikely(mbufs[i]->nb_segs != 1))
			b->data[i] = NULL;
	}
	return n;
}

static uint32_t dpdk_tx(struct port_queue *q, void *const buffers[], const uint16_t bytes[],
	uint32_t n)
{
	const struct port_dpdk *p = q->port;
	struct rte_mbuf **mbufs = (struct rte_mbuf **)(uintptr_t)buffers;

	for (uint32_t i = 0; i < n; i++) {
		mbufs[i]->data_len = bytes[i];
		mbufs[i]->pkt_len = bytes[i];
	}
	return rte_eth_tx_burst(p->id, q->index, mbufs, (uint16_t)n);
}

static bool dpdk_take(struct port_queue *q, void *buffers[], uint8_t *data[], uint32_t n)
{
	struct rte_mbuf **mbufs = (struct rte_mbuf **)buffers;

	if (rte_pktmbuf_alloc_bulk(((struct port_dpdk *)q->port)->pool, mbufs, n))
		return false;
	for (uint32_t i = 0; i < n; i++)
		data[i] = rte_pktmbuf_mtod(mbufs[i], uint8_t *);
	return true;
}

static void dpdk_release(struct port_queue *q, void *const buffers[], uint32_t n)
{
	(void)q;
	rte_pktmbuf_free_bulk((struct rte_mbuf **)(uintptr_t)buffers, n);
}

static bool dpdk_starved(struct port_queue *q)
{
	return rte_mempool_empty(((struct port_dpdk *)q->port)->pool);
}

static const struct port_ops dpdk_ops = {dpdk_rx, dpdk_tx, dpdk_take, dpdk_release, dpdk_starved};

/* ---- packet pool ---- */

/* First and last byte any object uses. */
struct pool_span {
	uintptr_t low, high;
};

static void span_grow(struct rte_mempool *mp, void *opaque, void *object, unsigned i)
{
	struct pool_span *s = opaque;
	uintptr_t begin = (uintptr_t)object - mp->header_size,
		  end = (uintptr_t)object + mp->elt_size;

	(void)i;
	s->low = begin < s->low ? begin : s->low;
	s->high = end > s->high ? end : s->high;
}

/* The driver registers [page of the first chunk, + objects x object size) as UMEM: whatever lies
 * outside would be read by nobody and written by nobody, silently. */
static int pool_verify(struct rte_mempool *mp, struct error *err)
{
	struct rte_mempool_memhdr *first = STAILQ_FIRST(&mp->mem_list);
	uint64_t each = rte_mempool_calc_obj_size(mp->elt_size, mp->flags, NULL);
	uintptr_t base = (uintptr_t)first->addr & ~(uintptr_t)(OBJECT_BYTES - 1);
	uint64_t umem = mp->populated_size * each + ((uintptr_t)first->addr - base);
	struct pool_span span = {UINTPTR_MAX, 0};

	rte_mempool_obj_iter(mp, span_grow, &span);
	if (mp->nb_mem_chunks != 1 || each != OBJECT_BYTES || span.low < base ||
		span.high > base + umem)
		return error_set(err, -ENOMEM,
			"packet pool of %u objects lies in %u pieces over %lu bytes, the UMEM "
			"covers %lu: "
			"give the dataplane more memory in one piece",
			mp->populated_size, mp->nb_mem_chunks, span.high - span.low, umem);
	return 0;
}

static int no_pool(uint32_t mbufs, struct error *err)
{
	return error_set(err, -ENOMEM,
		"no memory for %u packet buffers (%s): raise the dataplane's "
		"memory or lower the number of buffers",
		mbufs, rte_strerror(rte_errno));
}

/* For af_xdp: page-sized objects in memory of our own, because DPDK's default may begin in the
 * middle of a page; then the last object lies behind the end of the UMEM ([ran]). */
static int pool_new_umem(struct port_dpdk *p, const char *name, uint32_t mbufs, struct error *err)
{
	struct rte_pktmbuf_pool_private priv = {.mbuf_data_room_size = ROOM_BYTES};

	p->pool = rte_mempool_create_empty(name, mbufs, sizeof(struct rte_mbuf) + ROOM_BYTES,
		POOL_CACHE, sizeof(priv), SOCKET_ID_ANY, RTE_MEMPOOL_F_NO_SPREAD);
	if (!p->pool)
		return no_pool(mbufs, err);
	rte_mempool_set_ops_byname(p->pool, "ring_mp_mc", NULL);
	rte_pktmbuf_pool_init(p->pool, &priv);
	p->zone = rte_memzone_reserve_aligned(name, (size_t)mbufs * OBJECT_BYTES, SOCKET_ID_ANY, 0,
		OBJECT_BYTES);
	if (!p->zone || rte_mempool_populate_virt(p->pool, p->zone->addr, p->zone->len,
				(size_t)p->zone->hugepage_sz, NULL, NULL) < 0)
		return no_pool(mbufs, err);
	rte_mempool_obj_iter(p->pool, rte_pktmbuf_init, NULL);
	return pool_verify(p->pool, err);
}

/* Elsewhere DPDK's own layout: objects a page apart would share eight ways of the same L1 sets. */
static int pool_new(struct port_dpdk *p, uint32_t kind, uint32_t mbufs, uint32_t number,
	struct error *err)
{
	char name[32];

	snprintf(name, sizeof(name), "port%u", number);
	if (kind == DP_PORT_AF_XDP)
		return pool_new_umem(p, name, mbufs, err);
	p->pool = rte_pktmbuf_pool_create(name, mbufs, POOL_CACHE, 0, RTE_MBUF_DEFAULT_BUF_SIZE,
		SOCKET_ID_ANY);
	return p->pool ? 0 : no_pool(mbufs, err);
}

/* ---- device ---- */

static int device_create(struct port_dpdk *p, const struct dp_port_config *c, uint32_t number,
	struct error *err)
{
	char args[512];
	int rc;

	switch (c->kind) {
	case DP_PORT_AF_XDP:
		snprintf(p->name, sizeof(p->name), "net_af_xdp%u", number);
		snprintf(args, sizeof(args), "iface=%s,queue_count=%u,xdp_prog=%s,busy_budget=%u",
			c->device, c->queues, c->xdp_object, c->busy_budget);
		break;
	case DP_PORT_MEMIF:
		snprintf(p->name, sizeof(p->name), "net_memif%u", number);
		snprintf(args, sizeof(args), "role=server,id=0,socket=%s,socket-abstract=no%s%s",
			c->device, c->args[0] ? "," : "", c->args);
		break;
	default:
		snprintf(p->name, sizeof(p->name), "%s", c->device);
		snprintf(args, sizeof(args), "%s", c->args);
	}
	if (c->kind != DP_PORT_PMD ||
		!strchr(c->device, ':')) { /* a PCI address was probed by EAL */
		rc = rte_vdev_init(p->name, args);
		if (rc < 0)
			return error_set(err, rc, "port %s: DPDK refused %s (%s): %s", c->device,
				p->name, args, strerror(-rc));
		p->vdev = true;
	}
	rc = rte_eth_dev_get_port_by_name(p->name, &p->id);
	return rc < 0 ? error_set(err, rc, "port %s: DPDK has no such device", c->device) : 0;
}

/* The driver keeps its sockets to itself: find the one it has just made among our descriptors. */
struct xdp_sockets {
	bool open[SOCKETS_SEEN];
};

static struct xdp_sockets xdp_sockets_now(void)
{
	struct xdp_sockets s = {0};

	for (int fd = 0; fd < SOCKETS_SEEN; fd++) {
		int domain = 0;
		socklen_t n = sizeof(domain);

		s.open[fd] = getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &n) == 0 && domain == AF_XDP;
	}
	return s;
}

static int xdp_socket_since(const struct xdp_sockets *before)
{
	struct xdp_sockets now = xdp_sockets_now();

	for (int fd = 0; fd < SOCKETS_SEEN; fd++)
		if (now.open[fd] && !before->open[fd])
			return fd;
	return -1;
}

static int queues_set_up(struct port_dpdk *p, const struct dp_port_config *c, struct error *err)
{
	uint16_t rx = (uint16_t)(c->rx_descriptors ? c->rx_descriptors : DESCRIPTORS_DEFAULT);
	uint16_t tx = (uint16_t)(c->tx_descriptors ? c->tx_descriptors : DESCRIPTORS_DEFAULT);
	struct rte_eth_conf conf = {0};
	int rc = rte_eth_dev_configure(p->id, (uint16_t)c->queues, (uint16_t)c->queues, &conf);

	if (rc < 0)
		return error_set(
			err, rc, "port %s: %u queues: %s", c->device, c->queues, strerror(-rc));
	rc = rte_eth_dev_adjust_nb_rx_tx_desc(p->id, &rx, &tx);
	for (uint16_t q = 0; rc >= 0 && q < c->queues; q++) {
		struct xdp_sockets before = xdp_sockets_now();

		rc = rte_eth_rx_queue_setup(p->id, q, rx, SOCKET_ID_ANY, NULL, p->pool);
		p->wait_fds[q] = xdp_socket_since(&before);
		if (rc >= 0)
			rc = rte_eth_tx_queue_setup(p->id, q, tx, SOCKET_ID_ANY, NULL);
	}
	if (rc < 0)
		return error_set(err, rc, "port %s: setting up its queues: %s", c->device,
			strerror(-rc));
	if (c->mtu && rte_eth_dev_set_mtu(p->id, (uint16_t)c->mtu) < 0)
		return error_set(err, -EINVAL, "port %s: MTU %u refused", c->device, c->mtu);
	rc = rte_eth_dev_start(p->id);
	if (rc < 0)
		return error_set(err, rc, "port %s does not start: %s", c->device, strerror(-rc));
	p->started = true;
	rte_eth_promiscuous_enable(p->id); /* neighbour groups; unicast is filtered by the parser */
	return 0;
}

/* How did the kernel attach our program? It chooses by itself (the driver passes no flag). */
static int xdp_mode(const struct dp_port_config *c, struct stats_port *stats, struct error *err)
{
	LIBBPF_OPTS(bpf_xdp_query_opts, o);
	unsigned ifindex = if_nametoindex(c->device);

	stats->xdp_mode = 4;
	if (!ifindex || bpf_xdp_query((int)ifindex, 0, &o) < 0)
		return error_set(err, -errno, "port %s: cannot ask for its XDP mode: %s", c->device,
			strerror(errno));
	switch (o.attach_mode) {
	case 1: /* XDP_ATTACHED_DRV */
		stats->xdp_mode = 1;
		return 0;
	case 2: /* XDP_ATTACHED_SKB */
		stats->xdp_mode = 2;
		if (c->xdp_generic_allowed)
			return 0;
		return error_set(err, -EOPNOTSUPP,
			"port %s: its driver has no native XDP and generic "
			"mode is not allowed by the configuration",
			c->device);
	case 3: /* XDP_ATTACHED_HW */
		stats->xdp_mode = 3;
		return 0;
	default:
		return error_set(err, -ENOENT, "port %s: no XDP program is attached (mode %u)",
			c->device, o.attach_mode);
	}
}

static void describe(struct port_dpdk *p, const struct dp_port_config *c, uint32_t number,
	uint32_t lanes, struct stats_port *stats)
{
	struct rte_ether_addr mac;
	uint16_t mtu = 0;

	rte_eth_macaddr_get(p->id, &mac);
	rte_eth_dev_get_mtu(p->id, &mtu);
	p->parse = (struct parse_config){.ipv4 = c->ipv4, .ipv6 = c->ipv6,
		.udp_port = (uint16_t)c->udp_port, .vlan = (uint16_t)c->vlan_tag,
		.lanes = (uint16_t)lanes, .any_mac = c->kind == DP_PORT_MEMIF};
	memcpy(p->parse.mac, mac.addr_bytes, 6);
	for (uint16_t q = 0; q < c->queues; q++)
		p->queues[q] = (struct port_queue){.ops = &dpdk_ops, .port = p, .index = q,
			.port_number = (uint16_t)number, .parse = &p->parse,
			.wait_fd = p->wait_fds[q]};
	memcpy(stats->device, c->device, sizeof(stats->device));
	memcpy(stats->mac, mac.addr_bytes, 6);
	stats->kind = c->kind;
	stats->queues = c->queues;
	stats->mtu = mtu;
}

int port_dpdk_open(struct port_dpdk **out, const struct dp_port_config *c, uint32_t number,
	uint32_t mbufs, uint32_t lanes, struct stats_port *stats, struct error *err)
{
	struct port_dpdk *p = calloc(1, sizeof(*p));
	int rc;

	if (!p)
		return error_set(err, -ENOMEM, "out of memory");
	rc = pool_new(p, c->kind, mbufs, number, err);
	if (!rc)
		rc = device_create(p, c, number, err);
	if (!rc)
		rc = queues_set_up(p, c, err);
	if (!rc && c->kind == DP_PORT_AF_XDP)
		rc = xdp_mode(c, stats, err);
	if (!rc && c->kind == DP_PORT_AF_XDP && !c->busy_budget)
		log_warn("port %s: without busy polling its driver may make an idle worker sleep for up to "
			 "a second", c->device);
	if (rc) {
		port_dpdk_close(p);
		return rc;
	}
	describe(p, c, number, lanes, stats);
	*out = p;
	return 0;
}

void port_dpdk_close(struct port_dpdk *p)
{
	if (!p)
		return;
	if (p->started) {
		rte_eth_promiscuous_disable(p->id); /* af_xdp set the flag on the kernel's interface */
		rte_eth_dev_stop(p->id);
	}
	if (p->vdev)
		rte_vdev_uninit(p->name);
	rte_mempool_free(p->pool);
	rte_memzone_free(p->zone);
	free(p);
}

struct port_queue *port_dpdk_queue(struct port_dpdk *p, uint32_t index)
{
	return &p->queues[index];
}
