/* SPDX-License-Identifier: BSD-3-Clause
 * EAL arguments and the check for huge pages: the part of eal.h that needs no DPDK.
 */
#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "config_check.h"
#include "eal.h"

enum { HUGE_2M_KB = 2048, HUGE_1G_KB = 1048576 };

/* The packet pages of a dataplane that has just died stay pinned until a kernel worker has taken its AF_XDP sockets apart; its
 * successor waits that long rather than to die, too. */
enum { RELEASE_MS = 3000, RELEASE_STEP_MS = 10 };

static void add(struct eal_args *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void add(struct eal_args *a, const char *fmt, ...)
{
	va_list ap;

	if (a->n >= EAL_MAX_ARGS)
		return; /* the list below is shorter than the table */
	va_start(ap, fmt);
	vsnprintf(a->text[a->n], EAL_ARG_BYTES, fmt, ap);
	va_end(ap);
	a->argv[a->n] = a->text[a->n];
	a->argv[++a->n] = NULL;
}

/* Set of CPUs for the service thread: the one named, or every CPU we may use but the workers'. */
static void service_cpus(const struct dp_config *c, char *out, size_t size)
{
	cpu_set_t set;
	size_t at = 0;

	CPU_ZERO(&set);
	if (c->service_core != UINT32_MAX && c->service_core < CPU_SETSIZE)
		CPU_SET(c->service_core, &set);
	else
		sched_getaffinity(0, sizeof(set), &set);
	for (uint32_t i = 0; CPU_COUNT(&set) > 1 && i < c->n_ports; i++)
		for (uint32_t q = 0; q < c->ports[i].queues && CPU_COUNT(&set) > 1; q++)
			CPU_CLR(c->ports[i].cores[q], &set);
	out[0] = 0;
	for (int cpu = 0; cpu < CPU_SETSIZE && at + 8 < size; cpu++)
		if (CPU_ISSET(cpu, &set))
			at += (size_t)snprintf(out + at, size - at, "%s%d", at ? "," : "", cpu);
}

static int add_lcores(struct eal_args *a, const struct dp_config *c, struct error *err)
{
	char cpus[EAL_ARG_BYTES / 2], list[EAL_ARG_BYTES];
	uint32_t worker = 1;
	size_t at;

	service_cpus(c, cpus, sizeof(cpus));
	at = (size_t)snprintf(list, sizeof(list), "0@(%s)", cpus);
	for (uint32_t i = 0; i < c->n_ports; i++)
		for (uint32_t q = 0; q < c->ports[i].queues && at < sizeof(list); q++)
			at += (size_t)snprintf(list + at, sizeof(list) - at, ",%u@%u", worker++,
				c->ports[i].cores[q]);
	if (at >= sizeof(list))
		return error_set(err, -E2BIG, "too many CPUs for EAL's --lcores");
	add(a, "--lcores=%s", list);
	add(a, "--main-lcore=0");
	return 0;
}

int eal_args_build(struct eal_args *a, const struct dp_config *c, struct error *err)
{
	bool pci = false;
	int rc;

	memset(a, 0, sizeof(*a));
	for (uint32_t i = 0; i < c->n_ports; i++)
		pci |= c->ports[i].kind == DP_PORT_PMD && strchr(c->ports[i].device, ':');
	add(a, "millrace-dataplane");
	rc = add_lcores(a, c, err);
	if (rc)
		return rc;
	add(a, "--file-prefix=%s", c->instance);
	add(a, "--log-level=warning");
	add(a, "--no-telemetry");
	add(a, "--iova-mode=va");
	if (!pci)
		add(a, "--no-pci");
	for (uint32_t i = 0; i < c->n_ports; i++)
		if (c->ports[i].kind == DP_PORT_PMD && strchr(c->ports[i].device, ':'))
			add(a, "--allow=%s%s%s", c->ports[i].device, c->ports[i].args[0] ? "," : "",
				c->ports[i].args);
	if (c->huge_pages) { /* excludes --no-huge ([ran], measured.md) */
		add(a, "--in-memory");
		/* Taken as the packet pools need it, up to here: taking all of it at once would only
		 * make the kernel clear pages that nobody uses, while a restart waits. */
		add(a, "--socket-limit=%u", c->memory_mb);
	} else {
		add(a, "--no-huge");
		add(a, "--no-shconf"); /* nothing under /var/run/dpdk, which instances would share */
		add(a, "-m");
		add(a, "%u", c->memory_mb);
	}
	return 0;
}

static unsigned long read_number(const char *path)
{
	FILE *f = fopen(path, "re");
	unsigned long v = 0;

	if (!f)
		return 0;
	if (fscanf(f, "%lu", &v) != 1)
		v = 0;
	fclose(f);
	return v;
}

static unsigned long huge_pages(unsigned size_kb, const char *what)
{
	char path[96];

	snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-%ukB/%s", size_kb, what);
	return read_number(path);
}

static bool enough_free(const struct dp_config *c, unsigned long need_2m)
{
	return huge_pages(HUGE_2M_KB, "free_hugepages") >= need_2m ||
		   huge_pages(HUGE_1G_KB, "free_hugepages") * 1024 >= c->memory_mb;
}

int eal_preflight(const struct dp_config *c, struct error *err)
{
	unsigned long need = (c->memory_mb + 1) / 2, free_2m, total_2m = huge_pages(HUGE_2M_KB, "nr_hugepages");

	if (!c->huge_pages)
		return 0;
	for (int waited_ms = 0; waited_ms <= RELEASE_MS; waited_ms += RELEASE_STEP_MS) {
		if (enough_free(c, need))
			return 0;
		if (total_2m < need)
			break;
		usleep(RELEASE_STEP_MS * 1000);
	}
	free_2m = huge_pages(HUGE_2M_KB, "free_hugepages");
	return error_set(err, -ENOMEM,
		"huge pages: %lu of 2 MiB are needed, %lu of %lu are free; run: "
		"echo %lu > /proc/sys/vm/nr_hugepages (or allow normal pages in the configuration)",
		need, free_2m, total_2m, total_2m - free_2m + need);
}
