/* SPDX-License-Identifier: BSD-3-Clause
 * The kill matrix: processes die by SIGKILL at every failpoint, again and again, and a client that logs
 * everything finds no nonce and no accepted counter repeated, and every request answered in the end.
 *
 *   kills [KILLS [SEED]]                  at least so many kills (1000), spread over all failpoints
 *   kills --skip STEP                     leaves a step out everywhere: the client must find it
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file_replace.h"
#include "dataplane/replay.h"
#include "tests/kill/client.h"
#include "tests/kill/victim.h"

#define FOREVER_NS (10000000 * NS_PER_S)

enum { LIFE_FRAMES = 300, LIFE_MS = 1500, SKIP_LIVES = 60, GUEST_FIRST_KEY = 0x2000 + 40 };

/* The dataplane's failpoints, and how many passes a life brings at most (a kill is at a random one). */
static struct point { const char *name; uint32_t passes, kills, armed; } points[] = {
	{"adopt.locked", 1, 0, 0},
	{"adopt.generation", 1, 0, 0},
	{"adopt.session", CLIENT_SESSIONS, 0, 0},
	{"adopt.limits", 1, 0, 0},
	{"artifact.opened", 1, 0, 0},
	{"artifact.published", 1, 0, 0},
	{"replay.highest", 150, 0, 0},
	{"replay.clear", 2, 0, 0},
	{"replay.bit", 150, 0, 0},
	{"send_counter.due", 3, 0, 0},
	{"send_counter.published", 3, 0, 0},
	{"reply.counter", 150, 0, 0},
	{"reply.sealed", 150, 0, 0},
	{"ratchet.promoted", 1, 0, 0},
	{"ratchet.secret", 1, 0, 0},
	{"ratchet.derived", 1, 0, 0},
	{"ratchet.keys", 1, 0, 0},
	{"ratchet.epoch", 1, 0, 0},
	{"ratchet.wiped", 6, 0, 0},
	{"mailbox.taken", 3, 0, 0},
	{"mailbox.acked", 3, 0, 0},
	{"session.filled", 5, 0, 0},
	{"session.added", 1, 0, 0},
	{"session.closed", 1, 0, 0},
	{"session.lanes", 1, 0, 0},
	{"session.keys", 1, 0, 0},
	{"session.free", 1, 0, 0},
};

/* Control's, each with the change that passes it. */
enum change { FILL, LIMITS, MARK };
static struct control_point { const char *name; enum change change; uint32_t kills; } control_points[] = {
	{"table.lanes", FILL, 0},
	{"table.slot", FILL, 0},
	{"table.live", FILL, 0},
	{"limits.odd", LIMITS, 0},
	{"limits.fields", LIMITS, 0},
	{"limits.moved", LIMITS, 0},
	{"file.created", MARK, 0},
	{"file.written", MARK, 0},
	{"file.renamed", MARK, 0},
};

enum { POINTS = sizeof(points) / sizeof(points[0]),
	CONTROL_POINTS = sizeof(control_points) / sizeof(control_points[0]) };

/* Where the guest session stands, as control knows it. */
enum guest { ABSENT, FILLED, ADDED, REMOVING };

struct matrix {
	struct world world;
	struct client client;
	struct dataplane dataplane;
	enum guest guest;
	uint32_t guests;
	struct session_slot guest_slot;
	uint64_t guest_at_ms;
	uint64_t seq;
	uint32_t control_at;
	uint32_t kills, lives, plain, failed_lives;
	uint32_t replayable, not_wiped, half_limits, half_files;
	uint64_t marks;
	uint64_t random;
};

static uint32_t random_of(struct matrix *m)
{
	m->random ^= m->random << 13;
	m->random ^= m->random >> 7;
	m->random ^= m->random << 17;
	return (uint32_t)(m->random >> 16);
}

static uint64_t now_ms(void)
{
	return clock_now_ns() / NS_PER_MS;
}

static struct session_slot *slot_of(struct matrix *m, uint32_t index)
{
	return (struct session_slot *)((uint8_t *)m->world.rig.table + m->world.rig.table->slots_offset) + index;
}

static struct session_lane *lane_of(struct matrix *m, uint32_t index)
{
	return (struct session_lane *)((uint8_t *)m->world.rig.table + m->world.rig.table->lanes_offset) +
	       index * RIG_LANES;
}

/* ---- control's part ---- */

static void command(struct matrix *m, uint32_t kind, uint64_t a, uint64_t b)
{
	struct mailbox_message message = {.seq = ++m->seq, .kind = kind, .a = a, .b = b};

	mailbox_put(&m->world.mailbox->to_dataplane, &message);
}

/* A dead control's successor: what it finds in the guest's slot is whole, or it is free. */
static void guest_found(struct matrix *m)
{
	struct session_slot *slot = slot_of(m, m->client.sessions[CLIENT_GUEST].slot);

	if (__atomic_load_n(&slot->state, __ATOMIC_ACQUIRE) != SESSION_LIVE)
		sessions_table_fill(&m->world.table, &m->guest_slot, m->client.sessions[CLIENT_GUEST].secret);
}

static void guest_comes(struct matrix *m)
{
	struct rig_client *c = &m->client.sessions[CLIENT_GUEST];

	*c = m->client.sessions[0];
	c->counter = c->epoch = 0;
	c->key_id = GUEST_FIRST_KEY + m->guests++ * RIG_CAPACITY;
	c->slot = c->key_id & (RIG_CAPACITY - 1);
	memset(c->secret, (int)c->key_id, sizeof(c->secret));
	memcpy(c->secret, &c->key_id, sizeof(c->key_id));
	m->guest_slot = (struct session_slot){.key_id = c->key_id, .subscriber = CLIENT_GUEST,
		.source = c->source, .expires_ns = world_now_ns() + FOREVER_NS,
		.session_id = c->key_id};
}

static bool wiped(struct matrix *m, uint32_t index)
{
	static const uint8_t zero[sizeof(((struct session_slot *)0)->keys)];
	const struct session_slot *s = slot_of(m, index);

	return s->state == SESSION_FREE && memcmp(s->keys, zero, sizeof(zero)) == 0 &&
	       memcmp(s->secrets, zero, sizeof(s->secrets)) == 0;
}

/* What control asks for now; again after a restart. */
static void guest_command(struct matrix *m)
{
	uint32_t slot = m->client.sessions[CLIENT_GUEST].slot;

	if (m->guest == FILLED || m->guest == ADDED)
		command(m, CMD_SESSION_ADD, slot, 0);
	else if (m->guest == REMOVING)
		command(m, CMD_SESSION_REMOVE, slot, m->guest_slot.session_id);
}

static void take_acks(struct matrix *m)
{
	struct mailbox_message message;

	while (mailbox_get(&m->world.mailbox->to_control, &message)) {
		if (message.kind != EVENT_ACK || message.result)
			continue;
		if (message.a == CMD_SESSION_ADD && m->guest == FILLED) {
			m->guest = ADDED;
			m->client.guest = true;
		} else if (message.a == CMD_SESSION_REMOVE && m->guest == REMOVING) {
			m->not_wiped += !wiped(m, m->client.sessions[CLIENT_GUEST].slot);
			m->guest = ABSENT;
		}
	}
}

static void control_dies(struct matrix *m);

static void guest_turn(struct matrix *m)
{
	if (now_ms() - m->guest_at_ms < 3)
		return;
	m->guest_at_ms = now_ms();
	if (m->guest == ABSENT && control_points[m->control_at % CONTROL_POINTS].change == FILL) {
		control_dies(m);
	} else if (m->guest == ABSENT) {
		guest_comes(m);
		sessions_table_fill(&m->world.table, &m->guest_slot, m->client.sessions[CLIENT_GUEST].secret);
		m->guest = FILLED;
		guest_command(m);
	} else if (m->guest == ADDED) {
		m->guest = REMOVING;
		client_forget_guest(&m->client);
		m->client.sessions[CLIENT_GUEST].slot = m->guest_slot.key_id & (RIG_CAPACITY - 1);
		guest_command(m);
	}
}

/* ---- control's deaths ---- */

static struct limit_plan plan_of(uint32_t i)
{
	static const double rates[] = {1e6, 2e6};

	return (struct limit_plan){.rate_per_s = rates[i % 2], .burst_units = 1000000, .model_mask = ~0ull,
		.flags = LIMIT_ACTIVE};
}

static bool control_dies_filling(struct matrix *m)
{
	bool killed;

	guest_comes(m);
	killed = control_fills(&m->world, &m->guest_slot, m->client.sessions[CLIENT_GUEST].secret);
	guest_found(m);
	m->guest = FILLED;
	guest_command(m);
	return killed;
}

static bool control_dies_limiting(struct matrix *m)
{
	struct limit_plan plan = plan_of(random_of(m));
	struct limit_slot *slot = &m->world.rig.limits[random_of(m) % CLIENT_SESSIONS];
	bool killed = control_changes_limits(&m->world, (uint32_t)(slot - m->world.rig.limits), &plan);

	limits_set(slot, &plan, world_now_ns(), NULL); /* the next control's start */
	m->half_limits += !limits_intact(slot, &plan);
	return killed;
}

static bool control_dies_marking(struct matrix *m)
{
	char before[40], text[40], *got = NULL;
	size_t n = 0;
	bool killed;

	snprintf(before, sizeof(before), "mark %lu\n", m->marks++);
	snprintf(text, sizeof(text), "mark %lu\n", m->marks);
	if (m->marks == 1)
		file_replace(m->world.licence_mark, before, strlen(before), 0600, NULL);
	killed = control_marks(&m->world, text);
	if (file_read(m->world.licence_mark, 100, &got, &n, NULL) ||
		(strcmp(got, before) != 0 && strcmp(got, text) != 0))
		m->half_files++;
	free(got);
	file_replace(m->world.licence_mark, text, strlen(text), 0600, NULL);
	return killed;
}

static void control_dies(struct matrix *m)
{
	static bool (*const changes[])(struct matrix *) = {control_dies_filling, control_dies_limiting,
		control_dies_marking};
	struct control_point *p = &control_points[m->control_at % CONTROL_POINTS];
	struct failpoint_orders *o = m->world.control_orders;

	if (p->change == FILL && m->guest != ABSENT)
		return; /* guest_turn() calls again when there is one to be made */
	m->control_at++;
	snprintf(o->kill, sizeof(o->kill), "%s", p->name);
	o->passes = 1;
	if (changes[p->change](m)) {
		p->kills++;
		m->kills++;
	}
	o->passes = 0;
}

/* ---- a dataplane's life ---- */

static void arm(struct matrix *m, struct point *p)
{
	struct failpoint_orders *o = m->world.dataplane_orders;

	memset(o->kill, 0, sizeof(o->kill));
	o->passes = 0;
	if (p) {
		p->armed++;
		snprintf(o->kill, sizeof(o->kill), "%s", p->name);
		o->passes = 1 + random_of(m) % p->passes;
	}
}

static size_t next_frame(struct matrix *m, uint8_t *frame)
{
	uint32_t dice = random_of(m) % 16;
	size_t n = 0;

	if (dice < 4)
		n = client_repeat(&m->client, random_of(m), frame);
	else if (dice < 8)
		n = client_retry(&m->client, frame);
	if (!n && dice == 15) /* a jump, so that words of the window are cleared */
		m->client.sessions[random_of(m) % CLIENT_SESSIONS].counter += random_of(m) % 700;
	if (!n && m->client.guest && dice < 10)
		n = client_request(&m->client, CLIENT_GUEST, frame);
	if (!n)
		n = client_request(&m->client, random_of(m) % CLIENT_SESSIONS, frame);
	return n;
}

/* Send up to a window, then take what has come. False: the dataplane is gone. */
static bool exchange(struct matrix *m, size_t (*next)(struct matrix *, uint8_t *), uint32_t *sent)
{
	struct pollfd p = {m->dataplane.socket, POLLIN, 0};
	uint8_t frame[RIG_FRAME];
	ssize_t n;

	for (int i = 0; i < CLIENT_WINDOW; i++) {
		size_t bytes = next(m, frame);

		if (!bytes)
			break;
		if (send(p.fd, frame, bytes, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
			if (errno != EAGAIN)
				break;
			poll(&p, 1, 1);
		}
		++*sent;
	}
	poll(&p, 1, 2);
	while ((n = recv(p.fd, frame, sizeof(frame), MSG_DONTWAIT)) > 0)
		client_reply(&m->client, frame, (size_t)n);
	return n < 0 && errno == EAGAIN;
}

/* Whatever was answered must be refused by the windows as the dead have left them. */
static void check_windows(struct matrix *m)
{
	const struct client *c = &m->client;
	uint32_t from = c->n_frames > CLIENT_RECENT ? c->n_frames - CLIENT_RECENT : 0;

	for (uint32_t i = from; i < c->n_frames; i++) {
		const struct sent_frame *f = &c->frames[i];

		if (f->answered && f->session < CLIENT_SESSIONS &&
			replay_check(lane_of(m, c->sessions[f->session].slot), f->counter))
			m->replayable++;
	}
}

static void live_and_die(struct matrix *m, struct point *p)
{
	uint64_t end_ms = now_ms() + LIFE_MS;
	uint32_t sent = 0;
	bool alive = true;

	arm(m, p);
	m->lives++;
	client_retry_begin(&m->client);
	dataplane_start(&m->world, &m->dataplane);
	guest_command(m);
	while (alive && sent < LIFE_FRAMES && now_ms() < end_ms) {
		alive = exchange(m, next_frame, &sent);
		take_acks(m);
		guest_turn(m);
		client_ratchet(&m->client, world_now_ns(), m->kills);
		if (random_of(m) % 8 == 0)
			control_dies(m);
	}
	if (!dataplane_end(&m->dataplane, alive))
		m->failed_lives++;
	else if (alive)
		m->plain++;
	else if (p) {
		p->kills++;
		m->kills++;
	}
	check_windows(m);
}

static size_t only_retries(struct matrix *m, uint8_t *frame)
{
	return client_retry(&m->client, frame);
}

/* The last life dies of nothing: everything that is open is answered. */
static void finish(struct matrix *m)
{
	uint64_t end_ms = now_ms() + 10 * LIFE_MS;
	uint32_t sent = 0;

	arm(m, NULL);
	dataplane_start(&m->world, &m->dataplane);
	guest_command(m);
	while (m->client.n_answered < m->client.n_requests && now_ms() < end_ms) {
		client_retry_begin(&m->client);
		exchange(m, only_retries, &sent);
		client_ratchet(&m->client, world_now_ns(), UINT32_MAX);
		take_acks(m);
	}
	dataplane_end(&m->dataplane, true);
	check_windows(m);
}

/* ---- the verdict ---- */

static uint32_t passed, failed;

static void is(const char *sentence, bool holds, uint64_t number)
{
	printf("%s  %s (%lu)\n", holds ? "ok    " : "not ok", sentence, number);
	passed += holds;
	failed += !holds;
}

/* Every charge is of a datagram of its own. */
static uint64_t charged_too_often(const struct matrix *m)
{
	uint64_t n = 0;

	for (uint32_t s = 0; s < CLIENT_SESSIONS; s++)
		if (m->world.rig.limits[s].units_admitted > m->client.sent_by[s])
			n += m->world.rig.limits[s].units_admitted - m->client.sent_by[s];
	return n;
}

static void judge(const struct matrix *m)
{
	const struct client *c = &m->client;

	is("reply counters, none used twice", c->nonces_repeated == 0, c->nonces_repeated ? c->nonces_repeated : c->n_nonces);
	is("datagrams repeated by an attacker, none answered again", c->accepted_twice == 0,
		c->accepted_twice ? c->accepted_twice : c->repeats);
	is("windows after a death never take an answered counter", m->replayable == 0, m->replayable);
	is("no charge without a datagram of its own", charged_too_often(m) == 0, charged_too_often(m));
	is("every reply is genuine and right", c->not_genuine + c->wrong == 0, c->not_genuine + c->wrong);
	is("requests, all answered in the end", c->n_answered == c->n_requests,
		c->n_answered == c->n_requests ? c->n_requests : c->n_requests - c->n_answered);
	is("key epochs, each taken up by dataplanes that died", c->epochs > CLIENT_SESSIONS, c->epochs);
	is("every dataplane started, and ended by SIGKILL only", m->failed_lives == 0, m->failed_lives);
	is("every change of control succeeded, or was ended by SIGKILL", m->world.control_failed == 0,
		m->world.control_failed);
	is("guests, all wiped before their removal was acknowledged", m->not_wiped == 0, m->guests);
	is("no limits are left half changed by the next control", m->half_limits == 0, m->half_limits);
	is("no file is ever half written", m->half_files == 0, m->half_files);
}

static void judge_kills(const struct matrix *m, uint32_t wanted)
{
	uint32_t never = 0;

	for (int i = 0; i < POINTS; i++) {
		printf("        %-24s %4u kills in %u lives\n", points[i].name, points[i].kills, points[i].armed);
		never += points[i].kills == 0;
	}
	for (int i = 0; i < CONTROL_POINTS; i++) {
		printf("        %-24s %4u kills of control\n", control_points[i].name, control_points[i].kills);
		never += control_points[i].kills == 0;
	}
	is("every failpoint has killed", never == 0, never);
	is("kills", m->kills >= wanted, m->kills);
	printf("        %u lives of the dataplane, %u of them ended at no failpoint\n", m->lives, m->plain);
}

static void begin(struct matrix *m, uint64_t seed)
{
	memset(m, 0, sizeof(*m));
	m->random = seed * 2654435761u + 88172645463325252ull;
	client_init(&m->client);
	world_init(&m->world);
	for (uint32_t s = 0; s < CLIENT_SESSIONS; s++)
		rig_table_session(m->world.rig.table, world_now_ns() + FOREVER_NS, &m->client.sessions[s], 0x1001 + s, s, false);
}

int main(int argc, char **argv)
{
	static struct matrix m;
	bool skip = argc == 3 && strcmp(argv[1], "--skip") == 0;
	uint32_t wanted = !skip && argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 1000;

	begin(&m, !skip && argc > 2 ? strtoul(argv[2], NULL, 10) : 1);
	if (skip)
		snprintf(m.world.dataplane_orders->skip, sizeof(m.world.dataplane_orders->skip), "%s", argv[2]);
	while (skip ? m.lives < SKIP_LIVES : m.kills < wanted)
		live_and_die(&m, &points[m.lives % POINTS]);
	finish(&m);
	judge(&m);
	if (!skip)
		judge_kills(&m, wanted);
	world_uninit(&m.world);
	printf("%u passed, %u failed, 0 skipped\n", passed, failed);
	return failed != 0;
}
