/* SPDX-License-Identifier: BSD-3-Clause
 * dataplane.sock: HELLO, offers, OFFERED, and what follows an attach. See dp_link.h, attach.h.
 */
#include <errno.h>
#include <event2/event.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "control/config.h"
#include "control/dp_link_private.h"
#include "control/gateway.h"
#include "control/limits_table.h"
#include "control/supervisor.h"

const char *dp_state_name(enum dp_state s)
{
	static const char *const names[] = {"down", "starting", "attached", "ready", "hung"};

	return (unsigned)s < 5 ? names[s] : "?";
}

void dp_link_set_state(struct control *ctl, enum dp_state s)
{
	struct dp_link *l = ctl->link;

	if (l->state == s)
		return;
	log_info("dataplane %s -> %s", dp_state_name(l->state), dp_state_name(s));
	l->state = s;
}

enum dp_state dp_link_state(const struct control *ctl)
{
	return ctl->link ? ctl->link->state : DP_DOWN;
}

int32_t dp_link_pid(const struct control *ctl)
{
	return ctl->link && ctl->link->state != DP_DOWN ? ctl->link->pid : 0;
}

bool dp_link_peer_has(const struct control *ctl, uint32_t index, uint32_t slot, uint64_t number)
{
	const struct dp_link *l = ctl->link;

	for (uint32_t i = 0; i < l->n_peer; i++)
		if (l->peer[i].model_index == index && l->peer[i].model_slot == slot &&
			l->peer[i].number == number)
			return true;
	return false;
}

/* ---- sending --------------------------------------------------------------------------------- */

/* A full socket buffer drains within milliseconds while the dataplane starts: wait for it, bounded. */
static int send_message(struct control *ctl, struct link_message *m, int fd)
{
	struct dp_link *l = ctl->link;
	int rc;

	m->magic = LINK_MAGIC;
	m->version = LINK_VERSION;
	m->pid = (uint32_t)getpid();
	if (l->sock < 0)
		return -ENOTCONN;
	rc = fd_send(l->sock, m, sizeof(*m), &fd, fd >= 0);
	if (rc == -EAGAIN) {
		struct pollfd p = {.fd = l->sock, .events = POLLOUT};

		poll(&p, 1, 200);
		rc = fd_send(l->sock, m, sizeof(*m), &fd, fd >= 0);
	}
	return rc;
}

int dp_link_offer(struct control *ctl, enum link_fd kind, int fd)
{
	struct link_message m = {.kind = LINK_OFFER, .fd_kind = kind};

	return fd < 0 ? 0 : send_message(ctl, &m, fd);
}

int dp_link_offer_artifact(struct control *ctl, int fd, const struct link_artifact *a)
{
	struct link_message m = {.kind = LINK_OFFER, .fd_kind = LINK_FD_ARTIFACT, .artifact = *a};

	return send_message(ctl, &m, fd);
}

static int send_first(struct control *ctl)
{
	struct link_message m = {.kind = LINK_HELLO};
	int rc;

	snprintf(m.text, sizeof(m.text), "millrace-control %s", MILLRACE_VERSION);
	rc = send_message(ctl, &m, -1);
	if (!rc)
		rc = dp_link_offer(ctl, LINK_FD_CONFIG, supervisor_config_fd(ctl));
	return rc ? rc : dp_link_offer(ctl, LINK_FD_LIMITS, limits_table_fd(ctl));
}

/* The rest waits for the dataplane's offers: what it holds from before is adopted, not replaced. */
static int send_rest(struct control *ctl)
{
	struct link_message m = {.kind = LINK_OFFERED};
	struct error err = {0};
	int rc = sessions_need_table(ctl, &err);

	if (rc) {
		log_error("session table: %s", err.text);
		return rc;
	}
	rc = dp_link_offer(ctl, LINK_FD_SESSIONS, sessions_table_fd(ctl));
	if (!rc)
		rc = dp_link_offer(ctl, LINK_FD_GATEWAY, gateway_fd(ctl));
	models_offer(ctl);
	if (!rc)
		rc = send_message(ctl, &m, -1);
	ctl->link->we_done = !rc;
	return rc;
}

/* ---- receiving ------------------------------------------------------------------------------- */

static void close_link(struct control *ctl)
{
	struct dp_link *l = ctl->link;

	if (l->readable) {
		event_free(l->readable);
		l->readable = NULL;
	}
	fd_close(l->sock);
	l->sock = -1;
	l->hello = l->peer_done = l->we_done = false;
	l->n_peer = 0;
	l->licence_sent_ns = l->licence_refresh_ns = 0;
	evtimer_del(l->poll);
}

/* The connection is lost, the process may live on: connect again. */
static void lost(struct control *ctl, const char *why)
{
	static struct log_limiter again;
	struct timeval tv = {0, LINK_LOST_MS * 1000};

	log_ratelimited(&again, LOG_LEVEL_WARN, "link to the dataplane lost: %s", why);
	supervisor_dataplane_gone(ctl);
	close_link(ctl);
	dp_link_set_state(ctl, DP_STARTING);
	dp_commands_fail_all(ctl, -ECONNRESET);
	models_detached(ctl);
	evtimer_add(ctl->link->retry, &tv);
}

void dp_link_reattach(struct control *ctl, const char *why)
{
	if (ctl->link->sock >= 0)
		lost(ctl, why);
}

static void attached(struct control *ctl)
{
	dp_link_set_state(ctl, DP_ATTACHED);
	sessions_attached(ctl);
	limits_table_enable(ctl, true);
	dp_link_send_licence(ctl);
	models_attached(ctl);
	dp_commands_arm(ctl);
}

static int take_artifact(struct control *ctl, int fd, const struct link_artifact *a, struct error *err)
{
	struct dp_link *l = ctl->link;

	if (a->model_index >= DP_MAX_MODELS || a->model_slot > LINK_SLOT_PREVIOUS)
		return error_set(err, -EPROTO, "artifact offer out of range");
	if (l->n_peer < LINK_MAX_ARTIFACTS)
		l->peer[l->n_peer++] = *a;
	return models_adopt(ctl, fd, a, err);
}

/* Consumes fd. */
static int take_offer(struct control *ctl, const struct link_message *m, int fd, struct error *err)
{
	int rc = 0;

	if (fd < 0)
		return error_set(err, -EPROTO, "an offer without its descriptor");
	switch (m->fd_kind) {
	case LINK_FD_STATS:
		rc = dp_stats_adopt(ctl, fd, err);
		break;
	case LINK_FD_MAILBOX:
		rc = dp_mailbox_adopt(ctl, fd, err);
		break;
	case LINK_FD_SESSIONS:
		return sessions_adopt_table(ctl, fd, err);
	case LINK_FD_LIMITS:
		rc = limits_table_adopt(ctl, fd, err);
		break;
	case LINK_FD_GATEWAY:
		rc = gateway_adopt(ctl, fd, err);
		break;
	case LINK_FD_ARTIFACT:
		rc = take_artifact(ctl, fd, &m->artifact, err);
		break;
	default:
		break; /* the configuration: ours already */
	}
	close(fd);
	return rc;
}

static int take_offered(struct control *ctl, struct error *err)
{
	struct dp_link *l = ctl->link;

	if (!l->stats || !l->mailbox)
		return error_set(err, -EPROTO, "the dataplane offered no statistics or no mailbox");
	l->peer_done = true;
	if (send_rest(ctl))
		return error_set(err, -EIO, "offers could not be sent");
	attached(ctl);
	return 0;
}

static int take_message(struct control *ctl, const struct link_message *m, int fd, struct error *err)
{
	if (m->magic != LINK_MAGIC || m->version != LINK_VERSION) {
		fd_close(fd);
		return error_set(err, -EPROTO, "it speaks version %u, this program %d", m->version,
			LINK_VERSION);
	}
	if (m->kind == LINK_OFFER && ctl->link->hello)
		return take_offer(ctl, m, fd, err);
	fd_close(fd);
	switch (m->kind) {
	case LINK_HELLO:
		ctl->link->hello = true;
		return 0;
	case LINK_OFFERED:
		return ctl->link->peer_done ? 0 : take_offered(ctl, err);
	case LINK_REFUSED:
		return error_set(err, -ECONNREFUSED, "it refused us: %.*s",
			(int)sizeof(m->text) - 1, m->text);
	default:
		return error_set(err, -EPROTO, "message %u out of place", m->kind);
	}
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct control *ctl = arg;
	struct error err = {0};

	(void)what;
	for (;;) {
		struct link_message m;
		int fds[FD_MAX_PASSED];
		size_t n_fds;
		ssize_t got = fd_recv(fd, &m, sizeof(m), fds, &n_fds);

		if (got == -EAGAIN)
			return;
		if (got <= 0) {
			lost(ctl, got ? strerror((int)-got) : "closed by the dataplane");
			return;
		}
		while (n_fds > 1)
			close(fds[--n_fds]);
		if (got != sizeof(m)) {
			fd_close(n_fds ? fds[0] : -1);
			lost(ctl, "message of a wrong size");
			return;
		}
		if (take_message(ctl, &m, n_fds ? fds[0] : -1, &err)) {
			lost(ctl, err.text);
			return;
		}
	}
}

/* ---- connecting ------------------------------------------------------------------------------ */

static int32_t peer_pid(int sock)
{
	struct ucred cred = {0};
	socklen_t n = sizeof(cred);

	return getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &n) < 0 ? 0 : cred.pid;
}

int dp_link_try(struct control *ctl, struct error *err)
{
	struct dp_link *l = ctl->link;
	char path[PATH_MAX];
	int sock;

	if (l->sock >= 0)
		return 0;
	snprintf(path, sizeof(path), "%s/dataplane.sock", ctl->config->run_dir);
	sock = fd_unix_connect(path, SOCK_SEQPACKET, err);
	if (sock < 0)
		return sock;
	l->readable = event_new(ctl->base, sock, EV_READ | EV_PERSIST, on_readable, ctl);
	if (!l->readable || event_add(l->readable, NULL) < 0) {
		close(sock);
		return error_set(err, -ENOMEM, "out of memory");
	}
	l->sock = sock;
	l->pid = peer_pid(sock);
	dp_link_set_state(ctl, DP_STARTING);
	supervisor_adopt(ctl, l->pid);
	if (!send_first(ctl))
		return 0;
	close_link(ctl);
	return error_set(err, -EIO, "offers could not be sent");
}

static void on_retry(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	dp_link_start(arg);
}

void dp_link_start(struct control *ctl)
{
	struct timeval tv = {0, LINK_RETRY_MS * 1000};

	if (dp_link_try(ctl, NULL))
		evtimer_add(ctl->link->retry, &tv);
}

void dp_link_dead(struct control *ctl)
{
	evtimer_del(ctl->link->retry);
	close_link(ctl);
	dp_link_set_state(ctl, DP_DOWN);
	ctl->link->pid = 0;
	dp_commands_fail_all(ctl, -ECONNRESET);
	models_detached(ctl);
}

static void on_poll(evutil_socket_t fd, short what, void *arg)
{
	struct control *ctl = arg;

	(void)fd;
	(void)what;
	dp_commands_poll(ctl);
	if (ctl->link->state < DP_ATTACHED)
		return;
	if (ctl->link->state == DP_ATTACHED && dp_stats_polling(ctl)) {
		dp_link_set_state(ctl, DP_READY);
		supervisor_dataplane_ready(ctl);
	}
	dp_link_send_licence(ctl);
	dp_commands_arm(ctl);
}

int dp_link_init(struct control *ctl, struct error *err)
{
	struct dp_link *l = calloc(1, sizeof(*l));

	if (!l)
		return error_set(err, -ENOMEM, "out of memory");
	ctl->link = l;
	l->sock = -1;
	l->next_seq = clock_now_ns(); /* never a number an earlier control used */
	l->retry = evtimer_new(ctl->base, on_retry, ctl);
	l->poll = evtimer_new(ctl->base, on_poll, ctl);
	return l->retry && l->poll ? 0 : error_set(err, -ENOMEM, "out of memory");
}

void dp_link_uninit(struct control *ctl)
{
	struct dp_link *l = ctl->link;

	if (!l)
		return;
	close_link(ctl);
	l->state = DP_DOWN;
	dp_commands_fail_all(ctl, -ECONNRESET);
	dp_regions_release(ctl);
	if (l->retry)
		event_free(l->retry);
	if (l->poll)
		event_free(l->poll);
	free(l);
	ctl->link = NULL;
}
