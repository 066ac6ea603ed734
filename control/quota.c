/* SPDX-License-Identifier: BSD-3-Clause
 * Monthly quotas: a plan's units a calendar month (UTC). Counted from the same units that are billed, so
 * that they survive both processes and the host; enforced by the dataplane through the limiter slot's flag.
 *
 * Looked at every second: a subscriber can use at most one second of his rate, and one burst, too much.
 * A clock set back does not give a month again; one set forward does so once.
 */
#include <time.h>

#include "base/log.h"
#include "control/subscribers_private.h"

/* 202611 for November 2026. */
static uint32_t month_of(int64_t wall_s)
{
	time_t t = (time_t)wall_s;
	struct tm tm;

	gmtime_r(&t, &tm);
	return (uint32_t)(tm.tm_year + 1900) * 100 + (uint32_t)tm.tm_mon + 1;
}

void quota_begin(struct member *m, int64_t wall_s)
{
	m->month = month_of(wall_s);
	m->month_base = m->units;
}

uint64_t quota_used(const struct member *m)
{
	return m->units - m->month_base;
}

static void quota_check(struct control *ctl, uint32_t index, int64_t wall_s)
{
	struct member *m = &ctl->subscribers->all[index];
	const struct plan *p = plan_find(ctl->subscribers, m->plan);
	bool spent;

	usage_read(ctl, index);
	if (month_of(wall_s) > m->month) {
		quota_begin(m, wall_s);
		m->stored = UINT64_MAX; /* to be written, whatever was used */
	}
	spent = p && p->quota && quota_used(m) >= p->quota;
	if (spent == m->quota_spent)
		return;
	m->quota_spent = spent;
	log_info("%s: %s", m->name, spent ? "the monthly quota is used up" : "has quota again");
	member_apply(ctl, index);
}

void quota_turn(struct control *ctl, int64_t wall_s)
{
	struct subscribers *s = ctl->subscribers;

	for (uint32_t i = 0; i < s->slots; i++)
		if (s->all[i].name[0])
			quota_check(ctl, i, wall_s);
}
