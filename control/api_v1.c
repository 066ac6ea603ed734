/* SPDX-License-Identifier: BSD-3-Clause
 * /v1: an API key is exchanged for a datagram session (control/API.md). The answer is sent when sessions.h
 * says the session stands everywhere; a client that has gone meanwhile loses it.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "base/clock.h"
#include "control/config.h"
#include "control/http_reply.h"
#include "control/ip_text.h"
#include "control/license.h"
#include "control/license_file.h"
#include "control/models.h"
#include "control/sessions.h"
#include "control/show.h"
#include "control/subscribers.h"

enum {
	ATTEMPT_SLOTS = 1024,   /* addresses remembered; the oldest gives way */
	ATTEMPT_BURST = 10,     /* wrong keys an address may try at once ... */
	ATTEMPT_NS = 1000000000, /* ... and one more each second */
	SECRET_BASE64 = 44,
};

/* -- failed key attempts --------------------------------------------------------------------- */

/* GCRA over failures, like the limiter: `tat_ns` runs ahead of the clock with every wrong key. */
struct attempt {
	struct ip_addr address; /* IPv6: its /64 */
	uint64_t tat_ns;
};

struct api_v1_state {
	struct attempt attempts[ATTEMPT_SLOTS];
};

struct api_v1_state *api_v1_new(void)
{
	return calloc(1, sizeof(struct api_v1_state));
}

void api_v1_free(struct api_v1_state *v1)
{
	free(v1);
}

static struct ip_addr network_of(const struct ip_addr *ip)
{
	struct ip_addr net = *ip;
	static const uint8_t v4[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

	if (memcmp(ip->bytes, v4, sizeof(v4)) != 0)
		memset(net.bytes + 8, 0, 8);
	return net;
}

static struct attempt *attempt_find(struct api_v1_state *v1, const struct ip_addr *net)
{
	for (size_t i = 0; i < ATTEMPT_SLOTS; i++)
		if (memcmp(&v1->attempts[i].address, net, sizeof(*net)) == 0)
			return &v1->attempts[i];
	return NULL;
}

static bool attempts_spent(struct http_call *call)
{
	struct ip_addr net = network_of(&call->peer);
	const struct attempt *a = attempt_find(call->v1, &net);

	return a && a->tat_ns > clock_now_ns() + (uint64_t)(ATTEMPT_BURST - 1) * ATTEMPT_NS;
}

static void attempt_failed(struct http_call *call)
{
	struct ip_addr net = network_of(&call->peer);
	struct attempt *a = attempt_find(call->v1, &net), *slots = call->v1->attempts;
	uint64_t now = clock_now_ns();

	if (!a) {
		a = &slots[0];
		for (size_t i = 1; i < ATTEMPT_SLOTS; i++)
			if (slots[i].tat_ns < a->tat_ns)
				a = &slots[i];
		a->address = net;
		a->tat_ns = 0;
	}
	a->tat_ns = (a->tat_ns > now ? a->tat_ns : now) + ATTEMPT_NS;
}

/* -- authentication -------------------------------------------------------------------------- */

bool api_v1_authenticate(struct http_call *call, struct subscriber *sub)
{
	const char *h =
		evhttp_find_header(evhttp_request_get_input_headers(call->req), "Authorization");
	char key[API_KEY_BYTES];
	size_t n;
	int rc;

	if (attempts_spent(call)) {
		http_reply_error(call->req, 429, "too_many_attempts",
			"too many wrong API keys from your address; wait a moment");
		return false;
	}
	if (!h || strncasecmp(h, "Bearer ", 7)) {
		http_reply_error(call->req, 401, "invalid_api_key",
			"send your API key as Authorization: Bearer KEY");
		return false;
	}
	n = strlen(h + 7);
	memset(key, 0, sizeof(key));
	memcpy(key, h + 7, n < sizeof(key) ? n : 0); /* too long: an empty key, refused alike */
	OPENSSL_cleanse((char *)(uintptr_t)h, n + 7);
	rc = *key ? subscribers_by_key(call->ctl, key, sub) : -ENOENT;
	OPENSSL_cleanse(key, sizeof(key));
	if (rc == 0)
		return true;
	attempt_failed(call);
	http_reply_error(call->req, 401, "invalid_api_key", "this API key is not known here");
	return false;
}

/* -- the session document -------------------------------------------------------------------- */

struct model_list {
	json_t *list;
	uint64_t mask;
};

static int add_model(const struct model_entry *m, void *arg)
{
	struct model_list *l = arg;
	json_t *o;

	if (m->current.state != MODEL_LIVE || m->index >= 64 || !(l->mask >> m->index & 1))
		return 0;
	o = json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o}", "name", m->name, "id",
		(json_int_t)m->id, "version", (json_int_t)m->current.version, "max_rows",
		(json_int_t)m->header.max_rows, "cost_units", (json_int_t)m->header.cost_units,
		"row_in_bytes", (json_int_t)m->header.row_in_bytes, "row_out_bytes",
		(json_int_t)m->header.row_out_bytes, "inputs",
		show_model_ios(m->header.inputs, m->header.n_inputs, false), "outputs",
		show_model_ios(m->header.outputs, m->header.n_outputs, false));
	return o ? json_array_append_new(l->list, o) : 0;
}

static json_t *models_of(struct control *ctl, const struct subscriber *sub)
{
	struct model_list l = {json_array(), 0};
	struct error err;

	if (models_mask(ctl, sub->models, &l.mask, &err) == 0)
		models_each(ctl, add_model, &l);
	return l.list;
}

/* First configured address of each family, and its data port. */
static void set_address(const struct config *c, json_t *o)
{
	const char *v4 = "", *v6 = "";
	uint32_t port = c->ports_count ? c->ports[0].udp_port : 0;

	for (uint32_t i = 0; i < c->ports_count; i++) {
		if (!*v4 && c->ports[i].ipv4)
			v4 = c->ports[i].ipv4;
		if (!*v6 && c->ports[i].ipv6)
			v6 = c->ports[i].ipv6;
	}
	json_object_set_new(o, "address", json_string(v4));
	json_object_set_new(o, "address6", json_string(v6));
	json_object_set_new(o, "port", json_integer(port));
}

/* The document as text, with the secret put into the finished text, so that no JSON value ever holds it. */
static char *session_text(struct control *ctl, const struct subscriber *sub,
	const struct session_grant *g, bool provisional)
{
	static const char blank[] = "\"secret\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"";
	char id[20], source[IP_TEXT_BYTES], base64[SECRET_BASE64 + 1], *text, *at;
	json_t *o = json_object();

	snprintf(id, sizeof(id), "%016llx", (unsigned long long)g->info.session_id);
	ip_format(&g->info.source, source);
	json_object_set_new(o, "session_id", json_string(id));
	json_object_set_new(o, "key_id", json_integer(g->info.key_id));
	json_object_set_new(o, "secret", json_string("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"));
	json_object_set_new(o, "lanes", json_integer(g->lanes));
	set_address(ctl->config, o);
	json_object_set_new(o, "source", json_string(source));
	json_object_set_new(o, "provisional", json_boolean(provisional));
	json_object_set_new(o, "expires_in_s", json_integer(g->info.expires_in_s));
	json_object_set_new(o, "plan", json_pack("{s:s, s:f, s:f}", "name", sub->plan, "rate", sub->rate,
		"burst", sub->burst));
	json_object_set_new(o, "models", models_of(ctl, sub));
	text = json_dumps(o, JSON_COMPACT);
	json_decref(o);
	at = text ? strstr(text, blank) : NULL; /* the first one: everything before it is ours */
	if (!at)
		return text;
	EVP_EncodeBlock((uint8_t *)base64, g->secret, sizeof(g->secret));
	memcpy(at + strlen("\"secret\":\""), base64, SECRET_BASE64);
	OPENSSL_cleanse(base64, sizeof(base64));
	return text;
}

/* -- POST /v1/sessions ----------------------------------------------------------------------- */

/* A session being issued, then one whose answer is under way. Freed by finish() or on_sent(), or, when
 * the connection went away, by whichever of on_gone() and on_issued() comes last. */
struct issue {
	struct control *ctl;
	struct evhttp_request *req; /* NULL: the client has gone */
	struct subscriber sub;
	uint64_t session_id; /* of the session in the answer; 0 = not issued yet */
	bool provisional;    /* the data address is not the TLS peer's */
};

static void on_gone(struct evhttp_connection *evcon, void *arg)
{
	struct issue *is = arg;

	(void)evcon;
	is->req = NULL;
	if (!is->session_id)
		return; /* on_issued() is still to come */
	sessions_close(is->ctl, is->sub.index, is->session_id);
	free(is);
}

static void on_sent(struct evhttp_request *req, void *arg)
{
	evhttp_connection_set_closecb(evhttp_request_get_connection(req), NULL, NULL);
	free(arg);
	https_answered(req, NULL);
}

static bool hung_up(struct evhttp_request *req)
{
	struct bufferevent *bev =
		evhttp_connection_get_bufferevent(evhttp_request_get_connection(req));
	struct pollfd p = {.fd = bufferevent_getfd(bev), .events = POLLRDHUP};

	return poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR));
}

static void issue_refused(struct evhttp_request *req, int rc, const struct error *err)
{
	const char *text = err && err->text[0] ? err->text : "no session could be made";

	if (rc == -EDQUOT)
		http_reply_error(req, 429, "too_many_sessions", "%s", text);
	else if (rc == -ENOSPC)
		http_reply_error(req, 503, "session_table_full", "%s", text);
	else if (rc == -EPERM)
		http_reply_error(req, 403, "not_licensed", "%s", text);
	else if (rc == -EACCES)
		http_reply_error(req, 403, "subscriber_suspended", "%s", text);
	else
		http_reply_error(req, 503, "dataplane_unavailable", "%s", text);
}

static void on_issued(int rc, const struct session_grant *grant, const struct error *err, void *arg)
{
	struct issue *is = arg;
	struct evhttp_request *req = is->req;
	char *text = NULL;

	if (rc == 0 && req && !hung_up(req))
		text = session_text(is->ctl, &is->sub, grant, is->provisional);
	if (rc == 0 && !text) {
		sessions_close(is->ctl, is->sub.index, grant->info.session_id);
		rc = -ECONNABORTED;
	}
	if (rc) {
		if (req) {
			evhttp_connection_set_closecb(evhttp_request_get_connection(req), NULL, NULL);
			issue_refused(req, rc, err);
		}
		free(is);
		return;
	}
	is->session_id = grant->info.session_id;
	evhttp_request_set_on_complete_cb(req, on_sent, is);
	http_reply_secret(req, 201, text);
}

/* The optional body. False: an answer has been given. */
static bool take_body(struct http_call *call, struct ip_addr *source)
{
	struct evbuffer *in = evhttp_request_get_input_buffer(call->req);
	size_t n = evbuffer_get_length(in);
	const json_t *address;
	json_t *o = NULL;
	bool ok;

	*source = call->peer;
	if (n == 0)
		return true;
	o = json_loadb((const char *)evbuffer_pullup(in, -1), n, JSON_REJECT_DUPLICATES, NULL);
	address = json_object_get(o, "data_address");
	ok = json_is_object(o) && json_object_size(o) == (address ? 1 : 0);
	if (!ok)
		http_reply_error(call->req, 400, "bad_request",
			"the body must be a JSON object with at most \"data_address\"");
	else if (address && (!json_is_string(address) ||
			 ip_parse(source, json_string_value(address)) || !ip_is_host(source))) {
		ok = false;
		http_reply_error(call->req, 400, "bad_address",
			"\"data_address\" must be a host's IPv4 or IPv6 address");
	}
	json_decref(o);
	return ok;
}

/* Another address than the TLS peer's is taken on the subscriber's word, and answers go there: only where
 * the operator said his subscribers are, so that nobody is made to receive what he did not ask for. */
static bool may_use_address(struct http_call *call, const struct ip_addr *source)
{
	const struct config *c = call->ctl->config;
	char text[IP_TEXT_BYTES];

	if (memcmp(source, &call->peer, sizeof(*source)) == 0)
		return true;
	for (uint32_t i = 0; i < c->https.data_networks_count; i++)
		if (ip_in_network(source, c->https.data_networks[i]) == 1)
			return true;
	ip_format(source, text);
	http_reply_error(call->req, 403, "source_not_allowed",
		"data_address %s is not the address you connect from, and the appliance allows others only in "
		"its https.data_networks: connect from %s, or have the operator add its network", text, text);
	return false;
}

static bool may_have_session(struct http_call *call, const struct subscriber *sub)
{
	struct error err = {0};

	if (license_allows(call->ctl, 0, 0, 0, &err)) {
		http_reply_error(call->req, 403, "not_licensed", "%s", err.text);
		return false;
	}
	if (sub->suspended) {
		http_reply_error(call->req, 403, "subscriber_suspended", "this subscriber is suspended");
		return false;
	}
	return true;
}

static void session_create(struct http_call *call)
{
	struct ip_addr source;
	struct error err = {0};
	struct subscriber sub;
	struct issue *is;
	int rc;

	if (!api_v1_authenticate(call, &sub) || !may_have_session(call, &sub) || !take_body(call, &source) ||
		!may_use_address(call, &source))
		return;
	is = calloc(1, sizeof(*is));
	if (!is) {
		http_reply_error(call->req, 503, "dataplane_unavailable", "out of memory");
		return;
	}
	is->ctl = call->ctl;
	is->req = call->req;
	is->sub = sub;
	is->provisional = memcmp(&source, &call->peer, sizeof(source)) != 0;
	evhttp_connection_set_closecb(evhttp_request_get_connection(call->req), on_gone, is);
	rc = sessions_issue(call->ctl, sub.index, &source, is->provisional, on_issued, is, &err);
	if (rc == 0)
		return;
	evhttp_connection_set_closecb(evhttp_request_get_connection(call->req), NULL, NULL);
	free(is);
	issue_refused(call->req, rc, &err);
}

/* -- the other calls ------------------------------------------------------------------------- */

/* 16 hex digits, then `tail`. 0 = no. */
static uint64_t session_id_of(const char *text, const char *tail)
{
	char digits[17], *end;

	if (strlen(text) < 16 || strcmp(text + 16, tail))
		return 0;
	memcpy(digits, text, 16);
	digits[16] = 0;
	if (strspn(digits, "0123456789abcdef") != 16)
		return 0;
	return strtoull(digits, &end, 16);
}

static void session_renew(struct http_call *call, uint64_t id)
{
	struct error err = {0};
	struct subscriber sub;
	int64_t left = 0;
	char text[20];
	int rc;

	if (!api_v1_authenticate(call, &sub) || !may_have_session(call, &sub))
		return;
	rc = sessions_renew(call->ctl, sub.index, id, &left, &err);
	if (rc == -ENOENT) {
		http_reply_error(call->req, 404, "not_found", "no such session; ask for a new one");
		return;
	}
	if (rc) {
		issue_refused(call->req, rc, &err);
		return;
	}
	snprintf(text, sizeof(text), "%016llx", (unsigned long long)id);
	http_reply_json(call->req, 200,
		json_pack("{s:s, s:I}", "session_id", text, "expires_in_s", (json_int_t)left));
}

static void session_delete(struct http_call *call, uint64_t id)
{
	struct subscriber sub;

	if (!api_v1_authenticate(call, &sub))
		return;
	if (sessions_close(call->ctl, sub.index, id))
		http_reply_error(call->req, 404, "not_found", "no such session");
	else
		http_reply_json(call->req, 204, NULL);
}

static void usage(struct http_call *call)
{
	struct subscriber sub;
	char since[24];

	if (!api_v1_authenticate(call, &sub))
		return;
	license_time_format(sub.created_wall_s, since);
	http_reply_json(call->req, 200, json_pack("{s:s, s:s, s:I, s:s}", "subscriber", sub.name, "plan",
		sub.plan, "units", (json_int_t)sub.units, "since", since));
}

void api_v1(struct http_call *call)
{
	enum evhttp_cmd_type cmd = evhttp_request_get_command(call->req);
	const char *rest = call->rest;
	uint64_t id = 0;

	if (!strcmp(rest, "sessions")) {
		if (cmd == EVHTTP_REQ_POST)
			session_create(call);
		else
			http_reply_method(call->req, "POST");
	} else if (!strcmp(rest, "usage")) {
		if (cmd == EVHTTP_REQ_GET)
			usage(call);
		else
			http_reply_method(call->req, "GET");
	} else if (!strncmp(rest, "sessions/", 9) && (id = session_id_of(rest + 9, "/renew"))) {
		if (cmd == EVHTTP_REQ_POST)
			session_renew(call, id);
		else
			http_reply_method(call->req, "POST");
	} else if (!strncmp(rest, "sessions/", 9) && (id = session_id_of(rest + 9, ""))) {
		if (cmd == EVHTTP_REQ_DELETE)
			session_delete(call, id);
		else
			http_reply_method(call->req, "DELETE");
	} else {
		http_reply_error(call->req, 404, "not_found", "there is nothing at this path");
	}
}
