/* SPDX-License-Identifier: BSD-3-Clause
 * The processes that are killed: see victim.h.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file_replace.h"
#include "dataplane/service.h"
#include "tests/kill/victim.h"

static void die(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(1);
}

static void *shared_memory(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		die("shared memory");
	return p;
}

uint64_t world_now_ns(void)
{
	static uint64_t began_ns;

	if (!began_ns)
		began_ns = clock_now_ns();
	return RIG_BEGIN_NS + (clock_now_ns() - began_ns) * 100;
}

void world_init(struct world *w)
{
	const char *folder = getenv("TMPDIR"); /* the killed leave half-written files in it */

	memset(w, 0, sizeof(*w));
	world_now_ns(); /* the same beginning for every process */
	rig_init(&w->rig, 1);
	rig_stop(&w->rig);
	w->table = (struct sessions_table){w->rig.sessions_fd, RIG_CAPACITY, RIG_LANES};
	w->mailbox = shared_memory(sizeof(*w->mailbox));
	w->dataplane_orders = shared_memory(4096);
	w->control_orders = w->dataplane_orders + 1;
	w->artifact_fd = rig_artifact("alpha", 1, 1.0f, 1, 8);
	if ((size_t)snprintf(w->licence_mark, sizeof(w->licence_mark), "%s/millrace-kills-%d", folder ? folder : "/tmp", getpid()) >=
	    sizeof(w->licence_mark)) {
		errno = ENAMETOOLONG;
		die("TMPDIR");
	}
}

void world_uninit(struct world *w)
{
	unlink(w->licence_mark);
	munmap(w->mailbox, sizeof(*w->mailbox));
	munmap(w->dataplane_orders, 4096);
	close(w->artifact_fd);
}

/* ---- the dataplane ---- */

/* As service.c takes an offer of a new dataplane's control: into the slot it is named for. */
static void adopt_artifact(struct world *w, struct service *s)
{
	struct link_artifact a = {.number = 1, .model_slot = LINK_SLOT_CURRENT};
	struct error err = {0};

	if (model_table_offer(&s->models, dup(w->artifact_fd), &a, &err)) {
		fprintf(stderr, "artifact: %s\n", err.text);
		exit(1);
	}
}

static void service_of(struct world *w, struct service *s)
{
	memset(s, 0, sizeof(*s));
	s->link.fd = s->link.listen_fd = s->link.lock_fd = -1;
	s->shared = &w->rig.shared;
	s->sessions = w->rig.shared.sessions;
	s->models = w->rig.models;
	w->rig.shared.models = &s->models;
	s->regions.mailbox = w->mailbox;
	s->workers = w->rig.workers;
	adopt_artifact(w, s);
}

static bool take_frames(struct rig *r, int socket)
{
	uint8_t frame[RIG_FRAME];
	bool any = false;
	ssize_t n;

	while (port_mem_unused(r->port) && (n = recv(socket, frame, sizeof(frame), MSG_DONTWAIT)) > 0)
		any = port_mem_put(r->port, frame, (size_t)n);
	return any;
}

static void give_frames(struct rig *r, int socket)
{
	uint8_t frame[RIG_FRAME];
	size_t n;

	while ((n = port_mem_get(r->port, frame)))
		if (send(socket, frame, n, 0) < 0)
			exit(1);
}

static void serve(struct world *w, int socket)
{
	static struct service s;
	struct rig *r = &w->rig;
	struct pollfd p = {socket, POLLIN, 0};

	r->begin_ns = world_now_ns();
	rig_start(r);
	service_of(w, &s);
	for (;;) {
		r->port->now_ns = world_now_ns();
		quiesce_leave(r->worker->quiesce); /* one thread plays both parts: never wait for itself */
		service_commands(&s);
		rig_ratchet(r);
		model_table_reap(&s.models);
		if (!take_frames(r, socket))
			poll(&p, 1, 1);
		worker_poll(r->worker);
		give_frames(r, socket);
		if (p.revents & POLLHUP)
			exit(0);
	}
}

void dataplane_start(struct world *w, struct dataplane *d)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		die("socketpair");
	memset(w->mailbox, 0, sizeof(*w->mailbox));
	fflush(stdout);
	d->pid = fork();
	if (d->pid < 0)
		die("fork");
	if (d->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(pair[0]);
		failpoint_obey(w->dataplane_orders);
		serve(w, pair[1]);
	}
	close(pair[1]);
	d->socket = pair[0];
}

static bool was_killed(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid)
		die("waitpid");
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

bool dataplane_end(struct dataplane *d, bool now)
{
	bool killed;

	if (now)
		kill(d->pid, SIGKILL);
	killed = was_killed(d->pid);
	close(d->socket);
	return killed;
}

/* ---- control ---- */

static pid_t control_fork(struct world *w)
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid < 0)
		die("fork");
	if (pid == 0)
		failpoint_obey(w->control_orders);
	return pid;
}

/* Killed, or done; anything else is a failure of the harness or of control. */
static bool control_end(struct world *w, pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid)
		die("waitpid");
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
		return true;
	w->control_failed += !WIFEXITED(status) || WEXITSTATUS(status);
	return false;
}

bool control_fills(struct world *w, const struct session_slot *slot, const uint8_t secret[32])
{
	pid_t pid = control_fork(w);

	if (pid == 0)
		_exit(sessions_table_fill(&w->table, slot, secret) ? 1 : 0);
	return control_end(w, pid);
}

bool control_changes_limits(struct world *w, uint32_t subscriber, const struct limit_plan *plan)
{
	pid_t pid = control_fork(w);

	if (pid == 0) {
		struct limit_slot *slots = mmap(NULL, RIG_SLOTS * sizeof(*slots), PROT_READ | PROT_WRITE,
			MAP_SHARED, w->rig.limits_fd, 0);

		_exit(slots == MAP_FAILED || limits_set(&slots[subscriber], plan, world_now_ns(), NULL));
	}
	return control_end(w, pid);
}

bool control_marks(struct world *w, const char *text)
{
	pid_t pid = control_fork(w);

	if (pid == 0)
		_exit(file_replace(w->licence_mark, text, strlen(text), 0600, NULL) ? 1 : 0);
	return control_end(w, pid);
}
