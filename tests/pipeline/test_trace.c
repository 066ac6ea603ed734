/* SPDX-License-Identifier: BSD-3-Clause
 * Traces: what is recorded is what was permitted, and a warmed cache answers what was never asked; live
 * requests come first, a swap ends it, and a wrong region is refused by name.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"
#include "rig_wide.h"

enum { ROWS = 200 };

/* Control's side of one. */
struct region {
	int fd;
	struct trace_header *h;
	float (*rows)[RIG_IN];
	size_t bytes;
};

static void row_of(float row[RIG_IN], uint32_t i)
{
	for (uint32_t k = 0; k < RIG_IN; k++)
		row[k] = (float)(i * 4 + k) / 16.0f;
}

static struct region region(enum trace_kind kind, uint32_t subscriber)
{
	struct region x = {.bytes = trace_bytes(ROWS, ROW_IN)};
	void *map;

	x.fd = fd_region_new("t-trace", x.bytes, true, &map, &(struct error){0});
	assert_true(x.fd >= 0);
	x.h = map;
	x.rows = (void *)((uint8_t *)map + TRACE_ROWS_AT);
	*x.h = (struct trace_header){.magic = TRACE_MAGIC, .version = TRACE_VERSION, .kind = kind,
		.subscriber = subscriber, .row_bytes = ROW_IN, .n_rows = ROWS, .total_bytes = x.bytes};
	for (uint32_t i = 0; kind == TRACE_WARM && i < ROWS; i++)
		row_of(x.rows[i], i);
	return x;
}

static int begin(struct rig *r, const struct region *x, struct error *err)
{
	struct trace *t = NULL;
	int rc = trace_open(&t, x->fd, &r->models, r->n_workers, err);

	if (!rc)
		r->shared.trace = t;
	return rc;
}

static void end(struct rig *r, struct region *x)
{
	trace_close(r->shared.trace);
	r->shared.trace = r->worker->trace = NULL;
	munmap(x->h, x->bytes);
	close(x->fd);
}

static void cache_on(struct rig *r, bool shared)
{
	assert_int_equal(model_table_cache(&r->models, 0, &(struct mailbox_cache){.memory_kb = 64,
		.shared = shared}, &(struct error){0}), 0);
}

static void ask(struct rig *r, struct rig_client *c, uint32_t i, float scale)
{
	uint8_t f[RIG_FRAME], a[RIG_FRAME];
	float row[RIG_IN], want[RIG_OUT];
	struct rig_reply got;

	row_of(row, i);
	rig_expect(row, scale, want);
	assert_true(rig_open(c, a, rig_exchange(r, f, rig_rows(c, f, "alpha", row, 1), a), &got));
	assert_int_equal(got.reply.status, WIRE_RESULT);
	assert_memory_equal(got.rows, want, sizeof(want));
	rig_balance(r);
}

static uint32_t warm(struct rig *r, const struct region *x)
{
	uint32_t polls = 0;

	while (x->h->workers[0].state == TRACE_GOING && polls++ < 10000)
		worker_poll(r->worker);
	return polls;
}

static void a_warmed_cache_answers_what_nobody_has_asked(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	struct region x = region(TRACE_WARM, TRACE_EVERYBODY);
	struct error err = {0};

	rig_session(r, &c, 0x1001, 0, false);
	cache_on(r, true);
	ask(r, &c, 7, 1.0f);
	assert_int_equal(begin(r, &x, &err), 0);
	assert_true(warm(r, &x) >= ROWS / 16);
	assert_int_equal(x.h->workers[0].state, TRACE_DONE);
	assert_int_equal(x.h->workers[0].rows, ROWS);
	assert_int_equal(x.h->workers[0].kept, ROWS - 1); /* one was there */
	assert_int_equal(t_units(r), 1); /* nobody is charged */
	assert_int_equal(rig_count(r, STATS_ROWS), 1);
	for (uint32_t i = 0; i < ROWS; i++)
		ask(r, &c, i, 1.0f);
	assert_int_equal(rig_count(r, STATS_BATCHES), 1);
	end(r, &x);
}

static void a_private_cache_is_warmed_for_one_subscriber_alone(void **state)
{
	struct rig *r = *state;
	struct rig_client a, b;
	struct region x = region(TRACE_WARM, TRACE_EVERYBODY);
	struct error err = {0};

	rig_session(r, &a, 0x1001, 0, false);
	rig_session(r, &b, 0x1002, 1, false);
	cache_on(r, false);
	assert_int_equal(begin(r, &x, &err), -EINVAL);
	assert_non_null(strstr(err.text, "name the subscriber"));
	x.h->subscriber = 1;
	assert_int_equal(begin(r, &x, &err), 0);
	warm(r, &x);
	for (uint32_t i = 0; i < ROWS; i++)
		ask(r, &b, i, 1.0f);
	assert_int_equal(rig_count(r, STATS_BATCHES), 0);
	ask(r, &a, 3, 1.0f);
	assert_int_equal(rig_count(r, STATS_BATCHES), 1);
	end(r, &x);
}

static void live_requests_are_answered_at_once_while_a_cache_is_warmed(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	struct region x = region(TRACE_WARM, TRACE_EVERYBODY);

	rig_session(r, &c, 0x1001, 0, false);
	cache_on(r, true);
	r->worker->slice_tsc = 0; /* the least step there is */
	assert_int_equal(begin(r, &x, &(struct error){0}), 0);
	for (uint32_t i = 0; i < 640; i++) {
		ask(r, &c, 1000 + i, 1.0f);
		assert_true(x.h->workers[0].rows <= 16 * (i / 32 + 1)); /* every 32nd busy poll, 16 rows */
	}
	assert_true(x.h->workers[0].rows > 0);
	warm(r, &x);
	assert_int_equal(x.h->workers[0].state, TRACE_DONE);
	end(r, &x);
}

static void a_swap_ends_the_warming_and_nothing_of_it_reaches_the_new_version(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	struct region x = region(TRACE_WARM, TRACE_EVERYBODY);

	rig_session(r, &c, 0x1001, 0, false);
	cache_on(r, true);
	assert_int_equal(begin(r, &x, &(struct error){0}), 0);
	for (int i = 0; i < 3; i++)
		worker_poll(r->worker);
	for (uint32_t v = 2; v < 6; v++) { /* out of all three slots */
		rig_model(r, 0, v, rig_artifact("alpha", v, (float)v, 1, 64));
		worker_poll(r->worker);
		model_table_reap(&r->models);
	}
	assert_int_equal(x.h->workers[0].state, TRACE_STALE);
	assert_int_equal(r->released, 3); /* 2 and 3 are gone, 1 is held */
	for (uint32_t i = 0; i < 20; i++)
		ask(r, &c, i, 5.0f);
	end(r, &x);
	model_table_reap(&r->models);
}

static void taking_the_cache_away_ends_the_warming(void **state)
{
	struct rig *r = *state;
	struct region x = region(TRACE_WARM, TRACE_EVERYBODY);

	cache_on(r, true);
	assert_int_equal(begin(r, &x, &(struct error){0}), 0);
	worker_poll(r->worker);
	assert_int_equal(model_table_cache(&r->models, 0, &(struct mailbox_cache){0}, &(struct error){0}), 0);
	worker_poll(r->worker);
	assert_int_equal(x.h->workers[0].state, TRACE_STALE);
	end(r, &x);
}

static void what_is_recorded_is_what_was_permitted_and_no_more_than_there_is_room_for(void **state)
{
	struct rig *r = *state;
	struct rig_client a, b;
	struct region x = region(TRACE_RECORD, 1);
	float row[RIG_IN];
	uint8_t f[RIG_FRAME], answer[RIG_FRAME];

	rig_session(r, &a, 0x1001, 0, false);
	rig_session(r, &b, 0x1002, 1, false);
	assert_int_equal(begin(r, &x, &(struct error){0}), 0);
	ask(r, &a, 1, 1.0f); /* another subscriber's is none of it */
	r->limits[1].model_mask = 0;
	row_of(row, 9);
	rig_exchange(r, f, rig_rows(&b, f, "alpha", row, 1), answer); /* refused */
	r->limits[1].model_mask = ~0ull;
	assert_int_equal(x.h->taken, 0);
	for (uint32_t i = 0; i < ROWS + 50; i++)
		ask(r, &b, i, 1.0f);
	assert_int_equal(x.h->taken, ROWS);
	for (uint32_t i = 0; i < ROWS; i++) {
		row_of(row, i);
		assert_memory_equal(x.rows[i], row, sizeof(row));
	}
	end(r, &x);
}

static void a_wrong_region_is_refused_by_name(void **state)
{
	struct rig *r = *state;
	struct region x = region(TRACE_WARM, TRACE_EVERYBODY);
	const struct trace_header good = *x.h;
	struct error err = {0};
	struct trace *t;
	void *map;
	int small;

	assert_int_equal(begin(r, &x, &err), -EINVAL);
	assert_non_null(strstr(err.text, "no response cache"));
	cache_on(r, true);
#define REFUSED(field, value, why)                                                                 \
	do {                                                                                       \
		x.h->field = (value);                                                              \
		assert_true(begin(r, &x, &err) < 0);                                               \
		assert_non_null(strstr(err.text, why));                                            \
		*x.h = good;                                                                       \
	} while (0)
	REFUSED(magic, 1, "not a region");
	REFUSED(version, 99, "not a region");
	REFUSED(kind, 3, "not a region");
	REFUSED(model_index, 5, "no current version");
	REFUSED(model_index, UINT32_MAX, "no current version");
	REFUSED(row_bytes, ROW_IN + 4, "rows of 20 bytes");
	REFUSED(n_rows, ROWS + 1, "rows in");
	REFUSED(n_rows, 0, "rows in");
	REFUSED(total_bytes, x.bytes + 1, "rows in");
	x.h->n_rows = UINT32_MAX;
	REFUSED(total_bytes, trace_bytes(UINT32_MAX, ROW_IN), "rows in");
	small = fd_region_new("t-small", 64, true, &map, &err);
	assert_int_equal(trace_open(&t, small, &r->models, 1, &err), -EPROTO);
	munmap(map, 64);
	close(small);
	munmap(x.h, x.bytes);
	close(x.fd);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, rig_set_up, rig_tear_down)
	const struct CMUnitTest tests[] = {
		CASE(a_warmed_cache_answers_what_nobody_has_asked),
		CASE(a_private_cache_is_warmed_for_one_subscriber_alone),
		CASE(live_requests_are_answered_at_once_while_a_cache_is_warmed),
		CASE(a_swap_ends_the_warming_and_nothing_of_it_reaches_the_new_version),
		CASE(taking_the_cache_away_ends_the_warming),
		CASE(what_is_recorded_is_what_was_permitted_and_no_more_than_there_is_room_for),
		CASE(a_wrong_region_is_refused_by_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
