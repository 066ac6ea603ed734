/* SPDX-License-Identifier: BSD-3-Clause
 * An in-memory machine behind the faces: test doubles of subscribers.h, sessions.h, models.h, dp_link.h,
 * supervisor.h and limits_table.h.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "base/clock.h"
#include "base/fd.h"
#include "control/traces.h"
#include "control/attach.h"
#include "control/dp_link.h"
#include "control/gateway.h"
#include "control/limits_table.h"
#include "control/models.h"
#include "control/sessions.h"
#include "control/subscribers.h"
#include "control/supervisor.h"
#include "tests/ctl/t_faces.h"

enum { MAX = 16 };

unsigned int t_applied, t_commands;
uint32_t t_subscribers;
unsigned int t_loading;
uint64_t t_last_command_a;

static struct subscriber subs[MAX] = {{.index = 0, .name = "acme", .plan = "demo", .rate = 200000,
	.burst = 2000, .units = 42, .created_wall_s = 1700000000}};
static unsigned int n_subs = 1;
static struct session_info sessions[MAX];
static unsigned int n_sessions;
static struct event *worker;
static uint64_t next_session = 0x9f3c000000000001ull;

/* -- subscribers and plans ------------------------------------------------------------------- */

int subscribers_find(struct control *ctl, const char *name, struct subscriber *out)
{
	(void)ctl;
	for (unsigned int i = 0; i < n_subs; i++)
		if (!strcmp(subs[i].name, name)) {
			*out = subs[i];
			return 0;
		}
	return -ENOENT;
}

int subscribers_by_key(struct control *ctl, const char *api_key, struct subscriber *out)
{
	return strcmp(api_key, "mr_good") ? -ENOENT : subscribers_find(ctl, "acme", out);
}

int subscribers_by_index(struct control *ctl, uint32_t index, struct subscriber *out)
{
	(void)ctl;
	if (index >= n_subs)
		return -ENOENT;
	*out = subs[index];
	return 0;
}

int subscribers_add(struct control *ctl, const char *name, const struct subscriber_change *c,
	bool dry_run, struct subscriber *out, char api_key[API_KEY_BYTES], struct error *err)
{
	struct subscriber s = {.index = n_subs, .rate = c->rate, .burst = c->burst};

	if (subscribers_find(ctl, name, out) == 0)
		return error_set(err, -EEXIST, "there is a subscriber \"%s\" already", name);
	if (n_subs == MAX)
		return error_set(err, -ENOSPC, "no slot is free");
	snprintf(s.name, sizeof(s.name), "%s", name);
	snprintf(s.models, sizeof(s.models), "%s", c->models);
	*out = s;
	api_key[0] = 0;
	if (dry_run)
		return 0;
	snprintf(api_key, API_KEY_BYTES, "mr_new");
	subs[n_subs++] = s;
	return 0;
}

int subscribers_set(struct control *ctl, const char *name, const struct subscriber_change *c,
	bool dry_run, struct subscriber *out, struct error *err)
{
	if (subscribers_find(ctl, name, out))
		return error_set(err, -ENOENT, "no subscriber \"%s\"", name);
	if (c->has_rate)
		out->rate = c->rate;
	if (c->has_suspended)
		out->suspended = c->suspended;
	if (!dry_run)
		subs[out->index] = *out;
	return 0;
}

int subscribers_remove(struct control *ctl, const char *name, bool dry_run, struct error *err)
{
	struct subscriber s;

	if (subscribers_find(ctl, name, &s))
		return error_set(err, -ENOENT, "no subscriber \"%s\"", name);
	if (!dry_run && s.index == n_subs - 1)
		n_subs--;
	return 0;
}

int subscribers_each(struct control *ctl, int (*fn)(const struct subscriber *s, void *arg), void *arg)
{
	int rc = 0;

	(void)ctl;
	for (unsigned int i = 0; i < n_subs && rc == 0; i++)
		rc = fn(&subs[i], arg);
	return rc;
}

int plans_each(struct control *ctl, int (*fn)(const struct plan *p, void *arg), void *arg)
{
	static const struct plan demo = {.name = "demo", .rate = 200000, .burst = 2000};

	(void)ctl;
	return fn(&demo, arg);
}

int plans_set(struct control *ctl, const struct plan *p, bool dry_run, struct error *err)
{
	(void)ctl;
	(void)dry_run;
	return p->rate > 0 ? 0 : error_set(err, -EINVAL, "rate must be from 0.001 to 1e9");
}

int plans_remove(struct control *ctl, const char *name, bool dry_run, struct error *err)
{
	(void)ctl;
	(void)dry_run;
	return error_set(err, -EBUSY, "subscribers are on the plan \"%s\"", name);
}

void subscribers_apply_all(struct control *ctl)
{
	(void)ctl;
	t_applied++;
}

uint32_t subscribers_count(struct control *ctl)
{
	(void)ctl;
	return t_subscribers ? t_subscribers : n_subs;
}

double subscribers_total_rate(struct control *ctl)
{
	(void)ctl;
	return 200000;
}

/* -- sessions -------------------------------------------------------------------------------- */

struct issuing {
	struct session_grant grant;
	session_done_fn done;
	void *arg;
};

static void issued(evutil_socket_t fd, short what, void *arg)
{
	struct issuing *is = arg;

	(void)fd;
	(void)what;
	sessions[n_sessions++] = is->grant.info;
	is->done(0, &is->grant, NULL, is->arg);
	free(is);
}

int sessions_issue(struct control *ctl, uint32_t subscriber, const struct ip_addr *source, bool provisional,
	session_done_fn done, void *arg, struct error *err)
{
	struct timeval tv = {0, T_FACES_SESSION_DELAY_MS * 1000};
	struct issuing *is;

	if (n_sessions >= MAX - 1)
		return error_set(err, -EDQUOT, "too many sessions");
	(void)provisional;
	is = calloc(1, sizeof(*is));
	is->grant.info = (struct session_info){.session_id = next_session++, .key_id = 2871234,
		.subscriber = subscriber, .source = *source, .expires_in_s = 3600};
	is->grant.lanes = 1;
	memset(is->grant.secret, 0x5a, sizeof(is->grant.secret));
	is->done = done;
	is->arg = arg;
	return event_base_once(ctl->base, -1, EV_TIMEOUT, issued, is, &tv);
}

int sessions_renew(struct control *ctl, uint32_t subscriber, uint64_t session_id,
	int64_t *expires_in_s, struct error *err)
{
	(void)ctl;
	for (unsigned int i = 0; i < n_sessions; i++)
		if (sessions[i].session_id == session_id && sessions[i].subscriber == subscriber) {
			*expires_in_s = 3600;
			return 0;
		}
	return error_set(err, -ENOENT, "no such session");
}

int sessions_close(struct control *ctl, uint32_t subscriber, uint64_t session_id)
{
	(void)ctl;
	for (unsigned int i = 0; i < n_sessions; i++)
		if (sessions[i].session_id == session_id && sessions[i].subscriber == subscriber) {
			sessions[i] = sessions[--n_sessions];
			return 0;
		}
	return -ENOENT;
}

int sessions_each(struct control *ctl, int (*fn)(const struct session_info *s, void *arg), void *arg)
{
	int rc = 0;

	(void)ctl;
	for (unsigned int i = 0; i < n_sessions && rc == 0; i++)
		rc = fn(&sessions[i], arg);
	return rc;
}

uint32_t sessions_count(struct control *ctl, uint32_t subscriber)
{
	(void)ctl;
	(void)subscriber;
	return n_sessions;
}

/* -- models ---------------------------------------------------------------------------------- */

static const struct model_entry digits = {.index = 0, .name = "digits", .id = 123,
	.current = {.state = MODEL_LIVE, .number = 1, .version = 1, .bytes = 65536, .path = "/digits.mrm"},
	.header = {.max_rows = 256, .row_in_bytes = 256, .row_out_bytes = 40, .cost_units = 1,
		.n_inputs = 1, .n_outputs = 1,
		.inputs = {{.name = "x", .dtype = WIRE_F32, .rank = 1, .dims = {64}, .elements = 64,
			.row_bytes = 256}},
		.outputs = {{.name = "y", .dtype = WIRE_F32, .rank = 1, .dims = {10}, .elements = 10,
			.row_bytes = 40}}}};

const char *model_state_name(enum model_state s)
{
	return s == MODEL_LIVE ? "live" : "other";
}

struct loading {
	struct model_job job;
	struct event *timer;
	uint64_t done;
};

static void load_step(evutil_socket_t fd, short what, void *arg)
{
	struct loading *l = arg;

	(void)fd;
	(void)what;
	l->done += 1 << 20;
	l->job.progress(l->done, 4 << 20, "verifying", l->job.arg);
	if (l->done < 4 << 20)
		return;
	l->job.done(0, &digits, NULL, l->job.arg);
	event_free(l->timer);
	free(l);
	t_loading--;
}

int models_load(struct control *ctl, const char *path, const char *name, bool activate, bool dry_run,
	const struct model_job *job, struct error *err)
{
	struct timeval tv = {0, 60000};
	struct loading *l;

	(void)name;
	(void)activate;
	(void)dry_run;
	if (strstr(path, "missing"))
		return error_set(err, -ENOENT, "%s: No such file or directory", path);
	l = calloc(1, sizeof(*l));
	l->job = *job;
	l->timer = event_new(ctl->base, -1, EV_PERSIST, load_step, l);
	t_loading++;
	return event_add(l->timer, &tv);
}

static int change(const char *name, const struct model_job *job, struct error *err)
{
	if (strcmp(name, "digits"))
		return error_set(err, -ENOENT, "no model \"%s\"", name);
	job->done(0, &digits, NULL, job->arg);
	return 0;
}

int models_activate(struct control *ctl, const char *name, bool dry_run, const struct model_job *job,
	struct error *err)
{
	(void)ctl;
	(void)dry_run;
	return change(name, job, err);
}

int models_rollback(struct control *ctl, const char *name, bool dry_run, const struct model_job *job,
	struct error *err)
{
	(void)ctl;
	(void)dry_run;
	return change(name, job, err);
}

int models_unload(struct control *ctl, const char *name, bool dry_run, const struct model_job *job,
	struct error *err)
{
	(void)ctl;
	(void)dry_run;
	return change(name, job, err);
}

int models_cache(struct control *ctl, const char *name, const struct mailbox_cache *cache, bool dry_run,
	const struct model_job *job, struct error *err)
{
	(void)ctl;
	(void)cache;
	(void)dry_run;
	return change(name, job, err);
}

int traces_warm(struct control *ctl, const char *name, const char *path, const char *subscriber, bool dry_run,
	const struct trace_user *user, struct error *err)
{
	(void)ctl;
	(void)path;
	(void)subscriber;
	if (strcmp(name, "digits"))
		return error_set(err, -ENOENT, "model %s is not live", name);
	if (!dry_run)
		user->done(0, &(struct trace_result){.rows = 7, .kept = 6, .path = "/t.npy"}, err, user->arg);
	return dry_run;
}

int traces_record(struct control *ctl, const char *name, uint32_t rows, uint32_t seconds, const char *subscriber,
	bool dry_run, const struct trace_user *user, struct error *err)
{
	(void)rows;
	(void)seconds;
	return traces_warm(ctl, name, NULL, subscriber, dry_run, user, err);
}

const struct model_entry *models_find(struct control *ctl, const char *name)
{
	(void)ctl;
	return strcmp(name, "digits") ? NULL : &digits;
}

int models_each(struct control *ctl, int (*fn)(const struct model_entry *m, void *arg), void *arg)
{
	(void)ctl;
	return fn(&digits, arg);
}

uint32_t models_live(struct control *ctl)
{
	(void)ctl;
	return 1;
}

int models_mask(struct control *ctl, const char *names, uint64_t *mask, struct error *err)
{
	(void)ctl;
	(void)names;
	(void)err;
	*mask = 1;
	return 0;
}

/* -- dataplane, supervisor, limits ----------------------------------------------------------- */

const char *dp_state_name(enum dp_state s)
{
	static const char *const names[] = {"down", "starting", "attached", "ready", "hung"};

	return names[s];
}

enum dp_state dp_link_state(const struct control *ctl)
{
	(void)ctl;
	return DP_READY;
}

int32_t dp_link_pid(const struct control *ctl)
{
	(void)ctl;
	return 4711;
}

int dp_link_stats(const struct control *ctl, struct stats_region *out)
{
	(void)ctl;
	memset(out, 0, sizeof(*out));
	out->header.n_workers = 2;
	out->header.huge_pages = 1;
	out->workers[0].counters[STATS_RX] = 1000;
	out->workers[0].counters[STATS_REPLY_RESULT] = 900;
	out->workers[0].counters[STATS_DROP_AUTH] = 100;
	out->workers[0].service_ns[200] = 900;
	return 0;
}

const struct stats_region *dp_link_live(const struct control *ctl)
{
	static struct stats_region r;

	(void)ctl;
	for (int b = 0; b < 8; b++)
		r.costs[0][1].run_ns[b] = 12000u << b;
	snprintf(r.costs[0][1].kernels, sizeof(r.costs[0][1].kernels), "native avx512-vnni");
	r.costs[0][1].number = 1;
	return &r;
}

uint64_t dp_link_counter(const struct control *ctl, enum stats_counter c)
{
	(void)ctl;
	return c == STATS_DROP_AUTH ? 100 : c == STATS_REPLY_RESULT ? 900 : 0;
}

int dp_link_command(struct control *ctl, enum mailbox_command cmd, uint64_t a, uint64_t b,
	void (*acked)(int result, void *arg), void *arg)
{
	(void)ctl;
	(void)cmd;
	(void)b;
	(void)acked;
	(void)arg;
	t_commands++;
	t_last_command_a = a;
	return 0;
}

void supervisor_info(const struct control *ctl, struct supervisor_info *out)
{
	(void)ctl;
	memset(out, 0, sizeof(*out));
	out->starts = 1;
}

int supervisor_restart(struct control *ctl, struct error *err)
{
	(void)ctl;
	(void)err;
	return 0;
}

bool limits_table_is_memfd(const struct control *ctl)
{
	(void)ctl;
	return true;
}

uint32_t limits_table_slots(const struct control *ctl)
{
	(void)ctl;
	return 1024;
}

struct limit_slot *limits_table_slot(const struct control *ctl, uint32_t index)
{
	static struct limit_slot slot;

	(void)ctl;
	return index ? NULL : &slot;
}

uint32_t limits_table_boxed(const struct control *ctl, struct xdp_boxed *out, uint32_t max)
{
	(void)ctl;
	if (max)
		out[0] = (struct xdp_boxed){{{[10] = 0xff, 0xff, 10, 9, 8, 7}}, 5000000000ull, 1234};
	return max > 0;
}

void limits_table_xdp_counters(const struct control *ctl, uint64_t out[XDP_COUNTERS])
{
	(void)ctl;
	memset(out, 0, XDP_COUNTERS * sizeof(*out));
}

/* -- a worker at the other end of the gateway ------------------------------------------------ */

/* Answers each row with (sum of the row, 0, 0, ...); a row that begins with a negative number is over
 * the plan's rate. */
static void serve_slot(struct gateway_slot *slot)
{
	struct wire_request q;
	struct wire_reply r = {.segment_count = 1, .dtype = WIRE_F32, .detail = 1};
	float in[64], out[10];

	memcpy(&q, slot->request, sizeof(q));
	r.model_id = q.model_id;
	r.rows = q.rows;
	for (uint32_t row = 0; row < q.rows; row++) {
		memcpy(in, slot->request + sizeof(q) + row * sizeof(in), sizeof(in));
		memset(out, 0, sizeof(out));
		for (int i = 0; i < 64; i++)
			out[0] += in[i];
		if (in[0] < 0) {
			r = (struct wire_reply){.status = WIRE_RATE_LIMITED, .retry_after_us = 5000};
			break;
		}
		memcpy(slot->reply + sizeof(r) + row * sizeof(out), out, sizeof(out));
	}
	memcpy(slot->reply, &r, sizeof(r));
	slot->reply_bytes = (uint32_t)(sizeof(r) + r.rows * sizeof(out));
	__atomic_store_n(&slot->state, GATEWAY_ANSWERED, __ATOMIC_RELEASE);
}

static void worker_turn(evutil_socket_t fd, short what, void *arg)
{
	struct gateway_region *g = arg;

	(void)fd;
	(void)what;
	for (int i = 0; i < GATEWAY_SLOTS; i++)
		if (__atomic_load_n(&g->slots[i].state, __ATOMIC_ACQUIRE) == GATEWAY_SUBMITTED)
			serve_slot(&g->slots[i]);
}

int t_worker_init(struct control *ctl, struct error *err)
{
	struct timeval tv = {0, 1000};
	size_t bytes;
	void *map;
	int rc = gateway_init(ctl, err);

	if (!rc)
		rc = fd_region_map(gateway_fd(ctl), true, false, &map, &bytes, err);
	if (rc)
		return rc;
	worker = event_new(ctl->base, -1, EV_PERSIST, worker_turn, map);
	return event_add(worker, &tv);
}

void t_worker_uninit(struct control *ctl)
{
	if (worker)
		event_free(worker);
	gateway_uninit(ctl);
}
