/* SPDX-License-Identifier: BSD-3-Clause
 * Plans, subscribers, their hashed API keys and usage: kept in SQLite, mirrored into the limiter slots.
 * Loop thread only.
 */
#pragma once

#include "control/control.h"

enum { SUBSCRIBER_NAME_BYTES = 64, API_KEY_BYTES = 64, SUBSCRIBER_MAX_MODELS = 64 };

struct plan {
	char name[SUBSCRIBER_NAME_BYTES];
	double rate;  /* limiter units a second, 0.001 .. 1e9 */
	double burst; /* units, >= 1 */
	char models[1024]; /* comma-separated names, empty = all */
	uint32_t weight;     /* share of a worker's core under overload, 1..LIMIT_WEIGHT_MAX; 0 = 1 */
	uint32_t concurrent; /* requests that may wait or run at once, 0 = any number */
	uint64_t quota;      /* units a calendar month (UTC), 0 = any number */
};

struct subscriber {
	uint32_t index; /* limiter slot */
	char name[SUBSCRIBER_NAME_BYTES];
	char plan[SUBSCRIBER_NAME_BYTES]; /* empty = own rate and burst */
	double rate;   /* effective */
	double burst;
	char models[1024]; /* effective, comma-separated, empty = all */
	bool suspended;
	uint64_t units; /* admitted since created_wall_s */
	uint64_t month_units; /* and in this month */
	uint64_t quota;       /* the plan's units a month, 0 = any number */
	bool quota_spent;
	int64_t created_wall_s;
	uint32_t sessions; /* live now */
};

/* Changes asked for by the operator; has_* says which fields count. */
struct subscriber_change {
	const char *plan;
	const char *models;
	double rate, burst;
	bool suspended;
	bool has_plan, has_models, has_rate, has_burst, has_suspended;
};

int subscribers_init(struct control *ctl, struct error *err);
void subscribers_uninit(struct control *ctl);

/* Create a subscriber. On success *out and api_key ("mr_" + base62, shown once, only its salted hash is
 * stored). -EEXIST, -EINVAL, -ENOENT (plan), -EDQUOT (licence), -ENOSPC (slots); nothing changes then.
 * dry_run checks everything and changes nothing (api_key is empty then). */
int subscribers_add(struct control *ctl, const char *name, const struct subscriber_change *c,
	bool dry_run, struct subscriber *out, char api_key[API_KEY_BYTES], struct error *err);
int subscribers_set(struct control *ctl, const char *name, const struct subscriber_change *c,
	bool dry_run, struct subscriber *out, struct error *err);
/* Remove: closes the sessions, clears the slot, keeps the usage record. -ENOENT. */
int subscribers_remove(struct control *ctl, const char *name, bool dry_run, struct error *err);

/* Find by name or by presented API key (constant-time compare of hashes). 0 or -ENOENT/-EACCES. */
int subscribers_find(struct control *ctl, const char *name, struct subscriber *out);
int subscribers_by_key(struct control *ctl, const char *api_key, struct subscriber *out);
int subscribers_by_index(struct control *ctl, uint32_t index, struct subscriber *out);

/* Call fn for each, by name; stops when fn returns non-zero and returns that. */
int subscribers_each(struct control *ctl, int (*fn)(const struct subscriber *s, void *arg), void *arg);
int plans_each(struct control *ctl, int (*fn)(const struct plan *p, void *arg), void *arg);
/* Create or change a plan; every subscriber on it gets the new limits at once. */
int plans_set(struct control *ctl, const struct plan *p, bool dry_run, struct error *err);
int plans_remove(struct control *ctl, const char *name, bool dry_run, struct error *err);

/* Write every subscriber's limits and model mask into its slot again (models came or went, licence
 * changed, dataplane restarted). Never touches the limiter state. */
void subscribers_apply_all(struct control *ctl);
/* Number of subscribers, and the sum of their rates: what a licence limits. */
uint32_t subscribers_count(struct control *ctl);
double subscribers_total_rate(struct control *ctl);
