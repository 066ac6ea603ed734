/* SPDX-License-Identifier: BSD-3-Clause
 * Taking the configuration: see config_check.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "abi/session.h"
#include "base/fd.h"
#include "burst.h"
#include "config_check.h"
#include "reply_store.h"

#define refuse(err, ...) error_set(err, -EINVAL, "configuration: " __VA_ARGS__)

enum {
	MAX_CPU = 1024,
	MAX_DESCRIPTORS = 32768,
	MAX_WIDE_BUFFERS = 16384,
	/* Each queue's rings may hold this many buffers at once: receive, transmit, and as much again that
	 * is waiting for completion or in a core's cache (reference/performance.md 6.1). */
	BUFFERS_PER_QUEUE = 8192,
	BUFFERS_LEAST = 4096, /* below, a queue's rings cannot even be filled */
};

bool config_is_at(int fd)
{
	uint64_t magic = 0;

	return fcntl(fd, F_GET_SEALS) >= 0 &&
	       pread(fd, &magic, sizeof(magic), 0) == sizeof(magic) && magic == DP_CONFIG_MAGIC;
}

static bool is_text(const char *s, size_t size)
{
	return memchr(s, 0, size) != NULL;
}

static bool is_zero(const struct ip_addr *a)
{
	static const struct ip_addr zero;

	return memcmp(a, &zero, sizeof(zero)) == 0;
}

static int check_mbufs(const struct dp_config *c, const struct dp_port_config *p, struct error *err)
{
	uint32_t least = p->queues * BUFFERS_LEAST;

	if (c->mbufs && c->mbufs < least)
		return refuse(err, "port %s: %u packet buffers are too few for %u queues, %u are the least",
			p->device, c->mbufs, p->queues, least);
	return 0;
}

static int check_port(const struct dp_port_config *p, uint32_t i, struct error *err)
{
	if (p->kind < DP_PORT_AF_XDP || p->kind > DP_PORT_PMD)
		return refuse(err, "port %u has kind %u, expected 1 af_xdp, 2 memif or 3 pmd", i,
			p->kind);
	if (!is_text(p->device, sizeof(p->device)) || !p->device[0] ||
		!is_text(p->args, sizeof(p->args)) ||
		!is_text(p->xdp_object, sizeof(p->xdp_object)))
		return refuse(err, "port %u has an empty or unterminated device", i);
	if (strpbrk(p->device, ", \t\n") || strpbrk(p->args, " \t\n") || strchr(p->xdp_object, ','))
		return refuse(err, "port %u: white space or comma in device or path", i);
	if (p->queues < 1 || p->queues > DP_MAX_WORKERS)
		return refuse(err, "port %s has %u queues, 1..%d are possible", p->device,
			p->queues, DP_MAX_WORKERS);
	if (p->kind == DP_PORT_AF_XDP && !p->xdp_object[0])
		return refuse(err, "port %s names no XDP object", p->device);
	if (is_zero(&p->ipv4) && is_zero(&p->ipv6))
		return refuse(err, "port %s has neither an IPv4 nor an IPv6 address", p->device);
	if (p->udp_port < 1 || p->udp_port > 65535)
		return refuse(err, "port %s: UDP port %u", p->device, p->udp_port);
	if (p->vlan_tag > 4094)
		return refuse(err, "port %s: VLAN %u", p->device, p->vlan_tag);
	if (p->rx_descriptors > MAX_DESCRIPTORS || p->tx_descriptors > MAX_DESCRIPTORS)
		return refuse(err, "port %s: %u and %u descriptors, %d are the most", p->device,
			p->rx_descriptors, p->tx_descriptors, MAX_DESCRIPTORS);
	if (p->mtu && (p->mtu < 1280 || p->mtu > 3520))
		return refuse(err, "port %s: MTU %u, 1280..3520 fit one buffer", p->device, p->mtu);
	return 0;
}

static int take_core(bool used[MAX_CPU], uint32_t cpu, struct error *err)
{
	if (cpu >= MAX_CPU)
		return refuse(err, "CPU %u of a worker or an engine", cpu);
	if (used[cpu])
		return refuse(err, "CPU %u has two workers or engines; each needs one of its own", cpu);
	used[cpu] = true;
	return 0;
}

static int check_cores(const struct dp_config *c, struct error *err)
{
	bool used[MAX_CPU] = {false};
	int rc = 0;

	for (uint32_t i = 0; i < c->n_ports; i++)
		for (uint32_t q = 0; !rc && q < c->ports[i].queues; q++)
			rc = take_core(used, c->ports[i].cores[q], err);
	for (uint32_t i = 0; !rc && i < c->n_engines; i++)
		rc = take_core(used, c->engine_cores[i], err);
	return rc;
}

static int check_fields(const struct dp_config *c, struct error *err)
{
	if (!is_text(c->instance, sizeof(c->instance)) || !c->instance[0] ||
		strpbrk(c->instance, "/ \t\n,"))
		return refuse(err, "the instance's name is empty or unusable");
	if (!is_text(c->run_dir, sizeof(c->run_dir)) || !c->run_dir[0])
		return refuse(err, "no run directory");
	if (c->n_ports < 1 || c->n_ports > DP_MAX_PORTS)
		return refuse(err, "%u ports, 1..%d are possible", c->n_ports, DP_MAX_PORTS);
	if (c->memory_mb < 64 || c->memory_mb > 1u << 20)
		return refuse(err, "memory of %u MiB, 64 is the least", c->memory_mb);
	if (c->burst > 64)
		return refuse(err, "burst of %u packets, 64 is the most", c->burst);
	if (c->mbufs && (c->mbufs < 4096 || c->mbufs > 1u << 20))
		return refuse(err, "%u packet buffers, 4096..%u are possible", c->mbufs, 1u << 20);
	if (c->lanes < 1 || c->lanes > WIRE_MAX_LANES)
		return refuse(err, "%u lanes, 1..%d are possible", c->lanes, WIRE_MAX_LANES);
	if (c->queue_us > DP_QUEUE_US_MAX)
		return refuse(err, "a queue of %u us, %d are the most", c->queue_us, DP_QUEUE_US_MAX);
	if (c->poll > DP_POLL_ADAPTIVE)
		return refuse(err, "unknown way to poll %u", c->poll);
	if (c->n_engines > DP_MAX_ENGINES)
		return refuse(err, "%u engine cores, %d are possible", c->n_engines, DP_MAX_ENGINES);
	if (c->wide_buffers > MAX_WIDE_BUFFERS || (c->wide_buffers && c->wide_buffers < BURST_MAX))
		return refuse(err, "%u buffers for large requests, %d..%d are possible", c->wide_buffers,
			BURST_MAX, MAX_WIDE_BUFFERS);
	if (c->reply_store_kb && c->reply_store_kb < STORE_MIN_KB)
		return refuse(err, "a reply store of %u KiB, %d are the least", c->reply_store_kb, STORE_MIN_KB);
	if (c->backend > DP_BACKEND_SCALAR)
		return refuse(err, "unknown engine backend %u", c->backend);
	return 0;
}

uint32_t config_mbufs(const struct dp_config *c, const struct dp_port_config *p)
{
	uint32_t least = p->queues * BUFFERS_PER_QUEUE;

	if (c->mbufs)
		return c->mbufs;
	return least > CONFIG_MBUFS ? least : CONFIG_MBUFS;
}

uint32_t config_workers(const struct dp_config *c)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < c->n_ports; i++)
		n += c->ports[i].queues;
	return n;
}

int config_take(int fd, struct dp_config *out, struct error *err)
{
	int seals = fcntl(fd, F_GET_SEALS), rc;

	if (seals < 0 || !(seals & F_SEAL_WRITE))
		return refuse(err, "the region is not sealed against writing");
	if (pread(fd, out, sizeof(*out), 0) != (ssize_t)sizeof(*out))
		return refuse(err, "shorter than %zu bytes", sizeof(*out));
	if (out->magic != DP_CONFIG_MAGIC || out->version != DP_CONFIG_VERSION ||
		out->bytes != sizeof(*out))
		return refuse(err, "version %u of %u bytes, this dataplane reads version %d of %zu",
			out->version, out->bytes, DP_CONFIG_VERSION, sizeof(*out));
	rc = check_fields(out, err);
	for (uint32_t i = 0; !rc && i < out->n_ports; i++) {
		rc = check_port(&out->ports[i], i, err);
		if (!rc)
			rc = check_mbufs(out, &out->ports[i], err);
	}
	if (!rc && config_workers(out) > DP_MAX_WORKERS)
		rc = refuse(
			err, "%u workers, %d are possible", config_workers(out), DP_MAX_WORKERS);
	return rc ? rc : check_cores(out, err);
}
