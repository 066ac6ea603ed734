/* SPDX-License-Identifier: BSD-3-Clause
 * Datagram sessions: see sessions.h. Order of an issue: XDP map, table, CMD_SESSION_ADD, answer;
 * of an end: XDP map, CMD_SESSION_REMOVE, the dataplane wipes the slot.
 *
 *   FREE -> ISSUING (commanded) -> LIVE -> CLOSING (commanded) -> FREE
 */
#include <errno.h>
#include <event2/event.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "control/attach.h"
#include "control/config.h"
#include "control/license.h"
#include "control/limits_table.h"
#include "control/sessions.h"
#include "control/sessions_table.h"
#include "control/subscribers.h"

enum { SWEEP_MS = 500, RANDOM_TRIES = 32, REMOVES_A_SWEEP = 128 };

enum holding { HOLDING_FREE, HOLDING_ISSUING, HOLDING_LIVE, HOLDING_CLOSING };

struct session {
	uint64_t session_id, expires_ns; /* the low bits of id and key id are the slot, the others random */
	uint32_t key_id, subscriber;
	struct ip_addr source;
	uint8_t holding;   /* enum holding */
	bool remove_sent;  /* CLOSING: the dataplane has been told and has not answered yet */
};

struct sessions {
	struct sessions_table table;
	struct session *all; /* [capacity], by slot */
	uint32_t capacity, n;
	uint32_t of[LIMITS_MAX_SLOTS]; /* sessions a subscriber has: ISSUING and LIVE ones */
	uint32_t held;                 /* their sum */
	struct event *sweep;
};

/* One session being issued; freed after its `done`. */
struct issue {
	struct control *ctl;
	uint32_t index;
	struct session_grant grant;
	session_done_fn done;
	void *arg;
};

/* One removal on its way. */
struct removal {
	struct control *ctl;
	uint32_t index;
	uint64_t session_id;
};

static uint64_t random64(void)
{
	uint64_t v = 0;

	if (getrandom(&v, sizeof(v), 0) != sizeof(v))
		v = 0;
	return v;
}

static bool counts(uint8_t holding)
{
	return holding == HOLDING_ISSUING || holding == HOLDING_LIVE;
}

/* The only place that changes `holding`: the counters follow. */
static void set_holding(struct sessions *s, struct session *e, enum holding to)
{
	int by = counts(to) - counts(e->holding);

	s->n += (to != HOLDING_FREE) - (e->holding != HOLDING_FREE);
	s->held += by;
	if (e->subscriber < LIMITS_MAX_SLOTS)
		s->of[e->subscriber] += by;
	e->holding = to;
}

static void set_free(struct sessions *s, uint32_t index)
{
	set_holding(s, &s->all[index], HOLDING_FREE);
	memset(&s->all[index], 0, sizeof(s->all[index]));
}

static struct session_info info_of(const struct session *e)
{
	uint64_t now = clock_now_ns();
	struct session_info i = {.session_id = e->session_id, .key_id = e->key_id,
		.subscriber = e->subscriber, .source = e->source};

	i.expires_in_s = e->expires_ns > now ? (int64_t)((e->expires_ns - now) / NS_PER_S) : 0;
	return i;
}

/* ---- ending ---------------------------------------------------------------------------------- */

static void on_removed(int result, void *arg)
{
	struct removal *r = arg;
	struct sessions *s = r->ctl->sessions;
	struct session *e = s ? &s->all[r->index] : NULL;

	if (e && e->holding == HOLDING_CLOSING && e->session_id == r->session_id) {
		e->remove_sent = false;
		if (!result || result == -ESRCH || result == -ENOENT)
			set_free(s, r->index);
		else if (result != -ECONNRESET && result != -ECANCELED)
			log_warn("a session's removal failed (%d); trying again", result);
	}
	free(r);
}

/* Tell the dataplane; when it is away the slot is marked and the next one wipes it. */
static void command_removal(struct control *ctl, uint32_t index)
{
	struct session *e = &ctl->sessions->all[index];
	struct removal *r = malloc(sizeof(*r));

	if (!r)
		return; /* the next sweep tries again */
	*r = (struct removal){ctl, index, e->session_id};
	e->remove_sent = true;
	if (!dp_link_command(ctl, CMD_SESSION_REMOVE, index, e->session_id, on_removed, r))
		return;
	e->remove_sent = false;
	free(r);
}

static void end_session(struct control *ctl, uint32_t index)
{
	struct session *e = &ctl->sessions->all[index];

	limits_table_session_remove(ctl, e->key_id);
	set_holding(ctl->sessions, e, HOLDING_CLOSING);
	command_removal(ctl, index);
	if (!e->remove_sent)
		sessions_table_mark(&ctl->sessions->table, index, e->session_id);
}

/* A session that was never answered for: nobody holds its keys. */
static void unwind(struct control *ctl, uint32_t index)
{
	struct sessions *s = ctl->sessions;

	if (dp_link_state(ctl) >= DP_ATTACHED) {
		end_session(ctl, index);
		return;
	}
	limits_table_session_remove(ctl, s->all[index].key_id);
	sessions_table_mark(&s->table, index, s->all[index].session_id);
	set_holding(s, &s->all[index], HOLDING_CLOSING);
}

/* ---- issuing --------------------------------------------------------------------------------- */

static void on_added(int result, void *arg)
{
	struct issue *i = arg;
	struct control *ctl = i->ctl;
	struct session *e = &ctl->sessions->all[i->index];
	struct error err = {0};

	if (!result && e->holding == HOLDING_ISSUING) {
		set_holding(ctl->sessions, e, HOLDING_LIVE);
		i->grant.info = info_of(e);
		i->done(0, &i->grant, NULL, i->arg);
	} else {
		if (e->holding == HOLDING_ISSUING)
			unwind(ctl, i->index);
		error_set(&err, result ? result : -ECANCELED, result == -ETIMEDOUT
			? "the dataplane does not answer" : "the dataplane did not take the session");
		i->done(err.code, NULL, &err, i->arg);
	}
	OPENSSL_cleanse(i, sizeof(*i));
	free(i);
}

/* A random key id whose slot is free: random slots first, then the next free one. */
static int choose_slot(struct sessions *s, uint32_t *key_id)
{
	uint32_t mask = s->capacity - 1;
	uint32_t id = 0;

	for (int i = 0; i < RANDOM_TRIES; i++) {
		id = (uint32_t)random64();
		if (id && s->all[id & mask].holding == HOLDING_FREE) {
			*key_id = id;
			return 0;
		}
	}
	for (uint32_t i = 0; i < s->capacity; i++) {
		uint32_t index = (id + i) & mask;

		if (s->all[index].holding != HOLDING_FREE)
			continue;
		*key_id = ((uint32_t)random64() & ~mask) | index;
		if (*key_id)
			return 0;
	}
	return -ENOSPC;
}

static int check_issue(struct control *ctl, uint32_t subscriber, struct error *err)
{
	struct sessions *s = ctl->sessions;
	struct subscriber who;

	if (dp_link_state(ctl) != DP_READY)
		return error_set(err, -EAGAIN, "the dataplane is %s",
			dp_state_name(dp_link_state(ctl)));
	if (!license_until_ns(ctl))
		return error_set(err, -EPERM, "this appliance has no valid licence");
	if (subscribers_by_index(ctl, subscriber, &who))
		return error_set(err, -ENOENT, "no such subscriber");
	if (sessions_count(ctl, subscriber) >= ctl->config->https.sessions_per_subscriber)
		return error_set(err, -EDQUOT, "%s has %u sessions, the most it may have", who.name,
			ctl->config->https.sessions_per_subscriber);
	if (s->n >= s->capacity)
		return error_set(err, -ENOSPC, "all %u sessions are in use", s->capacity);
	return 0;
}

/* XDP map, then table. Undone when the table refuses. */
static int place(struct control *ctl, const struct session *e, const uint8_t secret[32],
	bool provisional, struct error *err)
{
	struct sessions *s = ctl->sessions;
	struct xdp_session x = {.source = e->source, .subscriber = e->subscriber};
	struct session_slot fill = {.key_id = e->key_id, .subscriber = e->subscriber,
		.source = e->source, .expires_ns = e->expires_ns, .issued_ns = clock_now_ns(),
		.session_id = e->session_id, .flags = provisional ? SESSION_PROVISIONAL : 0,
		.challenge = random64()};
	int rc = limits_table_session_add(ctl, e->key_id, &x);

	if (rc)
		return error_set(err, rc == -E2BIG ? -ENOSPC : rc, "XDP session map: %s",
			strerror(-rc));
	rc = sessions_table_fill(&s->table, &fill, secret);
	if (rc) {
		limits_table_session_remove(ctl, e->key_id);
		return error_set(err, rc == -EBUSY ? -EAGAIN : rc, "session table: %s",
			strerror(-rc));
	}
	return 0;
}

static int command_issue(struct control *ctl, uint32_t index, const uint8_t secret[32],
	session_done_fn done, void *arg, struct error *err)
{
	struct issue *i = calloc(1, sizeof(*i));
	int rc;

	if (!i)
		return error_set(err, -ENOMEM, "out of memory");
	*i = (struct issue){.ctl = ctl, .index = index, .done = done, .arg = arg};
	memcpy(i->grant.secret, secret, sizeof(i->grant.secret));
	i->grant.lanes = ctl->sessions->table.lanes;
	rc = dp_link_command(ctl, CMD_SESSION_ADD, index, 0, on_added, i);
	if (!rc)
		return 0;
	OPENSSL_cleanse(i, sizeof(*i));
	free(i);
	return error_set(err, -EAGAIN, "the dataplane takes no commands now");
}

int sessions_issue(struct control *ctl, uint32_t subscriber, const struct ip_addr *source, bool provisional,
	session_done_fn done, void *arg, struct error *err)
{
	struct sessions *s = ctl->sessions;
	uint64_t ttl_ns = ctl->config->https.session_ttl_s * NS_PER_S;
	struct session e = {.subscriber = subscriber, .source = *source};
	uint8_t secret[32];
	uint32_t index;
	int rc = check_issue(ctl, subscriber, err);

	if (rc)
		return rc;
	if (choose_slot(s, &e.key_id))
		return error_set(err, -ENOSPC, "all %u sessions are in use", s->capacity);
	index = e.key_id & (s->capacity - 1);
	e.session_id = (random64() & ~(uint64_t)(s->capacity - 1)) | index;
	if (!e.session_id || getrandom(secret, sizeof(secret), 0) != sizeof(secret))
		return error_set(err, -EIO, "no random numbers");
	e.expires_ns = clock_now_ns() + ttl_ns;
	rc = place(ctl, &e, secret, provisional, err);
	if (!rc) {
		s->all[index] = e;
		set_holding(s, &s->all[index], HOLDING_ISSUING);
		rc = command_issue(ctl, index, secret, done, arg, err);
		if (rc) { /* the dataplane has not heard of it */
			limits_table_session_remove(ctl, e.key_id);
			sessions_table_wipe(&s->table, index, e.session_id);
			set_free(s, index);
		}
	}
	OPENSSL_cleanse(secret, sizeof(secret));
	return rc;
}

static int find(struct control *ctl, uint32_t subscriber, uint64_t session_id, uint32_t *index)
{
	struct sessions *s = ctl->sessions;
	uint32_t i = (uint32_t)session_id & (s->capacity - 1);
	const struct session *e = &s->all[i];

	if (!session_id || e->holding != HOLDING_LIVE || e->session_id != session_id || e->subscriber != subscriber)
		return -ENOENT;
	*index = i;
	return 0;
}

int sessions_renew(struct control *ctl, uint32_t subscriber, uint64_t session_id,
	int64_t *expires_in_s, struct error *err)
{
	struct sessions *s = ctl->sessions;
	uint64_t expires_ns = clock_now_ns() + ctl->config->https.session_ttl_s * NS_PER_S;
	uint32_t index;

	if (find(ctl, subscriber, session_id, &index))
		return error_set(err, -ENOENT, "no such session");
	if (sessions_table_expire(&s->table, index, session_id, expires_ns))
		return error_set(err, -ENOENT, "the session has ended");
	s->all[index].expires_ns = expires_ns;
	dp_link_command(ctl, CMD_SESSION_ADD, index, 0, NULL, NULL); /* it reads the new expiry */
	*expires_in_s = ctl->config->https.session_ttl_s;
	return 0;
}

int sessions_close(struct control *ctl, uint32_t subscriber, uint64_t session_id)
{
	struct sessions *s = ctl->sessions;
	uint32_t index;

	if (session_id) {
		if (find(ctl, subscriber, session_id, &index))
			return -ENOENT;
		end_session(ctl, index);
		return 0;
	}
	for (uint32_t i = 0; s && i < s->capacity; i++)
		if (s->all[i].subscriber == subscriber && (s->all[i].holding == HOLDING_LIVE ||
			s->all[i].holding == HOLDING_ISSUING))
			end_session(ctl, i);
	return 0;
}

int sessions_each(struct control *ctl, int (*fn)(const struct session_info *s, void *arg), void *arg)
{
	struct sessions *s = ctl->sessions;
	int rc = 0;

	for (uint32_t i = 0; !rc && i < s->capacity; i++)
		if (s->all[i].holding == HOLDING_LIVE) {
			struct session_info info = info_of(&s->all[i]);

			rc = fn(&info, arg);
		}
	return rc;
}

uint32_t sessions_count(struct control *ctl, uint32_t subscriber)
{
	const struct sessions *s = ctl->sessions;

	if (!s)
		return 0;
	if (subscriber == UINT32_MAX)
		return s->held;
	return subscriber < LIMITS_MAX_SLOTS ? s->of[subscriber] : 0;
}

/* ---- sweeping, adoption ---------------------------------------------------------------------- */

static void on_sweep(evutil_socket_t fd, short what, void *arg)
{
	struct control *ctl = arg;
	struct sessions *s = ctl->sessions;
	uint64_t now = clock_now_ns();
	int budget = REMOVES_A_SWEEP; /* the mailbox has room for other commands too */

	(void)fd;
	(void)what;
	for (uint32_t i = 0; budget && s->n && i < s->capacity; i++) {
		struct session *e = &s->all[i];

		if (e->holding == HOLDING_LIVE && now >= e->expires_ns) {
			end_session(ctl, i);
			budget--;
		} else if (e->holding == HOLDING_CLOSING && !e->remove_sent &&
			dp_link_state(ctl) >= DP_ATTACHED) {
			command_removal(ctl, i);
			budget--;
		}
	}
}

static int adopt_slot(uint32_t index, const struct session_slot *slot, void *arg)
{
	struct sessions *s = arg;
	struct session *e = &s->all[index];

	if ((slot->key_id & (s->capacity - 1)) != index || !slot->session_id)
		return 0; /* nothing we wrote: the dataplane skips it too */
	*e = (struct session){.session_id = slot->session_id, .expires_ns = slot->expires_ns,
		.key_id = slot->key_id, .subscriber = slot->subscriber, .source = slot->source};
	set_holding(s, e, slot->state == SESSION_LIVE ? HOLDING_LIVE : HOLDING_CLOSING);
	return 0;
}

static ino_t inode(int fd)
{
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 ? st.st_ino : 0;
}

int sessions_adopt_table(struct control *ctl, int fd, struct error *err)
{
	struct sessions *s = ctl->sessions;
	struct sessions_table t;
	int rc;

	if (s->table.fd >= 0 && inode(fd) == inode(s->table.fd)) {
		close(fd);
		return 0;
	}
	if (s->n) {
		close(fd);
		return error_set(err, -EEXIST, "the dataplane holds another session table than ours");
	}
	rc = sessions_table_take(&t, fd, s->capacity, ctl->config->dataplane.lanes, err);
	if (rc)
		return rc;
	sessions_table_close(&s->table);
	s->table = t;
	sessions_table_each(&s->table, adopt_slot, s);
	log_info("adopted a session table with %u sessions", s->n);
	return 0;
}

int sessions_need_table(struct control *ctl, struct error *err)
{
	struct sessions *s = ctl->sessions;

	if (s->table.fd >= 0)
		return 0;
	limits_table_sessions_clear(ctl);
	return sessions_table_new(&s->table, s->capacity, ctl->config->dataplane.lanes, err);
}

int sessions_table_fd(const struct control *ctl)
{
	return ctl->sessions ? ctl->sessions->table.fd : -1;
}

void sessions_attached(struct control *ctl)
{
	struct sessions *s = ctl->sessions;
	uint32_t failed = 0;

	/* The pinned map may be new (bpffs remounted) or hold what a dead control left: say it again. */
	for (uint32_t i = 0; i < s->capacity; i++) {
		struct session *e = &s->all[i];
		struct xdp_session x = {.source = e->source, .subscriber = e->subscriber};

		e->remove_sent = false;
		if (e->holding == HOLDING_LIVE && limits_table_session_add(ctl, e->key_id, &x))
			failed++;
		else if (e->holding == HOLDING_CLOSING)
			limits_table_session_remove(ctl, e->key_id);
	}
	if (failed)
		log_error("%u sessions could not be put into the XDP map", failed);
}

int sessions_init(struct control *ctl, struct error *err)
{
	struct sessions *s = calloc(1, sizeof(*s));
	struct timeval tv = {0, SWEEP_MS * 1000};

	if (!s)
		return error_set(err, -ENOMEM, "out of memory");
	ctl->sessions = s;
	s->table.fd = -1;
	s->capacity = ctl->config->dataplane.sessions;
	s->all = calloc(s->capacity, sizeof(*s->all));
	s->sweep = event_new(ctl->base, -1, EV_PERSIST, on_sweep, ctl);
	if (!s->all || !s->sweep || event_add(s->sweep, &tv) < 0)
		return error_set(err, -ENOMEM, "out of memory");
	return 0;
}

void sessions_uninit(struct control *ctl)
{
	struct sessions *s = ctl->sessions;

	if (!s)
		return;
	if (s->sweep)
		event_free(s->sweep);
	sessions_table_close(&s->table);
	free(s->all);
	free(s);
	ctl->sessions = NULL;
}
