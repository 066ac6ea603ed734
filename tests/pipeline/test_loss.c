/* SPDX-License-Identifier: BSD-3-Clause
 * libmillrace against the whole worker over a network that drops, duplicates and reorders (seeded): 10,000
 * requests of 1 to 16 datagrams, each answered exactly once and right.
 *
 *   mr_submit ─▶ kernel UDP ─▶ bad network ─▶ port_mem ▸ worker ▸ port_mem ─▶ bad network ─▶ kernel UDP ─▶ mr_poll
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <math.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "client/millrace.h"
#include "rig_wide.h"
#include "tests/unit/t_control.h"

enum {
	KEY_ID = 99, /* the rig's secret of a session is its key id, repeated */
	REQUESTS = 10000,
	IN_FLIGHT = 64,
	DELAYED = 64,
	UDP_AT = 14 + 20 + 8,
	DROP_PERCENT = 4,
	TWICE_PERCENT = 4,
	LATE_PERCENT = 10,
	LATE_MAX = 12, /* datagrams that overtake a late one */
};

/* One direction of the network. */
struct wire {
	uint64_t state; /* of the random numbers */
	struct {
		uint16_t bytes;
		uint16_t after; /* leaves when so many others have; 0 = free */
		uint8_t data[RIG_FRAME];
	} late[DELAYED];
	uint64_t dropped, twice, delayed;
};

struct bridge {
	struct rig *r;
	struct rig_client c;
	struct t_control control;
	struct wire up, down;
	struct sockaddr_in client;
	atomic_int stop;
};

static uint32_t draw(struct wire *w, uint32_t n)
{
	w->state ^= w->state << 13;
	w->state ^= w->state >> 7;
	w->state ^= w->state << 17;
	return (uint32_t)(w->state >> 33) % n;
}

typedef void deliver_fn(struct bridge *b, const uint8_t *data, size_t n);

/* One more datagram, or a quiet moment: nothing is late for ever. */
static void overtake(struct bridge *b, struct wire *w, deliver_fn *deliver)
{
	for (int i = 0; i < DELAYED; i++)
		if (w->late[i].after && !--w->late[i].after)
			deliver(b, w->late[i].data, w->late[i].bytes);
}

static bool delay(struct wire *w, const uint8_t *data, size_t n)
{
	for (int i = 0; i < DELAYED; i++) {
		if (w->late[i].after)
			continue;
		w->late[i].after = (uint16_t)(1 + draw(w, LATE_MAX));
		w->late[i].bytes = (uint16_t)n;
		memcpy(w->late[i].data, data, n);
		w->delayed++;
		return true;
	}
	return false;
}

static void carry(struct bridge *b, struct wire *w, const uint8_t *data, size_t n, deliver_fn *deliver)
{
	uint32_t fate = draw(w, 100);

	overtake(b, w, deliver);
	if (fate < DROP_PERCENT) {
		w->dropped++;
		return;
	}
	if (fate < DROP_PERCENT + LATE_PERCENT && delay(w, data, n))
		return;
	deliver(b, data, n);
	if (fate >= 100 - TWICE_PERCENT) {
		w->twice++;
		deliver(b, data, n);
	}
}

static void to_worker(struct bridge *b, const uint8_t *data, size_t n)
{
	uint8_t f[RIG_FRAME];

	port_mem_put(b->r->port, f, rig_wrap(&b->c, f, data, n));
}

static void to_client(struct bridge *b, const uint8_t *data, size_t n)
{
	sendto(b->control.udp_fd, data, n, 0, (struct sockaddr *)&b->client, sizeof(b->client));
}

static void turn(struct bridge *b)
{
	uint8_t d[RIG_FRAME];
	socklen_t from = sizeof(b->client);
	struct pollfd p = {.fd = b->control.udp_fd, .events = POLLIN};
	ssize_t n;

	if (poll(&p, 1, 1) == 0) {
		overtake(b, &b->up, to_worker);
		overtake(b, &b->down, to_client);
	}
	for (int i = 0; i < 16 && (n = recvfrom(p.fd, d, sizeof(d), MSG_DONTWAIT,
		(struct sockaddr *)&b->client, &from)) > 0; i++)
		carry(b, &b->up, d, (size_t)n, to_worker);
	b->r->port->now_ns = clock_now_ns();
	while (worker_poll(b->r->worker))
		;
	while ((n = (ssize_t)port_mem_get(b->r->port, d)) > 0)
		carry(b, &b->down, d + UDP_AT, (size_t)n - UDP_AT, to_client);
}

static void *bridge_main(void *arg)
{
	struct bridge *b = arg;

	while (!b->stop)
		turn(b);
	return NULL;
}

/* ---- the client ---- */

/* Of tag t: so many rows, beginning there in t_rows[]. Sizes favour the small, all 16 occur. */
static uint32_t rows_of_tag(uint64_t tag)
{
	uint32_t segments = tag % 3 == 0 ? 1 : tag % 3 == 1 ? 1 + (uint32_t)tag % 4 : 1 + (uint32_t)tag / 3 % 16;

	return t_rows_of(segments) - (uint32_t)tag % 60;
}

static uint32_t start_of_tag(uint64_t tag)
{
	return (uint32_t)(tag * 37 % (WIDE_ROWS + 1 - rows_of_tag(tag)));
}

static void check_result(const struct mr_result *m)
{
	float want[RIG_OUT];
	const float *got = m->rows;

	assert_int_equal(m->status, MR_RESULT);
	assert_int_equal(m->n_rows, rows_of_tag(m->tag));
	for (uint32_t i = 0; i < m->n_rows; i++) {
		rig_expect(t_rows[start_of_tag(m->tag) + i], 1.0f, want);
		for (int j = 0; j < RIG_OUT; j++)
			assert_true(fabsf(got[i * RIG_OUT + j] - want[j]) < 0.01f);
	}
}

static void ask_everything(struct mr_client *c, uint8_t *answers)
{
	const struct mr_model *m = mr_model_find(c, "wide");
	struct mr_result results[IN_FLIGHT];
	uint64_t next = 0, done = 0;

	while (done < REQUESTS) {
		int n = 0;

		while (next < REQUESTS && !n) {
			n = mr_submit(c, m, t_rows[start_of_tag(next)], rows_of_tag(next), next);
			assert_true(n == 0 || n == -EAGAIN);
			next += n == 0;
		}
		n = mr_poll(c, results, IN_FLIGHT, 1000);
		assert_true(n >= 0);
		for (int i = 0; i < n; i++) {
			check_result(&results[i]);
			answers[results[i].tag]++;
		}
		done += (uint64_t)n;
	}
}

static struct mr_client *open_client(struct bridge *b)
{
	struct mr_options o = {.https = b->control.https, .api_key = "sesame", .ca_file = b->control.ca_file,
		.retry_ms = 10, .attempts = 16, .in_flight = IN_FLIGHT};
	struct mr_client *c;
	struct mr_error err;

	if (mr_client_open(&c, &o, &err))
		fail_msg("%s", err.text);
	return c;
}

static void bridge_open(struct bridge *b, struct rig *r)
{
	*b = (struct bridge){.r = r, .up.state = 4711, .down.state = 815};
	assert_int_equal(t_control_start_https(&b->control), 0);
	b->control.secret = "Y2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2M="; /* 32 x 99 */
	b->control.model = "wide";
	b->control.max_rows = WIDE_ROWS;
	b->control.floats_in = RIG_IN;
	b->control.floats_out = RIG_OUT;
	r->port->now_ns = clock_now_ns();
	rig_session(r, &b->c, KEY_ID, 0, false);
	r->limits[0].interval_ticks = 1;
	r->limits[0].burst_ticks = 1ull << 40;
}

static void ten_thousand_requests_are_answered_exactly_once_over_a_bad_network(void **state)
{
	struct rig *r = *state;
	static struct bridge b;
	static uint8_t answers[REQUESTS];
	struct mr_counters n;
	struct mr_client *c;
	pthread_t thread;

	bridge_open(&b, r);
	assert_int_equal(pthread_create(&thread, NULL, bridge_main, &b), 0);
	c = open_client(&b);
	ask_everything(c, answers);
	b.stop = 1;
	pthread_join(thread, NULL);
	mr_counters_get(c, &n);
	mr_client_close(c);
	t_control_stop(&b.control);
	for (int i = 0; i < REQUESTS; i++)
		assert_int_equal(answers[i], 1);
	assert_int_equal(n.answered, REQUESTS);
	assert_int_equal(n.unanswered, 0);
	assert_true(n.rejected <= b.down.twice); /* replays, and nothing else */
	assert_true(b.up.dropped > 1000 && b.down.dropped > 1000);
	assert_true(rig_count(r, STATS_REPEATED) > 0);
	/* Nothing is computed without being charged, and nothing is charged but rows and datagrams. */
	assert_true(t_units(r) >= rig_count(r, STATS_ROWS) * WIDE_COST);
	assert_true(t_units(r) <= rig_count(r, STATS_ROWS) * WIDE_COST + rig_count(r, STATS_RX));
	print_message("%llu datagrams in, %llu dropped up, %llu down; %llu retries; %llu again from the store; "
		"%llu requests evicted, %llu expired\n", (unsigned long long)rig_count(r, STATS_RX),
		(unsigned long long)b.up.dropped, (unsigned long long)b.down.dropped,
		(unsigned long long)n.retries, (unsigned long long)rig_count(r, STATS_REPEATED),
		(unsigned long long)rig_count(r, STATS_SEGMENTS_EVICTED),
		(unsigned long long)rig_count(r, STATS_SEGMENTS_EXPIRED));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			ten_thousand_requests_are_answered_exactly_once_over_a_bad_network, t_set_up,
			rig_tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
