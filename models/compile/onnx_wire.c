/* SPDX-License-Identifier: BSD-3-Clause
 * Bounded protobuf unpacking and tensor access: see onnx_wire.h.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "abi/wire.h"
#include "models/compile/onnx_wire.h"

enum { ALLOC_HEAD = 16, ALLOC_PER_BYTE = 16, ALLOC_BASE = 1 << 20 };

struct scan {
	uint64_t messages;
	struct error *err;
};

struct span {
	const uint8_t *at, *end;
};

/* One varint (at most ten bytes); false when it is cut off or too long. */
static bool varint(struct span *s, uint64_t *value)
{
	*value = 0;
	for (int shift = 0; shift < 70 && s->at < s->end; shift += 7) {
		uint8_t byte = *s->at++;

		if (shift < 64)
			*value |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80))
			return true;
	}
	return false;
}

/* Step over one field; *payload is its bytes when it is length-delimited, else empty. */
static bool field(struct span *s, uint64_t *tag, struct span *payload)
{
	uint64_t n;

	*payload = (struct span){s->at, s->at};
	if (!varint(s, tag))
		return false;
	switch (*tag & 7) {
	case 0:
		return varint(s, &n);
	case 1:
		n = 8;
		break;
	case 2:
		if (!varint(s, &n))
			return false;
		break;
	case 5:
		n = 4;
		break;
	default:
		return false; /* groups and undefined wire types */
	}
	if (n > (uint64_t)(s->end - s->at))
		return false;
	if ((*tag & 7) == 2)
		*payload = (struct span){s->at, s->at + n};
	s->at += n;
	return true;
}

/* Recursion is bounded by ONNX_MAX_DEPTH. */
static int scan_message(
	struct scan *scan, const ProtobufCMessageDescriptor *type, struct span s, int depth)
{
	if (depth > ONNX_MAX_DEPTH)
		return error_set(
			scan->err, -EINVAL, "messages nested deeper than %d", ONNX_MAX_DEPTH);
	if (++scan->messages > ONNX_MAX_MESSAGES)
		return error_set(scan->err, -EFBIG, "more than %d messages", ONNX_MAX_MESSAGES);
	while (s.at < s.end) {
		const ProtobufCFieldDescriptor *f;
		struct span payload;
		uint64_t tag;
		int rc;

		if (!field(&s, &tag, &payload) || tag >> 3 > UINT32_MAX)
			return error_set(scan->err, -EINVAL,
				"truncated or malformed protobuf in a %s", type->short_name);
		f = protobuf_c_message_descriptor_get_field(type, (unsigned)(tag >> 3));
		if (!f || f->type != PROTOBUF_C_TYPE_MESSAGE || (tag & 7) != 2)
			continue;
		rc = scan_message(scan, f->descriptor, payload, depth + 1);
		if (rc)
			return rc;
	}
	return 0;
}

struct budget {
	size_t left_bytes;
};

static void *budget_alloc(void *data, size_t size)
{
	struct budget *b = data;

	if (size > b->left_bytes)
		return NULL;
	b->left_bytes -= size;
	return malloc(size ? size : 1);
}

/* Not given back to the budget: it bounds all that is ever allocated. */
static void budget_free(void *data, void *pointer)
{
	(void)data;
	free(pointer);
}

int onnx_unpack(const ProtobufCMessageDescriptor *type, const uint8_t *data, size_t bytes,
	ProtobufCMessage **out, struct error *err)
{
	struct scan scan = {.err = err};
	struct budget budget = {ALLOC_BASE + bytes * ALLOC_PER_BYTE};
	ProtobufCAllocator allocator = {budget_alloc, budget_free, &budget};
	int rc;

	*out = NULL;
	if (bytes > ONNX_MAX_BYTES)
		return error_set(err, -EFBIG, "%zu bytes, limit %d", bytes, ONNX_MAX_BYTES);
	rc = scan_message(&scan, type, (struct span){data, data + bytes}, 0);
	if (rc)
		return rc;
	*out = protobuf_c_message_unpack(type, &allocator, bytes, data);
	if (!*out)
		return error_set(err, -EINVAL,
			"malformed protobuf, or more small messages than its "
			"%zu bytes justify",
			bytes);
	return 0;
}

void onnx_free(ProtobufCMessage *message)
{
	ProtobufCAllocator allocator = {budget_alloc, budget_free, NULL};

	if (message)
		protobuf_c_message_free_unpacked(message, &allocator);
}

const char *onnx_type_name(int32_t type)
{
	const ProtobufCEnumValue *v = protobuf_c_enum_descriptor_get_value(
		&onnx__tensor_proto__data_type__descriptor, type);

	return v ? v->name : "an unknown type";
}

static int tensor_shape(const Onnx__TensorProto *t, struct onnx_tensor *out, struct error *err)
{
	if (t->n_dims > sizeof(out->dims) / sizeof(out->dims[0]))
		return error_set(err, -EINVAL, "tensor '%s' has %zu dimensions, limit 8", out->name,
			t->n_dims);
	out->rank = (uint32_t)t->n_dims;
	out->elements = 1;
	for (size_t i = 0; i < t->n_dims; i++) {
		out->dims[i] = t->dims[i];
		if (t->dims[i] < 0 ||
			__builtin_mul_overflow(
				out->elements, (uint64_t)t->dims[i], &out->elements) ||
			out->elements > ONNX_MAX_BYTES)
			return error_set(err, -EINVAL,
				"tensor '%s' dimension %zu is %ld: negative, "
				"or more than 2^30 elements",
				out->name, i, t->dims[i]);
	}
	return 0;
}

uint32_t onnx_wire_dtype(int32_t type)
{
	switch (type) {
	case ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT:
		return WIRE_F32;
	case ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT16:
		return WIRE_F16;
	case ONNX__TENSOR_PROTO__DATA_TYPE__BFLOAT16:
		return WIRE_BF16;
	case ONNX__TENSOR_PROTO__DATA_TYPE__INT8:
		return WIRE_I8;
	case ONNX__TENSOR_PROTO__DATA_TYPE__UINT8:
		return WIRE_U8;
	case ONNX__TENSOR_PROTO__DATA_TYPE__INT32:
		return WIRE_I32;
	case ONNX__TENSOR_PROTO__DATA_TYPE__INT64:
		return WIRE_I64;
	case ONNX__TENSOR_PROTO__DATA_TYPE__BOOL:
		return WIRE_BOOL;
	default:
		return 0;
	}
}

/* Types narrower than 32 bits travel one per int32: cut them to size. */
static const void *narrowed(const struct onnx_tensor *t, const int32_t *from, struct arena *arena)
{
	size_t size = wire_dtype_bytes(t->dtype);
	uint8_t *to = arena_alloc(arena, t->elements ? t->elements : 1, size);

	for (uint64_t i = 0; to && i < t->elements; i++)
		memcpy(to + i * size, &from[i], size); /* little-endian */
	return to;
}

/* The values lie in raw_data or in the typed field; their number must be exactly the shape's. */
static int tensor_data(
	const Onnx__TensorProto *t, struct onnx_tensor *out, struct arena *arena, struct error *err)
{
	size_t size = wire_dtype_bytes(out->dtype);
	uint64_t have = out->dtype == WIRE_F32   ? t->n_float_data
			: out->dtype == WIRE_I64 ? t->n_int64_data
						 : t->n_int32_data;
	bool raw = t->has_raw_data && t->raw_data.len;

	if (raw && (have || t->raw_data.len % size))
		return error_set(err, -EINVAL,
			"tensor '%s': raw_data of %zu bytes, and %lu typed values", out->name,
			t->raw_data.len, have);
	if (raw)
		have = t->raw_data.len / size;
	if (have != out->elements)
		return error_set(err, -EINVAL, "tensor '%s' holds %lu values, its shape says %lu",
			out->name, have, out->elements);
	if (raw)
		out->data = t->raw_data.data;
	else if (out->dtype == WIRE_F32)
		out->data = t->float_data;
	else if (out->dtype == WIRE_I64)
		out->data = t->int64_data;
	else if (out->dtype == WIRE_I32)
		out->data = t->int32_data;
	else
		out->data = narrowed(out, t->int32_data, arena);
	return out->data || !have ? 0 : error_set(err, -ENOMEM, "no memory for '%s'", out->name);
}

int onnx_tensor_read(
	const Onnx__TensorProto *t, struct arena *arena, struct onnx_tensor *out, struct error *err)
{
	int rc;

	*out = (struct onnx_tensor){.name = t->name ? t->name : "", .type = t->data_type};
	if ((t->has_data_location &&
		    t->data_location != ONNX__TENSOR_PROTO__DATA_LOCATION__DEFAULT) ||
		t->n_external_data)
		return error_set(err, -EINVAL,
			"tensor '%s' keeps its data in another file: external data is not "
			"supported",
			out->name);
	if (t->segment)
		return error_set(
			err, -EINVAL, "tensor '%s' is a segment: not supported", out->name);
	rc = tensor_shape(t, out, err);
	if (rc)
		return rc;
	out->dtype = onnx_wire_dtype(out->type);
	if (!out->dtype)
		return error_set(err, -ENOTSUP, "tensor '%s' is %s, which is not supported",
			out->name, onnx_type_name(out->type));
	return tensor_data(t, out, arena, err);
}
