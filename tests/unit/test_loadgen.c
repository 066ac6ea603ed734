/* SPDX-License-Identifier: BSD-3-Clause
 * Is the load generator honest? Its loop against a server in the same thread that stalls, loses and refuses
 * by script, so that every figure it reports is known beforehand.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "perf/loadgen/run.h"

enum { KEY_ID = 0x1234, ROW_BYTES = 16, QUEUE = 1 << 14, DATAGRAM_BYTES = WIRE_MAX_PAYLOAD_BYTES,
	LARGE_BYTES = 3000 /* a result of three datagrams */ };

/* The network and the server behind it. */
struct fake {
	struct transport base;
	struct channel server;
	uint64_t stall_from_ns, stall_to_ns; /* nothing arrives in this time */
	uint64_t absent_ns;                  /* the client loses its core for so long, once, with answers waiting */
	uint32_t lose_every, refuse_every;   /* by request id; 0 = none */
	uint32_t lose_part_every;            /* the middle one of a result, the first time it is sent */
	uint32_t send_takes, send_calls;     /* every other send(): no more than so many; 0 = all */
	bool gone;                           /* nobody is there: send() takes nothing */
	int ends_with;                       /* what bench_run() returns */
	uint32_t row_out_bytes, most_queued;
	bool lost_part[QUEUE];
	uint32_t head, tail, bytes[QUEUE];
	uint8_t queue[QUEUE][DATAGRAM_BYTES];
	uint8_t handed_out[TRANSPORT_BURST][DATAGRAM_BYTES];
};

static void fake_frame(struct transport *t, const struct datagram *d, uint32_t n)
{
	(void)t, (void)d, (void)n;
}

static void put(struct fake *f, struct wire_reply reply, const uint8_t *rows, size_t bytes)
{
	f->bytes[f->head % QUEUE] = (uint32_t)channel_seal_reply(&f->server, &reply, rows, bytes,
		f->queue[f->head % QUEUE], DATAGRAM_BYTES);
	f->head++;
	assert_true(f->head - f->tail < QUEUE);
	if (f->head - f->tail > f->most_queued)
		f->most_queued = f->head - f->tail;
}

/* What the model answers: its row's first value, counted up. */
static float large_value(const uint8_t *row, size_t k)
{
	float first;

	memcpy(&first, row, sizeof(first));
	return first + (float)k;
}

/* The last datagram first. */
static void put_large(struct fake *f, struct wire_reply reply, const uint8_t *row)
{
	float rows[LARGE_BYTES / sizeof(float)];

	for (size_t k = 0; k < LARGE_BYTES / sizeof(float); k++)
		rows[k] = large_value(row, k);
	reply.segment_count = (LARGE_BYTES + WIRE_SEGMENT_ROW_BYTES - 1) / WIRE_SEGMENT_ROW_BYTES;
	for (uint32_t n = reply.segment_count; n-- > 0;) {
		size_t at = n * WIRE_SEGMENT_ROW_BYTES, bytes = LARGE_BYTES - at;
		bool *lost = &f->lost_part[reply.request_id % QUEUE];

		if (n == 1 && f->lose_part_every && reply.request_id % f->lose_part_every == 0 && !*lost) {
			*lost = true;
			continue;
		}
		reply.segment_index = (uint8_t)n;
		put(f, reply, (const uint8_t *)rows + at,
			bytes < WIRE_SEGMENT_ROW_BYTES ? bytes : WIRE_SEGMENT_ROW_BYTES);
	}
}

static void serve(struct fake *f, const struct datagram *d)
{
	uint8_t copy[DATAGRAM_BYTES];
	struct wire_request q;
	struct wire_reply reply;
	const uint8_t *rows;
	size_t bytes;
	bool refuse;

	memcpy(copy, d->data, d->bytes);
	assert_int_equal(channel_open_request(&f->server, copy, d->bytes, &q, &rows, &bytes), CHANNEL_OK);
	if (f->lose_every && q.request_id % f->lose_every == 0)
		return;
	refuse = f->refuse_every && q.request_id % f->refuse_every == 0;
	reply = (struct wire_reply){.request_id = q.request_id, .model_id = q.model_id,
		.status = refuse ? WIRE_RATE_LIMITED : WIRE_RESULT, .dtype = refuse ? 0 : WIRE_F32,
		.segment_count = 1, .rows = refuse ? 0 : q.rows};
	if (f->row_out_bytes == LARGE_BYTES)
		put_large(f, reply, rows);
	else
		put(f, reply, rows, refuse ? 0 : bytes);
}

static int fake_send(struct transport *t, const struct datagram *d, uint32_t n)
{
	struct fake *f = (struct fake *)t;

	if (f->gone)
		return 0;
	if (f->send_takes && f->send_calls++ % 2 && n > f->send_takes)
		n = f->send_takes;
	for (uint32_t i = 0; i < n; i++)
		serve(f, &d[i]);
	return (int)n;
}

static int fake_receive(struct transport *t, struct datagram *d)
{
	struct fake *f = (struct fake *)t;
	uint64_t now = clock_now_ns();
	int n = 0;

	if (now >= f->stall_from_ns && now < f->stall_to_ns)
		return 0;
	if (f->absent_ns && f->head - f->tail >= TRANSPORT_BURST) {
		usleep((useconds_t)(f->absent_ns / 1000));
		f->absent_ns = 0;
	}
	for (; n < TRANSPORT_BURST && f->tail != f->head; n++, f->tail++) {
		memcpy(f->handed_out[n], f->queue[f->tail % QUEUE], f->bytes[f->tail % QUEUE]);
		d[n] = (struct datagram){f->handed_out[n], f->bytes[f->tail % QUEUE]};
	}
	return n;
}

static const struct transport_ops fake_ops = {.frame = fake_frame, .send = fake_send,
	.receive = fake_receive};

/* The workload, as if read by --expect. */
static void expect_large(struct workload *w)
{
	size_t n = LARGE_BYTES / sizeof(float);

	w->expect = (struct npy_floats){.rows = w->n_rows, .columns = n,
		.values = malloc(w->n_rows * n * sizeof(float))};
	for (size_t i = 0; i < w->n_rows * n; i++)
		w->expect.values[i] = large_value(w->inputs + i / n * ROW_BYTES, i % n);
}

struct t {
	struct fake fake;
	struct options options;
	struct run_report report;
};

static int begin(void **state)
{
	struct t *t = calloc(1, sizeof(*t));

	if (!t)
		return -1;
	t->options = (struct options){.sessions = 1, .rows_per_request = 1, .window = 16, .attempts = 1,
		.timeout_ms = 1000, .quiet = true, .seed = 1};
	*state = t;
	return 0;
}

static int end(void **state)
{
	free(*state);
	return 0;
}

static void run(struct t *t)
{
	struct fake *f = &t->fake;
	const struct options *o = &t->options;
	static const uint8_t secret[WIRE_KEY_BYTES] = {1, 2, 3};
	struct bench_sessions s = {.n = 1, .mask = 15};
	struct mr_model model = {.name = "echo", .id = 7, .row_in_bytes = ROW_BYTES,
		.row_out_bytes = f->row_out_bytes ? f->row_out_bytes : ROW_BYTES, .max_rows = 1, .input_dtype = WIRE_F32,
		.output_dtype = WIRE_F32};
	static volatile sig_atomic_t never;
	struct error err = {0};
	struct workload w;

	s.list = calloc(1, sizeof(*s.list));
	s.table = calloc(16, sizeof(*s.table));
	s.table[KEY_ID * 2654435761u & 15] = 1;
	assert_int_equal(aead_init(&s.aead), 0);
	assert_int_equal(channel_init(&s.list->channel, &s.aead, secret, KEY_ID, 0, CHANNEL_CLIENT), 0);
	assert_int_equal(channel_init(&f->server, &s.aead, secret, KEY_ID, 0, CHANNEL_SERVER), 0);
	f->base.ops = &fake_ops;
	assert_int_equal(workload_init(&w, o, &model, &err), 0);
	if (f->row_out_bytes == LARGE_BYTES)
		expect_large(&w);
	assert_int_equal(bench_run(&t->report, o, &s, &w, &f->base, NULL, &never, &err), f->ends_with);
	assert_int_equal(w.wrong, 0);
	workload_uninit(&w);
	channel_uninit(&f->server);
	bench_sessions_close(&s);
}

static void a_stall_is_charged_to_every_request_it_delayed(void **state)
{
	struct t *t = *state;
	struct run_report *r = &t->report;
	uint64_t delayed = 0;

	t->options.rate = 5000;
	t->options.seconds = 0.4;
	t->fake.stall_from_ns = clock_now_ns() + 150 * NS_PER_MS; /* the generator calibrates for 20 ms first */
	t->fake.stall_to_ns = t->fake.stall_from_ns + 60 * NS_PER_MS;
	run(t);
	for (uint32_t i = histogram_bucket(NS_PER_MS); i < HISTOGRAM_BUCKETS; i++)
		delayed += r->latency_ns[i];
	assert_in_range(r->sent, 1900, 2001); /* a busy machine may take the last of it */
	assert_int_equal(r->answered, r->sent);
	assert_int_equal(r->measured, r->sent);
	assert_true(delayed >= 290); /* due in the 58 ms that were over 1 ms from the stall's end */
	assert_true(histogram_percentile(r->latency_ns, 95) >= 15 * NS_PER_MS);
	assert_true(r->max_us >= 59e3);
	assert_true(r->max_gap_ms >= 59);
}

static void what_is_never_answered_is_counted_and_not_measured(void **state)
{
	struct t *t = *state;
	struct run_report *r = &t->report;

	t->options.count = 1000;
	t->options.attempts = 2;
	t->options.timeout_ms = 200;
	t->fake.lose_every = 10;
	run(t);
	assert_int_equal(r->sent, 1000);
	assert_int_equal(r->answered, 900);
	assert_int_equal(r->unanswered, 100);
	assert_int_equal(r->first_try_losses, 100);
	assert_int_equal(r->retries, 100);
	assert_int_equal(r->measured, 900);
	assert_int_equal(histogram_count(r->latency_ns), 900);
}

static void a_refusal_is_an_answer_and_no_speed(void **state)
{
	struct t *t = *state;
	struct run_report *r = &t->report;

	t->options.count = 1000;
	t->options.warmup = 100;
	t->fake.refuse_every = 4;
	run(t);
	assert_int_equal(r->answered, 1000);
	assert_int_equal(r->status[WIRE_RATE_LIMITED], 250);
	assert_int_equal(r->status[WIRE_RESULT], 750);
	assert_int_equal(r->measured, 675); /* three of four behind the warm-up */
	assert_int_equal(histogram_count(r->latency_ns), 675);
}

/* Open loop, and the server answers late: neither a full queue here nor one there may lose anything. */
static void what_a_full_queue_does_not_take_is_sent_later(void **state)
{
	struct t *t = *state;
	struct run_report *r = &t->report;

	t->options.rate = 100000;
	t->options.count = 20000;
	t->fake.base.room = 100;
	t->fake.send_takes = 3;
	t->fake.stall_from_ns = clock_now_ns() + 60 * NS_PER_MS;
	t->fake.stall_to_ns = t->fake.stall_from_ns + 50 * NS_PER_MS;
	run(t);
	assert_int_equal(r->sent, 20000);
	assert_int_equal(r->status[WIRE_RESULT], 20000);
	assert_int_equal(r->first_try_losses, 0);
	assert_int_equal(r->unanswered, 0);
	assert_true(r->queue_full > 0);
	assert_true(r->held_back > 0);
	assert_in_range(t->fake.most_queued, 90, 100);
	assert_true(r->max_us >= 45e3); /* held back, and measured from when it was due */
}

static void a_port_without_another_end_ends_the_run(void **state)
{
	struct t *t = *state;
	struct run_report *r = &t->report;

	t->options.count = 100;
	t->options.stuck_ms = 100;
	t->fake.gone = true;
	t->fake.ends_with = -ENOLINK;
	run(t);
	assert_int_equal(r->answered, 0);
	assert_int_equal(r->unanswered, r->sent);
}

static void an_answer_in_our_own_queue_is_not_asked_for_again(void **state)
{
	struct t *t = *state;
	struct run_report *r = &t->report;

	t->options.count = 5000;
	t->options.window = 96;
	t->options.timeout_ms = 100;
	t->options.attempts = 3;
	t->fake.absent_ns = 250 * NS_PER_MS;
	run(t);
	assert_int_equal(r->status[WIRE_RESULT], 5000);
	assert_true(r->max_us >= 240e3);
	assert_int_equal(r->retries, 0);
	assert_int_equal(r->first_try_losses, 0);
}

static void a_result_of_several_datagrams_is_put_together(void **state)
{
	struct t *t = *state;
	struct run_report *r = &t->report;

	t->options.count = 2000;
	t->options.attempts = 3;
	t->options.timeout_ms = 50;
	t->options.rtol = 1e-6;
	t->fake.row_out_bytes = LARGE_BYTES;
	t->fake.lose_part_every = 100;
	run(t);
	assert_int_equal(r->status[WIRE_RESULT], 2000);
	assert_int_equal(r->first_try_losses, 20);
	assert_int_equal(r->retries, 20);
	assert_int_equal(r->unknown, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_stall_is_charged_to_every_request_it_delayed, begin, end),
		cmocka_unit_test_setup_teardown(what_is_never_answered_is_counted_and_not_measured, begin, end),
		cmocka_unit_test_setup_teardown(a_refusal_is_an_answer_and_no_speed, begin, end),
		cmocka_unit_test_setup_teardown(what_a_full_queue_does_not_take_is_sent_later, begin, end),
		cmocka_unit_test_setup_teardown(a_port_without_another_end_ends_the_run, begin, end),
		cmocka_unit_test_setup_teardown(an_answer_in_our_own_queue_is_not_asked_for_again, begin, end),
		cmocka_unit_test_setup_teardown(a_result_of_several_datagrams_is_put_together, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
