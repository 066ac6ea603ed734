/* SPDX-License-Identifier: BSD-3-Clause
 * Floods: see flood.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "perf/loadgen/flood.h"
#include "perf/loadgen/random.h"
#include "perf/loadgen/workload.h"

enum {
	POOL = 1 << 14,      /* packets of a kind that may be sent again and again */
	REPLAYED = 64,       /* captured packets; few, so that nearly all that is sent is a replay */
	SEALED_MAX = 1 << 23, /* genuine ones are used once each */
	COUNTERS = 1 << 20,  /* a forger's counters: as far ahead as the server opens (protocol.md) */
	PAYLOAD = 184,       /* of what is no request: as long as one of 32 floats */
	STEP = 8,            /* packets a turn over a kernel socket: each costs a microsecond and more */
};

struct flood {
	const struct options *o;
	struct bench_sessions sessions; /* of the subscriber that floods; n = 0: none needed */
	struct workload w;
	bool enrolled;
	struct transport *t;
	uint8_t *frames;
	size_t frames_bytes, stride;
	uint32_t payload; /* bytes of each */
	uint64_t built, limit;
	bool once; /* every packet is sent at most once */
	uint32_t step;
	uint64_t sent, replies, start_tsc, last_tsc;
	double per_tsc; /* packets due a cycle */
	double hz;
};

static uint8_t *payload_of(const struct flood *f, uint64_t i)
{
	return f->frames + i * f->stride + TRANSPORT_HEADROOM;
}

/* ---- building ------------------------------------------------------------------------------ */

static void fill_random(uint8_t *out, size_t n, uint64_t *state)
{
	for (size_t i = 0; i < n; i += sizeof(*state)) {
		uint64_t v = random_next(state);

		memcpy(out + i, &v, n - i < sizeof(v) ? n - i : sizeof(v));
	}
}

/* A clear header of this key id in front of noise. */
static void build_headed(struct flood *f, uint64_t i, uint32_t key_id, uint64_t *state)
{
	struct wire_header h = {.type = WIRE_TYPE_REQUEST, .key_id = key_id,
		.counter = random_next(state) % COUNTERS};

	fill_random(payload_of(f, i), PAYLOAD, state);
	memcpy(payload_of(f, i), &h, sizeof(h));
}

static int build_sealed(struct flood *f, uint64_t i)
{
	const struct mr_model *m = &f->w.model;
	struct wire_request q = {.request_id = i + 1, .model_id = m->id, .dtype = m->input_dtype,
		.segment_count = 1, .rows = (uint16_t)f->w.batch};

	return channel_seal_request(&f->sessions.list[0].channel, &q, workload_input(&f->w, i),
		(size_t)m->row_in_bytes * f->w.batch, payload_of(f, i), WIRE_MAX_PAYLOAD_BYTES);
}

static int build(struct flood *f, const struct bench_sessions *ours, struct error *err)
{
	uint64_t state = random_seed(f->o->seed + 3);

	for (uint64_t i = 0; i < f->built; i++) {
		struct datagram d = {payload_of(f, i), f->payload};
		int n = 0;

		if (f->o->flood == FLOOD_JUNK)
			fill_random(d.data, PAYLOAD, &state);
		else if (f->o->flood == FLOOD_UNKNOWN)
			build_headed(f, i, (uint32_t)random_next(&state), &state);
		else if (f->o->flood == FLOOD_FORGED)
			build_headed(f, i, ours->list[0].channel.key_id, &state);
		else
			n = build_sealed(f, i);
		if (n < 0)
			return error_set(err, n, "a request of the flood does not fit one datagram");
		f->t->ops->frame(f->t, &d, 1);
	}
	return 0;
}

static int allocate(struct flood *f, struct error *err)
{
	f->stride = (TRANSPORT_HEADROOM + (size_t)f->payload + 63) & ~(size_t)63;
	f->frames_bytes = f->stride * f->built;
	f->frames = mmap(NULL, f->frames_bytes, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (f->frames == MAP_FAILED) {
		f->frames = NULL;
		return error_set(err, -ENOMEM, "no memory for the flood's packets");
	}
	madvise(f->frames, f->frames_bytes, MADV_HUGEPAGE);
	return 0;
}

/* ---- open and close ------------------------------------------------------------------------ */

/* The subscriber that floods, bound to the address the flood comes from. */
static int enrol(struct flood *f, const char *local, struct error *err)
{
	struct options o = *f->o;
	int rc;

	o.key = o.flood_key ? o.flood_key : o.key;
	o.model = o.flood_model ? o.flood_model : o.model;
	o.sessions = 1;
	o.rows = o.expect = o.labels = NULL;
	rc = bench_sessions_open(&f->sessions, &o, local, err);
	f->enrolled = !rc;
	rc = rc ? rc : workload_init(&f->w, &o, &f->sessions.model, err);
	f->payload = rc ? 0 : (uint32_t)WIRE_MIN_PAYLOAD_BYTES + f->w.model.row_in_bytes * f->w.batch;
	return rc;
}

static uint64_t wanted(const struct options *o)
{
	double n = o->seconds > 0 ? o->flood_rate * o->seconds : SEALED_MAX;

	if (o->flood_count && (double)o->flood_count < n)
		n = (double)o->flood_count;
	return n < SEALED_MAX ? (uint64_t)n + 1 : SEALED_MAX;
}

static int prepare(struct flood *f, const struct bench_sessions *ours, struct transport *t,
	struct error *err)
{
	const char *local = f->o->flood_address ? f->o->flood_address : ours->local;
	int rc = 0;

	f->payload = PAYLOAD;
	f->built = POOL;
	if (f->o->flood == FLOOD_REPLAY || f->o->flood == FLOOD_OVERLIMIT) {
		rc = enrol(f, local, err);
		f->once = f->o->flood == FLOOD_OVERLIMIT;
		f->built = f->once ? wanted(f->o) : REPLAYED;
	}
	f->limit = f->o->flood_count ? f->o->flood_count : UINT64_MAX;
	if (f->once && f->limit > f->built)
		f->limit = f->built;
	rc = rc ? rc : t->ops->beside(t, local, &f->t, err);
	rc = rc ? rc : allocate(f, err);
	return rc ? rc : build(f, ours, err);
}

int flood_open(struct flood **out, const struct options *o, const struct bench_sessions *ours,
	struct transport *t, struct error *err)
{
	struct flood *f = calloc(1, sizeof(*f));
	int rc;

	if (!f)
		return error_set(err, -ENOMEM, "out of memory");
	f->o = o;
	f->step = strncmp(o->port, "udp", 3) == 0 ? STEP : TRANSPORT_BURST;
	rc = prepare(f, ours, t, err);
	if (rc) {
		flood_close(f);
		return error_prefix(err, "flood");
	}
	*out = f;
	return 0;
}

void flood_close(struct flood *f)
{
	if (!f)
		return;
	if (f->t)
		f->t->ops->close(f->t);
	if (f->frames)
		munmap(f->frames, f->frames_bytes);
	if (f->enrolled) {
		workload_uninit(&f->w);
		bench_sessions_close(&f->sessions);
	}
	free(f);
}

/* ---- sending ------------------------------------------------------------------------------- */

void flood_start(struct flood *f, uint64_t now_tsc, uint64_t tsc_hz)
{
	f->start_tsc = f->last_tsc = now_tsc;
	f->hz = (double)tsc_hz;
	f->per_tsc = f->o->flood_rate / f->hz;
}

int flood_turn(struct flood *f, uint64_t now_tsc)
{
	uint64_t due = (uint64_t)((double)(now_tsc - f->start_tsc) * f->per_tsc);
	struct datagram d[TRANSPORT_BURST];
	uint32_t n = 0;
	int sent = 0, came;

	due = due < f->limit ? due : f->limit;
	while (n < f->step && f->sent + n < due) {
		uint64_t i = f->once ? f->sent + n : (f->sent + n) % f->built;

		d[n++] = (struct datagram){payload_of(f, i), f->payload};
	}
	if (n)
		sent = f->t->ops->send(f->t, d, n);
	if (sent <= 0)
		return sent;
	f->sent += (uint32_t)sent;
	f->last_tsc = now_tsc;
	came = f->t->ops->receive(f->t, d);
	f->replies += came > 0 ? (uint32_t)came : 0;
	return came < 0 ? came : 0;
}

void flood_read(const struct flood *f, struct flood_report *out)
{
	*out = (struct flood_report){f->sent, f->replies, (double)(f->last_tsc - f->start_tsc) / f->hz};
}
