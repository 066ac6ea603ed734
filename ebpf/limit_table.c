/* SPDX-License-Identifier: BSD-3-Clause
 * Mapping the limiter slots and changing limits live: see limit_table.h.
 */
#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/mman.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "ebpf/limit_table.h"

enum { TABLE_BYTES = LIMITS_MAX_SLOTS * sizeof(struct limit_slot) };

/* By default 1 % of the plan's rate, but at least 100 replies a second. */
static const double refused_share = 0.01, refused_least_per_s = 100;
static const double rounding_most = 0.01;

/* A plan in the slot's own fields. */
struct limit_fields {
	uint64_t interval, burst, refused_interval;
};

int limit_table_map(struct limit_table *t, int map_fd, struct error *err)
{
	void *p = mmap(NULL, TABLE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, map_fd, 0);

	if (p == MAP_FAILED) {
		memset(t, 0, sizeof(*t));
		return error_set(err, -errno, "mapping the limiter slots: %s", strerror(errno));
	}
	*t = (struct limit_table){.slots = p, .bytes = TABLE_BYTES, .fd = map_fd};
	return 0;
}

int limit_table_memfd(struct limit_table *t, struct error *err)
{
	void *p = NULL;
	int fd = fd_region_new("millrace-limits", TABLE_BYTES, false, &p, err);

	memset(t, 0, sizeof(*t));
	if (fd < 0)
		return fd;
	*t = (struct limit_table){.slots = p, .bytes = TABLE_BYTES, .fd = fd, .is_memfd = true};
	return 0;
}

void limit_table_uninit(struct limit_table *t)
{
	if (t->slots)
		munmap(t->slots, t->bytes);
	if (t->is_memfd)
		fd_close(t->fd);
	memset(t, 0, sizeof(*t));
}

/* Ticks per event, to nearest. The quotient is below 2^44, where a double is exact to 2^-9. */
static int interval_of(double per_s, const char *what, uint64_t *interval, struct error *err)
{
	double off;

	if (!isfinite(per_s) || per_s < 0)
		return error_set(err, -EINVAL, "%s is not a rate", what);
	*interval = 0;
	if (per_s == 0)
		return 0;
	if (per_s < LIMIT_RATE_MIN || per_s > LIMIT_RATE_MAX)
		return error_set(err, -ERANGE, "%s %g is outside %g..%g a second", what, per_s,
			LIMIT_RATE_MIN, LIMIT_RATE_MAX);
	*interval = (uint64_t)llround((double)LIMITS_TICKS_PER_S / per_s);
	off = fabs((double)LIMITS_TICKS_PER_S / (double)*interval / per_s - 1);
	if (off > rounding_most)
		return error_set(err, -ERANGE, "%s %g a second cannot be held to 1 %%; next to it is %g",
			what, per_s, (double)LIMITS_TICKS_PER_S / (double)*interval);
	return 0;
}

static int fields_of(const struct limit_plan *plan, struct limit_fields *f, struct error *err)
{
	double refused = plan->refused_per_s;
	int rc = interval_of(plan->rate_per_s, "rate", &f->interval, err);

	if (rc)
		return rc;
	if (refused == 0)
		refused = fmax(plan->rate_per_s * refused_share, refused_least_per_s);
	rc = interval_of(refused, "rate of refusals", &f->refused_interval, err);
	if (rc)
		return rc;
	if (plan->burst_units == 0)
		return error_set(err, -EINVAL, "a burst of 0 units would never admit anything");
	if (f->interval && plan->burst_units > LIMITS_MAX_TICKS / f->interval)
		return error_set(err, -ERANGE, "burst of %llu units is more than two years at this rate",
			(unsigned long long)plan->burst_units);
	f->burst = f->interval * plan->burst_units;
	return 0;
}

int limits_check(const struct limit_plan *plan, struct error *err)
{
	struct limit_fields f;

	return fields_of(plan, &f, err);
}

static void store(uint64_t *p, uint64_t v)
{
	__atomic_store_n(p, v, __ATOMIC_RELEASE);
}

/* How far ahead of now the TAT stands, carried from one interval to another and kept within `burst`. */
static uint64_t scale_ahead(uint64_t ahead, uint64_t from, uint64_t to, uint64_t burst)
{
	uint64_t scaled;

	if (!from || !to)
		return 0;
	if (__builtin_mul_overflow(ahead / from, to, &scaled))
		return burst;
	scaled += (uint64_t)((double)(ahead % from) / (double)from * (double)to);
	return limits_at_most(scaled, burst);
}

/* Move one TAT to its new limits, against workers that are charging it. The word always changes, if only by
 * a tick: a worker that has read the old limits then cannot succeed any more. */
static void move_tat(uint64_t *word, uint64_t now, uint64_t from, uint64_t to, uint64_t burst)
{
	uint64_t tat = limits_load(word), moved;

	do {
		uint64_t ahead = tat > now ? tat - now : 0;

		/* One in the past stays there: to a worker whose clock was read before ours, "now" is ahead. */
		moved = ahead ? now + scale_ahead(ahead, from, to, burst) : tat;
		moved += moved == tat;
	} while (!__atomic_compare_exchange_n(word, &tat, moved, false, __ATOMIC_ACQ_REL,
		__ATOMIC_ACQUIRE));
}

int limits_set(struct limit_slot *slot, const struct limit_plan *plan, uint64_t now_ns,
	struct error *err)
{
	uint64_t old = limits_load(&slot->interval_ticks);
	uint64_t old_refused = limits_load(&slot->refused_interval_ticks);
	uint64_t now = limits_ticks(now_ns);
	struct limit_fields f;
	int rc = fields_of(plan, &f, err);

	if (rc)
		return rc;
	/* Odd, even if a crashed control left it odd. A reader that sees it odd cannot take the old
	 * TAT under the new limits for a corrupt one. */
	__atomic_store_n(&slot->generation, limits_load(&slot->generation) | 1, __ATOMIC_SEQ_CST);
	failpoint("limits.odd");
	store(&slot->interval_ticks, f.interval);
	store(&slot->burst_ticks, f.burst);
	store(&slot->refused_interval_ticks, f.refused_interval);
	store(&slot->model_mask, plan->model_mask);
	__atomic_store_n(&slot->flags, plan->flags, __ATOMIC_RELEASE);
	failpoint("limits.fields");
	move_tat(&slot->tat_ticks, now, old, f.interval, f.burst);
	if (old_refused != f.refused_interval)
		move_tat(&slot->refused_tat_ticks, now, old_refused, f.refused_interval,
			f.refused_interval * LIMITS_REFUSED_BURST);
	failpoint("limits.moved");
	__atomic_fetch_add(&slot->generation, 1, __ATOMIC_SEQ_CST);
	return 0;
}

void limits_clear(struct limit_slot *slot)
{
	__atomic_store_n(&slot->flags, 0, __ATOMIC_RELEASE);
	store(&slot->interval_ticks, 0);
	store(&slot->burst_ticks, 0);
	store(&slot->refused_interval_ticks, 0);
	store(&slot->model_mask, 0);
	store(&slot->tat_ticks, 0);
	store(&slot->refused_tat_ticks, 0);
	store(&slot->units_admitted, 0);
}

bool limits_intact(const struct limit_slot *slot, const struct limit_plan *plan)
{
	struct limit_fields f;

	if (fields_of(plan, &f, NULL))
		return false;
	return limits_load(&slot->interval_ticks) == f.interval &&
	       limits_load(&slot->burst_ticks) == f.burst &&
	       limits_load(&slot->refused_interval_ticks) == f.refused_interval &&
	       limits_load(&slot->model_mask) == plan->model_mask &&
	       limits_load(&slot->flags) == plan->flags &&
	       !(limits_load(&slot->generation) & 1);
}

double limits_rate(const struct limit_slot *slot)
{
	uint64_t interval = limits_load(&slot->interval_ticks);

	return interval ? (double)LIMITS_TICKS_PER_S / (double)interval : 0;
}
