/* SPDX-License-Identifier: BSD-3-Clause
 * Command line of millrace-bench: see options.h.
 */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "perf/loadgen/options.h"

enum kind { TEXT, FLAG, REAL, U32, U64, CORE };

struct option_row {
	const char *name;
	enum kind kind;
	size_t offset;
	double min, max;
	const char *fallback; /* default, as typed; NULL = none */
	const char *help;
};

#define AT(field) offsetof(struct options, field)

static const struct option_row table[] = {
	{"port", TEXT, AT(port), 0, 0, "udp", "udp[:ADDRESS], memif:SOCKET or af_xdp:INTERFACE"},
	{"address", TEXT, AT(address), 0, 0, NULL, "our address on the data network"},
	{"url", TEXT, AT(url), 0, 0, NULL, "control's HOST:PORT, to enrol over TLS"},
	{"key", TEXT, AT(key), 0, 0, NULL, "API key (or environment MILLRACE_API_KEY)"},
	{"ca", TEXT, AT(ca), 0, 0, NULL, "PEM file of certificates to trust"},
	{"pin", TEXT, AT(pin), 0, 0, NULL, "SHA-256 of the one certificate to trust, hex"},
	{"insecure", FLAG, AT(insecure), 0, 0, NULL, "do not verify the server (tests only)"},
	{"sessions", U32, AT(sessions), 1, 1000000, "1", "enrol this many sessions"},
	{"order", TEXT, AT(order_name), 0, 0, "random", "of sessions: random, rr or zipf (0.99)"},
	{"epoch-datagrams", U64, AT(epoch_datagrams), 0, 1 << 27, "0",
		"step the key ratchet after so many (4 s apart at least); 0: as every client"},
	{"model", TEXT, AT(model), 0, 0, NULL, "model to ask"},
	{"rows-file", TEXT, AT(rows), 0, 0, NULL, "inputs (.npy); default: seeded random rows"},
	{"expect", TEXT, AT(expect), 0, 0, NULL, "outputs (.npy) every answer must equal"},
	{"rtol", REAL, AT(rtol), 0, 1, "1e-3", "relative tolerance of --expect"},
	{"atol", REAL, AT(atol), 0, 1, "1e-5", "absolute tolerance of --expect"},
	{"labels", TEXT, AT(labels), 0, 0, NULL, "classes (.npy): accuracy over distinct rows"},
	{"rows-per-request", U32, AT(rows_per_request), 1, 1024, "1", "rows in one request"},
	{"count", U64, AT(count), 0, 1e12, "0", "requests to send; 0: no limit"},
	{"seconds", REAL, AT(seconds), 0, 86400, "0", "seconds to send for; 0: until --count"},
	{"warmup", U64, AT(warmup), 0, 1e9, "0", "first requests that are not measured"},
	{"rate", REAL, AT(rate), 0, 1e9, "0", "open loop: requests a second; 0: closed loop"},
	{"poisson", FLAG, AT(poisson), 0, 0, NULL, "open loop: exponential gaps, not constant"},
	{"window", U32, AT(window), 1, 65536, "64", "closed loop: requests outstanding"},
	{"attempts", U32, AT(attempts), 1, 16, "6", "times a request is sent at most"},
	{"timeout-ms", U32, AT(timeout_ms), 1, 60000, "100", "before the first retry; doubles, five times at most"},
	{"stuck-ms", U32, AT(stuck_ms), 0, 3600000, "10000", "end when the port takes nothing for so long; 0 = wait for ever"},
	{"sleep", FLAG, AT(sleep), 0, 0, NULL, "udp: sleep while waiting instead of spinning"},
	{"preseal", FLAG, AT(preseal), 0, 0, NULL, "seal all requests before the clock starts"},
	{"core", CORE, AT(core), -1, 1023, "-1", "CPU to run on; -1: any"},
	{"seed", U64, AT(seed), 0, 1e18, "1", "of random rows, order and arrivals"},
	{"json", TEXT, AT(json), 0, 0, NULL, "write the report there"},
	{"summary", FLAG, AT(summary), 0, 0, NULL, "end with one line: millrace: answered ..."},
	{"quiet", FLAG, AT(quiet), 0, 0, NULL, "no progress, no table"},
	{"flood", TEXT, AT(flood_name), 0, 0, "none",
		"beside the load: none, junk, unknown, forged, replay or overlimit"},
	{"flood-rate", REAL, AT(flood_rate), 0, 1e9, "0", "packets a second of the flood"},
	{"flood-count", U64, AT(flood_count), 0, 1e12, "0", "packets of it at most; 0: while the run lasts"},
	{"flood-address", TEXT, AT(flood_address), 0, 0, NULL, "where it comes from; default: --address"},
	{"flood-key", TEXT, AT(flood_key), 0, 0, NULL,
		"replay, overlimit: API key of who floods (or environment MILLRACE_FLOOD_KEY)"},
	{"flood-model", TEXT, AT(flood_model), 0, 0, NULL, "replay, overlimit: model to ask; default: --model"},
	{"mac", TEXT, AT(mac), 0, 0, NULL, "memif, af_xdp: server's MAC; default: ARP"},
	{"vdev", TEXT, AT(vdev), 0, 0, NULL, "memif, af_xdp: more device arguments"},
	{"huge", FLAG, AT(huge), 0, 0, NULL, "memif, af_xdp: memory on huge pages"},
	{"fixed-session", TEXT, AT(fixed), 0, 0, NULL,
		"KEY_ID:SECRET_HEX, no enrolment: perf/peers only, never the product"},
	{"artifact", TEXT, AT(artifact), 0, 0, NULL, "with --fixed-session: the model's .mrm"},
	{"server", TEXT, AT(server), 0, 0, NULL, "with --fixed-session: ADDRESS:PORT"},
	{"help", FLAG, AT(help), 0, 0, NULL, "this text"},
};

enum { ROWS = sizeof(table) / sizeof(table[0]) };

static int set_number(void *field, const struct option_row *row, const char *text,
	struct error *err)
{
	char *end;
	double v = strtod(text, &end);

	if (end == text || *end || !(v >= row->min && v <= row->max))
		return error_set(err, -EINVAL, "--%s %s: must be a number from %g to %g", row->name,
			text, row->min, row->max);
	switch (row->kind) {
	case REAL:
		*(double *)field = v;
		break;
	case U32:
		*(uint32_t *)field = (uint32_t)v;
		break;
	case U64:
		*(uint64_t *)field = (uint64_t)v;
		break;
	default:
		*(int32_t *)field = (int32_t)v;
		break;
	}
	return 0;
}

static int set(struct options *o, const struct option_row *row, const char *text, struct error *err)
{
	void *field = (char *)o + row->offset;

	if (row->kind == FLAG)
		*(bool *)field = true;
	else if (row->kind == TEXT)
		*(const char **)field = text;
	else
		return set_number(field, row, text, err);
	return 0;
}

static const struct option_row *find(const char *arg)
{
	for (int i = 0; i < ROWS && strncmp(arg, "--", 2) == 0; i++) {
		if (strcmp(table[i].name, arg + 2) == 0)
			return &table[i];
	}
	return NULL;
}

static int check_flood(struct options *o, struct error *err)
{
	static const char *const names[FLOOD_KINDS] = {
#define X(sym, name, help) name,
		FLOOD_LIST(X)
#undef X
	};
	uint32_t i = 0;

	while (i < FLOOD_KINDS && strcmp(o->flood_name, names[i]))
		i++;
	if (i == FLOOD_KINDS)
		return error_set(err, -EINVAL, "--flood %s: no such flood", o->flood_name);
	o->flood = (enum flood_kind)i;
	if (!o->flood_key)
		o->flood_key = getenv("MILLRACE_FLOOD_KEY");
	if (o->flood != FLOOD_NONE && !(o->flood_rate > 0))
		return error_set(err, -EINVAL, "--flood needs --flood-rate");
	if (o->flood == FLOOD_OVERLIMIT && !o->flood_key)
		return error_set(err, -EINVAL, "--flood overlimit needs --flood-key");
	return 0;
}

static int check(struct options *o, struct error *err)
{
	static const char *const orders[] = {"random", "rr", "zipf"};
	int i = 0;

	while (i < 3 && strcmp(o->order_name, orders[i]))
		i++;
	if (i == 3)
		return error_set(err, -EINVAL, "--order %s: random, rr or zipf", o->order_name);
	o->order = (enum bench_order)i;
	if (!o->key)
		o->key = getenv("MILLRACE_API_KEY");
	if (!o->fixed && (!o->url || !o->key || !o->model))
		return error_set(err, -EINVAL, "--url, --key and --model are needed to enrol");
	if (o->fixed && (!o->artifact || !o->server))
		return error_set(err, -EINVAL, "--fixed-session needs --artifact and --server");
	if (!o->count && o->seconds == 0)
		return error_set(err, -EINVAL, "give --count or --seconds");
	if (o->preseal && !o->count)
		return error_set(err, -EINVAL, "--preseal needs --count: counters are never reused");
	return check_flood(o, err);
}

int options_parse(struct options *o, int argc, char **argv, struct error *err)
{
	int rc;

	memset(o, 0, sizeof(*o));
	for (int i = 0; i < ROWS; i++) {
		if (table[i].fallback && set(o, &table[i], table[i].fallback, err))
			return -EINVAL;
	}
	for (int i = 1; i < argc; i++) {
		const struct option_row *row = find(argv[i]);

		if (!row)
			return error_set(err, -EINVAL, "unknown option %s", argv[i]);
		if (row->kind != FLAG && i + 1 == argc)
			return error_set(err, -EINVAL, "%s needs a value", argv[i]);
		rc = set(o, row, row->kind == FLAG ? NULL : argv[++i], err);
		if (rc)
			return rc;
	}
	return o->help ? 0 : check(o, err);
}

void options_help(void)
{
	printf("millrace-bench: load generator and reference client\n\n"
	       "  closed loop: millrace-bench --url HOST:PORT --ca FILE --model NAME --seconds 10\n"
	       "  open loop:   ... --rate 100000 --poisson   (latency counts from when each was due)\n\n"
	       "Rate and latency speak of results; refusals and losses are counted apart. Exit 0: every\n"
	       "request was answered, and as --expect says; 1: not so; 2: wrong usage. A signal (TERM, INT) ends\n"
	       "the sending, a second one the run.\n\n");
	for (int i = 0; i < ROWS; i++) {
		printf("  --%-17s %s%s%s%s\n", table[i].name, table[i].help,
			table[i].fallback ? " [" : "", table[i].fallback ? table[i].fallback : "",
			table[i].fallback ? "]" : "");
	}
}
