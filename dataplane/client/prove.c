/* SPDX-License-Identifier: BSD-3-Clause
 * Path challenge, the client's part: see prove.h.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "client/prove.h"

enum { TRY_MS = 50 };

int proof_ask(struct proof *p, struct channel *ch, uint8_t *out)
{
	struct wire_request q = {.request_id = ++p->id, .model_id = WIRE_PATH_MODEL, .dtype = WIRE_U8,
		.segment_count = 1, .rows = 1};

	channel_clock(ch, clock_now_ns());
	return channel_seal_request(ch, &q, p->echo, WIRE_PATH_BYTES, out, PROOF_BYTES);
}

int proof_take(struct proof *p, struct channel *ch, uint8_t *datagram, size_t n)
{
	struct wire_reply reply;
	const uint8_t *rows;
	size_t row_bytes;

	if (channel_open_reply(ch, datagram, n, &reply, &rows, &row_bytes) != CHANNEL_OK ||
		reply.model_id != WIRE_PATH_MODEL)
		return 0;
	if (reply.status == WIRE_BAD_REQUEST || reply.status == WIRE_UNKNOWN_MODEL)
		return -EPROTO;
	if (reply.status != WIRE_RESULT || row_bytes != WIRE_PATH_BYTES)
		return 0;
	memcpy(p->echo, rows, WIRE_PATH_BYTES);
	return reply.detail == 1;
}

int prove_address(struct channel *ch, int fd, uint32_t timeout_ms, struct error *err)
{
	uint64_t end_ns = clock_now_ns() + timeout_ms * NS_PER_MS;
	uint8_t datagram[WIRE_MAX_PAYLOAD_BYTES];
	struct pollfd wait = {.fd = fd, .events = POLLIN};
	struct proof p = {0};

	while (clock_now_ns() < end_ns) {
		int n = proof_ask(&p, ch, datagram), rc;

		if (n < 0)
			return error_set(err, n, "cannot seal the proof of our data address");
		send(fd, datagram, (size_t)n, MSG_NOSIGNAL); /* lost or not taken: asked again */
		if (poll(&wait, 1, TRY_MS) <= 0)
			continue;
		n = (int)recv(fd, datagram, sizeof(datagram), MSG_DONTWAIT);
		rc = n < 0 ? 0 : proof_take(&p, ch, datagram, (size_t)n);
		if (rc < 0)
			return error_set(err, rc, "the server refused the proof of our data address");
		if (rc)
			return 0;
	}
	return error_set(err, -ETIMEDOUT,
		"no datagram came back to our data address within %u ms: is it routed to us?", timeout_ms);
}
