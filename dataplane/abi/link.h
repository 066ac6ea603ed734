/* SPDX-License-Identifier: BSD-3-Clause
 * Messages on dataplane.sock (SOCK_SEQPACKET, the dataplane listens): who each side is, and offers of
 * the descriptors it holds. Everything else goes through the mailbox.
 *
 * Start: the dataplane takes its configuration from fd 3, or waits for LINK_OFFER of LINK_FD_CONFIG
 * before it starts EAL. Attach: control connects; both send LINK_HELLO; then each side sends one
 * LINK_OFFER per descriptor it holds (fd in SCM_RIGHTS) and LINK_OFFERED when it has none left; the
 * other adopts what it lacks (same kind and number, equal hash = has it already). So either process
 * may be new and nothing is lost. One control at a time: a newer connection replaces the older.
 */
#pragma once

#include "abi/model_file.h"
#include "abi/types.h"

enum { LINK_VERSION = 1 };
#define LINK_MAGIC 0x4b4c524du /* "MRLK" */

enum link_kind {
	LINK_HELLO = 1,
	LINK_OFFER = 2,   /* with one fd */
	LINK_OFFERED = 3, /* end of my offers */
	LINK_REFUSED = 4, /* text says why; the sender closes */
};

enum link_fd {
	LINK_FD_CONFIG = 1,   /* abi/config.h, write-sealed */
	LINK_FD_SESSIONS = 2, /* abi/session.h */
	LINK_FD_LIMITS = 3,   /* BPF map fd, or memfd when config.limits_fallback */
	LINK_FD_STATS = 4,    /* dataplane -> control, read-only description */
	LINK_FD_MAILBOX = 5,  /* dataplane -> control */
	LINK_FD_ARTIFACT = 6, /* read-only description of a write-sealed memfd; struct link_artifact */
	LINK_FD_TRACE = 8,    /* abi/trace.h: kept until CMD_TRACE_BEGIN, or until another is offered */
	LINK_FD_GATEWAY = 7,  /* abi/gateway.h: control makes it, a living dataplane offers it back */
};

enum link_model_slot { LINK_SLOT_NONE = 0, LINK_SLOT_NEXT = 1, LINK_SLOT_CURRENT = 2,
	LINK_SLOT_PREVIOUS = 3 };

struct link_artifact {
	uint32_t model_index;  /* < DP_MAX_MODELS; bit of limit_slot.model_mask */
	uint32_t model_slot;   /* enum link_model_slot: where the sender has it */
	uint64_t number;       /* control's number for this artifact, never reused in one run */
	uint8_t artifact_id[MODEL_FILE_HASH_BYTES];
};

struct link_message {
	uint32_t magic;
	uint16_t version;
	uint16_t kind;    /* enum link_kind */
	uint32_t fd_kind; /* enum link_fd, of an offer */
	uint32_t pid;     /* of the sender */
	uint64_t bytes;   /* size of the offered region */
	struct link_artifact artifact; /* of LINK_FD_ARTIFACT */
	char text[96];    /* HELLO: program version; REFUSED: the reason */
};
