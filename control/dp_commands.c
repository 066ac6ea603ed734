/* SPDX-License-Identifier: BSD-3-Clause
 * Commands with acknowledgement, and events, over the mailbox. The ring is polled: every millisecond
 * while a command is outstanding, else twenty times a second.
 */
#include <errno.h>
#include <event2/event.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "control/dp_link_private.h"
#include "control/license.h"

void dp_commands_arm(struct control *ctl)
{
	struct dp_link *l = ctl->link;
	int ms = l->n_pending || l->state < DP_READY ? LINK_BUSY_MS : LINK_IDLE_MS;
	struct timeval tv = {0, ms * 1000};

	if (l->state >= DP_ATTACHED)
		evtimer_add(l->poll, &tv);
}

/* Take a pending command out and tell its sender. The call may send the next command. */
static void finish(struct control *ctl, struct pending *p, int result)
{
	struct pending done = *p;

	p->seq = 0;
	ctl->link->n_pending--;
	if (done.acked)
		done.acked(result, done.arg);
}

const char *dp_link_refusal(const struct control *ctl)
{
	return ctl->link->refusal;
}

/* The sentence that came with an error, copied out of shared memory and made printable. */
static void take_refusal(struct dp_link *l, const struct mailbox_message *m)
{
	l->refusal[0] = 0;
	if (!m->result || m->b >= MAILBOX_REFUSALS)
		return;
	memcpy(l->refusal, l->mailbox->refusals[m->b], sizeof(l->refusal));
	l->refusal[sizeof(l->refusal) - 1] = 0;
	for (char *p = l->refusal; *p; p++)
		if (*p < 0x20 || *p > 0x7e)
			*p = '?';
}

static void take_ack(struct control *ctl, const struct mailbox_message *m)
{
	struct dp_link *l = ctl->link;

	for (uint32_t i = 0; m->seq && i < LINK_PENDING; i++)
		if (l->pending[i].seq == m->seq) {
			take_refusal(l, m);
			finish(ctl, &l->pending[i], m->result > 0 ? -EPROTO : m->result);
			l->refusal[0] = 0;
			return;
		}
	log_debug("acknowledgement of a command nobody waits for (result %d)", m->result);
}

static void take_event(struct control *ctl, const struct mailbox_message *m)
{
	static struct log_limiter corrupt;

	switch (m->kind) {
	case EVENT_ACK:
		take_ack(ctl, m);
		break;
	case EVENT_READY:
		break; /* seen in the statistics, which a restarted control can read too */
	case EVENT_LIMIT_CORRUPT:
		log_ratelimited(&corrupt, LOG_LEVEL_WARN, "limiter slot %llu held an impossible "
			"time and was reset", (unsigned long long)m->a);
		break;
	case EVENT_MODEL_RELEASED:
		if (m->a < DP_MAX_MODELS)
			models_released(ctl, (uint32_t)m->a, m->b);
		break;
	default:
		log_warn("event %u of the dataplane is unknown to this version", m->kind);
	}
}

static void expire(struct control *ctl)
{
	struct dp_link *l = ctl->link;
	uint64_t now = clock_now_ns();

	for (uint32_t i = 0; l->n_pending && i < LINK_PENDING; i++)
		if (l->pending[i].seq && now > l->pending[i].deadline_ns)
			finish(ctl, &l->pending[i], -ETIMEDOUT);
}

void dp_commands_poll(struct control *ctl)
{
	struct dp_link *l = ctl->link;
	struct mailbox_message m;

	/* Bounded: a mad peer must not hold the loop. */
	for (int i = 0; i < MAILBOX_SLOTS && l->mailbox && mailbox_get(&l->mailbox->to_control, &m); i++)
		take_event(ctl, &m);
	expire(ctl);
}

void dp_commands_fail_all(struct control *ctl, int rc)
{
	for (uint32_t i = 0; i < LINK_PENDING; i++)
		if (ctl->link->pending[i].seq)
			finish(ctl, &ctl->link->pending[i], rc);
}

int dp_link_command(struct control *ctl, enum mailbox_command cmd, uint64_t a, uint64_t b,
	void (*acked)(int result, void *arg), void *arg)
{
	struct dp_link *l = ctl->link;
	struct mailbox_message m = {.kind = cmd, .a = a, .b = b};
	struct pending *p = NULL;
	int ms = cmd == CMD_MODEL_STAGE ? LINK_STAGE_MS : LINK_ACK_MS;

	if (!l || l->state < DP_ATTACHED || !l->mailbox)
		return -ENOTCONN;
	for (uint32_t i = 0; i < LINK_PENDING && !p; i++)
		if (!l->pending[i].seq)
			p = &l->pending[i];
	if (!p)
		return -EAGAIN;
	m.seq = ++l->next_seq;
	if (!mailbox_put(&l->mailbox->to_dataplane, &m))
		return -EAGAIN;
	*p = (struct pending){m.seq, clock_now_ns() + (uint64_t)ms * NS_PER_MS, acked, arg};
	l->n_pending++;
	dp_commands_arm(ctl);
	return 0;
}

void dp_link_send_licence(struct control *ctl)
{
	struct dp_link *l = ctl->link;
	uint64_t until = license_until_ns(ctl), now = clock_now_ns();

	/* `until` is recomputed from wall time: jitter of less than a second is not news. */
	bool same = l->licence_sent_ns && until && until - l->licence_sent_ns + NS_PER_S < 2 * NS_PER_S;

	if (!until && !l->licence_sent_ns && l->licence_refresh_ns)
		same = true;
	if (same && now < l->licence_refresh_ns)
		return;
	if (dp_link_command(ctl, CMD_LICENCE, until, 0, NULL, NULL))
		return;
	l->licence_sent_ns = until;
	l->licence_refresh_ns = now + 60 * NS_PER_S;
}
