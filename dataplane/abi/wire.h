/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
 * Datagram protocol v1: what a client and the dataplane say to each other inside one UDP payload.
 *
 *   0      1       2        4           8                 16                            n-16     n
 *   +------+-------+--------+-----------+-----------------+-----------------------------+--------+
 *   | type | flags | lane   | key id    | counter         | ciphertext                  | tag    |
 *   +------+-------+--------+-----------+-----------------+-----------------------------+--------+
 *   |<------------- clear, all of it AAD ---------------->|
 *
 *   ciphertext of a request: struct wire_request, then rows;  of a reply: struct wire_reply, then rows.
 *   A row is the concatenation of all inputs (outputs) in artifact order, each padded to 4 bytes.
 *
 * Little-endian. AES-256-GCM; nonce = IV xor (le16 lane | 0x0000 | le64 counter). The counter is
 * per (session, direction, lane), starts at 0, never resets and never repeats under one key.
 *
 * Segment size: protocol.md says 1,152 bytes of row data in all but the last segment; that would
 * make 1,208-byte payloads (16 + 24 + 1,152 + 16) against its own 1,200-byte cap. The cap is what
 * the network enforces, so a full segment carries WIRE_SEGMENT_ROW_BYTES = 1,144.
 *
 * Segments: a request or reply whose rows are larger goes in 2..16 datagrams on one lane, each with all
 * of the header and under a counter of its own; the size of all rows decides how many, all but the last
 * are full. A server keeps what has come of a request for 100 ms from its first segment, of four
 * requests a session; each segment costs one limiter unit, the model's cost is charged when the last one
 * is there.
 *
 * Retries: the same text, request id included, under new counters. While the server keeps the reply, the
 * request's segment 0 alone brings all of it again, for one unit: so is one lost segment of a reply
 * asked for. When it is not kept (a server is free to forget), all segments ask for it anew: computed and
 * charged again. The same id with another text is a BAD_REQUEST.
 */
#pragma once

#include "abi/types.h"

enum {
	WIRE_VERSION = 1,
	WIRE_HEADER_BYTES = 16,
	WIRE_TAG_BYTES = 16,
	WIRE_KEY_BYTES = 32,
	WIRE_IV_BYTES = 12,
	WIRE_MAX_LANES = 8,
	WIRE_MAX_PAYLOAD_BYTES = 1200, /* one UDP payload, unless a larger MTU was probed */
	WIRE_REQUEST_BYTES = 24,
	WIRE_REPLY_BYTES = 24,
	WIRE_SEGMENT_ROW_BYTES = 1144,
	WIRE_MAX_SEGMENTS = 16,
	WIRE_MIN_PAYLOAD_BYTES = WIRE_HEADER_BYTES + WIRE_REQUEST_BYTES + WIRE_TAG_BYTES,
	WIRE_MODEL_NAME_BYTES = 64, /* longest model name with its terminating zero */
};

/* First byte: version in the high nibble, kind in the low one. Anything else is dropped. */
enum wire_type {
	WIRE_TYPE_REQUEST = WIRE_VERSION << 4 | 1,
	WIRE_TYPE_REPLY = WIRE_VERSION << 4 | 2,
};

/* flags[1:0] = key epoch mod 4; all other bits must be 0. */
enum { WIRE_FLAG_EPOCH_MASK = 0x03 };

/* Ratchet: only the client steps, when it seals, exactly one epoch whatever has passed: after the first
 * WIRE_EPOCH_FIRST datagrams of a session, then after WIRE_EPOCH_DATAGRAMS over all lanes (half of
 * what RFC 9001 appendix B allows AES-GCM at 2 KiB) or WIRE_EPOCH_S seconds. But the second step and later
 * ones only WIRE_EPOCH_MIN_S after the first answer under the present epoch: without one the server may
 * never have heard of it, and knows no further than it; and so long it may need to have the next keys
 * ready (tests/spin/ratchet.pml). A reply is sealed in its request's epoch. */
enum {
	WIRE_EPOCH_FIRST = 100,
	WIRE_EPOCH_DATAGRAMS = 1 << 27,
	WIRE_EPOCH_S = 120,
	WIRE_EPOCH_MIN_S = 4,
};

struct wire_header {
	uint8_t type;  /* enum wire_type */
	uint8_t flags; /* WIRE_FLAG_EPOCH_MASK */
	le16 lane;     /* < WIRE_MAX_LANES */
	le32 key_id;   /* random, chosen by the server */
	le64 counter;
} MR_PACKED;

enum wire_dtype {
	WIRE_F32 = 1,
	WIRE_F16 = 2,
	WIRE_BF16 = 3,
	WIRE_I8 = 4,
	WIRE_U8 = 5,
	WIRE_I32 = 6,
	WIRE_I64 = 7,
	WIRE_BOOL = 8,
	WIRE_DTYPE_END,
};

/* The Open Inference Protocol's name of `dtype`, "?" for a value that is no dtype. */
static inline const char *wire_dtype_name(uint32_t dtype)
{
	static const char *const names[WIRE_DTYPE_END] = {[WIRE_F32] = "FP32", [WIRE_F16] = "FP16", [WIRE_BF16] = "BF16",
		[WIRE_I8] = "INT8", [WIRE_U8] = "UINT8", [WIRE_I32] = "INT32", [WIRE_I64] = "INT64", [WIRE_BOOL] = "BOOL"};

	return dtype && dtype < WIRE_DTYPE_END ? names[dtype] : "?";
}

/* Bytes of one element of `dtype`, 0 for a value that is no dtype. */
static inline uint32_t wire_dtype_bytes(uint32_t dtype)
{
	switch (dtype) {
	case WIRE_F32:
	case WIRE_I32:
		return 4;
	case WIRE_F16:
	case WIRE_BF16:
		return 2;
	case WIRE_I8:
	case WIRE_U8:
	case WIRE_BOOL:
		return 1;
	case WIRE_I64:
		return 8;
	default:
		return 0;
	}
}

struct wire_request {
	le64 request_id;    /* the client's; a retry keeps it and takes a new counter */
	le32 model_id;      /* wire_model_id() of the model's name */
	le32 deadline_us;   /* from arrival; 0 = none */
	uint8_t dtype;      /* enum wire_dtype of the first input */
	uint8_t segment_index;
	uint8_t segment_count; /* 1..WIRE_MAX_SEGMENTS */
	uint8_t reserved;      /* 0 */
	le16 rows;             /* >= 1 */
	le16 reserved2;        /* 0 */
} MR_PACKED;

/* Exactly one of these answers every completed authenticated request. */
enum wire_status {
	WIRE_RESULT = 0,
	WIRE_BAD_REQUEST = 1,
	WIRE_UNKNOWN_MODEL = 2,
	WIRE_RATE_LIMITED = 3,
	WIRE_QUOTA_EXHAUSTED = 4,
	WIRE_OVERLOADED = 5,
	WIRE_DEADLINE_EXCEEDED = 6,
	WIRE_NOT_LICENSED = 7,
	WIRE_INTERNAL = 8,
	WIRE_STATUS_END,
};

/* wire_reply.detail of a BAD_REQUEST: which rule the request broke. */
enum wire_reason {
	WIRE_REASON_NONE = 0,
	WIRE_REASON_RESERVED = 1,   /* a reserved field is not 0 */
	WIRE_REASON_DTYPE = 2,      /* dtype is not the model's first input's */
	WIRE_REASON_ROWS = 3,       /* 0 rows, or more than the model's largest batch */
	WIRE_REASON_SIZE = 4,       /* row bytes are not rows x the model's row size */
	WIRE_REASON_SEGMENTS = 5,   /* segment fields out of range, contradictory, or not offered */
	WIRE_REASON_REPLY_SIZE = 6, /* the reply would not fit WIRE_MAX_SEGMENTS datagrams */
	WIRE_REASON_NOT_FINITE = 7, /* an f32 input row holds NaN or Inf and the model refuses them */
	WIRE_REASON_OTHER_TEXT = 8, /* the request id was used before, with another plaintext */
	WIRE_REASON_UNPROVEN = 9,   /* the reply is too large for an address that is not proven yet */
};

/* Path challenge: a session whose data address is not that of its TLS connection is provisional; its
 * results may be WIRE_UNPROVEN_FACTOR times as large as the datagram that asked for them, no larger,
 * until the client has shown that it receives there. It sends a request to model id 0 (no model's) with
 * one row of 8 bytes, dtype U8. The answer is a RESULT with one such row, the session's challenge, and
 * detail 1 if the request's row was that challenge: the address is proven from then on. A lost answer
 * is asked for again. Such a request costs one unit, like any datagram. */
enum { WIRE_PATH_MODEL = 0, WIRE_PATH_BYTES = 8, WIRE_UNPROVEN_FACTOR = 3 };

struct wire_reply {
	le64 request_id;
	le32 model_id;
	uint8_t status; /* enum wire_status */
	uint8_t dtype;  /* of the first output; 0 unless WIRE_RESULT */
	uint8_t segment_index;
	uint8_t segment_count;
	le16 rows;           /* 0 unless WIRE_RESULT */
	le16 detail;         /* WIRE_RESULT: model version mod 2^16; WIRE_BAD_REQUEST: enum wire_reason */
	le32 retry_after_us; /* RATE_LIMITED, QUOTA_EXHAUSTED, OVERLOADED: when to try again; else 0 */
} MR_PACKED;

/* Key schedule: HKDF-SHA256 (RFC 5869) over the 32-byte epoch secret that TLS delivered.
 *   key  = Expand(secret_n, label || le32 key_id, 32),  iv = Expand(..., 12)
 *   secret_{n+1} = Expand(secret_n, WIRE_LABEL_RATCHET || le32 key_id, 32), then secret_n is wiped.
 * Labels have no terminating zero in the info string. Test vector: tests/unit/test_wire_keys.c,
 * secret = 00 01 .. 1f, key id 0x01020304.
 */
#define WIRE_LABEL_C2S_KEY "millrace v1 c2s key"
#define WIRE_LABEL_C2S_IV "millrace v1 c2s iv"
#define WIRE_LABEL_S2C_KEY "millrace v1 s2c key"
#define WIRE_LABEL_S2C_IV "millrace v1 s2c iv"
#define WIRE_LABEL_RATCHET "millrace v1 ratchet"

/* Nonce of one datagram: out = iv xor (le16 lane | 0x0000 | le64 counter). */
MR_ALWAYS_INLINE void wire_nonce(uint8_t out[WIRE_IV_BYTES], const uint8_t iv[WIRE_IV_BYTES],
	uint16_t lane, uint64_t counter)
{
	uint32_t head;
	uint64_t tail;

	__builtin_memcpy(&head, iv, 4);
	__builtin_memcpy(&tail, iv + 4, 8);
	head ^= lane;
	tail ^= counter;
	__builtin_memcpy(out, &head, 4);
	__builtin_memcpy(out + 4, &tail, 8);
}

/* Model id of a name: 32-bit FNV-1a. Stable per name; control refuses a name whose id collides, or is
 * WIRE_PATH_MODEL. */
static inline uint32_t wire_model_id(const char *name)
{
	uint32_t h = 2166136261u;

	for (; *name; name++)
		h = (h ^ (uint8_t)*name) * 16777619u;
	return h;
}

STATIC_ASSERT(sizeof(struct wire_header) == WIRE_HEADER_BYTES, "wire_header");
STATIC_ASSERT(sizeof(struct wire_request) == WIRE_REQUEST_BYTES, "wire_request");
STATIC_ASSERT(sizeof(struct wire_reply) == WIRE_REPLY_BYTES, "wire_reply");
STATIC_ASSERT(WIRE_HEADER_BYTES + WIRE_REQUEST_BYTES + WIRE_SEGMENT_ROW_BYTES + WIRE_TAG_BYTES ==
	WIRE_MAX_PAYLOAD_BYTES, "a full segment fills the payload");
