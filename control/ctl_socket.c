/* SPDX-License-Identifier: BSD-3-Clause
 * Operators' socket: framing, limits, and the life of a request. See ctl_socket.h, ctl_commands.h.
 *
 * Descriptors sent along with a line never reach us: libevent reads with readv(), which has no room
 * for control data, and the kernel closes what nobody takes.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <openssl/crypto.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "control/audit.h"
#include "control/config.h"
#include "control/ctl_commands.h"
#include "control/ctl_peer.h"
#include "control/ctl_socket.h"
#include "control/dp_link.h"

enum {
	MAX_CONNS = 64,
	MAX_PENDING = 16,          /* requests under way a connection */
	IDLE_S = 300,
	STUCK_S = 30,              /* a reader that takes nothing for so long is cut */
	OUTPUT_PAUSE = 256 * 1024, /* above this no further line is carried out ... */
	OUTPUT_MAX = 8 << 20,      /* ... and above this the connection is cut */
	PROGRESS_NS = 50000000,
};

struct conn {
	LIST_ENTRY(conn) link;
	struct ctl_socket *owner;
	struct bufferevent *bev;
	enum ctl_role role;
	char actor[96];
	LIST_HEAD(, pending) pending;
	unsigned int n_pending;
	bool closing; /* flush, then close; nothing more is read */
	bool eof;     /* the operator has sent all: answer it, then close */
};

struct pending {
	LIST_ENTRY(pending) link;
	struct ctl_request rq;
	struct conn *conn; /* NULL: the operator has gone, the work goes on */
	uint64_t last_progress_ns;
};

struct ctl_socket {
	struct control *ctl;
	struct evconnlistener *listener;
	struct event *tick;
	struct show_rate rate;
	LIST_HEAD(, conn) conns;
	unsigned int n_conns;
	struct log_limiter refusals;
	uint64_t next_refusal_audit_ns;
	char path[512];
};

/* -- connections ----------------------------------------------------------------------------- */

static void conn_free(struct conn *c)
{
	struct pending *p;

	while ((p = LIST_FIRST(&c->pending))) {
		LIST_REMOVE(p, link);
		p->conn = NULL;
	}
	LIST_REMOVE(c, link);
	c->owner->n_conns--;
	bufferevent_free(c->bev);
	free(c);
}

/* Queue one JSON line. The connection is cut (later, from the loop) when it takes too little. */
static void send_line(struct conn *c, const json_t *o)
{
	struct evbuffer *out = bufferevent_get_output(c->bev);
	char *text = json_dumps(o, JSON_COMPACT);
	size_t n;

	if (!text)
		return;
	n = strlen(text);
	text[n] = '\n';
	if (evbuffer_get_length(out) + n > OUTPUT_MAX) {
		log_warn("control socket: %s does not read its answers, connection cut", c->actor);
		c->closing = true;
		shutdown(bufferevent_getfd(c->bev), SHUT_RDWR);
	} else {
		evbuffer_add(out, text, n + 1);
	}
	OPENSSL_cleanse(text, n); /* an answer may hold a new API key */
	free(text);
}

static void send_refusal(struct conn *c, json_t *id, int rc, const struct error *err)
{
	json_t *o = json_pack("{s:O, s:b, s:{s:s, s:s}}", "id", id, "ok", 0, "error", "code",
		ctl_error_code(rc), "message", err->text);

	if (o)
		send_line(c, o);
	json_decref(o);
}

static void close_after_flush(struct conn *c)
{
	c->closing = true;
	bufferevent_disable(c->bev, EV_READ);
}

/* -- requests -------------------------------------------------------------------------------- */

static void on_progress(struct ctl_request *rq, uint64_t done, uint64_t total, const char *text)
{
	struct pending *p = rq->owner;
	uint64_t now = clock_now_ns();
	json_t *o;

	if (!p->conn || p->conn->closing)
		return;
	if (done != total && now - p->last_progress_ns < PROGRESS_NS)
		return;
	p->last_progress_ns = now;
	o = json_pack("{s:O, s:{s:I, s:I, s:s}}", "id", rq->id, "progress", "done", (json_int_t)done,
		"total", (json_int_t)total, "text", text ? text : "");
	if (o)
		send_line(p->conn, o);
	json_decref(o);
}

/* The key in the answer of subscriber.add is not left in freed memory. */
static void wipe_key(json_t *result)
{
	json_t *key = json_object_get(result, "api_key");

	if (json_is_string(key))
		OPENSSL_cleanse((char *)(uintptr_t)json_string_value(key), json_string_length(key));
}

static void on_finish(struct ctl_request *rq, int rc, json_t *result, const struct error *err)
{
	struct pending *p = rq->owner;
	struct conn *c = p->conn;
	bool refused = rc != 0;
	json_t *o = NULL;

	if (rq->command->mutates)
		audit_write(rq->ctl, rq->actor, rq->command->name, rq->subject, rq->dry_run,
			refused ? (err && err->text[0] ? err->text : "failed") : "ok");
	if (c && refused) {
		struct error none = {.code = rc};

		snprintf(none.text, sizeof(none.text), "%s",
			err && err->text[0] ? err->text : strerror(-rc));
		send_refusal(c, rq->id, rc, &none);
	} else if (c) {
		o = json_pack("{s:O, s:b, s:O}", "id", rq->id, "ok", 1, "result", result);
		if (o)
			send_line(c, o);
		json_decref(o);
	}
	wipe_key(result);
	json_decref(result);
	if (c) {
		LIST_REMOVE(p, link);
		c->n_pending--;
	}
	ctl_request_clear(rq);
	free(p);
}

static void handle_line(struct conn *c, const char *line, size_t n)
{
	struct pending *p = calloc(1, sizeof(*p));
	struct error err = {0};
	int rc;

	if (!p) {
		close_after_flush(c);
		return;
	}
	p->conn = c;
	p->rq.ctl = c->owner->ctl;
	p->rq.role = c->role;
	p->rq.rate = &c->owner->rate;
	p->rq.progress = on_progress;
	p->rq.finish = on_finish;
	p->rq.owner = p;
	snprintf(p->rq.actor, sizeof(p->rq.actor), "%s", c->actor);
	rc = ctl_line_parse(&p->rq, line, n, &err);
	if (rc) {
		if (p->rq.command && p->rq.command->mutates)
			audit_write(p->rq.ctl, p->rq.actor, p->rq.command->name, p->rq.subject,
				p->rq.dry_run, err.text);
		send_refusal(c, p->rq.id, rc, &err);
		ctl_request_clear(&p->rq);
		free(p);
		return;
	}
	LIST_INSERT_HEAD(&c->pending, p, link);
	c->n_pending++;
	ctl_request_run(&p->rq);
}

static bool may_process(const struct conn *c)
{
	return !c->closing && c->n_pending < MAX_PENDING &&
	       evbuffer_get_length(bufferevent_get_output(c->bev)) < OUTPUT_PAUSE;
}

static void process_lines(struct conn *c)
{
	struct evbuffer *in = bufferevent_get_input(c->bev);
	struct error err = {0};

	while (may_process(c)) {
		size_t n;
		char *line = evbuffer_readln(in, &n, EVBUFFER_EOL_LF);

		if (!line)
			break;
		if (n && line[n - 1] == '\r')
			n--;
		if (n)
			handle_line(c, line, n);
		OPENSSL_cleanse(line, n);
		free(line);
	}
	if (may_process(c) && evbuffer_get_length(in) > CTL_MAX_LINE_BYTES) {
		error_set(&err, -EMSGSIZE, "line longer than %d bytes", CTL_MAX_LINE_BYTES);
		send_refusal(c, json_null(), -EMSGSIZE, &err);
		close_after_flush(c);
	}
}

static void on_read(struct bufferevent *bev, void *arg)
{
	(void)bev;
	process_lines(arg);
}

/* Close when nothing is left to do or to send. */
static void close_if_over(struct conn *c)
{
	if ((c->closing || (c->eof && c->n_pending == 0)) &&
		evbuffer_get_length(bufferevent_get_output(c->bev)) == 0)
		conn_free(c);
}

/* Output drained: go on with lines that waited for it. */
static void on_drained(struct bufferevent *bev, void *arg)
{
	(void)bev;
	process_lines(arg);
	close_if_over(arg);
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
	struct conn *c = arg;

	(void)bev;
	if (what == (BEV_EVENT_EOF | BEV_EVENT_READING)) {
		c->eof = true; /* `echo '{...}' | nc -U` still wants its answer */
		close_if_over(c);
		return;
	}
	/* idle while its own model loads is not idle */
	if (what == (BEV_EVENT_TIMEOUT | BEV_EVENT_READING) && c->n_pending) {
		bufferevent_enable(c->bev, EV_READ);
		return;
	}
	conn_free(c);
}

/* -- accept ---------------------------------------------------------------------------------- */

/* One line to somebody who will not be served; best effort, never blocks. */
static void turn_away(evutil_socket_t fd, int rc, const char *why)
{
	char line[512];
	int n = snprintf(line, sizeof(line),
		"{\"id\":null,\"ok\":false,\"error\":{\"code\":\"%s\",\"message\":\"%s\"}}\n",
		ctl_error_code(rc), why);

	(void)!send(fd, line, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT);
	close(fd);
}

static void refuse_peer(struct ctl_socket *s, evutil_socket_t fd, const struct ctl_peer *peer)
{
	uint64_t now = clock_now_ns();
	char actor[96];

	turn_away(fd, -EACCES, "you are in none of the groups millrace-viewer, millrace-operator, "
			       "millrace-admin: ask root to add you to one");
	log_ratelimited(&s->refusals, LOG_LEVEL_WARN, "control socket: uid %u (pid %d) refused, no role",
		peer->uid, peer->pid);
	if (now < s->next_refusal_audit_ns) /* refusals must not fill the disk */
		return;
	s->next_refusal_audit_ns = now + NS_PER_S;
	snprintf(actor, sizeof(actor), "uid %u via control.sock", peer->uid);
	audit_write(s->ctl, actor, "connect", "control.sock", false, "refused: no role");
}

static void conn_new(struct ctl_socket *s, evutil_socket_t fd, const struct ctl_peer *peer)
{
	struct conn *c = calloc(1, sizeof(*c));
	struct timeval idle = {IDLE_S, 0}, stuck = {STUCK_S, 0};

	if (c)
		c->bev = bufferevent_socket_new(s->ctl->base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (!c || !c->bev) {
		free(c);
		close(fd);
		return;
	}
	c->owner = s;
	c->role = peer->role;
	snprintf(c->actor, sizeof(c->actor), "uid %u via control.sock", peer->uid);
	LIST_INIT(&c->pending);
	LIST_INSERT_HEAD(&s->conns, c, link);
	s->n_conns++;
	bufferevent_setcb(c->bev, on_read, on_drained, on_event, c);
	bufferevent_setwatermark(c->bev, EV_READ, 0, CTL_MAX_LINE_BYTES + 1);
	bufferevent_set_timeouts(c->bev, &idle, &stuck);
	bufferevent_enable(c->bev, EV_READ | EV_WRITE);
}

static void on_accept(struct evconnlistener *l, evutil_socket_t fd, struct sockaddr *sa, int n,
	void *arg)
{
	struct ctl_socket *s = arg;
	struct ctl_peer peer = {0};

	(void)l;
	(void)sa;
	(void)n;
	if (s->n_conns >= MAX_CONNS)
		turn_away(fd, -EBUSY, "too many connections to the control socket");
	else if (ctl_peer_identify(fd, &peer))
		close(fd);
	else if (peer.role == CTL_NONE)
		refuse_peer(s, fd, &peer);
	else
		conn_new(s, fd, &peer);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct ctl_socket *s = arg;

	(void)fd;
	(void)what;
	show_rate_sample(&s->rate, s->ctl);
}

/* -- start and end --------------------------------------------------------------------------- */

static int start_events(struct ctl_socket *s, int fd, struct error *err)
{
	struct timeval second = {1, 0};

	s->listener = evconnlistener_new(s->ctl->base, on_accept, s,
		LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, fd);
	if (!s->listener) {
		close(fd);
		return error_set(err, -ENOMEM, "control socket: no listener");
	}
	s->tick = event_new(s->ctl->base, -1, EV_PERSIST, on_tick, s);
	if (!s->tick || event_add(s->tick, &second))
		return error_set(err, -ENOMEM, "control socket: out of memory");
	return 0;
}

int ctl_socket_init(struct control *ctl, struct error *err)
{
	struct ctl_socket *s = calloc(1, sizeof(*s));
	int fd, rc;

	if (!s)
		return error_set(err, -ENOMEM, "control socket: out of memory");
	s->ctl = ctl;
	LIST_INIT(&s->conns);
	snprintf(s->path, sizeof(s->path), "%s/control.sock", ctl->config->run_dir);
	/* open to all: the kernel's word on the peer decides, and refusals are told and audited */
	fd = fd_unix_listen(s->path, SOCK_STREAM, 0666, err);
	if (fd < 0) {
		free(s);
		return fd;
	}
	ctl->ctl = s;
	rc = start_events(s, fd, err);
	if (rc)
		ctl_socket_uninit(ctl);
	return rc;
}

void ctl_socket_uninit(struct control *ctl)
{
	struct ctl_socket *s = ctl->ctl;
	struct conn *c;

	if (!s)
		return;
	while ((c = LIST_FIRST(&s->conns)))
		conn_free(c);
	if (s->tick)
		event_free(s->tick);
	if (s->listener)
		evconnlistener_free(s->listener);
	unlink(s->path);
	free(s);
	ctl->ctl = NULL;
}
