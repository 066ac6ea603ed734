/* SPDX-License-Identifier: BSD-3-Clause
 * libmillrace: enrolled sessions, requests in flight, retries: see millrace.h.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "client/channel.h"
#include "client/enrol.h"
#include "client/pending.h"
#include "client/prove.h"

enum {
	POLL_MAX = 64,
	DEFAULT_RETRY_MS = 50,
	MAX_RETRY_MS = 10000,
	DEFAULT_ATTEMPTS = 6,
	MAX_ATTEMPTS = 16,
	DEFAULT_IN_FLIGHT = 1024,
	MAX_IN_FLIGHT = 65536,
	PROVE_MS = 3000, /* to show that we receive at our data address */
	RENEW_AGAIN_S = 5, /* after a failed renewal */
	SOCKET_BUFFER_BYTES = 4 << 20,
};

/* A datagram that came; its rows begin 40 bytes in, so callers find them aligned to 8. */
struct received {
	_Alignas(8) uint8_t bytes[WIRE_MAX_PAYLOAD_BYTES + 1]; /* one more than is allowed: too long is seen */
};

STATIC_ASSERT((WIRE_HEADER_BYTES + WIRE_REPLY_BYTES) % 8 == 0, "rows of a reply are aligned");

struct mr_client {
	struct enrol enrol;
	struct session_info session; /* its secret is wiped once the keys are derived */
	struct aead aead;
	struct channel channel;
	struct pending pending;
	struct mr_counters counters;
	int fd; /* connected UDP socket, non-blocking */
	uint32_t retry_ms;
	uint32_t attempts;
	uint32_t in_flight;
	uint32_t deadline_us;
	uint64_t expires_ns;
	uint64_t renew_ns;
	uint64_t next_sweep_ns; /* no retry is due before */
	struct mr_error error;
	uint8_t *handed[POLL_MAX]; /* rows of large results of the last mr_poll() */
	int n_handed;
	struct received replies[POLL_MAX]; /* rows of the last mr_poll() */
};

const char *mr_status_name(enum mr_status status)
{
	static const char *const names[] = {"result", "bad request", "unknown model",
		"rate limited", "quota exhausted", "overloaded", "deadline exceeded",
		"not licensed", "internal error"};

	if (status == MR_UNANSWERED)
		return "unanswered";
	return status < sizeof(names) / sizeof(names[0]) ? names[status] : "unknown status";
}

static void set_error(struct mr_error *err, int code, const char *text)
{
	err->code = code;
	snprintf(err->text, sizeof(err->text), "%s", text);
}

static int fail(struct mr_client *c, int code, const char *text)
{
	set_error(&c->error, code, text);
	return code;
}

/* More rows than a request takes, or a row larger than one. */
static int fail_size(struct mr_client *c, const struct mr_model *m, uint32_t n_rows)
{
	snprintf(c->error.text, sizeof(c->error.text), "%u rows of model %s are %llu bytes to send and %llu "
		"to receive: a request takes %u rows, %d bytes (%d datagrams) either way at most", n_rows,
		m->name, (unsigned long long)n_rows * m->row_in_bytes,
		(unsigned long long)n_rows * m->row_out_bytes, m->max_rows,
		WIRE_MAX_SEGMENTS * WIRE_SEGMENT_ROW_BYTES, WIRE_MAX_SEGMENTS);
	return c->error.code = -EMSGSIZE;
}

/* ---- open and close ------------------------------------------------------------------------ */

static int check_options(struct mr_client *c, const struct mr_options *o, struct error *err)
{
	c->retry_ms = o->retry_ms ? o->retry_ms : DEFAULT_RETRY_MS;
	c->attempts = o->attempts ? o->attempts : DEFAULT_ATTEMPTS;
	c->in_flight = o->in_flight ? o->in_flight : DEFAULT_IN_FLIGHT;
	c->deadline_us = o->deadline_us;
	if (c->retry_ms > MAX_RETRY_MS)
		return error_set(err, -EINVAL, "retry_ms is over %d", MAX_RETRY_MS);
	if (c->attempts > MAX_ATTEMPTS)
		return error_set(err, -EINVAL, "attempts is over %d", MAX_ATTEMPTS);
	if (c->in_flight > MAX_IN_FLIGHT)
		return error_set(err, -EINVAL, "in_flight is over %d", MAX_IN_FLIGHT);
	return 0;
}

/* Numeric address and port to a sockaddr. */
static int make_address(struct sockaddr_storage *out, socklen_t *n, const char *text, uint16_t port)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)out;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;

	memset(out, 0, sizeof(*out));
	if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(port);
		*n = sizeof(*v4);
	} else if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(port);
		*n = sizeof(*v6);
	} else {
		return -EINVAL;
	}
	return 0;
}

static void set_socket_options(int fd, int family)
{
	int bytes = SOCKET_BUFFER_BYTES, df = IP_PMTUDISC_DO;

	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
	if (family == AF_INET) /* the protocol knows no IP fragments */
		setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &df, sizeof(df));
}

static int open_socket(struct mr_client *c, const char *bind_address, struct error *err)
{
	bool v6 = strchr(c->session.source, ':') != NULL;
	const char *peer = v6 ? c->session.address6 : c->session.address;
	const char *local = bind_address ? bind_address : c->session.source;
	struct sockaddr_storage to, from;
	socklen_t to_bytes, from_bytes;

	if (make_address(&to, &to_bytes, peer, c->session.port))
		return error_set(err, -EPROTO, "the server offers no %s data address",
			v6 ? "IPv6" : "IPv4");
	if (make_address(&from, &from_bytes, local, 0) || from.ss_family != to.ss_family)
		return error_set(err, -EINVAL, "\"%.60s\" is no address to reach %s from", local,
			peer);
	c->fd = socket(to.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (c->fd < 0)
		return error_set(err, -errno, "socket: %s", strerror(errno));
	set_socket_options(c->fd, to.ss_family);
	if (bind(c->fd, (struct sockaddr *)&from, from_bytes))
		return error_set(err, -errno, "cannot send from %s: %s", local, strerror(errno));
	if (connect(c->fd, (struct sockaddr *)&to, to_bytes))
		return error_set(err, -errno, "cannot reach %s port %u: %s", peer, c->session.port,
			strerror(errno));
	return 0;
}

static void set_expiry(struct mr_client *c, uint32_t expires_in_s)
{
	uint64_t now = clock_now_ns();

	c->expires_ns = now + expires_in_s * NS_PER_S;
	c->renew_ns = now + expires_in_s * NS_PER_S / 2;
}

static int open_client(struct mr_client *c, const struct mr_options *o, struct error *err)
{
	uint64_t first_id = 0;
	int rc = check_options(c, o, err);

	rc = rc ? rc : enrol_init(&c->enrol, o, err);
	rc = rc ? rc : enrol_open(&c->enrol, &c->session, err);
	if (rc)
		return rc;
	set_expiry(c, c->session.expires_in_s);
	rc = open_socket(c, o->bind_address, err);
	if (rc)
		return rc;
	rc = aead_init(&c->aead);
	if (rc)
		return error_set(err, rc, "this CPU has no AES instructions");
	rc = channel_init(&c->channel, &c->aead, c->session.secret, c->session.key_id, 0,
		CHANNEL_CLIENT);
	explicit_bzero(c->session.secret, sizeof(c->session.secret));
	if (!rc && c->session.provisional)
		rc = prove_address(&c->channel, c->fd, PROVE_MS, err);
	if (rc)
		return rc == -ENOMEM ? error_set(err, rc, "out of memory") : rc;
	if (getrandom(&first_id, sizeof(first_id), 0) != sizeof(first_id))
		return error_set(err, -EIO, "getrandom: %s", strerror(errno));
	rc = rc ? rc : pending_init(&c->pending, c->in_flight, first_id >> 1 | 1);
	return rc ? error_set(err, rc, "cannot set up the session: %s", strerror(-rc)) : 0;
}

int mr_client_open(struct mr_client **out, const struct mr_options *options, struct mr_error *err)
{
	struct mr_client *c = calloc(1, sizeof(*c));
	struct error e = {0};
	int rc;

	*out = NULL;
	if (c)
		c->fd = -1;
	rc = c ? open_client(c, options, &e) : error_set(&e, -ENOMEM, "out of memory");
	if (rc) {
		mr_client_close(c);
		c = NULL;
	}
	if (err)
		set_error(err, rc, e.text);
	*out = c;
	return rc;
}

/* The caller has done with the rows of the last mr_poll(). */
static void take_back(struct mr_client *c)
{
	while (c->n_handed)
		free(c->handed[--c->n_handed]);
}

void mr_client_close(struct mr_client *c)
{
	struct error ignored;

	if (!c)
		return;
	take_back(c);
	if (*c->session.session_id) /* best effort: it expires by itself */
		enrol_close(&c->enrol, c->session.session_id, &ignored);
	if (c->fd >= 0)
		close(c->fd);
	enrol_uninit(&c->enrol);
	channel_uninit(&c->channel);
	aead_uninit(&c->aead);
	pending_uninit(&c->pending);
	explicit_bzero(c, sizeof(*c));
	free(c);
}

const struct mr_error *mr_client_error(const struct mr_client *c)
{
	return &c->error;
}

const struct mr_model *mr_models(const struct mr_client *c, size_t *n)
{
	*n = c->session.n_models;
	return c->session.models;
}

const struct mr_model *mr_model_find(const struct mr_client *c, const char *name)
{
	for (uint32_t i = 0; i < c->session.n_models; i++) {
		if (strcmp(c->session.models[i].name, name) == 0)
			return &c->session.models[i];
	}
	return NULL;
}

uint32_t mr_in_flight(const struct mr_client *c)
{
	return c->pending.used;
}

void mr_counters_get(const struct mr_client *c, struct mr_counters *out)
{
	*out = c->counters;
}

/* ---- sending ------------------------------------------------------------------------------- */

/* A datagram the network would not take counts as sent: the retry repairs it like any other loss. */
static bool is_loss(int code)
{
	return code == EAGAIN || code == ENOBUFS || code == ECONNREFUSED || code == ENETUNREACH ||
	       code == EHOSTUNREACH || code == ENETDOWN || code == EPERM || code == EINTR;
}

/* Seal and send segment `k` of a request. */
static int send_segment(struct mr_client *c, const struct pending_request *r, uint32_t k)
{
	uint32_t at = k * WIRE_SEGMENT_ROW_BYTES, left = r->row_bytes - at;
	struct wire_request request = {.request_id = r->id,
		.model_id = r->model->id,
		.deadline_us = c->deadline_us,
		.dtype = r->model->input_dtype,
		.segment_index = (uint8_t)k,
		.segment_count = (uint8_t)r->segments,
		.rows = r->n_rows};
	uint8_t datagram[WIRE_MAX_PAYLOAD_BYTES];
	int n = channel_seal_request(&c->channel, &request, pending_rows(r) + at,
		left < WIRE_SEGMENT_ROW_BYTES ? left : WIRE_SEGMENT_ROW_BYTES, datagram, sizeof(datagram));

	if (n < 0 || (send(c->fd, datagram, (size_t)n, MSG_NOSIGNAL) < 0 && !is_loss(errno)))
		return fail(c, -EIO, n < 0 ? "cannot seal the request" : strerror(errno));
	return 0;
}

/* When the next attempt is due: doubled each time. A request of several datagrams goes out in pairs, the
 * second soon after the first: the server keeps what came of the first for 100 ms, so that both together
 * need to bring every segment only once. */
static uint64_t retry_wait_ns(const struct mr_client *c, const struct pending_request *r)
{
	uint32_t doublings = r->segments == 1 ? r->attempts : r->attempts % 2 ? r->attempts : 0;

	return ((uint64_t)c->retry_ms << doublings) * NS_PER_MS;
}

/* Send one attempt. When a part of the reply is here, the server has it whole: the first segment alone
 * asks for it again, and every other time all of them, in case it has been forgotten there. */
static int send_attempt(struct mr_client *c, struct pending_request *r, uint64_t now_ns)
{
	bool fetch = r->parts.got && r->fetched++ % 2 == 0;
	uint32_t n = fetch ? 1 : r->segments;
	int rc = 0;

	r->retry_ns = now_ns + retry_wait_ns(c, r);
	r->attempts++;
	if (r->retry_ns < c->next_sweep_ns)
		c->next_sweep_ns = r->retry_ns;
	channel_clock(&c->channel, now_ns);
	for (uint32_t k = 0; k < n && !rc; k++)
		rc = send_segment(c, r, k);
	return rc;
}

int mr_submit(struct mr_client *c, const struct mr_model *model, const void *rows, uint32_t n_rows,
	uint64_t tag)
{
	uint64_t now = clock_now_ns();
	struct pending_request *r;
	int rc;

	if (!model || !n_rows)
		return fail(c, model ? -EINVAL : -ENOENT, model ? "no rows given" : "no such model");
	if (n_rows > model->max_rows)
		return fail_size(c, model, n_rows);
	if (now >= c->expires_ns)
		return fail(c, -EKEYEXPIRED, "the session has expired and could not be renewed");
	r = c->pending.used < c->in_flight ? pending_add(&c->pending) : NULL;
	if (!r)
		return fail(c, -EAGAIN, "too many requests in flight: poll for results first");
	r->tag = tag;
	r->model = model;
	r->first_ns = now;
	r->attempts = 0;
	r->n_rows = (uint16_t)n_rows;
	rc = pending_fill(r, rows, n_rows * model->row_in_bytes, n_rows * model->row_out_bytes);
	rc = rc ? fail(c, rc, "out of memory") : send_attempt(c, r, now);
	if (rc)
		pending_remove(&c->pending, r);
	else
		c->counters.sent++;
	return rc;
}

/* ---- receiving ----------------------------------------------------------------------------- */

/* What a reply contributes to its request: everything (*rows set), a part, or nothing. */
static enum parts_verdict take_rows(struct pending_request *r, const struct wire_reply *reply,
	const uint8_t **rows, size_t row_bytes)
{
	size_t total = (size_t)r->n_rows * r->model->row_out_bytes;
	enum parts_verdict v;

	if (reply->model_id != r->model->id)
		return PARTS_WRONG;
	if (reply->status != WIRE_RESULT)
		return PARTS_COMPLETE;
	if (reply->rows != r->n_rows || reply->dtype != r->model->output_dtype)
		return PARTS_WRONG;
	if (total <= WIRE_SEGMENT_ROW_BYTES)
		return reply->segment_count == 1 && row_bytes == total ? PARTS_COMPLETE : PARTS_WRONG;
	v = reply_parts_add(&r->parts, *reply, *rows, row_bytes, total, pending_reply(r));
	if (v == PARTS_MORE)
		r->fetched = 0;
	*rows = pending_reply(r);
	return v;
}

/* One received datagram. True when it completed a request: *out is set. */
static bool take_reply(struct mr_client *c, uint8_t *datagram, size_t n, uint64_t now_ns,
	struct mr_result *out)
{
	struct pending_request *r;
	struct wire_reply reply;
	const uint8_t *rows;
	size_t row_bytes;
	enum parts_verdict v;

	if (channel_open_reply(&c->channel, datagram, n, &reply, &rows, &row_bytes) != CHANNEL_OK) {
		c->counters.rejected++;
		return false;
	}
	r = pending_find(&c->pending, reply.request_id);
	if (!r) {
		c->counters.late++;
		return false;
	}
	v = take_rows(r, &reply, &rows, row_bytes);
	if (v != PARTS_COMPLETE) {
		c->counters.rejected += v == PARTS_WRONG;
		c->counters.late += v == PARTS_REPEATED;
		return false;
	}
	*out = (struct mr_result){.tag = r->tag,
		.status = (enum mr_status)reply.status,
		.retry_after_us = reply.retry_after_us,
		.model_version = reply.status == WIRE_RESULT ? reply.detail : 0,
		.detail = reply.status == WIRE_RESULT ? 0 : reply.detail,
		.n_rows = reply.rows,
		.attempts = r->attempts,
		.latency_ns = now_ns - r->first_ns,
		.rows = reply.rows ? rows : NULL};
	if (r->large) { /* the result's until the next mr_poll() */
		c->handed[c->n_handed++] = r->large;
		r->large = NULL;
	}
	pending_remove(&c->pending, r);
	c->counters.answered++;
	return true;
}

static int receive(struct mr_client *c, struct mr_result *results, int max)
{
	struct mmsghdr messages[POLL_MAX];
	struct iovec parts[POLL_MAX];
	uint64_t now;
	int got, n = 0;

	memset(messages, 0, sizeof(messages));
	for (int i = 0; i < max; i++) {
		parts[i] = (struct iovec){c->replies[i].bytes, sizeof(c->replies[i].bytes)};
		messages[i].msg_hdr.msg_iov = &parts[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}
	got = recvmmsg(c->fd, messages, (unsigned int)max, MSG_DONTWAIT, NULL);
	if (got < 0)
		return is_loss(errno) ? 0 : fail(c, -EIO, strerror(errno));
	now = clock_now_ns();
	for (int i = 0; i < got; i++)
		n += take_reply(c, c->replies[i].bytes, messages[i].msg_len, now, &results[n]);
	return n;
}

/* Send the retries that are due; requests that used up theirs become results. */
static int sweep(struct mr_client *c, uint64_t now_ns, struct mr_result *results, int max)
{
	struct pending_request *r;
	uint64_t from = 0;
	int n = 0, rc;

	while (n < max && (r = pending_due(&c->pending, from, now_ns))) {
		from = r->id + 1;
		if (r->attempts == 1)
			c->counters.first_try_losses++;
		if (r->attempts < c->attempts) {
			c->counters.retries++;
			rc = send_attempt(c, r, now_ns);
			if (rc && !n)
				return rc;
			if (rc)
				break; /* what has been given up goes first */
			continue;
		}
		results[n++] = (struct mr_result){.tag = r->tag,
			.status = MR_UNANSWERED,
			.attempts = r->attempts,
			.latency_ns = now_ns - r->first_ns};
		pending_remove(&c->pending, r);
		c->counters.unanswered++;
	}
	c->next_sweep_ns = pending_next_ns(&c->pending);
	return n;
}

static void renew(struct mr_client *c, uint64_t now_ns)
{
	uint32_t expires_in_s = 0;
	struct error e = {0};
	int rc = enrol_renew(&c->enrol, c->session.session_id, &expires_in_s, &e);

	if (rc == 0) {
		set_expiry(c, expires_in_s);
		c->counters.renewals++;
		return;
	}
	fail(c, rc, e.text);
	c->renew_ns = now_ns + RENEW_AGAIN_S * NS_PER_S;
	if (rc == -ENOENT || rc == -EACCES)
		c->expires_ns = now_ns; /* the server has said so: no use in going on */
}

/* Until a datagram comes, `deadline_ns`, or there is something to do: a retry, a renewal. */
static void wait_readable(const struct mr_client *c, uint64_t deadline_ns)
{
	struct pollfd p = {.fd = c->fd, .events = POLLIN};
	uint64_t now = clock_now_ns(), until_ns = deadline_ns;
	struct timespec t;

	if (c->next_sweep_ns < until_ns)
		until_ns = c->next_sweep_ns;
	if (c->renew_ns < until_ns && now < c->expires_ns)
		until_ns = c->renew_ns;
	if (until_ns <= now)
		return;
	t.tv_sec = (time_t)((until_ns - now) / NS_PER_S);
	t.tv_nsec = (long)((until_ns - now) % NS_PER_S);
	ppoll(&p, 1, &t, NULL);
}

int mr_poll(struct mr_client *c, struct mr_result *results, int max, int timeout_ms)
{
	uint64_t now = clock_now_ns();
	uint64_t deadline = now + (uint64_t)(timeout_ms > 0 ? timeout_ms : 0) * NS_PER_MS;

	if (max < 1)
		return fail(c, -EINVAL, "no room for results");
	if (max > POLL_MAX)
		max = POLL_MAX;
	take_back(c);
	for (;;) {
		int n = receive(c, results, max), more = 0;

		now = clock_now_ns();
		if (n >= 0 && n < max && now >= c->next_sweep_ns)
			more = sweep(c, now, results + n, max - n);
		if (now >= c->renew_ns && now < c->expires_ns)
			renew(c, now);
		if (n < 0)
			return n;
		if (more < 0 && !n)
			return more;
		if (more > 0)
			n += more; /* else answers go before the failure of a retry, which is tried again */
		if (n || now >= deadline)
			return n;
		wait_readable(c, deadline);
	}
}

/* ---- blocking call ------------------------------------------------------------------------- */

struct infer {
	const struct mr_model *model;
	const uint8_t *rows;
	uint8_t *out;
	uint32_t n_rows;
	uint32_t submitted; /* rows */
	uint32_t answered;  /* rows */
	enum mr_status status;
	uint32_t retry_after_us;
};

static int infer_submit(struct mr_client *c, struct infer *q)
{
	uint32_t most = q->model->datagram_rows ? q->model->datagram_rows : q->model->max_rows;

	while (q->submitted < q->n_rows) {
		uint32_t left = q->n_rows - q->submitted;
		uint32_t n = left < most ? left : most;
		int rc = mr_submit(c, q->model, q->rows + (size_t)q->submitted * q->model->row_in_bytes,
			n, q->submitted);

		if (rc == -EAGAIN)
			return 0;
		if (rc)
			return rc;
		q->submitted += n;
	}
	return 0;
}

static int infer_collect(struct mr_client *c, struct infer *q)
{
	struct mr_result results[POLL_MAX];
	int n = mr_poll(c, results, POLL_MAX, 1000);

	for (int i = 0; i < n; i++) {
		if (results[i].status != MR_RESULT) {
			q->status = results[i].status;
			q->retry_after_us = results[i].retry_after_us;
			return fail(c, q->status == MR_UNANSWERED ? -ETIMEDOUT : -EREMOTEIO,
				mr_status_name(q->status));
		}
		memcpy(q->out + (size_t)results[i].tag * q->model->row_out_bytes, results[i].rows,
			(size_t)results[i].n_rows * q->model->row_out_bytes);
		q->answered += results[i].n_rows;
	}
	return n < 0 ? n : 0;
}

/* Forget what is still in flight; answers to it count as late. */
static void abandon(struct mr_client *c)
{
	struct pending_request *r;

	while ((r = pending_due(&c->pending, 0, UINT64_MAX)))
		pending_remove(&c->pending, r);
}

int mr_infer(struct mr_client *c, const char *model, const void *rows, uint32_t n_rows, void *out,
	enum mr_status *status, uint32_t *retry_after_us)
{
	struct infer q = {.model = mr_model_find(c, model), .rows = rows, .out = out,
		.n_rows = n_rows, .status = MR_RESULT};
	int rc = 0;

	if (c->pending.used)
		return fail(c, -EBUSY, "requests are still in flight: poll for them first");
	if (!q.model || !n_rows)
		return fail(c, q.model ? -EINVAL : -ENOENT,
			q.model ? "no rows given" : "this session may use no such model");
	if (!q.model->max_rows)
		return fail_size(c, q.model, 1);
	while (!rc && q.answered < n_rows) {
		rc = infer_submit(c, &q);
		if (!rc)
			rc = infer_collect(c, &q);
	}
	if (rc)
		abandon(c);
	*status = q.status;
	if (retry_after_us)
		*retry_after_us = q.retry_after_us;
	return rc;
}
