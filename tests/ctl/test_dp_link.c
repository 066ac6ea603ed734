/* SPDX-License-Identifier: BSD-3-Clause
 * The link against a peer that speaks abi/link.h and abi/mailbox.h from this file: attach order, adoption,
 * acknowledgements, losses, statistics that never go back, and peers that break the rules.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "control/attach.h"
#include "control/config.h"
#include "control/gateway.h"
#include "control/license.h"
#include "control/limits_table.h"
#include "control/models.h"
#include "control/supervisor.h"

enum { MAX_SEEN = 64 };

/* What the other modules would do, and a record of what they were asked. */
static struct {
	int config_fd, limits_fd, sessions_fd;
	uint32_t attached, detached, adopted_tables, adopted_models, ready, gone, adopted_pids;
	uint64_t licence_ns, released;
	bool enabled;
} other;

int supervisor_config_fd(const struct control *ctl) { (void)ctl; return other.config_fd; }
void supervisor_adopt(struct control *ctl, int32_t pid) { (void)ctl; other.adopted_pids += pid == getpid(); }
void supervisor_dataplane_gone(struct control *ctl) { (void)ctl; other.gone++; }
void supervisor_dataplane_ready(struct control *ctl) { (void)ctl; other.ready++; }
int sessions_table_fd(const struct control *ctl) { (void)ctl; return other.sessions_fd; }
int sessions_need_table(struct control *ctl, struct error *err) { (void)ctl; (void)err; return 0; }
void sessions_attached(struct control *ctl) { (void)ctl; other.attached++; }
void models_offer(struct control *ctl) { (void)ctl; }
void models_attached(struct control *ctl) { (void)ctl; }
void models_detached(struct control *ctl) { (void)ctl; other.detached++; }
int limits_table_fd(const struct control *ctl) { (void)ctl; return other.limits_fd; }
void limits_table_enable(struct control *ctl, bool on) { (void)ctl; other.enabled = on; }
uint64_t license_until_ns(const struct control *ctl) { (void)ctl; return other.licence_ns; }

int sessions_adopt_table(struct control *ctl, int fd, struct error *err)
{
	(void)ctl;
	(void)err;
	close(fd);
	other.adopted_tables++;
	return 0;
}

int models_adopt(struct control *ctl, int fd, const struct link_artifact *a, struct error *err)
{
	(void)ctl;
	(void)err;
	(void)a;
	other.adopted_models += fd >= 0;
	return 0;
}

int limits_table_adopt(struct control *ctl, int fd, struct error *err)
{
	(void)ctl;
	(void)fd;
	(void)err;
	return 0;
}

void models_released(struct control *ctl, uint32_t index, uint64_t number)
{
	(void)ctl;
	(void)index;
	other.released = number;
}

/* ---- the peer ---- */

static char dir[] = "/tmp/mr-link-XXXXXX";

static struct peer {
	int listen, sock;
	int stats_fd, mailbox_fd;
	struct stats_region *stats;
	struct mailbox *mailbox;
	uint32_t seen[MAX_SEEN]; /* kind << 8 | fd_kind, in order */
	uint32_t n_seen;
} peer;

static void peer_regions(struct peer *p)
{
	void *stats, *mailbox;

	p->stats_fd = fd_region_new("t-stats", sizeof(struct stats_region), false, &stats, NULL);
	p->mailbox_fd = fd_region_new("t-mailbox", sizeof(struct mailbox), false, &mailbox, NULL);
	p->stats = stats;
	p->mailbox = mailbox;
	p->stats->header.magic = STATS_MAGIC;
	p->stats->header.version = STATS_VERSION;
	p->stats->header.total_bytes = sizeof(struct stats_region);
	p->stats->header.n_workers = 2;
	p->stats->workers[0].state = p->stats->workers[1].state = 1;
	p->mailbox->magic = MAILBOX_MAGIC;
	p->mailbox->version = MAILBOX_VERSION;
	p->mailbox->total_bytes = sizeof(struct mailbox);
}

static void peer_forget_regions(struct peer *p)
{
	munmap(p->stats, sizeof(*p->stats));
	munmap(p->mailbox, sizeof(*p->mailbox));
	close(p->stats_fd);
	close(p->mailbox_fd);
}

static void peer_send(struct peer *p, uint16_t kind, uint32_t fd_kind, int fd)
{
	struct link_message m = {.magic = LINK_MAGIC, .version = LINK_VERSION, .kind = kind,
		.fd_kind = fd_kind};

	assert_int_equal(fd_send(p->sock, &m, sizeof(m), &fd, fd >= 0), 0);
}

static void peer_read(struct peer *p)
{
	struct link_message m;
	int fds[FD_MAX_PASSED];
	size_t n;

	while (p->sock >= 0 && fd_recv(p->sock, &m, sizeof(m), fds, &n) == sizeof(m)) {
		if (p->n_seen < MAX_SEEN)
			p->seen[p->n_seen++] = (uint32_t)m.kind << 8 | m.fd_kind;
		while (n)
			close(fds[--n]);
	}
}

static void peer_accept(struct peer *p, struct control *ctl)
{
	for (int i = 0; i < 100 && p->sock < 0; i++) {
		event_base_loop(ctl->base, EVLOOP_NONBLOCK);
		p->sock = accept4(p->listen, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		usleep(5000);
	}
	assert_true(p->sock >= 0);
	p->n_seen = 0;
	peer_read(p);
}

static void peer_offer_all(struct peer *p)
{
	peer_send(p, LINK_HELLO, 0, -1);
	peer_send(p, LINK_OFFER, LINK_FD_STATS, p->stats_fd);
	peer_send(p, LINK_OFFER, LINK_FD_MAILBOX, p->mailbox_fd);
	peer_send(p, LINK_OFFERED, 0, -1);
}

static void turn(struct control *ctl, int ms)
{
	uint64_t until = clock_now_ns() + (uint64_t)ms * NS_PER_MS;

	do {
		event_base_loop(ctl->base, EVLOOP_NONBLOCK);
		usleep(500);
	} while (clock_now_ns() < until);
	peer_read(&peer);
}

static void peer_close(struct peer *p)
{
	fd_close(p->sock);
	p->sock = -1;
}

static struct mailbox_message peer_take(enum mailbox_command kind)
{
	struct mailbox_message m = {0};

	while (mailbox_get(&peer.mailbox->to_dataplane, &m) && m.kind != (uint32_t)kind)
		;
	assert_int_equal(m.kind, kind);
	return m;
}

static void peer_ack(uint64_t seq, int result)
{
	struct mailbox_message m = {.seq = seq, .kind = EVENT_ACK, .result = result};

	assert_true(mailbox_put(&peer.mailbox->to_control, &m));
}

/* ---- fixture ---- */

static struct config config;

static int set_up(void **state)
{
	static struct control ctl;
	char path[128];

	memset(&other, 0, sizeof(other));
	memset(&peer, 0, sizeof(peer));
	snprintf(dir, sizeof(dir), "/tmp/mr-link-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	config.run_dir = dir;
	other.config_fd = fd_sealed_copy("t-config", "x", 1, NULL);
	other.limits_fd = fd_region_new("t-limits", 4096, false, NULL, NULL);
	other.sessions_fd = fd_region_new("t-sessions", 4096, true, NULL, NULL);
	other.licence_ns = 5;
	snprintf(path, sizeof(path), "%s/dataplane.sock", dir);
	peer.listen = fd_unix_listen(path, SOCK_SEQPACKET, 0600, NULL);
	peer.sock = -1;
	peer_regions(&peer);
	ctl = (struct control){.base = event_base_new(), .config = &config};
	*state = &ctl;
	return gateway_init(&ctl, NULL) ? -1 : dp_link_init(&ctl, NULL);
}

static int tear_down(void **state)
{
	struct control *ctl = *state;
	char path[128];

	dp_link_uninit(ctl);
	gateway_uninit(ctl);
	event_base_free(ctl->base);
	peer_close(&peer);
	close(peer.listen);
	peer_forget_regions(&peer);
	close(other.config_fd);
	close(other.limits_fd);
	close(other.sessions_fd);
	snprintf(path, sizeof(path), "%s/dataplane.sock", dir);
	unlink(path);
	return rmdir(dir);
}

static void attach(struct control *ctl)
{
	dp_link_start(ctl);
	peer_accept(&peer, ctl);
	peer_offer_all(&peer);
	turn(ctl, 20);
	assert_int_equal(dp_link_state(ctl), DP_READY);
}

static void record(int result, void *arg)
{
	*(int *)arg = result;
}

/* ---- tests ---- */

static void the_session_table_is_offered_only_after_the_peers_offers(void **state)
{
	struct control *ctl = *state;
	static const uint32_t first[] = {LINK_HELLO << 8, LINK_OFFER << 8 | LINK_FD_CONFIG,
		LINK_OFFER << 8 | LINK_FD_LIMITS};

	dp_link_start(ctl);
	peer_accept(&peer, ctl);
	turn(ctl, 20);
	assert_int_equal(peer.n_seen, 3);
	assert_memory_equal(peer.seen, first, sizeof(first));
	assert_int_equal(dp_link_state(ctl), DP_STARTING);
	peer_offer_all(&peer);
	turn(ctl, 20);
	assert_int_equal(peer.n_seen, 6);
	assert_int_equal(peer.seen[3], LINK_OFFER << 8 | LINK_FD_SESSIONS);
	assert_int_equal(peer.seen[4], LINK_OFFER << 8 | LINK_FD_GATEWAY);
	assert_int_equal(peer.seen[5], LINK_OFFERED << 8);
	assert_int_equal(dp_link_state(ctl), DP_READY);
	assert_int_equal(other.attached, 1);
	assert_int_equal(other.ready, 1);
	assert_int_equal(other.adopted_pids, 1);
	assert_true(other.enabled);
	assert_int_equal(peer_take(CMD_LICENCE).a, 5);
}

static void what_the_peer_holds_is_adopted(void **state)
{
	struct control *ctl = *state;

	dp_link_start(ctl);
	peer_accept(&peer, ctl);
	peer_send(&peer, LINK_HELLO, 0, -1);
	peer_send(&peer, LINK_OFFER, LINK_FD_SESSIONS, other.sessions_fd);
	peer_send(&peer, LINK_OFFER, LINK_FD_ARTIFACT, other.config_fd);
	peer_offer_all(&peer);
	turn(ctl, 20);
	assert_int_equal(other.adopted_tables, 1);
	assert_int_equal(other.adopted_models, 1);
	assert_int_equal(dp_link_state(ctl), DP_READY);
}

static void it_is_ready_only_when_every_worker_polls(void **state)
{
	struct control *ctl = *state;

	peer.stats->workers[1].state = 0;
	dp_link_start(ctl);
	peer_accept(&peer, ctl);
	peer_offer_all(&peer);
	turn(ctl, 20);
	assert_int_equal(dp_link_state(ctl), DP_ATTACHED);
	peer.stats->workers[1].state = 1;
	turn(ctl, 20);
	assert_int_equal(dp_link_state(ctl), DP_READY);
}

static void a_command_is_answered_once_with_its_result(void **state)
{
	struct control *ctl = *state;
	static int first = 99, second = 99; /* tear_down fails what is still pending */
	struct mailbox_message m;

	attach(ctl);
	assert_int_equal(dp_link_command(ctl, CMD_SESSION_ADD, 7, 8, record, &first), 0);
	assert_int_equal(dp_link_command(ctl, CMD_MODEL_ACTIVATE, 1, 0, record, &second), 0);
	m = peer_take(CMD_SESSION_ADD);
	assert_int_equal(m.a, 7);
	assert_int_equal(m.b, 8);
	m = peer_take(CMD_MODEL_ACTIVATE);
	peer_ack(m.seq, -ENOENT); /* out of order */
	peer_ack(m.seq + 1000, 0); /* nobody's */
	turn(ctl, 20);
	assert_int_equal(second, -ENOENT);
	assert_int_equal(first, 99);
	second = 98;
	peer_ack(m.seq, 0); /* twice */
	turn(ctl, 20);
	assert_int_equal(second, 98);
}

static char why[MAILBOX_REFUSAL_BYTES + 8];

static void record_why(int result, void *arg)
{
	assert_int_equal(result, -EINVAL);
	snprintf(why, sizeof(why), "%s", dp_link_refusal(arg));
}

static void a_refusal_comes_with_its_reason_whatever_the_peer_wrote(void **state)
{
	struct control *ctl = *state;
	struct mailbox_message m;

	attach(ctl);
	for (uint64_t b = 0; b < 3; b++) {
		assert_int_equal(dp_link_command(ctl, CMD_MODEL_STAGE, 1, 0, record_why, ctl), 0);
		m = peer_take(CMD_MODEL_STAGE);
		snprintf(peer.mailbox->refusals[0], MAILBOX_REFUSAL_BYTES, "no room\033[2J");
		memset(peer.mailbox->refusals[1], 'x', MAILBOX_REFUSAL_BYTES); /* without an end */
		m = (struct mailbox_message){.seq = m.seq, .kind = EVENT_ACK, .result = -EINVAL,
			.b = b == 2 ? UINT64_MAX : b};
		assert_true(mailbox_put(&peer.mailbox->to_control, &m));
		snprintf(why, sizeof(why), "never told");
		turn(ctl, 20);
		if (b == 0)
			assert_string_equal(why, "no room?[2J");
		else
			assert_int_equal(strlen(why), b == 1 ? MAILBOX_REFUSAL_BYTES - 1 : 0);
	}
	assert_string_equal(dp_link_refusal(ctl), "");
}

static void a_link_in_doubt_is_attached_anew_and_the_offers_are_read_again(void **state)
{
	struct control *ctl = *state;
	static int result = 99;

	attach(ctl);
	assert_int_equal(dp_link_command(ctl, CMD_SESSION_ADD, 1, 0, record, &result), 0);
	dp_link_reattach(ctl, "a test");
	assert_int_equal(result, -ECONNRESET);
	assert_int_equal(dp_link_state(ctl), DP_STARTING);
	dp_link_reattach(ctl, "twice does nothing more");
	assert_int_equal(other.detached, 1);
	peer_close(&peer);
	turn(ctl, 300);
	peer_accept(&peer, ctl);
	peer_offer_all(&peer);
	turn(ctl, 20);
	assert_int_equal(dp_link_state(ctl), DP_READY);
	assert_int_equal(other.attached, 2);
}

static void never(const struct gateway_answer *a, void *arg)
{
	(void)a;
	(void)arg;
	fail();
}

/* What an earlier control had submitted when it died is answered after the adoption, to nobody. */
static void gateway_slots_answered_to_nobody_are_used_again(void **state)
{
	struct control *ctl = *state;
	struct model_entry m = {.header = {.max_rows = 1, .row_in_bytes = 4, .row_out_bytes = 4,
		.inputs = {{.dtype = WIRE_F32}}}};
	struct gateway_region *g;
	struct gateway_job *job = NULL;
	struct error err = {0};
	size_t bytes;
	void *map;

	attach(ctl);
	assert_int_equal(fd_region_map(gateway_fd(ctl), true, true, &map, &bytes, NULL), 0);
	g = map;
	for (int i = 0; i < GATEWAY_SLOTS; i++)
		g->slots[i].state = GATEWAY_SUBMITTED;
	assert_int_equal(gateway_infer(ctl, 0, &m, 1, (const uint8_t *)"1234", never, NULL, &job, &err),
		-EAGAIN);
	for (int i = 0; i < GATEWAY_SLOTS; i++)
		g->slots[i].state = GATEWAY_ANSWERED;
	assert_int_equal(gateway_infer(ctl, 0, &m, 1, (const uint8_t *)"1234", never, NULL, &job, &err), 0);
	gateway_forget(job);
	munmap(map, bytes);
}

static void a_silent_peer_is_a_timeout_and_a_lost_one_a_reset(void **state)
{
	struct control *ctl = *state;
	static int result = 99, other_result = 99; /* as above */

	attach(ctl);
	assert_int_equal(dp_link_command(ctl, CMD_SESSION_ADD, 1, 0, record, &result), 0);
	turn(ctl, 2200);
	assert_int_equal(result, -ETIMEDOUT);
	assert_int_equal(dp_link_command(ctl, CMD_SESSION_ADD, 1, 0, record, &other_result), 0);
	peer_close(&peer);
	turn(ctl, 20);
	assert_int_equal(other_result, -ECONNRESET);
	assert_int_equal(other.gone, 1);
	assert_int_equal(other.detached, 1);
	assert_int_equal(dp_link_command(ctl, CMD_STOP, 0, 0, NULL, NULL), -ENOTCONN);
	peer_accept(&peer, ctl); /* it comes back by itself */
	peer_offer_all(&peer);
	turn(ctl, 20);
	assert_int_equal(dp_link_state(ctl), DP_READY);
}

static void a_full_ring_is_said_and_nothing_is_lost(void **state)
{
	struct control *ctl = *state;
	static int results[600]; /* as above */
	int sent = 0;

	attach(ctl);
	while (sent < 600 && !dp_link_command(ctl, CMD_SESSION_ADD, 1, 0, record, &results[sent]))
		sent++;
	assert_in_range(sent, 400, 512);
	assert_int_equal(dp_link_command(ctl, CMD_STOP, 0, 0, NULL, NULL), -EAGAIN);
	for (int i = 0; i < sent; i++)
		peer_ack(peer_take(CMD_SESSION_ADD).seq, -i);
	turn(ctl, 20);
	for (int i = 0; i < sent; i++)
		assert_int_equal(results[i], -i);
}

static void totals_never_go_back(void **state)
{
	struct control *ctl = *state;
	struct stats_region *copy = malloc(sizeof(*copy));

	assert_int_equal(dp_link_stats(ctl, copy), -ENOTCONN);
	attach(ctl);
	peer.stats->workers[0].counters[STATS_ROWS] = 10;
	peer.stats->workers[1].counters[STATS_ROWS] = 5;
	assert_int_equal(dp_link_counter(ctl, STATS_ROWS), 15);
	peer_close(&peer); /* the same dataplane, connected again: counted once */
	turn(ctl, 10);
	peer_accept(&peer, ctl);
	peer_offer_all(&peer);
	turn(ctl, 20);
	assert_int_equal(dp_link_counter(ctl, STATS_ROWS), 15);
	peer.stats->workers[0].counters[STATS_ROWS] = 20; /* its last words are drained */
	peer_close(&peer);
	dp_link_dead(ctl);
	assert_int_equal(dp_link_counter(ctl, STATS_ROWS), 25);
	assert_int_equal(dp_link_stats(ctl, copy), 0);
	assert_int_equal(copy->workers[0].counters[STATS_ROWS], 20);
	peer_forget_regions(&peer); /* the next dataplane counts from 0 */
	peer_regions(&peer);
	attach(ctl);
	assert_int_equal(dp_link_counter(ctl, STATS_ROWS), 25);
	peer.stats->workers[0].counters[STATS_ROWS] = 1;
	assert_int_equal(dp_link_counter(ctl, STATS_ROWS), 26);
	free(copy);
}

static void the_licence_is_sent_again_when_it_changes(void **state)
{
	struct control *ctl = *state;

	attach(ctl);
	assert_int_equal(peer_take(CMD_LICENCE).a, 5);
	turn(ctl, 120);
	other.licence_ns = 0;
	turn(ctl, 120);
	assert_int_equal(peer_take(CMD_LICENCE).a, 0);
	turn(ctl, 120);
	other.licence_ns = 77 * NS_PER_S;
	turn(ctl, 120);
	assert_int_equal(peer_take(CMD_LICENCE).a, 77 * NS_PER_S);
}

static void a_ring_with_an_impossible_head_does_not_hold_the_loop(void **state)
{
	struct control *ctl = *state;
	uint64_t began;

	attach(ctl);
	peer.mailbox->to_control.head = UINT64_MAX / 2;
	began = clock_now_ns();
	for (int i = 0; i < 20; i++)
		turn(ctl, 5);
	assert_true(clock_now_ns() - began < NS_PER_S);
}

static void events_reach_the_models(void **state)
{
	struct control *ctl = *state;
	struct mailbox_message m = {.kind = EVENT_MODEL_RELEASED, .a = 3, .b = 44};

	attach(ctl);
	mailbox_put(&peer.mailbox->to_control, &m);
	m.a = DP_MAX_MODELS; /* out of range: ignored */
	m.b = 45;
	mailbox_put(&peer.mailbox->to_control, &m);
	m.kind = 9999;
	mailbox_put(&peer.mailbox->to_control, &m);
	turn(ctl, 120);
	assert_int_equal(other.released, 44);
}

/* A peer that breaks a rule: control drops the connection and is not attached. */
static void broken(struct control *ctl, void (*act)(void))
{
	dp_link_start(ctl);
	peer_accept(&peer, ctl);
	act();
	turn(ctl, 20);
	assert_true(dp_link_state(ctl) < DP_ATTACHED);
	assert_int_equal(other.attached, 0);
	assert_int_equal(other.gone, 1);
}

static void act_version(void)
{
	struct link_message m = {.magic = LINK_MAGIC, .version = LINK_VERSION + 1, .kind = LINK_HELLO};

	fd_send(peer.sock, &m, sizeof(m), NULL, 0);
}

static void act_short(void)
{
	fd_send(peer.sock, "x", 1, &peer.stats_fd, 1);
}

static void act_no_fd(void)
{
	peer_send(&peer, LINK_HELLO, 0, -1);
	peer_send(&peer, LINK_OFFER, LINK_FD_STATS, -1);
}

static void act_before_hello(void)
{
	peer_send(&peer, LINK_OFFER, LINK_FD_STATS, peer.stats_fd);
}

static void act_nothing_offered(void)
{
	peer_send(&peer, LINK_HELLO, 0, -1);
	peer_send(&peer, LINK_OFFERED, 0, -1);
}

static void act_unsealed(void)
{
	int fd = memfd_create("t", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_int_equal(ftruncate(fd, sizeof(struct stats_region)), 0);
	peer_send(&peer, LINK_HELLO, 0, -1);
	peer_send(&peer, LINK_OFFER, LINK_FD_STATS, fd);
	close(fd);
}

static void act_small_stats(void)
{
	int fd = fd_region_new("t", 4096, false, NULL, NULL);

	peer_send(&peer, LINK_HELLO, 0, -1);
	peer_send(&peer, LINK_OFFER, LINK_FD_STATS, fd);
	close(fd);
}

static void act_wrong_magic(void)
{
	peer.mailbox->magic++;
	peer_offer_all(&peer);
}

static void act_refused(void)
{
	peer_send(&peer, LINK_REFUSED, 0, -1);
}

#define BROKEN(name) static void peer_##name##_is_dropped(void **state) { broken(*state, act_##name); }
BROKEN(version)
BROKEN(short)
BROKEN(no_fd)
BROKEN(before_hello)
BROKEN(nothing_offered)
BROKEN(unsealed)
BROKEN(small_stats)
BROKEN(wrong_magic)
BROKEN(refused)

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(the_session_table_is_offered_only_after_the_peers_offers),
		T(what_the_peer_holds_is_adopted),
		T(it_is_ready_only_when_every_worker_polls),
		T(a_command_is_answered_once_with_its_result),
		T(a_silent_peer_is_a_timeout_and_a_lost_one_a_reset),
		T(a_refusal_comes_with_its_reason_whatever_the_peer_wrote),
		T(a_link_in_doubt_is_attached_anew_and_the_offers_are_read_again),
		T(gateway_slots_answered_to_nobody_are_used_again),
		T(a_full_ring_is_said_and_nothing_is_lost),
		T(totals_never_go_back),
		T(the_licence_is_sent_again_when_it_changes),
		T(a_ring_with_an_impossible_head_does_not_hold_the_loop),
		T(events_reach_the_models),
		T(peer_version_is_dropped),
		T(peer_short_is_dropped),
		T(peer_no_fd_is_dropped),
		T(peer_before_hello_is_dropped),
		T(peer_nothing_offered_is_dropped),
		T(peer_unsealed_is_dropped),
		T(peer_small_stats_is_dropped),
		T(peer_wrong_magic_is_dropped),
		T(peer_refused_is_dropped),
	};

	log_init("test", LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
