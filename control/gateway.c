/* SPDX-License-Identifier: BSD-3-Clause
 * Gateway slots: see gateway.h.
 */
#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "control/dp_link.h"
#include "control/gateway.h"
#include "control/models.h"

enum { POLL_US = 500, ANSWER_NS = 2000000000 };

struct gateway_job {
	gateway_done_fn done; /* NULL = forgotten or answered */
	void *arg;
	uint32_t pending; /* slots still out */
	uint32_t rows, row_out_bytes;
	uint64_t deadline_ns;
	struct gateway_answer answer;
	uint8_t out[]; /* rows x row_out_bytes */
};

/* Who uses a slot, and for which rows. */
struct use {
	struct gateway_job *job; /* NULL = ours to take, once the slot is FREE */
	uint32_t first_row, rows;
};

struct gateway {
	struct gateway_region *region;
	int fd;
	struct event *poll;
	uint32_t out; /* slots in use */
	uint64_t next_id;
	struct use uses[GATEWAY_SLOTS];
};

static uint32_t state_of(const struct gateway_slot *s)
{
	return __atomic_load_n(&s->state, __ATOMIC_ACQUIRE);
}

static void set_state(struct gateway_slot *s, uint32_t state)
{
	__atomic_store_n(&s->state, state, __ATOMIC_RELEASE);
}

/* ---- geometry -------------------------------------------------------------------------------- */

/* Rows that fit one slot, in both directions. */
static uint32_t rows_per_slot(const struct model_file_header *h)
{
	uint32_t widest = h->row_in_bytes > h->row_out_bytes ? h->row_in_bytes : h->row_out_bytes;
	uint32_t fit = widest ? WIRE_SEGMENT_ROW_BYTES / widest : 0;

	return fit < h->max_rows ? fit : h->max_rows;
}

uint32_t gateway_max_rows(const struct model_entry *m)
{
	return rows_per_slot(&m->header) * GATEWAY_SLOTS;
}

static uint32_t free_slots(const struct gateway *g)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < GATEWAY_SLOTS; i++)
		n += !g->uses[i].job && state_of(&g->region->slots[i]) == GATEWAY_FREE;
	return n;
}

/* Slots an earlier control left are answered to nobody: free again once the worker has written. */
static void reclaim(struct gateway *g)
{
	for (uint32_t i = 0; i < GATEWAY_SLOTS; i++)
		if (!g->uses[i].job && state_of(&g->region->slots[i]) == GATEWAY_ANSWERED)
			set_state(&g->region->slots[i], GATEWAY_FREE);
}

/* ---- submit ---------------------------------------------------------------------------------- */

static void fill(struct gateway *g, struct gateway_slot *slot, const struct model_entry *m,
	uint32_t subscriber, const uint8_t *rows, uint32_t n)
{
	struct wire_request q = {
		.request_id = g->next_id++,
		.model_id = m->id,
		.dtype = (uint8_t)m->header.inputs[0].dtype,
		.segment_count = 1,
		.rows = (uint16_t)n,
	};

	memcpy(slot->request, &q, sizeof(q));
	memcpy(slot->request + sizeof(q), rows, (size_t)n * m->header.row_in_bytes);
	slot->request_bytes = (uint32_t)sizeof(q) + n * m->header.row_in_bytes;
	slot->subscriber = subscriber;
	slot->reply_bytes = 0;
	set_state(slot, GATEWAY_SUBMITTED);
}

static void submit(struct gateway *g, struct gateway_job *job, const struct model_entry *m,
	uint32_t subscriber, const uint8_t *data)
{
	uint32_t per_slot = rows_per_slot(&m->header), row = 0;

	for (uint32_t i = 0; i < GATEWAY_SLOTS && row < job->rows; i++) {
		uint32_t n = job->rows - row < per_slot ? job->rows - row : per_slot;

		if (g->uses[i].job || state_of(&g->region->slots[i]) != GATEWAY_FREE)
			continue;
		g->uses[i] = (struct use){job, row, n};
		fill(g, &g->region->slots[i], m, subscriber,
			data + (size_t)row * m->header.row_in_bytes, n);
		row += n;
		job->pending++;
		g->out++;
	}
	__atomic_fetch_add(&g->region->header.submitted, 1, __ATOMIC_RELEASE);
}

static void arm(struct gateway *g)
{
	struct timeval tv = {0, POLL_US};

	if (g->out && !evtimer_pending(g->poll, NULL))
		evtimer_add(g->poll, &tv);
}

int gateway_infer(struct control *ctl, uint32_t subscriber, const struct model_entry *m,
	uint32_t rows, const uint8_t *data, gateway_done_fn done, void *arg,
	struct gateway_job **out, struct error *err)
{
	struct gateway *g = ctl->gateway;
	uint32_t per_slot = rows_per_slot(&m->header);
	struct gateway_job *job;

	if (!per_slot)
		return error_set(err, -EFBIG,
			"a row of this model is larger than a datagram (%d bytes)", WIRE_SEGMENT_ROW_BYTES);
	if (!rows || rows > gateway_max_rows(m))
		return error_set(err, -EINVAL, "%u rows; 1 to %u go into one call", rows,
			gateway_max_rows(m));
	if (dp_link_state(ctl) != DP_READY)
		return error_set(err, -EAGAIN, "the dataplane is not ready");
	reclaim(g);
	if (free_slots(g) < (rows + per_slot - 1) / per_slot)
		return error_set(err, -EAGAIN, "too many requests over HTTPS are under way");
	job = calloc(1, sizeof(*job) + (size_t)rows * m->header.row_out_bytes);
	if (!job)
		return error_set(err, -ENOMEM, "out of memory");
	job->done = done;
	job->arg = arg;
	job->rows = rows;
	job->row_out_bytes = m->header.row_out_bytes;
	job->deadline_ns = clock_now_ns() + ANSWER_NS;
	submit(g, job, m, subscriber, data);
	arm(g);
	*out = job;
	return 0;
}

void gateway_forget(struct gateway_job *job)
{
	job->done = NULL;
}

/* ---- collect --------------------------------------------------------------------------------- */

static void refuse(struct gateway_job *job, uint32_t status, uint32_t detail, uint32_t retry_us)
{
	if (job->answer.status != WIRE_RESULT)
		return; /* the first refusal counts */
	job->answer.status = status;
	job->answer.detail = detail;
	job->answer.retry_after_us = retry_us;
}

/* Copy one reply out of its slot, checking the copy. */
static void take_reply(const struct gateway_slot *slot, const struct use *u)
{
	struct gateway_job *job = u->job;
	uint32_t bytes = slot->reply_bytes, want = u->rows * job->row_out_bytes;
	struct wire_reply r;

	if (bytes < sizeof(r) || bytes > GATEWAY_TEXT_BYTES) {
		refuse(job, WIRE_INTERNAL, 0, 0);
		return;
	}
	memcpy(&r, slot->reply, sizeof(r));
	if (r.status != WIRE_RESULT) {
		refuse(job, r.status < WIRE_STATUS_END ? r.status : WIRE_INTERNAL, r.detail,
			r.retry_after_us);
	} else if (r.rows != u->rows || bytes != sizeof(r) + want) {
		refuse(job, WIRE_INTERNAL, 0, 0);
	} else {
		memcpy(job->out + (size_t)u->first_row * job->row_out_bytes,
			slot->reply + sizeof(r), want);
		if (job->answer.status == WIRE_RESULT)
			job->answer.detail = r.detail;
	}
}

static void finish(struct gateway_job *job)
{
	gateway_done_fn done = job->done;

	job->done = NULL;
	if (!done)
		return;
	job->answer.rows = job->answer.status == WIRE_RESULT ? job->rows : 0;
	job->answer.data = job->out;
	done(&job->answer, job->arg);
}

static void collect_slot(struct gateway *g, uint32_t i, uint64_t now_ns)
{
	struct use *u = &g->uses[i];
	struct gateway_slot *slot = &g->region->slots[i];
	struct gateway_job *job = u->job;

	if (!job)
		return;
	if (state_of(slot) != GATEWAY_ANSWERED) {
		if (job->done && now_ns > job->deadline_ns) {
			refuse(job, WIRE_INTERNAL, 0, 0);
			finish(job);
		}
		return; /* a late answer still frees the slot */
	}
	take_reply(slot, u);
	set_state(slot, GATEWAY_FREE);
	u->job = NULL;
	g->out--;
	if (--job->pending == 0) {
		finish(job);
		free(job);
	}
}

static void on_poll(evutil_socket_t fd, short what, void *arg)
{
	struct gateway *g = arg;
	uint64_t now_ns = clock_now_ns();

	(void)fd;
	(void)what;
	for (uint32_t i = 0; i < GATEWAY_SLOTS; i++)
		collect_slot(g, i, now_ns);
	arm(g);
}

/* ---- region ---------------------------------------------------------------------------------- */

int gateway_adopt(struct control *ctl, int fd, struct error *err)
{
	struct gateway *g = ctl->gateway;
	const struct gateway_header *h;
	size_t bytes;
	void *map;
	int rc;

	if (g->out)
		return 0; /* ours is in use: this dataplane was given it by us */
	rc = fd_region_map(fd, true, true, &map, &bytes, err);
	if (rc)
		return error_prefix(err, "gateway");
	h = map;
	if (bytes != sizeof(struct gateway_region) || h->magic != GATEWAY_MAGIC ||
		h->version != GATEWAY_VERSION || h->slots != GATEWAY_SLOTS) {
		munmap(map, bytes);
		return error_set(err, -EPROTO, "the dataplane's gateway is of another version");
	}
	rc = fd_reopen(fd);
	if (rc < 0) {
		munmap(map, bytes);
		return error_set(err, rc, "gateway: %s", strerror(-rc));
	}
	munmap(g->region, sizeof(*g->region));
	close(g->fd);
	g->region = map;
	g->fd = rc;
	return 0;
}

int gateway_fd(const struct control *ctl)
{
	return ctl->gateway->fd;
}

int gateway_init(struct control *ctl, struct error *err)
{
	struct gateway *g = calloc(1, sizeof(*g));
	void *map = NULL;

	if (!g)
		return error_set(err, -ENOMEM, "out of memory");
	g->fd = fd_region_new("millrace-gateway", sizeof(*g->region), true, &map, err);
	if (g->fd < 0) {
		int rc = g->fd;

		free(g);
		return rc;
	}
	g->region = map;
	g->region->header.magic = GATEWAY_MAGIC;
	g->region->header.version = GATEWAY_VERSION;
	g->region->header.slots = GATEWAY_SLOTS;
	g->region->header.total_bytes = sizeof(*g->region);
	g->poll = evtimer_new(ctl->base, on_poll, g);
	ctl->gateway = g;
	return g->poll ? 0 : error_set(err, -ENOMEM, "out of memory");
}

void gateway_uninit(struct control *ctl)
{
	struct gateway *g = ctl->gateway;

	if (!g)
		return;
	for (uint32_t i = 0; i < GATEWAY_SLOTS; i++) {
		struct gateway_job *job = g->uses[i].job;

		if (job && --job->pending == 0)
			free(job);
	}
	if (g->poll)
		event_free(g->poll);
	munmap(g->region, sizeof(*g->region));
	close(g->fd);
	free(g);
	ctl->gateway = NULL;
}
