/* SPDX-License-Identifier: BSD-3-Clause
 * Sessions of the load generator: see sessions.h.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "abi/model_file.h"
#include "base/clock.h"
#include "perf/loadgen/sessions.h"

/* Session `at` of the list has its keys: let it be found. */
static void add(struct bench_sessions *s, uint32_t at)
{
	uint32_t i = s->list[at].channel.key_id * 2654435761u;

	while (s->table[i & s->mask])
		i++;
	s->table[i & s->mask] = at + 1;
}

static int allocate(struct bench_sessions *s, uint32_t n, struct error *err)
{
	s->mask = 15;
	while (s->mask < 2 * n)
		s->mask = s->mask * 2 + 1;
	s->list = calloc(n, sizeof(*s->list));
	s->table = calloc(s->mask + 1, sizeof(*s->table));
	if (!s->list || !s->table)
		return error_set(err, -ENOMEM, "out of memory for %u sessions", n);
	s->n = n;
	if (aead_init(&s->aead))
		return error_set(err, -ENOTSUP, "this CPU has no AES instructions");
	return 0;
}

/* ---- enrolled ------------------------------------------------------------------------------ */

static int take_model(struct bench_sessions *s, const struct session_info *info, const char *name,
	struct error *err)
{
	for (uint32_t i = 0; i < info->n_models; i++) {
		if (strcmp(info->models[i].name, name) == 0) {
			s->model = info->models[i];
			return 0;
		}
	}
	return error_set(err, -ENOENT, "the session offers no model \"%s\"", name);
}

static int take_address(struct bench_sessions *s, const struct session_info *info,
	struct error *err)
{
	bool v6 = strchr(info->source, ':') != NULL;

	snprintf(s->server, sizeof(s->server), "%s", v6 ? info->address6 : info->address);
	snprintf(s->local, sizeof(s->local), "%s", info->source);
	s->port = info->port;
	return *s->server ? 0 : error_set(err, -EPROTO, "the server has no data address for %s",
					 info->source);
}

struct enrolling {
	struct bench_sessions *s;
	const struct options *o;
};

static int enrol_one(struct enrol *e, uint32_t i, void *arg, struct error *err)
{
	const struct enrolling *x = arg;
	struct bench_session *b = &x->s->list[i];
	struct session_info *info = malloc(sizeof(*info));
	int rc = info ? enrol_open(e, info, err) : error_set(err, -ENOMEM, "out of memory");

	if (!rc) {
		memcpy(b->id, info->session_id, sizeof(info->session_id));
		b->provisional = info->provisional;
		if (channel_init(&b->channel, &x->s->aead, info->secret, info->key_id, 0, CHANNEL_CLIENT))
			rc = error_set(err, -ENOMEM, "no keys could be made");
		/* The first epoch's time runs from here, not from the first request: that may be minutes away. */
		channel_clock(&b->channel, clock_now_ns());
		if (x->o->epoch_datagrams)
			b->channel.epoch_datagrams = x->o->epoch_datagrams;
	}
	if (!rc && !i) {
		rc = take_model(x->s, info, x->o->model, err);
		rc = rc ? rc : take_address(x->s, info, err);
	}
	if (info)
		explicit_bzero(info, sizeof(*info));
	free(info);
	return rc;
}

static int enrol_all(struct bench_sessions *s, const struct options *o, const char *local,
	struct error *err)
{
	struct mr_options m = {.https = o->url, .api_key = o->key, .ca_file = o->ca,
		.pin_sha256 = o->pin, .insecure = o->insecure, .data_address = local};
	struct enrolling x = {s, o};
	int rc = enrolment_open(&s->enrolment, &m, o->sessions, err);

	rc = rc ? rc : enrolment_each(s->enrolment, o->sessions, enrol_one, &x, err);
	return rc ? error_prefix(err, "%u sessions", o->sessions) : 0;
}

static int give_back(struct enrol *e, uint32_t i, void *arg, struct error *err)
{
	const struct bench_sessions *s = arg;

	(void)err; /* it ends by itself, an hour later */
	if (*s->list[i].id)
		enrol_close(e, s->list[i].id, err);
	return 0;
}

/* ---- fixed: for perf/peers only ------------------------------------------------------------ */

static int read_artifact(struct mr_model *m, const char *path, struct error *err)
{
	struct model_file_header h;
	FILE *f = fopen(path, "rb");
	size_t n = f ? fread(&h, sizeof(h), 1, f) : 0;
	uint32_t row;

	if (f)
		fclose(f);
	if (n != 1 || h.magic != MODEL_FILE_MAGIC || h.version != MODEL_FILE_VERSION ||
		!h.row_in_bytes || !h.row_out_bytes || h.name[sizeof(h.name) - 1])
		return error_set(err, -EINVAL, "%s is no .mrm artifact", path);
	row = h.row_in_bytes > h.row_out_bytes ? h.row_in_bytes : h.row_out_bytes;
	memcpy(m->name, h.name, sizeof(m->name));
	m->id = wire_model_id(h.name);
	m->row_in_bytes = h.row_in_bytes;
	m->row_out_bytes = h.row_out_bytes;
	m->max_rows = WIRE_SEGMENT_ROW_BYTES / row;
	if (m->max_rows > h.max_rows)
		m->max_rows = h.max_rows;
	m->input_dtype = (uint8_t)h.inputs[0].dtype;
	m->output_dtype = (uint8_t)h.outputs[0].dtype;
	return 0;
}

static int parse_fixed(const char *text, uint32_t *key_id, uint8_t secret[WIRE_KEY_BYTES])
{
	char *end;
	unsigned int byte;

	*key_id = (uint32_t)strtoul(text, &end, 0);
	if (end == text || *end != ':' || strlen(end + 1) != 2 * WIRE_KEY_BYTES)
		return -EINVAL;
	for (int i = 0; i < WIRE_KEY_BYTES; i++) {
		if (sscanf(end + 1 + 2 * i, "%2x", &byte) != 1)
			return -EINVAL;
		secret[i] = (uint8_t)byte;
	}
	return 0;
}

static int fixed_all(struct bench_sessions *s, const struct options *o, const char *local,
	struct error *err)
{
	const char *colon = strrchr(o->server, ':');
	uint8_t secret[WIRE_KEY_BYTES];
	unsigned long port;
	uint32_t key_id;
	char *end;
	int rc = read_artifact(&s->model, o->artifact, err);

	if (rc)
		return rc;
	if (parse_fixed(o->fixed, &key_id, secret))
		return error_set(err, -EINVAL, "--fixed-session is KEY_ID:64 hex digits");
	if (!colon || (size_t)(colon - o->server) >= sizeof(s->server))
		return error_set(err, -EINVAL, "--server is ADDRESS:PORT");
	memcpy(s->server, o->server, (size_t)(colon - o->server));
	port = strtoul(colon + 1, &end, 10);
	if (*end || !port || port > UINT16_MAX)
		return error_set(err, -EINVAL, "--server is ADDRESS:PORT");
	s->port = (uint16_t)port;
	snprintf(s->local, sizeof(s->local), "%s", local ? local : "");
	for (uint32_t i = 0; i < o->sessions && !rc; i++) {
		rc = channel_init(&s->list[i].channel, &s->aead, secret, key_id + i, 0, CHANNEL_CLIENT);
		/* The peer outlives a run and remembers counters; time never goes back. */
		s->list[i].channel.next_counter = clock_now_ns();
	}
	return rc ? error_set(err, rc, "cannot make the sessions: %s", strerror(-rc)) : 0;
}

/* -------------------------------------------------------------------------------------------- */

int bench_sessions_open(struct bench_sessions *s, const struct options *o, const char *local,
	struct error *err)
{
	int rc;

	memset(s, 0, sizeof(*s));
	rc = allocate(s, o->sessions, err);
	if (!rc)
		rc = o->fixed ? fixed_all(s, o, local, err) : enrol_all(s, o, local, err);
	for (uint32_t i = 0; i < s->n && !rc; i++)
		add(s, i);
	if (!rc && o->rows_per_request > s->model.max_rows)
		rc = error_set(err, -EMSGSIZE, "%u rows of model %s do not fit a request: at most %u",
			o->rows_per_request, s->model.name, s->model.max_rows);
	if (!rc && (uint64_t)o->rows_per_request * s->model.row_out_bytes > WIRE_MAX_SEGMENTS * WIRE_SEGMENT_ROW_BYTES)
		rc = error_set(err, -EMSGSIZE, "the answer to %u rows of model %s does not fit %d datagrams",
			o->rows_per_request, s->model.name, WIRE_MAX_SEGMENTS);
	if (rc)
		bench_sessions_close(s);
	return rc;
}

void bench_sessions_close(struct bench_sessions *s)
{
	struct error ignored;

	if (s->enrolment)
		enrolment_each(s->enrolment, s->n, give_back, s, &ignored);
	enrolment_close(s->enrolment);
	for (uint32_t i = 0; i < s->n; i++)
		channel_uninit(&s->list[i].channel);
	free(s->list);
	free(s->table);
	aead_uninit(&s->aead);
	memset(s, 0, sizeof(*s));
}
