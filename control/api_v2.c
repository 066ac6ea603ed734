/* SPDX-License-Identifier: BSD-3-Clause
 * /v2: the Open Inference Protocol's health and metadata (KServe v2 REST). No extension is announced that
 * is not served.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/dp_link.h"
#include "control/http_reply.h"
#include "control/license.h"
#include "control/models.h"
#include "control/show.h"

static void server_metadata(struct http_call *call)
{
	http_reply_json(call->req, 200, json_pack("{s:s, s:s, s:[]}", "name", "millrace", "version",
		MILLRACE_VERSION, "extensions"));
}

/* Both keys always: the specification's text and its clients differ in which one they read. A model
 * being loaded does not make the server unready. */
static void health(struct http_call *call, bool ask_ready)
{
	bool ready = dp_link_state(call->ctl) == DP_READY && license_until_ns(call->ctl) != 0;
	bool ok = !ask_ready || ready;

	http_reply_json(call->req, ok ? 200 : 503,
		json_pack("{s:b, s:b}", "live", 1, "ready", ready));
}

static void model_metadata(struct http_call *call, const struct model_entry *m)
{
	char version[16];

	snprintf(version, sizeof(version), "%u", m->current.version);
	http_reply_json(call->req, 200, json_pack("{s:s, s:[s], s:s, s:o, s:o}", "name", m->name,
		"versions", version, "platform", "millrace_mrm", "inputs",
		show_model_ios(m->header.inputs, m->header.n_inputs, true), "outputs",
		show_model_ios(m->header.outputs, m->header.n_outputs, true)));
}

/* "<name>[/versions/<v>][/ready|/infer]": split in place; false = not of this form. `verb` is "" for the
 * metadata. */
static bool split(char *rest, char **version, const char **verb)
{
	char *p = strchr(rest, '/');

	*version = NULL;
	*verb = "";
	if (!p)
		return *rest != 0;
	*p++ = 0;
	if (!strncmp(p, "versions/", 9)) {
		*version = p += 9;
		p = strchr(p, '/');
		if (!p)
			return true;
		*p++ = 0;
	}
	*verb = p;
	return *rest && (!strcmp(p, "ready") || !strcmp(p, "infer"));
}

static bool version_fits(const struct model_entry *m, const char *version)
{
	char have[16];

	snprintf(have, sizeof(have), "%u", m->current.version);
	return !version || !strcmp(version, have);
}

static void model_ready(struct http_call *call, const struct model_entry *m)
{
	bool ready = m->current.state == MODEL_LIVE && dp_link_state(call->ctl) == DP_READY;

	http_reply_json(call->req, ready ? 200 : 503,
		json_pack("{s:s, s:b}", "name", m->name, "ready", ready));
}

static void model(struct http_call *call, char *rest)
{
	bool post = evhttp_request_get_command(call->req) == EVHTTP_REQ_POST;
	const struct model_entry *m;
	const char *verb;
	char *version;

	if (!split(rest, &version, &verb)) {
		http_reply_error(call->req, 404, "not_found", "there is nothing at this path");
		return;
	}
	m = models_find(call->ctl, rest);
	if (!m || m->current.state == MODEL_EMPTY || !version_fits(m, version)) {
		http_reply_error(call->req, 404, "not_found", "no model \"%.64s\"%s%.16s", rest,
			version ? " of version " : "", version ? version : "");
		return;
	}
	if (post != !strcmp(verb, "infer"))
		http_reply_method(call->req, post ? "GET" : "POST");
	else if (post)
		api_v2_infer(call, m);
	else if (*verb)
		model_ready(call, m);
	else
		model_metadata(call, m);
}

static int add_name(const struct model_entry *m, void *arg)
{
	if (m->current.state == MODEL_LIVE)
		json_array_append_new(arg, json_string(m->name));
	return 0;
}

static void model_list(struct http_call *call)
{
	json_t *names = json_array();

	models_each(call->ctl, add_name, names);
	http_reply_json(call->req, 200, json_pack("{s:o}", "models", names));
}

void api_v2(struct http_call *call)
{
	const char *rest = call->rest;
	char *copy;

	if (!strncmp(rest, "models/", 7) && (copy = evhttp_uridecode(rest + 7, 0, NULL))) {
		model(call, copy);
		free(copy);
	} else if (evhttp_request_get_command(call->req) != EVHTTP_REQ_GET) {
		http_reply_method(call->req, "GET");
	} else if (!*rest) {
		server_metadata(call);
	} else if (!strcmp(rest, "health/live") || !strcmp(rest, "health/ready")) {
		health(call, rest[7] == 'r');
	} else if (!strcmp(rest, "models")) {
		model_list(call);
	} else {
		http_reply_error(call->req, 404, "not_found", "there is nothing at this path");
	}
}
