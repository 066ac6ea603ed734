/* SPDX-License-Identifier: BSD-3-Clause
 * Keeps one dataplane running: see supervisor.h.
 */
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "control/attach.h"
#include "control/child.h"
#include "control/config.h"
#include "control/config_check.h"
#include "control/limits_table.h"
#include "control/paths.h"
#include "control/supervisor.h"

enum {
	TICK_MS = 50,
	START_MS = 20000,   /* a dataplane that is not ready by then is killed */
	BRAKE_DEATHS = 5,   /* so many deaths ... */
	BRAKE_WINDOW_S = 10, /* ... within this time are a crash loop */
	BRAKE_FIRST_MS = 1000,
	BRAKE_MAX_MS = 30000,
	STOP_DRAIN_MS = 1500,
	STOP_TERM_MS = 1000,
	STOP_KILL_MS = 500,
	LOG_MAX_BYTES = 8 << 20,
};

/* Why the present dataplane is being ended by us, if it is. */
enum ending { ENDING_NONE, ENDING_RESTART, ENDING_HANG };

struct supervisor {
	struct child dataplane;
	struct event *gone, *tick, *start;
	struct supervisor_info info;
	int config_fd;
	char program[PATH_MAX], log[PATH_MAX];
	off_t log_start; /* where the present dataplane's lines begin */
	enum ending ending;
	uint64_t deadline_ns; /* of the next harder signal */
	uint64_t started_ns;  /* of the present process */
	uint64_t noticed_ns;  /* death of the one before, 0 = first start */
	uint64_t deaths_ns[BRAKE_DEATHS];
	uint32_t n_deaths, brake_ms;
	bool stop_dataplane, term_sent;
};

static void schedule_start(struct control *ctl, uint32_t ms)
{
	struct timeval tv = {ms / 1000, (suseconds_t)(ms % 1000) * 1000};

	evtimer_add(ctl->supervisor->start, &tv);
}

int supervisor_config_fd(const struct control *ctl)
{
	return ctl->supervisor ? ctl->supervisor->config_fd : -1;
}

void supervisor_set_stop(struct control *ctl, bool stop_dataplane)
{
	if (ctl->supervisor)
		ctl->supervisor->stop_dataplane = stop_dataplane;
}

void supervisor_info(const struct control *ctl, struct supervisor_info *out)
{
	if (ctl->supervisor)
		*out = ctl->supervisor->info;
	else
		memset(out, 0, sizeof(*out));
}

/* ---- death ----------------------------------------------------------------------------------- */

/* The last line the dataplane wrote, for the operator. */
static void last_words(const struct supervisor *s, char *out, size_t n)
{
	char tail[512];
	int fd = open(s->log, O_RDONLY | O_CLOEXEC);
	off_t size = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
	off_t room = (off_t)sizeof(tail) - 1;
	off_t from = size - s->log_start > room ? size - room : s->log_start;
	ssize_t got = fd < 0 ? 0 : pread(fd, tail, (size_t)room, from);
	char *line, *said;

	fd_close(fd);
	while (got > 0 && tail[got - 1] == '\n')
		got--;
	tail[got > 0 ? got : 0] = 0;
	line = strrchr(tail, '\n');
	line = line ? line + 1 : tail;
	if ((said = strstr(line, " dataplane: "))) /* without time and level: the reason is what counts */
		line = said + strlen(" dataplane: ");
	snprintf(out, n, "%.*s", (int)n - 1, line);
}

/* How long to wait before the next start: nothing, unless it keeps dying. */
static uint32_t brake(struct supervisor *s)
{
	uint64_t now = clock_now_ns();
	uint64_t oldest, window;

	s->deaths_ns[s->n_deaths++ % BRAKE_DEATHS] = now;
	oldest = s->deaths_ns[s->n_deaths % BRAKE_DEATHS]; /* of the last five, this one included */
	/* The waits themselves stretch the window, or they would end the brake that made them. */
	window = BRAKE_WINDOW_S * NS_PER_S + s->brake_ms * NS_PER_MS * BRAKE_DEATHS;
	if (s->n_deaths < BRAKE_DEATHS || now - oldest > window) {
		s->info.brake = false;
		s->brake_ms = 0;
		return 0;
	}
	s->brake_ms = s->brake_ms ? s->brake_ms * 2 : BRAKE_FIRST_MS;
	if (s->brake_ms > BRAKE_MAX_MS)
		s->brake_ms = BRAKE_MAX_MS;
	s->info.brake = true;
	return s->brake_ms;
}

static void account_death(struct supervisor *s, const char *how)
{
	char words[320];

	snprintf(s->info.last_exit, sizeof(s->info.last_exit), "%s", how);
	if (s->ending != ENDING_NONE) {
		log_info("dataplane ended: %s", how);
		return;
	}
	last_words(s, words, sizeof(words));
	s->info.crashes++;
	log_error("dataplane died: %s; its last line: %s", how, words[0] ? words : "(none)");
	if (words[0])
		snprintf(s->info.last_exit, sizeof(s->info.last_exit), "%.40s: %.320s", how, words);
}

static void on_gone(evutil_socket_t fd, short what, void *arg)
{
	struct control *ctl = arg;
	struct supervisor *s = ctl->supervisor;
	char how[64];
	uint32_t wait_ms;

	(void)fd;
	(void)what;
	if (!child_wait(&s->dataplane, 0))
		return;
	s->noticed_ns = clock_now_ns();
	event_free(s->gone);
	s->gone = NULL;
	child_reap(&s->dataplane, how, sizeof(how));
	account_death(s, how);
	dp_link_dead(ctl);
	limits_table_enable(ctl, false);
	s->info.adopted = false;
	wait_ms = s->ending == ENDING_RESTART ? 0 : brake(s);
	s->ending = ENDING_NONE;
	if (ctl->config->dataplane.attach) {
		dp_link_start(ctl);
		return;
	}
	if (wait_ms)
		log_error("dataplane keeps dying: next start in %u ms", wait_ms);
	schedule_start(ctl, wait_ms);
}

static int watch(struct control *ctl)
{
	struct supervisor *s = ctl->supervisor;

	s->gone = event_new(ctl->base, s->dataplane.pidfd, EV_READ | EV_PERSIST, on_gone, ctl);
	return s->gone && event_add(s->gone, NULL) == 0 ? 0 : -ENOMEM;
}

/* ---- start ----------------------------------------------------------------------------------- */

static int open_log(struct supervisor *s)
{
	int fd = open(s->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0640);
	struct stat st;

	if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size > LOG_MAX_BYTES && ftruncate(fd, 0) < 0)
		log_warn("%s: %s", s->log, strerror(errno));
	s->log_start = fd >= 0 ? lseek(fd, 0, SEEK_END) : 0;
	return fd;
}

/* A dead dataplane's memif socket makes the next bind fail. Nobody listens on it: it is stale. */
static void remove_stale_sockets(const struct config *c)
{
	for (uint32_t i = 0; i < c->ports_count; i++) {
		const char *path = c->ports[i].device;
		struct stat st;
		int fd;

		if (strcmp(c->ports[i].kind, "memif") || stat(path, &st) < 0 || !S_ISSOCK(st.st_mode))
			continue;
		fd = fd_unix_connect(path, SOCK_SEQPACKET, NULL);
		if (fd == -ECONNREFUSED && unlink(path) == 0)
			log_info("removed the stale socket %s", path);
		if (fd >= 0)
			close(fd);
	}
}

static int start_dataplane(struct control *ctl, struct error *err)
{
	struct supervisor *s = ctl->supervisor;
	char *argv[] = {s->program, NULL};
	int log_fd = open_log(s);
	struct child_spec spec = {.path = s->program, .argv = argv, .fd3 = s->config_fd,
		.output = log_fd, .group = true};
	int rc = config_check_host(ctl->config, err);

	if (!rc) {
		limits_table_remove_stale_xdp(ctl);
		remove_stale_sockets(ctl->config);
		s->started_ns = clock_now_ns();
		rc = child_start(&s->dataplane, &spec, err);
	}
	fd_close(log_fd);
	if (rc)
		return rc;
	s->info.starts++;
	log_info("dataplane started, pid %d", s->dataplane.pid);
	dp_link_set_state(ctl, DP_STARTING);
	return watch(ctl);
}

static void on_start(evutil_socket_t fd, short what, void *arg)
{
	struct control *ctl = arg;
	struct supervisor *s = ctl->supervisor;
	struct error err = {0};
	uint32_t wait_ms;

	(void)fd;
	(void)what;
	if (s->dataplane.pid)
		return;
	if (!start_dataplane(ctl, &err)) {
		dp_link_start(ctl);
		return;
	}
	wait_ms = brake(s);
	snprintf(s->info.last_exit, sizeof(s->info.last_exit), "not started: %.300s", err.text);
	log_error("dataplane cannot be started: %s", err.text);
	schedule_start(ctl, wait_ms ? wait_ms : BRAKE_FIRST_MS);
}

void supervisor_adopt(struct control *ctl, int32_t pid)
{
	struct supervisor *s = ctl->supervisor;
	struct error err = {0};

	if (s->dataplane.pid)
		return; /* ours, or known */
	evtimer_del(s->start);
	if (child_adopt(&s->dataplane, pid, &err) || watch(ctl)) {
		log_warn("dataplane %d cannot be watched: %s", pid, err.text);
		return;
	}
	s->info.starts++;
	s->info.adopted = true;
	s->started_ns = clock_now_ns();
	log_info("adopted the running dataplane, pid %d", pid);
}

/* ---- hangs and stops ------------------------------------------------------------------------- */

/* Nanoseconds since the slowest thread of the dataplane showed life; 0 when none is late. */
static uint64_t silence_ns(const struct stats_region *r, uint64_t now)
{
	uint64_t oldest = __atomic_load_n(&r->header.service_heartbeat_ns, __ATOMIC_RELAXED);
	uint32_t n = __atomic_load_n(&r->header.n_workers, __ATOMIC_RELAXED);

	for (uint32_t w = 0; w < n && w < DP_MAX_WORKERS; w++) {
		uint64_t beat = __atomic_load_n(&r->workers[w].heartbeat_ns, __ATOMIC_RELAXED);

		if (__atomic_load_n(&r->workers[w].state, __ATOMIC_RELAXED) == 1 && beat &&
			(beat < oldest || !oldest))
			oldest = beat;
	}
	n = __atomic_load_n(&r->header.n_engines, __ATOMIC_RELAXED);
	for (uint32_t e = 0; e < n && e < DP_MAX_ENGINES; e++) {
		uint64_t beat = __atomic_load_n(&r->engines[e].heartbeat_ns, __ATOMIC_RELAXED);

		if (__atomic_load_n(&r->engines[e].state, __ATOMIC_RELAXED) == 1 && beat < oldest)
			oldest = beat;
	}
	return oldest && now > oldest ? now - oldest : 0;
}

static void kill_for(struct control *ctl, enum ending why)
{
	struct supervisor *s = ctl->supervisor;

	s->ending = why;
	if (child_signal(&s->dataplane, SIGKILL))
		log_error("the dataplane could not be killed");
}

static void check_hang(struct control *ctl, uint64_t now)
{
	struct supervisor *s = ctl->supervisor;
	const struct stats_region *live = dp_link_live(ctl);
	uint64_t limit_ns = ctl->config->dataplane.hang_ms * NS_PER_MS;
	uint64_t silent;

	if ((dp_link_state(ctl) == DP_STARTING || dp_link_state(ctl) == DP_ATTACHED) &&
		now - s->started_ns > START_MS * NS_PER_MS) {
		log_error("dataplane did not become ready within %d s", START_MS / 1000);
		s->info.hangs++;
		kill_for(ctl, ENDING_HANG);
		return;
	}
	silent = live && dp_link_state(ctl) == DP_READY ? silence_ns(live, now) : 0;
	if (silent <= limit_ns)
		return;
	log_error("dataplane shows no life for %llu ms: restarting it",
		(unsigned long long)(silent / NS_PER_MS));
	s->info.hangs++;
	dp_link_set_state(ctl, DP_HUNG);
	kill_for(ctl, ENDING_HANG);
}

/* A restart that was asked for: SIGTERM when CMD_STOP brought nothing, then SIGKILL. */
static void press_on(struct supervisor *s, uint64_t now)
{
	static const int signals[] = {SIGTERM, SIGKILL};
	static const uint32_t wait_ms[] = {STOP_TERM_MS, STOP_KILL_MS};

	if (now < s->deadline_ns)
		return;
	child_signal(&s->dataplane, signals[s->term_sent]);
	s->deadline_ns = now + wait_ms[s->term_sent] * NS_PER_MS;
	s->term_sent = true;
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct control *ctl = arg;
	struct supervisor *s = ctl->supervisor;
	uint64_t now = clock_now_ns();

	(void)fd;
	(void)what;
	if (!s->dataplane.pid)
		return;
	if (s->ending == ENDING_RESTART)
		press_on(s, now);
	else if (s->ending == ENDING_NONE)
		check_hang(ctl, now);
}

int supervisor_restart(struct control *ctl, struct error *err)
{
	struct supervisor *s = ctl->supervisor;

	if (!s->dataplane.pid && dp_link_state(ctl) == DP_DOWN) {
		if (ctl->config->dataplane.attach)
			return error_set(err, -ENOTCONN, "no dataplane is attached");
		schedule_start(ctl, 0);
		return 0;
	}
	if (!s->dataplane.pid)
		return error_set(err, -EPERM, "the dataplane's process cannot be signalled");
	if (s->ending != ENDING_NONE)
		return error_set(err, -EBUSY, "the dataplane is being restarted already");
	s->ending = ENDING_RESTART;
	s->term_sent = false;
	s->deadline_ns = clock_now_ns();
	if (!dp_link_command(ctl, CMD_STOP, 0, 0, NULL, NULL))
		s->deadline_ns += STOP_DRAIN_MS * NS_PER_MS;
	return 0;
}

/* Stop it within three seconds, waiting: the loop has ended. */
static void stop_now(struct control *ctl)
{
	struct supervisor *s = ctl->supervisor;
	char how[64];

	if (!dp_link_command(ctl, CMD_STOP, 0, 0, NULL, NULL))
		child_wait(&s->dataplane, STOP_DRAIN_MS);
	if (!child_wait(&s->dataplane, 0)) {
		child_signal(&s->dataplane, SIGTERM);
		child_wait(&s->dataplane, STOP_TERM_MS);
	}
	if (!child_wait(&s->dataplane, 0)) {
		child_signal(&s->dataplane, SIGKILL);
		child_wait(&s->dataplane, STOP_KILL_MS);
	}
	if (child_reap(&s->dataplane, how, sizeof(how)))
		log_info("dataplane stopped: %s", how);
	else
		log_error("dataplane %d does not end", s->dataplane.pid);
	limits_table_enable(ctl, false);
	limits_table_remove_stale_xdp(ctl);
}

/* ---- the link's news ------------------------------------------------------------------------- */

void supervisor_dataplane_gone(struct control *ctl)
{
	struct supervisor *s = ctl->supervisor;

	/* One that had been attached gets its full time again; one that never gets so far (another
	 * version, say) runs into START_MS and is replaced. */
	if (dp_link_state(ctl) >= DP_ATTACHED)
		s->started_ns = clock_now_ns();
	/* The connection closed before the pidfd fired, or the process still lives: the pidfd says. */
	if (s->dataplane.pid && child_wait(&s->dataplane, 0))
		event_active(s->gone, EV_READ, 0);
}

void supervisor_dataplane_ready(struct control *ctl)
{
	struct supervisor *s = ctl->supervisor;
	uint64_t now = clock_now_ns();

	if (s->noticed_ns) {
		s->info.last_restart_ms = (double)(now - s->noticed_ns) / 1e6;
		log_info("dataplane answers again %.0f ms after its death was noticed",
			s->info.last_restart_ms);
		s->noticed_ns = 0;
	} else {
		log_info("dataplane ready %.0f ms after its start",
			(double)(now - s->started_ns) / 1e6);
	}
}

/* ---- init ------------------------------------------------------------------------------------ */

static int make_config(struct control *ctl, struct error *err)
{
	struct supervisor *s = ctl->supervisor;
	struct dp_config c;
	int rc = config_to_dataplane(ctl->config, limits_table_is_memfd(ctl), &c, err);

	if (rc)
		return rc;
	s->config_fd = fd_sealed_copy("millrace-config", &c, sizeof(c), err);
	return s->config_fd < 0 ? s->config_fd : 0;
}

int supervisor_init(struct control *ctl, struct error *err)
{
	struct supervisor *s = calloc(1, sizeof(*s));
	struct timeval tick = {0, TICK_MS * 1000};
	int rc;

	if (!s)
		return error_set(err, -ENOMEM, "out of memory");
	ctl->supervisor = s;
	s->config_fd = -1;
	s->dataplane.pidfd = -1;
	path_of_program(s->program, sizeof(s->program), ctl->config->dataplane.program,
		"millrace-dataplane");
	snprintf(s->log, sizeof(s->log), "%s/dataplane.log", ctl->config->run_dir);
	s->tick = event_new(ctl->base, -1, EV_PERSIST, on_tick, ctl);
	s->start = evtimer_new(ctl->base, on_start, ctl);
	if (!s->tick || !s->start || event_add(s->tick, &tick) < 0)
		return error_set(err, -ENOMEM, "out of memory");
	rc = make_config(ctl, err);
	if (rc)
		return rc;
	/* A dataplane that outlived the control before us is adopted; else ours is started at once. */
	if (ctl->config->dataplane.attach)
		dp_link_start(ctl);
	else if (dp_link_try(ctl, NULL))
		schedule_start(ctl, 0);
	return 0;
}

void supervisor_uninit(struct control *ctl)
{
	struct supervisor *s = ctl->supervisor;

	if (!s)
		return;
	if (s->stop_dataplane && s->dataplane.pid)
		stop_now(ctl);
	if (s->gone)
		event_free(s->gone);
	if (s->tick)
		event_free(s->tick);
	if (s->start)
		event_free(s->start);
	fd_close(s->dataplane.pidfd);
	fd_close(s->config_fd);
	free(s);
	ctl->supervisor = NULL;
}
