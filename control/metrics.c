/* SPDX-License-Identifier: BSD-3-Clause
 * Prometheus metrics: see metrics.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>
#include <event2/http.h>

#include "base/clock.h"
#include "base/histogram.h"
#include "control/config.h"
#include "control/dp_link.h"
#include "control/https.h"
#include "control/license.h"
#include "control/limits_table.h"
#include "control/metrics.h"
#include "control/models.h"
#include "control/sessions.h"
#include "control/show.h"
#include "control/subscribers.h"
#include "control/supervisor.h"

enum { MAX_SUBSCRIBERS_SHOWN = 1000 }; /* labels must stay bounded */

static const struct {
	const char *name, *help;
} counters[STATS_COUNTERS] = {
#define X(sym, name, help) [STATS_##sym] = {name, help},
	STATS_COUNTER_LIST(X)
#undef X
}, xdp_counters[XDP_COUNTERS] = {
#define X(sym, name, help) {name, help},
	XDP_COUNTER_LIST(X)
#undef X
};

static const char *const stages[STATS_STAGES] = {
#define X(sym, name) [STATS_STAGE_##sym] = name,
	STATS_STAGE_LIST(X)
#undef X
};

static void head(struct evbuffer *out, const char *name, const char *type, const char *help)
{
	evbuffer_add_printf(out, "# HELP millrace_%s %s\n# TYPE millrace_%s %s\n", name, help, name,
		type);
}

static void value(struct evbuffer *out, const char *name, const char *type, const char *help,
	double v)
{
	head(out, name, type, help);
	evbuffer_add_printf(out, "millrace_%s %.17g\n", name, v);
}

/* A label value: backslash, quote and newline escaped as the format asks. */
static void label(struct evbuffer *out, const char *name, const char *text)
{
	evbuffer_add_printf(out, "%s=\"", name);
	for (; *text; text++) {
		if (*text == '\\' || *text == '"')
			evbuffer_add_printf(out, "\\%c", *text);
		else if (*text == '\n')
			evbuffer_add_printf(out, "\\n");
		else
			evbuffer_add(out, text, 1);
	}
	evbuffer_add_printf(out, "\"");
}

/* -- dataplane ------------------------------------------------------------------------------- */

static uint32_t n_workers(const struct stats_region *s)
{
	return s->header.n_workers < DP_MAX_WORKERS ? s->header.n_workers : DP_MAX_WORKERS;
}

static void write_counters(struct evbuffer *out, const struct stats_region *s)
{
	for (int c = 0; c < STATS_COUNTERS; c++) {
		char name[80];

		snprintf(name, sizeof(name), "%s_total", counters[c].name);
		head(out, name, "counter", counters[c].help);
		for (uint32_t w = 0; w < n_workers(s); w++)
			evbuffer_add_printf(out, "millrace_%s{worker=\"%u\"} %llu\n", name, w,
				(unsigned long long)s->workers[w].counters[c]);
	}
}

static void write_stages(struct evbuffer *out, const struct stats_region *s)
{
	head(out, "stage_cycles_total", "counter", "TSC cycles spent in each stage of the poll loop");
	for (uint32_t w = 0; w < n_workers(s); w++)
		for (int i = 0; i < STATS_STAGES; i++)
			evbuffer_add_printf(out,
				"millrace_stage_cycles_total{worker=\"%u\",stage=\"%s\"} %llu\n", w, stages[i],
				(unsigned long long)s->workers[w].stage_cycles[i]);
}

/* One bucket a power of two: bucket edges of the fine histogram, so the counts are exact. */
static void write_latency(struct evbuffer *out, const struct stats_region *s, uint32_t w)
{
	const uint64_t *b = s->workers[w].service_ns;
	uint64_t count = 0;
	double sum_ns = 0;

	for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
		count += b[i];
		sum_ns += (double)b[i] * (double)histogram_bucket_end(i);
		if (i % HISTOGRAM_SUB == HISTOGRAM_SUB - 1 && i >= 4 * HISTOGRAM_SUB &&
			i < 28 * HISTOGRAM_SUB)
			evbuffer_add_printf(out,
				"millrace_service_seconds_bucket{worker=\"%u\",le=\"%.9g\"} %llu\n", w,
				(double)(histogram_bucket_end(i) + 1) / 1e9, (unsigned long long)count);
	}
	evbuffer_add_printf(out,
		"millrace_service_seconds_bucket{worker=\"%u\",le=\"+Inf\"} %llu\n"
		"millrace_service_seconds_sum{worker=\"%u\"} %.9g\n"
		"millrace_service_seconds_count{worker=\"%u\"} %llu\n",
		w, (unsigned long long)count, w, sum_ns / 1e9, w, (unsigned long long)count);
}

static void write_batches(struct evbuffer *out, const struct stats_region *s, uint32_t w)
{
	uint64_t count = 0;

	for (uint32_t i = 0; i < 16; i++) {
		count += s->workers[w].batch_rows[i];
		if (i < 15)
			evbuffer_add_printf(out,
				"millrace_batch_rows_bucket{worker=\"%u\",le=\"%u\"} %llu\n", w, (2u << i) - 1,
				(unsigned long long)count);
	}
	evbuffer_add_printf(out,
		"millrace_batch_rows_bucket{worker=\"%u\",le=\"+Inf\"} %llu\n"
		"millrace_batch_rows_sum{worker=\"%u\"} %llu\nmillrace_batch_rows_count{worker=\"%u\"} %llu\n",
		w, (unsigned long long)count, w,
		(unsigned long long)s->workers[w].counters[STATS_ROWS], w, (unsigned long long)count);
}

static void write_workers(struct evbuffer *out, const struct stats_region *s)
{
	uint64_t now = clock_now_ns();

	write_counters(out, s);
	write_stages(out, s);
	head(out, "service_seconds", "histogram", "burst received to reply queued (sum from bucket ends)");
	for (uint32_t w = 0; w < n_workers(s); w++)
		write_latency(out, s, w);
	head(out, "batch_rows", "histogram", "rows of each batch that was run");
	for (uint32_t w = 0; w < n_workers(s); w++)
		write_batches(out, s, w);
	head(out, "worker_heartbeat_age_seconds", "gauge", "time since the worker last read the clock");
	for (uint32_t w = 0; w < n_workers(s); w++) {
		uint64_t beat = s->workers[w].heartbeat_ns;

		evbuffer_add_printf(out, "millrace_worker_heartbeat_age_seconds{worker=\"%u\"} %.6f\n", w,
			now > beat ? (double)(now - beat) / 1e9 : 0.0);
	}
	value(out, "huge_pages", "gauge", "1 = the dataplane's memory is on huge pages",
		s->header.huge_pages);
	head(out, "port_info", "gauge", "data ports; always 1");
	for (uint32_t i = 0; i < s->header.n_ports && i < DP_MAX_PORTS; i++) {
		char device[65];

		snprintf(device, sizeof(device), "%.64s", s->header.ports[i].device);
		evbuffer_add_printf(out, "millrace_port_info{");
		label(out, "device", device);
		evbuffer_add_printf(out, ",xdp=\"%s\"} 1\n", show_xdp_mode(s->header.ports[i].xdp_mode));
	}
}

static void write_dataplane(struct evbuffer *out, struct control *ctl)
{
	enum dp_state now = dp_link_state(ctl);
	struct supervisor_info s;

	head(out, "dataplane_state", "gauge", "1 for the state the dataplane is in");
	for (int i = DP_DOWN; i <= DP_HUNG; i++)
		evbuffer_add_printf(out, "millrace_dataplane_state{state=\"%s\"} %d\n",
			dp_state_name((enum dp_state)i), i == (int)now);
	supervisor_info(ctl, &s);
	value(out, "dataplane_starts_total", "counter", "dataplanes started or adopted", s.starts);
	value(out, "dataplane_crashes_total", "counter", "dataplanes that died", s.crashes);
	value(out, "dataplane_hangs_total", "counter", "dataplanes killed because they hung", s.hangs);
	value(out, "dataplane_last_restart_seconds", "gauge",
		"death noticed to all workers polling again, last time", s.last_restart_ms / 1e3);
}

static void write_xdp(struct evbuffer *out, struct control *ctl)
{
	uint64_t v[XDP_COUNTERS] = {0};

	limits_table_xdp_counters(ctl, v);
	for (int c = 0; c < XDP_COUNTERS; c++) {
		char name[80];

		snprintf(name, sizeof(name), "xdp_%s_total", xdp_counters[c].name);
		value(out, name, "counter", xdp_counters[c].help, (double)v[c]);
	}
	value(out, "limits_memfd", "gauge", "1 = limits are in shared memory, without XDP in front",
		limits_table_is_memfd(ctl));
}

/* -- models, subscribers --------------------------------------------------------------------- */

struct page {
	struct evbuffer *out;
	struct control *ctl;
	const struct stats_region *stats; /* NULL = no dataplane yet */
	unsigned int shown;
	int what;
};

enum { MODEL_LIVE_GAUGE, MODEL_BYTES, MODEL_REQUESTS, MODEL_ROWS, MODEL_CYCLES, MODEL_CACHE_BYTES,
	MODEL_CACHE_ENTRIES, MODEL_CACHE_HITS, MODEL_CACHE_MISSES, MODEL_CACHE_EXPIRED, MODEL_CACHE_EVICTED,
	MODEL_METRICS };

static uint64_t cache_value(const struct stats_region *s, uint32_t index, int what)
{
	const struct stats_cache *c = s && index < DP_MAX_MODELS ? &s->caches[index] : NULL;

	if (!c)
		return 0;
	return what == MODEL_CACHE_BYTES     ? c->bytes
	       : what == MODEL_CACHE_ENTRIES ? c->entries
	       : what == MODEL_CACHE_HITS    ? c->hits
	       : what == MODEL_CACHE_MISSES  ? c->misses
	       : what == MODEL_CACHE_EXPIRED ? c->expired
					     : c->evicted;
}

static uint64_t model_sum(const struct stats_region *s, uint32_t index, int what)
{
	uint64_t sum = 0;

	for (uint32_t w = 0; s && w < n_workers(s) && index < DP_MAX_MODELS; w++) {
		const struct stats_model *m = &s->workers[w].models[index];

		sum += what == MODEL_REQUESTS ? m->requests : what == MODEL_ROWS ? m->rows : m->infer_cycles;
	}
	return sum;
}

static int write_model(const struct model_entry *m, void *arg)
{
	static const char *const names[MODEL_METRICS] = {"model_live", "model_bytes",
		"model_requests_total", "model_rows_total", "model_infer_cycles_total", "model_cache_bytes",
		"model_cache_entries", "model_cache_hits_total", "model_cache_misses_total",
		"model_cache_expired_total", "model_cache_evicted_total"};
	struct page *p = arg;
	uint64_t v = p->what == MODEL_LIVE_GAUGE ? m->current.state == MODEL_LIVE
		     : p->what == MODEL_BYTES  ? m->current.bytes
		     : p->what < MODEL_CACHE_BYTES ? model_sum(p->stats, m->index, p->what)
						   : cache_value(p->stats, m->index, p->what);

	evbuffer_add_printf(p->out, "millrace_%s{", names[p->what]);
	label(p->out, "model", m->name);
	evbuffer_add_printf(p->out, ",version=\"%u\"} %llu\n", m->current.version,
		(unsigned long long)v);
	return 0;
}

static void write_models(struct page *p)
{
	static const struct {
		const char *name, *type, *help;
	} metrics[MODEL_METRICS] = {{"model_live", "gauge", "1 = the model is live"},
		{"model_bytes", "gauge", "size of the current artifact"},
		{"model_requests_total", "counter", "requests answered with a result"},
		{"model_rows_total", "counter", "rows answered with a result"},
		{"model_infer_cycles_total", "counter", "TSC cycles spent in the model"},
		{"model_cache_bytes", "gauge", "memory of the model's response caches"},
		{"model_cache_entries", "gauge", "rows whose answers are kept"},
		{"model_cache_hits_total", "counter", "rows answered from the response cache"},
		{"model_cache_misses_total", "counter", "rows that had to be computed"},
		{"model_cache_expired_total", "counter", "of these, rows that were kept but too old"},
		{"model_cache_evicted_total", "counter", "kept rows that gave way to others"}};

	for (p->what = 0; p->what < MODEL_METRICS; p->what++) {
		head(p->out, metrics[p->what].name, metrics[p->what].type, metrics[p->what].help);
		models_each(p->ctl, write_model, p);
	}
}

static int write_subscriber(const struct subscriber *s, void *arg)
{
	static const char *const names[] = {"subscriber_units_total", "subscriber_rate",
		"subscriber_sessions"};
	struct page *p = arg;
	double v = p->what == 0 ? (double)s->units : p->what == 1 ? s->rate : s->sessions;

	if (p->shown++ >= MAX_SUBSCRIBERS_SHOWN)
		return 1;
	evbuffer_add_printf(p->out, "millrace_%s{", names[p->what]);
	label(p->out, "subscriber", s->name);
	evbuffer_add_printf(p->out, "} %.17g\n", v);
	return 0;
}

static void write_subscribers(struct page *p)
{
	static const struct {
		const char *name, *type, *help;
	} metrics[] = {{"subscriber_units_total", "counter", "limiter units admitted (first 1000)"},
		{"subscriber_rate", "gauge", "limiter units a second of the plan"},
		{"subscriber_sessions", "gauge", "live sessions"}};

	for (p->what = 0; p->what < 3; p->what++) {
		p->shown = 0;
		head(p->out, metrics[p->what].name, metrics[p->what].type, metrics[p->what].help);
		subscribers_each(p->ctl, write_subscriber, p);
	}
	value(p->out, "subscribers", "gauge", "subscribers", subscribers_count(p->ctl));
	value(p->out, "sessions", "gauge", "live sessions", sessions_count(p->ctl, UINT32_MAX));
}

static void write_license(struct evbuffer *out, struct control *ctl)
{
	struct license_info i;

	license_info(ctl, &i);
	head(out, "license_state", "gauge", "1 for the state the licence is in");
	for (int s = LICENSE_NONE; s <= LICENSE_INVALID; s++)
		evbuffer_add_printf(out, "millrace_license_state{state=\"%s\"} %d\n",
			license_state_name((enum license_state)s), s == (int)i.state);
	value(out, "license_expiry_timestamp_seconds", "gauge", "when the licence ends, 0 = none",
		(double)i.not_after_wall_s);
	value(out, "license_subscribers", "gauge", "subscribers the licence allows", i.subscribers);
	value(out, "license_models", "gauge", "models the licence allows", i.models);
}

int metrics_write(struct control *ctl, struct evbuffer *out)
{
	struct stats_region *stats = malloc(sizeof(*stats));
	struct page page = {.out = out, .ctl = ctl};
	uint64_t turned_away;
	uint32_t open;

	if (!stats)
		return -ENOMEM;
	head(out, "build_info", "gauge", "version; always 1");
	evbuffer_add_printf(out, "millrace_build_info{version=\"%s\"} 1\n", MILLRACE_VERSION);
	value(out, "start_time_seconds", "gauge", "when control started", (double)ctl->started_wall_s);
	if (dp_link_stats(ctl, stats) == 0) {
		page.stats = stats;
		write_workers(out, stats);
	}
	write_dataplane(out, ctl);
	write_xdp(out, ctl);
	write_models(&page);
	write_subscribers(&page);
	write_license(out, ctl);
	https_connections(ctl, &open, &turned_away);
	value(out, "https_connections", "gauge", "HTTPS connections open", open);
	value(out, "https_turned_away_total", "counter", "HTTPS connections cut: caps and deadlines",
		(double)turned_away);
	free(stats);
	return 0;
}

void metrics_reply(struct control *ctl, struct evhttp_request *req)
{
	struct evbuffer *out = evhttp_request_get_output_buffer(req);

	if (metrics_write(ctl, out)) {
		evhttp_send_reply(req, 503, "Service Unavailable", NULL);
		return;
	}
	evhttp_add_header(evhttp_request_get_output_headers(req), "Content-Type",
		"text/plain; version=0.0.4; charset=utf-8");
	evhttp_add_header(evhttp_request_get_output_headers(req), "Cache-Control", "no-store");
	evhttp_send_reply(req, 200, "OK", NULL);
}
