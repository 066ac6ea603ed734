/* SPDX-License-Identifier: BSD-3-Clause
 * libmillrace: ask a Millrace appliance for a model's answer over encrypted datagrams.
 *
 *   1. mr_client_open()  enrols over TLS 1.3 with an API key and learns keys, models and address;
 *   2. mr_infer()        sends rows, waits for the answer (splitting and retrying as needed), or
 *      mr_submit() many, mr_poll() for whatever came back;
 *   3. mr_client_close() gives the session back.
 *
 * One client belongs to one thread; open one per thread. Every call returns 0 (or a count) or a
 * negative errno; mr_client_error() has the sentence that goes with it. Link with
 *   -lmillrace -lssl -lcrypto -ljansson -lIPSec_MB
 *
 * Rows: a row is the concatenation of the model's inputs in order, each padded to 4 bytes, float32
 * unless the model says otherwise; answers are built alike from its outputs (struct mr_model).
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct mr_client;

struct mr_error {
	int code; /* 0 or -errno */
	char text[320];
};

/* What became of a request. Values 0..8 are the server's typed answers (abi/wire.h). */
enum mr_status {
	MR_RESULT = 0,
	MR_BAD_REQUEST = 1,
	MR_UNKNOWN_MODEL = 2,
	MR_RATE_LIMITED = 3,    /* over the plan: retry_after_us says when to come back */
	MR_QUOTA_EXHAUSTED = 4, /* this period's quota is used up */
	MR_OVERLOADED = 5,
	MR_DEADLINE_EXCEEDED = 6,
	MR_NOT_LICENSED = 7,
	MR_INTERNAL = 8,
	MR_UNANSWERED = 100, /* no answer after the last retry */
};

/* "result", "rate limited", ...: for people. Never NULL. */
const char *mr_status_name(enum mr_status status);

/* Zero means the default everywhere. Strings are copied. */
struct mr_options {
	const char *https;        /* "host:port" or "https://host:port"; required */
	const char *api_key;      /* required */
	const char *ca_file;      /* PEM certificates to trust; default: the system's */
	const char *pin_sha256;   /* 64 hex digits: trust exactly the server certificate with this
				     SHA-256 (of its DER form), whoever signed it */
	int insecure;             /* 1 = do not verify the server. Never a default; tests only */
	const char *data_address; /* our address on the data network, when it is not the one TLS uses */
	const char *bind_address; /* local address of the UDP socket; default: data_address */
	uint32_t https_timeout_ms; /* whole TLS exchange; default 5000 */
	uint32_t retry_ms;         /* wait before the first retry, doubled each time; default 50 */
	uint32_t attempts;         /* times a request is sent at most; default 6, limit 16 */
	uint32_t in_flight;        /* requests outstanding at most; default 1024, limit 65536 */
	uint32_t deadline_us;      /* sent with each request: the server gives up after it; 0 = none */
};

struct mr_model {
	char name[64];
	uint32_t id;
	uint32_t version;
	uint32_t row_in_bytes;  /* bytes of one input row */
	uint32_t row_out_bytes; /* bytes of one output row */
	uint32_t max_rows;      /* per request: what 16 datagrams each way and the model allow. 0 = a row
				   alone is larger than 18,304 bytes: not over this protocol */
	uint32_t datagram_rows; /* per request of one datagram each way; 0 = a row takes several */
	uint32_t cost_units;    /* limiter units one row costs */
	uint8_t input_dtype;    /* enum wire_dtype of the first input and output */
	uint8_t output_dtype;
};

struct mr_result {
	uint64_t tag;            /* the caller's, from mr_submit() */
	enum mr_status status;
	uint32_t retry_after_us; /* RATE_LIMITED, QUOTA_EXHAUSTED, OVERLOADED; else 0 */
	uint32_t model_version;  /* of the artifact that answered, mod 2^16; MR_RESULT only */
	uint32_t detail;         /* MR_BAD_REQUEST: enum wire_reason; else 0 */
	uint32_t n_rows;         /* 0 unless MR_RESULT */
	uint32_t attempts;       /* times the request was sent */
	uint64_t latency_ns;     /* first send to answer */
	const void *rows;        /* n_rows answers, aligned to 8 bytes; valid until the next mr_poll() or mr_infer() */
};

/* Counted since mr_client_open(). A request of one datagram is sent by one, a larger one by up to 16. */
struct mr_counters {
	uint64_t sent;             /* requests: first sends */
	uint64_t retries;          /* requests sent again, whole or by their first datagram */
	uint64_t first_try_losses; /* requests whose first send brought no answer in time */
	uint64_t answered;         /* requests that got a typed answer */
	uint64_t unanswered;       /* requests given up */
	uint64_t late;             /* authentic answers to requests already answered or given up */
	uint64_t rejected;         /* datagrams that failed a check: forged, damaged, replayed */
	uint64_t renewals;
};

/* Enrol and open the data socket. *out is freed with mr_client_close(). 0, or -errno with err
 * (may be NULL): -EINVAL bad option, -EACCES refused (wrong key, licence, ...: text has the server's
 * reason), -ECONNREFUSED/-ETIMEDOUT/-EIO no TLS exchange, -EPROTO the server's answer is malformed,
 * -EKEYREJECTED its certificate is not trusted, -ENOMEM, -ENOTSUP no AES-NI. */
int mr_client_open(struct mr_client **out, const struct mr_options *options, struct mr_error *err);

/* Give the session back (best effort), wipe the keys, free everything. NULL is allowed. */
void mr_client_close(struct mr_client *c);

/* The last failure of a call on this client. Never NULL; valid until the next call. */
const struct mr_error *mr_client_error(const struct mr_client *c);

/* Models this session may use: *n of them, owned by the client. */
const struct mr_model *mr_models(const struct mr_client *c, size_t *n);

/* One model by name, or NULL. Valid as long as the client. */
const struct mr_model *mr_model_find(const struct mr_client *c, const char *name);

/* Send n_rows rows to `model` and wait for all answers, written to out (n_rows x row_out_bytes).
 * More rows than one datagram holds are split; where one row is larger, each request takes as many
 * datagrams as it needs. -EMSGSIZE when a row is too large for that. No other request may be in flight. Returns 0 when
 * every row was answered with a result. Otherwise -EREMOTEIO with the first other status in
 * *status (and *retry_after_us, may be NULL); out is then incomplete. -ENOENT no such model,
 * -EINVAL no rows, -EBUSY, -ETIMEDOUT (MR_UNANSWERED), -EIO socket, -EKEYEXPIRED session over. */
int mr_infer(struct mr_client *c, const char *model, const void *rows, uint32_t n_rows, void *out,
	enum mr_status *status, uint32_t *retry_after_us);

/* Send one request and return at once; the rows are copied. `tag` comes back with the answer.
 *
 * More than model->datagram_rows rows are sent and answered in up to 16 datagrams. What is lost of them
 * is repaired by retries: of the request by sending it again, of the answer by its first datagram, which
 * has the server send the answer again without computing or charging it anew. Each datagram of a request
 * costs one limiter unit more than the rows do, so many small rows are cheaper in requests of
 * datagram_rows.
 *
 * 0, -EAGAIN too many in flight (poll first), -EMSGSIZE more than model->max_rows (the error says how many
 * bytes), -ENOENT, -EINVAL, -ENOMEM, -EIO, -EKEYEXPIRED. */
int mr_submit(struct mr_client *c, const struct mr_model *model, const void *rows, uint32_t n_rows,
	uint64_t tag);

/* Take up to `max` (64 at most) results; wait up to timeout_ms for the first (0 = do not wait).
 * Sends due retries and renews the session when half its life has passed, which may hold one call for
 * up to https_timeout_ms; nothing else renews it, so a client that is idle for long calls this now and
 * then. Returns how many were written to results[], 0 when none, or -EIO when a datagram could not be
 * sent or received; results that are there are handed out first. */
int mr_poll(struct mr_client *c, struct mr_result *results, int max, int timeout_ms);

/* Requests submitted and not yet handed out by mr_poll(). */
uint32_t mr_in_flight(const struct mr_client *c);

void mr_counters_get(const struct mr_client *c, struct mr_counters *out);
