/* SPDX-License-Identifier: BSD-3-Clause
 * Plans and subscribers in memory, as SQLite has them: shared by plans.c, subscribers.c and usage.c.
 */
#pragma once

#include "control/api_key.h"
#include "control/subscribers.h"

struct event;

enum { MAX_PLANS = 256, USAGE_MS = 5000, QUOTA_MS = 1000 };

struct member {
	char name[SUBSCRIBER_NAME_BYTES]; /* empty = the slot is free */
	char plan[SUBSCRIBER_NAME_BYTES]; /* empty = own values below */
	double rate, burst;               /* own; 0 = the plan's */
	char models[1024];                /* own */
	bool own_models;
	bool suspended;
	struct api_key_hash key;
	uint64_t units;     /* billed up to last_seen */
	uint64_t last_seen; /* limit_slot.units_admitted when units was brought up to date */
	uint64_t stored;    /* units as the database has them */
	int64_t created_wall_s;
	uint32_t month;      /* year x 100 + month whose quota counts; 0 = none yet */
	bool quota_spent;
	uint64_t month_base; /* units when it began */
};

struct subscribers {
	struct member *all; /* [slots], by limiter slot */
	uint32_t slots, n;
	struct plan *plans; /* [MAX_PLANS]; an empty name = free */
	struct event *usage, *quota;
};

/* A name of people, plans and models: 1 to 63 of a-z A-Z 0-9 . _ - */
int name_check(const char *what, const char *name, struct error *err);
struct plan *plan_find(struct subscribers *s, const char *name);
struct member *member_find(struct subscribers *s, const char *name);
/* What `m` may do, its plan and its own values taken together. */
void member_effective(const struct subscribers *s, const struct member *m, double *rate,
	double *burst, const char **models);
/* Would the limiter take these values? -EINVAL with err. */
int limits_valid(double rate, double burst, struct error *err);
/* Write the limits of the member in slot `index` into that slot. */
void member_apply(struct control *ctl, uint32_t index);
/* Sum of effective rates, with `plan` (or NULL) having `rate` instead of its own. */
double members_rate(const struct subscribers *s, const char *plan, double rate);

/* usage.c: bring units up to date from the slot; write all that changed to the database. */
void usage_read(struct control *ctl, uint32_t index);
void usage_store(struct control *ctl);
/* quota.c: units used in the present month; and who has used up his plan's, at wall clock `wall_s`. */
void quota_begin(struct member *m, int64_t wall_s); /* a month from here: a new member */
uint64_t quota_used(const struct member *m);
void quota_turn(struct control *ctl, int64_t wall_s);
int plans_load(struct control *ctl, struct error *err);
