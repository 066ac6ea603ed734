/* SPDX-License-Identifier: BSD-3-Clause
 * TLS listener, its caps and deadlines, and the routes: see https.h.
 *
 * evhttp owns the connections. Each SSL object carries a struct tls_conn of ours, freed with it, that
 * counts the connection and watches its time: at most 10 s for the handshake, for the request to be
 * complete, and for the answer to be taken; whoever is slower has the socket shut down under him,
 * and evhttp then cleans up as for any lost connection.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/queue.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/listener.h>
#include <event2/util.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include "base/clock.h"
#include "base/log.h"
#include "control/config.h"
#include "control/dashboard.h"
#include "control/http_reply.h"
#include "control/https.h"
#include "control/ip_text.h"
#include "control/metrics.h"
#include "control/tls_cert.h"

enum {
	MAX_CONNS = 1024,
	MAX_PER_ADDRESS = 64,
	DEADLINE_S = 10,
	MAX_HEADER_BYTES = 16384,
	MAX_BODY_BYTES = 65536,
	BACKLOG = 128,
	OTHER_FDS = 512, /* of the rest of control, and what one accept burst may take past the cap */
};

struct tls_conn {
	LIST_ENTRY(tls_conn) link;
	struct https *owner;
	struct bufferevent *bev;
	struct event *timer;
	struct ip_addr peer;
	bool known; /* peer is filled in and counted */
};

struct https {
	struct control *ctl;
	SSL_CTX *ctx;
	struct api_v1_state *v1;
	struct evhttp *http;
	struct evhttp_bound_socket *bound;
	LIST_HEAD(, tls_conn) conns;
	unsigned int n_conns, max_conns;
	uint64_t turned_away;
	int ex_index;
	uint16_t port;
	bool paused; /* MAX_CONNS reached: the listener waits */
	struct log_limiter noisy;
};

/* -- connections ----------------------------------------------------------------------------- */

static void conn_free(struct tls_conn *c)
{
	LIST_REMOVE(c, link);
	c->owner->n_conns--;
	if (c->timer)
		event_free(c->timer);
	free(c);
}

/* Called by OpenSSL when evhttp lets go of the connection. */
static void conn_freed(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl, void *argp)
{
	struct tls_conn *c = ptr;
	struct https *h;

	(void)parent;
	(void)ad;
	(void)idx;
	(void)argl;
	(void)argp;
	if (!c)
		return;
	h = c->owner;
	conn_free(c);
	if (h->paused && h->n_conns < h->max_conns - 16) {
		h->paused = false;
		evconnlistener_enable(evhttp_bound_socket_get_listener(h->bound));
	}
}

static void conn_cut(struct tls_conn *c)
{
	evutil_socket_t fd = bufferevent_getfd(c->bev);

	c->owner->turned_away++;
	if (fd >= 0)
		shutdown(fd, SHUT_RDWR);
}

static void conn_deadline(struct tls_conn *c, int seconds)
{
	struct timeval tv = {seconds, 0};

	event_add(c->timer, &tv);
}

static unsigned int count_address(const struct https *h, const struct ip_addr *ip)
{
	const struct tls_conn *c;
	unsigned int n = 0;

	LIST_FOREACH(c, &h->conns, link)
		n += c->known && memcmp(&c->peer, ip, sizeof(*ip)) == 0;
	return n;
}

static bool peer_address(struct tls_conn *c)
{
	struct sockaddr_storage sa;
	socklen_t n = sizeof(sa);
	evutil_socket_t fd = bufferevent_getfd(c->bev);

	return fd >= 0 && getpeername(fd, (struct sockaddr *)&sa, &n) == 0 &&
	       ip_from_sockaddr(&c->peer, (struct sockaddr *)&sa) == 0;
}

/* Head and body leave in two writes: with Nagle's algorithm the second waits for the peer's delayed ACK,
 * 40 ms of every enrolment. */
static void no_delay(const struct tls_conn *c)
{
	int on = 1;

	setsockopt(bufferevent_getfd(c->bev), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

/* First call: right after accept, when evhttp has given the connection its descriptor. Later calls:
 * the deadline has passed. */
static void on_conn_timer(evutil_socket_t fd, short what, void *arg)
{
	struct tls_conn *c = arg;

	(void)fd;
	(void)what;
	if (c->known || !peer_address(c)) {
		conn_cut(c);
		return;
	}
	if (count_address(c->owner, &c->peer) >= MAX_PER_ADDRESS) {
		log_ratelimited(&c->owner->noisy, LOG_LEVEL_WARN,
			"https: more than %d connections from one address, turned away", MAX_PER_ADDRESS);
		conn_cut(c);
		return;
	}
	c->known = true;
	no_delay(c);
	conn_deadline(c, DEADLINE_S);
}

static struct tls_conn *conn_of(struct evhttp_request *req)
{
	struct evhttp_connection *evcon = evhttp_request_get_connection(req);
	struct bufferevent *bev = evcon ? evhttp_connection_get_bufferevent(evcon) : NULL;
	SSL *ssl = bev ? bufferevent_openssl_get_ssl(bev) : NULL;

	return ssl ? SSL_get_app_data(ssl) : NULL;
}

/* Handshake over: the request has its own ten seconds. */
static void on_ssl_info(const SSL *ssl, int where, int ret)
{
	struct tls_conn *c = SSL_get_app_data(ssl);

	(void)ret;
	if (c && c->known && (where & SSL_CB_HANDSHAKE_DONE))
		conn_deadline(c, DEADLINE_S);
}

static struct tls_conn *conn_new(struct https *h)
{
	struct tls_conn *c = calloc(1, sizeof(*c));
	struct timeval now = {0, 0};

	if (!c)
		return NULL;
	c->owner = h;
	c->timer = evtimer_new(h->ctl->base, on_conn_timer, c);
	if (!c->timer || event_add(c->timer, &now)) {
		if (c->timer)
			event_free(c->timer);
		free(c);
		return NULL;
	}
	LIST_INSERT_HEAD(&h->conns, c, link);
	h->n_conns++;
	return c;
}

/* evhttp asks for a bufferevent for each accepted connection. NULL would make it speak plaintext, so
 * when memory is out it gets one that fails its handshake at once. */
static struct bufferevent *on_accept(struct event_base *base, void *arg)
{
	struct https *h = arg;
	SSL *ssl = SSL_new(h->ctx);
	struct tls_conn *c = ssl ? conn_new(h) : NULL;
	struct bufferevent *bev;

	if (!c) {
		SSL_free(ssl);
		return bufferevent_socket_new(base, -1, 0) /* never given data: see on_request */;
	}
	SSL_set_ex_data(ssl, h->ex_index, c);
	SSL_set_app_data(ssl, c);
	bev = bufferevent_openssl_socket_new(base, -1, ssl, BUFFEREVENT_SSL_ACCEPTING,
		BEV_OPT_CLOSE_ON_FREE);
	if (!bev) {
		SSL_free(ssl);
		return bufferevent_socket_new(base, -1, 0);
	}
	bufferevent_openssl_set_allow_dirty_shutdown(bev, 1);
	c->bev = bev;
	if (h->n_conns >= h->max_conns) {
		h->paused = true;
		evconnlistener_disable(evhttp_bound_socket_get_listener(h->bound));
		log_ratelimited(&h->noisy, LOG_LEVEL_WARN, "https: %u connections open, no more taken",
			h->n_conns);
	}
	return bev;
}

/* -- routes ---------------------------------------------------------------------------------- */

/* The connection comes from this host: loopback, or to one of our addresses from the same one. */
static bool is_local(const struct http_call *call)
{
	const struct tls_conn *c = conn_of(call->req);
	struct sockaddr_storage sa;
	socklen_t n = sizeof(sa);
	struct ip_addr own;

	return c && getsockname(bufferevent_getfd(c->bev), (struct sockaddr *)&sa, &n) == 0 &&
	       ip_from_sockaddr(&own, (struct sockaddr *)&sa) == 0 &&
	       memcmp(&own, &call->peer, sizeof(own)) == 0;
}

/* Metrics name every subscriber and what he uses: not for other subscribers. False: an answer was given. */
static bool for_operators(struct http_call *call)
{
	const struct config *c = call->ctl->config;

	if (is_local(call))
		return true;
	for (uint32_t i = 0; i < c->https.operator_networks_count; i++)
		if (ip_in_network(&call->peer, c->https.operator_networks[i]) == 1)
			return true;
	http_reply_error(call->req, 403, "forbidden",
		"only from this host, or from a network in https.operator_networks");
	return false;
}

static void route_metrics(struct http_call *call)
{
	if (!for_operators(call))
		return;
	if (evhttp_request_get_command(call->req) != EVHTTP_REQ_GET)
		http_reply_method(call->req, "GET");
	else
		metrics_reply(call->ctl, call->req);
}

static void route_dashboard(struct http_call *call)
{
	if (!for_operators(call))
		return;
	if (evhttp_request_get_command(call->req) != EVHTTP_REQ_GET)
		http_reply_method(call->req, "GET");
	else
		dashboard_reply(call->req);
}

static const struct {
	const char *prefix;
	bool exact;
	void (*answer)(struct http_call *call);
} routes[] = {
	{"/v1/", false, api_v1},
	{"/v2", true, api_v2},
	{"/v2/", false, api_v2},
	{"/metrics", true, route_metrics},
	{"/", true, route_dashboard},
};

static void dispatch(struct http_call *call)
{
	for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
		size_t n = strlen(routes[i].prefix);

		if (strncmp(call->path, routes[i].prefix, n) || (routes[i].exact && call->path[n]))
			continue;
		call->rest = call->path + n;
		routes[i].answer(call);
		return;
	}
	http_reply_error(call->req, 404, "not_found", "there is nothing at this path");
}

void https_answered(struct evhttp_request *req, void *unused)
{
	struct tls_conn *c = conn_of(req);

	(void)unused;
	if (c)
		conn_deadline(c, DEADLINE_S); /* for the next request on this connection */
}

static void on_request(struct evhttp_request *req, void *arg)
{
	struct https *h = arg;
	struct tls_conn *c = conn_of(req);
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(req);
	struct http_call call = {.ctl = h->ctl, .v1 = h->v1, .req = req};

	if (!c || !c->known) { /* not TLS, or not yet looked at: nothing is said to it */
		struct evhttp_connection *evcon = evhttp_request_get_connection(req);

		if (evcon)
			evhttp_connection_free(evcon);
		return;
	}
	conn_deadline(c, 2 * DEADLINE_S); /* sessions_issue may take 2 s; the answer must be taken */
	evhttp_request_set_on_complete_cb(req, https_answered, NULL);
	call.path = uri ? evhttp_uri_get_path(uri) : NULL;
	call.peer = c->peer;
	if (!call.path || call.path[0] != '/')
		http_reply_error(req, 400, "bad_request", "the request line has no path");
	else
		dispatch(&call);
}

/* -- start and end --------------------------------------------------------------------------- */

static int make_context(struct https *h, struct error *err)
{
	const struct config *c = h->ctl->config;
	char cert[512], key[512], address[64] = "";
	const char *colon = strrchr(c->https.listen, ':');
	size_t n = colon ? (size_t)(colon - c->https.listen) : 0;
	int rc;

	h->ctx = SSL_CTX_new(TLS_server_method());
	if (!h->ctx || SSL_CTX_set_min_proto_version(h->ctx, TLS1_3_VERSION) != 1)
		return error_set(err, -ENOMEM, "https: no TLS context");
	SSL_CTX_set_session_cache_mode(h->ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_num_tickets(h->ctx, 0); /* keys are issued on full handshakes only */
	SSL_CTX_set_max_early_data(h->ctx, 0);
	SSL_CTX_set_options(h->ctx, SSL_OP_NO_TICKET | SSL_OP_CLEANSE_PLAINTEXT |
		SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
	SSL_CTX_set_mode(h->ctx, SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_info_callback(h->ctx, on_ssl_info);
	if (c->https.certificate && *c->https.certificate)
		return tls_cert_use(h->ctx, c->https.certificate, c->https.key, err);
	if (n && n < sizeof(address) && c->https.listen[0] != '[')
		snprintf(address, sizeof(address), "%.*s", (int)n, c->https.listen);
	else if (n > 2 && n < sizeof(address))
		snprintf(address, sizeof(address), "%.*s", (int)n - 2, c->https.listen + 1);
	snprintf(cert, sizeof(cert), "%s/https-cert.pem", c->state_dir);
	snprintf(key, sizeof(key), "%s/https-key.pem", c->state_dir);
	rc = tls_cert_ensure(cert, key, *address ? address : NULL, err);
	return rc ? rc : tls_cert_use(h->ctx, cert, key, err);
}

static be16 *port_of(struct sockaddr_storage *sa)
{
	if (sa->ss_family == AF_INET6)
		return &((struct sockaddr_in6 *)(void *)sa)->sin6_port;
	return &((struct sockaddr_in *)(void *)sa)->sin_port;
}

/* evutil's parser knows no port 0 (any free one), which tests ask for. */
static int parse_listen(const char *text, struct sockaddr_storage *sa, int *n, struct error *err)
{
	size_t len = strlen(text);
	bool any = len > 2 && !strcmp(text + len - 2, ":0");
	char copy[128];

	snprintf(copy, sizeof(copy), "%.*s%s", (int)(any ? len - 1 : len), text, any ? "1" : "");
	if (evutil_parse_sockaddr_port(copy, (struct sockaddr *)sa, n) || *port_of(sa) == 0)
		return error_set(err, -EINVAL, "https.listen: \"%s\" is not ADDRESS:PORT", text);
	if (any)
		*port_of(sa) = 0;
	return 0;
}

static int open_listener(struct https *h, struct error *err)
{
	const char *listen_on = h->ctl->config->https.listen;
	struct sockaddr_storage sa = {0};
	struct evconnlistener *l;
	socklen_t len = sizeof(sa);
	int n = sizeof(sa), rc = parse_listen(listen_on, &sa, &n, err);

	if (rc)
		return rc;
	l = evconnlistener_new_bind(h->ctl->base, NULL, NULL, LEV_OPT_CLOSE_ON_FREE |
		LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE, BACKLOG, (struct sockaddr *)&sa, n);
	if (!l)
		return error_set(err, -errno, "https: listen on %s: %s", listen_on, strerror(errno));
	h->bound = evhttp_bind_listener(h->http, l);
	if (!h->bound) {
		evconnlistener_free(l);
		return error_set(err, -ENOMEM, "https: no listener");
	}
	if (getsockname(evconnlistener_get_fd(l), (struct sockaddr *)&sa, &len) == 0)
		h->port = be16_swap(*port_of(&sa));
	return 0;
}

static int make_server(struct https *h, struct error *err)
{
	h->http = evhttp_new(h->ctl->base);
	if (!h->http)
		return error_set(err, -ENOMEM, "https: no server");
	evhttp_set_max_headers_size(h->http, MAX_HEADER_BYTES);
	evhttp_set_max_body_size(h->http, MAX_BODY_BYTES);
	evhttp_set_timeout(h->http, DEADLINE_S);
	evhttp_set_allowed_methods(h->http, EVHTTP_REQ_GET | EVHTTP_REQ_POST | EVHTTP_REQ_DELETE |
		EVHTTP_REQ_HEAD | EVHTTP_REQ_PUT | EVHTTP_REQ_PATCH | EVHTTP_REQ_OPTIONS);
	evhttp_set_bevcb(h->http, on_accept, h);
	evhttp_set_gencb(h->http, on_request, h);
	return open_listener(h, err);
}

/* Descriptors for MAX_CONNS and for everything else; where the limit is lower, fewer connections, so that
 * accept() never runs out (a listener that cannot accept spins). */
static unsigned int raise_descriptors(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r))
		return 64;
	if (r.rlim_cur < MAX_CONNS + OTHER_FDS) {
		r.rlim_cur = r.rlim_max < MAX_CONNS + OTHER_FDS ? r.rlim_max : MAX_CONNS + OTHER_FDS;
		setrlimit(RLIMIT_NOFILE, &r);
	}
	if (r.rlim_cur >= MAX_CONNS + OTHER_FDS)
		return MAX_CONNS;
	log_warn("https: only %llu descriptors allowed (RLIMIT_NOFILE), so fewer connections",
		(unsigned long long)r.rlim_cur);
	return r.rlim_cur > OTHER_FDS + 64 ? (unsigned int)r.rlim_cur - OTHER_FDS : 64;
}

int https_init(struct control *ctl, struct error *err)
{
	struct https *h = calloc(1, sizeof(*h));
	char fingerprint[65];
	int rc;

	if (!h)
		return error_set(err, -ENOMEM, "https: out of memory");
	h->ctl = ctl;
	h->v1 = api_v1_new();
	h->max_conns = raise_descriptors();
	LIST_INIT(&h->conns);
	h->ex_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, conn_freed);
	ctl->https = h;
	rc = h->ex_index < 0 ? error_set(err, -ENOMEM, "https: out of memory") : make_context(h, err);
	if (rc == 0)
		rc = h->v1 ? 0 : error_set(err, -ENOMEM, "https: out of memory");
	if (rc == 0)
		rc = make_server(h, err);
	if (rc) {
		https_uninit(ctl);
		return rc;
	}
	https_fingerprint(ctl, fingerprint);
	log_info("https: listening on %s, certificate SHA-256 %s", ctl->config->https.listen, fingerprint);
	return 0;
}

/* libevent lets go of its TLS connections only in a later turn of the loop, when there is none any more:
 * from here on OpenSSL knows nothing of us. */
static void conns_detach(struct https *h)
{
	struct tls_conn *c;

	LIST_FOREACH(c, &h->conns, link) {
		SSL *ssl = bufferevent_openssl_get_ssl(c->bev);

		SSL_set_app_data(ssl, NULL);
		SSL_set_ex_data(ssl, h->ex_index, NULL);
	}
}

void https_uninit(struct control *ctl)
{
	struct https *h = ctl->https;
	struct tls_conn *c;

	if (!h)
		return;
	conns_detach(h);
	if (h->http)
		evhttp_free(h->http);
	while ((c = LIST_FIRST(&h->conns)))
		conn_free(c);
	SSL_CTX_free(h->ctx);
	api_v1_free(h->v1);
	if (h->ex_index >= 0)
		CRYPTO_free_ex_index(CRYPTO_EX_INDEX_SSL, h->ex_index);
	free(h);
	ctl->https = NULL;
}

void https_fingerprint(const struct control *ctl, char out[65])
{
	tls_cert_fingerprint(ctl->https ? ctl->https->ctx : NULL, out);
}

uint16_t https_port(const struct control *ctl)
{
	return ctl->https ? ctl->https->port : 0;
}

void https_connections(const struct control *ctl, uint32_t *open, uint64_t *turned_away)
{
	*open = ctl->https ? ctl->https->n_conns : 0;
	*turned_away = ctl->https ? ctl->https->turned_away : 0;
}
