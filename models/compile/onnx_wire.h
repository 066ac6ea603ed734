/* SPDX-License-Identifier: BSD-3-Clause
 * The border to hostile bytes: an ONNX protobuf message becomes protobuf-c structs, or is refused.
 *
 * protobuf-c recurses once per nested message and allocates about a hundred bytes for a two-byte
 * one, so both are bounded before and while it runs: a scan with our own walker limits depth and
 * number of messages, and a counting allocator limits memory to a multiple of the input.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "models/compile/arena.h"
#include "onnx/onnx.pb-c.h"

enum {
	ONNX_MAX_DEPTH = 16, /* model, graph, node, attribute, tensor, ... */
	ONNX_MAX_MESSAGES = 4000000,
	ONNX_MAX_BYTES = 1 << 30,
};

/* Unpack `bytes` as a message of `type`. *out is freed with onnx_free(). -EINVAL, -EFBIG or -ENOMEM
 * with err->text. The input is not referenced afterwards. */
int onnx_unpack(const ProtobufCMessageDescriptor *type, const uint8_t *data, size_t bytes,
	ProtobufCMessage **out, struct error *err);
void onnx_free(ProtobufCMessage *message); /* NULL is allowed */

/* A tensor with its data found and its size checked. */
struct onnx_tensor {
	const char *name; /* never NULL */
	int32_t type;     /* ONNX__TENSOR_PROTO__DATA_TYPE__* */
	uint32_t dtype;   /* the same as enum wire_dtype */
	uint32_t rank;
	int64_t dims[8];
	uint64_t elements; /* product of dims; 1 for a scalar */
	const void *data;  /* `elements` of dtype, inside the message or the arena */
};

/* Find a tensor's values. Refused by name: external data, segments, negative dimensions, more than
 * 8 of them, element counts that do not match the data, types without a wire dtype (-ENOTSUP). */
int onnx_tensor_read(const Onnx__TensorProto *t, struct arena *arena, struct onnx_tensor *out,
	struct error *err);

const char *onnx_type_name(int32_t type);

/* enum wire_dtype of an ONNX element type, 0 if there is none. */
uint32_t onnx_wire_dtype(int32_t type);
