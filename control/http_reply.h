/* SPDX-License-Identifier: BSD-3-Clause
 * Answers over HTTP in the two error shapes of control/API.md, and the routes that give them. Loop thread only.
 */
#pragma once

#include <event2/http.h>
#include <jansson.h>

#include "abi/types.h"
#include "base/error.h"
#include "control/control.h"

struct model_entry;
struct subscriber;

/* One request being answered. `rest` is the path after the route's prefix; valid during the call. */
struct http_call {
	struct control *ctl;
	struct api_v1_state *v1;
	struct evhttp_request *req;
	const char *path, *rest;
	struct ip_addr peer; /* address of the TLS peer */
};

/* Answer with a JSON body (reference stolen) or none (NULL). Content-Type is exactly application/json. */
void http_reply_json(struct evhttp_request *req, int status, json_t *body);
/* Same for a text already made: `text` (malloc'ed) is wiped and freed once it has been sent. */
void http_reply_secret(struct evhttp_request *req, int status, char *text);
/* Error in the shape of the path: /v1 answers {"error": {message, type, param, code}}, all else
 * {"error": "text"}. 401 carries WWW-Authenticate, 429 and 503 Retry-After. */
void http_reply_error(struct evhttp_request *req, int status, const char *code, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* Retry-After in whole seconds, at least one, in place of http_reply_error()'s own. */
void http_reply_retry_after(struct evhttp_request *req, uint32_t us);
/* 405 with Allow. */
void http_reply_method(struct evhttp_request *req, const char *allow);

/* To be called when an answer has been taken by the client (on_complete): the connection's next request
 * gets its full time. */
void https_answered(struct evhttp_request *req, void *unused);

/* Routes: api_v1.c, api_v2.c, metrics.c. */
struct api_v1_state *api_v1_new(void); /* failed key attempts by address; NULL = out of memory */
void api_v1_free(struct api_v1_state *v1);
void api_v1(struct http_call *call);
/* Who asks, by the API key. False: an answer has been given. The key is wiped from the request. */
bool api_v1_authenticate(struct http_call *call, struct subscriber *sub);
void api_v2(struct http_call *call);
/* api_v2_infer.c: POST /v2/models/<name>/infer for a model that is live. */
void api_v2_infer(struct http_call *call, const struct model_entry *m);
