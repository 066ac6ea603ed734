/* SPDX-License-Identifier: BSD-3-Clause
 * Plans: named limits that subscribers share. See subscribers.h.
 */
#include <errno.h>
#include <math.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "control/license.h"
#include "control/models.h"
#include "control/store.h"
#include "control/subscribers_private.h"
#include "ebpf/limit_table.h"

#define QUOTA_MAX (1ull << 53) /* what JSON numbers carry exactly */

int name_check(const char *what, const char *name, struct error *err)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789._-";
	size_t n = name ? strlen(name) : 0;

	if (n && n < SUBSCRIBER_NAME_BYTES && strspn(name, allowed) == n)
		return 0;
	return error_set(err, -EINVAL, "a %s name has 1 to %d characters of a-z A-Z 0-9 . _ -", what,
		SUBSCRIBER_NAME_BYTES - 1);
}

int limits_valid(double rate, double burst, struct error *err)
{
	struct limit_plan p = {.rate_per_s = rate, .flags = LIMIT_ACTIVE};

	if (!isfinite(rate) || rate < LIMIT_RATE_MIN || rate > LIMIT_RATE_MAX)
		return error_set(err, -EINVAL, "rate must be %g to %g units a second",
			LIMIT_RATE_MIN, LIMIT_RATE_MAX);
	if (!isfinite(burst) || burst < 1 || burst > 1e12)
		return error_set(err, -EINVAL, "burst must be 1 to 1e12 units");
	p.burst_units = (uint64_t)burst;
	return limits_check(&p, err);
}

struct plan *plan_find(struct subscribers *s, const char *name)
{
	for (uint32_t i = 0; name && name[0] && i < MAX_PLANS; i++)
		if (!strcmp(s->plans[i].name, name))
			return &s->plans[i];
	return NULL;
}

static int load_plan(struct sqlite3_stmt *st, void *arg)
{
	struct subscribers *s = arg;

	for (uint32_t i = 0; i < MAX_PLANS; i++) {
		struct plan *p = &s->plans[i];

		if (p->name[0])
			continue;
		store_text(st, 0, p->name, sizeof(p->name));
		p->rate = sqlite3_column_double(st, 1);
		p->burst = sqlite3_column_double(st, 2);
		store_text(st, 3, p->models, sizeof(p->models));
		p->weight = (uint32_t)sqlite3_column_int64(st, 4);
		p->concurrent = (uint32_t)sqlite3_column_int64(st, 5);
		p->quota = (uint64_t)sqlite3_column_int64(st, 6);
		return 0;
	}
	return -ENOSPC;
}

int plans_load(struct control *ctl, struct error *err)
{
	return store_query(ctl->store, err, load_plan, ctl->subscribers,
		"SELECT name, rate, burst, models, weight, concurrent, quota FROM plan ORDER BY name", "");
}

static int compare(const void *a, const void *b)
{
	return strcmp((*(const struct plan *const *)a)->name, (*(const struct plan *const *)b)->name);
}

int plans_each(struct control *ctl, int (*fn)(const struct plan *p, void *arg), void *arg)
{
	const struct plan *sorted[MAX_PLANS];
	uint32_t n = 0;
	int rc = 0;

	for (uint32_t i = 0; i < MAX_PLANS; i++)
		if (ctl->subscribers->plans[i].name[0])
			sorted[n++] = &ctl->subscribers->plans[i];
	qsort(sorted, n, sizeof(sorted[0]), compare);
	for (uint32_t i = 0; !rc && i < n; i++)
		rc = fn(sorted[i], arg);
	return rc;
}

static int check_plan(struct control *ctl, const struct plan *p, struct error *err)
{
	struct subscribers *s = ctl->subscribers;
	uint64_t mask;
	int rc = name_check("plan", p->name, err);

	if (!rc && (p->weight > LIMIT_WEIGHT_MAX || p->concurrent > LIMIT_CONCURRENT_MAX))
		rc = error_set(err, -EINVAL, "weight must be 1 to %d, concurrent 0 to %d",
			LIMIT_WEIGHT_MAX, LIMIT_CONCURRENT_MAX);
	if (!rc && p->quota > QUOTA_MAX)
		rc = error_set(err, -EINVAL, "quota must be 0 to %g units a month", (double)QUOTA_MAX);
	if (!rc)
		rc = limits_valid(p->rate, p->burst, err);
	if (!rc)
		rc = models_mask(ctl, p->models, &mask, err);
	if (rc)
		return rc;
	for (uint32_t i = 0; i < s->slots; i++) /* members with an own burst or rate mix with it */
		if (s->all[i].name[0] && !strcmp(s->all[i].plan, p->name) && !rc)
			rc = limits_valid(s->all[i].rate > 0 ? s->all[i].rate : p->rate,
				s->all[i].burst > 0 ? s->all[i].burst : p->burst, err);
	return rc ? rc : license_allows(ctl, s->n, models_live(ctl),
		members_rate(s, p->name, p->rate), err);
}

int plans_set(struct control *ctl, const struct plan *p, bool dry_run, struct error *err)
{
	struct subscribers *s = ctl->subscribers;
	struct plan *at = plan_find(s, p->name);
	int rc = check_plan(ctl, p, err);

	for (uint32_t i = 0; !at && i < MAX_PLANS; i++)
		if (!s->plans[i].name[0])
			at = &s->plans[i];
	if (!rc && !at)
		rc = error_set(err, -ENOSPC, "there are %d plans, the most there may be", MAX_PLANS);
	if (rc || dry_run)
		return rc;
	rc = store_run(ctl->store, err, "INSERT INTO plan (name, rate, burst, models, weight, "
		"concurrent, quota) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (name) DO UPDATE SET "
		"rate = ?2, burst = ?3, models = ?4, weight = ?5, concurrent = ?6, quota = ?7", "sddsiii",
		p->name, p->rate, p->burst, p->models, (int64_t)p->weight, (int64_t)p->concurrent,
		(int64_t)p->quota);
	if (rc)
		return rc;
	*at = *p;
	quota_turn(ctl, clock_wall_s());
	subscribers_apply_all(ctl);
	return 0;
}

int plans_remove(struct control *ctl, const char *name, bool dry_run, struct error *err)
{
	struct subscribers *s = ctl->subscribers;
	struct plan *p = plan_find(s, name);
	int rc;

	if (!p)
		return error_set(err, -ENOENT, "no plan %.63s", name);
	for (uint32_t i = 0; i < s->slots; i++)
		if (s->all[i].name[0] && !strcmp(s->all[i].plan, name))
			return error_set(err, -EBUSY, "%s still has this plan", s->all[i].name);
	if (dry_run)
		return 0;
	rc = store_run(ctl->store, err, "DELETE FROM plan WHERE name = ?1", "s", name);
	if (!rc)
		memset(p, 0, sizeof(*p));
	return rc;
}
