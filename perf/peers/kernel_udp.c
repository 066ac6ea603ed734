/* SPDX-License-Identifier: BSD-3-Clause
 * millrace-peer-udp: what a good server over kernel sockets reaches with the same protocol, the same
 * engine and the same limiter: recvmmsg, open, charge, one batch, seal, sendmmsg. One thread.
 *
 * A measuring peer, not the product: its sessions are fixed on the command line.
 *   millrace-peer-udp --artifact F.mrm --listen ADDRESS:PORT --session KEY_ID:SECRET_HEX
 *                     [--sessions N] [--mode sleep|spin] [--core N]
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "abi/limits.h"
#include "base/clock.h"
#include "client/channel.h"
#include "models/run/model.h"

enum { BURST = 64, SLOT_BYTES = 1280, MAX_BATCH = 1024, SOCKET_BUFFER_BYTES = 8 << 20 };

struct options {
	const char *artifact, *listen, *session, *mode;
	uint32_t sessions;
	int core;
};

struct request {
	struct channel *channel;
	struct wire_request head;
	const uint8_t *rows;
	uint8_t status;
};

struct peer {
	int fd;
	bool spin;
	struct aead aead;
	struct channel *channels;
	uint32_t *table; /* open addressing by key id: index + 1 */
	uint32_t n_channels, mask;
	struct limit_slot limit; /* of the one subscriber everybody is */
	struct model *model;
	const struct model_file_header *head;
	uint32_t model_id, max_rows;
	struct run *run;
	struct mmsghdr in[BURST], out[BURST];
	struct iovec in_parts[BURST], out_parts[BURST];
	struct sockaddr_storage from[BURST];
	struct request requests[BURST];
	uint8_t received[BURST][SLOT_BYTES], replies[BURST][SLOT_BYTES];
};

static volatile sig_atomic_t stop;

static void on_signal(int number)
{
	(void)number;
	stop = 1;
}

/* ---- the way of a burst -------------------------------------------------------------------- */

static struct channel *find_channel(const struct peer *p, const uint8_t *datagram, size_t n)
{
	struct wire_header h;

	if (n < sizeof(h))
		return NULL;
	memcpy(&h, datagram, sizeof(h));
	for (uint32_t i = h.key_id * 2654435761u;; i++) {
		uint32_t entry = p->table[i & p->mask];

		if (!entry || p->channels[entry - 1].key_id == h.key_id)
			return entry ? &p->channels[entry - 1] : NULL;
	}
}

static uint8_t check_request(const struct peer *p, const struct wire_request *r, size_t row_bytes)
{
	if (r->model_id != p->model_id)
		return WIRE_UNKNOWN_MODEL;
	if (r->dtype != p->head->inputs[0].dtype || r->segment_count != 1 || r->segment_index ||
		!r->rows || r->rows > p->max_rows || row_bytes != (size_t)r->rows * p->head->row_in_bytes ||
		(size_t)r->rows * p->head->row_out_bytes > WIRE_SEGMENT_ROW_BYTES)
		return WIRE_BAD_REQUEST;
	return WIRE_RESULT;
}

/* Open, check and charge received datagram i into *r. False = dropped. */
static bool take_request(struct peer *p, int i, struct request *r, uint64_t now_ticks)
{
	size_t n = p->in[i].msg_len, row_bytes;

	r->channel = find_channel(p, p->received[i], n);
	if (!r->channel || channel_open_request(r->channel, p->received[i], n, &r->head, &r->rows,
				   &row_bytes) != CHANNEL_OK)
		return false;
	r->status = check_request(p, &r->head, row_bytes);
	if (limits_charge(&p->limit, now_ticks,
		    r->status == WIRE_RESULT ? r->head.rows * p->head->cost_units : 1)
			.verdict == LIMIT_REFUSED)
		r->status = WIRE_RATE_LIMITED;
	return true;
}

/* One batch over requests [first, end): all rows that are to be answered. */
static void run_batch(struct peer *p, int first, int end)
{
	static const void *rows[MAX_BATCH];
	static void *outs[MAX_BATCH];
	uint32_t n = 0;

	for (int i = first; i < end; i++) {
		struct request *r = &p->requests[i];
		uint8_t *out = p->replies[i] + WIRE_HEADER_BYTES + WIRE_REPLY_BYTES;

		for (uint32_t k = 0; r->status == WIRE_RESULT && k < r->head.rows; k++, n++) {
			rows[n] = r->rows + (size_t)k * p->head->row_in_bytes;
			outs[n] = out + (size_t)k * p->head->row_out_bytes;
		}
	}
	if (!n)
		return;
	run_start(p->run, n, rows, outs);
	while (!run_step(p->run, UINT64_MAX))
		;
}

static void infer(struct peer *p, int n)
{
	uint32_t rows = 0;
	int first = 0;

	for (int i = 0; i < n; i++) {
		uint32_t more = p->requests[i].status == WIRE_RESULT ? p->requests[i].head.rows : 0;

		if (rows + more > p->max_rows) {
			run_batch(p, first, i);
			first = i;
			rows = 0;
		}
		rows += more;
	}
	run_batch(p, first, n);
}

static void seal_reply(struct peer *p, int i)
{
	struct request *r = &p->requests[i];
	bool good = r->status == WIRE_RESULT;
	struct wire_reply reply = {.request_id = r->head.request_id,
		.model_id = r->head.model_id,
		.status = r->status,
		.dtype = good ? (uint8_t)p->head->outputs[0].dtype : 0,
		.segment_count = 1,
		.rows = good ? r->head.rows : 0,
		.detail = good ? (uint16_t)p->head->model_version : 0};
	size_t bytes = (size_t)reply.rows * p->head->row_out_bytes;

	p->out_parts[i].iov_len = (size_t)channel_seal_reply(r->channel, &reply,
		p->replies[i] + WIRE_HEADER_BYTES + WIRE_REPLY_BYTES, bytes, p->replies[i],
		SLOT_BYTES);
}

static int burst(struct peer *p)
{
	int got = recvmmsg(p->fd, p->in, BURST, p->spin ? MSG_DONTWAIT : MSG_WAITFORONE, NULL);
	uint64_t now_ticks = limits_ticks(clock_now_ns());
	int n = 0, sent = 0;

	for (int i = 0; i < got; i++) {
		if (take_request(p, i, &p->requests[n], now_ticks)) {
			p->out[n].msg_hdr.msg_name = &p->from[i];
			p->out[n].msg_hdr.msg_namelen = p->in[i].msg_hdr.msg_namelen;
			n++;
		}
		p->in[i].msg_hdr.msg_namelen = sizeof(p->from[i]);
	}
	infer(p, n);
	for (int i = 0; i < n; i++)
		seal_reply(p, i);
	while (sent < n) {
		int k = sendmmsg(p->fd, p->out + sent, (unsigned int)(n - sent), 0);

		if (k < 0 && errno != EINTR)
			break; /* lost like any datagram; the client tries again */
		sent += k > 0 ? k : 0;
	}
	return got < 0 && errno != EAGAIN && errno != EINTR ? -errno : 0;
}

/* ---- set-up -------------------------------------------------------------------------------- */

static int open_sessions(struct peer *p, const struct options *o)
{
	uint8_t secret[WIRE_KEY_BYTES];
	unsigned int byte;
	char *hex;
	uint32_t key_id = (uint32_t)strtoul(o->session, &hex, 0);

	if (*hex != ':' || strlen(hex + 1) != 2 * WIRE_KEY_BYTES)
		return -EINVAL;
	for (int i = 0; i < WIRE_KEY_BYTES; i++) {
		if (sscanf(hex + 1 + 2 * i, "%2x", &byte) != 1)
			return -EINVAL;
		secret[i] = (uint8_t)byte;
	}
	for (p->mask = 15; p->mask < 2 * o->sessions;)
		p->mask = p->mask * 2 + 1;
	p->channels = calloc(o->sessions, sizeof(*p->channels));
	p->table = calloc(p->mask + 1, sizeof(*p->table));
	if (!p->channels || !p->table || aead_init(&p->aead))
		return -ENOMEM;
	for (; p->n_channels < o->sessions; p->n_channels++, key_id++) {
		uint32_t at = key_id * 2654435761u;

		if (channel_init(&p->channels[p->n_channels], &p->aead, secret, key_id, 0,
			    CHANNEL_SERVER))
			return -EIO;
		while (p->table[at & p->mask])
			at++;
		p->table[at & p->mask] = p->n_channels + 1;
	}
	return 0;
}

static int open_model(struct peer *p, const char *path, struct error *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	void *image, *memory;
	int rc;

	if (fd < 0 || fstat(fd, &st))
		return error_set(err, -errno, "%s: %s", path, strerror(errno));
	image = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
	close(fd);
	if (image == MAP_FAILED)
		return error_set(err, -errno, "%s: %s", path, strerror(errno));
	rc = model_open(&p->model, image, (size_t)st.st_size, MODEL_BACKEND_AUTO, err);
	if (rc)
		return rc;
	p->head = model_header(p->model);
	p->model_id = wire_model_id(p->head->name);
	p->max_rows = p->head->max_rows < MAX_BATCH ? p->head->max_rows : MAX_BATCH;
	memory = aligned_alloc(64, (run_bytes(p->model, p->max_rows) + 63) & ~(size_t)63);
	if (!memory)
		return error_set(err, -ENOMEM, "out of memory");
	p->run = run_init(memory, p->model, p->max_rows);
	return 0;
}

static int open_socket(struct peer *p, const char *where, struct error *err)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	int bytes = SOCKET_BUFFER_BYTES;
	char host[64] = "";
	int port = 0;

	if (sscanf(where, "%63[0-9.]:%d", host, &port) != 2 || port < 1 || port > 65535 ||
		inet_pton(AF_INET, host, &a.sin_addr) != 1)
		return error_set(err, -EINVAL, "--listen %s is not ADDRESS:PORT", where);
	a.sin_port = htons((uint16_t)port);
	p->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (setsockopt(p->fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)))
		setsockopt(p->fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
	setsockopt(p->fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
	if (p->fd < 0 || bind(p->fd, (struct sockaddr *)&a, sizeof(a)))
		return error_set(err, -errno, "%s: %s", where, strerror(errno));
	for (int i = 0; i < BURST; i++) {
		p->in_parts[i] = (struct iovec){p->received[i], SLOT_BYTES};
		p->in[i].msg_hdr = (struct msghdr){.msg_name = &p->from[i],
			.msg_namelen = sizeof(p->from[i]), .msg_iov = &p->in_parts[i],
			.msg_iovlen = 1};
		p->out_parts[i] = (struct iovec){p->replies[i], 0};
		p->out[i].msg_hdr = (struct msghdr){.msg_iov = &p->out_parts[i], .msg_iovlen = 1};
	}
	return 0;
}

static int parse(struct options *o, int argc, char **argv)
{
	*o = (struct options){.mode = "sleep", .sessions = 1, .core = -1};
	for (int i = 1; i + 1 < argc; i += 2) {
		if (strcmp(argv[i], "--artifact") == 0)
			o->artifact = argv[i + 1];
		else if (strcmp(argv[i], "--listen") == 0)
			o->listen = argv[i + 1];
		else if (strcmp(argv[i], "--session") == 0)
			o->session = argv[i + 1];
		else if (strcmp(argv[i], "--sessions") == 0)
			o->sessions = (uint32_t)strtoul(argv[i + 1], NULL, 10);
		else if (strcmp(argv[i], "--mode") == 0)
			o->mode = argv[i + 1];
		else if (strcmp(argv[i], "--core") == 0)
			o->core = (int)strtol(argv[i + 1], NULL, 10);
		else
			return -EINVAL;
	}
	return argc % 2 && o->artifact && o->listen && o->session && o->sessions &&
			       o->sessions <= 1000000
		       ? 0
		       : -EINVAL;
}

static int set_up(struct peer *p, const struct options *o, struct error *err)
{
	struct sigaction action = {.sa_handler = on_signal};
	cpu_set_t set;
	int rc = open_model(p, o->artifact, err);

	rc = rc ? rc : open_socket(p, o->listen, err);
	if (rc)
		return rc;
	if (open_sessions(p, o))
		return error_set(err, -EINVAL, "--session is KEY_ID:64 hex digits");
	/* A plan nobody exhausts: the charge is paid for like any other, never refused. */
	p->limit.interval_ticks = 1;
	p->limit.burst_ticks = 1ull << 40;
	p->spin = strcmp(o->mode, "spin") == 0;
	CPU_ZERO(&set);
	CPU_SET(o->core < 0 ? 0 : o->core, &set);
	if (o->core >= 0 && sched_setaffinity(0, sizeof(set), &set))
		return error_set(err, -errno, "CPU %d: %s", o->core, strerror(errno));
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	return 0;
}

int main(int argc, char **argv)
{
	struct peer *p = calloc(1, sizeof(*p));
	struct error err = {0};
	struct options o;
	int rc;

	if (!p || parse(&o, argc, argv)) {
		fprintf(stderr, "usage: millrace-peer-udp --artifact F.mrm --listen ADDRESS:PORT "
				"--session KEY_ID:HEX [--sessions N] [--mode sleep|spin] [--core N]\n");
		return 2;
	}
	rc = set_up(p, &o, &err);
	if (!rc)
		fprintf(stderr, "millrace-peer-udp: %s, %s, %s\n", p->head->name, o.mode,
			model_backend_name(p->model));
	while (!rc && !stop)
		rc = burst(p);
	if (rc)
		fprintf(stderr, "millrace-peer-udp: %s\n", *err.text ? err.text : strerror(-rc));
	return rc ? 1 : 0;
}
