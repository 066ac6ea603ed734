/* SPDX-License-Identifier: BSD-3-Clause
 * The dataplane's figures as JSON for operators: workers, drops, and raw counters for `top`. See show.h.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/histogram.h"
#include "control/attach.h"
#include "control/dp_link.h"
#include "control/ip_text.h"
#include "control/limits_table.h"
#include "control/show.h"

struct named {
	const char *name, *help;
};

static const struct named counters[STATS_COUNTERS] = {
#define X(sym, name, help) [STATS_##sym] = {name, help},
	STATS_COUNTER_LIST(X)
#undef X
};

static const char *const stages[STATS_STAGES] = {
#define X(sym, name) [STATS_STAGE_##sym] = name,
	STATS_STAGE_LIST(X)
#undef X
};

static const struct named xdp_counters[XDP_COUNTERS] = {
#define X(sym, name, help) {name, help},
	XDP_COUNTER_LIST(X)
#undef X
};

enum { FIRST_DROP = STATS_DROP_L2, LAST_DROP = STATS_DROP_HANDOVER,
	FIRST_XDP_DROP = XDP_COUNT_MALFORMED, BOXED_SHOWN = 32 };

static json_t *number(uint64_t v)
{
	return json_integer((json_int_t)v);
}

static uint32_t n_workers(const struct stats_region *s)
{
	return s->header.n_workers < DP_MAX_WORKERS ? s->header.n_workers : DP_MAX_WORKERS;
}

/* The region as it is now, or NULL; caller frees. */
static struct stats_region *copy_stats(struct control *ctl)
{
	struct stats_region *s = malloc(sizeof(*s));

	if (s && dp_link_stats(ctl, s) == 0)
		return s;
	free(s);
	return NULL;
}

uint64_t show_drops_total(struct control *ctl)
{
	uint64_t xdp[XDP_COUNTERS] = {0}, sum = 0;

	for (int c = FIRST_DROP; c <= LAST_DROP; c++)
		sum += dp_link_counter(ctl, (enum stats_counter)c);
	limits_table_xdp_counters(ctl, xdp);
	for (int c = FIRST_XDP_DROP; c < XDP_COUNTERS; c++)
		sum += xdp[c];
	return sum;
}

static json_t *drop(const struct named *n, uint64_t count)
{
	return json_pack("{s:s, s:I, s:s}", "name", n->name, "count", (json_int_t)count, "help", n->help);
}

/* Who is in the penalty box, the busiest first. */
static json_t *boxed(const struct control *ctl)
{
	struct xdp_boxed list[BOXED_SHOWN];
	uint32_t n = limits_table_boxed(ctl, list, BOXED_SHOWN);
	json_t *out = json_array();

	for (uint32_t i = 0; i < n; i++) {
		char source[IP_TEXT_BYTES];

		ip_format(&list[i].source, source);
		json_array_append_new(out, json_pack("{s:s, s:f, s:I}", "source", source, "left_s",
			(double)list[i].left_ns / 1e9, "packets", (json_int_t)list[i].packets));
	}
	return out;
}

json_t *show_drops(struct control *ctl)
{
	json_t *dp = json_array(), *front = json_array();
	uint64_t xdp[XDP_COUNTERS] = {0};

	for (int c = FIRST_DROP; c <= LAST_DROP; c++)
		json_array_append_new(dp, drop(&counters[c], dp_link_counter(ctl, (enum stats_counter)c)));
	limits_table_xdp_counters(ctl, xdp);
	for (int c = FIRST_XDP_DROP; c < XDP_COUNTERS; c++)
		json_array_append_new(front, drop(&xdp_counters[c], xdp[c]));
	return json_pack("{s:o, s:o, s:o, s:I}", "dataplane", dp, "xdp", front, "boxed", boxed(ctl), "total",
		(json_int_t)show_drops_total(ctl));
}

static json_t *stage_cycles(const struct stats_worker *w)
{
	json_t *o = json_object();

	for (int i = 0; i < STATS_STAGES; i++)
		json_object_set_new(o, stages[i], number(w->stage_cycles[i]));
	return o;
}

static const char *worker_state(uint32_t s)
{
	static const char *const names[] = {"starting", "polling", "stopped"};

	return s < 3 ? names[s] : "?";
}

static json_t *worker(const struct stats_worker *w, uint32_t index)
{
	json_t *o = json_object();
	uint64_t now = clock_now_ns();

	json_object_set_new(o, "worker", number(index));
	json_object_set_new(o, "cpu", number(w->cpu));
	json_object_set_new(o, "port", number(w->port));
	json_object_set_new(o, "queue", number(w->queue));
	json_object_set_new(o, "state", json_string(worker_state(w->state)));
	json_object_set_new(o, "heartbeat_age_us",
		number(now > w->heartbeat_ns ? (now - w->heartbeat_ns) / 1000 : 0));
	json_object_set_new(o, "rx", number(w->counters[STATS_RX]));
	json_object_set_new(o, "tx", number(w->counters[STATS_TX]));
	json_object_set_new(o, "completed", number(w->counters[STATS_COMPLETED]));
	json_object_set_new(o, "results", number(w->counters[STATS_REPLY_RESULT]));
	json_object_set_new(o, "rows", number(w->counters[STATS_ROWS]));
	json_object_set_new(o, "batches", number(w->counters[STATS_BATCHES]));
	json_object_set_new(o, "sleeps", number(w->counters[STATS_SLEEPS]));
	json_object_set_new(o, "wake_p50_us",
		json_real((double)histogram_percentile(w->wake_ns, 50) / 1e3));
	json_object_set_new(o, "wake_p99_us",
		json_real((double)histogram_percentile(w->wake_ns, 99) / 1e3));
	json_object_set_new(o, "waiting", number(w->waiting));
	json_object_set_new(o, "queue_us", number(w->queue_ns / 1000));
	json_object_set_new(o, "p50_us",
		json_real((double)histogram_percentile(w->service_ns, 50) / 1e3));
	json_object_set_new(o, "p99_us",
		json_real((double)histogram_percentile(w->service_ns, 99) / 1e3));
	json_object_set_new(o, "wide_bytes", number(w->wide_bytes));
	json_object_set_new(o, "store_bytes", number(w->store_bytes));
	json_object_set_new(o, "store_used_bytes", number(w->store_used_bytes));
	json_object_set_new(o, "stage_cycles", stage_cycles(w));
	return o;
}

static json_t *engine(const struct stats_engine *e, uint32_t index)
{
	return json_pack("{s:i, s:i, s:s, s:I, s:I}", "engine", (int)index, "cpu", (int)e->cpu, "state",
		worker_state(e->state), "runs", (json_int_t)e->runs, "busy_cycles",
		(json_int_t)e->busy_cycles);
}

json_t *show_workers(struct control *ctl)
{
	struct stats_region *s = copy_stats(ctl);
	json_t *list = json_array(), *engines = json_array();

	for (uint32_t i = 0; s && i < n_workers(s); i++)
		json_array_append_new(list, worker(&s->workers[i], i));
	for (uint32_t i = 0; s && i < s->header.n_engines && i < DP_MAX_ENGINES; i++)
		json_array_append_new(engines, engine(&s->engines[i], i));
	free(s);
	return json_pack("{s:o, s:o}", "workers", list, "engines", engines);
}

/* Buckets that hold something: [[largest ns, count], ...]. */
static json_t *histogram(const uint64_t buckets[HISTOGRAM_BUCKETS])
{
	json_t *list = json_array();

	for (uint32_t b = 0; b < HISTOGRAM_BUCKETS; b++)
		if (buckets[b])
			json_array_append_new(list, json_pack("[I, I]", (json_int_t)histogram_bucket_end(b),
				(json_int_t)buckets[b]));
	return list;
}

static void sum_workers(const struct stats_region *s, struct stats_worker *sum)
{
	for (uint32_t i = 0; i < n_workers(s); i++) {
		const struct stats_worker *w = &s->workers[i];

		for (int c = 0; c < STATS_COUNTERS; c++)
			sum->counters[c] += w->counters[c];
		for (int c = 0; c < STATS_STAGES; c++)
			sum->stage_cycles[c] += w->stage_cycles[c];
		histogram_merge(sum->service_ns, w->service_ns);
	}
}

static json_t *top_counters(const struct stats_worker *sum)
{
	json_t *o = json_object();

	for (int c = 0; c < STATS_COUNTERS; c++)
		json_object_set_new(o, counters[c].name, number(sum->counters[c]));
	return o;
}

json_t *show_top(struct control *ctl)
{
	struct stats_region *s = copy_stats(ctl);
	struct stats_worker *sum = calloc(1, sizeof(*sum));
	uint64_t xdp[XDP_COUNTERS] = {0};
	json_t *o = json_object(), *front = json_object();

	if (s && sum)
		sum_workers(s, sum);
	limits_table_xdp_counters(ctl, xdp);
	for (int c = 0; c < XDP_COUNTERS; c++)
		json_object_set_new(front, xdp_counters[c].name, number(xdp[c]));
	json_object_set_new(o, "now_ns", number(clock_now_ns()));
	json_object_set_new(o, "tsc_hz", number(s ? s->header.tsc_hz : 0));
	json_object_set_new(o, "state", json_string(dp_state_name(dp_link_state(ctl))));
	json_object_set_new(o, "workers", number(s ? n_workers(s) : 0));
	if (sum) {
		json_object_set_new(o, "counters", top_counters(sum));
		json_object_set_new(o, "stage_cycles", stage_cycles(sum));
		json_object_set_new(o, "service_ns", histogram(sum->service_ns));
	}
	json_object_set_new(o, "xdp", front);
	free(sum);
	free(s);
	return o;
}

static const struct stats_cost *find_cost(const struct stats_region *s, uint32_t index, uint64_t number)
{
	for (int i = 0; s && index < DP_MAX_MODELS && i < STATS_COST_SLOTS; i++) {
		const struct stats_cost *c = &s->costs[index][i];

		if (number && __atomic_load_n(&c->number, __ATOMIC_ACQUIRE) == number)
			return c;
	}
	return NULL;
}

json_t *show_cost(struct control *ctl, uint32_t model_index, uint64_t number)
{
	const struct stats_cost *c = find_cost(dp_link_live(ctl), model_index, number);
	json_t *list = c ? json_array() : json_null();

	for (int i = 0; c && i < 8; i++)
		json_array_append_new(list, json_pack("[i, I]", 1 << i,
			(json_int_t)__atomic_load_n(&c->run_ns[i], __ATOMIC_RELAXED)));
	return list;
}

json_t *show_kernels(struct control *ctl, uint32_t model_index, uint64_t number)
{
	const struct stats_cost *c = find_cost(dp_link_live(ctl), model_index, number);
	char name[sizeof(c->kernels)];

	if (!c)
		return json_null();
	memcpy(name, c->kernels, sizeof(name));
	name[sizeof(name) - 1] = 0;
	return json_string(name);
}

static void add_cache(const struct stats_cache *c, struct stats_cache *sum)
{
	sum->bytes += __atomic_load_n(&c->bytes, __ATOMIC_RELAXED);
	sum->entries += __atomic_load_n(&c->entries, __ATOMIC_RELAXED);
	sum->hits += __atomic_load_n(&c->hits, __ATOMIC_RELAXED);
	sum->misses += __atomic_load_n(&c->misses, __ATOMIC_RELAXED);
	sum->expired += __atomic_load_n(&c->expired, __ATOMIC_RELAXED);
	sum->evicted += __atomic_load_n(&c->evicted, __ATOMIC_RELAXED);
}

json_t *show_cache(struct control *ctl, uint32_t model_index)
{
	const struct stats_region *s = dp_link_live(ctl);
	struct stats_cache sum = {0};
	json_t *o;

	for (uint32_t i = 0; s && i < DP_MAX_MODELS; i++)
		if (model_index == SHOW_ALL_MODELS || i == model_index)
			add_cache(&s->caches[i], &sum);
	o = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "bytes", (json_int_t)sum.bytes, "entries",
		(json_int_t)sum.entries, "hits", (json_int_t)sum.hits, "misses", (json_int_t)sum.misses,
		"expired", (json_int_t)sum.expired, "evicted", (json_int_t)sum.evicted);
	json_object_set_new(o, "hit_ratio", sum.hits + sum.misses ?
		json_real((double)sum.hits / (double)(sum.hits + sum.misses)) : json_null());
	return o;
}

json_t *show_poll(const struct stats_region *s)
{
	uint64_t wake_ns[STATS_HISTOGRAM_BUCKETS] = {0}, sleeps = 0;

	if (!s)
		return json_null();
	for (uint32_t i = 0; i < n_workers(s); i++) {
		histogram_merge(wake_ns, s->workers[i].wake_ns);
		sleeps += s->workers[i].counters[STATS_SLEEPS];
	}
	return json_pack("{s:s, s:I, s:f, s:f}", "mode",
		s->header.poll == DP_POLL_ADAPTIVE ? "adaptive" : "busy", "sleeps", (json_int_t)sleeps,
		"wake_p50_us", (double)histogram_percentile(wake_ns, 50) / 1e3, "wake_p99_us",
		(double)histogram_percentile(wake_ns, 99) / 1e3);
}
