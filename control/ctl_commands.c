/* SPDX-License-Identifier: BSD-3-Clause
 * The commands of the control socket: see ctl_commands.h. The table is at the end.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include "abi/limits.h"
#include "control/audit.h"
#include "control/ctl_commands.h"
#include "control/dp_link.h"
#include "control/license.h"
#include "control/models.h"
#include "control/subscribers.h"
#include "control/supervisor.h"
#include "control/traces.h"

enum { DEFAULT_SESSIONS = 1000, DEFAULT_TRACE_ROWS = 10000, DEFAULT_TRACE_SECONDS = 60 };

const char *ctl_role_name(enum ctl_role r)
{
	static const char *const names[] = {"none", "viewer", "operator", "admin"};

	return names[r];
}

const char *ctl_error_code(int rc)
{
	static const struct {
		int rc;
		const char *code;
	} codes[] = {{-EINVAL, "bad_request"}, {-EMSGSIZE, "too_long"}, {-ENOSYS, "unknown_command"},
		{-EACCES, "forbidden"}, {-ENOENT, "not_found"}, {-EEXIST, "exists"}, {-EPERM, "not_licensed"},
		{-EDQUOT, "not_licensed"}, {-ENOSPC, "full"}, {-EBUSY, "busy"}, {-EINPROGRESS, "busy"},
		{-ENOTCONN, "dataplane_unavailable"}, {-EAGAIN, "dataplane_unavailable"},
		{-ECONNRESET, "dataplane_unavailable"}, {-ETIMEDOUT, "timeout"}, {-EBADMSG, "damaged"},
		{-EKEYREJECTED, "bad_signature"}, {-ENOKEY, "bad_signature"}};

	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
		if (codes[i].rc == rc)
			return codes[i].code;
	return "failed";
}

static const char *text_arg(const struct ctl_request *rq, const char *name)
{
	return json_string_value(json_object_get(rq->args, name));
}

static int done(json_t **result, json_t *value, struct error *err)
{
	*result = value;
	return value ? 0 : error_set(err, -ENOMEM, "out of memory");
}

/* -- viewer ---------------------------------------------------------------------------------- */

static int run_status(struct ctl_request *rq, json_t **result, struct error *err)
{
	return done(result, show_status(rq->ctl, rq->rate), err);
}

static int run_workers(struct ctl_request *rq, json_t **result, struct error *err)
{
	return done(result, show_workers(rq->ctl), err);
}

static int run_top(struct ctl_request *rq, json_t **result, struct error *err)
{
	return done(result, show_top(rq->ctl), err);
}

static int run_models(struct ctl_request *rq, json_t **result, struct error *err)
{
	return done(result, show_models(rq->ctl), err);
}

static int run_sessions(struct ctl_request *rq, json_t **result, struct error *err)
{
	const json_t *limit = json_object_get(rq->args, "limit");
	double n = limit ? json_number_value(limit) : DEFAULT_SESSIONS;

	if (!(n >= 0 && n <= 10000))
		return error_set(err, -EINVAL, "\"limit\" must be from 0 to 10000");
	return done(result, show_sessions(rq->ctl, (uint32_t)n), err);
}

static int run_subscribers(struct ctl_request *rq, json_t **result, struct error *err)
{
	return done(result, show_subscribers(rq->ctl), err);
}

static int run_plans(struct ctl_request *rq, json_t **result, struct error *err)
{
	return done(result, show_plans(rq->ctl), err);
}

static int run_limits(struct ctl_request *rq, json_t **result, struct error *err)
{
	return done(result, show_limits(rq->ctl), err);
}

static int run_drops(struct ctl_request *rq, json_t **result, struct error *err)
{
	return done(result, show_drops(rq->ctl), err);
}

static int run_license(struct ctl_request *rq, json_t **result, struct error *err)
{
	return done(result, show_license(rq->ctl), err);
}

static int run_audit_verify(struct ctl_request *rq, json_t **result, struct error *err)
{
	struct audit_report r;
	int rc = audit_verify(audit_path(rq->ctl), &r);

	return done(result, json_pack("{s:b, s:I, s:I, s:s, s:s, s:s}", "intact", rc == 0, "lines",
		(json_int_t)r.lines, "bad_line", (json_int_t)r.bad_line, "head", r.head, "reason", r.reason,
		"path", audit_path(rq->ctl)), err);
}

/* A whole number from min to max; `fallback` where it is not given. */
static int whole_arg(struct ctl_request *rq, const char *name, uint32_t min, uint32_t max,
	uint32_t fallback, uint32_t *out, struct error *err)
{
	const json_t *v = json_object_get(rq->args, name);
	double d = v ? json_number_value(v) : fallback;

	if (!(d >= min && d <= max) || d != (double)(uint32_t)d)
		return error_set(err, -EINVAL, "\"%s\" must be a whole number from %u to %u", name, min, max);
	*out = (uint32_t)d;
	return 0;
}

/* -- models ---------------------------------------------------------------------------------- */

static void on_progress(uint64_t done_bytes, uint64_t total, const char *text, void *arg)
{
	struct ctl_request *rq = arg;

	rq->progress(rq, done_bytes, total, text);
}

static void on_done(int rc, const struct model_entry *m, const struct error *err, void *arg)
{
	struct ctl_request *rq = arg;

	rq->finish(rq, rc, rc == 0 ? (m ? show_model(m) : json_object()) : NULL, err);
}

static int run_model_load(struct ctl_request *rq, json_t **result, struct error *err)
{
	struct model_job job = {on_progress, on_done, rq};
	const char *path = text_arg(rq, "path");
	int rc;

	(void)result;
	if (path[0] != '/')
		return error_set(err, -EINVAL, "\"path\" must be absolute, not \"%.64s\"", path);
	rc = models_load(rq->ctl, path, text_arg(rq, "name"),
		json_is_true(json_object_get(rq->args, "activate")), rq->dry_run, &job, err);
	return rc ? rc : CTL_ASYNC;
}

static int run_model_activate(struct ctl_request *rq, json_t **result, struct error *err)
{
	struct model_job job = {on_progress, on_done, rq};
	int rc = models_activate(rq->ctl, text_arg(rq, "name"), rq->dry_run, &job, err);

	(void)result;
	return rc ? rc : CTL_ASYNC;
}

static int run_model_rollback(struct ctl_request *rq, json_t **result, struct error *err)
{
	struct model_job job = {on_progress, on_done, rq};
	int rc = models_rollback(rq->ctl, text_arg(rq, "name"), rq->dry_run, &job, err);

	(void)result;
	return rc ? rc : CTL_ASYNC;
}

/* What is not given stays as it is. */
static int take_cache(struct ctl_request *rq, struct mailbox_cache *c, struct error *err)
{
	const struct model_entry *m = models_find(rq->ctl, text_arg(rq, "name"));
	const json_t *shared = json_object_get(rq->args, "shared");
	int rc;

	if (!m)
		return error_set(err, -ENOENT, "no model %.63s is loaded", text_arg(rq, "name"));
	if (json_object_size(rq->args) < 2)
		return error_set(err, -EINVAL, "nothing to change: give memory_kb, ttl_ms or shared");
	*c = m->cache;
	rc = whole_arg(rq, "memory_kb", 0, MAILBOX_CACHE_MAX_KB, c->memory_kb, &c->memory_kb, err);
	if (!rc)
		rc = whole_arg(rq, "ttl_ms", 0, MAILBOX_CACHE_MAX_TTL_MS, c->ttl_ms, &c->ttl_ms, err);
	if (shared)
		c->shared = json_is_true(shared);
	return rc;
}

static int run_model_cache(struct ctl_request *rq, json_t **result, struct error *err)
{
	struct model_job job = {on_progress, on_done, rq};
	struct mailbox_cache c;
	int rc = take_cache(rq, &c, err);

	(void)result;
	rc = rc ? rc : models_cache(rq->ctl, text_arg(rq, "name"), &c, rq->dry_run, &job, err);
	return rc ? rc : CTL_ASYNC;
}

static void on_traced(int rc, const struct trace_result *r, const struct error *err, void *arg)
{
	struct ctl_request *rq = arg;

	rq->finish(rq, rc, rc ? NULL : json_pack("{s:I, s:I, s:s}", "rows", (json_int_t)r->rows, "kept",
		(json_int_t)r->kept, "path", r->path), err);
}

static int run_model_warm(struct ctl_request *rq, json_t **result, struct error *err)
{
	const struct trace_user user = {on_progress, on_traced, rq};
	const char *path = text_arg(rq, "path");
	int rc;

	if (path && path[0] != '/')
		return error_set(err, -EINVAL, "\"path\" must be absolute, not \"%.64s\"", path);
	rc = traces_warm(rq->ctl, text_arg(rq, "name"), path, text_arg(rq, "subscriber"), rq->dry_run, &user, err);
	return rc == 1 ? done(result, json_object(), err) : rc ? rc : CTL_ASYNC;
}

static int run_model_record(struct ctl_request *rq, json_t **result, struct error *err)
{
	const struct trace_user user = {on_progress, on_traced, rq};
	uint32_t rows, seconds;
	int rc = whole_arg(rq, "rows", 1, 1 << 30, DEFAULT_TRACE_ROWS, &rows, err);

	rc = rc ? rc : whole_arg(rq, "seconds", 1, TRACES_MAX_SECONDS, DEFAULT_TRACE_SECONDS, &seconds, err);
	rc = rc ? rc : traces_record(rq->ctl, text_arg(rq, "name"), rows, seconds, text_arg(rq, "subscriber"),
		rq->dry_run, &user, err);
	return rc == 1 ? done(result, json_object(), err) : rc ? rc : CTL_ASYNC;
}

static int run_model_unload(struct ctl_request *rq, json_t **result, struct error *err)
{
	struct model_job job = {on_progress, on_done, rq};
	int rc = models_unload(rq->ctl, text_arg(rq, "name"), rq->dry_run, &job, err);

	(void)result;
	return rc ? rc : CTL_ASYNC;
}

/* -- subscribers and plans ------------------------------------------------------------------- */

/* ["a","b"] -> "a,b". 0 or -EINVAL. */
static int join_names(char *out, size_t cap, const json_t *list, struct error *err)
{
	const json_t *item;
	size_t used = 0, i;

	out[0] = 0;
	json_array_foreach(list, i, item) {
		int n = snprintf(out + used, cap - used, "%s%s", i ? "," : "", json_string_value(item));

		if (n < 0 || (size_t)n >= cap - used)
			return error_set(err, -EINVAL, "\"models\": too many names");
		used += (size_t)n;
	}
	return 0;
}

static int take_change(const struct ctl_request *rq, struct subscriber_change *c, char *models,
	size_t cap, struct error *err)
{
	const json_t *list = json_object_get(rq->args, "models"), *v;

	memset(c, 0, sizeof(*c));
	c->plan = text_arg(rq, "plan");
	c->has_plan = c->plan != NULL;
	v = json_object_get(rq->args, "rate");
	c->has_rate = v != NULL;
	c->rate = json_number_value(v);
	v = json_object_get(rq->args, "burst");
	c->has_burst = v != NULL;
	c->burst = json_number_value(v);
	v = json_object_get(rq->args, "suspended");
	c->has_suspended = v != NULL;
	c->suspended = json_is_true(v);
	c->has_models = list != NULL;
	c->models = models;
	return join_names(models, cap, list, err);
}

static int run_subscriber_add(struct ctl_request *rq, json_t **result, struct error *err)
{
	char key[API_KEY_BYTES] = "", models[1024];
	struct subscriber_change c;
	struct subscriber s = {0};
	json_t *o;
	int rc = take_change(rq, &c, models, sizeof(models), err);

	if (rc == 0)
		rc = subscribers_add(rq->ctl, text_arg(rq, "name"), &c, rq->dry_run, &s, key, err);
	if (rc)
		return rc;
	o = json_pack("{s:o}", "subscriber", show_subscriber(&s));
	if (o && !rq->dry_run)
		json_object_set_new(o, "api_key", json_string(key));
	OPENSSL_cleanse(key, sizeof(key));
	return done(result, o, err);
}

static int run_subscriber_set(struct ctl_request *rq, json_t **result, struct error *err)
{
	struct subscriber_change c;
	struct subscriber s = {0};
	char models[1024];
	int rc = take_change(rq, &c, models, sizeof(models), err);

	if (rc == 0 && !c.has_plan && !c.has_rate && !c.has_burst && !c.has_models && !c.has_suspended)
		rc = error_set(err, -EINVAL, "nothing to change: give plan, rate, burst, models or suspended");
	if (rc == 0)
		rc = subscribers_set(rq->ctl, text_arg(rq, "name"), &c, rq->dry_run, &s, err);
	return rc ? rc : done(result, json_pack("{s:o}", "subscriber", show_subscriber(&s)), err);
}

static int run_subscriber_remove(struct ctl_request *rq, json_t **result, struct error *err)
{
	int rc = subscribers_remove(rq->ctl, text_arg(rq, "name"), rq->dry_run, err);

	return rc ? rc : done(result, json_object(), err);
}

/* Units a month: any whole number that JSON carries; plans_set() knows the largest. */
static int quota_arg(struct ctl_request *rq, uint64_t *out, struct error *err)
{
	const json_t *v = json_object_get(rq->args, "quota");
	double d = v ? json_number_value(v) : 0;

	if (!(d >= 0 && d < 1e18) || d != (double)(uint64_t)d)
		return error_set(err, -EINVAL, "\"quota\" must be a whole number of units a month, 0 = any");
	*out = (uint64_t)d;
	return 0;
}

static int run_plan_set(struct ctl_request *rq, json_t **result, struct error *err)
{
	struct plan p = {.rate = json_number_value(json_object_get(rq->args, "rate")),
		.burst = json_number_value(json_object_get(rq->args, "burst"))};
	const char *name = text_arg(rq, "name");
	int rc = join_names(p.models, sizeof(p.models), json_object_get(rq->args, "models"), err);

	if (rc == 0)
		rc = whole_arg(rq, "weight", 1, LIMIT_WEIGHT_MAX, 1, &p.weight, err);
	if (rc == 0)
		rc = whole_arg(rq, "concurrent", 0, LIMIT_CONCURRENT_MAX, 0, &p.concurrent, err);
	if (rc == 0)
		rc = quota_arg(rq, &p.quota, err);
	if (rc == 0 && snprintf(p.name, sizeof(p.name), "%s", name) >= (int)sizeof(p.name))
		rc = error_set(err, -EINVAL, "\"name\": longer than %zu bytes", sizeof(p.name) - 1);
	if (rc == 0)
		rc = plans_set(rq->ctl, &p, rq->dry_run, err);
	return rc ? rc : done(result, json_pack("{s:o}", "plan", show_plan(&p)), err);
}

static int run_plan_remove(struct ctl_request *rq, json_t **result, struct error *err)
{
	int rc = plans_remove(rq->ctl, text_arg(rq, "name"), rq->dry_run, err);

	return rc ? rc : done(result, json_object(), err);
}

/* -- admin ----------------------------------------------------------------------------------- */

static int run_license_install(struct ctl_request *rq, json_t **result, struct error *err)
{
	const char *path = text_arg(rq, "path");
	int rc;

	if (path[0] != '/')
		return error_set(err, -EINVAL, "\"path\" must be absolute, not \"%.64s\"", path);
	rc = license_install(rq->ctl, path, rq->dry_run, err);
	return rc ? rc : done(result, show_license(rq->ctl), err);
}

static int run_restart(struct ctl_request *rq, json_t **result, struct error *err)
{
	int rc = 0;

	if (!rq->dry_run)
		rc = supervisor_restart(rq->ctl, err);
	return rc ? rc : done(result, json_pack("{s:s, s:i}", "state",
		dp_state_name(dp_link_state(rq->ctl)), "pid", dp_link_pid(rq->ctl)), err);
}

/* -- the table ------------------------------------------------------------------------------- */

static int run_help(struct ctl_request *rq, json_t **result, struct error *err);

static const struct ctl_command commands[] = {
	{"help", CTL_VIEWER, false, {{0}}, run_help, "the commands, their arguments and roles"},
	{"status", CTL_VIEWER, false, {{0}}, run_status, "the appliance at a glance"},
	{"top", CTL_VIEWER, false, {{0}}, run_top, "raw counters; subtract two answers for rates"},
	{"show.workers", CTL_VIEWER, false, {{0}}, run_workers, "each worker: CPU, state, counters, latency"},
	{"show.models", CTL_VIEWER, false, {{0}}, run_models, "models and their three slots"},
	{"show.sessions", CTL_VIEWER, false, {{"limit", CTL_NUMBER, false}}, run_sessions,
		"live sessions, 1000 unless told"},
	{"show.subscribers", CTL_VIEWER, false, {{0}}, run_subscribers, "subscribers, limits and usage"},
	{"show.plans", CTL_VIEWER, false, {{0}}, run_plans, "plans"},
	{"show.limits", CTL_VIEWER, false, {{0}}, run_limits, "limiter slots as the dataplane sees them"},
	{"show.drops", CTL_VIEWER, false, {{0}}, run_drops, "dropped packets by reason"},
	{"show.license", CTL_VIEWER, false, {{0}}, run_license, "licence: state, entitlements, use"},
	{"audit.verify", CTL_VIEWER, false, {{0}}, run_audit_verify, "walk the audit log's hash chain"},
	{"model.load", CTL_OPERATOR, true,
		{{"path", CTL_TEXT, true}, {"name", CTL_TEXT, false}, {"activate", CTL_FLAG, false}},
		run_model_load, "load an artifact (.mrm, or .onnx) into a model's next slot"},
	{"model.activate", CTL_OPERATOR, true, {{"name", CTL_TEXT, true}}, run_model_activate,
		"make the next version current"},
	{"model.rollback", CTL_OPERATOR, true, {{"name", CTL_TEXT, true}}, run_model_rollback,
		"make the previous version current again"},
	{"model.cache", CTL_OPERATOR, true,
		{{"name", CTL_TEXT, true}, {"memory_kb", CTL_NUMBER, false}, {"ttl_ms", CTL_NUMBER, false},
			{"shared", CTL_FLAG, false}},
		run_model_cache, "keep a model's answers for the same input; effective at once, begins empty"},
	{"model.record", CTL_ADMIN, true,
		{{"name", CTL_TEXT, true}, {"rows", CTL_NUMBER, false}, {"seconds", CTL_NUMBER, false},
			{"subscriber", CTL_TEXT, false}},
		run_model_record, "write the next input rows into state_dir/traces: they are subscribers' data"},
	{"model.warm", CTL_OPERATOR, true,
		{{"name", CTL_TEXT, true}, {"path", CTL_TEXT, false}, {"subscriber", CTL_TEXT, false}},
		run_model_warm, "fill a model's response cache with the answers to recorded rows"},
	{"model.unload", CTL_OPERATOR, true, {{"name", CTL_TEXT, true}}, run_model_unload,
		"take a model out of service and memory"},
	{"subscriber.add", CTL_OPERATOR, true,
		{{"name", CTL_TEXT, true}, {"plan", CTL_TEXT, false}, {"rate", CTL_NUMBER, false},
			{"burst", CTL_NUMBER, false}, {"models", CTL_LIST, false}},
		run_subscriber_add, "create a subscriber; its API key is shown once"},
	{"subscriber.remove", CTL_OPERATOR, true, {{"name", CTL_TEXT, true}}, run_subscriber_remove,
		"close its sessions and forget its key; the usage record stays"},
	{"subscriber.set", CTL_OPERATOR, true,
		{{"name", CTL_TEXT, true}, {"plan", CTL_TEXT, false}, {"rate", CTL_NUMBER, false},
			{"burst", CTL_NUMBER, false}, {"models", CTL_LIST, false},
			{"suspended", CTL_FLAG, false}},
		run_subscriber_set, "change limits or suspend; effective at once"},
	{"plan.set", CTL_OPERATOR, true,
		{{"name", CTL_TEXT, true}, {"rate", CTL_NUMBER, true}, {"burst", CTL_NUMBER, true},
			{"models", CTL_LIST, false}, {"weight", CTL_NUMBER, false},
			{"concurrent", CTL_NUMBER, false}, {"quota", CTL_NUMBER, false}},
		run_plan_set, "create or change a plan; its subscribers follow at once"},
	{"plan.remove", CTL_OPERATOR, true, {{"name", CTL_TEXT, true}}, run_plan_remove,
		"remove a plan nobody is on"},
	{"license.install", CTL_ADMIN, true, {{"path", CTL_TEXT, true}}, run_license_install,
		"verify and install a licence file"},
	{"dataplane.restart", CTL_ADMIN, true, {{0}}, run_restart, "stop the dataplane and start it again"},
};

const struct ctl_command *ctl_command_find(const char *name)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (!strcmp(commands[i].name, name))
			return &commands[i];
	return NULL;
}

static json_t *help_args(const struct ctl_command *c)
{
	static const char *const types[] = {"text", "number", "flag", "list"};
	json_t *list = json_array();

	for (size_t i = 0; i < CTL_MAX_ARGS && c->args[i].name; i++)
		json_array_append_new(list, json_pack("{s:s, s:s, s:b}", "name", c->args[i].name, "type",
			types[c->args[i].type], "required", c->args[i].required));
	return list;
}

static int run_help(struct ctl_request *rq, json_t **result, struct error *err)
{
	json_t *list = json_array();

	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		json_array_append_new(list, json_pack("{s:s, s:s, s:b, s:s, s:o}", "cmd", commands[i].name,
			"role", ctl_role_name(commands[i].role), "mutates", commands[i].mutates, "help",
			commands[i].help, "args", help_args(&commands[i])));
	return done(result, json_pack("{s:s, s:o}", "your_role", ctl_role_name(rq->role), "commands",
		list), err);
}

void ctl_request_run(struct ctl_request *rq)
{
	const struct ctl_command *c = rq->command;
	struct error err = {0};
	json_t *result = NULL;
	int rc;

	if (rq->role < c->role)
		rc = error_set(&err, -EACCES, "%s needs the role %s, you have %s", c->name,
			ctl_role_name(c->role), ctl_role_name(rq->role));
	else
		rc = c->run(rq, &result, &err);
	if (rc != CTL_ASYNC)
		rq->finish(rq, rc, result, &err);
}
