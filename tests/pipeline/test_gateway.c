/* SPDX-License-Identifier: BSD-3-Clause
 * A model of the zoo over the wire, and requests that come over HTTPS (abi/gateway.h) instead of a port.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"
#include "rig.h"

static const float sample[RIG_IN] = {1.0f, -2.0f, 0.5f, 3.0f};

/* ---- a real model over the wire ---- */

enum { RISK_FEATURES = 30, RISK_ROWS = 100, NPY_HEADER = 128 };

static int file_near_test(const char *name)
{
	char path[PATH_MAX + 64];
	ssize_t n = readlink("/proc/self/exe", path, PATH_MAX);

	assert_true(n > 0);
	path[n] = 0;
	snprintf(strrchr(path, '/'), 64, "/../models/%s", name);
	return open(path, O_RDONLY | O_CLOEXEC);
}

static void the_risk_model_answers_over_the_wire_as_the_engine_does_alone(void **state)
{
	static uint8_t image[1 << 20];
	static float rows[RISK_ROWS][RISK_FEATURES];
	struct rig *r = *state;
	struct rig_client c;
	struct rig_reply got;
	const struct live_model *m;
	uint8_t f[RIG_FRAME], a[RIG_FRAME];
	void *memory;
	struct run *run;
	int in = file_near_test("risk.mrm"), npy = open("models/zoo/risk/heldout_x.npy", O_RDONLY);
	ssize_t n = read(in, image, sizeof(image));

	if (in < 0 || npy < 0)
		skip(); /* not run from the top of the tree */
	assert_true(n > 0);
	assert_true(pread(npy, rows, sizeof(rows), NPY_HEADER) == sizeof(rows));
	close(in);
	close(npy);
	rig_model(r, 1, 2, fd_sealed_copy("risk", image, (size_t)n, NULL));
	m = r->models.entries[1].current;
	assert_int_equal(m->row_in_bytes, sizeof(rows[0]));
	memory = aligned_alloc(64, (run_bytes(m->model, 1) + 63) & ~(size_t)63);
	run = run_init(memory, m->model, 1);
	rig_session(r, &c, 0x1001, 0, false);
	for (int i = 0; i < RISK_ROWS; i += 20) {
		for (int k = i; k < i + 20; k++) { /* a burst of 20, one row each */
			struct wire_request q = {.model_id = wire_model_id("risk"), .dtype = WIRE_F32, .rows = 1,
				.segment_count = 1};
			size_t bytes = rig_request(&c, f, &q, rows[k], sizeof(rows[k]));

			assert_true(port_mem_put(r->port, f, bytes));
		}
		worker_poll(r->worker);
		for (int k = i; k < i + 20; k++) {
			const void *row = rows[k];
			float alone, *wire = (float *)got.rows;
			void *out = &alone;

			run_start(run, 1, &row, &out);
			assert_int_equal(run_step(run, UINT64_MAX), 1);
			assert_true(rig_open(&c, a, port_mem_get(r->port, a), &got));
			assert_int_equal(got.reply.status, WIRE_RESULT);
			assert_true(fabsf(*wire - alone) < 1e-5f);
			assert_true(alone >= 0 && alone <= 1);
		}
	}
	free(memory);
}

/* ---- the gateway ---- */

/* The region as control makes it, given to the dataplane. */
static struct gateway_region *gateway(struct rig *r)
{
	void *map = NULL;
	int fd = fd_region_new("t-gateway", sizeof(struct gateway_region), true, &map, NULL);
	struct gateway_region *g = map;

	assert_true(fd >= 0);
	g->header = (struct gateway_header){.magic = GATEWAY_MAGIC, .version = GATEWAY_VERSION,
		.slots = GATEWAY_SLOTS, .total_bytes = sizeof(*g)};
	assert_int_equal(gateway_open(&r->shared.gateway, fd, NULL), 0);
	close(fd);
	return g;
}

static void gateway_done(struct rig *r, struct gateway_region *g)
{
	gateway_close(r->shared.gateway);
	r->shared.gateway = NULL;
	munmap(g, sizeof(*g));
}

static void submit(struct gateway_region *g, int slot, uint32_t subscriber, const char *model,
	uint16_t rows)
{
	struct gateway_slot *s = &g->slots[slot];
	struct wire_request q = {.request_id = (uint64_t)slot, .model_id = wire_model_id(model),
		.dtype = WIRE_F32, .segment_count = 1, .rows = rows};

	s->subscriber = subscriber;
	memcpy(s->request, &q, sizeof(q));
	for (uint32_t i = 0; i < rows; i++)
		memcpy(s->request + sizeof(q) + i * sizeof(sample), sample, sizeof(sample));
	s->request_bytes = (uint32_t)(sizeof(q) + rows * sizeof(sample));
	__atomic_store_n(&s->state, GATEWAY_SUBMITTED, __ATOMIC_RELEASE);
	__atomic_fetch_add(&g->header.submitted, 1, __ATOMIC_RELEASE);
}

static uint8_t status_of(struct gateway_region *g, int slot)
{
	struct wire_reply reply;

	assert_int_equal(g->slots[slot].state, GATEWAY_ANSWERED);
	memcpy(&reply, g->slots[slot].reply, sizeof(reply));
	assert_int_equal(reply.request_id, slot);
	return reply.status;
}

static void requests_over_https_get_the_same_answers_as_datagrams(void **state)
{
	struct rig *r = *state;
	struct gateway_region *g = gateway(r);
	float want[RIG_OUT], got[RIG_OUT];

	rig_expect(sample, 1.0f, want);
	for (int i = 0; i < GATEWAY_SLOTS; i++)
		submit(g, i, 0, i % 2 ? "alpha" : "nobody", 3);
	for (int i = 0; i < GATEWAY_SLOTS / GATEWAY_BURST; i++)
		worker_poll(r->worker);
	for (int i = 0; i < GATEWAY_SLOTS; i++) {
		assert_int_equal(status_of(g, i), i % 2 ? WIRE_RESULT : WIRE_UNKNOWN_MODEL);
		if (i % 2 == 0)
			continue;
		assert_int_equal(g->slots[i].reply_bytes, WIRE_REPLY_BYTES + 3 * sizeof(want));
		for (int row = 0; row < 3; row++) {
			memcpy(got, g->slots[i].reply + WIRE_REPLY_BYTES + (size_t)row * sizeof(got),
				sizeof(got));
			for (int j = 0; j < RIG_OUT; j++)
				assert_true(fabsf(got[j] - want[j]) < 1e-4f);
		}
	}
	assert_int_equal(rig_count(r, STATS_GATEWAY), GATEWAY_SLOTS);
	gateway_done(r, g);
}

static void a_plan_is_one_plan_however_the_request_comes(void **state)
{
	struct rig *r = *state;
	struct gateway_region *g = gateway(r);
	int admitted = 0;

	r->limits[1].interval_ticks = limits_ticks(1000000000); /* one a second, five at once */
	r->limits[1].burst_ticks = 5 * r->limits[1].interval_ticks;
	for (int i = 0; i < 8; i++) {
		submit(g, i, 1, "alpha", 1);
		worker_poll(r->worker);
		admitted += status_of(g, i) == WIRE_RESULT;
	}
	assert_int_equal(admitted, 5);
	assert_int_equal(status_of(g, 7), WIRE_RATE_LIMITED);
	gateway_done(r, g);
}

static void a_slot_that_is_no_request_is_given_back_and_nothing_runs(void **state)
{
	struct rig *r = *state;
	struct gateway_region *g = gateway(r);

	submit(g, 0, 0, "alpha", 1);
	g->slots[0].request_bytes = UINT32_MAX;
	submit(g, 1, 0, "alpha", 1);
	g->slots[1].request_bytes = WIRE_REQUEST_BYTES - 1;
	submit(g, 2, UINT32_MAX, "alpha", 1); /* a subscriber that cannot be */
	worker_poll(r->worker);
	assert_int_equal(g->slots[0].state, GATEWAY_ANSWERED);
	assert_int_equal(g->slots[0].reply_bytes, 0);
	assert_int_equal(g->slots[1].reply_bytes, 0);
	assert_int_equal(status_of(g, 2), WIRE_INTERNAL);
	gateway_done(r, g);
}

static void the_next_dataplane_serves_what_its_predecessor_left(void **state)
{
	struct rig *r = *state;
	struct gateway_region *g = gateway(r);

	submit(g, 4, 0, "alpha", 1);
	gateway_close(r->shared.gateway);
	rig_crash(r); /* before it ever polled */
	r->shared.gateway = g; /* the same region, offered to the successor */
	rig_model(r, 0, 1, rig_artifact("alpha", 1, 1.0f, 1, 64));
	worker_poll(r->worker);
	assert_int_equal(status_of(g, 4), WIRE_RESULT);
	r->shared.gateway = NULL;
	munmap(g, sizeof(*g));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, rig_set_up, rig_tear_down)
	const struct CMUnitTest tests[] = {
		T(the_risk_model_answers_over_the_wire_as_the_engine_does_alone),
		T(requests_over_https_get_the_same_answers_as_datagrams),
		T(a_plan_is_one_plan_however_the_request_comes),
		T(a_slot_that_is_no_request_is_given_back_and_nothing_runs),
		T(the_next_dataplane_serves_what_its_predecessor_left),
	};
#undef T

	return cmocka_run_group_tests(tests, NULL, NULL);
}
