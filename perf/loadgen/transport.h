/* SPDX-License-Identifier: BSD-3-Clause
 * How the load generator moves UDP payloads: kernel sockets, or frames it builds itself over DPDK.
 * One thread per transport.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

enum {
	TRANSPORT_BURST = 32,
	TRANSPORT_HEADROOM = 42, /* bytes before each payload to send: Ethernet, IPv4, UDP headers */
};

struct datagram {
	uint8_t *data; /* UDP payload */
	uint32_t bytes;
};

struct transport;

struct transport_ops {
	/* Fill in the headers in front of payloads that are complete; may be done long before send(). */
	void (*frame)(struct transport *t, const struct datagram *d, uint32_t n);
	/* Send up to n <= TRANSPORT_BURST framed payloads. Returns how many were taken, or -errno. */
	int (*send)(struct transport *t, const struct datagram *d, uint32_t n);
	/* Receive up to TRANSPORT_BURST payloads into d[]; their bytes may be changed and stay valid
	 * until the next call. Returns how many, or -errno. Never blocks. */
	int (*receive)(struct transport *t, struct datagram *d);
	/* Sleep until something may have arrived, at most `ns`. */
	void (*wait)(struct transport *t, uint64_t ns);
	void (*close)(struct transport *t);
	/* Another sender over the same port, from address `local`; close it first. What comes back to it is
	 * for its own receive() (kernel sockets) or dropped (DPDK). 0 or -errno with err. */
	int (*beside)(struct transport *t, const char *local, struct transport **out, struct error *err);
};

struct transport {
	const struct transport_ops *ops;
	uint32_t room; /* datagrams the receive queue holds; 0 = more than anybody sends */
};

struct transport_where {
	const char *port;   /* as given: udp, memif:..., af_xdp:... */
	const char *local;  /* our address, numeric */
	const char *server; /* its address, numeric */
	uint16_t server_port;
	const char *mac;    /* NULL = ask by ARP */
	const char *vdev;   /* more device arguments, NULL = none */
	bool huge;
	int32_t core;
};

/* Kernel UDP socket. 0 with *out (close through ops), or -errno with err. */
int transport_udp_open(struct transport **out, const struct transport_where *w, struct error *err);

/* memif (client role) or AF_XDP through DPDK; starts EAL, so once a process. */
int transport_dpdk_open(struct transport **out, const struct transport_where *w, struct error *err);
