/* SPDX-License-Identifier: BSD-3-Clause
 * POST /v2/models/<name>/infer: the Open Inference Protocol over JSON, for clients without a datagram
 * session. The request joins the same pipeline as a datagram: same plan, same limiter, same answers.
 */
#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>

#include "control/gateway.h"
#include "control/http_reply.h"
#include "control/models.h"
#include "control/show.h"
#include "control/subscribers.h"

enum { MAX_NESTING = MODEL_FILE_MAX_RANK + 2, ID_BYTES = 128 };

/* One call under way. Freed when both the answer and the connection are done with it. */
struct infer {
	struct evhttp_request *req; /* NULL: the client has gone */
	struct gateway_job *job;    /* NULL: answered */
	char name[WIRE_MODEL_NAME_BYTES];
	struct model_file_header header; /* as it was when the request came */
	char id[ID_BYTES];
};

/* ---- JSON -> rows ---------------------------------------------------------------------------- */

/* Where the elements of one input go: element e of row r stands at base + r * stride + e * size. */
struct cursor {
	uint8_t *base;
	size_t stride;
	uint32_t dtype, elements, rows;
	uint64_t next; /* element of the whole tensor */
};

/* Range of each integer dtype; floats take any number. */
static bool put_integer(uint8_t *at, uint32_t dtype, json_int_t v)
{
	switch (dtype) {
	case WIRE_I8:
		*(int8_t *)at = (int8_t)v;
		return v >= INT8_MIN && v <= INT8_MAX;
	case WIRE_U8:
		*at = (uint8_t)v;
		return v >= 0 && v <= UINT8_MAX;
	case WIRE_BOOL:
		*at = (uint8_t)v;
		return v == 0 || v == 1;
	case WIRE_I32:
		memcpy(at, &(int32_t){(int32_t)v}, 4);
		return v >= INT32_MIN && v <= INT32_MAX;
	case WIRE_I64:
		memcpy(at, &(int64_t){v}, 8);
		return true;
	default:
		return false;
	}
}

static int put_number(struct cursor *c, const json_t *v)
{
	uint8_t *at;

	if (c->next >= (uint64_t)c->rows * c->elements)
		return -EOVERFLOW;
	at = c->base + c->next / c->elements * c->stride +
	     c->next % c->elements * wire_dtype_bytes(c->dtype);
	c->next++;
	if (c->dtype == WIRE_F32 && json_is_number(v)) {
		if (fabs(json_number_value(v)) > (double)FLT_MAX)
			return -ERANGE;
		memcpy(at, &(float){(float)json_number_value(v)}, 4);
		return 0;
	}
	if (json_is_boolean(v) && c->dtype == WIRE_BOOL) {
		*at = json_is_true(v);
		return 0;
	}
	return json_is_integer(v) && put_integer(at, c->dtype, json_integer_value(v)) ? 0 : -ERANGE;
}

/* Flat or nested, row-major. */
static int put_data(struct cursor *c, const json_t *data, uint32_t depth)
{
	const json_t *v;
	size_t i;
	int rc = 0;

	if (!json_is_array(data))
		return put_number(c, data);
	if (depth == MAX_NESTING)
		return -ELOOP;
	json_array_foreach(data, i, v) {
		rc = put_data(c, v, depth + 1);
		if (rc)
			break;
	}
	return rc;
}

/* Rows that `shape` speaks of, for an input of `io`; 0 = it does not fit. */
static uint32_t rows_of(const json_t *shape, const struct model_file_io *io)
{
	json_int_t rows = json_integer_value(json_array_get(shape, 0));

	if (json_array_size(shape) != io->rank + 1 || rows < 1 || rows > UINT16_MAX)
		return 0;
	for (uint32_t d = 0; d < io->rank; d++)
		if (json_integer_value(json_array_get(shape, d + 1)) != io->dims[d])
			return 0;
	return (uint32_t)rows;
}

static const json_t *input_named(const json_t *inputs, const char *name)
{
	const json_t *v;
	size_t i;

	json_array_foreach(inputs, i, v) {
		const char *n = json_string_value(json_object_get(v, "name"));

		if (n && !strcmp(n, name))
			return v;
	}
	return NULL;
}

/* Put input `k` of the model into `rows`. 0 or -EINVAL with err. */
static int take_input(const struct model_file_header *h, uint32_t k, const json_t *in, uint32_t n_rows,
	uint8_t *rows, struct error *err)
{
	const struct model_file_io *io = &h->inputs[k];
	const char *type = json_string_value(json_object_get(in, "datatype"));
	struct cursor c = {rows, h->row_in_bytes, io->dtype, io->elements, n_rows, 0};
	int rc;

	for (uint32_t i = 0; i < k; i++)
		c.base += h->inputs[i].row_bytes;
	if (json_object_get(json_object_get(in, "parameters"), "binary_data_size"))
		return error_set(err, -EINVAL,
			"input \"%.56s\": the binary tensor extension is not offered; send \"data\"", io->name);
	if (!type || strcmp(type, wire_dtype_name(io->dtype)))
		return error_set(err, -EINVAL, "input \"%.56s\" must have datatype %s", io->name,
			wire_dtype_name(io->dtype));
	if (rows_of(json_object_get(in, "shape"), io) != n_rows)
		return error_set(err, -EINVAL,
			"input \"%.56s\": the shape must be [rows, then the model's %u dimensions], rows alike for all inputs",
			io->name, io->rank);
	rc = put_data(&c, json_object_get(in, "data"), 0);
	if (rc == -ERANGE)
		return error_set(err, -EINVAL, "input \"%.56s\": element %llu is no %s", io->name,
			(unsigned long long)c.next - 1, wire_dtype_name(io->dtype));
	if (rc || c.next != (uint64_t)n_rows * io->elements)
		return error_set(err, -EINVAL, "input \"%.56s\": \"data\" must hold %llu numbers", io->name,
			(unsigned long long)n_rows * io->elements);
	return 0;
}

/* The request's rows in wire layout (malloc'ed), or NULL with err. */
static uint8_t *take_rows(const struct model_entry *m, const json_t *body, uint32_t *n_rows,
	struct error *err)
{
	const struct model_file_header *h = &m->header;
	const json_t *inputs = json_object_get(body, "inputs");
	uint8_t *rows;
	int rc = 0;

	if (!json_is_array(inputs) || json_array_size(inputs) != h->n_inputs) {
		error_set(err, -EINVAL, "\"inputs\" must be a list of %u", h->n_inputs);
		return NULL;
	}
	*n_rows = rows_of(json_object_get(input_named(inputs, h->inputs[0].name), "shape"), &h->inputs[0]);
	if (!*n_rows || *n_rows > gateway_max_rows(m)) {
		error_set(err, -EINVAL,
			"input \"%.56s\" is missing, or its shape is not [1..%u rows, then the model's %u dimensions]",
			h->inputs[0].name, gateway_max_rows(m), h->inputs[0].rank);
		return NULL;
	}
	rows = calloc(*n_rows, h->row_in_bytes);
	if (!rows)
		error_set(err, -ENOMEM, "out of memory");
	for (uint32_t k = 0; rows && !rc && k < h->n_inputs; k++)
		rc = take_input(h, k, input_named(inputs, h->inputs[k].name), *n_rows, rows, err);
	if (rc) {
		free(rows);
		return NULL;
	}
	return rows;
}

/* ---- rows -> JSON ---------------------------------------------------------------------------- */

static json_t *number_at(const uint8_t *at, uint32_t dtype)
{
	union { float f; int32_t i; int64_t l; } v = {0};

	memcpy(&v, at, wire_dtype_bytes(dtype));
	switch (dtype) {
	case WIRE_F32:
		return isfinite(v.f) ? json_real((double)v.f) : json_null(); /* JSON has no NaN */
	case WIRE_I32:
		return json_integer(v.i);
	case WIRE_I64:
		return json_integer(v.l);
	case WIRE_I8:
		return json_integer((int8_t)*at);
	case WIRE_BOOL:
		return json_boolean(*at);
	default:
		return json_integer(*at);
	}
}

static json_t *output(const struct model_file_header *h, uint32_t k, const struct gateway_answer *a)
{
	const struct model_file_io *io = &h->outputs[k];
	json_t *shape = json_pack("[I]", (json_int_t)a->rows), *data = json_array();
	const uint8_t *base = a->data;

	for (uint32_t i = 0; i < k; i++)
		base += h->outputs[i].row_bytes;
	for (uint32_t d = 0; d < io->rank; d++)
		json_array_append_new(shape, json_integer(io->dims[d]));
	for (uint32_t r = 0; r < a->rows; r++)
		for (uint32_t e = 0; e < io->elements; e++)
			json_array_append_new(data, number_at(base + (size_t)r * h->row_out_bytes +
				(size_t)e * wire_dtype_bytes(io->dtype), io->dtype));
	return json_pack("{s:s, s:s, s:o, s:o}", "name", io->name, "datatype",
		wire_dtype_name(io->dtype), "shape", shape, "data", data);
}

static void reply_result(struct infer *in, const struct gateway_answer *a)
{
	json_t *outputs = json_array(), *body;
	char version[16];

	for (uint32_t k = 0; k < in->header.n_outputs; k++)
		json_array_append_new(outputs, output(&in->header, k, a));
	snprintf(version, sizeof(version), "%u", a->detail);
	body = json_pack("{s:s, s:s, s:o}", "model_name", in->name, "model_version", version, "outputs",
		outputs);
	if (in->id[0])
		json_object_set_new(body, "id", json_string(in->id));
	http_reply_json(in->req, 200, body);
}

static void reply_refusal(struct infer *in, const struct gateway_answer *a)
{
	static const struct {
		int http;
		const char *code, *text;
	} by_status[WIRE_STATUS_END] = {
		[WIRE_BAD_REQUEST] = {400, "bad_request", "the model refuses this request"},
		[WIRE_UNKNOWN_MODEL] = {404, "not_found", "your plan has no such model"},
		[WIRE_RATE_LIMITED] = {429, "rate_limited", "over the plan's rate"},
		[WIRE_QUOTA_EXHAUSTED] = {429, "quota_exhausted", "suspended, or the quota is used up"},
		[WIRE_OVERLOADED] = {503, "overloaded", "overloaded"},
		[WIRE_DEADLINE_EXCEEDED] = {504, "deadline_exceeded", "deadline exceeded"},
		[WIRE_NOT_LICENSED] = {403, "not_licensed", "this appliance has no valid licence"},
		[WIRE_INTERNAL] = {500, "internal", "the dataplane gave no answer"},
	};

	if (a->retry_after_us)
		http_reply_retry_after(in->req, a->retry_after_us);
	http_reply_error(in->req, by_status[a->status].http, by_status[a->status].code, "%s%s",
		by_status[a->status].text, a->retry_after_us ? "; try again later" : "");
}

/* ---- the call -------------------------------------------------------------------------------- */

static void on_gone(struct evhttp_connection *evcon, void *arg)
{
	struct infer *in = arg;

	(void)evcon;
	if (in->job)
		gateway_forget(in->job);
	free(in);
}

static void on_answer(const struct gateway_answer *a, void *arg)
{
	struct infer *in = arg;

	in->job = NULL;
	evhttp_connection_set_closecb(evhttp_request_get_connection(in->req), NULL, NULL);
	if (a->status == WIRE_RESULT)
		reply_result(in, a);
	else
		reply_refusal(in, a);
	free(in);
}

static struct infer *infer_new(struct http_call *call, const struct model_entry *m, const json_t *body)
{
	struct infer *in = calloc(1, sizeof(*in));

	if (!in)
		return NULL;
	in->req = call->req;
	in->header = m->header;
	snprintf(in->name, sizeof(in->name), "%s", m->name);
	snprintf(in->id, sizeof(in->id), "%s",
		json_string_value(json_object_get(body, "id")) ? : "");
	return in;
}

static void run(struct http_call *call, const struct model_entry *m, uint32_t subscriber,
	const json_t *body)
{
	struct error err = {0};
	uint32_t n_rows = 0;
	uint8_t *rows = take_rows(m, body, &n_rows, &err);
	struct infer *in;
	int rc;

	if (!rows) {
		http_reply_error(call->req, 400, "bad_request", "%s", err.text);
		return;
	}
	in = infer_new(call, m, body);
	rc = in ? gateway_infer(call->ctl, subscriber, m, n_rows, rows, on_answer, in, &in->job, &err) :
		error_set(&err, -ENOMEM, "out of memory");
	free(rows);
	if (rc == 0) {
		evhttp_connection_set_closecb(evhttp_request_get_connection(call->req), on_gone, in);
		return;
	}
	free(in);
	http_reply_error(call->req, rc == -EINVAL || rc == -EFBIG ? 400 : 503, "unavailable", "%s",
		err.text);
}

/* JSON has no half floats: such models are served over datagrams only. */
static bool json_can_carry(const struct model_file_io *io, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (io[i].dtype == WIRE_F16 || io[i].dtype == WIRE_BF16)
			return false;
	return true;
}

void api_v2_infer(struct http_call *call, const struct model_entry *m)
{
	struct evbuffer *input = evhttp_request_get_input_buffer(call->req);
	size_t n = evbuffer_get_length(input);
	struct subscriber sub;
	json_error_t at;
	json_t *body;

	if (!api_v1_authenticate(call, &sub))
		return;
	if (!json_can_carry(m->header.inputs, m->header.n_inputs) ||
		!json_can_carry(m->header.outputs, m->header.n_outputs)) {
		http_reply_error(call->req, 501, "unsupported",
			"this model takes half floats, which JSON cannot carry; use a datagram session");
		return;
	}
	body = json_loadb((const char *)evbuffer_pullup(input, -1), n, JSON_REJECT_DUPLICATES, &at);
	if (json_is_object(body))
		run(call, m, sub.index, body);
	else
		http_reply_error(call->req, 400, "bad_request", "the body is no JSON object: %s",
			body ? "it is of another type" : at.text);
	json_decref(body);
}
