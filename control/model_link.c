/* SPDX-License-Identifier: BSD-3-Clause
 * Models and the dataplane's life: offers at attach, adoption of what it holds, confirmation, loss.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "control/models_private.h"
#include "control/store.h"
#include "control/subscribers.h"
#include "control/traces.h"

static struct held *slot_of(struct model *m, uint32_t slot)
{
	switch (slot) {
	case LINK_SLOT_NEXT:
		return &m->next;
	case LINK_SLOT_CURRENT:
		return &m->current;
	case LINK_SLOT_PREVIOUS:
		return &m->previous;
	default:
		return NULL;
	}
}

/* ---- offers ---------------------------------------------------------------------------------- */

void models_offer(struct control *ctl)
{
	for (uint32_t i = 0; i < DP_MAX_MODELS; i++)
		for (uint32_t slot = LINK_SLOT_NEXT; slot <= LINK_SLOT_PREVIOUS; slot++) {
			struct held *h = slot_of(&ctl->models->all[i], slot);
			struct link_artifact a = {.model_index = i, .model_slot = slot,
				.number = h->v.number};

			if (h->fd < 0 || dp_link_peer_has(ctl, i, slot, h->v.number))
				continue;
			memcpy(a.artifact_id, h->v.artifact_id, sizeof(a.artifact_id));
			dp_link_offer_artifact(ctl, h->fd, &a);
		}
}

/* ---- adoption -------------------------------------------------------------------------------- */

static int read_header(int fd, struct model_file_header *h, struct error *err)
{
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals < 0 || !(seals & F_SEAL_WRITE))
		return error_set(err, -EPERM, "an offered artifact is not sealed against writing");
	if (pread(fd, h, sizeof(*h), 0) != sizeof(*h) || h->magic != MODEL_FILE_MAGIC ||
		h->version != MODEL_FILE_VERSION || h->n_inputs > MODEL_FILE_MAX_IO ||
		h->n_outputs > MODEL_FILE_MAX_IO ||
		strnlen(h->name, sizeof(h->name)) == sizeof(h->name))
		return error_set(err, -EPROTO, "an offered artifact has no valid header");
	return 0;
}

/* The dataplane's index counts: its workers use it, and the subscribers' masks follow from ours. */
static struct model *place(struct control *ctl, const struct link_artifact *a,
	const struct model_file_header *h)
{
	struct model *m = model_by_name(ctl, h->name);
	uint32_t index;

	if (!m && !ctl->models->all[a->model_index].pub.name[0] &&
		!model_index_for(ctl, h->name, &index, NULL))
		m = &ctl->models->all[index];
	return m && m->pub.index == a->model_index ? m : NULL;
}

static void fill(struct held *h, const struct link_artifact *a,
	const struct model_file_header *header)
{
	static const enum model_state states[] = {MODEL_VERIFIED, MODEL_STAGED, MODEL_LIVE,
		MODEL_RETIRED};

	h->header = *header;
	h->v = (struct model_version){.state = states[a->model_slot], .number = a->number,
		.version = header->model_version, .bytes = header->file_bytes};
	memcpy(h->v.artifact_id, a->artifact_id, sizeof(h->v.artifact_id));
	memcpy(h->v.note, "adopted from the running dataplane",
		sizeof("adopted from the running dataplane"));
}

int models_adopt(struct control *ctl, int fd, const struct link_artifact *a, struct error *err)
{
	struct models *s = ctl->models;
	struct model_file_header header;
	struct model *m;
	struct held *h;
	int rc = read_header(fd, &header, err);

	if (rc)
		return rc;
	if (a->number > s->last_number)
		s->last_number = a->number;
	m = place(ctl, a, &header);
	h = m ? slot_of(m, a->model_slot) : NULL;
	if (!m) {
		log_error("the dataplane holds model %s under index %u, which is not its index here",
			header.name, a->model_index);
		return 0;
	}
	if (a->model_slot == LINK_SLOT_CURRENT && m->next.v.number == a->number) {
		model_shift(ctl, m); /* activated, but the link broke before we heard of it */
		return 0;
	}
	if (a->model_slot == LINK_SLOT_CURRENT && m->previous.v.number == a->number) {
		model_unshift(ctl, m); /* rolled back, and the acknowledgement never came */
		return 0;
	}
	if (!h || h->v.number == a->number || h->v.state != MODEL_EMPTY)
		return 0; /* known, or ours is newer: ours is offered next */
	h->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	fill(h, a, &header);
	model_recall(ctl, m, &h->v);
	model_publish(m);
	log_info("model %s: adopted artifact %llu (%s)", m->pub.name,
		(unsigned long long)a->number, model_state_name(h->v.state));
	return 0;
}

/* ---- attach, loss ---------------------------------------------------------------------------- */

/* The acknowledgement of a confirmation carries where it was: index x 4 + slot. */
struct confirmation {
	struct control *ctl;
	uint32_t index, slot;
	uint64_t number;
};

static void confirmed(int result, void *arg)
{
	static const enum model_event events[] = {MODEL_EV_DROPPED, MODEL_EV_STAGED,
		MODEL_EV_ACTIVATED, MODEL_EV_REPLACED};
	struct confirmation c = *(struct confirmation *)arg;
	struct model *m = &c.ctl->models->all[c.index];
	struct held *h = slot_of(m, c.slot);

	free(arg);
	if (h->v.number != c.number || result == -ECONNRESET)
		return;
	if (!result) {
		if (h->v.state == MODEL_VERIFIED)
			model_transition(&h->v, events[c.slot], m->pub.name);
	} else {
		log_error("model %s: the dataplane did not take artifact %llu again: %s",
			m->pub.name, (unsigned long long)c.number, strerror(-result));
		model_transition(&h->v, MODEL_EV_FAILED, m->pub.name);
	}
	model_publish(m);
}

static void confirm(struct control *ctl, uint32_t index, uint32_t slot)
{
	struct held *h = slot_of(&ctl->models->all[index], slot);
	struct confirmation *c;

	if (h->v.state == MODEL_EMPTY)
		return;
	c = malloc(sizeof(*c));
	if (!c)
		return;
	*c = (struct confirmation){ctl, index, slot, h->v.number};
	/* Staging what already has a slot changes nothing and says whether it is there. */
	if (dp_link_command(ctl, CMD_MODEL_STAGE, index, h->v.number, confirmed, c))
		free(c);
}

void models_attached(struct control *ctl)
{
	for (uint32_t i = 0; i < DP_MAX_MODELS; i++) {
		if (ctl->models->all[i].pub.name[0])
			model_send_cache(ctl, &ctl->models->all[i]);
		for (uint32_t slot = LINK_SLOT_NEXT; slot <= LINK_SLOT_PREVIOUS; slot++)
			confirm(ctl, i, slot);
	}
	subscribers_apply_all(ctl);
	model_jobs_resume(ctl);
}

static void lose(struct model *m, struct held *h)
{
	if (h->v.state == MODEL_STAGED || h->v.state == MODEL_LIVE)
		model_transition(&h->v, MODEL_EV_LOST, m->pub.name);
}

void models_detached(struct control *ctl)
{
	struct models *s = ctl->models;

	traces_detached(ctl);
	for (uint32_t i = 0; s && i < DP_MAX_MODELS; i++) {
		lose(&s->all[i], &s->all[i].next);
		lose(&s->all[i], &s->all[i].current);
		model_publish(&s->all[i]);
	}
	for (uint32_t i = 0; s && i < MODELS_RELEASING; i++)
		if (s->releasing[i].number) {
			fd_close(s->releasing[i].fd);
			s->releasing[i].number = 0;
		}
}

void models_released(struct control *ctl, uint32_t index, uint64_t number)
{
	struct models *s = ctl->models;

	(void)index;
	for (uint32_t i = 0; s && i < MODELS_RELEASING; i++)
		if (s->releasing[i].number == number && number) {
			fd_close(s->releasing[i].fd);
			s->releasing[i].number = 0;
		}
}
