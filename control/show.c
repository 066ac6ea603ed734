/* SPDX-License-Identifier: BSD-3-Clause
 * JSON for operators: see show.h. The dataplane's figures are in show_stats.c.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "control/audit.h"
#include "control/config.h"
#include "control/dp_link.h"
#include "control/https.h"
#include "control/ip_text.h"
#include "control/license.h"
#include "control/license_file.h"
#include "control/limits_table.h"
#include "control/sessions.h"
#include "control/show.h"
#include "control/supervisor.h"

static json_t *text(const char *s)
{
	json_t *v = json_string(s ? s : "");

	return v ? v : json_string("(not UTF-8)");
}

static json_t *number(uint64_t v)
{
	return json_integer((json_int_t)v);
}

static json_t *hex(const uint8_t *bytes, size_t n)
{
	char out[129];

	for (size_t i = 0; i < n && i < 64; i++)
		snprintf(out + 2 * i, 3, "%02x", bytes[i]);
	return json_string(out);
}

/* "a,b" -> ["a", "b"]; empty -> [] (which stands for all). */
static json_t *name_list(const char *names)
{
	json_t *list = json_array();

	while (*names) {
		size_t n = strcspn(names, ",");

		json_array_append_new(list, json_stringn(names, n));
		names += n + (names[n] == ',');
	}
	return list;
}

/* -- models ---------------------------------------------------------------------------------- */

json_t *show_model_ios(const struct model_file_io *io, uint32_t n, bool batch_dim)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < n && i < MODEL_FILE_MAX_IO; i++) {
		json_t *shape = json_array(), *o = json_object();
		char name[sizeof(io->name) + 1];

		snprintf(name, sizeof(name), "%.*s", (int)sizeof(io[i].name), io[i].name);
		if (batch_dim)
			json_array_append_new(shape, json_integer(-1));
		for (uint32_t d = 0; d < io[i].rank && d < MODEL_FILE_MAX_RANK; d++)
			json_array_append_new(shape, number(io[i].dims[d]));
		json_object_set_new(o, "name", text(name));
		json_object_set_new(o, "datatype", text(wire_dtype_name(io[i].dtype)));
		json_object_set_new(o, "shape", shape);
		json_array_append_new(list, o);
	}
	return list;
}

static json_t *model_version(const struct model_version *v)
{
	json_t *o;

	if (v->state == MODEL_EMPTY)
		return json_null();
	o = json_object();
	json_object_set_new(o, "state", text(model_state_name(v->state)));
	json_object_set_new(o, "version", number(v->version));
	json_object_set_new(o, "number", number(v->number));
	json_object_set_new(o, "artifact_id", hex(v->artifact_id, sizeof(v->artifact_id)));
	json_object_set_new(o, "bytes", number(v->bytes));
	json_object_set_new(o, "huge_pages", json_boolean(v->huge_pages));
	json_object_set_new(o, "signed", json_boolean(v->signed_ok));
	json_object_set_new(o, "load_s", json_real(v->load_s));
	json_object_set_new(o, "load_gb_s", json_real(v->load_gb_s));
	json_object_set_new(o, "note", text(v->note));
	json_object_set_new(o, "path", text(v->path));
	return o;
}

static json_t *model_cache(const struct mailbox_cache *c)
{
	return c->memory_kb ? json_pack("{s:I, s:I, s:b}", "memory_kb", (json_int_t)c->memory_kb, "ttl_ms",
		(json_int_t)c->ttl_ms, "shared", c->shared) : json_null();
}

json_t *show_model(const struct model_entry *m)
{
	json_t *o = json_object();

	json_object_set_new(o, "name", text(m->name));
	json_object_set_new(o, "id", number(m->id));
	json_object_set_new(o, "index", number(m->index));
	json_object_set_new(o, "current", model_version(&m->current));
	json_object_set_new(o, "next", model_version(&m->next));
	json_object_set_new(o, "previous", model_version(&m->previous));
	json_object_set_new(o, "max_rows", number(m->header.max_rows));
	json_object_set_new(o, "cost_units", number(m->header.cost_units));
	json_object_set_new(o, "cache", model_cache(&m->cache));
	json_object_set_new(o, "inputs", show_model_ios(m->header.inputs, m->header.n_inputs, false));
	json_object_set_new(o, "outputs", show_model_ios(m->header.outputs, m->header.n_outputs, false));
	return o;
}

struct model_list {
	struct control *ctl;
	json_t *list;
};

static int add_model(const struct model_entry *m, void *arg)
{
	static const char *const slots[] = {"next", "current", "previous"};
	struct model_list *l = arg;
	json_t *o = show_model(m);

	for (int i = 0; i < 3; i++) {
		json_t *v = json_object_get(o, slots[i]);
		uint64_t n = (uint64_t)json_integer_value(json_object_get(v, "number"));

		if (!json_is_object(v))
			continue;
		json_object_set_new(v, "run_ns", show_cost(l->ctl, m->index, n));
		json_object_set_new(v, "kernels", show_kernels(l->ctl, m->index, n));
	}
	if (m->cache.memory_kb)
		json_object_update_new(json_object_get(o, "cache"), show_cache(l->ctl, m->index));
	return json_array_append_new(l->list, o);
}

json_t *show_models(struct control *ctl)
{
	json_t *list = json_array();
	struct model_list l = {ctl, list};

	models_each(ctl, add_model, &l);
	return json_pack("{s:o}", "models", list);
}

/* -- subscribers, plans, sessions ------------------------------------------------------------ */

json_t *show_subscriber(const struct subscriber *s)
{
	json_t *o = json_object();

	json_object_set_new(o, "name", text(s->name));
	json_object_set_new(o, "index", number(s->index));
	json_object_set_new(o, "plan", text(s->plan));
	json_object_set_new(o, "rate", json_real(s->rate));
	json_object_set_new(o, "burst", json_real(s->burst));
	json_object_set_new(o, "models", name_list(s->models));
	json_object_set_new(o, "suspended", json_boolean(s->suspended));
	json_object_set_new(o, "units", number(s->units));
	json_object_set_new(o, "month_units", number(s->month_units));
	json_object_set_new(o, "quota", number(s->quota));
	json_object_set_new(o, "quota_spent", json_boolean(s->quota_spent));
	json_object_set_new(o, "created", json_integer(s->created_wall_s));
	json_object_set_new(o, "sessions", number(s->sessions));
	return o;
}

static int add_subscriber(const struct subscriber *s, void *arg)
{
	return json_array_append_new(arg, show_subscriber(s));
}

json_t *show_subscribers(struct control *ctl)
{
	json_t *list = json_array();

	subscribers_each(ctl, add_subscriber, list);
	return json_pack("{s:o}", "subscribers", list);
}

json_t *show_plan(const struct plan *p)
{
	json_t *o = json_object();

	json_object_set_new(o, "name", text(p->name));
	json_object_set_new(o, "rate", json_real(p->rate));
	json_object_set_new(o, "burst", json_real(p->burst));
	json_object_set_new(o, "models", name_list(p->models));
	json_object_set_new(o, "weight", number(p->weight ? p->weight : 1));
	json_object_set_new(o, "concurrent", number(p->concurrent));
	json_object_set_new(o, "quota", number(p->quota));
	return o;
}

static int add_plan(const struct plan *p, void *arg)
{
	return json_array_append_new(arg, show_plan(p));
}

json_t *show_plans(struct control *ctl)
{
	json_t *list = json_array();

	plans_each(ctl, add_plan, list);
	return json_pack("{s:o}", "plans", list);
}

struct session_list {
	struct control *ctl;
	json_t *list;
	uint32_t limit;
};

static int add_session(const struct session_info *s, void *arg)
{
	struct session_list *l = arg;
	char id[20], source[IP_TEXT_BYTES];
	struct subscriber sub;
	json_t *o;

	if (json_array_size(l->list) >= l->limit)
		return 1;
	snprintf(id, sizeof(id), "%016llx", (unsigned long long)s->session_id);
	ip_format(&s->source, source);
	o = json_object();
	json_object_set_new(o, "session_id", text(id));
	json_object_set_new(o, "key_id", number(s->key_id));
	json_object_set_new(o, "subscriber",
		text(subscribers_by_index(l->ctl, s->subscriber, &sub) == 0 ? sub.name : ""));
	json_object_set_new(o, "source", text(source));
	json_object_set_new(o, "expires_in_s", json_integer(s->expires_in_s));
	return json_array_append_new(l->list, o);
}

json_t *show_sessions(struct control *ctl, uint32_t limit)
{
	struct session_list l = {ctl, json_array(), limit};

	sessions_each(ctl, add_session, &l);
	return json_pack("{s:I, s:o}", "total", (json_int_t)sessions_count(ctl, UINT32_MAX), "sessions",
		l.list);
}

/* -- limits ---------------------------------------------------------------------------------- */

static int add_limit(const struct subscriber *s, void *arg)
{
	struct session_list *l = arg;
	const struct limit_slot *slot = limits_table_slot(l->ctl, s->index);
	uint64_t now_ticks = clock_now_ns() << LIMITS_TICK_SHIFT, tat, interval, burst;
	double used = 0;
	json_t *o = json_object();

	json_object_set_new(o, "name", text(s->name));
	json_object_set_new(o, "index", number(s->index));
	json_object_set_new(o, "rate", json_real(s->rate));
	json_object_set_new(o, "burst", json_real(s->burst));
	if (slot) {
		tat = limits_load(&slot->tat_ticks);
		interval = limits_load(&slot->interval_ticks);
		burst = limits_load(&slot->burst_ticks);
		if (tat > now_ticks && burst)
			used = (double)(tat - now_ticks) / (double)burst;
		json_object_set_new(o, "slot_rate",
			json_real(interval ? (double)(NS_PER_S << LIMITS_TICK_SHIFT) / (double)interval : 0));
		json_object_set_new(o, "burst_used", json_real(used > 1 ? 1 : used));
		json_object_set_new(o, "units_admitted", number(limits_load(&slot->units_admitted)));
		json_object_set_new(o, "blocked", json_boolean(slot->flags & LIMIT_BLOCKED));
		json_object_set_new(o, "model_mask", hex((const uint8_t *)&(uint64_t){
			__builtin_bswap64(slot->model_mask)}, 8));
	}
	return json_array_append_new(l->list, o);
}

json_t *show_limits(struct control *ctl)
{
	struct session_list l = {ctl, json_array(), 0};

	subscribers_each(ctl, add_limit, &l);
	/* at_ns goes with units_admitted: two answers make a rate, whatever the way here took. */
	return json_pack("{s:I, s:I, s:s, s:o}", "at_ns", (json_int_t)clock_now_ns(), "slots",
		(json_int_t)limits_table_slots(ctl), "kind",
		limits_table_is_memfd(ctl) ? "memfd" : "bpf map", "subscribers", l.list);
}

/* -- licence --------------------------------------------------------------------------------- */

json_t *show_license(struct control *ctl)
{
	struct license_info i;
	char from[24] = "", until[24] = "";
	json_t *o = json_object();
	double days = 0;

	license_info(ctl, &i);
	if (i.not_after_wall_s) {
		license_time_format(i.not_before_wall_s, from);
		license_time_format(i.not_after_wall_s, until);
		days = (double)(i.not_after_wall_s - clock_wall_s()) / 86400.0;
	}
	json_object_set_new(o, "state", text(license_state_name(i.state)));
	json_object_set_new(o, "reason", text(i.reason));
	json_object_set_new(o, "id", text(i.id));
	json_object_set_new(o, "customer", text(i.customer));
	json_object_set_new(o, "edition", text(i.edition));
	json_object_set_new(o, "not_before", text(from));
	json_object_set_new(o, "not_after", text(until));
	json_object_set_new(o, "days_left", json_real(days));
	json_object_set_new(o, "subscribers", number(i.subscribers));
	json_object_set_new(o, "models", number(i.models));
	json_object_set_new(o, "total_rate", json_real(i.total_rate));
	json_object_set_new(o, "used", json_pack("{s:I, s:I, s:f}", "subscribers",
		(json_int_t)subscribers_count(ctl), "models", (json_int_t)models_live(ctl), "total_rate",
		subscribers_total_rate(ctl)));
	return o;
}

/* -- status ---------------------------------------------------------------------------------- */

void show_rate_sample(struct show_rate *r, struct control *ctl)
{
	uint64_t now = clock_now_ns(), count = dp_link_counter(ctl, STATS_REPLY_RESULT);

	if (r->last_ns && now > r->last_ns && count >= r->last_count)
		r->per_s = (double)(count - r->last_count) * 1e9 / (double)(now - r->last_ns);
	r->last_count = count;
	r->last_ns = now;
}

static json_t *status_dataplane(struct control *ctl)
{
	struct supervisor_info s;
	json_t *o = json_object();

	supervisor_info(ctl, &s);
	json_object_set_new(o, "state", text(dp_state_name(dp_link_state(ctl))));
	json_object_set_new(o, "pid", json_integer(dp_link_pid(ctl)));
	json_object_set_new(o, "starts", number(s.starts));
	json_object_set_new(o, "crashes", number(s.crashes));
	json_object_set_new(o, "hangs", number(s.hangs));
	json_object_set_new(o, "last_restart_ms", json_real(s.last_restart_ms));
	json_object_set_new(o, "adopted", json_boolean(s.adopted));
	json_object_set_new(o, "brake", json_boolean(s.brake));
	json_object_set_new(o, "last_exit", text(s.last_exit));
	return o;
}

const char *show_xdp_mode(uint32_t mode)
{
	static const char *const names[] = {"none", "native", "generic", "hardware"};

	return mode < sizeof(names) / sizeof(names[0]) ? names[mode] : "unknown";
}

static void add_fallback(json_t *list, const char *what)
{
	json_array_append_new(list, text(what));
}

/* Configured ports, with what the running dataplane made of them. */
static json_t *status_ports(struct control *ctl, const struct stats_header *h, json_t *fallbacks)
{
	const struct config *c = ctl->config;
	json_t *list = json_array();

	for (uint32_t i = 0; i < c->ports_count; i++) {
		const struct config_port *p = &c->ports[i];
		json_t *o = json_object();
		char mac[18];

		json_object_set_new(o, "device", text(p->device));
		json_object_set_new(o, "kind", text(p->kind));
		json_object_set_new(o, "ipv4", text(p->ipv4));
		json_object_set_new(o, "ipv6", text(p->ipv6));
		json_object_set_new(o, "udp_port", number(p->udp_port));
		json_object_set_new(o, "queues", number(p->queues));
		if (h && i < h->n_ports && i < DP_MAX_PORTS) {
			const struct stats_port *s = &h->ports[i];

			snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", s->mac[0], s->mac[1],
				s->mac[2], s->mac[3], s->mac[4], s->mac[5]);
			json_object_set_new(o, "xdp_mode", text(show_xdp_mode(s->xdp_mode)));
			json_object_set_new(o, "mac", text(mac));
			json_object_set_new(o, "mtu", number(s->mtu));
			if (s->xdp_mode == 2)
				add_fallback(fallbacks, "generic XDP: the driver has no native mode");
		}
		json_array_append_new(list, o);
	}
	return list;
}

static void status_memory(struct control *ctl, const struct stats_header *h, json_t *o,
	json_t *fallbacks)
{
	bool huge = h && h->huge_pages;

	json_object_set_new(o, "huge_pages", h ? json_boolean(huge) : json_null());
	if (h && !huge)
		add_fallback(fallbacks, "normal pages: the dataplane got no huge pages");
	json_object_set_new(o, "limits", json_pack("{s:I, s:s}", "slots",
		(json_int_t)limits_table_slots(ctl), "kind",
		limits_table_is_memfd(ctl) ? "memfd" : "bpf map"));
	if (limits_table_is_memfd(ctl))
		add_fallback(fallbacks, "limits in a memfd: no BPF, so no XDP filter in front");
}

static int count_models(const struct model_entry *m, void *arg)
{
	(void)m;
	++*(json_int_t *)arg;
	return 0;
}

static void status_service(struct control *ctl, const struct show_rate *rate, json_t *o)
{
	json_int_t models = 0;

	models_each(ctl, count_models, &models);
	json_object_set_new(o, "models", json_pack("{s:I, s:I}", "live", (json_int_t)models_live(ctl),
		"known", models));
	json_object_set_new(o, "cache", show_cache(ctl, SHOW_ALL_MODELS));
	json_object_set_new(o, "subscribers", number(subscribers_count(ctl)));
	json_object_set_new(o, "sessions", number(sessions_count(ctl, UINT32_MAX)));
	json_object_set_new(o, "answered_total", number(dp_link_counter(ctl, STATS_REPLY_RESULT)));
	json_object_set_new(o, "answered_per_s", json_real(rate ? rate->per_s : 0));
	json_object_set_new(o, "drops_total", number(show_drops_total(ctl)));
}

json_t *show_status(struct control *ctl, const struct show_rate *rate)
{
	struct stats_region *stats = malloc(sizeof(*stats));
	const struct stats_header *h;
	json_t *o = json_object(), *fallbacks = json_array();
	char fingerprint[65] = "";

	if (!stats || !o || !fallbacks) {
		free(stats);
		json_decref(o);
		json_decref(fallbacks);
		return NULL;
	}
	h = dp_link_stats(ctl, stats) == 0 && dp_link_pid(ctl) ? &stats->header : NULL;
	https_fingerprint(ctl, fingerprint);
	json_object_set_new(o, "version", text(MILLRACE_VERSION));
	json_object_set_new(o, "instance", text(ctl->config->instance));
	json_object_set_new(o, "uptime_s", json_integer(clock_wall_s() - ctl->started_wall_s));
	json_object_set_new(o, "dataplane", status_dataplane(ctl));
	json_object_set_new(o, "poll", show_poll(h ? stats : NULL));
	json_object_set_new(o, "ports", status_ports(ctl, h, fallbacks));
	status_memory(ctl, h, o, fallbacks);
	json_object_set_new(o, "license", show_license(ctl));
	status_service(ctl, rate, o);
	json_object_set_new(o, "fallbacks", fallbacks);
	json_object_set_new(o, "https", json_pack("{s:o, s:o}", "listen", text(ctl->config->https.listen),
		"fingerprint", text(fingerprint)));
	json_object_set_new(o, "run_dir", text(ctl->config->run_dir));
	json_object_set_new(o, "state_dir", text(ctl->config->state_dir));
	free(stats);
	return o;
}
