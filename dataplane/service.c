/* SPDX-License-Identifier: BSD-3-Clause
 * Service thread: see service.h.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "abi/xdp_maps.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "config_check.h"
#include "ratchet.h"
#include "service.h"

enum { TURN_MS = 1, COSTS_MS = 250 };

/* ---- adopt what control offers ---- */

static void adopt_sessions(struct service *s, int fd)
{
	uint64_t begin_ns = clock_now_ns();
	struct sessions *table = NULL;
	struct error err = {0};

	if (s->sessions)
		return; /* we hold one: control adopts ours */
	if (sessions_attach(&table, fd, &s->shared->aead, begin_ns, &err)) {
		log_error("session table: %s", err.text);
		return;
	}
	s->regions.stats->header.generation = table->generation;
	log_info("session table adopted in %.0f ms: %u live sessions, generation %u",
		(double)(clock_now_ns() - begin_ns) / NS_PER_MS, table->live, table->generation);
	if (table->refused)
		log_error("session table: %u slots contradict themselves and are not served", table->refused);
	s->sessions = table;
	service_publish(s);
}

void service_publish(struct service *s)
{
	if (!s->told)
		return;
	__atomic_store_n(&s->shared->sessions, s->sessions, __ATOMIC_RELEASE);
	__atomic_store_n(&s->shared->gateway, s->gateway, __ATOMIC_RELEASE);
}

static void adopt_limits(struct service *s, int fd)
{
	struct limits_view *v = NULL;
	struct error err = {0};

	if (s->shared->limits)
		return;
	if (limits_view_open(&v, fd, s->config.limits_fallback, &err)) {
		log_error("%s", err.text);
		return;
	}
	s->limits_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	s->regions.stats->header.limits_memfd = v->memfd;
	if (!v->memfd)
		s->box_fd = bpf_obj_get(XDP_BPFFS_DIR "/" XDP_MAP_BOX);
	log_info("limits adopted: %u subscribers%s", v->n, v->memfd ? ", in a memfd (no BPF)" : "");
	__atomic_store_n(&s->shared->limits, v, __ATOMIC_RELEASE);
}

static void adopt_gateway(struct service *s, int fd)
{
	struct error err = {0};

	if (s->gateway)
		return;
	if (gateway_open(&s->gateway, fd, &err)) {
		log_error("%s", err.text);
		return;
	}
	s->gateway_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	service_publish(s);
}

static void adopt_artifact(struct service *s, const struct link_artifact *a, int fd)
{
	uint64_t begin_ns = clock_now_ns();
	struct error err = {0};
	int rc = model_table_offer(&s->models, fd, a, &err); /* takes the fd */

	if (!rc)
		log_info("artifact %lu of model %u taken in %.0f ms", (unsigned long)a->number,
			a->model_index, (double)(clock_now_ns() - begin_ns) / NS_PER_MS);
	else if (rc != -EEXIST)
		log_error("artifact %lu of model %u: %s", (unsigned long)a->number, a->model_index,
			err.text);
}

static void adopt_config(struct service *s, int fd)
{
	struct error err = {0};

	if (s->configured)
		return;
	if (config_take(fd, &s->config, &err))
		log_error("%s", err.text);
	else
		s->configured = true;
}

static void adopt(struct service *s, const struct link_message *m, int fd)
{
	switch (m->fd_kind) {
	case LINK_FD_SESSIONS:
		adopt_sessions(s, fd);
		break;
	case LINK_FD_LIMITS:
		adopt_limits(s, fd);
		break;
	case LINK_FD_GATEWAY:
		adopt_gateway(s, fd);
		break;
	case LINK_FD_ARTIFACT:
		adopt_artifact(s, &m->artifact, fd);
		return;
	case LINK_FD_TRACE:
		fd_close(s->trace_fd);
		s->trace_fd = fd;
		return;
	default:
		break;
	}
	close(fd);
}

static void on_offer(void *ctx, const struct link_message *m, int fd)
{
	struct service *s = ctx;

	if (m->fd_kind == LINK_FD_CONFIG) {
		adopt_config(s, fd);
		close(fd);
	} else if (s->started) {
		adopt(s, m, fd);
	} else if (s->n_early < SERVICE_EARLY_OFFERS) {
		s->early[s->n_early++] = (struct early_offer){*m, fd};
	} else {
		close(fd);
	}
}

/* ---- offer what we hold ---- */

static void offer_model(struct service *s, const struct live_model *m, enum link_model_slot slot)
{
	struct link_artifact a;

	if (!m)
		return;
	a = m->artifact;
	a.model_slot = slot;
	link_offer(&s->link, LINK_FD_ARTIFACT, m->fd, m->map_bytes, &a);
}

static void offer_all(struct service *s)
{
	struct sessions *table = s->sessions;

	link_offer(&s->link, LINK_FD_STATS, s->regions.stats_fd, sizeof(struct stats_region), NULL);
	link_offer(&s->link, LINK_FD_MAILBOX, s->regions.mailbox_fd, sizeof(struct mailbox), NULL);
	if (table) {
		/* A description of its own: with ours control would inherit the lock. */
		int fd = fd_reopen(table->fd);

		link_offer(&s->link, LINK_FD_SESSIONS, fd, table->table_bytes, NULL);
		fd_close(fd);
	}
	if (s->shared->limits)
		link_offer(&s->link, LINK_FD_LIMITS, s->limits_fd, s->shared->limits->bytes, NULL);
	if (s->gateway)
		link_offer(&s->link, LINK_FD_GATEWAY, s->gateway_fd, sizeof(struct gateway_region), NULL);
	for (uint32_t i = 0; i < DP_MAX_MODELS; i++) {
		offer_model(s, s->models.entries[i].current, LINK_SLOT_CURRENT);
		offer_model(s, s->models.entries[i].previous, LINK_SLOT_PREVIOUS);
		offer_model(s, s->models.entries[i].next, LINK_SLOT_NEXT);
	}
	link_offers_done(&s->link);
	s->ready = false; /* this control has not been told yet */
}

static void on_attach(void *ctx)
{
	struct service *s = ctx;
	struct error err = {0};

	if (s->started && service_trace_end(s, &err)) /* it was another control's */
		log_warn("%s", err.text);
	if (s->started)
		offer_all(s); /* else service_run() does, when there is something to offer */
}

/* ---- turns ---- */

/* Let control's messages in, or wait at most `ms` for one. The signal that came meanwhile, or 0. One system call
 * when there is nothing: on a machine without a core to spare this thread interrupts whoever has its core. */
static uint32_t hear(struct service *s, int ms)
{
	struct pollfd fds[] = {{.fd = s->signal_fd, .events = POLLIN}, {.fd = s->link.listen_fd, .events = POLLIN},
		{.fd = s->link.fd, .events = POLLIN}};
	struct signalfd_siginfo info;

	if (poll(fds, sizeof(fds) / sizeof(fds[0]), ms) <= 0)
		return 0;
	if (fds[1].revents || fds[2].revents)
		link_pump(&s->link);
	return fds[0].revents && read(s->signal_fd, &info, sizeof(info)) == sizeof(info) ? info.ssi_signo : 0;
}

static bool all_polling(const struct service *s)
{
	for (uint32_t i = 0; i < s->shared->n_workers; i++)
		if (__atomic_load_n(&s->regions.stats->workers[i].state, __ATOMIC_ACQUIRE) != 1)
			return false;
	return true;
}

static void announce_ready(struct service *s)
{
	if (s->ready || !all_polling(s))
		return;
	if (!s->regions.stats->header.started_ns)
		s->regions.stats->header.started_ns = clock_now_ns();
	if (service_event(s, EVENT_READY, 0, 0))
		s->ready = true;
}

static void collect_alarms(struct service *s)
{
	for (uint32_t i = 0; i < s->shared->n_workers; i++) {
		uint64_t who = __atomic_exchange_n(&s->workers[i]->corrupt_subscriber, 0,
			__ATOMIC_RELAXED);

		if (who) {
			log_warn(
				"limiter state of subscriber %lu was impossible and has been reset",
				(unsigned long)who - 1);
			service_event(s, EVENT_LIMIT_CORRUPT, who - 1, 0);
		}
	}
}

/* Whom a worker has boxed, XDP boxes too. */
static void collect_boxed(struct service *s)
{
	struct admission_report r;

	for (uint32_t i = 0; i < s->shared->n_workers; i++)
		while (admission_take_report(&s->workers[i]->admission, &r)) {
			struct shield_term term = {r.until_ns, 0};

			if (s->box_fd >= 0)
				bpf_map_update_elem(s->box_fd, &r.source, &term, BPF_ANY);
		}
}

static void on_released(void *ctx, uint32_t index, uint64_t number)
{
	service_event(ctx, EVENT_MODEL_RELEASED, index, number);
}

static void ratchet(struct service *s)
{
	if (!s->sessions)
		return;
	for (uint32_t i = 0; i < s->shared->n_workers; i++)
		ratchet_take(s->sessions, &s->workers[i]->promotions);
	ratchet_turn(s->sessions, clock_now_ns());
}

/* Wake workers that sleep: for HTTPS requests, and now and then to see how long that takes. */
static void ring_workers(struct service *s, bool measure)
{
	uint64_t submitted = s->gateway ? __atomic_load_n(&s->gateway->header.submitted, __ATOMIC_ACQUIRE) : 0;

	if (!measure && submitted == s->rung)
		return;
	s->rung = submitted;
	for (uint32_t i = 0; i < s->shared->n_workers; i++)
		doze_ring(&s->workers[i]->doze, measure);
}

static void turn(struct service *s)
{
	struct stats_header *h = &s->regions.stats->header;
	uint32_t signal = hear(s, TURN_MS);
	uint64_t now_ns;

	if (signal) {
		log_info("signal %u: stopping", signal);
		__atomic_store_n(&s->shared->stop, 1, __ATOMIC_RELAXED);
	}
	service_commands(s);
	model_table_reap(&s->models);
	collect_alarms(s);
	ratchet(s);
	collect_boxed(s);
	announce_ready(s);
	now_ns = clock_now_ns();
	ring_workers(s, now_ns >= s->costs_due_ns);
	if (now_ns >= s->costs_due_ns) {
		model_table_costs(&s->models, s->regions.stats->costs);
		model_table_caches(&s->models, s->regions.stats->caches);
		s->costs_due_ns = now_ns + COSTS_MS * NS_PER_MS;
	}
	h->licensed = now_ns < __atomic_load_n(&s->shared->licensed_until_ns, __ATOMIC_RELAXED);
	__atomic_store_n(&h->service_heartbeat_ns, now_ns, __ATOMIC_RELAXED);
}

void service_run(struct service *s)
{
	s->models.released = on_released;
	s->models.released_ctx = s;
	s->started = true;
	for (uint32_t i = 0; i < s->n_early; i++)
		adopt(s, &s->early[i].message, s->early[i].fd);
	s->n_early = 0;
	if (s->link.greeted)
		offer_all(s);
	while (!__atomic_load_n(&s->shared->stop, __ATOMIC_RELAXED))
		turn(s);
}

/* ---- start and end ---- */

static int watch(struct service *s, struct error *err)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL); /* before any thread exists */
	s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return s->signal_fd < 0 ? error_set(err, -errno, "signalfd: %s", strerror(errno)) : 0;
}

static int wait_for_config(struct service *s, struct error *err)
{
	log_info("waiting for the configuration on %s", s->link.path);
	while (!s->configured)
		if (hear(s, -1))
			return error_set(err, -EINTR, "stopped before it was configured");
	return 0;
}

int service_configure(struct service *s, const char *run_dir, struct error *err)
{
	bool given = config_is_at(CONFIG_FD);
	int rc = 0;

	s->limits_fd = s->gateway_fd = s->trace_fd = s->box_fd = s->signal_fd = -1;
	s->link.fd = s->link.listen_fd = s->link.lock_fd = -1;
	if (given) {
		rc = config_take(CONFIG_FD, &s->config, err);
		close(CONFIG_FD);
		s->configured = !rc;
	}
	if (!rc)
		rc = link_init(&s->link, given ? s->config.run_dir : run_dir, err);
	if (rc)
		return rc;
	s->link.handler = (struct link_handler){s, on_offer, on_attach};
	rc = watch(s, err);
	return rc || given ? rc : wait_for_config(s, err);
}

void service_uninit(struct service *s)
{
	for (uint32_t i = 0; i < s->n_early; i++)
		close(s->early[i].fd);
	link_uninit(&s->link);
	fd_close(s->limits_fd);
	fd_close(s->gateway_fd);
	fd_close(s->trace_fd);
	fd_close(s->box_fd);
	fd_close(s->signal_fd);
}
