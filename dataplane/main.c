/* SPDX-License-Identifier: BSD-3-Clause
 * millrace-dataplane: table of contents. Rows start in order and stop in reverse.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "config_check.h"
#include "eal.h"
#include "port_dpdk.h"
#include "service.h"

enum { SLICE_US = 200, QUEUE_US = 20000 }; /* where the configuration says 0 */

struct program {
	struct service service;
	struct shared shared;
	struct port_dpdk *ports[DP_MAX_PORTS];
	struct worker *workers[DP_MAX_WORKERS];
	struct engine engines[DP_MAX_ENGINES];
	pthread_t engine_threads[DP_MAX_ENGINES];
	uint32_t n_engines; /* started */
	uint32_t n_launched;
	bool eal_started;
};

/* OpenBLAS starts its threads before main(): it must find the variable in the environment. */
static int process_init(struct program *p, struct error *err)
{
	char *argv[] = {"millrace-dataplane", NULL};

	(void)p;
	log_init("dataplane", LOG_LEVEL_INFO);
	if (!getenv("OPENBLAS_NUM_THREADS")) {
		setenv("OPENBLAS_NUM_THREADS", "1", 1);
		execv("/proc/self/exe", argv);
		return error_set(err, -errno, "starting again: %s", strerror(errno));
	}
	return prctl(PR_SET_DUMPABLE, 0) < 0 ? error_set(err, -errno, "PR_SET_DUMPABLE") : 0;
}

static int config_init(struct program *p, struct error *err)
{
	const char *run_dir = getenv("MILLRACE_RUN");
	int rc = service_configure(&p->service, run_dir ? run_dir : "/run/millrace", err);

	if (!rc)
		log_init("dataplane", (enum log_level)p->service.config.log_level);
	return rc;
}

static void config_uninit(struct program *p)
{
	service_uninit(&p->service);
}

static int eal_init(struct program *p, struct error *err)
{
	int rc = eal_preflight(&p->service.config, err);

	if (!rc && !p->service.config.huge_pages)
		log_warn("running on normal pages, as the configuration allows: expect less speed");
	if (!rc)
		rc = eal_start(&p->service.config, err);
	p->eal_started = !rc;
	return rc;
}

static void eal_uninit(struct program *p)
{
	if (p->eal_started)
		eal_stop();
}

static uint32_t slice_us(const struct dp_config *c)
{
	return c->slice_us ? c->slice_us : SLICE_US;
}

static int memory_init(struct program *p, struct error *err)
{
	struct service *s = &p->service;
	int rc = regions_init(&s->regions, config_workers(&s->config), eal_tsc_hz(), err);

	if (rc)
		return rc;
	s->regions.stats->header.n_ports = s->config.n_ports;
	s->regions.stats->header.huge_pages = s->config.huge_pages;
	s->regions.stats->header.poll = s->config.poll;
	s->shared = &p->shared;
	s->workers = p->workers;
	p->shared.n_workers = config_workers(&s->config);
	p->shared.models = &s->models;
	rc = handover_init(&p->shared.handover, p->shared.n_workers);
	if (rc)
		return error_set(err, rc, "out of memory");
	rc = aead_init(&p->shared.aead);
	if (rc)
		return error_set(err, rc, "AES-GCM: this CPU has no AES instructions");
	rc = model_table_init(&s->models, &p->shared.quiesce, &(struct live_model_options){
		.n_workers = p->shared.n_workers, .backend = (enum model_backend)s->config.backend,
		.refuse_not_finite = s->config.refuse_not_finite, .n_jobs = s->config.n_engines ? s->config.n_engines : p->shared.n_workers,
		.slice_ns = slice_us(&s->config) * NS_PER_US});
	return rc ? error_set(err, rc, "out of memory") : 0;
}

static void memory_uninit(struct program *p)
{
	trace_close(p->shared.trace);
	model_table_uninit(&p->service.models);
	sessions_detach(p->service.sessions);
	limits_view_close(p->shared.limits);
	gateway_close(p->service.gateway);
	aead_uninit(&p->shared.aead);
	handover_uninit(p->shared.handover);
	regions_uninit(&p->service.regions);
}

static int ports_init(struct program *p, struct error *err)
{
	const struct dp_config *c = &p->service.config;
	struct stats_header *h = &p->service.regions.stats->header;

	port_dpdk_guard(&p->shared.quiesce);
	for (uint32_t i = 0; i < c->n_ports; i++) {
		int rc = port_dpdk_open(
			&p->ports[i], &c->ports[i], i, config_mbufs(c, &c->ports[i]), c->lanes,
			&h->ports[i], err);

		if (rc)
			return rc;
	}
	return 0;
}

static void ports_uninit(struct program *p)
{
	for (uint32_t i = 0; i < DP_MAX_PORTS; i++)
		port_dpdk_close(p->ports[i]);
}

static uint64_t monotonic(void *ctx)
{
	(void)ctx;
	return clock_now_ns();
}

static void *engine_main(void *arg)
{
	engine_run(arg);
	return NULL;
}

static int engine_start(struct program *p, uint32_t i)
{
	const struct dp_config *c = &p->service.config;
	struct stats_region *stats = p->service.regions.stats;
	pthread_attr_t attr;
	cpu_set_t cpus;
	int rc;

	p->engines[i] = (struct engine){.index = i, .n_workers = p->shared.n_workers,
		.slice_tsc = stats->header.tsc_hz / 1000000 * slice_us(c),
		.naps = c->poll == DP_POLL_ADAPTIVE, .stats = &stats->engines[i]};
	stats->engines[i].cpu = c->engine_cores[i];
	CPU_ZERO(&cpus);
	CPU_SET(c->engine_cores[i], &cpus);
	pthread_attr_init(&attr);
	rc = pthread_attr_setaffinity_np(&attr, sizeof(cpus), &cpus);
	rc = rc ? rc : pthread_create(&p->engine_threads[i], &attr, engine_main, &p->engines[i]);
	pthread_attr_destroy(&attr);
	return -rc;
}

static int engines_init(struct program *p, struct error *err)
{
	const struct dp_config *c = &p->service.config;

	for (uint32_t i = 0; i < c->n_engines; i++) {
		int rc = engine_start(p, i);

		if (rc)
			return error_set(err, rc, "engine on CPU %u: %s", c->engine_cores[i], strerror(-rc));
		p->n_engines++;
	}
	p->shared.engines = p->engines;
	p->shared.n_engines = p->n_engines;
	p->service.regions.stats->header.n_engines = p->n_engines;
	return 0;
}

/* They finish what they were given: it lies in the workers' memory. */
static void engines_uninit(struct program *p)
{
	for (uint32_t i = 0; i < p->n_engines; i++)
		__atomic_store_n(&p->engines[i].stop, 1, __ATOMIC_RELEASE);
	for (uint32_t i = 0; i < p->n_engines; i++)
		pthread_join(p->engine_threads[i], NULL);
	p->n_engines = 0;
}

static int worker_main(void *arg)
{
	worker_run(arg);
	return 0;
}

static int worker_start(struct program *p, uint32_t port, uint32_t queue, struct error *err)
{
	const struct dp_config *c = &p->service.config;
	struct stats_region *stats = p->service.regions.stats;
	uint32_t i = p->n_launched;
	struct worker *w = aligned_alloc(64, (sizeof(*w) + 63) & ~(size_t)63);
	int rc;

	if (!w)
		return error_set(err, -ENOMEM, "out of memory");
	memset(w, 0, sizeof(*w));
	worker_init(w, i, &p->shared, port_dpdk_queue(p->ports[port], queue), &stats->workers[i],
		(struct clock_source){monotonic, NULL}, c->burst, slice_us(c),
		stats->header.tsc_hz);
	stats->workers[i].cpu = c->ports[port].cores[queue];
	p->workers[i] = w;
	rc = worker_take_memory(w, &(struct worker_memory){.wide_buffers = c->wide_buffers,
		.store_kb = c->reply_store_kb, .store_over_ns = c->reply_store_over_ns});
	if (rc)
		return error_set(err, rc, "worker %u: no memory for large requests and kept replies: %s", i,
			strerror(-rc));
	if (worker_backlog(w, c->queue_us ? c->queue_us : QUEUE_US, 0))
		return error_set(err, -ENOMEM, "worker %u: no memory for requests that wait", i);
	rc = c->poll == DP_POLL_ADAPTIVE ? doze_init(&w->doze, w->queue->wait_fd,
		p->shared.n_workers == 1) : 0;
	if (rc)
		return error_set(err, rc, "worker %u: eventfd: %s", i, strerror(-rc));
	if (eal_launch(i, worker_main, w) < 0)
		return error_set(err, -EIO, "worker %u cannot be started", i);
	p->n_launched++;
	return 0;
}

static int workers_init(struct program *p, struct error *err)
{
	const struct dp_config *c = &p->service.config;
	int rc = 0;

	for (uint32_t i = 0; i < c->n_ports; i++)
		for (uint32_t q = 0; !rc && q < c->ports[i].queues; q++)
			rc = worker_start(p, i, q, err);
	return rc;
}

static void workers_uninit(struct program *p)
{
	__atomic_store_n(&p->shared.stop, 1, __ATOMIC_RELAXED);
	eal_join(p->n_launched);
	engines_uninit(p);
	for (uint32_t i = 0; i < DP_MAX_WORKERS; i++) {
		if (p->workers[i])
			worker_uninit(p->workers[i]);
		free(p->workers[i]);
	}
}

static const struct {
	const char *name;
	int (*init)(struct program *p, struct error *err);
	void (*uninit)(struct program *p);
} parts[] = {
	{"process", process_init, NULL},
	{"configuration", config_init, config_uninit},
	{"eal", eal_init, eal_uninit},
	{"memory", memory_init, memory_uninit},
	{"ports", ports_init, ports_uninit},
	{"engines", engines_init, engines_uninit},
	{"workers", workers_init, workers_uninit},
};

enum { PARTS = sizeof(parts) / sizeof(parts[0]) };

/* One line: where the time of the start went. What is adopted afterwards says its own. */
static void log_times(const uint64_t done_ns[PARTS + 1])
{
	char text[200];
	int at = 0;

	for (int i = 0; i < PARTS; i++)
		at += snprintf(text + at, sizeof(text) - (size_t)at, "%s%s %.0f", i ? ", " : "",
			parts[i].name, (double)(done_ns[i + 1] - done_ns[i]) / NS_PER_MS);
	log_info("started in %.0f ms: %s", (double)(done_ns[PARTS] - done_ns[0]) / NS_PER_MS, text);
}

static int usage(const char *argument)
{
	bool help = strcmp(argument, "--help") == 0;

	fprintf(help ? stdout : stderr,
		"usage: millrace-dataplane\n\n"
		"Takes packets in and sends answers out, on the cores the configuration names. It has no\n"
		"options: millrace-control starts it with its configuration on file descriptor 3. Started\n"
		"by hand it waits for control on $MILLRACE_RUN/dataplane.sock (default /run/millrace).\n");
	return help ? 0 : 2;
}

int main(int argc, char **argv)
{
	static struct program p; /* large */
	uint64_t done_ns[PARTS + 1] = {clock_now_ns()};
	struct error err = {0};
	uint32_t n = 0;
	int rc = 0;

	if (argc > 1)
		return usage(argv[1]);
	while (!rc && n < PARTS) {
		rc = parts[n].init(&p, &err);
		done_ns[++n] = clock_now_ns();
	}
	if (rc == -EINTR)
		log_info("%s", err.text);
	else if (rc)
		log_error("%s: %s", parts[n - 1].name, err.text);
	if (!rc) {
		log_times(done_ns);
		service_run(&p.service);
	}
	while (n--)
		if (parts[n].uninit)
			parts[n].uninit(&p);
	return rc && rc != -EINTR; /* told to stop while it waited for a configuration: fine */
}
