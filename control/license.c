/* SPDX-License-Identifier: BSD-3-Clause
 * Licence state of the appliance: see license.h and license_file.h.
 *
 * A clock set back must not bring an expired licence to life: the latest wall time ever seen is kept
 * in state_dir/license.clock, and while the clock is behind it (by more than the tolerance) nothing is
 * licensed. Deleting that file is in root's power; this stops accidents and the lazy, not root.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <event2/event.h>

#include "abi/mailbox.h"
#include "base/clock.h"
#include "base/log.h"
#include "control/config.h"
#include "control/dp_link.h"
#include "base/file_replace.h"
#include "control/license.h"
#include "control/license_file.h"
#include "control/models.h"
#include "control/subscribers.h"

enum {
	GRACE_S = 0,           /* seconds served, loudly, after not_after */
	CLOCK_TOLERANCE_S = 300, /* a step back by so much is NTP, not fraud */
	CLOCK_SAVE_S = 3600,   /* the high-water mark is written so often */
	CHECK_S = 60,
	UNTIL_SLACK_NS = 2000000000, /* smaller moves of the end (clock slewing) are not sent */
};

struct license {
	struct license_info info;
	struct license_doc doc;
	bool have_doc;
	struct license_key keys[LICENSE_FILE_MAX_KEYS];
	size_t n_keys;
	int64_t high_water_s, saved_s; /* latest wall time seen, and as on disk */
	uint64_t until_ns;
	struct event *timer;
	char path[512], clock_path[512];
	char why_no_doc[256]; /* when !have_doc */
	bool damaged;         /* a file is there, but refused */
};

const char *license_state_name(enum license_state s)
{
	static const char *const names[] = {"none", "valid", "grace", "expired", "not_yet_valid",
		"invalid"};

	return (size_t)s < sizeof(names) / sizeof(names[0]) ? names[s] : "?";
}

/* -- the clock ------------------------------------------------------------------------------- */

static void clock_load(struct license *l)
{
	struct error err;
	char *text, *end;
	long long v;

	if (file_read(l->clock_path, 64, &text, NULL, &err)) {
		if (err.code != -ENOENT)
			log_warn("licence: %s", err.text);
		return;
	}
	v = strtoll(text, &end, 10);
	if (end != text && v > 0)
		l->high_water_s = l->saved_s = v;
	else
		log_warn("licence: %s holds no time; starting anew", l->clock_path);
	free(text);
}

static void clock_note(struct license *l, int64_t now)
{
	struct error err;
	char text[32];

	if (now <= l->high_water_s)
		return;
	l->high_water_s = now;
	if (now - l->saved_s < CLOCK_SAVE_S)
		return;
	snprintf(text, sizeof(text), "%lld\n", (long long)now);
	if (file_replace(l->clock_path, text, strlen(text), 0600, &err))
		log_warn("licence: %s", err.text);
	else
		l->saved_s = now;
}

/* -- state ----------------------------------------------------------------------------------- */

static enum license_state judge(const struct license *l, int64_t now, char *reason, size_t cap)
{
	char when[24];

	reason[0] = 0;
	if (!l->have_doc) {
		snprintf(reason, cap, "%s", l->why_no_doc);
		return l->damaged ? LICENSE_INVALID : LICENSE_NONE;
	}
	if (now + CLOCK_TOLERANCE_S < l->high_water_s) {
		license_time_format(l->high_water_s, when);
		snprintf(reason, cap,
			"the clock was set back: it was %s before. Set it right; if that time was the "
			"wrong one, remove %.100s", when, l->clock_path);
		return LICENSE_INVALID;
	}
	if (now < l->doc.not_before_wall_s) {
		license_time_format(l->doc.not_before_wall_s, when);
		snprintf(reason, cap, "valid only from %s", when);
		return LICENSE_NOT_YET;
	}
	if (now < l->doc.not_after_wall_s)
		return LICENSE_VALID;
	license_time_format(l->doc.not_after_wall_s, when);
	snprintf(reason, cap, "expired on %s; install a new one: millrace license install FILE", when);
	return now < l->doc.not_after_wall_s + GRACE_S ? LICENSE_GRACE : LICENSE_EXPIRED;
}

static uint64_t until(const struct license *l, enum license_state s, int64_t now)
{
	int64_t left = l->doc.not_after_wall_s + GRACE_S - now;

	if (s != LICENSE_VALID && s != LICENSE_GRACE)
		return 0;
	return clock_now_ns() + (uint64_t)left * NS_PER_S;
}

static void fill_info(struct license_info *i, const struct license *l)
{
	if (!l->have_doc)
		return;
	memcpy(i->id, l->doc.id, sizeof(i->id));
	memcpy(i->customer, l->doc.customer, sizeof(i->customer));
	memcpy(i->edition, l->doc.edition, sizeof(i->edition));
	i->not_before_wall_s = l->doc.not_before_wall_s;
	i->not_after_wall_s = l->doc.not_after_wall_s;
	i->subscribers = l->doc.subscribers;
	i->models = l->doc.models;
	i->total_rate = l->doc.total_rate;
}

static void tell_dataplane(struct control *ctl, uint64_t until_ns)
{
	int rc;

	if (ctl->subscribers)
		subscribers_apply_all(ctl);
	if (!ctl->link)
		return;
	/* not attached: dp_link asks license_until_ns() when it attaches */
	rc = dp_link_command(ctl, CMD_LICENCE, until_ns, 0, NULL, NULL);
	if (rc && rc != -ENOTCONN)
		log_warn("licence: the dataplane could not be told: %s", strerror(-rc));
}

/* The one place where the state changes. */
static void update(struct control *ctl)
{
	struct license *l = ctl->license;
	struct license_info now_info = {0};
	int64_t now = clock_wall_s();
	uint64_t until_ns, moved;
	bool changed;

	clock_note(l, now);
	now_info.state = judge(l, now, now_info.reason, sizeof(now_info.reason));
	fill_info(&now_info, l);
	until_ns = until(l, now_info.state, now);
	moved = until_ns > l->until_ns ? until_ns - l->until_ns : l->until_ns - until_ns;
	changed = now_info.state != l->info.state || strcmp(now_info.id, l->info.id);
	if (changed)
		log_write(until_ns ? LOG_LEVEL_INFO : LOG_LEVEL_WARN, "licence: %s -> %s%s%s",
			license_state_name(l->info.state), license_state_name(now_info.state),
			now_info.reason[0] ? ", " : "", now_info.reason);
	l->info = now_info;
	if (!changed && moved <= UNTIL_SLACK_NS)
		return;
	l->until_ns = until_ns;
	tell_dataplane(ctl, until_ns);
}

static void arm(struct license *l)
{
	struct timeval tv = {CHECK_S, 0};
	int64_t now = clock_wall_s(), next = 0;

	if (l->info.state == LICENSE_NOT_YET)
		next = l->doc.not_before_wall_s - now;
	if (l->info.state == LICENSE_VALID || l->info.state == LICENSE_GRACE)
		next = l->doc.not_after_wall_s + GRACE_S - now;
	if (next > 0 && next < CHECK_S)
		tv.tv_sec = next;
	event_add(l->timer, &tv);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct control *ctl = arg;

	(void)fd;
	(void)what;
	update(ctl);
	arm(ctl->license);
}

/* -- files ----------------------------------------------------------------------------------- */

static int load_keys(struct license *l, const struct config *c, struct error *err)
{
	if (c->license.keys_count > LICENSE_FILE_MAX_KEYS)
		return error_set(err, -EINVAL, "license.keys: at most %d", LICENSE_FILE_MAX_KEYS);
	for (uint32_t i = 0; i < c->license.keys_count; i++) {
		int rc = license_key_read(&l->keys[i], c->license.keys[i], err);

		if (rc)
			return error_prefix(err, "license.keys");
		l->n_keys++;
	}
	return 0;
}

static int read_file(const struct license *l, const char *path, struct license_doc *doc, char **text,
	size_t *n, struct error *err)
{
	int rc = file_read(path, LICENSE_FILE_MAX_BYTES, text, n, err);

	if (rc)
		return rc;
	if (l->n_keys == 0)
		rc = error_set(err, -ENOKEY,
			"no vendor key is configured: put the vendor's public key under license.keys");
	else
		rc = license_file_verify(doc, *text, *n, l->keys, l->n_keys, NULL, err);
	if (rc) {
		free(*text);
		*text = NULL;
	}
	return rc;
}

static void load_installed(struct license *l)
{
	struct error err = {0};
	char *text = NULL;
	size_t n;
	int rc = read_file(l, l->path, &l->doc, &text, &n, &err);

	free(text);
	l->have_doc = rc == 0;
	l->damaged = rc && rc != -ENOENT;
	if (rc == -ENOENT)
		snprintf(l->why_no_doc, sizeof(l->why_no_doc),
			"no licence is installed; install one: millrace license install FILE");
	else if (rc)
		snprintf(l->why_no_doc, sizeof(l->why_no_doc), "%.250s", err.text);
}

/* -- public ---------------------------------------------------------------------------------- */

int license_init(struct control *ctl, struct error *err)
{
	const struct config *c = ctl->config;
	struct license *l = calloc(1, sizeof(*l));
	int rc;

	if (!l)
		return error_set(err, -ENOMEM, "licence: out of memory");
	if (c->license.file && *c->license.file)
		snprintf(l->path, sizeof(l->path), "%s", c->license.file);
	else
		snprintf(l->path, sizeof(l->path), "%s/license.json", c->state_dir);
	snprintf(l->clock_path, sizeof(l->clock_path), "%s/license.clock", c->state_dir);
	rc = load_keys(l, c, err);
	if (rc == 0) {
		l->timer = evtimer_new(ctl->base, on_timer, ctl);
		rc = l->timer ? 0 : error_set(err, -ENOMEM, "licence: out of memory");
	}
	if (rc) {
		free(l);
		return rc;
	}
	clock_load(l);
	load_installed(l);
	ctl->license = l;
	update(ctl);
	if (l->info.state == LICENSE_NONE)
		log_warn("licence: none, requests are answered NOT_LICENSED; %s", l->info.reason);
	arm(l);
	return 0;
}

void license_uninit(struct control *ctl)
{
	if (!ctl->license)
		return;
	event_free(ctl->license->timer);
	free(ctl->license);
	ctl->license = NULL;
}

/* A licence that allows less than is in use is not taken: nobody would take the rest away later. */
static int covers(struct control *ctl, const struct license_doc *d, struct error *err)
{
	uint32_t subscribers = ctl->subscribers ? subscribers_count(ctl) : 0;
	uint32_t models = ctl->models ? models_live(ctl) : 0;
	double rate = ctl->subscribers ? subscribers_total_rate(ctl) : 0;

	if (subscribers <= d->subscribers && models <= d->models &&
		(d->total_rate <= 0 || rate <= d->total_rate))
		return 0;
	return error_set(err, -EDQUOT, "this licence (%s) allows %u subscribers, %u models, %.0f units/s; in "
		"use are %u, %u, %.0f: remove what is too much first", d->id, d->subscribers, d->models,
		d->total_rate, subscribers, models, rate);
}

int license_install(struct control *ctl, const char *path, bool dry_run, struct error *err)
{
	struct license *l = ctl->license, trial = *l;
	char reason[256], *text = NULL;
	enum license_state s;
	size_t n = 0;
	int rc = read_file(l, path, &trial.doc, &text, &n, err);

	if (rc)
		return rc;
	trial.have_doc = true;
	s = judge(&trial, clock_wall_s(), reason, sizeof(reason));
	if (s != LICENSE_VALID && s != LICENSE_GRACE)
		rc = error_set(err, -EPERM, "this licence (%s) is %s: %s", trial.doc.id,
			license_state_name(s), reason);
	if (rc == 0)
		rc = covers(ctl, &trial.doc, err);
	if (rc == 0 && !dry_run)
		rc = file_replace(l->path, text, n, 0644, err);
	free(text);
	if (rc || dry_run)
		return rc;
	l->doc = trial.doc;
	l->have_doc = true;
	l->damaged = false;
	update(ctl);
	arm(l);
	return 0;
}

void license_info(const struct control *ctl, struct license_info *out)
{
	if (ctl->license)
		*out = ctl->license->info;
	else
		memset(out, 0, sizeof(*out));
}

int license_allows(const struct control *ctl, uint32_t subscribers, uint32_t models,
	double total_rate, struct error *err)
{
	struct license_info i;

	license_info(ctl, &i);
	if (i.state != LICENSE_VALID && i.state != LICENSE_GRACE)
		return error_set(err, -EPERM, "not licensed (%s): %s", license_state_name(i.state),
			i.reason);
	if (subscribers > i.subscribers)
		return error_set(err, -EDQUOT, "the licence allows %u subscribers, this would be %u",
			i.subscribers, subscribers);
	if (models > i.models)
		return error_set(err, -EDQUOT, "the licence allows %u models, this would be %u", i.models,
			models);
	if (i.total_rate > 0 && total_rate > i.total_rate)
		return error_set(err, -EDQUOT,
			"the licence allows a total rate of %.0f units/s, this would be %.0f", i.total_rate,
			total_rate);
	return 0;
}

uint64_t license_until_ns(const struct control *ctl)
{
	const struct license *l = ctl->license;

	return l ? l->until_ns : 0;
}
