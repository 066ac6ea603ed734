/* SPDX-License-Identifier: BSD-3-Clause
 * The load generator without the kernel: Ethernet, IPv4 and UDP built here, moved by DPDK's memif
 * (client role) or af_xdp device. Answers ARP for its own address, asks for the server's.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <rte_arp.h>
#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_mbuf.h>
#include <rte_udp.h>

#include "perf/loadgen/transport.h"

enum {
	MBUFS = 8191,
	RING = 2048,
	LINK_WAIT_MS = 5000,
	ARP_WAIT_MS = 5000,
	ARP_EVERY_MS = 200,
	EAL_ARGS = 24,
	SOURCE_PORT = 40000,
};

struct frame {
	struct rte_ether_hdr eth;
	struct rte_ipv4_hdr ip;
	struct rte_udp_hdr udp;
} __attribute__((packed, aligned(2)));

_Static_assert(sizeof(struct frame) == TRANSPORT_HEADROOM, "headers fill the headroom");

struct dpdk {
	struct transport base;
	uint16_t port;
	struct rte_mempool *pool;
	struct rte_ether_addr mac, server_mac;
	rte_be32_t ip, server_ip;
	uint16_t server_port;
	struct frame head; /* of every frame, but for lengths and checksums */
	struct rte_mbuf *held[TRANSPORT_BURST]; /* handed out by the last receive() */
	uint32_t n_held;
};

/* ---- frames -------------------------------------------------------------------------------- */

static void dpdk_frame(struct transport *t, const struct datagram *d, uint32_t n)
{
	struct dpdk *x = (struct dpdk *)t;

	for (uint32_t i = 0; i < n; i++) {
		struct frame *f = (struct frame *)(d[i].data - TRANSPORT_HEADROOM);

		*f = x->head;
		f->ip.total_length = rte_cpu_to_be_16((uint16_t)(d[i].bytes + 28));
		f->udp.dgram_len = rte_cpu_to_be_16((uint16_t)(d[i].bytes + 8));
		f->ip.hdr_checksum = rte_ipv4_cksum(&f->ip);
		f->udp.dgram_cksum = rte_ipv4_udptcp_cksum(&f->ip, &f->udp);
	}
}

static void head_init(struct dpdk *x)
{
	x->head = (struct frame){
		.eth = {.dst_addr = x->server_mac, .src_addr = x->mac,
			.ether_type = rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4)},
		.ip = {.version_ihl = RTE_IPV4_VHL_DEF, .time_to_live = 64,
			.fragment_offset = rte_cpu_to_be_16(RTE_IPV4_HDR_DF_FLAG),
			.next_proto_id = IPPROTO_UDP, .src_addr = x->ip, .dst_addr = x->server_ip},
		.udp = {.src_port = rte_cpu_to_be_16(SOURCE_PORT),
			.dst_port = rte_cpu_to_be_16(x->server_port)},
	};
}

static int dpdk_send(struct transport *t, const struct datagram *d, uint32_t n)
{
	struct dpdk *x = (struct dpdk *)t;
	struct rte_mbuf *m[TRANSPORT_BURST];
	uint16_t sent;

	if (rte_pktmbuf_alloc_bulk(x->pool, m, n))
		return 0;
	for (uint32_t i = 0; i < n; i++) {
		uint16_t bytes = (uint16_t)(d[i].bytes + TRANSPORT_HEADROOM);

		memcpy(rte_pktmbuf_mtod(m[i], void *), d[i].data - TRANSPORT_HEADROOM, bytes);
		m[i]->data_len = bytes;
		m[i]->pkt_len = bytes;
	}
	sent = rte_eth_tx_burst(x->port, 0, m, (uint16_t)n);
	if (sent < n)
		rte_pktmbuf_free_bulk(m + sent, n - sent);
	return sent;
}

/* ---- ARP ----------------------------------------------------------------------------------- */

struct arp_frame {
	struct rte_ether_hdr eth;
	struct rte_arp_hdr arp;
} __attribute__((packed, aligned(2)));

static void arp_send(struct dpdk *x, uint16_t opcode, const struct rte_ether_addr *to,
	rte_be32_t to_ip)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(x->pool);
	struct arp_frame *f = m ? (struct arp_frame *)rte_pktmbuf_append(m, sizeof(*f)) : NULL;

	if (!f)
		return;
	f->eth = (struct rte_ether_hdr){.dst_addr = *to, .src_addr = x->mac,
		.ether_type = rte_cpu_to_be_16(RTE_ETHER_TYPE_ARP)};
	f->arp = (struct rte_arp_hdr){.arp_hardware = rte_cpu_to_be_16(RTE_ARP_HRD_ETHER),
		.arp_protocol = rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4), .arp_hlen = 6,
		.arp_plen = 4, .arp_opcode = rte_cpu_to_be_16(opcode),
		.arp_data = {.arp_sha = x->mac, .arp_sip = x->ip, .arp_tha = *to,
			.arp_tip = to_ip}};
	if (rte_eth_tx_burst(x->port, 0, &m, 1) == 0)
		rte_pktmbuf_free(m);
}

static void arp_take(struct dpdk *x, const struct rte_mbuf *m)
{
	struct arp_frame f;

	if (m->data_len < sizeof(f))
		return;
	memcpy(&f, rte_pktmbuf_mtod(m, const void *), sizeof(f));
	if (f.arp.arp_data.arp_tip != x->ip)
		return;
	if (f.arp.arp_opcode == rte_cpu_to_be_16(RTE_ARP_OP_REQUEST))
		arp_send(x, RTE_ARP_OP_REPLY, &f.arp.arp_data.arp_sha, f.arp.arp_data.arp_sip);
	else if (f.arp.arp_data.arp_sip == x->server_ip)
		x->server_mac = f.arp.arp_data.arp_sha;
}

/* ---- receiving ----------------------------------------------------------------------------- */

/* The UDP payload when this is a datagram of the server's to us; neighbour traffic is answered. */
static bool payload_of(struct dpdk *x, struct rte_mbuf *m, struct datagram *d)
{
	struct frame *f = rte_pktmbuf_mtod(m, struct frame *);
	uint16_t bytes;

	if (m->nb_segs != 1 || m->data_len < sizeof(struct rte_ether_hdr))
		return false;
	if (f->eth.ether_type == rte_cpu_to_be_16(RTE_ETHER_TYPE_ARP))
		arp_take(x, m);
	if (m->data_len < sizeof(*f) || f->eth.ether_type != rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4) ||
		f->ip.version_ihl != RTE_IPV4_VHL_DEF || f->ip.next_proto_id != IPPROTO_UDP ||
		f->ip.src_addr != x->server_ip || f->ip.dst_addr != x->ip ||
		f->udp.dst_port != x->head.udp.src_port)
		return false;
	bytes = rte_be_to_cpu_16(f->udp.dgram_len);
	if (bytes < 8 || bytes > m->data_len - 34)
		return false;
	*d = (struct datagram){(uint8_t *)(f + 1), bytes - 8u};
	return true;
}

static int dpdk_receive(struct transport *t, struct datagram *d)
{
	struct dpdk *x = (struct dpdk *)t;
	int n = 0;

	if (x->n_held)
		rte_pktmbuf_free_bulk(x->held, x->n_held);
	x->n_held = rte_eth_rx_burst(x->port, 0, x->held, TRANSPORT_BURST);
	for (uint32_t i = 0; i < x->n_held; i++)
		n += payload_of(x, x->held[i], &d[n]);
	return n;
}

static void dpdk_wait(struct transport *t, uint64_t ns)
{
	(void)t, (void)ns; /* polled by nature */
}

static void dpdk_close(struct transport *t)
{
	struct dpdk *x = (struct dpdk *)t;

	if (x->n_held)
		rte_pktmbuf_free_bulk(x->held, x->n_held);
	rte_eth_dev_stop(x->port);
	rte_eth_dev_close(x->port);
	rte_eal_cleanup();
	free(x);
}

/* ---- a second address on the same port ----------------------------------------------------- */

/* The port has one receiver, which drops what is for this address. */
static int beside_receive(struct transport *t, struct datagram *d)
{
	(void)t, (void)d;
	return 0;
}

static void beside_close(struct transport *t)
{
	free(t);
}

static int dpdk_beside(struct transport *t, const char *local, struct transport **out,
	struct error *err)
{
	static const struct transport_ops ops = {
		dpdk_frame, dpdk_send, beside_receive, dpdk_wait, beside_close, NULL};
	struct dpdk *x = calloc(1, sizeof(*x));

	if (!x)
		return error_set(err, -ENOMEM, "out of memory");
	*x = *(struct dpdk *)t;
	x->base.ops = &ops;
	x->n_held = 0;
	if (inet_pton(AF_INET, local, &x->ip) != 1) {
		free(x);
		return error_set(err, -EINVAL, "\"%.60s\" is no IPv4 address", local);
	}
	head_init(x);
	*out = &x->base;
	return 0;
}

static const struct transport_ops dpdk_ops = {
	dpdk_frame, dpdk_send, dpdk_receive, dpdk_wait, dpdk_close, dpdk_beside};

/* ---- start --------------------------------------------------------------------------------- */

static int device_args(char *out, size_t cap, const struct transport_where *w, struct error *err)
{
	int n = -1;

	if (strncmp(w->port, "memif:", 6) == 0)
		n = snprintf(out, cap,
			"net_memif0,role=client,id=0,socket=%s,socket-abstract=no,bsize=2048,rsize=11%s%s",
			w->port + 6, w->vdev ? "," : "", w->vdev ? w->vdev : "");
	else if (strncmp(w->port, "af_xdp:", 7) == 0)
		n = snprintf(out, cap, "net_af_xdp0,iface=%s,start_queue=0,queue_count=1%s%s",
			w->port + 7, w->vdev ? "," : "", w->vdev ? w->vdev : "");
	if (n < 0 || (size_t)n >= cap)
		return error_set(err, -EINVAL, "--port %s: udp, memif:SOCKET or af_xdp:INTERFACE",
			w->port);
	return 0;
}

/* Only the drivers that are needed: loading every one of Debian's costs 150 ms. */
static int start_eal(const struct transport_where *w, struct error *err)
{
	const char *driver = w->port[0] == 'm' ? "librte_net_memif.so" : "librte_net_af_xdp.so";
	char device[320], core[16], prefix[32];
	char *argv[EAL_ARGS];
	int n = 0, rc = device_args(device, sizeof(device), w, err);

	if (rc)
		return rc;
	snprintf(core, sizeof(core), "%d", w->core < 0 ? 0 : w->core);
	snprintf(prefix, sizeof(prefix), "mr-bench-%d", (int)getpid());
	const char *const fixed[] = {"millrace-bench", "-l", core, "--no-pci", "--no-telemetry",
		"--log-level=error", "-d", "librte_mempool_ring.so", "-d", driver, "--vdev", device,
		"--file-prefix", prefix};
	const char *const huge[] = {"--in-memory", "-m", "128"};
	const char *const small[] = {"--no-huge", "--no-shconf", "-m", "128"};

	for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++)
		argv[n++] = (char *)(uintptr_t)fixed[i];
	for (size_t i = 0; i < (w->huge ? 3 : 4); i++)
		argv[n++] = (char *)(uintptr_t)(w->huge ? huge[i] : small[i]);
	if (rte_eal_init(n, argv) < 0)
		return error_set(err, -EIO, "EAL does not start (%s): %s", device,
			rte_strerror(rte_errno));
	if (rte_eth_dev_count_avail() != 1)
		return error_set(err, -ENODEV, "device %s did not come up", device);
	return 0;
}

static int start_port(struct dpdk *x, struct error *err)
{
	struct rte_eth_conf conf = {0};
	struct rte_eth_link link = {0};
	uint16_t rx = RING, tx = RING;
	int rc;

	x->port = (uint16_t)rte_eth_find_next(0);
	x->pool = rte_pktmbuf_pool_create("bench", MBUFS, 256, 0, RTE_MBUF_DEFAULT_BUF_SIZE,
		SOCKET_ID_ANY);
	if (!x->pool)
		return error_set(err, -ENOMEM, "packet pool: %s", rte_strerror(rte_errno));
	rc = rte_eth_dev_configure(x->port, 1, 1, &conf);
	rc = rc ? rc : rte_eth_dev_adjust_nb_rx_tx_desc(x->port, &rx, &tx);
	rc = rc ? rc : rte_eth_rx_queue_setup(x->port, 0, rx, SOCKET_ID_ANY, NULL, x->pool);
	rc = rc ? rc : rte_eth_tx_queue_setup(x->port, 0, tx, SOCKET_ID_ANY, NULL);
	rc = rc ? rc : rte_eth_dev_start(x->port);
	if (rc)
		return error_set(err, rc, "device does not start: %s", rte_strerror(-rc));
	rte_eth_macaddr_get(x->port, &x->mac);
	for (int ms = 0; ms < LINK_WAIT_MS && link.link_status != RTE_ETH_LINK_UP; ms += 10) {
		rte_delay_us_sleep(10000);
		rte_eth_link_get_nowait(x->port, &link);
	}
	return link.link_status == RTE_ETH_LINK_UP
		       ? 0
		       : error_set(err, -ENETDOWN, "no link: is the other end there?");
}

static int find_server(struct dpdk *x, const char *mac, struct error *err)
{
	static const struct rte_ether_addr everybody = {{255, 255, 255, 255, 255, 255}};
	struct datagram ignored[TRANSPORT_BURST];
	uint64_t ms = rte_get_timer_hz() / 1000, next = 0;
	uint64_t end = rte_get_timer_cycles() + ARP_WAIT_MS * ms;

	if (mac)
		return rte_ether_unformat_addr(mac, &x->server_mac)
			       ? error_set(err, -EINVAL, "--mac %s is no MAC address", mac)
			       : 0;
	while (rte_is_zero_ether_addr(&x->server_mac) && rte_get_timer_cycles() < end) {
		if (rte_get_timer_cycles() >= next) {
			arp_send(x, RTE_ARP_OP_REQUEST, &everybody, x->server_ip);
			next = rte_get_timer_cycles() + ARP_EVERY_MS * ms;
		}
		dpdk_receive(&x->base, ignored);
	}
	if (rte_is_zero_ether_addr(&x->server_mac))
		return error_set(err, -EHOSTUNREACH, "the server does not answer ARP");
	return 0;
}

int transport_dpdk_open(struct transport **out, const struct transport_where *w, struct error *err)
{
	struct dpdk *x = calloc(1, sizeof(*x));
	int rc;

	if (!x)
		return error_set(err, -ENOMEM, "out of memory");
	x->base.ops = &dpdk_ops;
	x->base.room = RING - 2 * TRANSPORT_BURST; /* less what is being taken out and not given back yet */
	x->server_port = w->server_port;
	if (!w->local || inet_pton(AF_INET, w->local, &x->ip) != 1 ||
		inet_pton(AF_INET, w->server, &x->server_ip) != 1) {
		free(x);
		return error_set(err, -EINVAL, "this transport needs IPv4 addresses: --address");
	}
	rc = start_eal(w, err);
	if (rc) {
		free(x);
		return rc;
	}
	rc = start_port(x, err);
	head_init(x);
	rc = rc ? rc : find_server(x, w->mac, err);
	if (rc) {
		dpdk_close(&x->base);
		return rc;
	}
	head_init(x);
	*out = &x->base;
	return 0;
}
