/* SPDX-License-Identifier: BSD-3-Clause
 * Many calls to control at once: see enrolment.h.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "perf/loadgen/enrolment.h"

enum { CONNECTIONS = 16, SESSIONS_EACH = 8 /* a handshake costs as much as some sessions */ };

struct line {
	struct enrolment *all;
	struct enrol enrol;
	struct error err;
	pthread_t thread;
};

struct enrolment {
	struct line lines[CONNECTIONS];
	uint32_t n;
	/* The calls under way. */
	enrolment_fn fn;
	void *arg;
	uint32_t next, end; /* atomic: `end` falls to 0 with the first failure */
};

int enrolment_open(struct enrolment **out, const struct mr_options *options, uint32_t sessions,
	struct error *err)
{
	struct enrolment *e = calloc(1, sizeof(*e));
	uint32_t want = (sessions + SESSIONS_EACH - 1) / SESSIONS_EACH;
	int rc = e ? 0 : error_set(err, -ENOMEM, "out of memory");

	want = want < CONNECTIONS ? want : CONNECTIONS;
	while (!rc && e->n < want) {
		e->lines[e->n].all = e;
		rc = enrol_init(&e->lines[e->n].enrol, options, err);
		e->n += !rc;
	}
	if (rc)
		enrolment_close(e);
	else
		*out = e;
	return rc;
}

static void *work(void *arg)
{
	struct line *l = arg;
	struct enrolment *e = l->all;
	uint32_t i;

	l->err = (struct error){0};
	while ((i = __atomic_fetch_add(&e->next, 1, __ATOMIC_RELAXED)) <
		__atomic_load_n(&e->end, __ATOMIC_RELAXED)) {
		if (!e->fn(&l->enrol, i, e->arg, &l->err))
			continue;
		error_prefix(&l->err, "session %u", i + 1);
		__atomic_store_n(&e->end, 0, __ATOMIC_RELAXED);
		break;
	}
	return NULL;
}

int enrolment_each(struct enrolment *e, uint32_t n, enrolment_fn fn, void *arg, struct error *err)
{
	uint32_t started = 1; /* the first line is the caller's own */
	int rc = 0;

	e->fn = fn;
	e->arg = arg;
	e->next = 0;
	e->end = n;
	while (started < e->n && !pthread_create(&e->lines[started].thread, NULL, work, &e->lines[started]))
		started++;
	work(&e->lines[0]);
	for (uint32_t k = 0; k < started; k++) {
		if (k)
			pthread_join(e->lines[k].thread, NULL);
		if (!rc && e->lines[k].err.code) {
			*err = e->lines[k].err;
			rc = err->code;
		}
	}
	return rc;
}

void enrolment_close(struct enrolment *e)
{
	if (!e)
		return;
	for (uint32_t k = 0; k < e->n; k++)
		enrol_uninit(&e->lines[k].enrol);
	free(e);
}
