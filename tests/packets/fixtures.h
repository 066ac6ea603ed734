/* SPDX-License-Identifier: BSD-3-Clause
 * One table of frames that drives both the XDP program and the dataplane's parser: what the frame is,
 * how it is built, and what each of the two must say about it.
 *
 * The world of the table: a server 10.77.0.1 / fd77::1 on port 4433, clients 10.77.0.2 and fd77::2
 * with one live session each, and a few more sessions named below.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "abi/xdp_maps.h"

enum { FRAME_MAX = 2048, FIXTURE_PORT = 4433, FIXTURE_EDITS = 3 };

extern const uint8_t fixture_server_mac[6], fixture_client_mac[6];
extern const struct ip_addr fixture_server4, fixture_server6, fixture_client4, fixture_client6;

/* Live sessions of the table's world. */
struct fixture_session {
	uint32_t key_id;
	uint32_t subscriber;
	const struct ip_addr *source;
	bool shouting; /* its subscriber has used up plan and refusals */
};
enum { FIXTURE_SESSIONS = 4 };
extern const struct fixture_session fixture_sessions[FIXTURE_SESSIONS];

/* What a frame starts as; edits follow. */
enum frame_base { DATA4, DATA6, DATA4_VLAN, DATA6_VLAN, ARP, ND, ECHO4, ECHO6, TCP4 };

enum frame_layer { L2, L3, L4, PAYLOAD };

/* Put `value`, big-endian, into `bytes` bytes at `offset` of a layer. bytes 0 = no edit. */
struct frame_edit {
	enum frame_layer layer;
	uint16_t offset;
	uint8_t bytes;
	uint32_t value;
};

enum checksums {
	FIX,  /* recompute IP and UDP/ICMP checksums after the edits */
	KEEP, /* leave the base frame's: after an edit they are wrong */
};

struct frame {
	uint8_t data[FRAME_MAX];
	size_t n;
	size_t at[4]; /* where each enum frame_layer begins */
};

struct fixture {
	const char *what; /* a sentence */
	enum frame_base base;
	int resize; /* bytes to add at the end (zeros), or to cut off when negative */
	enum checksums checksums;
	struct frame_edit edits[FIXTURE_EDITS];
	int xdp;         /* XDP_REDIRECT, XDP_DROP or XDP_PASS, everything else routed to the kernel */
	int xdp_counter; /* enum xdp_counter that grows by one; no other may */
	int parse;       /* what parse_packet() returns */
};

extern const struct fixture fixtures[];
extern const size_t n_fixtures;

/* The unedited frame of `base`. */
void frame_base(struct frame *f, enum frame_base base);

/* The frame of a fixture. */
void frame_build(struct frame *f, const struct fixture *x);

/* Recompute IPv4 header and UDP/ICMP/ICMPv6 checksums where the lengths allow it. */
void frame_checksums(struct frame *f);

/* Read frames as hex lines from stdin, print the parser's verdict on each. Returns 0. */
int parse_hex(void);
