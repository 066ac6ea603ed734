/* SPDX-License-Identifier: BSD-3-Clause
 * Reading control's session answers: see session_json.h.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <openssl/evp.h>

#include "abi/model_file.h"
#include "client/session_json.h"

enum { MAX_LIFETIME_S = 7 * 86400, SECRET_BASE64 = 44, MAX_IO_BYTES = 64 << 20 };

/* ---- one field at a time ------------------------------------------------------------------- */

static int get_u32(const json_t *o, const char *name, uint32_t min, uint32_t max, uint32_t *out,
	struct error *err)
{
	const json_t *v = json_object_get(o, name);

	if (!json_is_integer(v))
		return error_set(err, -EPROTO, "session: \"%s\" is missing or no integer", name);
	if (json_integer_value(v) < min || json_integer_value(v) > max)
		return error_set(err, -EPROTO, "session: \"%s\" is %lld, not within %u..%u", name,
			(long long)json_integer_value(v), min, max);
	*out = (uint32_t)json_integer_value(v);
	return 0;
}

/* Any number from 0 to 2^53; a plan's rate may be fractional. */
static int get_real(const json_t *o, const char *name, double *out, struct error *err)
{
	const json_t *v = json_object_get(o, name);

	if (!json_is_number(v) || !(json_number_value(v) >= 0 && json_number_value(v) <= 0x1p53))
		return error_set(err, -EPROTO, "session: \"%s\" is missing or no number >= 0", name);
	*out = json_number_value(v);
	return 0;
}

/* Printable, non-empty unless the field is optional, shorter than cap. */
static int get_text(const json_t *o, const char *name, char *out, size_t cap, bool optional,
	struct error *err)
{
	const json_t *v = json_object_get(o, name);
	size_t n;

	out[0] = '\0';
	if (optional && (!v || json_is_null(v)))
		return 0;
	if (!json_is_string(v))
		return error_set(err, -EPROTO, "session: \"%s\" is missing or no string", name);
	n = json_string_length(v);
	if ((!n && !optional) || n >= cap)
		return error_set(err, -EPROTO, "session: \"%s\" has %zu bytes, not 1..%zu", name, n,
			cap - 1);
	for (size_t i = 0; i < n; i++) {
		if ((unsigned char)json_string_value(v)[i] < 0x20)
			return error_set(err, -EPROTO, "session: \"%s\" is not printable", name);
	}
	memcpy(out, json_string_value(v), n);
	out[n] = '\0';
	return 0;
}

static int get_address(const json_t *o, const char *name, int family, bool optional, char *out,
	struct error *err)
{
	unsigned char raw[16];
	int rc = get_text(o, name, out, SESSION_JSON_ADDRESS_BYTES, optional, err);

	if (rc || !*out)
		return rc;
	if (inet_pton(family == AF_UNSPEC ? (strchr(out, ':') ? AF_INET6 : AF_INET) : family, out,
		    raw) != 1)
		return error_set(err, -EPROTO, "session: \"%s\" is no IP address", name);
	return 0;
}

static int get_secret(const json_t *o, uint8_t out[WIRE_KEY_BYTES], struct error *err)
{
	const json_t *v = json_object_get(o, "secret");
	const char *text = json_string_value(v);
	uint8_t raw[SECRET_BASE64 / 4 * 3];
	int n = -1;

	/* 32 bytes are 43 digits and one "=". */
	if (text && json_string_length(v) == SECRET_BASE64 && text[43] == '=' && text[42] != '=')
		n = EVP_DecodeBlock(raw, (const unsigned char *)text, SECRET_BASE64);
	if (n == (int)sizeof(raw))
		memcpy(out, raw, WIRE_KEY_BYTES);
	explicit_bzero(raw, sizeof(raw));
	if (text) /* jansson frees its copy without wiping it */
		explicit_bzero((char *)(uintptr_t)text, json_string_length(v));
	if (n != (int)sizeof(raw))
		return error_set(err, -EPROTO, "session: \"secret\" is not 32 bytes in base64");
	return 0;
}

/* ---- models -------------------------------------------------------------------------------- */

/* Open Inference Protocol names of the dtypes. */
static uint8_t dtype_of(const char *name)
{
	for (uint8_t i = WIRE_F32; name && i < WIRE_DTYPE_END; i++)
		if (strcmp(wire_dtype_name(i), name) == 0)
			return i;
	return 0;
}

/* Sum of the padded sizes of one row of all tensors; *first = dtype of the first. */
static int tensors_bytes(const json_t *list, const char *name, uint64_t *bytes, uint8_t *first,
	struct error *err)
{
	size_t n = json_array_size(list), rank;

	*bytes = 0;
	if (n < 1 || n > MODEL_FILE_MAX_IO)
		return error_set(err, -EPROTO, "session: a model has %zu %s, not 1..%d", n, name,
			MODEL_FILE_MAX_IO);
	for (size_t i = 0; i < n; i++) {
		const json_t *t = json_array_get(list, i), *shape = json_object_get(t, "shape");
		uint8_t dtype = dtype_of(json_string_value(json_object_get(t, "datatype")));
		uint64_t one = wire_dtype_bytes(dtype);

		rank = json_array_size(shape);
		if (!dtype || !json_is_array(shape) || rank > MODEL_FILE_MAX_RANK)
			return error_set(err, -EPROTO, "session: bad datatype or shape in %s", name);
		for (size_t d = 0; d < rank; d++) {
			json_int_t dim = json_integer_value(json_array_get(shape, d));

			if (dim < 1 || dim > MAX_IO_BYTES || (one *= (uint64_t)dim) > MAX_IO_BYTES)
				return error_set(err, -EPROTO, "session: bad shape in %s", name);
		}
		*bytes += (one + 3) & ~3ull;
		if (!i)
			*first = dtype;
	}
	return 0;
}

/* What one datagram each way, and the model, allow. 0 = not even one row. */
/* Rows of the model that fit `bytes` either way. */
static uint32_t rows_in(const struct mr_model *m, uint32_t bytes)
{
	uint32_t row = m->row_in_bytes > m->row_out_bytes ? m->row_in_bytes : m->row_out_bytes;
	uint32_t fit = bytes / row;

	return fit < m->max_rows ? fit : m->max_rows;
}

static int parse_model(struct mr_model *m, const json_t *o, struct error *err)
{
	uint64_t in = 0, out = 0;
	int rc = get_text(o, "name", m->name, sizeof(m->name), false, err);

	rc = rc ? rc : get_u32(o, "id", 0, UINT32_MAX, &m->id, err);
	rc = rc ? rc : get_u32(o, "version", 1, UINT32_MAX, &m->version, err);
	rc = rc ? rc : get_u32(o, "max_rows", 1, MODEL_FILE_MAX_ROWS, &m->max_rows, err);
	rc = rc ? rc : get_u32(o, "cost_units", 1, UINT32_MAX, &m->cost_units, err);
	rc = rc ? rc : get_u32(o, "row_in_bytes", 1, MAX_IO_BYTES, &m->row_in_bytes, err);
	rc = rc ? rc : get_u32(o, "row_out_bytes", 1, MAX_IO_BYTES, &m->row_out_bytes, err);
	rc = rc ? rc : tensors_bytes(json_object_get(o, "inputs"), "inputs", &in, &m->input_dtype, err);
	rc = rc ? rc
		: tensors_bytes(json_object_get(o, "outputs"), "outputs", &out, &m->output_dtype, err);
	if (rc)
		return rc;
	if (m->id != wire_model_id(m->name))
		return error_set(err, -EPROTO, "session: model %s has another model's id", m->name);
	if (in != m->row_in_bytes || out != m->row_out_bytes)
		return error_set(err, -EPROTO, "session: row sizes of model %s contradict its shapes",
			m->name);
	m->datagram_rows = rows_in(m, WIRE_SEGMENT_ROW_BYTES);
	m->max_rows = rows_in(m, WIRE_MAX_SEGMENTS * WIRE_SEGMENT_ROW_BYTES);
	return 0;
}

static int parse_models(struct session_info *out, const json_t *list, struct error *err)
{
	size_t n = json_array_size(list);

	if (!json_is_array(list) || n > SESSION_JSON_MAX_MODELS)
		return error_set(err, -EPROTO, "session: \"models\" is no list of at most %d",
			SESSION_JSON_MAX_MODELS);
	for (size_t i = 0; i < n; i++) {
		int rc = parse_model(&out->models[i], json_array_get(list, i), err);

		if (rc)
			return rc;
		out->n_models++;
	}
	return 0;
}

/* ---- whole answers ------------------------------------------------------------------------- */

static int get_session_id(const json_t *o, char out[SESSION_JSON_ID_BYTES], struct error *err)
{
	int rc = get_text(o, "session_id", out, SESSION_JSON_ID_BYTES, false, err);

	if (!rc && (strlen(out) != 16 || strspn(out, "0123456789abcdef") != 16))
		rc = error_set(err, -EPROTO, "session: \"session_id\" is not 16 hex digits");
	return rc;
}

static int parse_session(struct session_info *out, const json_t *o, struct error *err)
{
	const json_t *plan = json_object_get(o, "plan");
	uint32_t port = 0;
	int rc = get_session_id(o, out->session_id, err);

	rc = rc ? rc : get_u32(o, "key_id", 0, UINT32_MAX, &out->key_id, err);
	rc = rc ? rc : get_secret(o, out->secret, err);
	rc = rc ? rc : get_u32(o, "lanes", 1, WIRE_MAX_LANES, &out->lanes, err);
	rc = rc ? rc : get_address(o, "address", AF_INET, true, out->address, err);
	rc = rc ? rc : get_address(o, "address6", AF_INET6, true, out->address6, err);
	rc = rc ? rc : get_address(o, "source", AF_UNSPEC, false, out->source, err);
	rc = rc ? rc : get_u32(o, "port", 1, UINT16_MAX, &port, err);
	rc = rc ? rc : get_u32(o, "expires_in_s", 1, MAX_LIFETIME_S, &out->expires_in_s, err);
	rc = rc ? rc : get_text(plan, "name", out->plan, sizeof(out->plan), true, err);
	rc = rc ? rc : get_real(plan, "rate", &out->rate, err);
	rc = rc ? rc : get_real(plan, "burst", &out->burst, err);
	rc = rc ? rc : parse_models(out, json_object_get(o, "models"), err);
	out->port = (uint16_t)port;
	out->provisional = json_is_true(json_object_get(o, "provisional"));
	if (!rc && !*out->address && !*out->address6)
		rc = error_set(err, -EPROTO, "session: neither \"address\" nor \"address6\" is given");
	return rc;
}

static json_t *load_object(const char *text, size_t n, struct error *err)
{
	json_error_t why;
	json_t *root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &why);

	if (root && json_is_object(root))
		return root;
	error_set(err, -EPROTO, "the answer is no JSON object%s%.100s", root ? "" : ": ",
		root ? "" : why.text);
	json_decref(root);
	return NULL;
}

int session_json_parse(struct session_info *out, const char *text, size_t n, struct error *err)
{
	json_t *root = load_object(text, n, err);
	int rc;

	memset(out, 0, sizeof(*out));
	if (!root)
		return -EPROTO;
	rc = parse_session(out, root, err);
	json_decref(root);
	if (rc)
		explicit_bzero(out, sizeof(*out));
	return rc;
}

int session_json_renewed(const char *session_id, uint32_t *expires_in_s, const char *text, size_t n,
	struct error *err)
{
	char id[SESSION_JSON_ID_BYTES];
	json_t *root = load_object(text, n, err);
	int rc;

	if (!root)
		return -EPROTO;
	rc = get_session_id(root, id, err);
	rc = rc ? rc : get_u32(root, "expires_in_s", 1, MAX_LIFETIME_S, expires_in_s, err);
	json_decref(root);
	if (!rc && strcmp(id, session_id) != 0)
		rc = error_set(err, -EPROTO, "the renewal answers another session");
	return rc;
}

void session_json_reason(char *out, size_t cap, int status, const char *text, size_t n)
{
	json_t *root = json_loadb(text, n, 0, NULL), *e = json_object_get(root, "error");
	const char *message = json_is_string(e) ? json_string_value(e)
						: json_string_value(json_object_get(e, "message"));
	const char *code = json_string_value(json_object_get(e, "code"));

	if (message)
		snprintf(out, cap, "%s%s%s%s", message, code ? " (" : "", code ? code : "",
			code ? ")" : "");
	else
		snprintf(out, cap, "the server answered HTTP status %d", status);
	for (char *p = out; *p; p++) {
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
	}
	json_decref(root);
}
