/* SPDX-License-Identifier: BSD-3-Clause
 * Recording and warming, control's side: see traces.h.
 *
 *   region ─ offer ─ CMD_TRACE_BEGIN ─▶ workers ─ their counters, looked at 20 times a second ─▶ CMD_TRACE_END ─▶ file
 */
#include <errno.h>
#include <event2/event.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "abi/trace.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/file_replace.h"
#include "base/npy.h"
#include "control/config.h"
#include "control/models_private.h"
#include "control/paths.h"
#include "control/show.h"
#include "control/subscribers.h"
#include "control/traces.h"

enum { LOOK_MS = 50, HEADER_ROOM = 512 };

struct trace_run {
	struct control *ctl;
	struct trace_user user;
	struct trace_result result;
	struct model_file_header model;
	struct trace_header *h; /* the region; NULL = none yet */
	size_t bytes;
	int fd;
	uint64_t end_ns; /* recording: not longer */
	struct event *timer;
	bool commanded; /* a command's acknowledgement is outstanding */
	int rc;         /* why it ends */
	struct error err;
};

/* ---- end ---- */

static void trace_free(struct trace_run *t)
{
	if (t->ctl->models && t->ctl->models->trace == t)
		t->ctl->models->trace = NULL;
	if (t->h)
		munmap(t->h, t->bytes);
	fd_close(t->fd);
	if (t->timer)
		event_free(t->timer);
	free(t);
}

static void finish(struct trace_run *t)
{
	struct trace_user user = t->user;
	struct trace_result result = t->result;
	struct error err = t->err;
	int rc = t->rc;

	trace_free(t);
	user.done(rc, &result, &err, user.arg);
}

static void fail(struct trace_run *t, int rc, const char *why)
{
	if (!t->rc)
		t->rc = error_set(&t->err, rc, "%s", why);
}

/* A command was not carried out. */
static void refused(struct trace_run *t, int result)
{
	const char *why = dp_link_refusal(t->ctl);

	fail(t, result, result == -ECONNRESET ? "the dataplane went away" : why[0] ? why : strerror(-result));
}

/* Rows of one input stay an array of its type and shape; those of several are bytes. */
static uint32_t describe_rows(const struct model_file_header *m, uint64_t rows, uint64_t dims[NPY_MAX_RANK],
	uint32_t *dtype)
{
	const struct model_file_io *io = &m->inputs[0];
	uint32_t rank = 1;

	dims[0] = rows;
	*dtype = WIRE_U8;
	if (m->n_inputs != 1 || io->row_bytes != m->row_in_bytes || !io->elements ||
		io->row_bytes != io->elements * wire_dtype_bytes(io->dtype) || io->rank >= NPY_MAX_RANK) {
		dims[1] = m->row_in_bytes;
		return 2;
	}
	*dtype = io->dtype;
	for (uint32_t d = 0; d < io->rank; d++)
		dims[rank++] = io->dims[d];
	return rank;
}

static int write_file(const struct trace_run *t, struct error *err)
{
	size_t n = t->result.rows * t->h->row_bytes, head;
	uint64_t dims[NPY_MAX_RANK];
	uint32_t dtype, rank = describe_rows(&t->model, t->result.rows, dims, &dtype);
	char dir[300], *file = malloc(HEADER_ROOM + n);
	int rc;

	if (!file)
		return error_set(err, -ENOMEM, "out of memory");
	snprintf(dir, sizeof(dir), "%s/traces", t->ctl->config->state_dir);
	head = npy_header(dtype, dims, rank, file, HEADER_ROOM);
	memcpy(file + head, (const uint8_t *)t->h + TRACE_ROWS_AT, n);
	rc = path_make_dir(dir, 0700, err);
	rc = rc ? rc : file_replace(t->result.path, file, head + n, 0600, err);
	explicit_bzero(file, head + n);
	free(file);
	return rc;
}

/* No worker touches the region any more, or there is none. */
static void ended(int result, void *arg)
{
	struct trace_run *t = arg;

	t->commanded = false;
	if (result)
		refused(t, result);
	if (!t->rc && t->h->kind == TRACE_RECORD)
		t->rc = t->result.rows ? write_file(t, &t->err) :
			error_set(&t->err, -ENODATA, "nothing was asked of it in that time: no file was written");
	finish(t);
}

static void end(struct trace_run *t)
{
	int rc;

	evtimer_del(t->timer);
	t->commanded = true;
	rc = dp_link_command(t->ctl, CMD_TRACE_END, 0, 0, ended, t);
	if (rc)
		ended(rc, t);
}

/* End the run that is under way, if there is one that no command's answer will end. */
static void abandon(struct control *ctl, int rc, const char *why)
{
	struct trace_run *t = ctl->models ? ctl->models->trace : NULL;

	if (!t || t->commanded)
		return;
	fail(t, rc, why);
	finish(t);
}

void traces_detached(struct control *ctl)
{
	abandon(ctl, -ECONNRESET, "the dataplane went away");
}

void traces_cancel(struct control *ctl)
{
	abandon(ctl, -ECANCELED, "control is stopping");
}

/* ---- going on ---- */

static uint32_t workers(const struct control *ctl)
{
	const struct stats_region *s = dp_link_live(ctl);
	uint32_t n = s ? __atomic_load_n(&s->header.n_workers, __ATOMIC_RELAXED) : 0;

	return n < DP_MAX_WORKERS ? n : DP_MAX_WORKERS;
}

/* True = all workers are through. */
static bool look_at_warming(struct trace_run *t)
{
	uint32_t n = workers(t->ctl), through = 0;
	uint64_t least = UINT64_MAX;

	t->result.kept = 0;
	for (uint32_t i = 0; i < n; i++) {
		const struct trace_progress *p = &t->h->workers[i];
		uint32_t state = __atomic_load_n(&p->state, __ATOMIC_ACQUIRE);
		uint64_t rows = __atomic_load_n(&p->rows, __ATOMIC_RELAXED);

		through += state == TRACE_DONE;
		least = rows < least ? rows : least;
		t->result.kept += __atomic_load_n(&p->kept, __ATOMIC_RELAXED);
		if (state == TRACE_STALE)
			fail(t, -ECANCELED, "its version is not current any more, or its cache was taken away");
	}
	t->result.rows = n ? least : 0;
	return n && through == n;
}

static bool look_at_recording(struct trace_run *t)
{
	uint64_t taken = __atomic_load_n(&t->h->taken, __ATOMIC_RELAXED);

	t->result.rows = taken < t->h->n_rows ? taken : t->h->n_rows;
	return t->result.rows == t->h->n_rows || clock_now_ns() >= t->end_ns;
}

static void look(evutil_socket_t fd, short what, void *arg)
{
	struct trace_run *t = arg;
	struct timeval tv = {0, LOOK_MS * 1000};
	bool recording = t->h->kind == TRACE_RECORD, all = recording ? look_at_recording(t) : look_at_warming(t);

	(void)fd;
	(void)what;
	if (all || t->rc) {
		end(t);
		return;
	}
	if (t->user.progress)
		t->user.progress(t->result.rows * t->h->row_bytes, (uint64_t)t->h->n_rows * t->h->row_bytes,
			recording ? "recorded" : "warmed", t->user.arg);
	evtimer_add(t->timer, &tv);
}

static void begun(int result, void *arg)
{
	struct trace_run *t = arg;
	struct timeval now = {0, 0};

	t->commanded = false;
	if (!result) {
		evtimer_add(t->timer, &now);
		return;
	}
	refused(t, result);
	if (result == -ETIMEDOUT) /* it may have begun after all */
		end(t);
	else
		finish(t);
}

/* ---- beginning ---- */

static int region(struct trace_run *t, enum trace_kind kind, const struct model_entry *m, uint32_t subscriber,
	uint64_t rows, struct error *err)
{
	void *map;

	if (!rows || rows > TRACE_MAX_BYTES / m->header.row_in_bytes)
		return error_set(err, -EINVAL, "%llu rows of %u bytes: 1 to %u are possible", (unsigned long long)rows,
			m->header.row_in_bytes, TRACE_MAX_BYTES / m->header.row_in_bytes);
	t->bytes = trace_bytes((uint32_t)rows, m->header.row_in_bytes);
	t->fd = fd_region_new("millrace-trace", t->bytes, true, &map, err);
	if (t->fd < 0)
		return t->fd;
	t->h = map;
	*t->h = (struct trace_header){.magic = TRACE_MAGIC, .version = TRACE_VERSION, .kind = kind,
		.model_index = m->index, .subscriber = subscriber, .row_bytes = m->header.row_in_bytes,
		.n_rows = (uint32_t)rows, .total_bytes = t->bytes};
	t->model = m->header;
	return 0;
}

/* A run about model `name`, not begun. */
static int trace_new(struct trace_run **out, struct control *ctl, const char *name, const char *subscriber,
	const struct model_entry **m, uint32_t *slot, struct error *err)
{
	struct subscriber s;
	struct trace_run *t;

	*m = models_find(ctl, name);
	*slot = TRACE_EVERYBODY;
	if (!*m || (*m)->current.state == MODEL_EMPTY)
		return error_set(err, -ENOENT, "model %.63s is not live", name);
	if (!(*m)->header.row_in_bytes)
		return error_set(err, -EINVAL, "model %s takes no input", name);
	if (subscriber && subscribers_find(ctl, subscriber, &s))
		return error_set(err, -ENOENT, "no subscriber %.63s", subscriber);
	if (subscriber)
		*slot = s.index;
	if (ctl->models->trace)
		return error_set(err, -EBUSY, "another trace is recorded or read");
	t = calloc(1, sizeof(*t));
	if (!t)
		return error_set(err, -ENOMEM, "out of memory");
	t->ctl = ctl;
	t->fd = -1;
	t->timer = evtimer_new(ctl->base, look, t);
	snprintf(t->result.path, sizeof(t->result.path), "%.200s/traces/%.63s.npy", ctl->config->state_dir, name);
	*out = t;
	if (t->timer)
		return 0;
	trace_free(t);
	return error_set(err, -ENOMEM, "out of memory");
}

/* `rc` of what came before. A run that does not begin is freed. */
static int begin(struct trace_run *t, int rc, bool dry_run, const struct trace_user *user, struct error *err)
{
	if (!rc && dry_run)
		rc = 1;
	if (!rc && dp_link_offer(t->ctl, LINK_FD_TRACE, t->fd))
		rc = error_set(err, -ENOTCONN, "no dataplane is attached");
	if (!rc && dp_link_command(t->ctl, CMD_TRACE_BEGIN, 0, 0, begun, t))
		rc = error_set(err, -EAGAIN, "the dataplane takes no command");
	if (rc) {
		trace_free(t);
		return rc;
	}
	t->user = *user;
	t->commanded = true;
	t->ctl->models->trace = t;
	return 0;
}

static int read_rows(struct trace_run *t, const struct model_entry *m, uint32_t slot, struct error *err)
{
	uint64_t want[NPY_MAX_RANK], bytes;
	struct npy a;
	uint32_t dtype;
	char *file;
	size_t n;
	int rc = file_read(t->result.path, TRACE_MAX_BYTES + NPY_MAX_HEADER_BYTES, &file, &n, err);

	if (rc)
		return rc;
	rc = npy_parse((const uint8_t *)file, n, &a, err);
	describe_rows(&m->header, 0, want, &dtype);
	bytes = !rc && a.rank && a.dims[0] ? a.elements / a.dims[0] * a.item_bytes : 0;
	if (!rc && (bytes != m->header.row_in_bytes || (a.dtype != dtype && a.dtype != WIRE_U8)))
		rc = error_set(err, -EINVAL, "%s: rows of %llu bytes of type %s, model %s takes %u of %s", t->result.path,
			(unsigned long long)bytes, wire_dtype_name(a.dtype), m->name, m->header.row_in_bytes,
			wire_dtype_name(dtype));
	rc = rc ? rc : region(t, TRACE_WARM, m, slot, a.dims[0], err);
	if (!rc)
		memcpy((uint8_t *)t->h + TRACE_ROWS_AT, a.data, a.elements * a.item_bytes);
	explicit_bzero(file, n);
	free(file);
	return rc;
}

int traces_warm(struct control *ctl, const char *name, const char *path, const char *subscriber, bool dry_run,
	const struct trace_user *user, struct error *err)
{
	const struct model_entry *m;
	struct trace_run *t;
	uint32_t slot;
	int rc = trace_new(&t, ctl, name, subscriber, &m, &slot, err);

	if (rc)
		return rc;
	if (path)
		snprintf(t->result.path, sizeof(t->result.path), "%.319s", path);
	if (!m->cache.memory_kb)
		rc = error_set(err, -EINVAL, "model %s has no response cache to warm: millrace model cache", name);
	else if (!m->cache.shared && !subscriber)
		rc = error_set(err, -EINVAL, "the cache of %s is not shared: name the subscriber whose questions these "
			"are", name);
	return begin(t, rc ? rc : read_rows(t, m, slot, err), dry_run, user, err);
}

int traces_record(struct control *ctl, const char *name, uint32_t rows, uint32_t seconds, const char *subscriber,
	bool dry_run, const struct trace_user *user, struct error *err)
{
	const struct model_entry *m;
	struct trace_run *t;
	uint32_t slot;
	int rc = trace_new(&t, ctl, name, subscriber, &m, &slot, err);

	if (rc)
		return rc;
	t->end_ns = clock_now_ns() + seconds * NS_PER_S;
	return begin(t, region(t, TRACE_RECORD, m, slot, rows, err), dry_run, user, err);
}
