/* SPDX-License-Identifier: BSD-3-Clause
 * Plans, subscribers, keys and usage on a real SQLite file. Licence, models and sessions are answered by
 * this file; the limiter slots are plain memory written by the real ebpf/limit_table.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/api_key.h"
#include "control/config.h"
#include "control/license.h"
#include "control/limits_table.h"
#include "control/models.h"
#include "control/sessions.h"
#include "control/store.h"
#include "control/subscribers_private.h"

enum { SLOTS = 8 };

static struct limit_slot slots[SLOTS];
static uint32_t licensed_subscribers;
static double licensed_rate;
static uint32_t closed_for;
static char database[64];

/* ---- what the other modules would say ---- */

int license_allows(const struct control *ctl, uint32_t subscribers, uint32_t models,
	double total_rate, struct error *err)
{
	(void)ctl;
	(void)models;
	if (subscribers > licensed_subscribers)
		return error_set(err, -EDQUOT, "subscribers: %u", subscribers);
	if (licensed_rate > 0 && total_rate > licensed_rate)
		return error_set(err, -EDQUOT, "total rate: %g", total_rate);
	return 0;
}

uint32_t models_live(struct control *ctl)
{
	(void)ctl;
	return 0;
}

int models_mask(struct control *ctl, const char *names, uint64_t *mask, struct error *err)
{
	(void)ctl;
	*mask = ~0ull;
	if (!names[0])
		return 0;
	*mask = 0;
	for (const char *p = names; *p; p += strcspn(p, ","), p += *p == ',') {
		if (!strncmp(p, "digits", 6))
			*mask |= 1;
		else if (!strncmp(p, "risk", 4))
			*mask |= 2;
		else
			return error_set(err, -ENOENT, "no model %s", p);
	}
	return 0;
}

uint32_t sessions_count(struct control *ctl, uint32_t subscriber)
{
	(void)ctl;
	(void)subscriber;
	return 0;
}

int sessions_close(struct control *ctl, uint32_t subscriber, uint64_t session_id)
{
	(void)ctl;
	(void)session_id;
	closed_for = subscriber;
	return 0;
}

uint32_t limits_table_slots(const struct control *ctl)
{
	(void)ctl;
	return SLOTS;
}

struct limit_slot *limits_table_slot(const struct control *ctl, uint32_t index)
{
	(void)ctl;
	return index < SLOTS ? &slots[index] : NULL;
}

/* ---- fixture ---- */

static void start(struct control *ctl)
{
	struct error err = {0};

	if (store_open(&ctl->store, database, &err) || subscribers_init(ctl, &err))
		fail_msg("%s", err.text);
}

static void stop(struct control *ctl)
{
	subscribers_uninit(ctl);
	store_close(ctl->store);
	memset(ctl, 0, sizeof(*ctl));
}

static int set_up(void **state)
{
	static struct control ctl;
	char dir[] = "/tmp/mr-subscribers-XXXXXX";

	memset(slots, 0, sizeof(slots));
	licensed_subscribers = 100;
	licensed_rate = 0;
	if (!mkdtemp(dir))
		return -1;
	snprintf(database, sizeof(database), "%s/millrace.db", dir);
	start(&ctl);
	*state = &ctl;
	return 0;
}

static int tear_down(void **state)
{
	static const char *const ends[] = {"", "-wal", "-shm"};
	char path[96];

	stop(*state);
	for (int i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), "%s%s", database, ends[i]);
		unlink(path);
	}
	*strrchr(database, '/') = 0;
	return rmdir(database);
}

static int add(struct control *ctl, const char *name, double rate, char key[API_KEY_BYTES],
	struct error *err)
{
	struct subscriber_change c = {.rate = rate, .burst = 10, .has_rate = true,
		.has_burst = true};
	struct subscriber out;

	return subscribers_add(ctl, name, &c, false, &out, key, err);
}

static uint64_t units_of(struct control *ctl, const char *name)
{
	struct subscriber s;

	assert_int_equal(subscribers_find(ctl, name, &s), 0);
	return s.units;
}

/* ---- tests ---- */

static void a_key_finds_its_subscriber_and_no_other_text_does(void **state)
{
	struct control *ctl = *state;
	char key[API_KEY_BYTES], other[API_KEY_BYTES], wrong[API_KEY_BYTES];
	struct subscriber s;

	assert_int_equal(add(ctl, "acme", 100, key, NULL), 0);
	assert_int_equal(add(ctl, "bob", 100, other, NULL), 0);
	assert_int_equal(strlen(key), API_KEY_LENGTH);
	assert_int_equal(subscribers_by_key(ctl, key, &s), 0);
	assert_string_equal(s.name, "acme");
	assert_int_equal(subscribers_by_key(ctl, other, &s), 0);
	assert_string_equal(s.name, "bob");
	memcpy(wrong, key, sizeof(wrong)); /* acme's id, bob's secret */
	memcpy(wrong + 11, other + 11, API_KEY_SECRET);
	assert_int_equal(subscribers_by_key(ctl, wrong, &s), -EACCES);
	for (int i = 0; i < API_KEY_LENGTH; i++) {
		memcpy(wrong, key, sizeof(wrong));
		wrong[i] = wrong[i] == 'x' ? 'y' : 'x';
		assert_int_equal(subscribers_by_key(ctl, wrong, &s), -EACCES);
	}
	assert_int_equal(subscribers_by_key(ctl, "", &s), -EACCES);
	assert_int_equal(subscribers_by_key(ctl, "mr_", &s), -EACCES);
}

static void the_key_itself_is_stored_nowhere(void **state)
{
	struct control *ctl = *state;
	char key[API_KEY_BYTES], path[96];
	static const char *const ends[] = {"", "-wal"};

	assert_int_equal(add(ctl, "acme", 100, key, NULL), 0);
	for (int i = 0; i < 2; i++) {
		static char bytes[1 << 20];
		int fd;
		ssize_t n;

		snprintf(path, sizeof(path), "%s%s", database, ends[i]);
		fd = open(path, O_RDONLY);
		n = read(fd, bytes, sizeof(bytes));
		close(fd);
		assert_true(n > 0);
		assert_null(memmem(bytes, (size_t)n, key + 11, API_KEY_SECRET));
	}
}

static void a_restart_keeps_subscribers_keys_and_limits(void **state)
{
	struct control *ctl = *state;
	struct plan p = {"gold", 5000, 50, "digits", 7, 3, 0};
	struct subscriber_change c = {.plan = "gold", .has_plan = true};
	struct subscriber out;
	char key[API_KEY_BYTES];

	assert_int_equal(plans_set(ctl, &p, false, NULL), 0);
	assert_int_equal(subscribers_add(ctl, "acme", &c, false, &out, key, NULL), 0);
	stop(ctl);
	memset(slots, 0, sizeof(slots)); /* the host was restarted too */
	start(ctl);
	assert_int_equal(subscribers_by_key(ctl, key, &out), 0);
	assert_string_equal(out.plan, "gold");
	assert_float_equal(out.rate, 5000, 1e-9);
	assert_int_equal(slots[out.index].flags & 0xff, LIMIT_ACTIVE);
	assert_int_equal(limits_weight(slots[out.index].flags), 7);
	assert_int_equal(limits_concurrent(slots[out.index].flags), 3);
	assert_int_equal(slots[out.index].model_mask, 1);
	assert_int_equal(slots[out.index].interval_ticks, LIMITS_TICKS_PER_S / 5000);
}

/* November 2026, the last second of it, and December. */
enum { NOVEMBER_S = 1795564800, NOVEMBER_END_S = 1796083199, DECEMBER_S = 1796083200 };

static void a_monthly_quota_closes_the_slot_until_the_next_month(void **state)
{
	struct control *ctl = *state;
	struct plan p = {.name = "gold", .rate = 5000, .burst = 50, .quota = 1000};
	struct subscriber_change c = {.plan = "gold", .has_plan = true};
	struct subscriber out;
	char key[API_KEY_BYTES];
	uint32_t i;

	assert_int_equal(plans_set(ctl, &p, false, NULL), 0);
	assert_int_equal(subscribers_add(ctl, "acme", &c, false, &out, key, NULL), 0);
	i = out.index;
	/* time(NULL) lies before or after; only what is set forward counts, so begin a month of our own. */
	ctl->subscribers->all[i].month = 202610;
	quota_turn(ctl, NOVEMBER_S);
	slots[i].units_admitted += 999;
	quota_turn(ctl, NOVEMBER_S + 60);
	assert_int_equal(slots[i].flags & LIMIT_QUOTA_EXHAUSTED, 0);
	slots[i].units_admitted += 1;
	quota_turn(ctl, NOVEMBER_S + 61);
	assert_int_equal(slots[i].flags & LIMIT_QUOTA_EXHAUSTED, LIMIT_QUOTA_EXHAUSTED);
	assert_int_equal(subscribers_by_index(ctl, i, &out), 0);
	assert_true(out.quota_spent && out.month_units == 1000 && out.quota == 1000);
	quota_turn(ctl, NOVEMBER_S - 3600 * 24 * 60); /* a clock set back gives nothing */
	quota_turn(ctl, NOVEMBER_END_S);
	assert_int_equal(slots[i].flags & LIMIT_QUOTA_EXHAUSTED, LIMIT_QUOTA_EXHAUSTED);
	quota_turn(ctl, DECEMBER_S);
	assert_int_equal(slots[i].flags & LIMIT_QUOTA_EXHAUSTED, 0);
	assert_int_equal(subscribers_by_index(ctl, i, &out), 0);
	assert_true(!out.quota_spent && out.month_units == 0 && out.units == 1000);
}

static void a_used_up_quota_survives_a_restart_and_yields_to_a_larger_plan(void **state)
{
	struct control *ctl = *state;
	struct plan p = {.name = "gold", .rate = 5000, .burst = 50, .quota = 1000};
	struct subscriber_change c = {.plan = "gold", .has_plan = true};
	struct subscriber out;
	char key[API_KEY_BYTES];

	assert_int_equal(plans_set(ctl, &p, false, NULL), 0);
	assert_int_equal(subscribers_add(ctl, "acme", &c, false, &out, key, NULL), 0);
	slots[out.index].units_admitted += 1500;
	quota_turn(ctl, time(NULL));
	stop(ctl);
	memset(slots, 0, sizeof(slots)); /* the host was restarted too */
	start(ctl);
	assert_int_equal(subscribers_by_key(ctl, key, &out), 0);
	assert_true(out.quota_spent && out.month_units == 1500);
	assert_int_equal(slots[out.index].flags & LIMIT_QUOTA_EXHAUSTED, LIMIT_QUOTA_EXHAUSTED);
	p.quota = 2000;
	assert_int_equal(plans_set(ctl, &p, false, NULL), 0);
	assert_int_equal(slots[out.index].flags & LIMIT_QUOTA_EXHAUSTED, 0);
	p.quota = 1ull << 54;
	assert_int_equal(plans_set(ctl, &p, false, NULL), -EINVAL);
}

static void usage_never_goes_back_and_is_never_counted_twice(void **state)
{
	struct control *ctl = *state;
	char key[API_KEY_BYTES];

	assert_int_equal(add(ctl, "acme", 100, key, NULL), 0);
	slots[0].units_admitted = 70;
	assert_int_equal(units_of(ctl, "acme"), 70);
	slots[0].units_admitted = 100;
	stop(ctl); /* control restarts, the map lives on */
	slots[0].units_admitted = 130;
	start(ctl);
	assert_int_equal(units_of(ctl, "acme"), 130);
	stop(ctl); /* the host restarts: a new map counts from 0 */
	memset(slots, 0, sizeof(slots));
	start(ctl);
	assert_int_equal(units_of(ctl, "acme"), 130);
	slots[0].units_admitted = 5;
	assert_int_equal(units_of(ctl, "acme"), 135);
}

static void a_freed_slot_starts_its_next_owner_at_zero(void **state)
{
	struct control *ctl = *state;
	char key[API_KEY_BYTES];
	struct subscriber s;

	assert_int_equal(add(ctl, "acme", 100, key, NULL), 0);
	slots[0].units_admitted = 99;
	slots[0].tat_ticks = 12345;
	closed_for = 77;
	assert_int_equal(subscribers_remove(ctl, "acme", false, NULL), 0);
	assert_int_equal(closed_for, 0);
	assert_int_equal(slots[0].flags, 0);
	assert_int_equal(subscribers_by_key(ctl, key, &s), -EACCES);
	assert_int_equal(add(ctl, "bob", 100, key, NULL), 0);
	assert_int_equal(units_of(ctl, "bob"), 0);
}

static void the_licence_bounds_subscribers_and_their_rates(void **state)
{
	struct control *ctl = *state;
	struct subscriber_change more = {.rate = 80, .has_rate = true};
	struct plan p = {"big", 1000, 10, "", 1, 0, 0};
	struct error err = {0};
	struct subscriber s;
	char key[API_KEY_BYTES];

	licensed_subscribers = 2;
	licensed_rate = 100;
	assert_int_equal(add(ctl, "a", 50, key, NULL), 0);
	assert_int_equal(add(ctl, "b", 60, key, &err), -EDQUOT);
	assert_non_null(strstr(err.text, "total rate"));
	assert_string_equal(key, "");
	assert_int_equal(add(ctl, "b", 50, key, NULL), 0);
	assert_int_equal(subscribers_set(ctl, "a", &more, false, &s, &err), -EDQUOT);
	assert_int_equal(subscribers_find(ctl, "a", &s), 0);
	assert_float_equal(s.rate, 50, 1e-9);
	assert_int_equal(add(ctl, "c", 0.001, key, &err), -EDQUOT);
	assert_non_null(strstr(err.text, "subscribers"));
	assert_int_equal(plans_set(ctl, &p, false, NULL), 0); /* nobody is on it yet */
	licensed_rate = 1;
	more.rate = 10; /* less than now: never refused */
	assert_int_equal(subscribers_set(ctl, "a", &more, false, &s, NULL), 0);
}

static void a_changed_plan_reaches_every_slot_at_once(void **state)
{
	struct control *ctl = *state;
	struct plan p = {"gold", 1000, 10, "", 1, 0, 0};
	struct subscriber_change on_plan = {.plan = "gold", .has_plan = true};
	struct subscriber_change own = {.plan = "gold", .has_plan = true, .rate = 7, .has_rate = true};
	struct subscriber s;
	char key[API_KEY_BYTES];

	assert_int_equal(plans_set(ctl, &p, false, NULL), 0);
	assert_int_equal(subscribers_add(ctl, "a", &on_plan, false, &s, key, NULL), 0);
	assert_int_equal(subscribers_add(ctl, "b", &own, false, &s, key, NULL), 0);
	p.rate = 2000;
	snprintf(p.models, sizeof(p.models), "risk");
	assert_int_equal(plans_set(ctl, &p, true, NULL), 0);
	assert_int_equal(slots[0].interval_ticks, LIMITS_TICKS_PER_S / 1000);
	assert_int_equal(plans_set(ctl, &p, false, NULL), 0);
	assert_int_equal(slots[0].interval_ticks, LIMITS_TICKS_PER_S / 2000);
	assert_int_equal(slots[0].model_mask, 2);
	assert_true(slots[1].interval_ticks > LIMITS_TICKS_PER_S / 8);
	assert_int_equal(plans_remove(ctl, "gold", false, NULL), -EBUSY);
}

static void what_is_refused_changes_nothing(void **state)
{
	struct control *ctl = *state;
	struct subscriber_change c = {.rate = 5, .has_rate = true};
	struct subscriber s;
	char key[API_KEY_BYTES];
	struct plan heavy = {"p", 1, 1, "", LIMIT_WEIGHT_MAX + 1, 0, 0};
	struct plan bad = {"p", 0, 1, "", 1, 0, 0}, unknown = {"p", 1, 1, "nope", 1, 0, 0};

	assert_int_equal(add(ctl, "", 5, key, NULL), -EINVAL);
	assert_int_equal(add(ctl, "a b", 5, key, NULL), -EINVAL);
	assert_int_equal(add(ctl, "a", -5, key, NULL), -EINVAL);
	assert_int_equal(add(ctl, "a", 1e300, key, NULL), -EINVAL);
	assert_int_equal(plans_set(ctl, &bad, false, NULL), -EINVAL);
	assert_int_equal(plans_set(ctl, &heavy, false, NULL), -EINVAL);
	assert_int_equal(plans_set(ctl, &unknown, false, NULL), -ENOENT);
	c.plan = "none";
	c.has_plan = true;
	assert_int_equal(subscribers_add(ctl, "a", &c, false, &s, key, NULL), -ENOENT);
	c.has_plan = false;
	assert_int_equal(subscribers_add(ctl, "a", &c, true, &s, key, NULL), 0);
	assert_string_equal(key, "");
	assert_int_equal(subscribers_count(ctl), 0);
	assert_int_equal(slots[0].flags, 0);
	assert_int_equal(add(ctl, "a", 5, key, NULL), 0);
	assert_int_equal(add(ctl, "a", 5, key, NULL), -EEXIST);
	for (int i = 1; i < SLOTS; i++) {
		char name[8];

		snprintf(name, sizeof(name), "s%d", i);
		assert_int_equal(add(ctl, name, 5, key, NULL), 0);
	}
	assert_int_equal(add(ctl, "one-too-many", 5, key, NULL), -ENOSPC);
}

static void a_suspended_subscriber_is_blocked_in_its_slot(void **state)
{
	struct control *ctl = *state;
	struct subscriber_change c = {.suspended = true, .has_suspended = true};
	struct subscriber s;
	char key[API_KEY_BYTES];

	assert_int_equal(add(ctl, "a", 5, key, NULL), 0);
	assert_int_equal(subscribers_set(ctl, "a", &c, false, &s, NULL), 0);
	assert_int_equal(slots[0].flags, LIMIT_ACTIVE | LIMIT_BLOCKED);
	assert_true(s.suspended);
}

static void a_newer_database_is_refused_and_left_alone(void **state)
{
	struct control *ctl = *state;
	struct error err = {0};
	struct store *s = NULL;

	assert_int_equal(store_run(ctl->store, &err, "PRAGMA user_version = 99", ""), 0);
	assert_int_equal(store_open(&s, database, &err), -EPROTO);
	assert_non_null(strstr(err.text, "99"));
	assert_int_equal(store_run(ctl->store, &err, "PRAGMA user_version = 1", ""), 0);
}

static void the_database_is_for_its_owner_only(void **state)
{
	struct stat st;

	(void)state;
	assert_int_equal(stat(database, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_key_finds_its_subscriber_and_no_other_text_does),
		T(the_key_itself_is_stored_nowhere),
		T(a_restart_keeps_subscribers_keys_and_limits),
		T(a_monthly_quota_closes_the_slot_until_the_next_month),
		T(a_used_up_quota_survives_a_restart_and_yields_to_a_larger_plan),
		T(usage_never_goes_back_and_is_never_counted_twice),
		T(a_freed_slot_starts_its_next_owner_at_zero),
		T(the_licence_bounds_subscribers_and_their_rates),
		T(a_changed_plan_reaches_every_slot_at_once),
		T(what_is_refused_changes_nothing),
		T(a_suspended_subscriber_is_blocked_in_its_slot),
		T(a_newer_database_is_refused_and_left_alone),
		T(the_database_is_for_its_owner_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
