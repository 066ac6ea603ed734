/* SPDX-License-Identifier: BSD-3-Clause
 * Answers over HTTP: see http_reply.h.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>
#include <openssl/crypto.h>

#include "control/http_reply.h"

static const char *reason(int status)
{
	static const struct {
		int status;
		const char *text;
	} reasons[] = {{200, "OK"}, {201, "Created"}, {204, "No Content"}, {400, "Bad Request"},
		{401, "Unauthorized"}, {403, "Forbidden"}, {404, "Not Found"}, {405, "Method Not Allowed"},
		{413, "Content Too Large"}, {415, "Unsupported Media Type"}, {429, "Too Many Requests"}, {500, "Internal Server Error"},
		{501, "Not Implemented"}, {503, "Service Unavailable"}, {504, "Gateway Timeout"}};

	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
		if (reasons[i].status == status)
			return reasons[i].text;
	return "Error";
}

static void header(struct evhttp_request *req, const char *name, const char *value)
{
	evhttp_add_header(evhttp_request_get_output_headers(req), name, value);
}

static void common_headers(struct evhttp_request *req)
{
	header(req, "Cache-Control", "no-store");
	header(req, "X-Content-Type-Options", "nosniff");
}

static void wipe_and_free(const void *data, size_t n, void *arg)
{
	(void)data;
	OPENSSL_cleanse(arg, n);
	free(arg);
}

void http_reply_secret(struct evhttp_request *req, int status, char *text)
{
	struct evbuffer *out = evhttp_request_get_output_buffer(req);

	common_headers(req);
	if (text) {
		header(req, "Content-Type", "application/json");
		/* by reference: no second copy that nobody wipes */
		evbuffer_add_reference(out, text, strlen(text), wipe_and_free, text);
	}
	evhttp_send_reply(req, status, reason(status), NULL);
}

void http_reply_json(struct evhttp_request *req, int status, json_t *body)
{
	char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;

	json_decref(body);
	http_reply_secret(req, status, text);
}

void http_reply_retry_after(struct evhttp_request *req, uint32_t us)
{
	char seconds[16];

	snprintf(seconds, sizeof(seconds), "%u", us / 1000000 + 1);
	header(req, "Retry-After", seconds);
}

static const char *error_type(int status)
{
	switch (status) {
	case 401:
		return "authentication_error";
	case 403:
		return "permission_error";
	case 429:
		return "rate_limit_error";
	case 503:
		return "server_error";
	default:
		return "invalid_request_error";
	}
}

void http_reply_error(struct evhttp_request *req, int status, const char *code, const char *fmt, ...)
{
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(req);
	const char *path = uri ? evhttp_uri_get_path(uri) : "";
	char message[400];
	json_t *body;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	if (path && !strncmp(path, "/v1", 3))
		body = json_pack("{s:{s:s, s:s, s:n, s:s}}", "error", "message", message, "type",
			error_type(status), "param", "code", code);
	else
		body = json_pack("{s:s}", "error", message);
	if (status == 401)
		header(req, "WWW-Authenticate", "Bearer realm=\"millrace\"");
	if (!evhttp_find_header(evhttp_request_get_output_headers(req), "Retry-After")) {
		if (status == 429)
			header(req, "Retry-After", "10");
		if (status == 503)
			header(req, "Retry-After", "1");
	}
	http_reply_json(req, status, body);
}

void http_reply_method(struct evhttp_request *req, const char *allow)
{
	header(req, "Allow", allow);
	http_reply_error(req, 405, "method_not_allowed", "this path allows %s", allow);
}
