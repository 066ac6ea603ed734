/* SPDX-License-Identifier: BSD-3-Clause
 * Reports of the load generator: see report.h.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <jansson.h>

#include "perf/loadgen/report.h"

static const char *const status_names[WIRE_STATUS_END] = {"result", "bad_request", "unknown_model",
	"rate_limited", "quota_exhausted", "overloaded", "deadline_exceeded", "not_licensed",
	"internal"};

static double us(const struct run_report *r, double percent)
{
	double value = (double)histogram_percentile(r->latency_ns, percent) / 1e3;

	return value < r->max_us ? value : r->max_us; /* a bucket ends past its largest value */
}

static double per_second(const struct run_report *r)
{
	return r->seconds > 0 ? (double)r->measured / r->seconds : 0;
}

static void print_count(const char *name, uint64_t n)
{
	if (n)
		printf("  %-22s %12" PRIu64 "\n", name, n);
}

void report_table(const struct run_report *r, const struct options *o, const struct workload *w)
{
	uint64_t distinct;
	double accuracy = workload_accuracy(w, &distinct);

	printf("model %s, %u row(s) a request, %u session(s) in %s order (seed %" PRIu64 "), %s, %s\n",
		w->model.name, w->batch, o->sessions, o->order_name, o->seed, o->port,
		o->rate > 0 ? "open loop" : "closed loop");
	printf("  %-22s %12" PRIu64 "\n", "requests sent", r->sent);
	printf("  %-22s %12" PRIu64 "\n", "answered", r->answered);
	for (int i = 0; i < WIRE_STATUS_END; i++)
		print_count(status_names[i], r->status[i]);
	print_count("unanswered", r->unanswered);
	printf("  %-22s %12" PRIu64 "\n", "first-try losses", r->first_try_losses);
	printf("  %-22s %12" PRIu64 "\n", "retries", r->retries);
	print_count("send queue full", r->queue_full);
	print_count("held back", r->held_back);
	print_count("late answers", r->late);
	print_count("unknown answers", r->unknown);
	for (int i = 1; i < CHANNEL_VERDICTS; i++) {
		if (r->refused[i])
			printf("  refused: %-13s %12" PRIu64 "\n", channel_verdict_name(i),
				r->refused[i]);
	}
	if (w->expect.rows)
		printf("  %-22s %12" PRIu64 "   (worst error %.2g)\n", "wrong rows", w->wrong,
			w->worst_error);
	if (accuracy >= 0)
		printf("  %-22s %12.4f   over %" PRIu64 " distinct rows\n", "accuracy", accuracy,
			distinct);
	if (o->flood != FLOOD_NONE)
		printf("  flood of %-13s %12" PRIu64 "   in %.2f s, %" PRIu64 " replies\n", o->flood_name,
			r->flood.sent, r->flood.seconds, r->flood.replies);
	printf("  %-22s %12.0f\n", "results/s", per_second(r));
	printf("  latency us             min %.2f  mean %.2f  p50 %.2f  p99 %.2f  p99.9 %.2f  max %.2f\n",
		r->min_us, r->mean_us, us(r, 50), us(r, 99), us(r, 99.9), r->max_us);
}

void report_summary(const struct run_report *r, const struct workload *w)
{
	uint64_t distinct;
	double accuracy = workload_accuracy(w, &distinct);

	printf("millrace: answered %" PRIu64 "/%" PRIu64 " requests, ", r->answered, r->sent);
	if (accuracy >= 0)
		printf("accuracy %.4f, ", accuracy);
	printf("p50 %.1f us, p99 %.1f us, %.0f req/s\n", us(r, 50), us(r, 99), per_second(r));
}

static json_t *statuses(const struct run_report *r)
{
	json_t *o = json_object();

	for (int i = 0; i < WIRE_STATUS_END; i++)
		json_object_set_new(o, status_names[i], json_integer((json_int_t)r->status[i]));
	return o;
}

static json_t *refusals(const struct run_report *r)
{
	json_t *o = json_object();

	for (int i = 1; i < CHANNEL_VERDICTS; i++)
		json_object_set_new(o, channel_verdict_name(i),
			json_integer((json_int_t)r->refused[i]));
	return o;
}

int report_json(const char *path, const struct run_report *r, const struct options *o,
	const struct workload *w, struct error *err)
{
	uint64_t distinct;
	double accuracy = workload_accuracy(w, &distinct);
	json_t *j = json_pack("{ss ss si si ss sI sb sf si sb}", "model", w->model.name, "port", o->port,
		"rows_per_request", (int)w->batch, "sessions", (int)o->sessions, "order",
		o->order_name, "seed", (json_int_t)o->seed, "open_loop", o->rate > 0, "rate", o->rate,
		"window", (int)o->window, "preseal", (int)o->preseal);
	json_t *counts = json_pack("{sI sI sI sI sI sI sI sI sI sI so so}", "sent", (json_int_t)r->sent,
		"answered", (json_int_t)r->answered, "unanswered", (json_int_t)r->unanswered,
		"first_try_losses", (json_int_t)r->first_try_losses, "retries",
		(json_int_t)r->retries, "queue_full", (json_int_t)r->queue_full, "held_back",
		(json_int_t)r->held_back, "epochs", (json_int_t)r->epochs, "late", (json_int_t)r->late, "unknown",
		(json_int_t)r->unknown, "status", statuses(r), "refused", refusals(r));
	json_t *figures = json_pack("{sf sf sf sf sf sf sf sf sf sf}", "seconds", r->seconds, "req_s",
		per_second(r), "min_us", r->min_us, "mean_us", r->mean_us, "p50_us", us(r, 50),
		"p90_us", us(r, 90), "p99_us", us(r, 99), "p999_us", us(r, 99.9), "max_us",
		r->max_us, "max_gap_ms", r->max_gap_ms);
	int rc;

	json_t *flood = json_pack("{ss sf sI sI sf sI sI}", "flood", o->flood_name, "flood_rate",
		r->flood.seconds > 0 ? (double)r->flood.sent / r->flood.seconds : 0.0, "flood_sent",
		(json_int_t)r->flood.sent, "flood_replies", (json_int_t)r->flood.replies,
		"flood_seconds", r->flood.seconds, "victim_sent", (json_int_t)r->victim_sent,
		"victim_results", (json_int_t)r->victim_results);
	json_object_update(j, counts);
	json_object_update(j, flood);
	json_object_set_new(j, "cpu_user_s", json_real(r->cpu_user_s));
	json_object_set_new(j, "cpu_system_s", json_real(r->cpu_system_s));
	json_object_update(j, figures);
	json_object_set_new(j, "wrong_rows", w->expect.rows ? json_integer((json_int_t)w->wrong)
							    : json_null());
	json_object_set_new(j, "accuracy", accuracy >= 0 ? json_real(accuracy) : json_null());
	json_object_set_new(j, "distinct_rows", json_integer((json_int_t)distinct));
	rc = j && counts && figures ? json_dump_file(j, path, JSON_INDENT(1)) : -1;
	json_decref(j);
	json_decref(counts);
	json_decref(flood);
	json_decref(figures);
	return rc ? error_set(err, -EIO, "cannot write %s", path) : 0;
}
