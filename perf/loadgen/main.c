/* SPDX-License-Identifier: BSD-3-Clause
 * millrace-bench: enrol, load, measure, report. Exit 0 when every request was answered (where --expect
 * says what is right: with a result, and that one), 1 when not, 2 for wrong usage.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "perf/loadgen/prove.h"
#include "perf/loadgen/report.h"

static volatile sig_atomic_t stop;

static void on_signal(int number)
{
	(void)number;
	stop = stop ? STOP_NOW : STOP_SENDING;
}

static int pin(int32_t core, struct error *err)
{
	cpu_set_t set;

	if (core < 0)
		return 0;
	CPU_ZERO(&set);
	CPU_SET(core, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		return error_set(err, -errno, "CPU %d: %s", core, strerror(errno));
	return 0;
}

static int open_transport(struct transport **t, const struct options *o,
	const struct bench_sessions *s, struct error *err)
{
	struct transport_where w = {.port = o->port, .local = *s->local ? s->local : NULL,
		.server = s->server, .server_port = s->port, .mac = o->mac, .vdev = o->vdev,
		.huge = o->huge, .core = o->core};

	if (strncmp(o->port, "udp", 3) == 0 && (!o->port[3] || o->port[3] == ':'))
		return transport_udp_open(t, &w, err);
	return transport_dpdk_open(t, &w, err);
}

static int measure(struct run_report *report, const struct options *o, struct workload *w,
	struct error *err)
{
	const char *local = o->address;
	struct bench_sessions sessions;
	struct flood *flood = NULL;
	struct transport *t;
	int rc;

	if (!local && strncmp(o->port, "udp:", 4) == 0)
		local = o->port + 4;
	rc = bench_sessions_open(&sessions, o, local, err);
	if (rc)
		return rc;
	rc = workload_init(w, o, &sessions.model, err);
	if (!rc) {
		rc = open_transport(&t, o, &sessions, err);
		if (!rc) {
			rc = prove_sessions(&sessions, t, err);
			rc = rc || o->flood == FLOOD_NONE ? rc : flood_open(&flood, o, &sessions, t, err);
			rc = rc ? rc : bench_run(report, o, &sessions, w, t, flood, &stop, err);
			flood_close(flood);
			t->ops->close(t);
		}
	}
	bench_sessions_close(&sessions);
	return rc;
}

int main(int argc, char **argv)
{
	static struct run_report report;
	struct sigaction action = {.sa_handler = on_signal};
	struct workload workload = {0};
	struct error err = {0};
	struct options o;
	int rc = options_parse(&o, argc, argv, &err);

	if (rc || o.help) {
		if (rc)
			fprintf(stderr, "millrace-bench: %s (--help lists the options)\n", err.text);
		else
			options_help();
		return rc ? 2 : 0;
	}
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	rc = pin(o.core, &err);
	rc = rc ? rc : measure(&report, &o, &workload, &err);
	if (!rc && !o.quiet)
		report_table(&report, &o, &workload);
	if (!rc && o.json)
		rc = report_json(o.json, &report, &o, &workload, &err);
	if (rc)
		fprintf(stderr, "millrace-bench: %s\n", err.text);
	else if (o.summary)
		report_summary(&report, &workload);
	rc = rc || report.unanswered || workload.wrong || !report.answered ||
	     (o.expect && report.status[WIRE_RESULT] != report.answered);
	workload_uninit(&workload);
	return rc;
}
