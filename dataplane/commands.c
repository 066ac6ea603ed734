/* SPDX-License-Identifier: BSD-3-Clause
 * Mailbox commands of control, each answered by one EVENT_ACK (abi/mailbox.h). All are idempotent.
 */
#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/fd.h"
#include "base/log.h"
#include "service.h"

enum { COMMANDS_PER_TURN = 256, COMMANDS_NS = 20000000, QUIESCE_SLEEP_NS = 20000, QUIESCE_MAX_MS = 500 };

/* Until every worker has begun another burst. False when one takes too long. */
static bool wait_for_workers(const struct service *s)
{
	const struct timespec nap = {0, QUIESCE_SLEEP_NS};
	uint64_t end_ns = clock_now_ns() + QUIESCE_MAX_MS * NS_PER_MS;
	struct quiesce_snapshot mark;

	quiesce_mark(&s->shared->quiesce, &mark);
	while (!quiesce_passed(&s->shared->quiesce, &mark)) {
		if (clock_now_ns() > end_ns)
			return false;
		nanosleep(&nap, NULL);
	}
	return true;
}

static int session_add(struct service *s, uint64_t index, struct error *err)
{
	if (!s->sessions)
		return error_set(err, -ENODEV, "no session table yet");
	return sessions_add(s->sessions, index, clock_now_ns(), err);
}

static int session_remove(struct service *s, uint64_t index, uint64_t session_id, struct error *err)
{
	int rc;

	if (!s->sessions)
		return error_set(err, -ENODEV, "no session table yet");
	rc = sessions_remove_begin(s->sessions, index, session_id);
	if (rc == -ESRCH)
		return 0; /* gone already */
	if (rc)
		return error_set(err, rc, "session slot %lu is out of range", (unsigned long)index);
	if (!wait_for_workers(s))
		return error_set(err, -EBUSY, "a worker is busy; session slot %lu stays closed",
			(unsigned long)index);
	sessions_remove_finish(s->sessions, index);
	return 0;
}

static int model_stage(struct service *s, uint64_t index, uint64_t number, struct error *err)
{
	link_pump(&s->link); /* the offer was sent before this command */
	return model_table_stage(&s->models, index, number, err);
}

static int model_cache(struct service *s, uint64_t index, uint64_t packed, struct error *err)
{
	struct mailbox_cache c = mailbox_cache_unpack(packed);

	return model_table_cache(&s->models, index, &c, err);
}

static int trace_begin(struct service *s, struct error *err)
{
	struct trace *t;
	int rc;

	if (!s->told)
		return error_set(err, -EAGAIN, "nobody is served yet");
	link_pump(&s->link); /* the offer was sent before this command */
	if (s->shared->trace)
		return error_set(err, -EBUSY, "another trace has not ended");
	if (s->trace_fd < 0)
		return error_set(err, -ENOENT, "no trace was offered");
	rc = trace_open(&t, s->trace_fd, &s->models, s->shared->n_workers, err);
	fd_close(s->trace_fd);
	s->trace_fd = -1;
	if (!rc)
		__atomic_store_n(&s->shared->trace, t, __ATOMIC_RELEASE);
	return rc;
}

int service_trace_end(struct service *s, struct error *err)
{
	struct trace *t = s->shared->trace;

	if (!t)
		return 0;
	__atomic_store_n(&s->shared->trace, NULL, __ATOMIC_SEQ_CST);
	if (!wait_for_workers(s)) {
		__atomic_store_n(&s->shared->trace, t, __ATOMIC_RELEASE);
		return error_set(err, -EBUSY, "a worker is busy; the trace goes on");
	}
	trace_close(t);
	return 0;
}

static int licence(struct service *s, uint64_t until_ns)
{
	if (!s->told)
		link_pump(&s->link); /* what was offered before this command comes first */
	__atomic_store_n(&s->shared->licensed_until_ns, until_ns, __ATOMIC_RELAXED);
	s->told = true;
	service_publish(s);
	return 0;
}

static int stop(struct service *s)
{
	log_info("control asked for a stop");
	__atomic_store_n(&s->shared->stop, 1, __ATOMIC_RELAXED);
	return 0;
}

static int execute(struct service *s, const struct mailbox_message *m, struct error *err)
{
	switch (m->kind) {
	case CMD_SESSION_ADD:
		return session_add(s, m->a, err);
	case CMD_SESSION_REMOVE:
		return session_remove(s, m->a, m->b, err);
	case CMD_MODEL_STAGE:
		return model_stage(s, m->a, m->b, err);
	case CMD_MODEL_ACTIVATE:
		return model_table_activate(&s->models, m->a, err);
	case CMD_MODEL_ROLLBACK:
		return model_table_rollback(&s->models, m->a, err);
	case CMD_MODEL_UNLOAD:
		return model_table_unload(&s->models, m->a, err);
	case CMD_TRACE_BEGIN:
		return trace_begin(s, err);
	case CMD_TRACE_END:
		return service_trace_end(s, err);
	case CMD_MODEL_CACHE:
		return model_cache(s, m->a, m->b, err);
	case CMD_LICENCE:
		return licence(s, m->a);
	case CMD_STOP:
		return stop(s);
	default:
		return error_set(err, -ENOSYS, "unknown command");
	}
}

bool service_event(struct service *s, enum mailbox_event kind, uint64_t a, uint64_t b)
{
	struct mailbox_message m = {.kind = kind, .a = a, .b = b};

	return mailbox_put(&s->regions.mailbox->to_control, &m);
}

/* The reason goes to the operator who asked, not only into our log. */
static void tell_why(struct service *s, struct mailbox_message *ack, const char *why)
{
	ack->b = s->refusals++ % MAILBOX_REFUSALS;
	snprintf(s->regions.mailbox->refusals[ack->b], MAILBOX_REFUSAL_BYTES, "%.*s",
		MAILBOX_REFUSAL_BYTES - 1, why);
}

void service_commands(struct service *s)
{
	/* A new session may touch memory that the kernel has to clear first, 2 MiB at a time (10 ms each were
	 * seen): many of them in a row must not look like a hang. */
	uint64_t end_ns = clock_now_ns() + COMMANDS_NS;
	struct mailbox_message m;

	for (int i = 0; i < COMMANDS_PER_TURN && clock_now_ns() < end_ns; i++) {
		struct mailbox_message ack = {.kind = EVENT_ACK};
		struct error err = {0};

		if (!mailbox_get(&s->regions.mailbox->to_dataplane, &m))
			return;
		failpoint("mailbox.taken");
		ack.seq = m.seq;
		ack.a = m.kind;
		ack.result = execute(s, &m, &err);
		if (ack.result) {
			log_warn("command %u (%lu, %lu): %s", m.kind, (unsigned long)m.a,
				(unsigned long)m.b, err.text);
			tell_why(s, &ack, err.text);
		}
		if (!mailbox_put(&s->regions.mailbox->to_control, &ack))
			log_warn("control does not read its mailbox: an answer was lost");
		failpoint("mailbox.acked");
	}
}
