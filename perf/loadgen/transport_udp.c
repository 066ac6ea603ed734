/* SPDX-License-Identifier: BSD-3-Clause
 * The load generator over a kernel UDP socket: recvmmsg and sendmmsg.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/socket.h>

#include "abi/wire.h"
#include "perf/loadgen/transport.h"

enum { SOCKET_BUFFER_BYTES = 8 << 20, SLOT_BYTES = 1280 };

struct udp {
	struct transport base;
	int fd;
	char server[64];
	uint16_t server_port;
	struct mmsghdr out[TRANSPORT_BURST], in[TRANSPORT_BURST];
	struct iovec out_parts[TRANSPORT_BURST], in_parts[TRANSPORT_BURST];
	uint8_t buffers[TRANSPORT_BURST][SLOT_BYTES];
};

static void udp_frame(struct transport *t, const struct datagram *d, uint32_t n)
{
	(void)t, (void)d, (void)n; /* the kernel writes the headers */
}

/* Conditions that pass: full buffers, a server that is not there yet. */
static bool passing(int code)
{
	return code == EAGAIN || code == ENOBUFS || code == ECONNREFUSED || code == EINTR ||
	       code == ENETUNREACH || code == EHOSTUNREACH;
}

static int udp_send(struct transport *t, const struct datagram *d, uint32_t n)
{
	struct udp *u = (struct udp *)t;
	int sent;

	for (uint32_t i = 0; i < n; i++) {
		u->out_parts[i].iov_base = d[i].data;
		u->out_parts[i].iov_len = d[i].bytes;
	}
	sent = sendmmsg(u->fd, u->out, n, MSG_DONTWAIT);
	if (sent < 0)
		return passing(errno) ? 0 : -errno;
	return sent;
}

static int udp_receive(struct transport *t, struct datagram *d)
{
	struct udp *u = (struct udp *)t;
	int n = recvmmsg(u->fd, u->in, TRANSPORT_BURST, MSG_DONTWAIT, NULL);

	if (n < 0)
		return passing(errno) ? 0 : -errno;
	for (int i = 0; i < n; i++)
		d[i] = (struct datagram){u->buffers[i], u->in[i].msg_len};
	return n;
}

static void udp_wait(struct transport *t, uint64_t ns)
{
	struct udp *u = (struct udp *)t;
	struct pollfd p = {.fd = u->fd, .events = POLLIN};
	struct timespec limit = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};

	ppoll(&p, 1, &limit, NULL);
}

static void udp_close(struct transport *t)
{
	struct udp *u = (struct udp *)t;

	close(u->fd);
	free(u);
}

static int udp_beside(struct transport *t, const char *local, struct transport **out, struct error *err)
{
	struct udp *u = (struct udp *)t;
	struct transport_where w = {.local = local && *local ? local : NULL, .server = u->server,
		.server_port = u->server_port};

	return transport_udp_open(out, &w, err);
}

static const struct transport_ops udp_ops = {
	udp_frame, udp_send, udp_receive, udp_wait, udp_close, udp_beside};

static socklen_t address(struct sockaddr_storage *out, const char *text, uint16_t port)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)out;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;

	memset(out, 0, sizeof(*out));
	if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(port);
		return sizeof(*v4);
	}
	if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(port);
		return sizeof(*v6);
	}
	return 0;
}

static int open_socket(const struct transport_where *w, struct error *err)
{
	struct sockaddr_storage to, from;
	socklen_t to_bytes = address(&to, w->server, w->server_port);
	socklen_t from_bytes = w->local ? address(&from, w->local, 0) : 0;
	int bytes = SOCKET_BUFFER_BYTES, fd;

	if (!to_bytes || (w->local && !from_bytes))
		return error_set(err, -EINVAL, "\"%.60s\" is no IP address",
			to_bytes ? w->local : w->server);
	fd = socket(to.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return error_set(err, -errno, "socket: %s", strerror(errno));
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)))
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
	if ((!from_bytes || bind(fd, (struct sockaddr *)&from, from_bytes) == 0) &&
		connect(fd, (struct sockaddr *)&to, to_bytes) == 0)
		return fd;
	error_set(err, -errno, "cannot reach %s port %u: %s", w->server, w->server_port,
		strerror(errno));
	close(fd);
	return err->code;
}

int transport_udp_open(struct transport **out, const struct transport_where *w, struct error *err)
{
	struct udp *u = calloc(1, sizeof(*u));

	if (!u)
		return error_set(err, -ENOMEM, "out of memory");
	u->fd = open_socket(w, err);
	if (u->fd < 0) {
		free(u);
		return err->code;
	}
	u->base.ops = &udp_ops;
	snprintf(u->server, sizeof(u->server), "%s", w->server);
	u->server_port = w->server_port;
	for (int i = 0; i < TRANSPORT_BURST; i++) {
		u->out[i].msg_hdr.msg_iov = &u->out_parts[i];
		u->out[i].msg_hdr.msg_iovlen = 1;
		u->in_parts[i] = (struct iovec){u->buffers[i], SLOT_BYTES};
		u->in[i].msg_hdr.msg_iov = &u->in_parts[i];
		u->in[i].msg_hdr.msg_iovlen = 1;
	}
	*out = &u->base;
	return 0;
}
