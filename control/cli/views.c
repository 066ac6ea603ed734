/* SPDX-License-Identifier: BSD-3-Clause
 * Answers of the control socket as a person wants to see them. One function per kind of answer.
 */
#include <string.h>

#include "control/cli/cli.h"
#include "control/cli/print.h"

#define TABLE(t, ...)                                                                              \
	static const char *const headings[] = {__VA_ARGS__};                                       \
	struct table t;                                                                            \
	table_init(&t, headings, sizeof(headings) / sizeof(headings[0]))

static void line(const char *label, const char *value)
{
	printf("%s%-12s%s %s\n", print_on(STYLE_DIM), label, print_off(), value);
}

static const char *painted(enum style s, const char *text, char out[128])
{
	snprintf(out, 128, "%s%s%s", print_on(s), text, print_off());
	return out;
}

static enum style license_style(const char *state)
{
	return !strcmp(state, "valid") ? STYLE_GOOD : !strcmp(state, "grace") ? STYLE_WARN : STYLE_BAD;
}

/* -- status ---------------------------------------------------------------------------------- */

static void status_dataplane(const json_t *d)
{
	const char *state = field_text(d, "state");
	bool ready = !strcasecmp(state, "ready");
	char text[768], word[128];
	int n;

	painted(ready ? STYLE_GOOD : STYLE_BAD, state, word);
	n = snprintf(text, sizeof(text), "%s", word);
	if (field_number(d, "pid") > 0)
		n += snprintf(text + n, sizeof(text) - (size_t)n, "  pid %.0f%s", field_number(d, "pid"),
			field_true(d, "adopted") ? " (adopted)" : "");
	if (field_number(d, "crashes") + field_number(d, "hangs") > 0)
		n += snprintf(text + n, sizeof(text) - (size_t)n,
			"  %.0f crashes, %.0f hangs, last restart %.0f ms", field_number(d, "crashes"),
			field_number(d, "hangs"), field_number(d, "last_restart_ms"));
	if (field_true(d, "brake"))
		n += snprintf(text + n, sizeof(text) - (size_t)n, "  %scrash loop, waiting%s",
			print_on(STYLE_BAD), print_off());
	if (!ready && *field_text(d, "last_exit"))
		snprintf(text + n, sizeof(text) - (size_t)n, "  (%.384s)", field_text(d, "last_exit"));
	line("dataplane", text);
}

static void status_poll(const json_t *p)
{
	char text[160], p50[UNIT_BYTES], p99[UNIT_BYTES];

	if (strcmp(field_text(p, "mode"), "adaptive"))
		return;
	snprintf(text, sizeof(text), "adaptive  slept %.0f times, waking takes p50 %s, p99 %s",
		field_number(p, "sleeps"), unit_us(field_number(p, "wake_p50_us"), p50),
		unit_us(field_number(p, "wake_p99_us"), p99));
	line("poll", text);
}

static void status_ports(const json_t *ports)
{
	const json_t *p;
	size_t i;

	json_array_foreach(ports, i, p) {
		const char *v6 = field_text(p, "ipv6"), *xdp = field_text(p, "xdp_mode");
		char text[512];

		snprintf(text, sizeof(text), "%.60s (%.10s)  %.46s%s%.46s udp %.0f  queues %.0f  XDP %.10s",
			field_text(p, "device"), field_text(p, "kind"), field_text(p, "ipv4"),
			*v6 ? ", " : "", v6, field_number(p, "udp_port"), field_number(p, "queues"),
			*xdp ? xdp : "-");
		line("port", text);
	}
}

static void status_license(const json_t *l)
{
	const char *state = field_text(l, "state");
	char text[512], word[128];

	painted(license_style(state), state, word);
	if (!strcmp(state, "valid"))
		snprintf(text, sizeof(text), "%s  %.63s (%.31s), %.1f days left", word,
			field_text(l, "customer"), field_text(l, "edition"), field_number(l, "days_left"));
	else
		snprintf(text, sizeof(text), "%s  %.256s", word, field_text(l, "reason"));
	line("licence", text);
}

static void status_memory(const json_t *r)
{
	const json_t *huge = json_object_get(r, "huge_pages"), *limits = json_object_get(r, "limits");
	char text[128];

	line("memory", json_is_null(huge) ? "-" : json_is_true(huge) ? "huge pages" : "normal pages (fallback)");
	snprintf(text, sizeof(text), "%.20s%s, %.0f slots", field_text(limits, "kind"),
		!strcmp(field_text(limits, "kind"), "memfd") ? " (fallback)" : "",
		field_number(limits, "slots"));
	line("limits", text);
}

static void status_service(const json_t *r)
{
	const json_t *m = json_object_get(r, "models"), *c = json_object_get(r, "cache");
	char text[256], a[UNIT_BYTES], b[UNIT_BYTES], hits[UNIT_BYTES], misses[UNIT_BYTES];

	snprintf(text, sizeof(text), "%.0f live of %.0f", field_number(m, "live"),
		field_number(m, "known"));
	line("models", text);
	snprintf(text, sizeof(text), "%.0f  sessions %.0f", field_number(r, "subscribers"),
		field_number(r, "sessions"));
	line("subscribers", text);
	snprintf(text, sizeof(text), "%s/s  %s in all", unit_count(field_number(r, "answered_per_s"), a),
		unit_count(field_number(r, "answered_total"), b));
	line("answered", text);
	if (field_number(c, "bytes") > 0) {
		snprintf(text, sizeof(text), "%s, %s rows, %s hits, %s misses", unit_bytes(field_number(c, "bytes"), a),
			unit_count(field_number(c, "entries"), b), unit_count(field_number(c, "hits"), hits),
			unit_count(field_number(c, "misses"), misses));
		line("cache", text);
	}
	line("drops", unit_count(field_number(r, "drops_total"), a));
}

void view_status(const json_t *r)
{
	const json_t *https = json_object_get(r, "https"), *f;
	char text[256], span[UNIT_BYTES];
	size_t i;

	snprintf(text, sizeof(text), "%.31s  version %.20s  up %s", field_text(r, "instance"),
		field_text(r, "version"), unit_span((int64_t)field_number(r, "uptime_s"), span));
	line("instance", text);
	status_dataplane(json_object_get(r, "dataplane"));
	status_poll(json_object_get(r, "poll"));
	status_ports(json_object_get(r, "ports"));
	status_memory(r);
	status_license(json_object_get(r, "license"));
	status_service(r);
	snprintf(text, sizeof(text), "%.60s  SHA-256 %.64s", field_text(https, "listen"),
		field_text(https, "fingerprint"));
	line("https", text);
	json_array_foreach(json_object_get(r, "fallbacks"), i, f) {
		char word[128];

		line("fallback", painted(STYLE_WARN, json_string_value(f), word));
	}
}

/* -- lists ----------------------------------------------------------------------------------- */

static void engines_table(const json_t *list)
{
	const json_t *e;
	size_t i;
	TABLE(t, ">engine", ">cpu", "state", ">runs", ">cycles/run");

	if (!json_array_size(list))
		return;
	json_array_foreach(list, i, e) {
		char n[2][UNIT_BYTES], runs[UNIT_BYTES], cycles[UNIT_BYTES];
		double done = field_number(e, "runs");

		snprintf(n[0], UNIT_BYTES, "%.0f", field_number(e, "engine"));
		snprintf(n[1], UNIT_BYTES, "%.0f", field_number(e, "cpu"));
		table_row(&t, (const char *const[]){n[0], n[1], field_text(e, "state"), unit_count(done, runs),
			unit_count(done > 0 ? field_number(e, "busy_cycles") / done : 0, cycles)});
	}
	puts("");
	table_print(&t);
}

void view_workers(const json_t *r)
{
	const json_t *w;
	size_t i;
	TABLE(t, ">worker", ">cpu", ">port", ">queue", "state", ">rx", ">answered", ">rows/batch", ">p50",
		">p99", ">heartbeat");

	json_array_foreach(json_object_get(r, "workers"), i, w) {
		char n[4][UNIT_BYTES], rx[UNIT_BYTES], ok[UNIT_BYTES], per[UNIT_BYTES], p50[UNIT_BYTES],
			p99[UNIT_BYTES], beat[UNIT_BYTES];
		const char *const fields[] = {"worker", "cpu", "port", "queue"};
		double batches = field_number(w, "batches");

		for (size_t k = 0; k < 4; k++)
			snprintf(n[k], UNIT_BYTES, "%.0f", field_number(w, fields[k]));
		table_row(&t, (const char *const[]){n[0], n[1], n[2], n[3], field_text(w, "state"),
			unit_count(field_number(w, "rx"), rx), unit_count(field_number(w, "results"), ok),
			unit_count(batches > 0 ? field_number(w, "rows") / batches : 0, per),
			unit_us(field_number(w, "p50_us"), p50), unit_us(field_number(w, "p99_us"), p99),
			unit_us(field_number(w, "heartbeat_age_us"), beat)});
	}
	table_print(&t);
	engines_table(json_object_get(r, "engines"));
}

/* "12 us / 101 us": a run of 1 row and of 32. */
static const char *run_cost(const json_t *v, char out[2 * UNIT_BYTES + 4])
{
	const json_t *list = json_object_get(v, "run_ns"), *one = json_array_get(list, 0),
		     *many = json_array_get(list, 5);
	char a[UNIT_BYTES], b[UNIT_BYTES];

	if (!one || !many)
		return "-";
	snprintf(out, 2 * UNIT_BYTES + 4, "%s / %s",
		unit_us(json_number_value(json_array_get(one, 1)) / 1e3, a),
		unit_us(json_number_value(json_array_get(many, 1)) / 1e3, b));
	return out;
}

static void add_version(struct table *t, const json_t *m, const char *slot)
{
	const json_t *v = json_object_get(m, slot);
	char version[UNIT_BYTES], size[UNIT_BYTES], span[UNIT_BYTES], load[64], id[13];
	char cost[2 * UNIT_BYTES + 4];

	if (!json_is_object(v))
		return;
	snprintf(version, sizeof(version), "%.0f", field_number(v, "version"));
	snprintf(load, sizeof(load), "%s, %.2f GB/s", unit_us(field_number(v, "load_s") * 1e6, span),
		field_number(v, "load_gb_s"));
	snprintf(id, sizeof(id), "%.12s", field_text(v, "artifact_id"));
	table_row(t, (const char *const[]){field_text(m, "name"), slot, field_text(v, "state"), version,
		unit_bytes(field_number(v, "bytes"), size), id, field_true(v, "signed") ? "yes" : "no",
		field_true(v, "huge_pages") ? "huge" : "normal", load, run_cost(v, cost),
		*field_text(v, "kernels") ? field_text(v, "kernels") : "-", field_text(v, "note")});
}

static void models_table(const json_t *list)
{
	const json_t *m;
	size_t i;
	TABLE(t, "model", "slot", "state", ">version", ">size", "artifact", "signed", "pages", "loaded in",
		"run of 1 / 32", "kernels", "note");

	json_array_foreach(list, i, m) {
		add_version(&t, m, "current");
		add_version(&t, m, "next");
		add_version(&t, m, "previous");
	}
	table_print(&t);
}

/* Only models that have one. */
static void caches_table(const json_t *list)
{
	const json_t *m;
	bool any = false;
	size_t i;
	TABLE(t, "cache of", ">for each worker", ">TTL", "for", ">in all", ">rows", ">hits", ">misses", ">hit ratio",
		">evicted", ">expired");

	json_array_foreach(list, i, m) {
		const json_t *c = json_object_get(m, "cache");
		char each[UNIT_BYTES], ttl[UNIT_BYTES], all[UNIT_BYTES], rows[UNIT_BYTES], hits[UNIT_BYTES];
		char misses[UNIT_BYTES], ratio[16] = "-", evicted[UNIT_BYTES], expired[UNIT_BYTES];

		if (!json_is_object(c))
			continue;
		any = true;
		if (json_is_real(json_object_get(c, "hit_ratio")))
			snprintf(ratio, sizeof(ratio), "%.1f %%", 100 * field_number(c, "hit_ratio"));
		table_row(&t, (const char *const[]){field_text(m, "name"),
			unit_bytes(field_number(c, "memory_kb") * 1024, each),
			field_number(c, "ttl_ms") > 0 ? unit_us(field_number(c, "ttl_ms") * 1e3, ttl) : "-",
			field_true(c, "shared") ? "everybody" : "each subscriber",
			unit_bytes(field_number(c, "bytes"), all), unit_count(field_number(c, "entries"), rows),
			unit_count(field_number(c, "hits"), hits), unit_count(field_number(c, "misses"), misses),
			ratio, unit_count(field_number(c, "evicted"), evicted),
			unit_count(field_number(c, "expired"), expired)});
	}
	if (any)
		table_print(&t);
}

void view_models(const json_t *r)
{
	models_table(json_object_get(r, "models"));
	caches_table(json_object_get(r, "models"));
}

void view_model(const json_t *r)
{
	json_t *list;

	if (!json_object_get(r, "name")) {
		view_done(r);
		return;
	}
	list = json_array();
	json_array_append(list, (json_t *)(uintptr_t)r);
	models_table(list);
	json_decref(list);
}

void view_trace(const json_t *r)
{
	if (!json_object_get(r, "rows"))
		view_done(r);
	else if (field_number(r, "kept") > 0)
		printf("%.0f rows of %s, %.0f answers kept\n", field_number(r, "rows"), field_text(r, "path"),
			field_number(r, "kept"));
	else
		printf("%.0f rows, %s\n", field_number(r, "rows"), field_text(r, "path"));
}

void view_sessions(const json_t *r)
{
	const json_t *s, *list = json_object_get(r, "sessions");
	size_t i;
	TABLE(t, "session", ">key id", "subscriber", "source", ">expires in");

	json_array_foreach(list, i, s) {
		char key[UNIT_BYTES], left[UNIT_BYTES];

		snprintf(key, sizeof(key), "%.0f", field_number(s, "key_id"));
		table_row(&t, (const char *const[]){field_text(s, "session_id"), key,
			field_text(s, "subscriber"), field_text(s, "source"),
			unit_span((int64_t)field_number(s, "expires_in_s"), left)});
	}
	table_print(&t);
	if (field_number(r, "total") > (double)json_array_size(list))
		printf("%zu of %.0f sessions; --limit shows more\n", json_array_size(list),
			field_number(r, "total"));
}

static void subscribers_table(const json_t *list)
{
	const json_t *s;
	size_t i;
	TABLE(t, "subscriber", "plan", ">rate/s", ">burst", "models", ">units", ">sessions", "state");

	json_array_foreach(list, i, s) {
		char rate[UNIT_BYTES], burst[UNIT_BYTES], units[UNIT_BYTES], sessions[UNIT_BYTES], models[200];

		snprintf(sessions, sizeof(sessions), "%.0f", field_number(s, "sessions"));
		field_names(s, "models", models, sizeof(models));
		table_row(&t, (const char *const[]){field_text(s, "name"),
			*field_text(s, "plan") ? field_text(s, "plan") : "-",
			unit_count(field_number(s, "rate"), rate), unit_count(field_number(s, "burst"), burst),
			models, unit_count(field_number(s, "units"), units), sessions,
			field_true(s, "suspended") ? "suspended" : "active"});
	}
	table_print(&t);
}

void view_subscribers(const json_t *r)
{
	subscribers_table(json_object_get(r, "subscribers"));
}

void view_subscriber(const json_t *r)
{
	json_t *list = json_array();

	json_array_append(list, json_object_get(r, "subscriber"));
	subscribers_table(list);
	json_decref(list);
	if (*field_text(r, "api_key"))
		printf("\nAPI key (shown this once, only its hash is kept):\n%s%s%s\n", print_on(STYLE_BOLD),
			field_text(r, "api_key"), print_off());
}

static void plans_table(const json_t *list)
{
	const json_t *p;
	size_t i;
	TABLE(t, "plan", ">rate/s", ">burst", ">weight", ">concurrent", ">quota/month", "models");

	json_array_foreach(list, i, p) {
		char rate[UNIT_BYTES], burst[UNIT_BYTES], weight[UNIT_BYTES], cap[UNIT_BYTES], models[200];
		char quota[UNIT_BYTES];

		field_names(p, "models", models, sizeof(models));
		snprintf(weight, sizeof(weight), "%.0f", field_number(p, "weight"));
		snprintf(cap, sizeof(cap), "%.0f", field_number(p, "concurrent"));
		table_row(&t, (const char *const[]){field_text(p, "name"),
			unit_count(field_number(p, "rate"), rate), unit_count(field_number(p, "burst"), burst),
			weight, field_number(p, "concurrent") > 0 ? cap : "-",
			field_number(p, "quota") > 0 ? unit_count(field_number(p, "quota"), quota) : "-", models});
	}
	table_print(&t);
}

void view_plans(const json_t *r)
{
	plans_table(json_object_get(r, "plans"));
}

void view_plan(const json_t *r)
{
	json_t *list = json_array();

	json_array_append(list, json_object_get(r, "plan"));
	plans_table(list);
	json_decref(list);
}

void view_limits(const json_t *r)
{
	const json_t *s;
	size_t i;
	TABLE(t, "subscriber", ">slot", ">rate/s", ">in slot", ">burst", ">burst used", ">admitted", "state");

	printf("%s, %.0f slots\n", field_text(r, "kind"), field_number(r, "slots"));
	json_array_foreach(json_object_get(r, "subscribers"), i, s) {
		char slot[UNIT_BYTES], rate[UNIT_BYTES], in[UNIT_BYTES], burst[UNIT_BYTES], used[UNIT_BYTES],
			units[UNIT_BYTES];

		snprintf(slot, sizeof(slot), "%.0f", field_number(s, "index"));
		snprintf(used, sizeof(used), "%.0f %%", field_number(s, "burst_used") * 100);
		table_row(&t, (const char *const[]){field_text(s, "name"), slot,
			unit_count(field_number(s, "rate"), rate), unit_count(field_number(s, "slot_rate"), in),
			unit_count(field_number(s, "burst"), burst), used,
			unit_count(field_number(s, "units_admitted"), units),
			field_true(s, "blocked") ? "blocked" : "active"});
	}
	table_print(&t);
}

static void add_drops(struct table *t, const json_t *list, const char *where)
{
	const json_t *d;
	size_t i;

	json_array_foreach(list, i, d) {
		char count[UNIT_BYTES];

		snprintf(count, sizeof(count), "%.0f", field_number(d, "count"));
		if (field_number(d, "count") > 0)
			table_row(t, (const char *const[]){where, field_text(d, "name"), count,
				field_text(d, "help")});
	}
}

/* Sources whose strays are refused without a further look. */
static void print_boxed(const json_t *list)
{
	TABLE(t, "in the penalty box", ">for another", ">strays dropped");
	const json_t *b;
	size_t i;

	json_array_foreach(list, i, b) {
		char left[UNIT_BYTES], packets[UNIT_BYTES];

		snprintf(left, sizeof(left), "%.1f s", field_number(b, "left_s"));
		table_row(&t, (const char *const[]){field_text(b, "source"), left,
			unit_count(field_number(b, "packets"), packets)});
	}
	if (t.rows) {
		printf("\n");
		table_print(&t);
	}
}

void view_drops(const json_t *r)
{
	TABLE(t, "where", "reason", ">packets", "meaning");

	add_drops(&t, json_object_get(r, "xdp"), "XDP");
	add_drops(&t, json_object_get(r, "dataplane"), "dataplane");
	if (t.rows)
		table_print(&t);
	else
		printf("nothing was dropped\n");
	print_boxed(json_object_get(r, "boxed"));
}

void view_license(const json_t *r)
{
	const char *state = field_text(r, "state");
	const json_t *used = json_object_get(r, "used");
	char text[256], word[128], a[UNIT_BYTES], b[UNIT_BYTES];

	line("state", painted(license_style(state), state, word));
	if (*field_text(r, "reason"))
		line("reason", field_text(r, "reason"));
	if (!*field_text(r, "id"))
		return;
	line("licence", field_text(r, "id"));
	snprintf(text, sizeof(text), "%.63s (%.31s)", field_text(r, "customer"), field_text(r, "edition"));
	line("customer", text);
	snprintf(text, sizeof(text), "%.24s to %.24s, %.1f days left", field_text(r, "not_before"),
		field_text(r, "not_after"), field_number(r, "days_left"));
	line("valid", text);
	snprintf(text, sizeof(text), "%.0f of %.0f", field_number(used, "subscribers"),
		field_number(r, "subscribers"));
	line("subscribers", text);
	snprintf(text, sizeof(text), "%.0f of %.0f", field_number(used, "models"), field_number(r, "models"));
	line("models", text);
	snprintf(text, sizeof(text), "%s/s of %s%s", unit_count(field_number(used, "total_rate"), a),
		field_number(r, "total_rate") > 0 ? unit_count(field_number(r, "total_rate"), b) : "unlimited",
		field_number(r, "total_rate") > 0 ? "/s" : "");
	line("total rate", text);
}

void view_done(const json_t *r)
{
	(void)r;
	printf("done\n");
}

void view_restart(const json_t *r)
{
	printf("dataplane %s; watch it with: millrace status\n", field_text(r, "state"));
}
