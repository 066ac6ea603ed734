/* SPDX-License-Identifier: BSD-3-Clause
 * The XDP program run by the kernel (BPF_PROG_TEST_RUN): nanoseconds a verdict, the error of plans enforced by
 * its reads of the limiter, and the shield in a worker. One JSON row a line on stdout.
 *
 * In namespaces of its own; needs root. The kernel's loop around the program is in every figure.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "admission.h"
#include "base/clock.h"
#include "ebpf/limit_table.h"
#include "ebpf/xdp_load.h"
#include "tests/ebpf/sandbox.h"
#include "tests/packets/fixtures.h"

enum { REPEAT = 2000000, NEW_SOURCES = 200000, SUBSCRIBERS = 10000, SECONDS = 20, GROUP = 250 };

struct bench {
	struct xdp_maps maps;
	struct limit_table limits;
	struct bpf_object *object;
	int program, socket;
};

struct subscriber {
	double rate;
	uint64_t burst, admitted, refused, silent;
};

static void row(const char *id, double value, const char *unit)
{
	printf("{\"id\": \"%s\", \"value\": %.4g, \"unit\": \"%s\"}\n", id, value, unit);
}

static int open_all(struct bench *b, struct error *err)
{
	struct xdp_params params = {FIXTURE_PORT, XDP_TO_KERNEL, XDP_TO_KERNEL, 1};
	uint32_t queue = 0;
	int rc = xdp_maps_open(&b->maps, XDP_BPFFS_DIR, err);

	rc = rc ? rc : limit_table_map(&b->limits, b->maps.limits, err);
	if (rc)
		return rc;
	b->object = bpf_object__open_file(sandbox_object(), NULL);
	if (!b->object || bpf_object__load(b->object))
		return error_set(err, -1, "%s does not load", sandbox_object());
	b->program = bpf_program__fd(bpf_object__next_program(b->object, NULL));
	b->socket = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
	rc = bpf_map_update_elem(bpf_object__find_map_fd_by_name(b->object, XDP_MAP_XSKS), &queue, &b->socket,
		0);
	rc = rc ? rc : xdp_params_set(&b->maps, &params);
	return rc ? error_set(err, rc, "the maps cannot be filled") : 0;
}

static void give_plan(struct limit_slot *slot, double rate, uint64_t burst)
{
	struct limit_plan plan = {.rate_per_s = rate, .burst_units = burst, .flags = LIMIT_ACTIVE};

	if (limits_set(slot, &plan, clock_now_ns(), NULL))
		abort();
}

static void add_session(struct bench *b, uint32_t key_id, uint32_t subscriber)
{
	struct xdp_session s = {fixture_client4, subscriber, 0};

	if (xdp_session_set(&b->maps, key_id, &s))
		abort();
}

static void set_key(struct frame *f, uint32_t key_id)
{
	memcpy(f->data + f->at[PAYLOAD] + 4, &key_id, sizeof(key_id));
}

static void set_source(struct frame *f, uint32_t address)
{
	memcpy(f->data + f->at[L3] + 12, &address, sizeof(address));
}

/* Run the frame `times` times. Returns ns each; *verdict of the last. */
static double run(const struct bench *b, const struct frame *f, int times, uint32_t *verdict)
{
	LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = f->data, .data_size_in = (uint32_t)f->n, .repeat = times);

	if (bpf_prog_test_run_opts(b->program, &o))
		abort();
	*verdict = o.retval;
	return (double)o.duration;
}

static void time_verdicts(struct bench *b)
{
	struct frame f;
	uint32_t verdict;
	uint64_t t0;

	give_plan(&b->limits.slots[0], 1e9, 1000);
	add_session(b, 0x01020304, 0);
	frame_base(&f, DATA4);
	set_key(&f, 0x01020304);
	row("xdp.redirect.ns", run(b, &f, REPEAT, &verdict), "ns");
	frame_base(&f, TCP4);
	row("xdp.pass.ns", run(b, &f, REPEAT, &verdict), "ns");
	frame_base(&f, DATA4);
	set_key(&f, 0x0eadbeef);
	row("xdp.boxed.ns", run(b, &f, REPEAT, &verdict), "ns");
	/* Every packet from an address never seen: what invented sources cost. The system call is measured
	 * with a source that is boxed already, and taken off. */
	t0 = clock_now_ns();
	for (uint32_t i = 0; i < NEW_SOURCES; i++)
		run(b, &f, 1, &verdict);
	t0 = clock_now_ns() - t0;
	uint64_t t1 = clock_now_ns();
	for (uint32_t i = 0; i < NEW_SOURCES; i++) {
		set_source(&f, i * 2654435761u | 1);
		run(b, &f, 1, &verdict);
	}
	row("xdp.new_source.extra_ns", ((double)(clock_now_ns() - t1) - (double)t0) / NEW_SOURCES, "ns");
}

/* One packet of subscriber `s` as the appliance treats it: XDP reads, then the worker charges. */
static void offer(struct bench *b, struct frame *f, struct subscriber *all, uint32_t s)
{
	struct limit_slot *slot = &b->limits.slots[s];
	uint64_t now;
	uint32_t verdict;

	set_key(f, s + 1);
	run(b, f, 1, &verdict);
	if (verdict != XDP_REDIRECT) {
		all[s].silent++;
		return;
	}
	now = limits_ticks(clock_now_ns());
	if (limits_charge(slot, now, 1).verdict == LIMIT_ADMITTED)
		all[s].admitted++;
	else if (limits_charge_refusal(slot, now))
		all[s].refused++;
}

/* 10,000 plans of 25 to 250 units a second, a group at a time, each offered ten times its plan and more in
 * real time through the program. Returns the worst error in percent beyond one request. */
static double plans_error(struct bench *b, uint32_t *worst, double *silent_pct)
{
	struct subscriber *all = calloc(SUBSCRIBERS, sizeof(*all));
	uint64_t slice_ns = SECONDS * NS_PER_S / (SUBSCRIBERS / GROUP), offered = 0, silent = 0;
	double worst_pct = 0;
	struct frame f;

	frame_base(&f, DATA4);
	for (uint32_t s = 0; s < SUBSCRIBERS; s++)
		add_session(b, s + 1, s);
	for (uint32_t g = 0; all && g < SUBSCRIBERS; g += GROUP) {
		uint64_t start_ns, now_ns;

		for (uint32_t s = g; s < g + GROUP; s++) {
			all[s].rate = 25 * pow(10, (double)(s * 7919 % SUBSCRIBERS) / SUBSCRIBERS);
			all[s].burst = 2 + (uint64_t)(all[s].rate / 25);
			give_plan(&b->limits.slots[s], all[s].rate, all[s].burst);
		}
		start_ns = clock_now_ns();
		do {
			for (uint32_t s = g; s < g + GROUP; s++)
				offer(b, &f, all, s);
			now_ns = clock_now_ns();
		} while (now_ns - start_ns < slice_ns);
		for (uint32_t s = g; s < g + GROUP; s++) {
			double plan = all[s].rate * (double)(now_ns - start_ns) / 1e9;
			double off = fabs((double)all[s].admitted - (double)all[s].burst - plan);
			double pct = 100 * fmax(0, off - 1) / (plan + (double)all[s].burst);

			offered += all[s].admitted + all[s].refused + all[s].silent;
			silent += all[s].silent;
			if (pct > worst_pct) {
				worst_pct = pct;
				*worst = s;
			}
		}
	}
	free(all);
	*silent_pct = 100 * (double)silent / (double)offered;
	fprintf(stderr, "limiter.xdp: %.0f packets, worst of %d is subscriber %u\n", (double)offered, SUBSCRIBERS,
		*worst);
	return worst_pct;
}

/* What the shield costs a packet of a live pair in the worker: the look whether its subscriber shouts. The first
 * clock is a loop over the same slots without it. */
static void time_clean(const struct limit_table *t)
{
	uint64_t now = limits_ticks(clock_now_ns()), t0, t1, t2, sum = 0;

	for (uint32_t i = 0; i < LIMITS_MAX_SLOTS; i++)
		give_plan(&t->slots[i], 1e6, 1000);
	t0 = clock_now_ns();
	for (uint32_t i = 0; i < 10 * REPEAT; i++)
		sum += limits_load(&t->slots[i & 255].burst_ticks);
	t1 = clock_now_ns();
	for (uint32_t i = 0; i < 10 * REPEAT; i++)
		sum += limits_load(&t->slots[i & 255].burst_ticks) +
		       (uint64_t)limits_shouting(&t->slots[i & 255], now);
	t2 = clock_now_ns();
	if (!sum)
		fprintf(stderr, "bench_shield: no plans\n");
	row("admission.clean.ns", ((double)(t2 - t1) - (double)(t1 - t0)) / (10.0 * REPEAT), "ns");
}

/* The worker's table: a stray of a boxed source, and of sources never seen. */
static void time_admission(void)
{
	struct admission *a = aligned_alloc(64, (sizeof(*a) + 63) & ~(size_t)63);
	struct ip_addr source = fixture_client4;
	uint64_t t0, now = clock_now_ns(), boxed = 0;

	if (!a)
		return;
	memset(a, 0, sizeof(*a));
	admission_init(a, now);
	t0 = clock_now_ns();
	for (uint32_t i = 0; i < REPEAT; i++)
		boxed += admission_stray(a, &source, now, STATS_DROP_UNKNOWN_KEY) == STATS_DROP_BOXED;
	row("admission.boxed.ns", (double)(clock_now_ns() - t0) / REPEAT, "ns");
	t0 = clock_now_ns();
	for (uint32_t i = 0; i < REPEAT; i++) {
		uint32_t address = i * 2654435761u | 1;

		memcpy(source.bytes + 12, &address, sizeof(address));
		boxed += admission_stray(a, &source, now, STATS_DROP_UNKNOWN_KEY) == STATS_DROP_BOXED;
	}
	row("admission.new_source.ns", (double)(clock_now_ns() - t0) / REPEAT, "ns");
	if (boxed < REPEAT / 2)
		fprintf(stderr, "bench_shield: the flooding source was not boxed\n");
	free(a);
}

int main(void)
{
	struct bench b = {0};
	struct error err = {0};
	uint32_t worst = 0;
	double silent, pct;

	time_admission();
	if (sandbox_enter())
		return fprintf(stderr, "bench_shield: namespaces and BPF need root\n"), 1;
	if (open_all(&b, &err))
		return fprintf(stderr, "bench_shield: %s\n", err.text), 1;
	time_clean(&b.limits);
	time_verdicts(&b);
	pct = plans_error(&b, &worst, &silent);
	row("limiter.xdp.error_pct", pct, "%");
	row("limiter.xdp.dropped_pct", silent, "% of offered");
	return 0;
}
